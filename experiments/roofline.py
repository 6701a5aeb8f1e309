"""The roofline's order of programs compared with their measured order: `python -m
experiments.roofline`.

Eight programs of different shapes are compiled for the device that is here, `launches` reads them,
and their bounds are compared with the seconds that they take: Spearman's rank correlation. On a CPU
a launch is the start of one of XLA's thunks.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from scipy.stats import spearmanr

import envs
import jaxrl as rl
from jaxrl import accelerator


@dataclasses.dataclass(frozen=True)
class Config:
    """Order of eight programs by the roofline, and by their seconds."""

    target: str | None = None
    """by default the target of the kind of the device; of a CPU cpu_core.toml"""
    only: tuple[str, ...] = ()
    """programs, by the first words of their names; by default all"""
    scale: float = 1.0
    """multiplies the number of environment steps"""
    calls: int = 3
    """calls of each program, of which the fastest counts"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


SMOKE = Config(scale=0.05, calls=1)


def programs(scale: float) -> dict[str, tuple[Callable[..., Any], Any]]:
    """Functions of different shapes, each with its argument."""
    small, wide = rl.MLP((64, 64)), rl.MLP((256, 256))
    cart_pole, pendulum = envs.make("CartPole-v1"), envs.make("Pendulum-v1")
    chain = envs.make("DelayedChain", one_hot=False)
    replay: dict[str, Any] = {"num_envs": 4, "capacity": 4096, "batch_size": 64, "warmup": 256}

    def train(algo: Any, env: Any, steps: float, members: int) -> tuple[Callable[..., Any], Any]:
        unit = algo.steps_per_update
        training = rl.Training(algo, env, max(int(steps * scale) // unit, 1) * unit, 1, 0)
        keys = jax.random.split(jax.random.key(0), members)
        return jax.vmap(lambda key: training(key)[1]), keys

    def products(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, max(int(40 * scale), 1), lambda _, x: jnp.tanh(x @ x), x)

    return {
        "PPO, 1 member": train(rl.ppo(network=small), cart_pole, 40_960, 1),
        "PPO, 32 members": train(rl.ppo(network=small), cart_pole, 10_240, 32),
        "PPO, 4 members, wide": train(rl.ppo(network=wide), cart_pole, 10_240, 4),
        "PPO, 2 members, GRU": train(rl.ppo(memory=rl.GRU(64)), cart_pole, 10_240, 2),
        "DQN, 8 members": train(rl.dqn(network=small, **replay), cart_pole, 8_000, 8),
        "SAC, 2 members": train(rl.sac(network=small, **replay), pendulum, 4_000, 2),
        "tabular, 64 members": train(rl.a2c(network=rl.Table(61)), chain, 20_000, 64),
        "products of 512 x 512": (products, jnp.eye(512)),
    }


def measure(
    name: str, function: Any, argument: Any, target: accelerator.Target, calls: int
) -> dict[str, Any]:
    """The bound and the seconds of one program."""
    compiled = jax.jit(function).lower(argument).compile()
    launches = accelerator.launches(compiled)
    bounds = accelerator.roofline(launches, target)
    times = []
    for _ in range(calls + 1):  # the first one warms up
        started = time.monotonic()
        jax.block_until_ready(compiled(argument))
        times.append(time.monotonic() - started)
    return {
        "program": name,
        "launches": launches.total,
        "bytes": launches.bytes,
        "operations": launches.flops,
        "fastest": bounds.fastest,
        "slowest": bounds.slowest,
        "seconds": min(times[1:]),
    }


def calibrated(target: accelerator.Target) -> accelerator.Target:
    """A target with the constants of the CPU that is here, from three programs that are none of
    the eight: a product of matrices, a sum over an array in the cache, a loop of tiny products.
    """

    def seconds(function: Callable[..., Any], *arguments: Any) -> float:
        compiled = jax.jit(function).lower(*arguments).compile()
        jax.block_until_ready(compiled(*arguments))
        times = []
        for _ in range(5):
            started = time.monotonic()
            jax.block_until_ready(compiled(*arguments))
            times.append(time.monotonic() - started)
        return min(times)

    def repeated(step: Callable[[jax.Array], jax.Array], number: int) -> Callable[..., Any]:
        return lambda x: jax.lax.fori_loop(0, number, lambda _, x: step(x), x)

    size, loops, trips = 256, 200, 20_000
    product = seconds(repeated(lambda x: x @ x, loops), jnp.eye(size)) / loops
    numbers = 2**18  # 1 MB, read and written
    change = seconds(repeated(lambda x: 0.5 * x + 1.0, loops), jnp.ones(numbers)) / loops
    tiny = repeated(lambda x: jnp.sin(x @ x), trips)
    kernels = accelerator.launches(jax.jit(tiny).lower(jnp.eye(4)).compile()).total / trips
    launch = seconds(tiny, jnp.eye(4)) / trips / kernels
    return dataclasses.replace(
        target,
        flops=2 * size**3 / product,
        bandwidth=8 * numbers / change,
        launch_seconds=launch,
        graph_seconds=launch,
        source="measured by experiments.roofline",
    )


def target_here(name: str | None) -> accelerator.Target:
    """The target of the device that is here."""
    if name is not None:
        return accelerator.target(name)
    kind = jax.local_devices()[0].device_kind
    if kind == "cpu":
        return calibrated(accelerator.target(pathlib.Path(__file__).parent / "cpu_core.toml"))
    found = accelerator.target_of(kind)
    if found is None:
        raise ValueError(f"no target is of the kind {kind!r}: write --target FILE.toml.")
    return found


def main(config: Config) -> None:
    target, rows = target_here(config.target), []
    for name, (function, argument) in programs(config.scale).items():
        if config.only and not name.startswith(config.only):
            continue
        rows.append(measure(name, function, argument, target, config.calls))
        row = rows[-1]
        print(
            f"{name:24} bound {row['slowest']:.3g} s, measured {row['seconds']:.3g} s", flush=True
        )
    seconds = [row["seconds"] for row in rows]
    record = {
        "device": target.kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
        "constants": {
            name: float(f"{getattr(target, name):.3g}")
            for name in ("launch_seconds", "graph_seconds", "bandwidth", "flops")
        },
        "spearman": {
            "roofline": rank(seconds, [row["slowest"] for row in rows]),
            "roofline in CUDA graphs": rank(seconds, [row["fastest"] for row in rows]),
            "launches alone": rank(seconds, [row["launches"] for row in rows]),
            "bytes alone": rank(seconds, [row["bytes"] for row in rows]),
            "operations alone": rank(seconds, [row["operations"] for row in rows]),
        },
        "programs": rows,
    }
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / f"roofline_{target.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    (config.folder / f"roofline_{target.name}.md").write_text(page(record))
    print(record["spearman"])


def rank(measured: list[float], bound: list[float]) -> float:
    return round(float(spearmanr(measured, bound)[0]), 3)  # type: ignore[arg-type]


def page(record: dict[str, Any]) -> str:
    """The page of one device."""
    lines = [
        f"# The roofline and the clock: {record['device']}",
        "",
        f"`python -m experiments.roofline`, {record['cores']} cores, jax {record['jax']}, "
        f"{record['date']}; constants: "
        + ", ".join(f"{name} {value:.3g}" for name, value in record["constants"].items())
        + ". Spearman's rank correlation with the measured seconds of eight "
        "programs: "
        + ", ".join(f"{name} {value:.2f}" for name, value in record["spearman"].items())
        + ".",
        "",
        "| program | launches | bytes | operations | bound, s | measured, s | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(record["programs"], key=lambda row: row["seconds"]):
        lines.append(
            f"| {row['program']} | {row['launches']:,} | {row['bytes']:.3g} "
            f"| {row['operations']:.3g} | {row['slowest']:.3g} | {row['seconds']:.3g} "
            f"| {row['seconds'] / row['slowest']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Config))
