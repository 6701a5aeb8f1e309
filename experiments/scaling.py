"""Prediction of the data that an agent needs at another ratio of updates to data: `python -m
experiments.scaling`.

After "Value-Based Deep RL Scales Predictably" (Rybkin et al., 2025): SAC on Pendulum at several
ratios, the environment steps that each seed takes to reach a score, and a power law with offset
fitted to all ratios but the highest, for which it predicts them. Learning rate and batch size are
the same at each ratio (the authors fit them too).
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
import tyro
import xarray as xr

import envs
import jaxrl as rl

RESULTS = pathlib.Path(__file__).parent / "results"
NUM_ENVS = 4
SETTING: dict[str, Any] = dict(
    lr=1e-3, num_envs=NUM_ENVS, batch_size=64, warmup=1_000, capacity=25_000
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: data that SAC needs on Pendulum by its ratio of updates to data."""

    updates: tuple[int, ...] = (1, 2, 3, 4, 8)
    """gradient steps after one step of each of four environments; the last is predicted from the
    others
    """
    steps: tuple[int, ...] = (24_000, 24_000, 16_800, 16_800, 7_200)
    """environment steps at each ratio"""
    row: int = 600
    """environment steps between two evaluations"""
    scores: tuple[float, ...] = (-400.0, -300.0, -200.0)
    """returns to reach"""
    seeds: int = 12
    width: int = 64
    runs: pathlib.Path = pathlib.Path("runs/scaling")
    folder: pathlib.Path = RESULTS


def train(config: Config, updates: int, steps: int) -> xr.Dataset:
    """Greedy evaluations [seed, step] at one ratio."""
    network: Any = rl.MLP((config.width, config.width), activation=jax.nn.relu)
    algo = rl.sac(**SETTING, updates=updates, network=network)
    training = rl.Training(
        algo, envs.make("Pendulum-v1"), steps, steps // config.row, 4, eval_share=4.0
    )
    return rl.sweep(
        training, {"seed": np.arange(config.seeds)}, folder=config.runs / f"updates_{updates}"
    )


def predict(ratio: np.ndarray, data: np.ndarray) -> dict[str, Any]:
    """Power law of all ratios, and the prediction for the last from the law of all others.

    data: [ratios, seeds].
    """
    named = lambda score: dict(zip(("estimate", "low", "high"), map(float, score), strict=True))
    law, median = rl.stats.fit_power_law(ratio, data), np.median(data, axis=1)
    found = {
        "data": median.tolist(),
        "measured": named(rl.stats.interval(data[-1], rl.stats.median)),
        "left_out_errors": law.error.tolist(),
        "law": {key: named(score) for key, score in law.parameters().items()},
        "frontier": rl.stats.pareto(median, ratio * median).tolist(),
    }
    if len(ratio) > 4:  # a law has to have four ratios
        found["predicted"] = named(rl.stats.fit_power_law(ratio[:-1], data[:-1]).predict(ratio[-1]))
        found["miss"] = found["predicted"]["estimate"] / median[-1] - 1.0
    return found


def page(config: Config, ratio: np.ndarray, found: dict[str, Any], card: dict[str, Any]) -> str:
    """Markdown page of the measurements and predictions."""
    show = lambda score: "{estimate:,.0f} [{low:,.0f}, {high:,.0f}]".format(**score)
    budget = (
        f"{min(config.steps):,} to {max(config.steps):,} steps, greedy evaluation every "
        f"{config.row:,}"
    )
    lines = [
        f"# Data that SAC needs on Pendulum, by updates to data\n\n{card['where']}, "
        f"{config.seeds} seeds of {budget}."
        " Environment steps to reach a return, medians over seeds. The law is fitted to all ratios "
        "but the highest, for which it predicts them; left out: relative error at each ratio of "
        "the law of all others.\n",
        "| return | "
        + " | ".join(f"ratio {x:g}" for x in ratio)
        + " | predicted at the last | error | left out |",
        "|---|" + "---:|" * len(ratio) + "---:|---:|---|",
    ]
    for score, row in found.items():
        if "refused" in row:
            lines.append(f"| {score} | {row['refused']} |" + " |" * (len(ratio) + 2))
            continue
        left = ", ".join(f"{100 * x:.0f} %" for x in row["left_out_errors"])
        cells = " | ".join(f"{x:,.0f}" for x in row["data"])
        predicted = (
            [show(row["predicted"]), f"{100 * row['miss']:+.0f} %"]
            if "predicted" in row
            else ["too few ratios", ""]
        )
        lines.append(f"| {score} | {cells} | {' | '.join(predicted)} | {left} |")
    three = lambda score: "{estimate:.3g} [{low:.3g}, {high:.3g}]".format(**score)
    fitted = {score: row["law"] for score, row in found.items() if "law" in row}
    laws = [
        f"- {score}: " + ", ".join(f"{name} {three(x)}" for name, x in law.items())
        for score, law in fitted.items()
    ]
    return "\n".join(
        [*lines, "\nData = offset + scale * ratio ** -exponent, of all ratios:\n", *laws, ""]
    )


def main(config: Config) -> None:
    each = [train(config, *point) for point in zip(config.updates, config.steps, strict=True)]
    ratio = np.array(config.updates) / NUM_ENVS
    evaluations = [
        results["evaluation"].dropna("step", how="all").transpose("seed", "step")
        for results in each
    ]
    evaluations = [x.fillna(x.min()) for x in evaluations]  # diverged runs have the lowest score
    curves, steps = [x.values for x in evaluations], [x["step"].values for x in evaluations]
    found, fits = {}, {}
    for score in config.scores:
        data = np.stack([rl.stats.steps_to(*one, score) for one in zip(curves, steps, strict=True)])
        try:
            found[f"{score:g}"] = predict(ratio, data)
            fits[f"{score:g}"] = (rl.stats.fit_power_law(ratio, data), data)
        except ValueError as error:  # most seeds of some ratio did not reach it
            found[f"{score:g}"] = {
                "refused": str(error).split(":")[0],
                "data": np.median(data, axis=1).astype(str).tolist(),
            }
    first = each[0].attrs
    where = (
        f"{json.loads(first['machine'])['device']}, {os.cpu_count()} cores, jax "
        f"{jax.__version__}, {first['started'][:10]}"
    )
    card = {
        "where": where,
        "commit": first["commit"],
        "run_seconds": [results.attrs["run_seconds"] for results in each],
    }
    config.folder.mkdir(parents=True, exist_ok=True)
    stored = {"step": [x.tolist() for x in steps], "ratio": ratio.tolist()}
    stored |= {"evaluation": [np.round(x, 1).astype(float).tolist() for x in curves]}
    (config.folder / "scaling.json").write_text(
        json.dumps({"card": card, "found": found, "curves": stored}) + "\n"
    )
    (config.folder / "scaling.md").write_text(page(config, ratio, found, card))
    if fits:
        figure = rl.plot.law(fits, x="updates to data", y="environment steps to reach a return")
        figure.savefig(config.folder / "scaling.png", dpi=110)
    print(page(config, ratio, found, card))


if __name__ == "__main__":
    main(tyro.cli(Config))
