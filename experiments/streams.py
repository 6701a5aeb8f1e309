"""A thousand parallel streams on CartPole: `python -m experiments.streams`.

A stream is one environment and one learner that updates from each step once, without a buffer
(Elsayed et al., 2024), by Q(lambda), SARSA(lambda) or AC(lambda) with the authors' settings;
nothing is tuned. The number of streams affects the speed, not the learning of each.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import tyro

import envs
import jaxrl as rl

RESULTS = pathlib.Path(__file__).parent / "results"
ROWS = 10
NOTE = """
Steps per second are of all streams, without compilation. The return is that of the episodes that
ended in the last tenth of the run, with exploration: the interquartile mean over streams with its
95 % bootstrap interval, and the worst and the best stream. Rows with fewer steps are there for
their speed. The share of random actions decays to 1 % in the first twentieth of a run. The authors
play 500,000 steps with episodes of up to 10,000 steps, and the time is part of the observation;
here episodes are truncated at 500 steps, as in CartPole-v1.
""".strip()


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: speed and returns of parallel streams on CartPole-v1."""

    algorithms: tuple[str, ...] = ("stream_q", "stream_sarsa", "stream_ac")
    streams: tuple[int, ...] = (1, 64, 1024)
    """numbers of parallel streams"""
    steps: int = 100_000
    """maximum environment steps per stream"""
    budget: int = 6_400_000
    """maximum environment steps of all streams of a measurement"""
    folder: pathlib.Path = RESULTS


def measure(name: str, streams: int, config: Config) -> tuple[dict[str, Any], Any]:
    """Measurements of a sweep over seeds, and its curves."""
    algo = rl.PRESETS[name]()
    each = ROWS * algo.steps_per_update
    steps = max(min(config.steps, config.budget // streams) // each, 1) * each
    training = rl.Training(algo, envs.make("CartPole-v1"), steps, ROWS, 0)
    results = rl.sweep(training, {"seed": np.arange(streams)}, progress=False)
    last = results["return"].isel(step=-1).values
    speed = round(streams * steps / results.attrs["run_seconds"])
    row: dict[str, Any] = {
        "algorithm": name,
        "streams": streams,
        "steps": steps,
        "steps_per_second": speed,
    }
    row |= {key: round(float(results.attrs[key]), 2) for key in ("compile_seconds", "run_seconds")}
    row |= {
        "diverged": int(results["diverged"].isel(step=-1).sum()),
        "unfinished": int(np.isnan(last).sum()),
    }
    row |= (
        {"worst": float(np.nanmin(last)), "best": float(np.nanmax(last))}
        if np.isfinite(last).any()
        else {}
    )
    score = rl.stats.summary(results.isel(step=-1), "return")
    return row | {part: float(score[part]) for part in ("iqm", "low", "high")}, results


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table with a row per algorithm and number of streams."""
    lines = [
        "| algorithm | streams | steps of each | steps/s | compilation, s | return, IQM [95 % "
        "interval] | worst to best |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        score = "{iqm:.0f} [{low:.0f}, {high:.0f}]" if row["streams"] > 1 else "{iqm:.0f}"
        spread = "{worst:.0f} to {best:.0f}".format(**row) if "worst" in row else "no episode ended"
        numbers = (
            "{algorithm} | {streams:,} | {steps:,} | {steps_per_second:,} | {compile_seconds:.1f}"
        ).format(**row)
        lines.append(f"| {numbers} | {score.format(**row)} | {spread} |")
    return "\n".join(lines)


def main(config: Config) -> None:
    import xarray as xr

    rl.use_all_cores()
    config.folder.mkdir(parents=True, exist_ok=True)
    rows, curves, card = [], {}, {}
    for name in config.algorithms:
        for streams in config.streams:
            row, results = measure(name, streams, config)
            rows.append(row)
            card = {key: json.loads(results.attrs[key]) for key in ("versions", "machine")}
            if row["steps"] == max(other["steps"] for other in rows):
                curves[name] = results[["return"]]  # the most streams among the longest runs
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    record = {
        "rows": rows,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "card": card,
    }
    (config.folder / "streams.json").write_text(json.dumps(record, indent=1) + "\n")
    where = (
        f"{record['cores']} cores under a load of {record['load']:.1f}, jax "
        f"{card['versions']['jax']}."
    )
    page = f"# Parallel streams on CartPole-v1\n\n{where}\n\n{table(rows)}\n\n{NOTE}\n"
    (config.folder / "streams.md").write_text(page)
    every: Any = xr.concat(list(curves.values()), xr.Variable("algorithm", list(curves)))
    rl.plot.curve(every, "return", by="algorithm").savefig(config.folder / "streams.png", dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Config))
