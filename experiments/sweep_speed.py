"""Total cost of a sweep: `python -m experiments.sweep_speed`.

8 learning rates x 32 seeds of PPO on CartPole (PureJaxRL's settings, as in `experiments.speed`), by
this kit's `sweep`, by a Python loop over one jitted run, and by jaxnasium's `Sweep` (`pip install
-e ".[bench]"`), in separate processes and interleaved; then the same sweep with checkpoints, with
the progress line, and on one device less.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tyro

from experiments._settings import HYPER, ROWS, SHAPE, UPDATE

ROOT = pathlib.Path(__file__).parents[1]
RATES = np.geomspace(1e-4, 1e-2, 8).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: total cost of a sweep."""

    steps: int = 4 * ROWS * UPDATE
    """environment steps per member"""
    rates: int = 8
    seeds: int = 32
    repeats: int = 2
    """number of rounds"""
    ways: tuple[str, ...] = ()
    """keys of `WAYS` to measure (default: all)"""
    limit: float = 600.0
    """time limit of a measurement, in seconds"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def _training(config: Config, **changes: Any) -> Any:
    import envs
    import jaxrl as rl

    return rl.Training(
        rl.ppo(value_clip=0.2), envs.make("CartPole-v1"), config.steps, ROWS, 0, **changes
    )


def _sweep(
    config: Config, cores: int | None = None, seeds: int | None = None, **options: Any
) -> dict[str, float]:
    import jaxrl as rl

    rl.use_all_cores(cores)
    axes = {"lr": RATES[: config.rates], "seed": np.arange(seeds or config.seeds)}
    all_options: dict[str, Any] = {"progress": False} | options
    results = rl.sweep(_training(config), axes, **all_options)
    return {name: results.attrs[name] for name in ("run_seconds", "compile_seconds")}


def sweep(config: Config) -> dict[str, float]:
    return _sweep(config)


def sweep_on_one_device(config: Config) -> dict[str, float]:
    """Half of the members on one of two devices, so that the work per device is the same."""
    return _sweep(config, cores=1, seeds=config.seeds // 2)


def sweep_with_its_line(config: Config) -> dict[str, float]:
    return _sweep(config, progress=True)


def sweep_with_a_folder(config: Config) -> dict[str, float]:
    """Stores finished chunks, without checkpoints in between."""
    with tempfile.TemporaryDirectory() as folder:
        return _sweep(config, folder=pathlib.Path(folder) / "x", save_seconds=float("inf"))


def sweep_with_every_checkpoint(config: Config) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return _sweep(config, folder=pathlib.Path(folder) / "x", save_seconds=0.0)


def loop_over_jitted_runs(config: Config) -> dict[str, float]:
    """One compiled run, called for each member in turn: a careful loop without `sweep`."""
    import jax
    import jax.numpy as jnp

    import jaxrl as rl

    training = _training(config)
    run = lambda lr, seed: rl.tree.put(training, {"lr": lr})(seed)[1]
    started = time.monotonic()
    program = jax.jit(run).lower(jnp.float32(0), jax.random.key(0)).compile()
    ready = time.monotonic()
    for lr in RATES[: config.rates]:
        for seed in range(config.seeds):
            jax.device_get(program(jnp.float32(lr), jax.random.key(seed)))
    return {"compile_seconds": ready - started, "run_seconds": time.monotonic() - ready}


def jaxnasium_sweep(config: Config) -> dict[str, float]:
    """jaxnasium's `Sweep` of learning rates; seeds are vmapped, agents initialised one by one, as
    its initialiser can hang under vmap.
    """
    import equinox
    import jax
    import jax.numpy as jnp
    import jaxnasium as jym
    from jaxnasium.algorithms import PPO
    from jaxnasium.algorithms.architectures import MLP
    from jaxnasium.eval import GridSearch, Sweep

    env, towers = (
        jym.make("CartPole-v1"),
        {"body": MLP.with_params(hidden_sizes=(64, 64), activation=jnp.tanh)},
    )

    def run(learning_rate_start: float) -> Any:
        algo = PPO(
            **{
                "learning_rate_start": learning_rate_start,
                "learning_rate_end": 0.0,
                "total_timesteps": config.steps,
            },
            **SHAPE | HYPER,
            **{
                "ent_coef_start": 0.01,
                "ent_coef_end": None,
                "clip_coef": 0.2,
                "clip_coef_vf": 0.2,
                "vf_coef": 0.25,
            },
            **{"normalize_observations": False, "normalize_rewards": False, "warmup_steps": 0},
            **{"actor_kwargs": towers, "critic_kwargs": towers, "log_function": None},
        )
        keys = jax.random.split(jax.random.key(0), config.seeds)
        agents = [equinox.partition(algo.init_agent(key, env), equinox.is_array) for key in keys]
        arrays, rest = (
            jax.tree.map(lambda *x: jnp.stack(x), *(agent[0] for agent in agents)),
            agents[0][1],
        )
        train = equinox.filter_vmap(
            lambda key, agent: algo.train(key, env, equinox.combine(agent, rest))[1]
        )
        return jax.block_until_ready(equinox.filter_jit(train)(keys, arrays))

    started = time.monotonic()
    for job in Sweep(run, GridSearch({"learning_rate_start": RATES[: config.rates].tolist()})):
        job()
    return {"run_seconds": time.monotonic() - started, "compile_seconds": 0.0}


WAYS: dict[str, Callable[[Config], dict[str, float]]] = {
    "sweep": sweep,
    "loop over jitted runs": loop_over_jitted_runs,
    "jaxnasium's Sweep": jaxnasium_sweep,
    "sweep, half the members on one device": sweep_on_one_device,
    "sweep with its progress line": sweep_with_its_line,
    "sweep with a folder": sweep_with_a_folder,
    "sweep with a checkpoint at every row": sweep_with_every_checkpoint,
}


def child(way: str, text: str) -> None:
    """Run one measurement in this process, and print it as one line of JSON."""
    print(json.dumps(WAYS[way](Config(**json.loads(text)))))


def measure(way: str, config: Config) -> dict[str, Any]:
    fields = {name: getattr(config, name) for name in ("steps", "rates", "seeds")}
    code = (
        f"from experiments.sweep_speed import child; child({way!r}, "
        f"{json.dumps(json.dumps(fields))})"
    )
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    started = time.monotonic()
    try:
        words = [sys.executable, "-c", code]
        done = subprocess.run(
            words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=config.limit
        )
    except subprocess.TimeoutExpired:
        return {"way": way, "failed": f"not done in {config.limit:.0f} s"}
    if done.returncode:
        return {
            "way": way,
            "failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1],
        }
    seconds = json.loads(done.stdout.splitlines()[-1])
    seconds["all_seconds"] = seconds["compile_seconds"] + seconds["run_seconds"]
    return {"way": way, "process_seconds": time.monotonic() - started} | seconds


def run(config: Config) -> list[dict[str, Any]]:
    rows = []
    for i in range(config.repeats):
        for way in config.ways or WAYS:
            rows.append({"round": i} | measure(way, config))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def report(config: Config, rows: list[dict[str, Any]]) -> str:
    """Markdown page of the medians, with their ratios to `sweep` in the same round."""
    members = f"{config.rates} learning rates x {config.seeds} seeds of {config.steps:,} steps"
    lines = [
        "| method | run, s | compilation, s | total, s | run / that of sweep | total / that of "
        "sweep |",
        "|---|" + "---:|" * 5,
    ]
    base = {row["round"]: row for row in rows if row["way"] == "sweep"}
    for way in dict.fromkeys(row["way"] for row in rows):
        same = [row for row in rows if row["way"] == way]
        if failed := next((row["failed"] for row in same if "failed" in row), None):
            lines.append(f"| {way} | {failed} | | | | |")
            continue
        middle = [
            statistics.median(row[name] for row in same)
            for name in ("run_seconds", "compile_seconds", "all_seconds")
        ]
        ratios = [
            [row[name] / base[row["round"]][name] for row in same]
            for name in ("run_seconds", "all_seconds")
        ]
        cells = [
            f"{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
            for ratio in ratios
        ]
        lines.append("| " + " | ".join([way, *(f"{x:.1f}" for x in middle), *cells]) + " |")
    return (
        f"# Total cost of a sweep\n\n{members}, {config.repeats} rounds.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main(config: Config) -> None:
    rows = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "sweep_speed.json").write_text(json.dumps(rows, indent=1) + "\n")
    (config.folder / "sweep_speed.md").write_text(report(config, rows))
    print(report(config, rows))


if __name__ == "__main__":
    main(tyro.cli(Config))
