"""How fast this kit trains, beside rejax and jaxnasium: PPO, DQN and SAC (`python -m
experiments.speed`).

Every measurement is a process of its own, so that compilation and peak memory are its own and one
that stands still can be ended. Rounds are interleaved, all kits one after another, so that a
machine's moods meet all of them. `pip install -e ".[bench]"` brings the others; they keep their own
environments, initialisers and optimisers, their networks and hyperparameters are set to the same
(the pages say what can't be). On an accelerator: `--seeds 1 64 1024 4096 --budget 100000000 --kits
jaxrl rejax jaxnasium`.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import tyro
from rich.console import Console
from rich.markdown import Markdown

from experiments._kits import KITS
from experiments._settings import ROWS, TASKS, UPDATE, Job
from experiments._speed_pages import report

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Config:
    """Steps per second, compile time and peak memory of PPO, DQN and SAC, here and elsewhere."""

    algorithms: tuple[str, ...] = tuple(TASKS)
    """a page each; learning curves, a warm start and the host's memory are PPO's alone"""
    seeds: tuple[int, ...] = ()
    """default: the task's (`experiments/_settings.py`), as with steps and budget"""
    kits: tuple[str, ...] = tuple(KITS)
    """the first is compared with those that are not jaxrl"""
    steps: int | None = None
    """environment steps of each seed, at most"""
    budget: int | None = None
    """environment steps of all seeds of a measurement, at most"""
    capacity: int = 10_000
    """transitions that a replay holds"""
    repeats: int = 3
    """rounds"""
    limit: float = 150.0
    """seconds a measurement may take"""
    curves: int = 128
    """seeds of the learning curves (0: none)"""
    curve_steps: int = 30 * ROWS * UPDATE
    """environment steps of each of them"""
    warm: bool = True
    """time two starts with one compilation cache"""
    full: bool = False
    """also 256 seeds of 500,000 steps, for the memory that they take on the host"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


SMOKE = Config(seeds=(2,), kits=("jaxrl",), steps=ROWS * UPDATE, repeats=1, curves=0, warm=False)


def measure(job: Job, limit: float) -> dict[str, Any]:
    """Runs a job in a process of its own. Its numbers, or `failed`: why there are none."""
    code = (
        "from experiments._kits import child; "
        f"child({json.dumps(json.dumps(dataclasses.asdict(job)))})"
    )
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": ROOT,
        "env": environment,
    }
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **options)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "failed": f"not done in {limit:.0f} s, of which the processor was busy for {busy:.0f}"
        }
    wall = time.monotonic() - started
    if process.returncode:
        return {"failed": (err.strip().splitlines() or [f"exit {process.returncode}"])[-1]}
    told = json.loads(out.splitlines()[-1])
    speed = job.seeds * job.steps / told["run_seconds"]
    return told | {"steps_per_second": speed, "wall_seconds": wall}


def rounds(config: Config, algorithm: str) -> list[dict[str, Any]]:
    """Every kit at every number of seeds, `repeats` times, interleaved.

    Who failed is not tried again.
    """
    task, told, failed = TASKS[algorithm], [], set()
    every, total = config.seeds or task.seeds, config.repeats * len(config.kits)
    for seeds in every:
        most = min(config.steps or task.steps, (config.budget or task.budget) // seeds)
        steps = max(most // (ROWS * task.update), 1) * ROWS * task.update
        for i in range(total):
            kit = config.kits[i % len(config.kits)]
            if (kit, seeds) in failed:
                told.append(told[-len(config.kits)])
                continue
            job = Job(kit, seeds, steps, algorithm, config.capacity)
            told.append(
                {"round": i // len(config.kits)}
                | dataclasses.asdict(job)
                | measure(job, config.limit)
            )
            if "failed" in told[-1]:
                failed.add((kit, seeds))
            of = f"[{len(told)}/{total * len(every)}]"
            say(f"{of} {task.title}, {seeds} seeds of {steps:,} steps, {kit}: {_line(told[-1])}")
    return told


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return row["failed"]
    return (
        "{steps_per_second:,.0f} steps/s, compiled in {compile_seconds:.1f} s, {peak_mb:,.0f} MB"
    ).format(**row)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------- what is measured


def curves(config: Config, failed: set[str]) -> list[dict[str, Any]]:
    """Areas under the learning curves of `config.curves` seeds, and how far the first kit's are
    above each peer's.

    Against rejax, which tells no returns of training, greedy evaluations of 16 episodes at the same
    ten points; against jaxnasium, the mean return of the training episodes that ended in each
    tenth. Who `failed` before is left out.
    """
    told = {}
    for kit in [config.kits[0], *(kit for kit in peers(config) if kit not in failed)]:
        told[kit] = measure(
            Job(kit, config.curves, config.curve_steps, curve=True), 4 * config.limit
        )
        say(f"learning curves of {config.curves} seeds, {kit}: {_line(told[kit])}")
    ours = told.pop(config.kits[0])
    return [{"kit": kit} | _compare(ours, theirs, config) for kit, theirs in told.items()]


def _compare(ours: dict[str, Any], theirs: dict[str, Any], config: Config) -> dict[str, Any]:
    if "failed" in ours | theirs:
        return {"failed": ours.get("failed", theirs.get("failed"))}
    import jax
    import numpy as np

    from jaxrl import stats

    curve = next(iter(theirs["curves"]))
    heights = [np.array(kit["curves"][curve]) for kit in (ours, theirs)]
    steps = np.arange(1, ROWS + 1) * config.curve_steps / ROWS
    areas = [stats.auc(height, steps) for height in heights]
    draws = stats.bootstrap(jax.random.key(0), lambda x, y: x.mean() - y.mean(), *areas)
    low, high = map(float, stats.percentile(draws))
    ours_mean, theirs_mean = (float(area.mean()) for area in areas)
    rows = [np.nanmean(height, axis=0).round(1).tolist() for height in heights]
    return {
        "curve": curve,
        "ours": ours_mean,
        "theirs": theirs_mean,
        "low": low,
        "high": high,
        "curves": rows,
    }


WARM_START = """
import os, sys, time
import jax.numpy as jnp, envs, jaxrl as rl
def tell(report):
    print(time.time() - float(sys.argv[1]), flush=True)
    os._exit(0)
rl.use_all_cores()
rl.sweep(rl.Training(rl.ppo(), envs.make("CartPole-v1")), {"seed": jnp.arange(32)}, progress=tell)
"""


def warm_start() -> tuple[float, float]:
    """Seconds from the start of a process to the first tenth of a training done, with an empty and
    a full compilation cache.

    The training is the command line's: 32 seeds of 100,000 steps, with evaluation; of the cache
    only the place is changed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        command = lambda: [sys.executable, "-c", WARM_START, str(time.time())]
        options = {
            "cwd": ROOT,
            "env": environment,
            "stdout": subprocess.PIPE,
            "check": True,
            "timeout": 600,
        }
        cold, warm = (float(subprocess.run(command(), **options).stdout) for _ in range(2))
    say(f"first row of training after {cold:.1f} s, with a warm cache after {warm:.1f} s")
    return cold, warm


def host_memory(config: Config) -> dict[str, Any]:
    """What 256 seeds of 500,000 steps take on the host while they run, and keep."""
    told = measure(
        Job(config.kits[0], 256, 500_000 // (ROWS * UPDATE) * ROWS * UPDATE, watch=True), 3600.0
    )
    say(f"256 seeds of 500,000 steps: {_line(told)}")
    return told


def peers(config: Config) -> list[str]:
    return [kit for kit in config.kits if not kit.startswith("jaxrl")]


# ---------------------------------------------------------------------------------------- all of it


def run(config: Config, algorithm: str) -> dict[str, Any]:
    """Everything that the configuration asks for of an algorithm, as JSON."""
    told: dict[str, Any] = {"algorithm": algorithm, "rounds": rounds(config, algorithm)}
    ppo = algorithm == "ppo"
    told["warm_start"] = warm_start() if config.warm and ppo else None
    told["host_memory"] = host_memory(config) if config.full and ppo else None
    failed = {row["kit"] for row in told["rounds"] if "failed" in row}
    told["curves"] = (
        curves(config, failed) if config.curves and ppo else []
    )  # last: it takes the device for this process
    done = next((row for row in told["rounds"] if "failed" not in row), {})
    packages = {
        kit.split(",")[0]: 0 for kit in [*peers(config), "jaxrl", "jax", "jaxlib", "gymnax"]
    }
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "device": done.get("device"),
        "host": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "versions": versions | {"python": platform.python_version()},
        "config": {
            name: value for name, value in dataclasses.asdict(config).items() if name != "folder"
        },
    } | told


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )


def main(config: Config) -> None:
    """Steps per second, compile time and peak memory of PPO, DQN and SAC, here and elsewhere."""
    config.folder.mkdir(parents=True, exist_ok=True)
    for algorithm in sorted(
        config.algorithms, key=lambda name: name == "ppo"
    ):  # its learning curves are drawn last
        told = run(config, algorithm)
        text, name = report(told), "speed" if algorithm == "ppo" else f"speed_{algorithm}"
        (config.folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
        (config.folder / f"{name}.md").write_text(text)
        Console().print(Markdown(text))


if __name__ == "__main__":
    main(tyro.cli(Config))
