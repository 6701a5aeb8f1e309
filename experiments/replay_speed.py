"""Cost of a replay buffer by its capacity: `python -m experiments.replay_speed`.

Transitions of CartPole; a step adds one, samples a batch and updates its priorities, for several
seeds under vmap. The same ring buffer is sampled by this kit's two methods, and by
`jax.random.choice` without replacement over all entries, as rejax 0.1.3 does.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from jaxrl import replay
from jaxrl.replay import Buffer, Prioritized, Replay, Ring, Uniform
from jaxrl.tree import pytree

ITEM = {
    "obs": jnp.zeros(4),
    "next_obs": jnp.zeros(4),
    "action": jnp.int32(0),
    "reward": 0.0,
    "terminated": False,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: cost of a replay buffer by its capacity."""

    capacities: tuple[int, ...] = (5_000, 50_000, 500_000)
    seeds: int = 8
    batch_size: int = 128
    steps: int = 100
    """steps per measurement"""
    repeats: int = 5
    """number of rounds, interleaved"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


@pytree
class Choice:
    """Sampling without replacement, with a weight for each entry of the ring: O(size)."""

    def init(self, size: int) -> tuple[()]:
        return ()

    def admit(self, tree: Any, index: jax.Array, valid: jax.Array) -> Any:
        return tree

    def rate(
        self, tree: Any, index: jax.Array, valid: jax.Array, priority: jax.Array, counts: Any
    ) -> Any:
        return tree

    def draw(
        self, key: jax.Array, tree: Any, ring: Ring, batch_size: int, fraction: Any
    ) -> tuple[Any, Any]:
        probs = (jnp.arange(ring.size) < ring.num_starts) / ring.num_starts
        return jax.random.choice(key, ring.size, (batch_size,), replace=False, p=probs), jnp.ones(
            batch_size
        )


WAYS = {"uniform": Uniform(), "prioritized": Prioritized(), "choice without replacement": Choice()}


def program(buffer: Buffer, config: Config) -> Any:
    """Return the compiled function (rings, key words [seeds, steps, ...]) -> (rings, a number per
    step, so that nothing is optimised away).
    """

    def step(now: Replay, words: jax.Array) -> tuple[Replay, jax.Array]:
        now = buffer.add(now, jax.tree.map(lambda x: x[:1], now.data))
        sample = buffer.sample(jax.random.wrap_key_data(words), now, config.batch_size)
        error = sample.weight + sum(
            x.reshape(config.batch_size, -1).mean(1) for x in jax.tree.leaves(sample.items)
        )
        return buffer.reprioritize(now, sample.index, error), error.mean()

    run = jax.jit(jax.vmap(lambda now, words: jax.lax.scan(step, now, words)), donate_argnums=0)
    return run.lower(*jax.eval_shape(lambda: start(buffer, config))).compile()


def start(buffer: Buffer, config: Config) -> tuple[Replay, jax.Array]:
    """Full ring buffers, and the words of a key for each step."""
    items = jax.tree.map(
        lambda x: jnp.zeros((buffer.capacity, 1, *jnp.shape(x)), jnp.result_type(x)), ITEM
    )
    full = buffer.prepare(replay.load(items, 1))
    words = jax.random.key_data(jax.random.split(jax.random.key(0), (config.seeds, config.steps)))
    return jax.tree.map(lambda x: jnp.stack([x] * config.seeds), full), words


def run(config: Config) -> list[dict[str, Any]]:
    cases = [(way, capacity) for way in WAYS for capacity in config.capacities]
    programs = {case: program(Buffer(case[1], 1, WAYS[case[0]]), config) for case in cases}
    rows = []
    for i in range(config.repeats):
        for way, capacity in cases:
            inputs = jax.block_until_ready(
                jax.jit(start, static_argnums=(0, 1))(Buffer(capacity, 1, WAYS[way]), config)
            )
            begun = time.monotonic()
            jax.block_until_ready(programs[way, capacity](*inputs))
            spent = (time.monotonic() - begun) / config.steps / config.seeds
            rows.append({"round": i, "way": way, "capacity": capacity, "microseconds": 1e6 * spent})
    return rows


def table(config: Config, rows: list[dict[str, Any]]) -> str:
    """Markdown table: microseconds per step and seed, median over rounds, and ratio to uniform
    sampling in the same round.
    """
    lines = [
        "| way | " + " | ".join(f"capacity {x:,}" for x in config.capacities) + " |",
        "|---|" + "---:|" * len(config.capacities),
    ]
    spent = {(row["way"], row["capacity"], row["round"]): row["microseconds"] for row in rows}
    for way in WAYS:
        cells = []
        for capacity in config.capacities:
            times = [spent[way, capacity, i] for i in range(config.repeats)]
            ratio = [x / spent["uniform", capacity, i] for i, x in enumerate(times)]
            cells.append(f"{statistics.median(times):.1f} ({statistics.median(ratio):.1f}x)")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(config: Config) -> None:
    rows = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    load = f"{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.1f}"
    where = f"{jax.devices()[0].device_kind}, {load}, jax {jax.__version__}"
    page = (
        f"# Cost of a replay buffer by its capacity\n\n{where}. Microseconds of a step (add a "
        f"transition, sample {config.batch_size}, update priorities) of one of {config.seeds} "
        f"seeds under vmap, median of {config.repeats} rounds, and its ratio to uniform sampling "
        f"in the same round.\n\n{table(config, rows)}\n"
    )
    (config.folder / "replay_speed.json").write_text(
        json.dumps({"where": where, "rows": rows}, indent=1) + "\n"
    )
    (config.folder / "replay_speed.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
