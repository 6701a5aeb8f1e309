"""A whole update rule evolved from zero that knows its age: `python -m experiments.discover_ta_lpg`.

TA-LPG (Jackson et al., 2024) in small: a GRU of 32 units reads a tabular learner's rollout backward and says what to
reinforce and what to predict; all its weights begin at 0, and lifetimes are 10 to 60 updates. Then test levels, at
lifetimes seen and unseen, beside A2C, whose learning rate is tuned on the selection levels, and beside the same rule told a
random age.
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
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results"
CONFIG = (
    "generations", "evals", "seeds", "population", "lifetime", "sigma", "lr", "lr_decay", "size", "selection_levels",
    "test_levels", "first_seed",
)  # fmt: skip
NAMES = ("TA-LPG", "TA-LPG, age shuffled", "A2C, tuned", "random policy")
ADAM = rl.Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-16})


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few of everything."""

    generations: int = 150
    evals: int = 15
    """times that the selection levels are asked"""
    seeds: int = 5
    """meta-seeds, all of them reported"""
    population: int = 64
    lifetime: tuple[int, int] = (10, 60)
    """updates, log-uniform between these"""
    test_lifetimes: tuple[int, ...] = (8, 30, 60, 120)
    sigma: float = 0.1
    lr: float = 0.03
    lr_decay: float = 0.998
    size: int = 32
    """of the GRU"""
    selection_levels: int = 64
    test_levels: int = 128
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_ta_lpg")
    """keeps the lives: the same command goes on from there"""
    folder: pathlib.Path = RESULTS
    rule: pathlib.Path | None = None
    """where the rule that the selection levels like best is kept, with the agent that it was made for"""


@pytree
class WrongAge:
    """The control: the same rule, told at each update that it is another, drawn anew, of the same life."""

    rule: Any

    action_spaces = LPG.action_spaces

    @property
    def heads(self) -> dict[str, int]:
        return self.rule.heads

    @property
    def gamma(self) -> Any:
        return self.rule.gamma

    def init(self, key: jax.Array, params: Any) -> Any:
        return self.rule.init(key, params)

    def targets(self, carry: Any, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        key = jax.random.fold_in(jax.random.key(0), clock.n)
        n = jnp.floor(jax.random.uniform(key) * clock.total).astype(jnp.int32)
        return self.rule.targets(carry, out, next_out, batch, rl.Clock(n, clock.total))

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        return self.rule.loss(out, batch, targets, clock)


def learner(rule: Any, lr: float, optimizer: Any) -> rl.OnPolicy:
    return rl.OnPolicy(
        rule, lr=lr, schedule=rl.Constant(), num_envs=16, num_steps=20, epochs=1, minibatches=1, optimizer=optimizer,
        network=rl.Table(lab.mini().levels.num_states),
    )  # fmt: skip


def evolution(config: Config) -> rl.Evolution:
    rule = LPG.random(jax.random.key(1), config.size, knows_time=True)
    rule = replace(rule, weights=jax.tree.map(jnp.zeros_like, rule.weights))
    strategy = rl.ES(lr=config.lr, sigma=config.sigma, lr_decay=config.lr_decay, population=config.population)
    agent = learner(rule, 40.0, rl.Optimizer(optax.sgd))  # the tabular agent of Oh et al. (2020): SGD at 40, norm 0.5
    return rl.Evolution(rl.Lives(agent, tunes=("weights",), lifetime=config.lifetime, chunk=16), strategy)


def run(config: Config) -> tuple[dict[str, Any], xr.Dataset, list[Any]]:
    """The record, the curves, and what was found."""
    began, busy = time.monotonic(), time.process_time()
    search, tasks = evolution(config), lab.mini()
    one_each = jax.local_device_count()  # to each device: a program of several seeds takes half as long again to compile
    results, found = lab.discover(search, config, "ta_lpg", tasks, chunk=one_each)
    spent = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - busy, 1)}
    shown = search.lives.learner
    told_wrong = replace(search.lives, learner=replace(shown, rule=WrongAge(shown.rule)))
    simple = replace(search.lives, learner=learner(rl.Surrogate(rl.PolicyGradient()), 0.3, ADAM), tunes=("lr",))
    scorer = lambda lives: lab.by_lifetime(lives, tasks, config.test_levels, config.test_lifetimes)
    rule, wrong, hand = (scorer(lives) for lives in (search.lives, told_wrong, simple))
    best = lab.tuned(hand, [{"lr": lr} for lr in (0.03, 0.1, 0.3, 1.0)])
    each = np.stack([rule(one) for one in found])
    control = np.stack([wrong(one) for one in found])
    by_hand, random = hand({"lr": best["lr"]})[None], hand({"lr": 0.0})[None]
    scores: dict[str, dict[str, Any]] = {}
    for i, lifetime in enumerate(config.test_lifetimes):
        scores[str(lifetime)] = {
            **{name: lab.summary(x[:, i]) for name, x in zip(NAMES, (each, control, by_hand, random), strict=True)},
            "less_than_A2C": lab.compare(each[:, i], by_hand[:, i]),
            "loss_by_shuffling": lab.compare(each[:, i], control[:, i]),
        }
    return (
        {
            "scores": scores,
            "tuned": best,
            "with_compilation": spent,
            "config": {name: getattr(config, name) for name in CONFIG},
            "curves": {name: np.round(results[name].values, 4).tolist() for name in ("return", "evaluation", "waste")},
            "step": results["step"].values.tolist(),
        }
        | lab.card(results),
        results,
        [search.lives.with_params(one) for one in found],
    )


def figure(record: dict[str, Any], results: xr.Dataset) -> Any:
    """The selection levels' curves, and the test by lifetime."""
    panels = rl.plot.Picture(figsize=(10.5, 3.8), layout="constrained")
    left, right = panels.subplots(1, 2)
    for curve in results["evaluation"].values:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    left.set(xlabel="generation", ylabel="share of the optimum,\nselection levels", title="each line is a meta-seed")
    by_lifetime = record["scores"]
    lifetimes = [int(name) for name in by_lifetime]
    for i, name in enumerate(NAMES):
        mean, low, high = np.array([scores[name]["mean"] for scores in by_lifetime.values()]).T
        right.errorbar(lifetimes, mean, [mean - low, high - mean], label=name, color=f"C{i}", marker="o", capsize=3)
    right.set(
        xscale="log", xlabel="lifetime, updates (10 to 60 were trained on)", ylabel="share of the optimum, test levels"
    )
    right.set_xticks(lifetimes, [str(lifetime) for lifetime in lifetimes])
    right.minorticks_off()
    panels.legend(loc="outside lower center", ncols=len(NAMES), frameon=False)
    return panels


def keep(path: pathlib.Path, agent: Any, number: int, record: dict[str, Any]) -> None:
    """An agent's rule as a file, with what was measured of the meta-seed that it is of."""
    made = {
        "license": "Apache-2.0",
        "levels": "LPGGrid-tiny, lives of {} to {} updates".format(*record["config"]["lifetime"]),
        "command": "python -m experiments.discover_ta_lpg",
        "config": record["config"],
        "seeds": [number],
        "cost": record["with_compilation"],
    }
    scores = {
        f"lives of {lifetime} updates": {name: told[name]["mean"] for name in NAMES}
        | {"each meta-seed": told[NAMES[0]]["each_mean"], "this": told[NAMES[0]]["each_mean"][number]}
        for lifetime, told in record["scores"].items()
    }
    note = "Shares of the optimum on test levels, mean and 95 % interval."
    rl.save_rule(path, agent.rule, agent=agent, scores=scores, note=note, versions=record["versions"], **made)


def main(config: Config) -> None:
    rl.use_all_cores()
    record, results, found = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "discover_ta_lpg.json").write_text(json.dumps(record, indent=1) + "\n")
    if config.rule is not None:
        number = int(np.argmax(results["best_evaluation"].values))
        keep(config.rule, found[number], number, record)
    figure(record, results).savefig(config.folder / "discover_ta_lpg.png", dpi=110)
    for lifetime, scores in record["scores"].items():
        print(lifetime, {name: told["mean"] for name, told in scores.items() if isinstance(told, dict)})


if __name__ == "__main__":
    main(tyro.cli(Config))
