"""Training speed of PPO, DQN and SAC in this kit, rejax and jaxnasium: `python -m
experiments.speed`.

Each measurement runs in a separate process, so that compilation and peak memory are measured for it
alone, and one that hangs can be killed. Rounds are interleaved, one kit after another, so that
other load on the machine affects all of them. `pip install -e ".[bench]"` installs the others; they
keep their environments, initialisers and optimisers, while networks and hyperparameters are matched
(the pages list the exceptions). On an accelerator: `--seeds 1 64 1024 4096 --budget 100000000
--kits jaxrl rejax jaxnasium`.
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
from collections.abc import Sequence
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
    """Steps per second, compile time and peak memory of PPO, DQN and SAC, in several kits."""

    algorithms: tuple[str, ...] = tuple(TASKS)
    """one page each; learning curves, warm start and host memory are measured for PPO alone"""
    seeds: tuple[int, ...] = ()
    """default: those of the task (`experiments/_settings.py`); likewise steps and budget"""
    kits: tuple[str, ...] = tuple(KITS)
    """kits to measure; the first is compared with those other than jaxrl"""
    steps: int | None = None
    """maximum environment steps per seed"""
    budget: int | None = None
    """maximum environment steps of all seeds of a measurement"""
    capacity: int = 10_000
    """capacity of the replay buffers, in transitions"""
    repeats: int = 3
    """number of rounds"""
    limit: float = 150.0
    """time limit of a measurement, in seconds"""
    curves: int = 128
    """number of seeds of the learning curves (0: none)"""
    curve_steps: int = 30 * ROWS * UPDATE
    """environment steps per seed of the learning curves"""
    warm: bool = True
    """measure a cold and a warm start, with one compilation cache"""
    full: bool = False
    """also measure host memory with 256 seeds of 500,000 steps"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


SMOKE = Config(seeds=(2,), kits=("jaxrl",), steps=ROWS * UPDATE, repeats=1, curves=0, warm=False)


def measure(
    job: Any, limit: float, kits: str = "experiments._kits", packages: Sequence[pathlib.Path] = ()
) -> dict[str, Any]:
    """Measurements of a job, run in a new process; or `failed`, the reason why there are none.

    kits: the module with its function `child`. packages: folders that the process also imports
    from.
    """
    code = f"from {kits} import child; child({json.dumps(json.dumps(dataclasses.asdict(job)))})"
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    if packages:
        paths = [*map(str, packages), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
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
        return {"failed": f"not done in {limit:.0f} s, of which {busy:.0f} s were CPU time"}
    wall = time.monotonic() - started
    if process.returncode:
        return {"failed": (err.strip().splitlines() or [f"exit {process.returncode}"])[-1]}
    measured = json.loads(out.splitlines()[-1])
    speed = job.seeds * job.steps / measured["run_seconds"]
    return measured | {"steps_per_second": speed, "wall_seconds": wall}


def rounds(config: Config, algorithm: str) -> list[dict[str, Any]]:
    """Measurements of each kit at each number of seeds, `repeats` times, interleaved.

    A kit that failed is not run again.
    """
    task, rows, failed = TASKS[algorithm], [], set()
    every, total = config.seeds or task.seeds, config.repeats * len(config.kits)
    for seeds in every:
        max_steps = min(config.steps or task.steps, (config.budget or task.budget) // seeds)
        steps = max(max_steps // (ROWS * task.update), 1) * ROWS * task.update
        for i in range(total):
            kit = config.kits[i % len(config.kits)]
            if (kit, seeds) in failed:
                rows.append(rows[-len(config.kits)])
                continue
            job = Job(kit, seeds, steps, algorithm, config.capacity)
            rows.append(
                {"round": i // len(config.kits)}
                | dataclasses.asdict(job)
                | measure(job, config.limit)
            )
            if "failed" in rows[-1]:
                failed.add((kit, seeds))
            of = f"[{len(rows)}/{total * len(every)}]"
            say(f"{of} {task.title}, {seeds} seeds of {steps:,} steps, {kit}: {_line(rows[-1])}")
    return rows


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return row["failed"]
    return (
        "{steps_per_second:,.0f} steps/s, compiled in {compile_seconds:.1f} s, {peak_mb:,.0f} MB"
    ).format(**row)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------- learning curves,
# start, memory


def curves(config: Config, failed: set[str]) -> list[dict[str, Any]]:
    """Areas under the learning curves of `config.curves` seeds, and their differences between the
    first kit and each peer.

    For rejax, which reports no training returns, the curves are greedy evaluations of 16 episodes
    at the same ten points; for jaxnasium, the mean return of the training episodes that ended in
    each tenth. Kits in `failed` are left out.
    """
    measured = {}
    for kit in [config.kits[0], *(kit for kit in peers(config) if kit not in failed)]:
        measured[kit] = measure(
            Job(kit, config.curves, config.curve_steps, curve=True), 4 * config.limit
        )
        say(f"learning curves of {config.curves} seeds, {kit}: {_line(measured[kit])}")
    ours = measured.pop(config.kits[0])
    return [{"kit": kit} | _compare(ours, theirs, config) for kit, theirs in measured.items()]


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
    """Seconds from the start of a process to the end of the first tenth of a training run, with an
    empty and with a full compilation cache.

    The run has the defaults of the command line: 32 seeds of 100,000 steps, with evaluation.
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
    """Host memory of 256 seeds of 500,000 steps, while they run and of their results."""
    measured = measure(
        Job(config.kits[0], 256, 500_000 // (ROWS * UPDATE) * ROWS * UPDATE, watch=True), 3600.0
    )
    say(f"256 seeds of 500,000 steps: {_line(measured)}")
    return measured


def peers(config: Config) -> list[str]:
    return [kit for kit in config.kits if not kit.startswith("jaxrl")]


# ---------------------------------------------------------------------------------------- all
# measurements


def run(config: Config, algorithm: str) -> dict[str, Any]:
    """Record of all measurements of an algorithm, for JSON."""
    record: dict[str, Any] = {"algorithm": algorithm, "rounds": rounds(config, algorithm)}
    ppo = algorithm == "ppo"
    record["warm_start"] = warm_start() if config.warm and ppo else None
    record["host_memory"] = host_memory(config) if config.full and ppo else None
    failed = {row["kit"] for row in record["rounds"] if "failed" in row}
    # last, as it initialises jax in this process
    record["curves"] = curves(config, failed) if config.curves and ppo else []
    done = next((row for row in record["rounds"] if "failed" not in row), {})
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
    } | record


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )


def main(config: Config) -> None:
    """Steps per second, compile time and peak memory of PPO, DQN and SAC, in several kits."""
    config.folder.mkdir(parents=True, exist_ok=True)
    # PPO last, because of its learning curves
    for algorithm in sorted(config.algorithms, key=lambda name: name == "ppo"):
        record = run(config, algorithm)
        text, name = report(record), "speed" if algorithm == "ppo" else f"speed_{algorithm}"
        (config.folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        (config.folder / f"{name}.md").write_text(text)
        Console().print(Markdown(text))


if __name__ == "__main__":
    main(tyro.cli(Config))
