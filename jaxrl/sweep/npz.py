"""Read a .npz of plain arrays that are not compressed, as this kit writes it; refuse any other."""

import pathlib
import zipfile
from typing import BinaryIO

import numpy as np


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All its arrays, by name.

    Raises: of any kind where it is damaged; ValueError where no sweep would have written it.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no plain file")
    with path.open("rb") as opened:
        return read_open(opened)


def read_open(opened: BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an open file, or of bytes in memory, by name."""
    with np.load(opened, allow_pickle=False) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.zip.infolist()):
            raise ValueError(
                "it is compressed, as this kit never writes it"
            )  # a small file may hold terabytes so
        return {name: file[name] for name in file.files}
