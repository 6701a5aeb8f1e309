"""A temporally aware update rule evolved from zero: `python -m experiments.discover_ta_lpg`.

A small version of TA-LPG (Jackson et al., 2024): a GRU of 32 units reads the rollout of a tabular
learner backward, and outputs targets for the policy and for the predictions. All its weights are
initially 0; lifetimes are 10 to 60 updates. It is then compared on test levels, at lifetimes inside
and outside of that range, with A2C, its learning rate tuned on the selection levels, and with
the same rule given a random age.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
import xarray as xr

import jaxrl as rl
from experiments import _discovery as lab
from jaxrl.rules.lpg import LPG
from jaxrl.tree import replace

RESULTS = pathlib.Path(__file__).parent / "results"
CONFIG = (
    "generations",
    "evals",
    "seeds",
    "population",
    "lifetime",
    "sigma",
    "lr",
    "lr_decay",
    "size",
    "selection_levels",
    "test_levels",
    "first_seed",
)
NAMES: tuple[str, ...] = ("TA-LPG", "TA-LPG, age shuffled", "A2C, tuned", "random policy")
ADAM = rl.Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-16})


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    generations: int = 150
    evals: int = 15
    """number of evaluations on the selection levels"""
    seeds: int = 5
    """number of meta-seeds; all of them are reported"""
    population: int = 64
    lifetime: tuple[int, int] = (10, 60)
    """updates per lifetime, log-uniform range"""
    test_lifetimes: tuple[int, ...] = (8, 30, 60, 120)
    sigma: float = 0.1
    lr: float = 0.03
    lr_decay: float = 0.998
    size: int = 32
    """units of the GRU"""
    selection_levels: int = 64
    test_levels: int = 128
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_ta_lpg")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS
    rule: pathlib.Path | None = None
    """file for the rule with the best score on the selection levels, with its agent"""


def learner(rule: Any, lr: float, optimizer: Any) -> rl.OnPolicy:
    return rl.OnPolicy(
        rule,
        lr=lr,
        schedule=rl.Constant(),
        num_envs=16,
        num_steps=20,
        epochs=1,
        minibatches=1,
        optimizer=optimizer,
        network=rl.Table(lab.mini().levels.num_states),
    )


def evolution(config: Config) -> rl.Evolution:
    rule = LPG.random(jax.random.key(1), config.size, knows_time=True)
    rule = replace(rule, weights=jax.tree.map(jnp.zeros_like, rule.weights))
    strategy = rl.ES(
        lr=config.lr, sigma=config.sigma, lr_decay=config.lr_decay, population=config.population
    )
    # the tabular agent of Oh et al. (2020): SGD with learning rate 40, gradient norm at most 0.5
    agent = learner(rule, 40.0, rl.Optimizer(optax.sgd))
    return rl.Evolution(
        rl.InnerLoop(agent, meta_params=("weights",), lifetime=config.lifetime, chunk=16), strategy
    )


def run(config: Config) -> tuple[dict[str, Any], xr.Dataset, list[Any]]:
    """Record, curves, and agents with the rules that were found."""
    began, busy = time.monotonic(), time.process_time()
    search, tasks = evolution(config), lab.mini()
    # one seed per device: several take 1.5 times as long to compile
    one_each = jax.local_device_count()
    results, found = lab.discover(search, config, "ta_lpg", tasks, chunk=one_each)
    spent = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }
    inner: Any = search.inner
    shuffled = replace(
        inner, learner=replace(inner.learner, rule=lab.TimeConditioned(inner.learner.rule, -1.0))
    )
    simple = replace(
        inner,
        learner=learner(rl.Surrogate(rl.PolicyGradient()), 0.3, ADAM),
        meta_params=("lr",),
    )
    scorer = lambda x: lab.by_lifetime(x, tasks, config.test_levels, config.test_lifetimes)
    rule, wrong, hand = (scorer(x) for x in (inner, shuffled, simple))
    best = lab.tuned(hand, [{"lr": lr} for lr in (0.03, 0.1, 0.3, 1.0)])
    each, control = (np.stack([score(one) for one in found]) for score in (rule, wrong))
    by_hand, random = hand({"lr": best["lr"]})[None], hand({"lr": 0.0})[None]
    tests = dict(zip(NAMES, (each, control, by_hand, random), strict=True))
    differences = {"less_than_A2C": (NAMES[0], NAMES[2]), "loss_by_shuffling": (NAMES[0], NAMES[1])}
    return (
        {
            "scores": lab.summary_by_lifetime(tests, config.test_lifetimes, differences),
            "tuned": best,
            "with_compilation": spent,
            "config": {name: getattr(config, name) for name in CONFIG},
            "curves": {
                name: np.round(results[name].values, 4).tolist()
                for name in ("return", "evaluation", "waste")
            },
            "step": results["step"].values.tolist(),
        }
        | lab.card(results),
        results,
        [search.inner.with_params(one) for one in found],
    )


def figure(record: dict[str, Any], results: xr.Dataset) -> Any:
    """Curves on the selection levels, and test scores by lifetime."""
    panels = rl.plot.Picture(figsize=(10.5, 3.8), layout="constrained")
    left, right = panels.subplots(1, 2)
    for curve in results["evaluation"].values:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    left.set(
        xlabel="generation",
        ylabel="share of the optimum,\nselection levels",
        title="each line is a meta-seed",
    )
    lab.lines(right, record, NAMES)
    panels.legend(loc="outside lower center", ncols=len(NAMES), frameon=False)
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    record, results, found = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "discover_ta_lpg.json").write_text(json.dumps(record, indent=1) + "\n")
    if config.rule is not None:
        number = lab.argbest(results["best_evaluation"])
        lab.keep(
            config.rule,
            found[number],
            number,
            record,
            NAMES,
            "python -m experiments.discover_ta_lpg",
        )
    figure(record, results).savefig(config.folder / "discover_ta_lpg.png", dpi=110)
    for lifetime, scores in record["scores"].items():
        print(
            lifetime,
            {name: row["mean"] for name, row in scores.items() if isinstance(row, dict)},
        )


if __name__ == "__main__":
    main(tyro.cli(Config))
