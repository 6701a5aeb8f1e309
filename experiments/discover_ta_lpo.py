"""The gain of temporal awareness for a drift evolved from zero: `python -m
experiments.discover_ta_lpo`.

A small version of TA-LPO (Jackson et al., 2024): learner and drift network are those of
`discover_lpo`, lifetimes are 8 to 32 updates, and n / N is a further input of the network. LPO is
the same program with the age fixed at 0. The drifts are then compared on test levels, at lifetimes
inside and outside of that range, with the same drifts given a random age, and with PPO, its
learning rate and clip tuned on the selection levels.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

import jaxrl as rl
from experiments import _discovery as lab
from experiments.discover_lpo import learner
from jaxrl.rules.lpo import LPO
from jaxrl.tree import replace

RESULTS = pathlib.Path(__file__).parent / "results"
NAMES = ("TA-LPO", "TA-LPO, age shuffled", "LPO", "PPO", "PPO, tuned", "no drift")
DIFFERENCES = {
    "gain_by_clock": ("TA-LPO", "LPO"),
    "loss_by_shuffling": ("TA-LPO", "TA-LPO, age shuffled"),
    "more_than_PPO": ("TA-LPO", "PPO"),
    "more_than_tuned_PPO": ("TA-LPO", "PPO, tuned"),
}
AGES = (0.0, 0.5, 1.0)  # of the slopes in the figure
RATIO = np.linspace(0.3, 2.0, 180)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    generations: int = 20
    evals: int = 2
    """number of evaluations on the selection levels"""
    seeds: int = 5
    """number of meta-seeds; all of them are reported"""
    population: int = 64
    lifetime: tuple[int, int] = (8, 32)
    """updates per lifetime, log-uniform range"""
    test_lifetimes: tuple[int, ...] = (4, 16, 64)
    sigma: float = 0.3
    lr: float = 0.1
    width: int = 16
    """hidden units of the drift network; the noise of its output is sigma times the root of it"""
    selection_levels: int = 64
    test_levels: int = 128
    rates: int = 3
    clips: int = 3
    """learning rates and clips of PPO in its grid, in all combinations"""
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_ta_lpo")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS
    rule: pathlib.Path | None = None
    """file for the drift with the best score on the selection levels, as a rule, with its agent"""


def evolution(config: Config) -> rl.Evolution:
    agent = learner(LPO.random(jax.random.key(1), config.width, knows_time=True, zero=True))
    inner = rl.InnerLoop(
        replace(agent, rule=lab.TimeConditioned(agent.rule)),
        ("weights",),
        config.lifetime,
        chunk=16,
    )
    return rl.Evolution(
        inner, rl.ES(lr=config.lr, sigma=config.sigma, population=config.population)
    )


def run(config: Config) -> tuple[dict[str, Any], xr.Dataset, list[Any]]:
    """Record, curves, and the agents of TA-LPO with the drifts that were found."""
    began, busy = time.monotonic(), time.process_time()
    search, tasks, seeds = evolution(config), lab.mini(), config.seeds
    over = {"age": jnp.array([1.0, 0.0])}
    results, found = lab.discover(
        search, config, "ta_lpo", tasks, chunk=jax.local_device_count(), over=over
    )
    spent = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }
    by_hand = replace(search.inner, learner=learner(rl.Clip()), meta_params=("lr", "clip"))
    test = lambda inner: lab.by_lifetime(inner, tasks, config.test_levels, config.test_lifetimes)
    drift, hand = test(replace(search.inner, meta_params=("weights", "age"))), test(by_hand)
    rates, clips = np.geomspace(0.03, 0.3, config.rates), np.geomspace(0.1, 0.4, config.clips)
    settings = [{"lr": float(lr), "clip": float(clip)} for lr in rates for clip in clips]
    best = lab.tuned(lab.scorer(by_hand, tasks, config.selection_levels), settings)
    of_drifts = lambda age, drifts: np.stack([drift(one | {"age": age}) for one in drifts])
    tests = (
        of_drifts(1.0, found[:seeds]),
        of_drifts(-1.0, found[:seeds]),
        of_drifts(0.0, found[seeds:]),
        hand({"lr": 0.3, "clip": 0.2})[None],
        hand({name: best[name] for name in ("lr", "clip")})[None],
        hand({"lr": 0.3, "clip": float("inf")})[None],
    )
    whole = [search.inner.with_params(one) for one in found[:seeds]]
    drifts = [agent.rule.rule.objective for agent in whole]
    config_shown = {
        name: x
        for name, x in dataclasses.asdict(config).items()
        if name not in ("runs", "folder", "rule")
    }
    record = {
        "scores": lab.summary_by_lifetime(
            dict(zip(NAMES, tests, strict=True)), config.test_lifetimes, DIFFERENCES
        ),
        "tuned": best,
        "slope_change": [change(one) for one in drifts],
        "with_compilation": spent,
        "config": config_shown,
        "curves": {
            name: np.round(results[name].values, 4).tolist()
            for name in ("return", "evaluation", "waste")
        },
        "step": results["step"].values.tolist(),
    }
    return (
        record | lab.card(results),
        results,
        [replace(agent, rule=agent.rule.rule) for agent in whole],
    )


def slope(objective: Any, advantage: float, age: float) -> jax.Array:
    """d objective / d ratio along `RATIO`, at age n / N. [num_ratios]."""
    aged = getattr(objective, "at", lambda clock: objective)(rl.Clock(jnp.float32(age), 1.0))
    return jax.vmap(jax.grad(lambda ratio: aged(ratio, jnp.float32(advantage))))(jnp.float32(RATIO))


def change(drift: LPO) -> dict[str, float]:
    """Mean absolute change of the slope between the begin and the end of a lifetime, and by the
    drift at half of it.
    """
    mean = lambda of: round(float(np.mean([jnp.abs(of(sign)).mean() for sign in (1.0, -1.0)])), 4)
    return {
        "over_life": mean(lambda sign: slope(drift, sign, 1.0) - slope(drift, sign, 0.0)),
        "by_drift": mean(lambda sign: slope(drift, sign, 0.5) - sign),
    }


def figure(record: dict[str, Any], results: xr.Dataset, drifts: list[LPO]) -> Any:
    """Curves on the selection levels, test scores by lifetime, and slopes of the drifts by age and
    of PPO.
    """
    panels = rl.plot.Picture(figsize=(15.0, 4.2), layout="constrained")
    left, middle, *right = panels.subplots(1, 2 + 2)
    for age, color, name in ((1.0, "C0", "TA-LPO"), (0.0, "C2", "LPO")):
        for i, curve in enumerate(results["evaluation"].sel(age=age).values):
            left.plot(record["step"], curve, color=color, alpha=0.7, label=name if i == 0 else None)
    left.set(
        xlabel="generation",
        ylabel="share of the optimum,\nselection levels",
        title="each line is a meta-seed",
    )
    left.legend(frameon=False)
    lab.lines(middle, record, NAMES)
    middle.legend(frameon=False, fontsize="small")
    for ax, sign in zip(right, (1.0, -1.0), strict=True):
        for i, age in enumerate(AGES):
            for j, drift in enumerate(drifts):
                label = f"found, n / N = {age:g}" if j == 0 else None
                ax.plot(RATIO, slope(drift, sign, age), color=f"C{i}", alpha=0.5, label=label)
        ax.plot(RATIO, slope(rl.Clip(), sign, 0.0), "k--", label="PPO")
        ax.set(
            xlabel="ratio",
            ylabel="slope of the objective",
            ylim=(-2.5, 2.5),
            title=f"advantage {sign:+.0f}",
        )
    right[0].legend(frameon=False, fontsize="small")
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    record, results, found = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "discover_ta_lpo.json").write_text(json.dumps(record, indent=1) + "\n")
    if config.rule is not None:
        number = lab.argbest(results["best_evaluation"].sel(age=1.0))
        lab.keep(
            config.rule,
            found[number],
            number,
            record,
            NAMES,
            "python -m experiments.discover_ta_lpo",
        )
    drifts = [agent.rule.objective for agent in found]
    figure(record, results, drifts).savefig(config.folder / "discover_ta_lpo.png", dpi=110)
    for lifetime, scores in record["scores"].items():
        print(
            lifetime,
            {name: row["mean"] if isinstance(row, dict) else row for name, row in scores.items()},
        )
    print("change of the slope", record["slope_change"])


if __name__ == "__main__":
    main(tyro.cli(Config))
