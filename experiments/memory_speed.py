"""How long a learner's update takes with each memory: `python -m experiments.memory_speed`.

Forward and backward through trajectories with resets, and nothing else: the gradient of the mean
square of what a memory shows, with respect to its parameters and features, float32. All ways take
turns in one process, and every ratio is of two times of the same round. GRU is this kit's, which
multiplies all inputs at once; flax's multiplies them step by step.
"""

import dataclasses
import datetime
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro

import jaxrl as rl


@dataclasses.dataclass(frozen=True)
class Config:
    """How long an update takes with each memory."""

    lengths: tuple[int, ...] = (64, 256, 1024)
    """steps of each trajectory"""
    batches: tuple[int, ...] = (1, 8)
    """trajectories at once"""
    sizes: tuple[int, ...] = (64, 256)
    """features in, and out"""
    rounds: int = 5
    calls: int = 10
    """of which a round takes the fastest"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class FlaxGRU:
    """flax's cell in a scan, as a `networks.Memory`."""

    size: int

    def init(self, key: jax.Array) -> Any:
        return nn.GRUCell(self.size).init(key, self.start(), self.start())

    def start(self) -> jax.Array:
        return jnp.zeros(self.size)

    def apply(
        self, params: Any, memory: jax.Array, x: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def step(memory: jax.Array, now: tuple[jax.Array, jax.Array]) -> Any:
            return nn.GRUCell(self.size).apply(params, jnp.where(now[1], 0.0, memory), now[0])

        return jax.lax.scan(step, memory, (x, first))


WAYS: dict[str, Callable[[int], Any]] = {
    "GRU": rl.GRU,
    "GRU of flax": FlaxGRU,
    "LSTM": rl.LSTM,
    "FFM": rl.FFM,
    "LRU": rl.LRU,
    "GTrXL": rl.GTrXL,
}


def update_of(memory: Any, batch: int, length: int) -> Callable[[], Any]:
    """A compiled update on random features; an episode ends every 100 steps or so."""
    params = memory.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (batch, length, memory.size))
    first = jax.random.bernoulli(jax.random.key(2), 0.01, (batch, length))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        read = lambda x, first: memory.apply(params, memory.start(), x, first)[1]
        return jnp.mean(jax.vmap(read)(x, first) ** 2)

    program = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    return lambda: jax.block_until_ready(program(params, x))


def seconds(update: Callable[[], Any], calls: int) -> float:
    """The fastest of some calls, so that what else the machine does counts little."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        update()
        times.append(time.perf_counter() - started)
    return min(times)


def run(config: Config, batch: int, size: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of an update by way and length, one for each round."""
    updates = {
        (way, length): update_of(make(size), batch, length)
        for way, make in WAYS.items()
        for length in config.lengths
    }
    found: dict[str, dict[int, list[float]]] = {
        way: {length: [] for length in config.lengths} for way in WAYS
    }
    for update in updates.values():
        update()
    for _ in range(config.rounds):
        for (way, length), update in updates.items():
            found[way][length].append(seconds(update, config.calls))
    return found


def table(found: dict[str, dict[int, list[float]]]) -> list[str]:
    """How many times as fast as GRU: the median of the rounds, the lowest and the highest; and
    milliseconds.
    """
    lengths = list(found["GRU"])
    lines = [
        "| memory | " + " | ".join(f"length {n} | ms" for n in lengths) + " |",
        "|---|" + "---:|" * 2 * len(lengths),
    ]
    for way, by_length in found.items():
        cells = []
        for length, times in by_length.items():
            ratios = [gru / own for gru, own in zip(found["GRU"][length], times, strict=True)]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
            cells.append(f"{1e3 * statistics.median(times):.2f}")
        lines.append("| " + " | ".join([way, *cells]) + " |")
    return lines


def main(config: Config) -> None:
    before, day = os.getloadavg(), datetime.date.today()
    parts = []
    for size in config.sizes:
        for batch in config.batches:
            plural = "trajectory" if batch == 1 else "trajectories"
            parts += [
                f"## {batch} {plural}, {size} features",
                "",
                *table(run(config, batch, size)),
                "",
            ]
            print("\n".join(parts[-len(WAYS) - 5 :]), flush=True)
    after = os.getloadavg()
    told = (
        f"Times of GRU over times of each way, same round: median of {config.rounds} rounds "
        "(lowest to highest), each the "
        f"fastest of {config.calls} calls. {jax.device_count()} device "
        f"({jax.devices()[0].device_kind}), {os.cpu_count()} "
        f"cores, jax {jax.__version__}, {day}; load average {before[0]:.1f} before, "
        f"{after[0]:.1f} after (itself counted). "
        f"FFM has {rl.FFM().traces} traces and {rl.FFM().contexts} contexts, LRU "
        f"{rl.LRU().states} states, GTrXL a window "
        f"of {rl.GTrXL().window}."
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["# What an update costs with each memory", "", told, "", *parts])
    (config.folder / "memory_speed.md").write_text(text.rstrip("\n") + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
