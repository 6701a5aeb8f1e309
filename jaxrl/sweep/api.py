"""`sweep` runs every combination of named values; `load` reads the results from its folder."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrl import progress as live
from jaxrl.devices import cache_compilations
from jaxrl.errors import as_path, check_seconds, check_switch
from jaxrl.lazy import xarray as xr
from jaxrl.progress import Report
from jaxrl.sweep import live_rows, multihost, netcdf, provenance, stopping, store
from jaxrl.sweep.arrays import on_device
from jaxrl.sweep.checkpoint import clear_done, open_width
from jaxrl.sweep.executor import Config, Executor, Progress, num_missing, sweep_work
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.memory import as_bytes
from jaxrl.sweep.partial import attach_partial, note_partial
from jaxrl.sweep.record import Record, check_keep_best, make_record
from jaxrl.sweep.record_file import read_record_file
from jaxrl.sweep.results import (
    Chunks,
    coordinates_of,
    dataset,
    keys_of,
)
from jaxrl.sweep.static_groups import load_groups, sweep_groups
from jaxrl.train import Training

Show = Callable[[Report], None]


def sweep(
    run: Callable[..., Any] | Training,
    over: Mapping[str, Any],
    *,
    static: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    memory_limit: float | str | None = None,
    save_seconds: float = 60.0,
    keep_best: bool = False,
    keep_state: bool | None = None,
    progress: bool | Show | Sequence[bool | Show] = True,
    **unknown: Any,
) -> xr.Dataset:
    """Run `run` at every combination of the values in `over`, on all local devices.

    By default a CPU is one device, and a program uses about one core: call `rl.use_all_cores()`
    directly after the imports, as the command line does, to use all of them.

    run: a function `run(**config)`, traced under vmap, that returns a dictionary of arrays;
    or a `Training`: its fields are swept by name, and the host runs it row by row.
    over: {name: values}, each an array (or a pytree of arrays) with a leading axis. The configs
    are their product; names that change together form one axis, `{"setting": zipped(lr=...,
    gamma=...)}`.
    static: {name: values} of what shapes the program, `{"num_envs": (16, 64), "network":
    (MLP((64,)), MLP((256,)))}`: each combination is compiled and run separately, and the results
    form one dataset. {name: {label: value}} labels the values.
    chunk: runs per program; by default as many as fit in the free memory, unless fewer are
    as fast.
    folder: each finished chunk is saved there, so that a stopped sweep can resume, and at the end
    the results. On SIGTERM or Ctrl-C a `Training` is saved at its next evaluation point, then
    `SystemExit` 143 or `KeyboardInterrupt` is raised; a second signal stops immediately. Existing
    handlers of these signals are left in place.
    memory_limit: memory that the programs may use in total on this machine, in bytes or as "4GB";
    by default most of the free memory.
    save_seconds: with a folder, a `Training` is also saved within a chunk, at the first evaluation
    point after this many seconds (0: at each), so that a stop loses at most that time and one row.
    If saving takes more than a twentieth of it, as with large replay buffers, the interval is
    twenty times the time of saving.
    keep_best: for a `Training`, also save the agent at the best evaluation of each run, exactly as
    it was evaluated: `policy(folder, kept="best", ...)`; `best_evaluation` and `best_step` are its
    score and its step.
    keep_state: with a folder, also save the complete final state of each run of a `Training`
    (optimiser, replay buffer, episodes), which `rl.extend` needs to train longer; by default if
    they take at most 256 MB in total.
    progress: True prints one progress line, False prints nothing; a function receives an
    `rl.Report` at each evaluation point and after each chunk; a tuple combines several. `rl.live`
    has functions for TensorBoard and Weights & Biases. An exception in the function stops the
    sweep, and finished chunks are kept:

        def show(report):
            if "return" in report.metrics:
                print(report.step, report.metrics["return"].mean(), report.remaining)

        rl.sweep(training, {"seed": jnp.arange(64)}, progress=(True, show))

    With a folder, `rl.load(folder)` returns all metrics so far while the sweep runs, and
    `jaxrl plot FOLDER --follow` draws them.

    Large arrays of a `Training` (a data set, weights) are arguments of the program, shared by all
    runs, and are saved in the folder once.

    Returns a dataset with an axis for each name (keys are labelled 0, 1, 2, ...), followed by the
    axes of the outputs: `step` for those as long as an output called `step`. Its attributes are the
    reproducibility card. A run with non-finite parameters continues, counts with its return, is
    marked in `diverged`, does not affect the others, and is never chosen as the best; its
    evaluation is NaN from then on. Axes of keys have a coordinate `NAME_key`, equal for equal keys.

    Raises, before anything is compiled:
      ValueError: an empty axis, a repeated value, keys of the generators rbg and unsafe_rbg (their
        numbers depend on the chunk), a name that `run` does not accept, a folder that holds another
        sweep.
      TypeError: a swept name that is static.
    """
    refuse_unknown("sweep", unknown)
    check_chunk(chunk)
    check_seconds("save_seconds", save_seconds)
    check_switch("keep_best", keep_best)
    check_switch("keep_state", keep_state, or_none=True)
    limit = as_bytes(memory_limit)
    grid, run = Grid(over), on_device(run)
    multihost.check(folder)
    cache_compilations()
    folder = None if folder is None else as_path(folder)
    options = _Options(chunk, limit, save_seconds, keep_best, keep_state)
    if static:

        def record_of(run: Any) -> Record:
            check_keep_best(run, keep_best)
            bind(run, grid)
            return make_record(run, grid, keep_best)

        def run_group(run: Any, record: Record, home: pathlib.Path | None, show: Any) -> xr.Dataset:
            return _run_sweep(run, grid, record, home, options, show)

        with stopping.handled():
            return sweep_groups(run, grid, static, folder, progress, record_of, run_group)
    check_keep_best(run, keep_best)
    bind(run, grid)
    record = make_record(run, grid, keep_best, with_program=folder is not None)
    with stopping.handled():
        try:
            with live.shown(progress) as show:
                return _run_sweep(run, grid, record, folder, options, show)
        except BaseException as error:
            note_partial(error, grid.members, folder)
            raise


@dataclasses.dataclass(frozen=True)
class _Options:
    chunk: int | None
    memory_limit: float | None
    save_seconds: float
    keep_best: bool
    keep_state: bool | None


def _run_sweep(
    run: Any,
    grid: Grid,
    record: Record,
    folder: pathlib.Path | None,
    options: _Options,
    show: Show | None,
) -> xr.Dataset:
    """One sweep without static axes, of a given record."""
    kept = None
    if folder is not None:
        kept = store.Store(folder, record, [*jax.tree.leaves(run), *grid.large_arrays])
    chunks: Chunks = {}
    executor = None
    try:
        chunks = {} if kept is None else kept.done()
        chunk, reason = width_of(options.chunk, chunks, folder)
        config = Config(chunk, reason, options.memory_limit, options.save_seconds)
        steps = run.steps if isinstance(run, Training) else 0
        progress = Progress(
            grid.members,
            steps,
            show,
            grid.members - num_missing(grid.members, chunks),
            labels=grid.labels,
            row_steps=run.clocks["step"].tolist() if isinstance(run, Training) else (),
        )
        executor = Executor(config, progress)
        work = sweep_work(
            run,
            grid,
            progress,
            folder=folder,
            keep_best=options.keep_best,
            keep_state=options.keep_state,
        )
        if kept is not None and not num_missing(grid.members, chunks) and kept.results.exists():
            return load(kept.folder)
        if kept is not None and multihost.is_primary():
            clear_done(kept.folder, chunks)
        multihost.all_or_raise("a chunk", lambda: executor.run(work, kept, chunks))
        if kept is not None and jax.process_count() > 1:
            chunks = kept.done()
            if num_missing(grid.members, chunks):
                raise RuntimeError(
                    f"{folder} lacks chunks that another process has computed: do all processes "
                    "see the same folder?"
                )
        attributes = _attributes(record, executor)
        results = dataset(grid.labels, chunks, attributes, grid.coordinates)
        if kept is not None and multihost.is_primary():
            store.write_results(kept.results, results)
        multihost.barrier("the results are written")
        return results
    except BaseException as error:
        if executor is not None:
            attributes = _attributes(record, executor)
            results = dataset(grid.labels, chunks, attributes, grid.coordinates)
            attach_partial(error, results, grid.members - num_missing(grid.members, chunks))
        raise
    finally:
        if kept is not None:
            kept.close()


def load(folder: str | os.PathLike[str], *, running: bool = True) -> xr.Dataset:
    """The results of a sweep, from its folder, even while it is running.

    For an unfinished sweep, running or stopped, these are all metrics so far: the rows of a
    `Training` except possibly the latest, with NaN (0 for integers) for missing values. Such
    results have an attribute `unfinished`, a sentence that says how many runs have finished:

        results = rl.load(folder)
        if "unfinished" in results.attrs: ...

    running: True includes the rows of unfinished runs; False returns finished runs only, as final
    scores and comparisons need. For a record in one file (`rl.export(folder, path, "record")`), the
    curves that it contains are returned.
    """
    folder = as_path(folder)
    check_switch("running", running)
    if folder.is_file():
        return read_record_file(folder)
    record = store.read_record(folder)
    path = folder / store.RESULTS
    if path.is_file():
        try:
            results = netcdf.read(path)
            older = {k: v for k, v in keys_of(record).items() if k not in results.variables}
            return results.assign_coords(older)
        except (OSError, ValueError, KeyError) as error:
            print(f"{path} is damaged ({error}): reading the finished chunks instead.")
    if "groups" in record:
        results = load_groups(folder, record, functools.partial(load, running=running))
        static = record["static"]
        each = math.prod(len(x) for name, x in record["labels"].items() if name not in static)
        names = [store.chunk_names(folder / group) for group in record["groups"]]
        left = sum(num_missing(each, {name: {} for name in own}) for own in names)
        results.attrs |= _unfinished(each * len(names), left)
        return results
    labels = {name: np.asarray(label) for name, label in record["labels"].items()}
    # rows first: a chunk that finishes meanwhile is then in one of the two
    chunks = live_rows.read(folder) if running else {}
    finished = store.read_chunks(folder)
    members = math.prod(len(label) for label in labels.values())
    card = {"card": json.dumps(record)} | _unfinished(members, num_missing(members, finished))
    return dataset(labels, chunks | finished, card, coordinates_of(record))


def _unfinished(members: int, left: int) -> dict[str, str]:
    """The attribute of results that are not complete; none where no member is left."""
    if not left:
        return {}
    return {"unfinished": f"{members - left:,} of {members:,} runs have finished"}


def width_of(
    chunk: int | None, chunks: Chunks, folder: pathlib.Path | None
) -> tuple[int | None, str]:
    """The members of a chunk, where the caller or the folder fixes them, and which of the two."""
    if chunk is not None:
        return int(chunk), "as given"
    width = None
    if folder is not None:
        width = open_width(folder) or (store.read_width(folder) if chunks else None)
    width = width or max((last - first for first, last in chunks), default=0)
    return multihost.broadcast(width) or None, "as the folder's chunks"


def check_chunk(chunk: Any) -> None:
    """Refuse a number of members that is not a positive whole number."""
    if chunk is None:
        return
    if not isinstance(chunk, int | np.integer) or isinstance(chunk, bool) or chunk < 1:
        raise ValueError(
            f"chunk={chunk!r} is not a positive whole number of runs; leave it out to have it "
            "chosen."
        )


def refuse_unknown(call: str, unknown: Mapping[str, Any]) -> None:
    """Refuse keywords that `rl.sweep` or `rl.plan` does not take."""
    if "memory" in unknown:
        raise TypeError(
            f"rl.{call} takes memory_limit= instead of memory=: write "
            f"memory_limit={unknown['memory']!r}."
        )
    if unknown:
        raise TypeError(f"rl.{call} takes no {next(iter(unknown))!r}; help(rl.{call}) lists all.")


def _attributes(record: Record, executor: Executor) -> dict[str, Any]:
    """The reproducibility card as attributes that netCDF can hold: text and numbers."""
    attributes: dict[str, Any] = {
        part: json.dumps(record[part]) for part in ("run", "versions", "machine")
    }
    attributes |= {name: record[name] for name in (*provenance.SOURCES, "started")}
    attributes |= {"chunk": executor.chunk or 0}
    if executor.downsized:
        attributes["halved"] = executor.downsized
    return attributes | {
        "compile_seconds": round(executor.compile_seconds, 3),
        "run_seconds": round(executor.progress.seconds, 3),
    }
