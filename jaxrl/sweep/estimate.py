"""What a chunk of a sweep takes on a target: launches, bytes moved, and bounds of its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrl.accelerator import Launches, Roofline, Target, TargetError, launches
from jaxrl.accelerator.compile import Program, too_large
from jaxrl.accelerator.roofline import bracket
from jaxrl.accelerator.tables import format_bytes
from jaxrl.sweep.program import Stepped, Whole
from jaxrl.train import Training


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One chunk of a sweep on a target.

    launches: of the chunk. per_update, per_step: the same over the updates and the environment
    steps of one run, evaluation included; None for a function. bytes: read and written. fastest,
    slowest: bounds of the seconds of a chunk, with all launches in CUDA graphs and with none
    (`Roofline`). fits: runs that the memory would hold, by the bytes of this chunk. programs: the
    launches of each program.
    """

    target: Target
    launches: int
    per_update: float | None
    per_step: float | None
    bytes: int
    fastest: float
    slowest: float
    fits: int
    programs: dict[str, Launches]

    @property
    def is_present(self) -> bool:
        """True where a device of this kind is here, and was compiled for."""
        return bool(self.target.local_devices)

    def rows(self) -> list[tuple[str, str]]:
        """The rows of a plan."""
        where = "present here" if self.is_present else "not present: compiled for it anyway"
        each = ""
        if self.per_update is not None and self.per_step is not None:
            each = f": {self.per_update:,.1f} an update, {self.per_step:,.2f} a step of one run"
        return [
            ("target", f"{self.target.name} ({self.target.kind}), {where}"),
            ("fits", f"about {self.fits:,} runs at once"),
            ("launches", f"{self.launches:,} per chunk{each}"),
            ("bytes moved", f"{format_bytes(self.bytes)} per chunk"),
        ]

    def time_text(self, chunks: int) -> str:
        """Bounds of the time of so many chunks, one after another."""
        bounds = bracket(self.target, chunks * self.fastest, chunks * self.slowest)
        return f"at least {bounds}; compilation comes on top"


def estimate(
    program: Stepped | Whole, target: Target, run: Any, width: int, needed: int
) -> Estimate:
    """The estimate of a chunk of `width` runs that takes `needed` bytes.

    Raises:
      TargetError: one run does not fit the target's memory.
    """
    if needed > target.memory and width == 1:
        programs = [each for each in program.compiled.values() if isinstance(each, Program)]
        raise TargetError(too_large(max(programs, key=lambda each: each.bytes), target, "One run"))
    found = {name: launches(compiled) for name, compiled in program.compiled.items()}
    calls = _calls(run)
    count = lambda measure: sum(
        calls(name, loop.conditional) * measure(each, loop)
        for name, each in found.items()
        for loop in each.loops
    )
    bounds = {name: Roofline(target, each) for name, each in found.items()}
    total = round(count(lambda each, loop: loop.trips * len(loop.kernels)))
    updates = int(run.updates.sum()) if isinstance(run, Training) else None
    return Estimate(
        target=target,
        launches=total,
        per_update=None if updates is None else total / updates,
        per_step=None if updates is None else total / (updates * run.algo.steps_per_update),
        bytes=round(count(lambda each, loop: loop.trips * loop.bytes)),
        fastest=_seconds(found, bounds, calls, target.graph_seconds),
        slowest=_seconds(found, bounds, calls, target.launch_seconds),
        fits=max(int(target.memory / max(needed / width, 1)), 1),
        programs=found,
    )


def _calls(run: Any) -> Callable[[str, bool], float]:
    """A function (program, conditional) -> calls of the program, or that part of it, in a chunk.

    What is conditional in the program of a row counts for each row with an evaluation; elsewhere it
    counts with its program.
    """
    if not isinstance(run, Training):
        return lambda name, conditional: 1.0
    # without an evaluation in some rows, what is conditional is part of an update
    evaluated = int(run.eval_rows[0].sum()) or run.evals
    rows = {"init": 1, "row": run.evals}
    return lambda name, conditional: evaluated if conditional and name == "row" else rows[name]


def _seconds(
    found: dict[str, Launches],
    bounds: dict[str, Roofline],
    calls: Callable[[str, bool], float],
    launch: float,
) -> float:
    return sum(
        calls(name, loop.conditional) * loop.trips * max(bounds[name].roofs(loop, launch).values())
        for name, each in found.items()
        for loop in each.loops
    )
