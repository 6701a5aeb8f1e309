"""`vmap` with names, chunks and devices, over any function of a point."""

import datetime
import functools
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
from jaxrl.sweep import multihost, netcdf, provenance, serialize, store
from jaxrl.sweep.checkpoint import clear_done, open_width
from jaxrl.sweep.executor import Job
from jaxrl.sweep.grid import Grid, bind, raw
from jaxrl.sweep.groups import group_folder, load_groups, sweep_groups
from jaxrl.sweep.memory import as_bytes
from jaxrl.sweep.plan import Plan, Plans, plan_of
from jaxrl.sweep.program import flatten
from jaxrl.sweep.record_file import read_small
from jaxrl.sweep.results import Chunks, dataset
from jaxrl.sweep.static import combine
from jaxrl.train import Training


def sweep(
    run: Callable[..., Any] | Training,
    over: Mapping[str, Any],
    *,
    static: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    memory: float | str | None = None,
    save_seconds: float = 60.0,
    keep_best: bool = False,
    progress: bool | Callable[[Report], None] = True,
) -> xr.Dataset:
    """Runs `run` at every combination of the values in `over`, many members at once, on all local
    devices.

    run: a function `run(**point)` that is traced under vmap and returns a dictionary of arrays; or
    a `Training`, whose
      fields are swept by name and whose rows are stepped from here.
    over: {name: values}, each an array (or a pytree of arrays) with a leading axis. The points are
    their product; names
      that change together are one axis, `{"setting": zipped(lr=..., gamma=...)}`.
    static: {name: values} of what shapes the program, `{"num_envs": (16, 64), "network":
    (MLP((64,)), MLP((256,)))}`: every
      combination is compiled and run on its own, and all are one dataset. {name: {label: value}}
      labels them.
    chunk: members per program; by default as many as fit the free memory, and no more than speed
    gains from. folder: each finished chunk is kept there, so that a sweep that was stopped goes on
    where it was; then the results. memory: what the programs may take in all on this machine, in
    bytes or as "4GB"; by default most of what is free. save_seconds: with a folder, a `Training` is
    also kept inside a chunk, at the first evaluation point after so many
      seconds (0: at each), so that a stop at any moment loses no more than that and one row. Where
      a learner takes more than a twentieth of it to save, as large replays do, that is twenty times
      what saving takes.
    keep_best: of a `Training`, also keeps the parameters of each member's best evaluation, just
    those that were evaluated:
      `policy(folder, kept="best", ...)`; `best_evaluation` and `best_step` say how good, and when.
    progress: True draws one live line, False nothing; a function gets a `Report` at each row and
    after each chunk.

    Returns a dataset with an axis for each name (keys are labelled 0, 1, 2, ...), then the
    program's own: `step` for outputs as long as one called so. Its attributes are the
    reproducibility card. A training whose parameters go non-finite plays on, counts with what it
    earns, is named in `diverged`, and spoils no other.

    Raises, before anything compiles:
      ValueError: an empty axis, a name that `run` does not take, a folder that holds another sweep.
      TypeError: a swept name that is static.
    """
    _check_chunk(chunk)
    multihost.check(folder)
    limit = as_bytes(memory)
    if static:
        one = functools.partial(
            sweep,
            over=over,
            chunk=chunk,
            memory=memory,
            save_seconds=save_seconds,
            keep_best=keep_best,
        )
        trace = lambda run, grid: _record(run, _member(run, grid), grid, keep_best)
        return sweep_groups(run, over, static, folder, progress, trace, one)
    grid = Grid(over)
    member = _member(run, grid)
    record = _record(run, member, grid, keep_best)
    kept = None if folder is None else store.Store(pathlib.Path(folder).expanduser(), record)
    job, line = None, None
    try:
        chunks = {} if kept is None else kept.done()
        width = _width(chunk, chunks, folder)
        line = live.Line() if progress is True else None
        show = line or (progress if callable(progress) else None)
        job = Job(
            run,
            member,
            grid,
            chunks,
            kept,
            show,
            **width,
            memory=limit,
            save_seconds=save_seconds,
            keep_best=keep_best,
        )
        if kept is not None and not any(job.missing()) and kept.results.exists():
            return load(kept.folder)
        if kept is not None and multihost.first():
            clear_done(kept.folder, chunks)
        multihost.together("a chunk", job.run_all)
        if kept is not None and jax.process_count() > 1:
            job.chunks = kept.done()
            if any(job.missing()):
                raise RuntimeError(
                    f"{folder} lacks chunks that another process has made: do all of them see "
                    "the same folder?"
                )
        results = dataset(grid.labels, job.chunks, _attributes(record, job), grid.coordinates)
        if kept is not None and multihost.first():
            store.write_results(kept.results, results)
        multihost.meet("the results are written")
        return results
    except BaseException as error:
        if job is not None:
            setattr(
                error,
                "results",
                dataset(grid.labels, job.chunks, _attributes(record, job), grid.coordinates),
            )
            inside = ", in a chunk at its last checkpoint" if isinstance(run, Training) else ""
            where = (
                f"in {folder}, and the same call goes on from there{inside}"
                if folder
                else "as this exception's .results"
            )
            error.add_note(
                f"{job.num_done:,} of {grid.members:,} members are done and kept {where}."
            )
        raise
    finally:
        if kept is not None:
            kept.close()
        if line is not None:
            line.close()


def plan(
    run: Callable[..., Any] | Training,
    over: Mapping[str, Any],
    *,
    static: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    memory: float | str | None = None,
    keep_best: bool = False,
    probe: bool = True,
    processes: int | None = None,
) -> Plan | Plans:
    """What `sweep` of the same arguments would take, without training: members, chunks, memory,
    disk and time.

    It compiles what the sweep will run, which then finds a `Training` in the compilation cache.
    `print` shows a table; with static axes one of each combination, and of all together.

    folder: one that holds finished chunks says what is left; nothing is written there. probe: plays
    a chunk of a `Training` for a few seconds to foretell the time, which a function does not allow.
    processes: that would share it, each on devices like those of this one; default: as many as
    share this run.

    Raises what `sweep` does, and
      ValueError: fewer than one process.
    """
    _check_chunk(chunk)
    processes = jax.process_count() if processes is None else processes
    if processes < 1:
        raise ValueError(
            f"processes={processes} would run nothing: write how many share the sweep, say "
            "processes=1."
        )
    limit = as_bytes(memory)
    grid = Grid(over)
    if static:
        groups, same = combine(run, static, grid), {"chunk": chunk, "memory": memory}
        same |= {"keep_best": keep_best, "probe": probe, "processes": processes}
        home = lambda i: (
            None if folder is None else pathlib.Path(folder).expanduser() / group_folder(i)
        )
        each = [plan(one, over, folder=home(i), **same) for i, one in enumerate(groups.runs)]
        return Plans(dict(zip(groups.names, each, strict=True)))  # type: ignore[arg-type]
    member = _member(run, grid)
    record = _record(run, member, grid, keep_best)
    chunks = {}
    if folder is not None:
        folder = pathlib.Path(folder).expanduser()
        store.check(folder, json.loads(json.dumps(record)))
        chunks = store.read_chunks(folder)
    width = _width(chunk, chunks, folder)
    job = Job(
        run,
        member,
        grid,
        chunks,
        None,
        lambda report: None,
        **width,
        memory=limit,
        keep_best=keep_best,
    )
    return plan_of(job, probe, processes)


def load(folder: str | os.PathLike[str]) -> xr.Dataset:
    """The results of a sweep from its folder; of an unfinished one what is done, with NaN (or 0)
    for the rest.

    Of a record in one file (`rl.export(folder, path, "record")`) the curves that it holds.
    """
    folder = pathlib.Path(folder).expanduser()
    if folder.is_file():
        return read_small(folder)
    record = store.read_record(folder)
    path = folder / store.RESULTS
    if path.is_file():
        try:
            return netcdf.read(path)
        except (OSError, ValueError, KeyError) as error:
            print(f"{path} is damaged ({error}): reading the finished chunks instead.")
    if "groups" in record:
        return load_groups(folder, record, load)
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    beside = {
        name: (axis, np.asarray(label))
        for name, (axis, label) in record.get("coordinates", {}).items()
    }
    return dataset(labels, store.read_chunks(folder), {"card": json.dumps(record)}, beside)


def _member(run: Any, grid: Grid) -> Callable[[Any], Any]:
    """What one point gives: a training and its key, or a function's outputs."""
    point_of = bind(run, grid)
    return point_of if isinstance(run, Training) else lambda point: _outputs(point_of(point))


def _check_chunk(chunk: Any) -> None:
    if chunk is not None and (
        not isinstance(chunk, int | np.integer) or isinstance(chunk, bool) or chunk < 1
    ):
        raise ValueError(
            f"chunk={chunk!r} is not a positive whole number of members; leave it out to have "
            "it chosen."
        )


def _width(chunk: int | None, chunks: Chunks, folder: Any) -> dict[str, Any]:
    """The members of a chunk where the caller or the folder has decided it, what did, and whether
    there is a folder.
    """
    if chunk is not None:
        return {"chunk": int(chunk), "why": "as given", "keeps": folder is not None}
    home = pathlib.Path("." if folder is None else folder).expanduser()
    running = (
        None if folder is None else open_width(home) or (store.read_width(home) if chunks else None)
    )
    known = multihost.agreed(running or max((last - first for first, last in chunks), default=0))
    return {"chunk": known or None, "why": "as the folder's chunks", "keeps": folder is not None}


def _outputs(returned: Any) -> dict[str, Any]:
    if not isinstance(returned, dict):
        raise TypeError(
            f"run returned {type(returned).__name__}; a sweep needs a dictionary of arrays. "
            f"Write `return {{'score': x}}`, "
            "or, of what rl.train returns, `return rl.train(...)[1]`."
        )
    return flatten(returned)


def _record(
    run: Any, member: Callable[[Any], Any], grid: Grid, keep_best: bool | None = None
) -> dict[str, Any]:
    """What makes a sweep this one.

    Traces one member of a function, so what can't run is known before anything compiles.
    """
    if keep_best and not (isinstance(run, Training) and run.eval_rows[0].any()):
        raise ValueError(
            "keep_best=True needs evaluations to judge by: sweep a rl.Training whose episodes "
            "and eval_share afford them."
        )
    program, shapes = jax.make_jaxpr(
        _first_row(member) if isinstance(run, Training) else member, return_shape=True
    )(_point(grid))
    described = (
        provenance.describe(run)
        if isinstance(run, Training)
        else {"function": provenance.describe(run)}
    )
    described["program"] = _digest(program)
    outputs = shapes[1] | run.clocks if isinstance(run, Training) else shapes
    _check_outputs(outputs, grid)
    return {
        "run": described,
        "axes": grid.record(),
        "labels": {name: label.tolist() for name, label in grid.labels.items()},
        "coordinates": {
            name: [axis, label.tolist()] for name, (axis, label) in grid.coordinates.items()
        },
        "outputs": sorted(outputs),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({} if keep_best is None else {"keep_best": keep_best}),
        **(serialize.record(run, _point(grid)) if isinstance(run, Training) else {}),
    }


def _first_row(member: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def live(point: Any) -> Any:
        training, key = member(point)
        return training.advance(key, training.begin(key), 0)

    return live


def _check_outputs(shapes: dict[str, Any], grid: Grid) -> None:
    """What a dataset and its file can't hold is told before anything compiles."""
    for name, shape in shapes.items():
        if name in (*grid.values, *grid.names):
            raise ValueError(
                f"the program returns {name!r}, which is also a swept name: rename one of them."
            )
        if "/" in name:
            raise ValueError(
                f"the program returns {name!r}: a name can't hold a slash. Write it another way."
            )
        if not _plain(shape):
            raise TypeError(
                f"the program returns {name!r} as {shape}: a result is an array of numbers. "
                "Leave it out, or cast it."
            )


def _plain(shape: Any) -> bool:
    dtype = getattr(shape, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype.kind in "biufc"


def _point(grid: Grid) -> Any:
    return jax.tree.map(lambda x: x[0], grid.points(np.zeros(1, int)))


def _digest(program: Any) -> str:
    """A fingerprint of a traced program and its constants, the same in every process."""
    text = "\n".join(
        line for line in str(program.jaxpr).splitlines() if "debug_callback" not in line
    )
    words = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for constant in program.consts:
        words.update(
            raw(constant).tobytes()
            if isinstance(constant, jax.Array)
            else np.asarray(constant).tobytes()
        )
    return words.hexdigest()


def _attributes(record: dict[str, Any], job: Job) -> dict[str, Any]:
    """The card as attributes that netCDF can hold: text and numbers."""
    flat = {part: json.dumps(record[part]) for part in ("run", "versions", "machine")}
    times = {"compile_seconds": round(job.compile_seconds, 3), "run_seconds": round(job.seconds, 3)}
    halved = {"halved": job.halved} if job.halved else {}
    return (
        flat
        | {"commit": record["commit"], "started": record["started"], "chunk": job.chunk or 0}
        | halved
        | times
    )
