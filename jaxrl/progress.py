"""Progress: reports between programs, and one callback a row from inside one."""

import contextlib
import contextvars
import dataclasses
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

_LISTENER: contextvars.ContextVar[Callable[[Any, Any], None] | None] = contextvars.ContextVar(
    "listener", default=None
)
_LINES: contextvars.ContextVar[tuple["Line | PlainLine", ...]] = contextvars.ContextVar(
    "lines", default=()
)


@contextlib.contextmanager
def listening(listener: Callable[[Any, Any], None]) -> Iterator[None]:
    """A context in which traced programs call `listener(row, rows)` on the host as each row
    starts.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tick(row: jax.Array, rows: int) -> None:
    """Call the listener, if there is one. `row` must not depend on the member: then vmap calls the
    host once, not per member.

    A program that calls the host is not kept in jax's persistent compilation cache.
    """
    listener = _LISTENER.get()
    if listener is not None:
        jax.debug.callback(listener, row, rows)


@dataclasses.dataclass(frozen=True)
class Report:
    """The progress of a sweep: `rl.sweep(..., progress=function)` calls the function with it at
    each evaluation point (row) of a `Training`, and after each chunk of runs.

    done, members: number of finished runs, and of all runs. fraction: completed fraction of the
    sweep, including parts of unfinished runs, from 0 to 1. done_now: the fraction computed by this
    call (a resumed sweep starts with more), which determines the speed. steps: environment steps of
    this call, over all runs (0 if the program has none). seconds: elapsed, without compilation.
    score: the interquartile mean of the returns of the current chunk at its latest evaluation
    point; NaN before the first, or if the metrics have no return.

    The following describe the latest evaluation point of the n current runs. They are empty, and
    step is 0, after a chunk and in sweeps of a function:

    step: environment steps of each run so far. labels: {axis: label of each run [n]}, such as
    {"lr": ..., "seed": ...}. metrics: {name: value of each run [n, ...]}, such as "return" and
    "loss", as in the results; NaN where there is no value.
    """

    done: int
    members: int
    fraction: float
    steps: float
    seconds: float
    done_now: float
    score: float = float("nan")
    step: int = 0
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)
    metrics: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def remaining(self) -> float:
        """Seconds left at the speed so far; infinite before anything is done."""
        if not self.done_now > 0:
            return float("inf")
        return self.seconds * (1.0 - self.fraction) / self.done_now


def show_compiling() -> None:
    """Show the lines of a sweep, the programs of which are traced and start to compile: what is
    refused until then is refused without any output.
    """
    for line in _LINES.get():
        line.start()


class Line:
    """One live line in a terminal or a notebook (rich): members, steps per second, time left."""

    def __init__(self) -> None:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TextColumn(
                "{task.fields[members]}  {task.fields[speed]}  {task.fields[left]}"
            ),
        )
        self._bar = progress.Progress(*columns, auto_refresh=False)
        self._task = self._bar.add_task("compiling", total=1.0, members="", speed="", left="")
        self._is_shown = False
        self._last = 0.0

    def start(self) -> None:
        """Show the line, which says that programs compile until the first report."""
        if not self._is_shown:
            self._is_shown = True
            self._bar.start()
            self._bar.refresh()

    def __call__(self, report: Report) -> None:
        self.start()
        now = time.monotonic()
        if now - self._last < 1.0 and report.fraction < 1.0:  # drawing it takes milliseconds
            return
        self._last = now
        members, speed, left = _texts(report)
        self._bar.update(
            self._task,
            description="training",
            completed=report.fraction,
            members=members,
            speed=speed,
            left=left,
            refresh=True,
        )

    def close(self) -> None:
        if self._is_shown:
            self._bar.stop()


class PlainLine:
    """The same line as text that is written over itself, for a notebook without ipywidgets, where
    rich shows nothing but a warning.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._is_shown = False

    def start(self) -> None:
        """Show that programs compile until the first report."""
        if not self._is_shown:
            self._is_shown = True
            self._write("compiling")

    def __call__(self, report: Report) -> None:
        self._is_shown = True
        now = time.monotonic()
        if now - self._last < 1.0 and report.fraction < 1.0:
            return
        self._last = now
        self._write("  ".join([f"training {report.fraction:4.0%}", *_texts(report)]))

    def close(self) -> None:
        if self._is_shown:
            print()

    def _write(self, text: str) -> None:
        print(f"\r{text:<100}", end="", flush=True)


def _texts(report: Report) -> tuple[str, str, str]:
    """The runs, the speed and the time left, as texts."""
    speed = ""
    if report.steps and report.seconds:
        speed = f"{_short(report.steps / report.seconds)} steps/s"
    left = f"took {clock(report.seconds)}"
    if report.fraction < 1:
        left = f"{clock(report.remaining)} left"
    score = "" if math.isnan(report.score) else f"  return {report.score:.4g}"
    return f"{report.done:,}/{report.members:,} runs{score}", speed, left


def _line() -> Line | PlainLine:
    """The live line for where this process runs."""
    in_notebook = "ipykernel" in sys.modules
    if in_notebook and importlib.util.find_spec("ipywidgets") is None:
        return PlainLine()
    return Line()


Show = Callable[[Report], None]


@contextlib.contextmanager
def shown(progress: bool | Show | Sequence[bool | Show]) -> Iterator[Show | None]:
    """The function that gets the reports: a live line for True, a function, None for False; of
    several, each gets them.
    """
    several: Sequence[Any] = (progress,)
    if isinstance(progress, tuple | list):
        several = progress
    if wrong := [each for each in several if not (isinstance(each, bool) or callable(each))]:
        raise TypeError(
            f"progress={wrong[0]!r} is neither True, False nor a function of an rl.Report: write "
            "progress=lambda report: print(report.fraction)."
        )
    with contextlib.ExitStack() as stack:
        shows: list[Any] = []
        for each in several:
            if each is True:
                line = _line()
                stack.callback(line.close)
                shows.append(line)
            elif each is not False:
                shows.append(each)

        def show(report: Report) -> None:
            for each in shows:
                each(report)

        token = _LINES.set(tuple(each for each in shows if isinstance(each, Line | PlainLine)))
        stack.callback(_LINES.reset, token)
        yield show if shows else None


def clock(seconds: float) -> str:
    """Seconds as text: 1:05, or 2:01:05; -:-- where infinite."""
    if seconds == float("inf"):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(x: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g}{unit}"
    return f"{x:.3g}"
