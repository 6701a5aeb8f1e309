"""Put new files in the place of a folder's own, which are kept in FOLDER/before/NNN; a stop in
between is made good by the next call.
"""

import json
import os
import pathlib
import re
import shutil

from jaxrl.sweep.files import read_text, write

PART, READY = "extension.part", "ready.json"
BEFORE = "before"
NUMBER = re.compile(r"\d{3,}")


def swap(folder: pathlib.Path, kept: tuple[str, ...]) -> None:
    """Put the files of FOLDER/extension.part in place of the folder's own, all but those `kept`."""
    part = folder / PART
    numbers = [int(path.name) for path in folder.glob(f"{BEFORE}/*") if NUMBER.fullmatch(path.name)]
    plan = {
        "number": f"{max(numbers, default=0) + 1:03d}",
        "old": _names(folder, (*kept, BEFORE, PART)),
        "new": _names(part, ()),
    }
    text = json.dumps(plan).encode()
    write(part / READY, lambda file: file.write(text))
    finish(folder)


def is_open(folder: pathlib.Path) -> bool:
    """True where a swap was begun and not finished."""
    return (folder / PART / READY).is_file()


def finish(folder: pathlib.Path) -> None:
    """Finish a swap that was begun, if any."""
    part = folder / PART
    if not is_open(folder):
        return
    plan = json.loads(read_text(part / READY))
    old, new = ([pathlib.PurePath(str(name)).name for name in plan[key]] for key in ("old", "new"))
    if not NUMBER.fullmatch(str(plan["number"])):
        raise ValueError(f"{part / READY} is damaged: remove {part}.")
    before = folder / BEFORE / plan["number"]
    before.mkdir(parents=True, exist_ok=True)
    for name in old:
        still_old = name not in new or (part / name).exists()
        if still_old and (folder / name).exists() and not (before / name).exists():
            os.rename(folder / name, before / name)
    for name in new:
        if (part / name).exists():
            os.rename(part / name, folder / name)
    shutil.rmtree(part)


def _names(folder: pathlib.Path, without: tuple[str, ...]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in without)
