"""How much data an agent needs at another ratio of updates to data, foretold: `python -m
experiments.scaling`.

After "Value-Based Deep RL Scales Predictably" (Rybkin et al., 2025): SAC on Pendulum at several
ratios, the environment steps that each seed takes to a score, and a power law with offset through
all ratios but the highest, which it foretells. Learning rate and batch size are the same at every
ratio (the authors fit theirs too).
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
    """The data that SAC needs on Pendulum against its updates to data."""

    updates: tuple[int, ...] = (1, 2, 3, 4, 8)
    """gradient steps after one step of each of four environments; the last is foretold from the
    others
    """
    steps: tuple[int, ...] = (24_000, 24_000, 16_800, 16_800, 7_200)
    """environment steps of each"""
    row: int = 600
    """environment steps between two evaluations"""
    scores: tuple[float, ...] = (-400.0, -300.0, -200.0)
    """returns to reach"""
    seeds: int = 12
    width: int = 64
    runs: pathlib.Path = pathlib.Path("runs/scaling")
    folder: pathlib.Path = RESULTS


def train(config: Config, updates: int, steps: int) -> xr.Dataset:
    """Greedy evaluations [seed, step] of one ratio."""
    network: Any = rl.MLP((config.width, config.width), activation=jax.nn.relu)
    algo = rl.sac(**SETTING, updates=updates, network=network)
    training = rl.Training(
        algo, envs.make("Pendulum-v1"), steps, steps // config.row, 4, eval_share=4.0
    )
    return rl.sweep(
        training, {"seed": np.arange(config.seeds)}, folder=config.runs / f"updates_{updates}"
    )


def foretell(ratio: np.ndarray, data: np.ndarray) -> dict[str, Any]:
    """The law through all ratios, and what the law of all but the last says of the last.

    data: [ratios, seeds].
    """
    name = lambda made: dict(zip(("estimate", "low", "high"), map(float, made), strict=True))
    whole, middle = rl.stats.fit_power_law(ratio, data), np.median(data, axis=1)
    found = {
        "data": middle.tolist(),
        "measured": name(rl.stats.interval(data[-1], rl.stats.median)),
        "left_out_errors": whole.error.tolist(),
        "law": {key: name(made) for key, made in whole.parameters().items()},
        "frontier": rl.stats.pareto(middle, ratio * middle).tolist(),
    }
    if len(ratio) > 4:  # a law takes four
        found["predicted"] = name(rl.stats.fit_power_law(ratio[:-1], data[:-1]).predict(ratio[-1]))
        found["miss"] = found["predicted"]["estimate"] / middle[-1] - 1.0
    return found


def page(config: Config, ratio: np.ndarray, found: dict[str, Any], card: dict[str, Any]) -> str:
    """Markdown: what was measured, and what was foretold."""
    show = lambda made: "{estimate:,.0f} [{low:,.0f}, {high:,.0f}]".format(**made)
    budget = (
        f"{min(config.steps):,} to {max(config.steps):,} steps, greedy evaluation every "
        f"{config.row:,}"
    )
    lines = [
        f"# Data that SAC needs on Pendulum, by updates to data\n\n{card['where']}, "
        f"{config.seeds} seeds of {budget}."
        " Environment steps to a return, medians over seeds. The law is fitted to all ratios "
        "but the highest, which it "
        "foretells; left out: the share by which each ratio is missed by the law of all the "
        "others.\n",
        "| return | "
        + " | ".join(f"ratio {x:g}" for x in ratio)
        + " | foretold at the last | missed by | left out |",
        "|---|" + "---:|" * len(ratio) + "---:|---:|---|",
    ]
    for score, made in found.items():
        if "refused" in made:
            lines.append(f"| {score} | {made['refused']} |" + " |" * (len(ratio) + 2))
            continue
        left = ", ".join(f"{100 * x:.0f} %" for x in made["left_out_errors"])
        cells = " | ".join(f"{x:,.0f}" for x in made["data"])
        told = (
            [show(made["predicted"]), f"{100 * made['miss']:+.0f} %"]
            if "predicted" in made
            else ["too few ratios", ""]
        )
        lines.append(f"| {score} | {cells} | {' | '.join(told)} | {left} |")
    three = lambda made: "{estimate:.3g} [{low:.3g}, {high:.3g}]".format(**made)
    told = {score: made["law"] for score, made in found.items() if "law" in made}
    laws = [
        f"- {score}: " + ", ".join(f"{name} {three(x)}" for name, x in law.items())
        for score, law in told.items()
    ]
    return "\n".join(
        [*lines, "\nData = offset + scale * ratio ** -exponent, of all ratios:\n", *laws, ""]
    )


def main(config: Config) -> None:
    each = [train(config, *point) for point in zip(config.updates, config.steps, strict=True)]
    ratio = np.array(config.updates) / NUM_ENVS
    judged = [
        results["evaluation"].dropna("step", how="all").transpose("seed", "step")
        for results in each
    ]
    judged = [x.fillna(x.min()) for x in judged]  # what diverged is worth the worst that was seen
    curves, steps = [x.values for x in judged], [x["step"].values for x in judged]
    found, fits = {}, {}
    for score in config.scores:
        data = np.stack([rl.stats.steps_to(*one, score) for one in zip(curves, steps, strict=True)])
        try:
            found[f"{score:g}"] = foretell(ratio, data)
            fits[f"{score:g}"] = (rl.stats.fit_power_law(ratio, data), data)
        except ValueError as error:  # most seeds of some ratio did not get there
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
    kept = {"step": [x.tolist() for x in steps], "ratio": ratio.tolist()}
    kept |= {"evaluation": [np.round(x, 1).astype(float).tolist() for x in curves]}
    (config.folder / "scaling.json").write_text(
        json.dumps({"card": card, "found": found, "curves": kept}) + "\n"
    )
    (config.folder / "scaling.md").write_text(page(config, ratio, found, card))
    if fits:
        figure = rl.plot.law(fits, x="updates to data", y="environment steps to a return")
        figure.savefig(config.folder / "scaling.png", dpi=110)
    print(page(config, ratio, found, card))


if __name__ == "__main__":
    main(tyro.cli(Config))
