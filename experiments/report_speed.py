"""Cost of a report: `python -m experiments.report_speed`.

The results are a synthetic sweep of 1,000 seeds of 20 settings. Each report is written by a new
process, with its start and imports: the first has an empty compilation cache, the others a full
one. There are no policies, so there are no films.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl

WRITE = """
import json, sys, time
started = time.perf_counter()
import jaxrl as rl
from jaxrl.devices import cache_compilations
imported = time.perf_counter()
cache_compilations()
rl.report(sys.argv[1], out=sys.argv[2])
print(json.dumps({"import": imported - started, "report": time.perf_counter() - imported}))
"""
POINTS = 100  # per learning curve


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: time and size of a report of synthetic learning curves."""

    seeds: int = 1000
    rates: int = 5
    """number of learning rates, for each of four discounts"""
    rounds: int = 3
    """number of reports after the first"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def rising(lr, gamma, seed):
    """Synthetic training run: a curve that rises to 100 gamma with noise by seed; every fifth run
    of some settings diverges.
    """
    step = jnp.arange(1, POINTS + 1) * 1000
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), seed), step.shape)
    diverged = (lr > 9e-3) & (gamma > 0.98) & (seed % 5 == 0)
    return {
        "step": step,
        "return": 100 * gamma * (1 - jnp.exp(-step * lr / 50)) + 10 * noise,
        "diverged": diverged,
    }


def written(home: pathlib.Path) -> dict[str, float]:
    """Cost of one report: wall-clock and CPU seconds of the process and of its parts, and bytes."""
    page, environment = (
        home / "report.html",
        os.environ | {"JAX_COMPILATION_CACHE_DIR": str(home / "cache")},
    )
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-c", WRITE, str(home / "sweep"), str(page)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout) | {
        "wall": wall,
        "processor": processor,
        "bytes": page.stat().st_size,
    }


def main(config: Config) -> None:
    axes = {
        "lr": jnp.geomspace(1e-4, 1e-2, config.rates),
        "gamma": jnp.array([0.9, 0.95, 0.99, 0.999]),
        "seed": np.arange(config.seeds),
    }
    with tempfile.TemporaryDirectory() as home:
        rl.sweep(rising, axes, folder=f"{home}/sweep", progress=False)
        rounds = [written(pathlib.Path(home)) for _ in range(1 + config.rounds)]
    lines = [
        "| compilation cache | process, s | CPU time, s | importing, s | report, s | page, MB |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, some in (("empty", rounds[:1]), ("full", rounds[1:])):
        each = [[row[part] for row in some] for part in ("wall", "processor", "import", "report")]
        lines.append(
            f"| {name} | {' | '.join(map(_spread, each))} | {some[0]['bytes'] / 1e6:.2f} |"
        )
    where = (
        f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores under a load of "
        f"{os.getloadavg()[0]:.1f}, "
    )
    where += f"jax {jax.__version__}, {datetime.date.today()}"
    size = f"{config.seeds:,} seeds x {4 * config.rates} settings, {POINTS} points of a curve"
    head = (
        f"# Cost of a report of {size}\n\n{where}. Each in a new process, without films; medians "
        "(ranges).\n\n"
    )
    page = head + "\n".join(lines) + "\n"
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "report_speed.md").write_text(page)
    print(page)


def _spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main(tyro.cli(Config))
