"""Savings and regret of stopping bad learning curves early: `python -m experiments.early_stopping`.

PPO on CartPole at random learning rates, clips and lambdas, all trained to the end. Each predictor
of the final return then decides, in random orders, which runs it would have stopped; the baseline
stops none, with nothing saved and nothing lost.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import tyro

import envs
import jaxrl as rl

PREDICTORS = {
    "where it is now": rl.stats.last_value,
    "its quantile": rl.stats.last_quantile,
    "a power law": rl.stats.by_power_law,
    "ridge regression": rl.stats.by_regression,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: early stopping of PPO on CartPole by predictions of the final return."""

    settings: int = 64
    seeds: int = 4
    """number of seeds per setting; a curve is their mean"""
    steps: int = 20_480
    quantiles: tuple[float, ...] = (0.5, 0.9)
    """of the finished curves: runs with a predicted final return below it are stopped"""
    orders: int = 100
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def train(config: Config) -> Any:
    """Greedy evaluations of random settings. [setting, seed, step]."""
    rng = np.random.default_rng(0)
    draw = lambda low, high: np.exp(rng.uniform(np.log(low), np.log(high), config.settings)).astype(
        np.float32
    )
    setting = rl.zipped(lr=draw(1e-4, 3e-2), clip=draw(0.05, 1.0), lam=1.0 - draw(0.01, 0.5))
    algo = rl.ppo(
        gamma=0.98, entropy_weight=0.0, num_envs=8, num_steps=32, network=rl.MLP((32, 32))
    )
    training = rl.Training(algo, envs.make("CartPole-v1"), config.steps, 20, 2, eval_share=1.0)
    return rl.sweep(training, {"setting": setting, "seed": np.arange(config.seeds)})


def main(config: Config) -> None:
    results = train(config)
    curves = results["evaluation"].mean("seed").transpose("setting", "step").dropna("setting")
    steps, rows = results["step"].values, []
    for name, predictor in PREDICTORS.items():
        for quantile in config.quantiles:
            cost = rl.stats.stopping_cost(
                curves.values, steps, predictor, quantile=quantile, orders=config.orders
            )
            measured = {key: [float(x) for x in score] for key, score in cost._asdict().items()}
            rows.append({"predictor": name, "quantile": quantile} | measured)
    show = lambda score, scale=1.0: "{:.3g} [{:.3g}, {:.3g}]".format(*(scale * x for x in score))
    lines = [
        "| predictor | stopped below | steps saved, % | regret, return | best one stopped, % "
        "of orders |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [show(row["saved"], 100), show(row["regret"]), show(row["missed"], 100)]
        lines.append(f"| {row['predictor']} | quantile {row['quantile']:g} | {' | '.join(cells)} |")
    machine, ends = json.loads(results.attrs["machine"]), curves.values[:, -1]
    page = (
        f"# Savings and regret of early stopping\n\n{curves.sizes['setting']} settings of PPO "
        f"on CartPole-v1, {config.seeds} "
        f"seeds and {config.steps:,} steps each, {machine['device']}, "
        f"{results.attrs['started'][:10]}. Final returns are "
        f"{ends.min():.0f} to {ends.max():.0f}, median {np.median(ends):.0f}. The first 8 runs of "
        f"each of {config.orders} orders are finished; the others are stopped after a quarter or "
        "half of their steps if their predicted final return is below a quantile of the finished "
        "ones. Means over orders with 95 % intervals.\n\n" + "\n".join(lines) + "\n"
    )
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "early_stopping.json").write_text(
        json.dumps({"rows": rows, "finals": [round(float(x), 1) for x in ends]}) + "\n"
    )
    (config.folder / "early_stopping.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
