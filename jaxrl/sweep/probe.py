"""The time of a chunk, predicted from a few seconds of it."""

import contextlib
import dataclasses
import time
from typing import Any

import numpy as np

from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.program import Stepped
from jaxrl.train import Training

PROBE_SECONDS = 2.0
PROBE_STEPS = 65_536  # environment steps of a chunk in one timed call, so its overhead is small


class _EnoughError(Exception):
    """The probe has run long enough."""


def time_chunk(training: Training, grid: Grid, devices: int, width: int) -> tuple[float, str]:
    """Seconds of one whole chunk, and its speed, predicted from a few timed updates of the same
    width.

    A step of evaluation is counted as one of learning, which is more than it costs.
    """
    per_update = training.algo.steps_per_update
    updates = max(
        min(PROBE_STEPS // (per_update * width), int(training.updates.sum()) // 4), 1
    )  # in each call
    calls = min(int(training.updates.sum()) // updates, 10_000)
    short = dataclasses.replace(
        training, steps=calls * updates * per_update, evals=calls, episodes=0
    )
    configs = grid.configs(np.arange(width) % grid.members)
    program = Stepped(bind(short, grid), short, configs, devices, keep=False)
    times = [time.monotonic()]

    def stop_when_known(*_: Any) -> None:
        times.append(time.monotonic())
        enough = len(times) > 2 and times[-1] - times[1] > PROBE_SECONDS
        if enough or times[-1] - times[0] > 3 * PROBE_SECONDS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        program(configs, stop_when_known)
    warm = times[1:] if len(times) > 2 else times  # the first call also starts the learners
    # of a step of the whole chunk
    second = (warm[-1] - warm[0]) / (len(warm) - 1) / (updates * per_update)
    speed = (
        f"at {_short(width / second)} steps/s, by {len(times) - 1} timed calls of "
        f"{updates * per_update:,} steps per run"
    )
    return second * sum(steps_of(training)), f"{speed}; compilation comes on top"


def steps_of(training: Training) -> tuple[int, int]:
    """Environment steps of a member: of learning, and of greedy evaluation."""
    last = {name: int(x[-1]) for name, x in training.clocks.items()}
    return last["step"], last["eval_step"]


def _short(x: float) -> str:
    return next(
        (
            f"{x / size:.3g}{unit}"
            for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if x >= size
        ),
        f"{x:.3g}",
    )
