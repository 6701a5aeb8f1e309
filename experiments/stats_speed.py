"""Time of a bootstrap interval in this kit and in rliable: `python -m experiments.stats_speed
--rliable PYTHON`.

The interquartile mean of 1,000 seeds x 26 tasks, stratified. rliable requires pandas 2, so it runs
in another interpreter (`pip install 'jaxrl[rliable]'` in a separate environment). Rounds are
interleaved; each process measures its own time.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl

PEER = """
import importlib.metadata, json, sys, time
import numpy as np
from rliable import library, metrics
seeds, tasks, resamples = map(int, sys.argv[1:])
scores = np.random.default_rng(0).normal(size=(seeds, tasks))
iqm = lambda x: np.array([metrics.aggregate_iqm(x)])
started = time.perf_counter()
point, ends = library.get_interval_estimates({"x": scores}, iqm, reps=resamples)
seconds = time.perf_counter() - started
versions = {name: importlib.metadata.version(name) for name in ("rliable", "arch", "numpy")}
interval = [float(point["x"][0]), *ends["x"].ravel().tolist()]
print(json.dumps({"seconds": seconds, "interval": interval, "versions": versions}))
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: the interval of an interquartile mean, in this kit and in rliable."""

    rliable: str = "none"
    """interpreter with rliable; "none" leaves it out"""
    seeds: int = 1000
    tasks: int = 26
    resamples: int = 2000
    rounds: int = 5
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def ours(config: Config) -> dict[str, Any]:
    """Seconds of an interval after compilation, and the interval."""
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(config.seeds, config.tasks)), float)
    options: dict[str, Any] = {"axis": 0, "tasks": 1, "resamples": config.resamples}
    jax.block_until_ready(rl.stats.interval(scores, **options))
    started = time.perf_counter()
    score = jax.block_until_ready(rl.stats.interval(scores, **options))
    return {"seconds": time.perf_counter() - started, "interval": [float(x) for x in score]}


def theirs(config: Config) -> dict[str, Any]:
    words = [str(size) for size in (config.seeds, config.tasks, config.resamples)]
    done = subprocess.run(
        [config.rliable, "-c", PEER, *words], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main(config: Config) -> None:
    sides = {"jaxrl": ours} | ({} if config.rliable == "none" else {"rliable": theirs})
    rounds = [{name: side(config) for name, side in sides.items()} for _ in range(config.rounds)]
    each = {
        name: [1e3 * row[name]["seconds"] / config.resamples for row in rounds] for name in sides
    }
    spread = lambda x: f"{statistics.median(x):.3f} ({min(x):.3f} to {max(x):.3f})"
    lines = ["| | ms per resample, median (range) | interval |", "|---|---|---|"]
    for name, spent in each.items():
        lines.append(
            f"| {name} | {spread(spent)} | {{:.4f}} [{{:.4f}}, {{:.4f}}] |".format(
                *rounds[0][name]["interval"]
            )
        )
    versions = {"jax": jax.__version__, **rounds[0].get("rliable", {}).get("versions", {})}
    where = (
        f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores under a load of "
        f"{os.getloadavg()[0]:.1f}, "
    )
    where += (
        ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", {datetime.date.today()}"
    )
    text = f"rliable was left out (--rliable). {where}."
    if "rliable" in each:
        ratio = [there / here for here, there in zip(each["jaxrl"], each["rliable"], strict=True)]
        text = f"{where}. rliable takes {spread(ratio)} times as long in the same round."
    size = f"{config.seeds:,} seeds x {config.tasks} tasks, {config.resamples:,} resamples"
    page = (
        f"# The interval of an interquartile mean: {size}\n\n{text} {config.rounds} rounds, "
        "interleaved.\n\n" + "\n".join(lines) + "\n"
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "stats_speed.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
