"""`vmap` with names, chunks and devices, over any function of a point."""

import datetime
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxrl import progress as live
from jaxrl.progress import Report
from jaxrl.sweep import card, store
from jaxrl.sweep.grid import Grid, bind, raw
from jaxrl.sweep.job import Job
from jaxrl.sweep.program import flatten
from jaxrl.sweep.results import dataset
from jaxrl.train import Training


def sweep(
    run: Callable[..., Any] | Training,
    over: Mapping[str, Any],
    *,
    chunk: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[Report], None] = True,
) -> xr.Dataset:
    """Runs `run` at every combination of the values in `over`, many members at once, on all local devices.

    run: a function `run(**point)` that is traced under vmap and returns a dictionary of arrays; or a `Training`, whose
      fields are swept by name and whose rows are stepped from here.
    over: {name: values}, each an array (or a pytree of arrays) with a leading axis. The points are their product.
    chunk: members per program; by default as many as fit the free memory, and no more than speed gains from.
    folder: each finished chunk is kept there, so that a sweep that was stopped goes on where it was; then the results.
    progress: True draws one live line, False nothing; a function gets a `Report` at each row and after each chunk.

    Returns a dataset with an axis for each name (keys are labelled 0, 1, 2, ...), then the program's own: `step` for
    outputs as long as one called so. Its attributes are the reproducibility card. A training whose parameters go
    non-finite plays on, counts with what it earns, is named in `diverged`, and spoils no other.

    Raises, before anything compiles:
      ValueError: an empty axis, a name that `run` does not take, a folder that holds another sweep.
      TypeError: a swept name that is static.
    """
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk={chunk!r} is not a positive whole number of members; leave it out to have it chosen.")
    grid = Grid(over)
    point_of = bind(run, grid)
    member = point_of if isinstance(run, Training) else lambda point: _outputs(point_of(point))
    record = _record(run, member, grid)
    kept = None if folder is None else store.Store(pathlib.Path(folder).expanduser(), record)
    chunks = {} if kept is None else kept.done()
    if kept is not None and sum(last - first for first, last in chunks) == grid.members and kept.results.exists():
        return load(kept.folder)
    line = live.Line() if progress is True else None
    show = line or (progress if callable(progress) else None)
    job = Job(run, member, grid, chunks, kept, show, chunk or max((b - a for a, b in chunks), default=None))
    try:
        job.run_all()
        results = dataset(grid.labels, job.chunks, _attributes(record, job))
        if kept is not None:
            store.write_results(kept.results, results)
        return results
    except BaseException as error:
        setattr(error, "results", dataset(grid.labels, job.chunks, _attributes(record, job)))
        where = f"in {folder}, and the same call goes on from there" if folder else "as this exception's .results"
        error.add_note(f"{job.num_done:,} of {grid.members:,} members are done and kept {where}.")
        raise
    finally:
        if line is not None:
            line.close()


def load(folder: str | os.PathLike[str]) -> xr.Dataset:
    """The results of a sweep from its folder; of an unfinished one what is done, with NaN (or 0) for the rest."""
    folder = pathlib.Path(folder).expanduser()
    record = store.read_record(folder)
    path = folder / store.RESULTS
    if path.exists():
        try:
            return xr.load_dataset(path, engine="h5netcdf")
        except (OSError, ValueError, KeyError) as error:
            print(f"{path} is damaged ({error}): reading the finished chunks instead.")
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    return dataset(labels, store.read_chunks(folder), {"card": json.dumps(record)})


def _outputs(returned: Any) -> dict[str, Any]:
    if not isinstance(returned, dict):
        raise TypeError(
            f"run returned {type(returned).__name__}; a sweep needs a dictionary of arrays. Write `return {{'score': x}}`, "
            "or, of what rl.train returns, `return rl.train(...)[1]`."
        )
    return flatten(returned)


def _record(run: Any, member: Callable[[Any], Any], grid: Grid) -> dict[str, Any]:
    """What makes a sweep this one. Traces one member of a function, so what can't run is known before anything compiles."""
    program, shapes = jax.make_jaxpr(_first_row(member) if isinstance(run, Training) else member, return_shape=True)(
        _point(grid)
    )
    described = card.describe(run) if isinstance(run, Training) else {"function": card.describe(run)}
    described["program"] = _digest(program)
    _check_outputs({} if isinstance(run, Training) else shapes, grid)
    return {
        "run": described,
        "axes": grid.record(),
        "labels": {name: label.tolist() for name, label in grid.labels.items()},
        "versions": card.versions(),
        "machine": card.machine(),
        "commit": card.commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _first_row(member: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def live(point: Any) -> Any:
        training, key = member(point)
        return training.advance(key, training.begin(key), 0)

    return live


def _check_outputs(shapes: dict[str, Any], grid: Grid) -> None:
    """What a dataset and its file can't hold is told before anything compiles."""
    for name, shape in shapes.items():
        if name in grid.values:
            raise ValueError(f"the program returns {name!r}, which is also a swept name: rename one of them.")
        if "/" in name:
            raise ValueError(f"the program returns {name!r}: a name can't hold a slash. Write it another way.")
        if not _plain(shape):
            raise TypeError(
                f"the program returns {name!r} as {shape}: a result is an array of numbers. Leave it out, or cast it."
            )


def _plain(shape: Any) -> bool:
    dtype = getattr(shape, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype.kind in "biufc"


def _point(grid: Grid) -> Any:
    return jax.tree.map(lambda x: x[0], grid.points(np.zeros(1, int)))


def _digest(program: Any) -> str:
    """A fingerprint of a traced program and its constants, the same in every process."""
    text = "\n".join(line for line in str(program.jaxpr).splitlines() if "debug_callback" not in line)
    words = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for constant in program.consts:
        words.update(raw(constant).tobytes() if isinstance(constant, jax.Array) else np.asarray(constant).tobytes())
    return words.hexdigest()


def _attributes(record: dict[str, Any], job: Job) -> dict[str, Any]:
    """The card as attributes that netCDF can hold: text and numbers."""
    flat = {part: json.dumps(record[part]) for part in ("run", "versions", "machine")}
    times = {"compile_seconds": round(job.compile_seconds, 3), "run_seconds": round(job.seconds, 3)}
    return flat | {"commit": record["commit"], "started": record["started"], "chunk": job.chunk or 0} | times
