"""Files that are written whole or not at all, and read only where they are plain files."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

RECORD = "sweep.json"  # of a sweep, in its folder
TEXT_LIMIT = 2**32  # bytes of a JSON file


def write(path: pathlib.Path, put: Callable[[Any], Any]) -> None:
    """Write a file under another name and rename it, so that a killed process leaves no half of
    it.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            put(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_plain(path: pathlib.Path) -> None:
    """Check that a path is a file of known length: a pipe would be waited for without end, and a
    device such as /dev/zero read without end.

    Raises:
      ValueError: another kind of file, or a link to one.
      OSError: a link that leads nowhere but to itself.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a plain file")


def read_bytes(path: pathlib.Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a plain file of at most `limit` bytes.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a plain file, or longer.
    """
    check_plain(path)
    if path.stat().st_size > limit:
        raise ValueError(f"it is longer than {limit:,} bytes")
    return path.read_bytes()


def read_text(path: pathlib.Path, limit: int = TEXT_LIMIT) -> str:
    """The content of a plain text file, as in `read_bytes`."""
    return read_bytes(path, limit).decode()
