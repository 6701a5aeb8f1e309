"""What an exception that stops a sweep says: the results so far, and where they are kept."""

from __future__ import annotations

import pathlib

from jaxrl.lazy import xarray as xr
from jaxrl.sweep import checkpoint
from jaxrl.sweep.files import RECORD


def attach_partial(error: BaseException, results: xr.Dataset, members_done: int) -> None:
    """Give an exception the results so far, and the number of finished members."""
    setattr(error, "results", results)
    setattr(error, "members_done", members_done)


def note_partial(error: BaseException, members: int, folder: pathlib.Path | None) -> None:
    """Add a note to an exception that says what is kept, if anything was attached to it."""
    done: int | None = vars(error).get("members_done")
    if done is None:
        return
    if folder is None and isinstance(error, SystemExit):  # which ends the process
        kept = " had finished, and are lost: a folder saves them"
    elif folder is None:
        kept = " have finished and are kept as this exception's .results"
    else:
        kept = _kept_in(folder, done)
    error.add_note(f"{done:,} of {members:,} runs{kept}.")


def _kept_in(folder: pathlib.Path, done: int) -> str:
    finished = " have finished and are kept"
    if not (folder / RECORD).exists():
        return f"{finished} as this exception's .results; {folder} was deleted or moved"
    in_chunks = checkpoint.exists(folder)
    if not done and not in_chunks:
        return (
            " have finished, and no checkpoint was saved: the same sweep, run again, starts from "
            "the beginning"
        )
    inside = ", in a chunk at its last checkpoint" if in_chunks else ""
    return f"{finished} in {folder}; the same sweep, run again, resumes from there{inside}"
