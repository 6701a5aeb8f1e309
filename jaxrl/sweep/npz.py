"""A .npz as this kit writes it: plain arrays, not compressed.

One from a stranger can do nothing but be refused.
"""

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
    """The same of a file that is open, or of bytes in memory."""
    with np.load(opened, allow_pickle=False) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.zip.infolist()):
            raise ValueError(
                "it is compressed, as this kit never writes it"
            )  # a small file may hold terabytes so
        return {name: file[name] for name in file.files}
