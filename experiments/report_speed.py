"""What a report costs: `python -m experiments.report_speed`.

1,000 seeds of 20 settings, kept as `sweep` keeps them, are made up; then each report is written by
a process of its own, whose start and imports count: the first finds no compiled program, the others
those that it kept. No policies, so no films.
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
POINTS = 100  # of a learning curve


@dataclasses.dataclass(frozen=True)
class Config:
    """A report of made-up learning curves: how long it takes, and how large it is."""

    seeds: int = 1000
    rates: int = 5
    """values of a learning rate; beside four discounts"""
    rounds: int = 3
    """reports after the first"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def rising(lr, gamma, seed):
    """A stand-in for a training: curves that rise to 100 gamma, the luck of a seed, and every fifth
    lost in a corner.
    """
    step = jnp.arange(1, POINTS + 1) * 1000
    luck = jax.random.normal(jax.random.fold_in(jax.random.key(1), seed), step.shape)
    lost = (lr > 9e-3) & (gamma > 0.98) & (seed % 5 == 0)
    return {
        "step": step,
        "return": 100 * gamma * (1 - jnp.exp(-step * lr / 50)) + 10 * luck,
        "diverged": lost,
    }


def written(home: pathlib.Path) -> dict[str, float]:
    """One report: seconds on the clock and of the processor, of the whole process and of its parts;
    and bytes.
    """
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
        "| compiled programs | process, s | of the processor, s | importing, s | the report "
        "itself, s | page, MB |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, some in (("none", rounds[:1]), ("kept", rounds[1:])):
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
    told = (
        f"# A report of {size}\n\n{where}. Each in a process of its own, without films; "
        "medians (ranges).\n\n"
    )
    page = told + "\n".join(lines) + "\n"
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "report_speed.md").write_text(page)
    print(page)


def _spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main(tyro.cli(Config))
