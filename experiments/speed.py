"""How fast this kit's PPO trains CartPole, beside rejax's and jaxnasium's own: `python -m experiments.speed`.

Every measurement is a process of its own, so that compilation and peak memory are its own and one that stands still can be
ended. Rounds are interleaved, all kits one after another, so that a machine's moods meet all of them. `pip install -e
".[bench]"` brings the others; they keep their own environments, initialisers and optimisers, their networks and
hyperparameters are set to the same (NOTES says what can't be). On an accelerator: `--seeds 1 64 1024 4096 --budget
100000000 --kits jaxrl rejax jaxnasium`.
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
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import tyro
from rich.console import Console
from rich.markdown import Markdown

from experiments._kits import KITS, ROWS, UPDATE, Job

ROOT = pathlib.Path(__file__).parents[1]
NOTES = """
Settings of PureJaxRL: 4 environments x 128 steps, 4 epochs x 4 minibatches, two towers of 2 x 64 tanh, learning rate 2.5e-4
annealed to 0, gamma 0.99, lambda 0.95, clip 0.2 (also of values), entropy 0.01, value weight 0.5, gradients held to 0.5.

Medians of the rounds, smallest to largest in brackets; the ratio is to the fastest peer of the same round. Compilation
counts tracing; the run is one call of what was compiled, its curves brought to the host. The whole process counts imports
too. Memory is the process's peak above what it held after its imports (on an accelerator: the device's peak). Nothing is
evaluated: rejax's evaluation, which can't be switched off, is replaced by one that does nothing.

jaxrl uses a core of a CPU for each member, up to all of them, as its command line does (`rl.use_all_cores`, which also holds
XLA to a thread a device); the others are used as their users use them, on one device with XLA's own threads. What can't be
matched: rejax clips gradients elementwise (jaxrl and jaxnasium by their global norm), its Adam has epsilon 1e-8 (jaxrl 1e-5,
jaxnasium 1e-4), its networks start from lecun_normal (the others orthogonal), and it takes a time-out for a death. jaxnasium
plays its own CartPole, takes one more step of warm-up, and keeps the returns of each update; jaxrl keeps ten rows.
jaxnasium's initialiser, a QR, can stand still under vmap on a CPU, so it is also run with agents that were made one by one.
""".strip()


@dataclasses.dataclass(frozen=True)
class Config:
    """Steps per second, compile time and peak memory of PPO on CartPole, here and elsewhere."""

    seeds: tuple[int, ...] = (1, 8, 64, 256)
    kits: tuple[str, ...] = tuple(KITS)
    """the first is compared with those that are not jaxrl"""
    steps: int = 500_000
    """environment steps of each seed, at most"""
    budget: int = 4_000_000
    """environment steps of all seeds of a measurement, at most"""
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
    code = f"from experiments._kits import child; child({json.dumps(json.dumps(dataclasses.asdict(job)))})"
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": environment}
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **options)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"failed": f"not done in {limit:.0f} s, of which the processor was busy for {busy:.0f}"}
    wall = time.monotonic() - started
    if process.returncode:
        return {"failed": (err.strip().splitlines() or [f"exit {process.returncode}"])[-1]}
    told = json.loads(out.splitlines()[-1])
    speed = job.seeds * job.steps / told["run_seconds"]
    return told | {"steps_per_second": speed, "wall_seconds": wall}


def rounds(config: Config) -> list[dict[str, Any]]:
    """Every kit at every number of seeds, `repeats` times, interleaved. Who failed is not tried again."""
    total, told, failed = len(config.seeds) * config.repeats * len(config.kits), [], set()
    for seeds in config.seeds:
        steps = max(min(config.steps, config.budget // seeds) // (ROWS * UPDATE), 1) * ROWS * UPDATE
        for i in range(config.repeats * len(config.kits)):
            kit = config.kits[i % len(config.kits)]
            if (kit, seeds) in failed:
                told.append(told[-len(config.kits)])
                continue
            job = Job(kit, seeds, steps)
            told.append({"round": i // len(config.kits)} | dataclasses.asdict(job) | measure(job, config.limit))
            if "failed" in told[-1]:
                failed.add((kit, seeds))
            say(f"[{len(told)}/{total}] {seeds} seeds of {steps:,} steps, {kit}: {_line(told[-1])}")
    return told


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return row["failed"]
    return "{steps_per_second:,.0f} steps/s, compiled in {compile_seconds:.1f} s, {peak_mb:,.0f} MB".format(**row)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------- what is measured


def curves(config: Config, failed: set[str]) -> list[dict[str, Any]]:
    """Areas under the learning curves of `config.curves` seeds, and how far the first kit's are above each peer's.

    Against rejax, which tells no returns of training, greedy evaluations of 16 episodes at the same ten points; against
    jaxnasium, the mean return of the training episodes that ended in each tenth. Who `failed` before is left out.
    """
    told = {}
    for kit in [config.kits[0], *(kit for kit in peers(config) if kit not in failed)]:
        told[kit] = measure(Job(kit, config.curves, config.curve_steps, curve=True), 4 * config.limit)
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
    return {"curve": curve, "ours": ours_mean, "theirs": theirs_mean, "low": low, "high": high, "curves": rows}


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
    """Seconds from the start of a process to the first tenth of a training done, with an empty and a full compilation cache.

    The training is the command line's: 32 seeds of 100,000 steps, with evaluation; of the cache only the place is changed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        command = lambda: [sys.executable, "-c", WARM_START, str(time.time())]
        options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "check": True, "timeout": 600}
        cold, warm = (float(subprocess.run(command(), **options).stdout) for _ in range(2))
    say(f"first row of training after {cold:.1f} s, with a warm cache after {warm:.1f} s")
    return cold, warm


def host_memory(config: Config) -> dict[str, Any]:
    """What 256 seeds of 500,000 steps take on the host while they run, and keep."""
    told = measure(Job(config.kits[0], 256, 500_000 // (ROWS * UPDATE) * ROWS * UPDATE, watch=True), 3600.0)
    say(f"256 seeds of 500,000 steps: {_line(told)}")
    return told


def peers(config: Config) -> list[str]:
    return [kit for kit in config.kits if not kit.startswith("jaxrl")]


# --------------------------------------------------------------------------------------------------------------- the report


def run(config: Config) -> dict[str, Any]:
    """Everything that the configuration asks for, as JSON."""
    told: dict[str, Any] = {"rounds": rounds(config)}
    told["warm_start"] = warm_start() if config.warm else None
    told["host_memory"] = host_memory(config) if config.full else None
    failed = {row["kit"] for row in told["rounds"] if "failed" in row}
    told["curves"] = curves(config, failed) if config.curves else []  # last: only now may this process take the device
    done = next((row for row in told["rounds"] if "failed" not in row), {})
    packages = {kit.split(",")[0]: 0 for kit in [*peers(config), "jaxrl", "jax", "jaxlib", "gymnax"]}
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "device": done.get("device"),
        "host": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "versions": versions | {"python": platform.python_version()},
        "config": {name: value for name, value in dataclasses.asdict(config).items() if name != "folder"},
    } | told


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def report(told: dict[str, Any]) -> str:
    """The same as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    where = f"{told['date']}, {told['device']}, {told['host']}; {versions}."
    lines = [f"Learning curves, this kit less {r['kit']}: {r.get('failed') or CURVE.format(**r)}" for r in told["curves"]]
    parts = ["# PPO on CartPole", where, table(told["rounds"]), NOTES, *lines]
    if told["warm_start"]:
        cold, warm = told["warm_start"]
        parts.append(f"First tenth of a training done {cold:.1f} s after a process started, {warm:.1f} s with a warm cache.")
    kept = [row["kept_bytes"] / row["seeds"] / 1e3 for row in told["rounds"] if "kept_bytes" in row]
    if kept:
        parts.append(f"Results keep {max(kept):.2f} kB per seed on the host at most, {max(kept):.2f} MB for a thousand.")
    if told["host_memory"] and "failed" not in told["host_memory"]:
        peak, resident = told["host_memory"]["peak_mb"] / 256, told["host_memory"]["resident_mb"]
        text = f"256 seeds of 500,000 steps: {peak:.2f} MB per seed on the host at the peak, compilation with it, "
        parts.append(text + f"of which {(resident[-1] - resident[0]) / 256:.3f} MB came after the first row.")
    return "\n\n".join(parts) + "\n"


CURVE = (
    "difference of the areas under `{curve}` {low:+.1f} to {high:+.1f} (95 % bootstrap interval of the difference of the "
    "means over seeds; {ours:.1f} and {theirs:.1f})"
)


def table(rows: list[dict[str, Any]]) -> str:
    """One row per number of seeds and kit."""
    head = ["seeds", "kit", "steps/s", "of the fastest peer", "compile s", "whole process s", "peak MB", "steps each"]
    lines = [head, ["---:", "---", *["---:"] * 6]]
    for seeds, kit in dict.fromkeys((row["seeds"], row["kit"]) for row in rows):
        same = [row for row in rows if (row["seeds"], row["kit"]) == (seeds, kit)]
        if any("failed" in row for row in same):
            lines.append([str(seeds), kit, next(row["failed"] for row in same if "failed" in row), *[""] * 5])
            continue
        of = [row["steps_per_second"] / fastest for row in same if (fastest := _fastest(rows, row))]
        values = [spread([row[name] for row in same], text) for name, text in COLUMNS.items()]
        lines.append([str(seeds), kit, values[0], spread(of, "{:.2f}x"), *values[1:], f"{same[0]['steps']:,}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


COLUMNS = {"steps_per_second": "{:,.0f}", "compile_seconds": "{:.1f}", "wall_seconds": "{:.1f}", "peak_mb": "{:,.0f}"}


def _fastest(rows: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """Steps per second of the fastest peer in the same round; 0 where there is none."""
    same = [other for other in rows if all(other[name] == row[name] for name in ("round", "seeds"))]
    return max((r["steps_per_second"] for r in same if not r["kit"].startswith("jaxrl") and "failed" not in r), default=0.0)


def spread(values: list[float], text: str) -> str:
    """The median, and between which ends."""
    if not values:
        return ""
    middle, low, high = (text.format(f(values)) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def main(config: Config) -> None:
    """Steps per second, compile time and peak memory of PPO on CartPole, here and elsewhere."""
    told = run(config)
    text = report(told)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "speed.json").write_text(json.dumps(told, indent=1) + "\n")
    (config.folder / "speed.md").write_text(text)
    Console().print(Markdown(text))


if __name__ == "__main__":
    main(tyro.cli(Config))
