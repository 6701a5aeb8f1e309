"""What a sweep will take, before it is run: members, programs, memory, disk and time."""

import contextlib
import dataclasses
import html
import math
import time
from typing import Any

import jax
import numpy as np

from jaxrl.progress import clock
from jaxrl.sweep import multihost
from jaxrl.sweep.executor import Job
from jaxrl.sweep.grid import bind
from jaxrl.sweep.memory import free_bytes, told
from jaxrl.sweep.program import Stepped, kept_of
from jaxrl.train import Training

OPEN = 2  # checkpoints of a running chunk that are on disk
PROBE_SECONDS = 2.0
# environment steps of a chunk in one timed call, so that calling it costs nothing beside them
PROBE_STEPS = 65_536
NO_TIME = (
    "unknown for a function, whose length nobody can see: sweep a rl.Training, which is "
    "timed for a few seconds"
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep will take. Bytes are of all devices of one process together; `print` shows it as
    a table.

    done: members that the folder already holds. why: what decided the chunk. chunks: how many are
    left to run. processes: that share the chunks; busiest: the chunks of the one that has most, and
    all others wait for it. peak_bytes: of one chunk, by XLA's own account. limit_bytes: what it may
    take, infinite where nothing but the device limits it. steps, eval_steps: of one member's
    learning and of its greedy evaluation; None for a function. open_bytes: on disk, of the running
    chunks' checkpoints. seconds: of running what is left, without compilation, as a short probe
    foretells; None where there was none. padding: what is computed and thrown away, where members
    of one program need less than others.
    """

    members: int
    axes: dict[str, int]
    done: int
    chunk: int
    why: str
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
    seconds_told: str = ""
    padding: str = ""

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
        """The table: what, and how much."""
        product = " x ".join(f"{name} {size:,}" for name, size in self.axes.items())
        rows = [("members", f"{self.members:,} = {product}")]
        rows += [("left", f"{self.left:,}; {self.done:,} are done")] if self.done else []
        rows += [("chunk", f"{self.chunk:,} members: {self.why}"), ("chunks", f"{self.chunks:,}")]
        if self.processes > 1:
            rows += [
                ("processes", f"{self.processes}: the busiest has {self.busiest:,} of these chunks")
            ]
        rows += [
            (
                "devices",
                f"{self.devices} of kind "
                f"{self.device}{', in each process' if self.processes > 1 else ''}",
            )
        ]
        rows += [("compilations", f"{self.programs}, which took {self.compile_seconds:.1f} s")]
        limit = "no limit" if math.isinf(self.limit_bytes) else f"limit {told(self.limit_bytes)}"
        need = f"{told(self.member_bytes)} a member, {told(self.peak_bytes)} a chunk at its peak"
        rows += [("memory", f"{need}; {told(self.free_bytes)} free, {limit}")]
        if self.steps is not None:
            rows += [
                (
                    "steps of a member",
                    f"{self.steps:,}, and {self.eval_steps:,} of evaluation "
                    f"({self.eval_share:.1%})",
                )
            ]
            rows += [("steps in all", f"{self.total_steps:,}")]
        rows += [("padding", self.padding)] if self.padding else []
        opened = (
            f", and up to {told(self.open_bytes)} while a chunk runs" if self.open_bytes else ""
        )
        rows += [
            (
                "results",
                f"{told(self.result_bytes)}; about {told(self.folder_bytes)} on disk with a "
                f"folder{opened}",
            )
        ]
        return [*rows, ("time", self.seconds_told)]

    def __str__(self) -> str:
        return _text(self.rows())

    def _repr_html_(self) -> str:
        return _html(self.rows())


@dataclasses.dataclass(frozen=True)
class Plans:
    """What a sweep with static axes will take: the plan of each combination, and all together."""

    groups: dict[str, Plan]

    @property
    def members(self) -> int:
        return sum(plan.members for plan in self.groups.values())

    @property
    def programs(self) -> int:
        return sum(plan.programs for plan in self.groups.values())

    @property
    def peak_bytes(self) -> int:
        """Of the largest: they run one after another."""
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
        """The table: what, and how much."""
        time = (
            "not measured"
            if self.seconds is None
            else f"about {clock(self.seconds)}; compilation comes on top"
        )
        rows = [("members", f"{self.members:,} in {len(self.groups)} groups, one after another")]
        rows += [
            ("compilations", f"{self.programs}"),
            ("memory", f"{told(self.peak_bytes)} at the peak of the largest group"),
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


def plan_of(job: Job, probe: bool, processes: int) -> Plan:
    """The plan of a job: its program is compiled as the sweep would, and a chunk of a training is
    played for seconds.
    """
    left = job.grid.members - job.num_done
    peak, programs, open_bytes, seconds, speed = 0, 0, 0, None, ""
    while left:
        try:
            program, width = job.program()
            peak, programs = job.needed * job.devices, 2 if isinstance(program, Stepped) else 1
            if isinstance(program, Stepped) and job.run.evals > 1:
                open_bytes = OPEN * (program.state_bytes + job.keep_best * program.kept_bytes)
            seconds, speed = (
                _time(job, width) if probe and isinstance(job.run, Training) else (None, "")
            )
            break
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            job.halve_after(error)
    chunk = job.chunk or 0
    places = [
        start // chunk for first, last in job.missing() for start in range(first, last, chunk)
    ]
    busiest = max(
        sum(multihost.whose(place, processes) == i for place in places) for i in range(processes)
    )
    seconds = None if seconds is None else seconds * busiest
    result, learner = _sizes(job)
    steps = _steps(job.run) if isinstance(job.run, Training) else (None, None)
    return Plan(
        members=job.grid.members,
        axes=dict(job.grid.sizes),
        done=job.num_done,
        chunk=chunk,
        why=job.why if left else "nothing is left to do",
        chunks=len(places),
        processes=processes,
        busiest=busiest,
        devices=job.devices,
        device=jax.local_devices()[0].device_kind,
        programs=programs,
        compile_seconds=job.compile_seconds,
        member_bytes=peak // max(chunk, 1),
        peak_bytes=peak,
        free_bytes=free_bytes() * jax.local_device_count(),
        limit_bytes=job.limit * job.devices,
        steps=steps[0],
        eval_steps=steps[1],
        result_bytes=result,
        folder_bytes=2 * result + learner * (1 + job.keep_best),  # each chunk, and then the whole
        open_bytes=open_bytes * processes,
        seconds=seconds,
        seconds_told=_told(job, left, seconds, speed),
        padding=_padding(job),
    )


def _padding(job: Job) -> str:
    """The share of learning that is thrown away, where members stop earlier or learn in fewer
    epochs than are compiled.
    """
    if not isinstance(job.run, Training):
        return ""
    algo, told = job.run.algo, []
    points = job.grid.points(np.arange(job.grid.members))
    swept = {name.rpartition(".")[2]: (name, values) for name, values in points.items()}
    limits = (
        ("epoch_limit", algo, "epochs"),
        ("update_limit", algo, "updates"),
        ("stop_after", job.run, "steps"),
    )
    for limit, owner, whole in (each for each in limits if hasattr(each[1], each[0])):
        name, values = swept.get(limit, (limit, getattr(owner, limit)))
        most = getattr(owner, whole)
        share = 1.0 - float(np.mean(np.minimum(np.asarray(values, float), most) / most))
        told += [f"{share:.0%} of the learning, by {name} below {most:,}"] if share > 0 else []
    return "; ".join(told)


def _told(job: Job, left: int, seconds: float | None, speed: str) -> str:
    if not left:
        return "none: all members are done"
    if seconds is not None:
        return f"about {clock(seconds)} {speed}"
    return "not measured: probe=False" if isinstance(job.run, Training) else NO_TIME


def _steps(training: Training) -> tuple[int, int]:
    """Environment steps of a member: of learning, and of greedy evaluation."""
    last = {name: int(np.asarray(x)[-1]) for name, x in training.clocks.items()}
    return last["step"], last["eval_step"]


def _sizes(job: Job) -> tuple[int, int]:
    """Bytes of all results, and of what a folder keeps of the learners."""
    point = jax.tree.map(lambda x: x[0], job.grid.points(np.zeros(1, int)))
    if not isinstance(job.run, Training):
        return job.grid.members * _bytes(jax.eval_shape(job.member, point)), 0

    def first_row(point: Any) -> Any:
        training, key = job.member(point)
        state, metrics = training.advance(key, training.begin(key), 0)
        return kept_of(state), metrics

    learner, metrics = jax.eval_shape(first_row, point)
    clocks = _bytes(job.run.clocks) // job.run.evals
    return job.grid.members * job.run.evals * (_bytes(metrics) + clocks), job.grid.members * _bytes(
        learner
    )


def _bytes(shapes: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


# ---------------------------------------------------------------------------------------- the probe


class _EnoughError(Exception):
    """The probe has seen enough."""


def _time(job: Job, width: int) -> tuple[float, str]:
    """Seconds of one whole chunk, and how fast that is: foretold from a few updates of the same
    width, timed.

    A step of evaluation is counted as one of learning, which is more than it costs.
    """
    training = job.run
    per_update = training.algo.steps_per_update
    updates = max(
        min(PROBE_STEPS // (per_update * width), int(training.updates.sum()) // 4), 1
    )  # in each call
    calls = min(int(training.updates.sum()) // updates, 10_000)
    short = dataclasses.replace(
        training, steps=calls * updates * per_update, evals=calls, episodes=0
    )
    points = job.grid.points(np.arange(width) % job.grid.members)
    program = Stepped(bind(short, job.grid), short, points, job.devices, keep=False)
    times = [time.monotonic()]

    def seen(*_: float) -> None:
        times.append(time.monotonic())
        enough = len(times) > 2 and times[-1] - times[1] > PROBE_SECONDS
        if enough or times[-1] - times[0] > 3 * PROBE_SECONDS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        program(points, seen)
    warm = times[1:] if len(times) > 2 else times  # the first call also starts the learners
    second = (
        (warm[-1] - warm[0]) / (len(warm) - 1) / (updates * per_update)
    )  # of a step of the whole chunk
    speed = (
        f"at {_short(width / second)} steps/s, by {len(times) - 1} timed calls of "
        f"{updates * per_update:,} steps a member"
    )
    return second * sum(_steps(training)), f"{speed}; compilation comes on top"


def _short(x: float) -> str:
    return next(
        (
            f"{x / size:.3g}{unit}"
            for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if x >= size
        ),
        f"{x:.3g}",
    )
