"""`plan`: what a sweep will take, before it runs: members, programs, memory, disk and time."""

import contextlib
import dataclasses
import html
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrl import accelerator
from jaxrl.accelerator import Target
from jaxrl.accelerator.tables import format_bytes
from jaxrl.devices import cache_compilations, compiling_for, local_devices, place
from jaxrl.errors import as_path, check_count, check_switch
from jaxrl.progress import clock
from jaxrl.sweep import multihost, store
from jaxrl.sweep.api import check_chunk, refuse_unknown, width_of
from jaxrl.sweep.arrays import on_device
from jaxrl.sweep.checkpoint import MAX_KEPT
from jaxrl.sweep.estimate import Estimate, estimate
from jaxrl.sweep.executor import (
    Config,
    Executor,
    Progress,
    Work,
    missing,
    num_missing,
    sweep_work,
)
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.memory import as_bytes, free_bytes
from jaxrl.sweep.probe import steps_of, time_chunk
from jaxrl.sweep.program import Stepped, agent_of
from jaxrl.sweep.record import check_keep_best, make_record, outputs_of
from jaxrl.sweep.results import Chunks
from jaxrl.sweep.static_axes import combine
from jaxrl.sweep.static_groups import group_folder
from jaxrl.train import Training

NO_TIME = "unknown for a function: sweep a rl.Training, which is timed for a few seconds"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The needs of a sweep. Bytes are of all devices of one process; `print` shows a table.

    done: members that the folder already holds. chunk_reason: what decided the chunk. chunks: how
    many are left to run. processes: that share the chunks; busiest: the chunks of the one that has
    most. peak_bytes: of one chunk, by XLA's account. limit_bytes: what it may take, infinite where
    only the device limits it. steps, eval_steps: of one member's learning and of its greedy
    evaluation; None for a function. open_bytes: on disk, of the running chunks' checkpoints.
    seconds: of running what is left, without compilation, predicted from a short probe; None
    without one; time_text says it in words. padding: what is computed and dropped, where members
    need less than the program computes. estimate: with a target, what a chunk takes there.
    """

    members: int
    axes: dict[str, int]
    done: int
    chunk: int
    chunk_reason: str
    chunks: int
    processes: int
    busiest: int
    devices: int
    device: str
    programs: int
    compile_seconds: float
    member_bytes: int
    peak_bytes: int
    free_bytes: int
    limit_bytes: float
    steps: int | None
    eval_steps: int | None
    result_bytes: int
    folder_bytes: int
    open_bytes: int
    seconds: float | None
    time_text: str = ""
    padding: str = ""
    estimate: Estimate | None = None

    @property
    def left(self) -> int:
        return self.members - self.done

    @property
    def eval_share(self) -> float | None:
        """Steps of greedy evaluation over those of learning."""
        return (
            None if self.steps is None or self.eval_steps is None else self.eval_steps / self.steps
        )

    @property
    def total_steps(self) -> int | None:
        """Environment steps that are left, of all members, greedy evaluation included."""
        return (
            None
            if self.steps is None or self.eval_steps is None
            else self.left * (self.steps + self.eval_steps)
        )

    def rows(self) -> list[tuple[str, str]]:
        """The table: name and text of each row."""
        product = " x ".join(f"{name} {size:,}" for name, size in self.axes.items())
        rows = [("runs", f"{self.members:,} = {product}")]
        rows += [("left", f"{self.left:,}; {self.done:,} are done")] if self.done else []
        rows += [
            ("chunk", f"{self.chunk:,} runs: {self.chunk_reason}"),
            ("chunks", f"{self.chunks:,}"),
        ]
        if self.processes > 1:
            rows += [
                ("processes", f"{self.processes}: the busiest has {self.busiest:,} of these chunks")
            ]
        where = ", in each process" if self.processes > 1 else ""
        rows += [("devices", f"{self.devices} of kind {self.device}{where}")]
        rows += [("compilations", f"{self.programs}, which took {self.compile_seconds:.1f} s")]
        limit = (
            "no limit"
            if math.isinf(self.limit_bytes)
            else f"limit {format_bytes(self.limit_bytes)}"
        )
        each, peak = format_bytes(self.member_bytes), format_bytes(self.peak_bytes)
        need = f"{each} per run, {peak} per chunk at its peak"
        rows += [("memory", f"{need}; {format_bytes(self.free_bytes)} free, {limit}")]
        if self.steps is not None:
            rows += [
                (
                    "steps of a run",
                    f"{self.steps:,}, and {self.eval_steps:,} of evaluation "
                    f"({self.eval_share:.1%})",
                )
            ]
            rows += [("steps in all", f"{self.total_steps:,}")]
        rows += [("padding", self.padding)] if self.padding else []
        opened = (
            f", and up to {format_bytes(self.open_bytes)} while a chunk runs"
            if self.open_bytes
            else ""
        )
        rows += [
            (
                "results",
                f"{format_bytes(self.result_bytes)}; about {format_bytes(self.folder_bytes)} on "
                f"disk with a folder{opened}",
            )
        ]
        rows += [] if self.estimate is None else self.estimate.rows()
        return [*rows, ("time", self.time_text)]

    def __str__(self) -> str:
        return _text(self.rows())

    def _repr_html_(self) -> str:
        return _html(self.rows())


@dataclasses.dataclass(frozen=True)
class Plans:
    """The needs of a sweep with static axes: the plan of each combination, and of all."""

    groups: dict[str, Plan]

    @property
    def members(self) -> int:
        return sum(plan.members for plan in self.groups.values())

    @property
    def programs(self) -> int:
        return sum(plan.programs for plan in self.groups.values())

    @property
    def peak_bytes(self) -> int:
        """Of the largest group: they run one after another."""
        return max(plan.peak_bytes for plan in self.groups.values())

    @property
    def seconds(self) -> float | None:
        known = [plan.seconds for plan in self.groups.values() if plan.left]
        return (
            None
            if any(seconds is None for seconds in known)
            else sum(seconds or 0.0 for seconds in known)
        )

    def rows(self) -> list[tuple[str, str]]:
        """The table: name and text of each row."""
        time = (
            "not measured"
            if self.seconds is None
            else f"about {clock(self.seconds)}; compilation comes on top"
        )
        rows = [("runs", f"{self.members:,} in {len(self.groups)} groups, one after another")]
        rows += [
            ("compilations", f"{self.programs}"),
            ("memory", f"{format_bytes(self.peak_bytes)} at the peak of the largest group"),
        ]
        rows += [("time", time)]
        for name, plan in self.groups.items():
            rows += [("", ""), (name, ""), *((f"  {title}", text) for title, text in plan.rows())]
        return rows

    def __str__(self) -> str:
        return _text(self.rows())

    def _repr_html_(self) -> str:
        return _html(self.rows())


def _text(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, text in rows if text)
    return "\n".join(f"{name:{width}}  {text}".rstrip() for name, text in rows)


def _html(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def plan(
    run: Callable[..., Any] | Training,
    over: Mapping[str, Any],
    *,
    static: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    memory_limit: float | str | None = None,
    keep_best: bool = False,
    probe: bool = True,
    processes: int | None = None,
    target: str | os.PathLike[str] | Target | None = None,
    **unknown: Any,
) -> Plan | Plans:
    """The cost of `sweep` with the same arguments, without training: number of runs and chunks,
    memory, disk space and time.

    It compiles the program of the sweep, which for a `Training` is then in the compilation cache.
    `print` shows a table; with static axes, one for each combination and one for all together.

    folder: if it contains finished chunks, the plan is for the rest; nothing is written there.
    probe: run a chunk of a `Training` for a few seconds to estimate the time; not possible for a
    function. processes: number of processes that share the sweep, each with devices like those of
    this one; by default the number of processes of this job. target: an accelerator ("h100",
    `rl.accelerator.target_names()` lists all; or a file that describes one) that need not be here:
    the plan is for one of these, with the launches, the bytes moved and bounds of the time. Nothing
    is run there, so `probe` has no effect.

    Raises the same errors as `sweep`, and
      ValueError: fewer than one process, or an unknown target.
      CompilerMissingError: the compiler for the target is not installed.
      TargetError: the program can't be compiled for the target, or one run does not fit its memory.
    """
    refuse_unknown("plan", unknown)
    check_chunk(chunk)
    processes = jax.process_count() if processes is None else processes
    check_count("processes", processes)
    check_switch("keep_best", keep_best)
    check_switch("probe", probe)
    limit, grid, run = as_bytes(memory_limit), Grid(over), on_device(run)
    goal = None if target is None else accelerator.target(target)
    if goal is not None:
        goal.device  # noqa: B018, raises where the compiler is missing
    cache_compilations()
    home = None if folder is None else as_path(folder)

    def plan_one(run: Any, home: pathlib.Path | None) -> Plan:
        check_keep_best(run, keep_best)
        bind(run, grid)
        chunks: Chunks = {}
        if home is not None:
            record = make_record(run, grid, keep_best)
            store.check(home, json.loads(json.dumps(record)))
            chunks = store.read_chunks(home)
        executor = Executor(Config(*width_of(chunk, chunks, home), limit))
        # a program for another device can't call back to this process
        progress = Progress(grid.members, show=(lambda report: None) if goal is None else None)
        work = sweep_work(run, grid, progress, folder=home, keep_best=keep_best)
        timed = probe and goal is None
        return _plan_of(_Job(run, grid, executor, work, chunks, keep_best), timed, processes)

    with contextlib.nullcontext() if goal is None else compiling_for(goal):
        if not static:
            return plan_one(run, home)
        groups = combine(run, static, grid)
        plans = {}
        for i, (name, each) in enumerate(zip(groups.names, groups.runs, strict=True)):
            plans[name] = plan_one(each, None if home is None else home / group_folder(i))
        return Plans(plans)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A sweep without static axes, ready to run."""

    run: Any
    grid: Grid
    executor: Executor
    work: Work
    chunks: Chunks
    keep_best: bool

    @property
    def left(self) -> int:
        return num_missing(self.grid.members, self.chunks)


def _plan_of(job: _Job, probe: bool, processes: int) -> Plan:
    """The plan of a job: its program is compiled as the sweep would, and a chunk of a training is
    run for seconds.
    """
    executor, left = job.executor, job.left
    peak, programs, open_bytes, state_bytes, seconds, speed = 0, 0, 0, 0, None, ""
    found = None
    while left:
        try:
            program, width = executor.program(job.work, left)
            peak = executor.needed * executor.devices
            programs = 2 if isinstance(program, Stepped) else 1
            if isinstance(program, Stepped) and job.run.evals > 1:
                open_bytes = MAX_KEPT * (program.state_bytes + job.keep_best * program.agent_bytes)
            if isinstance(program, Stepped) and program.keeps_states:
                state_bytes = program.state_bytes // width * job.grid.members
            if probe and isinstance(job.run, Training):
                seconds, speed = time_chunk(job.run, job.grid, executor.devices, width)
            if isinstance(target := place(), Target):
                found = estimate(program, target, job.run, width, executor.needed)
            break
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            executor.downsize_after(error)
    chunk = executor.chunk or 0
    places = [
        start // chunk
        for first, last in missing(job.grid.members, job.chunks)
        for start in range(first, last, chunk)
    ]
    busiest = max(
        sum(multihost.owner(place, processes) == i for place in places) for i in range(processes)
    )
    seconds = None if seconds is None else seconds * busiest
    result, agents = _sizes(job)
    steps = steps_of(job.run) if isinstance(job.run, Training) else (None, None)
    return Plan(
        members=job.grid.members,
        axes=dict(job.grid.sizes),
        done=job.grid.members - left,
        chunk=chunk,
        chunk_reason=executor.chunk_reason if left else "nothing is left to do",
        chunks=len(places),
        processes=processes,
        busiest=busiest,
        devices=executor.devices,
        device=local_devices()[0].device_kind,
        programs=programs,
        compile_seconds=executor.compile_seconds,
        member_bytes=peak // max(chunk, 1),
        peak_bytes=peak,
        free_bytes=free_bytes() * len(local_devices()),
        limit_bytes=executor.limit * executor.devices,
        steps=steps[0],
        eval_steps=steps[1],
        result_bytes=result,
        # each chunk, and then the whole
        folder_bytes=2 * result + agents * (1 + job.keep_best) + state_bytes,
        open_bytes=open_bytes * processes,
        seconds=seconds,
        time_text=_time_text(job, seconds, speed) if found is None else found.time_text(busiest),
        padding=_padding(job),
        estimate=found,
    )


def _padding(job: _Job) -> str:
    """The share of learning that is dropped, where members stop earlier or learn in fewer epochs
    than are compiled.
    """
    if not isinstance(job.run, Training):
        return ""
    algo, shares = job.run.algo, []
    configs = job.grid.configs(np.arange(job.grid.members))
    swept = {name.rpartition(".")[2]: (name, values) for name, values in configs.items()}
    limits = (
        ("epoch_limit", algo, "epochs"),
        ("update_limit", algo, "updates"),
        ("stop_after", job.run, "steps"),
    )
    for limit, owner, whole in (each for each in limits if _has_field(each[1], each[0])):
        name, values = swept.get(limit, (limit, getattr(owner, limit)))
        count = getattr(owner, whole)
        share = 1.0 - float(np.mean(np.minimum(np.asarray(values, float), count) / count))
        if share > 0:
            shares.append(f"{share:.0%} of the learning, by {name} below {count:,}")
    return "; ".join(shares)


def _has_field(record: Any, name: str) -> bool:
    return name in {field.name for field in dataclasses.fields(record)}


def _time_text(job: _Job, seconds: float | None, speed: str) -> str:
    if not job.left:
        return "none: all runs have finished"
    if seconds is not None:
        return f"about {clock(seconds)} {speed}"
    return "not measured: probe=False" if isinstance(job.run, Training) else NO_TIME


def _sizes(job: _Job) -> tuple[int, int]:
    """Bytes of all results, and of the agents that a folder keeps."""
    members, config = job.grid.members, job.grid.first
    if not isinstance(job.run, Training):
        return members * _bytes(jax.eval_shape(outputs_of(job.run, job.grid), config)), 0
    at = bind(job.run, job.grid)

    def first_row(config: Any) -> Any:
        training, key = at(config, job.run)
        state, row = training.masked_row(key, training.init(key), 0)
        return agent_of(training, state), row.values

    agent, metrics = jax.eval_shape(first_row, config)
    clocks = _bytes(job.run.clocks) // job.run.evals
    return members * job.run.evals * (_bytes(metrics) + clocks), members * _bytes(agent)


def _bytes(shapes: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
