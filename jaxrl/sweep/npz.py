"""Read a .npz of plain arrays that are not compressed, as this kit writes it; refuse any other."""

import io
import math
import pathlib
import zipfile
from typing import BinaryIO

import numpy as np

from jaxrl.sweep.files import check_plain

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All its arrays, by name.

    Raises: of any kind where it is damaged; ValueError where no sweep would have written it.
    """
    check_plain(path)
    with path.open("rb") as opened:
        return read_open(opened)


def read_open(opened: BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an open file, or of bytes in memory, by name."""
    if not zipfile.is_zipfile(opened):
        raise ValueError("it is not a .npz file")
    size = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    with np.load(opened, allow_pickle=False) as file:
        for part in file.zip.infolist():
            _check(file.zip, part, size)
        return {name: file[name] for name in file.files}


def _check(archive: zipfile.ZipFile, part: zipfile.ZipInfo, size: int) -> None:
    """Refuse a part that is not a plain array of the size that its header declares.

    A small file may unpack to terabytes, and a header may declare them.
    """
    if part.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed, which jaxrl never writes")
    if part.file_size > size:
        raise ValueError(f"{part.filename} declares {part.file_size:,} bytes but has {size:,}")
    with archive.open(part) as opened:
        read_header = HEADERS.get(np.lib.format.read_magic(opened))
        if read_header is None:
            raise ValueError(f"{part.filename} has an unknown format")
        shape, _, dtype = read_header(opened)
        if dtype.hasobject:
            raise ValueError(f"{part.filename} holds Python objects, which are not read")
        declared, there = math.prod(shape) * dtype.itemsize, part.file_size - opened.tell()
    if declared != there:
        raise ValueError(f"{part.filename} declares {declared:,} bytes but has {there:,}")
