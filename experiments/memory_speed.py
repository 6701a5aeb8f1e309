"""Time of a learner's update with each recurrent cell: `python -m experiments.memory_speed`.

Forward and backward passes through trajectories with resets alone: the gradient of the mean square
of the outputs with respect to parameters and features, float32. All cells take turns in one
process; each ratio is of two times of the same round. GRU is this kit's, which multiplies all
inputs at once; flax's multiplies them step by step.
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
    """Settings: time of an update with each recurrent cell."""

    lengths: tuple[int, ...] = (64, 256, 1024)
    """steps of each trajectory"""
    batches: tuple[int, ...] = (1, 8)
    """number of trajectories at once"""
    sizes: tuple[int, ...] = (64, 256)
    """number of input and output features"""
    rounds: int = 5
    calls: int = 10
    """calls per round, of which the fastest counts"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class FlaxGRU:
    """flax's GRU in a scan, as a `networks.Memory`."""

    size: int

    def init(self, key: jax.Array) -> Any:
        return nn.GRUCell(self.size).init(key, self.start(), self.start())

    def start(self) -> jax.Array:
        return jnp.zeros(self.size)

    def apply(
        self, params: Any, rnn_state: jax.Array, x: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> Any:
            return nn.GRUCell(self.size).apply(params, jnp.where(now[1], 0.0, state), now[0])

        return jax.lax.scan(step, rnn_state, (x, first))


CELLS: dict[str, Callable[[int], Any]] = {
    "GRU": rl.GRU,
    "GRU of flax": FlaxGRU,
    "LSTM": rl.LSTM,
    "FFM": rl.FFM,
    "LRU": rl.LRU,
    "GTrXL": rl.GTrXL,
}


def program_of(
    memory: Any, batch: int, length: int
) -> tuple[jax.stages.Compiled, tuple[Any, jax.Array]]:
    """Return a compiled update and its arguments, parameters and random features [batch, length,
    size]; episodes end after 100 steps on average.
    """
    params = memory.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (batch, length, memory.size))
    first = jax.random.bernoulli(jax.random.key(2), 0.01, (batch, length))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        outputs = lambda x, first: memory.apply(params, memory.start(), x, first)[1]
        return jnp.mean(jax.vmap(outputs)(x, first) ** 2)

    return jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile(), (params, x)


def update_of(memory: Any, batch: int, length: int) -> Callable[[], Any]:
    """Return a compiled update of `program_of`, which waits for its result."""
    program, arguments = program_of(memory, batch, length)
    return lambda: jax.block_until_ready(program(*arguments))


def seconds(update: Callable[[], Any], calls: int) -> float:
    """Time of the fastest of some calls, which other load affects least."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        update()
        times.append(time.perf_counter() - started)
    return min(times)


def run(config: Config, batch: int, size: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of an update by cell and length, for each round."""
    updates = {
        (cell, length): update_of(make(size), batch, length)
        for cell, make in CELLS.items()
        for length in config.lengths
    }
    found: dict[str, dict[int, list[float]]] = {
        cell: {length: [] for length in config.lengths} for cell in CELLS
    }
    for update in updates.values():
        update()
    for _ in range(config.rounds):
        for (cell, length), update in updates.items():
            found[cell][length].append(seconds(update, config.calls))
    return found


def table(found: dict[str, dict[int, list[float]]]) -> list[str]:
    """Markdown table: speed relative to GRU, median over rounds and range; and milliseconds."""
    lengths = list(found["GRU"])
    lines = [
        "| memory | " + " | ".join(f"length {n} | ms" for n in lengths) + " |",
        "|---|" + "---:|" * 2 * len(lengths),
    ]
    for cell, by_length in found.items():
        cells = []
        for length, times in by_length.items():
            ratios = [
                gru / cell_time for gru, cell_time in zip(found["GRU"][length], times, strict=True)
            ]
            cells.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
            cells.append(f"{1e3 * statistics.median(times):.2f}")
        lines.append("| " + " | ".join([cell, *cells]) + " |")
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
            print("\n".join(parts[-len(CELLS) - 5 :]), flush=True)
    after = os.getloadavg()
    text = (
        f"Times of GRU over times of each cell, in the same round: median of {config.rounds} "
        f"rounds (lowest to highest), each the fastest of {config.calls} calls. "
        f"{jax.device_count()} device ({jax.devices()[0].device_kind}), {os.cpu_count()} "
        f"cores, jax {jax.__version__}, {day}; load average {before[0]:.1f} before, "
        f"{after[0]:.1f} after (itself counted). "
        f"FFM has {rl.FFM().traces} traces and {rl.FFM().contexts} contexts, LRU "
        f"{rl.LRU().states} states, GTrXL a "
        f"window of {rl.GTrXL().window}."
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    page = "\n".join(["# Time of an update with each recurrent cell", "", text, "", *parts])
    (config.folder / "memory_speed.md").write_text(page.rstrip("\n") + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
