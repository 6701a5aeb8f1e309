"""Files that are written whole or not at all."""

import os
import pathlib
from collections.abc import Callable
from typing import Any


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
