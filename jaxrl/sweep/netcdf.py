"""Results from a netCDF file of unknown origin: they must lie in that file, and unpack to a size
that results have.
"""

from __future__ import annotations

import itertools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrl.lazy import h5py
from jaxrl.lazy import xarray as xr

UNPACKED, RATIO = (
    2**32,
    100,
)  # bytes of results: more only where their file has a hundredth, as curves never get so small
POINTER = 16  # bytes in the file that say where a text is


def read(path: pathlib.Path) -> xr.Dataset:
    """The results in a file.

    Raises: ValueError for a link to another file, for a small file that unpacks to a large one, and
    for text that is stored as no sweep stores it.
    """
    stat = path.stat()
    on_disk = 0 if sys.platform == "win32" else stat.st_blocks * 512
    own = min(stat.st_size, on_disk or stat.st_size)  # a sparse file claims more than it holds
    with h5py.File(path, "r") as file:
        if any(not isinstance(file.get(name, getlink=True), h5py.HardLink) for name in file):
            raise ValueError("it has links to elsewhere")
        for total in itertools.accumulate(
            size for name, item in file.items() for size in _sizes(str(name), item)
        ):
            if total > max(UNPACKED, RATIO * own):
                raise ValueError(
                    f"it unpacks from {own:,} bytes to {total:,} or more, as no results do"
                )
    return xr.load_dataset(path, engine="h5netcdf")


def _sizes(name: str, item: Any) -> Iterator[int]:
    """The bytes that a variable unpacks to; then those of each of its texts, many of which may be
    stored once.
    """
    if not isinstance(item, h5py.Dataset):
        return
    if item.external or item.is_virtual or item.size is None:
        raise ValueError(f"{name} lies in another file, or nowhere")
    yield item.size * item.dtype.itemsize
    if item.dtype.hasobject:
        if (
            item.chunks
            or item.id.get_storage_size() < POINTER * item.size
            or not h5py.check_string_dtype(item.dtype)
        ):
            raise ValueError(
                f"{name} holds text as no sweep writes it"
            )  # a text that isn't there reads as the fill value
        yield from (len(item[place]) for place in np.ndindex(item.shape))
