"""What a replay costs as it grows: `python -m experiments.replay_speed`.

CartPole's transitions; a step adds one, draws a batch and gives it new priorities, in some seeds
under vmap. The same ring is read by this kit's two ways, and by `jax.random.choice` without
replacement over all places, as rejax 0.1.3 draws.
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
    """What a replay costs as it grows."""

    capacities: tuple[int, ...] = (5_000, 50_000, 500_000)
    seeds: int = 8
    batch_size: int = 128
    steps: int = 100
    """steps of a measurement"""
    repeats: int = 5
    """rounds, interleaved"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


@pytree
class Choice:
    """No start twice in a batch, for which every place of the ring is weighed. O(size)."""

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
        chance = (jnp.arange(ring.size) < ring.num_starts) / ring.num_starts
        return jax.random.choice(key, ring.size, (batch_size,), replace=False, p=chance), jnp.ones(
            batch_size
        )


WAYS = {"uniform": Uniform(), "prioritized": Prioritized(), "choice without replacement": Choice()}


def program(buffer: Buffer, config: Config) -> Any:
    """Compiled: (rings, words [seeds, steps, ...]) -> rings and a number of each step, so that
    nothing is left out.
    """

    def step(now: Replay, words: jax.Array) -> tuple[Replay, jax.Array]:
        now = buffer.add(now, jax.tree.map(lambda x: x[:1], now.data))
        sample = buffer.sample(jax.random.wrap_key_data(words), now, config.batch_size)
        error = sample.weight + sum(
            x.reshape(config.batch_size, -1).mean(1) for x in jax.tree.leaves(sample.items)
        )
        return buffer.reprioritize(now, sample.index, error), error.mean()

    live = jax.jit(jax.vmap(lambda now, words: jax.lax.scan(step, now, words)), donate_argnums=0)
    return live.lower(*jax.eval_shape(lambda: start(buffer, config))).compile()


def start(buffer: Buffer, config: Config) -> tuple[Replay, jax.Array]:
    """Full rings, and the words of a key for each step."""
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
    """Markdown: microseconds of a step of one seed, the median over rounds, and over uniform's in
    the same round.
    """
    lines = [
        "| way | " + " | ".join(f"capacity {x:,}" for x in config.capacities) + " |",
        "|---|" + "---:|" * len(config.capacities),
    ]
    spent = {(row["way"], row["capacity"], row["round"]): row["microseconds"] for row in rows}
    for way in WAYS:
        cells = []
        for capacity in config.capacities:
            own = [spent[way, capacity, i] for i in range(config.repeats)]
            ratio = [x / spent["uniform", capacity, i] for i, x in enumerate(own)]
            cells.append(f"{statistics.median(own):.1f} ({statistics.median(ratio):.1f}x)")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(config: Config) -> None:
    rows = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    load = f"{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.1f}"
    where = f"{jax.devices()[0].device_kind}, {load}, jax {jax.__version__}"
    page = (
        f"# What a replay costs as it grows\n\n{where}. Microseconds of a step (add a "
        "transition, draw "
        f"{config.batch_size}, new priorities) of one of {config.seeds} seeds under vmap, the "
        f"median of {config.repeats} "
        f"rounds, and its ratio to uniform in the same round.\n\n{table(config, rows)}\n"
    )
    (config.folder / "replay_speed.json").write_text(
        json.dumps({"where": where, "rows": rows}, indent=1) + "\n"
    )
    (config.folder / "replay_speed.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
