"""Cost of a teacher: `python -m experiments.teachers_speed`.

Environment steps per second of PPO on mazes, with each teacher and without one: all seeds in one
program on one device, several updates in a scan, without evaluations. The programs are timed in
turn in one process; each ratio is of two times of the same round. PPO without a teacher trains on
one maze.
"""

import dataclasses
import datetime
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import tyro

import envs
import jaxrl as rl
from jaxrl import teachers

PLAIN = "none"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: speed of training with each teacher."""

    levels: str = "Maze-13"
    only: tuple[str, ...] = ()
    """teachers to measure; default: all"""
    seeds: int = 8
    num_envs: int = 32
    num_steps: int = 128
    width: int = 64
    """hidden units of both layers"""
    updates: int = 4
    """updates per call"""
    rounds: int = 7
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def arms(config: Config) -> Mapping[str, rl.Algorithm]:
    """PPO with each teacher."""
    ppo = rl.ppo(
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        network=rl.MLP((config.width, config.width)),
    )
    scouts = max(config.num_envs // 4, 1)
    taught = {
        "Uniform": teachers.Uniform(),
        "PLR": teachers.PLR(),
        "PLR, exact regret": teachers.PLR(score=teachers.Regret()),
    }
    with_scouts = {
        "robust PLR": teachers.PLR(robust=True),
        "ACCEL": teachers.ACCEL(),
        "SFL": teachers.SFL(),
    }
    found = {name: rl.Taught(ppo, teacher) for name, teacher in taught.items()}
    found |= {name: rl.Taught(ppo, each, scouts=scouts) for name, each in with_scouts.items()}
    return {PLAIN: ppo} | {name: found[name] for name in config.only or found}


def updates_of(algo: rl.Algorithm, config: Config) -> tuple[Callable[[], Any], int, float]:
    """A function that runs some updates of all seeds and waits for them, its environment steps, and
    the seconds of its compilation.
    """
    tasks = envs.distribution(config.levels)
    env: Any = tasks if isinstance(algo, rl.Taught) else tasks.sample(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), config.seeds)

    def train(key: jax.Array, state: Any) -> Any:
        keys = jax.random.split(key, config.updates)
        step = lambda state, key: (algo.update(key, env, state)[0], None)
        return jax.lax.scan(step, state, keys)[0]

    states = jax.jit(jax.vmap(lambda key: algo.init(key, env)))(keys)
    started = time.perf_counter()
    program = jax.jit(jax.vmap(train)).lower(keys, states).compile()
    compiled = time.perf_counter() - started
    steps = config.seeds * config.updates * algo.steps_per_update
    return lambda: jax.block_until_ready(program(keys, states)), steps, compiled


def main(config: Config) -> None:
    before, programs = os.getloadavg(), {}
    for name, algo in arms(config).items():
        programs[name] = updates_of(algo, config)
        programs[name][0]()
    speeds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(config.rounds):
        for name, (call, steps, _) in programs.items():
            started = time.perf_counter()
            call()
            speeds[name].append(steps / (time.perf_counter() - started))
    lines = ["| teacher | speed | steps per second | compilation, s |", "|---|---:|---:|---:|"]
    for name, own in speeds.items():
        ratios = [x / plain for x, plain in zip(own, speeds[PLAIN], strict=True)]
        middle = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rate, compiled = statistics.median(own), programs[name][2]
        lines.append(f"| {name} | {middle} | {rate:,.0f} | {compiled:.0f} |")
    text = (
        f"PPO on {config.levels}, {config.seeds} seeds of {config.num_envs} environments, "
        f"{config.num_steps} steps, two layers of {config.width} units. Speed: environment steps "
        "per second over those without a teacher in the same round, median of "
        f"{config.rounds} rounds (lowest to highest). Steps of scouts, a quarter as many, count. "
        f"One device ({jax.devices()[0].device_kind}) of {os.cpu_count()} cores, jax "
        f"{jax.__version__}, {datetime.date.today()}; load average {before[0]:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after (itself counted)."
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    page = "\n".join(["# Cost of a teacher", "", text, "", *lines]) + "\n"
    (config.folder / "teachers_speed.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
