"""The published rule of DiscoRL on Catch: `python -m experiments.disco103_on_catch --weights
disco_103.npz`.

The rule was meta-trained by its authors (Oh et al., 2025); download its weights, `disco_103.npz`,
from their repository. The agent is smaller than theirs; the learning rate is that of their example
on Catch.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import tyro
import xarray as xr

import envs
import jaxrl as rl
from jaxrl.algorithms.disco import ActionModel

RESULTS = pathlib.Path(__file__).parent / "results"
ROWS = 20
NOTE = """
Exploring: share of balls caught in the episodes that ended in the last twentieth of the run, with
sampled actions. Greedy: in 64 episodes after it. An update is one gradient step on 64 new
trajectories of 29 steps; the authors' example plays two, and samples all 64 from a replay buffer of
the last 1,024.
""".strip()


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: share of balls caught over 1,000 updates."""

    weights: pathlib.Path = pathlib.Path(os.environ.get("DISCO_103", "disco_103.npz"))
    """file of the published weights"""
    updates: int = 1_000
    seeds: tuple[int, ...] = (0,)
    lr: float = 1e-2
    hidden: tuple[int, ...] = (128, 128)
    size: int = 64
    """size of the agent's action model"""
    num_envs: int = 64
    rows: int = 8
    columns: int = 8
    folder: pathlib.Path = RESULTS


def run(config: Config) -> xr.Dataset:
    """Curves of all seeds, with the shares of balls caught, exploring and greedy."""
    shape = {"network": ActionModel(config.hidden, config.size), "num_envs": config.num_envs}
    algo = rl.disco103(config.weights, lr=config.lr, **shape)
    env = envs.make("Catch", rows=config.rows, columns=config.columns)
    rows = min(ROWS, config.updates)
    training = rl.Training(
        algo, env, config.updates * algo.steps_per_update, rows, 64, eval_share=1.0
    )
    results = rl.sweep(training, {"seed": np.array(config.seeds)}, chunk=1)
    return results.assign(
        caught=(results["return"] + 1.0) / 2.0, caught_greedily=(results["evaluation"] + 1.0) / 2.0
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table with a row per seed."""
    lines = [
        "| seed | updates until 0.99 | caught, exploring | caught, greedy |",
        "|---:|---:|---:|---:|",
    ]
    write = "| {seed} | {updates} | {caught:.3f} | {greedy:.3f} |"
    return "\n".join([*lines, *(write.format(**row) for row in rows)])


def main(config: Config) -> None:
    if not config.weights.is_file():
        print(
            f"skipped: there is no file {config.weights}. Download disco_103.npz from the authors "
            "of DiscoRL, and write its path as --weights or in DISCO_103."
        )
        return
    results = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    per_update = int(results["step"][-1]) // config.updates
    rows = []
    for seed in results["seed"].values:
        curve = results.sel(seed=seed)
        there = np.flatnonzero(curve["caught"].values >= 0.99)
        updates = int(curve["step"][there[0]]) // per_update if len(there) else "not reached"
        last = {"caught": float(curve["caught"][-1]), "greedy": float(curve["caught_greedily"][-1])}
        rows.append({"seed": int(seed), "updates": updates} | last)
    curves = {
        name: np.round(results[name].values.astype(float), 4).tolist()
        for name in ("caught", "caught_greedily")
    }
    seconds = {
        name: round(float(results.attrs[name]), 1) for name in ("compile_seconds", "run_seconds")
    }
    card = {key: json.loads(results.attrs[key]) for key in ("versions", "machine")}
    record = {
        "rows": rows,
        "step": results["step"].values.tolist(),
        **curves,
        **seconds,
        "load": os.getloadavg()[0],
    }
    (config.folder / "disco103_on_catch.json").write_text(
        json.dumps(record | {"card": card}, indent=1) + "\n"
    )
    where = (
        f"{seconds['run_seconds']:.0f} s on two cores under a load of "
        f"{record['load']:.1f}, jax {card['versions']['jax']}."
    )
    page = (
        f"# Disco103 on Catch {config.rows} x "
        f"{config.columns}\n\n{where}\n\n{table(rows)}\n\n{NOTE}\n"
    )
    (config.folder / "disco103_on_catch.md").write_text(page)
    rl.plot.curve(results, "caught").savefig(config.folder / "disco103_on_catch.png", dpi=110)
    print(table(rows))


if __name__ == "__main__":
    main(tyro.cli(Config))
