"""An entropy weight that adapts to a changing environment: `python -m
experiments.bootstrapped_entropy`.

Two-Colors (Flennerhag et al., 2022, section 5.1): the signs of the two colours are swapped every
`period` updates of the learner. The entropy weight of an actor-critic is the output of a small
network that reads the last ten mean rewards. The weights of the network are learned online, by a
bootstrapped meta-gradient or by the plain one, with learning rates chosen in the same way on
separate runs; baselines are fixed entropy weights. Regret is exact: the difference to the optimal
reward of a policy that knows the signs at each step, `envs.solve.best_rate`.

All methods are trained for the same number of updates. The rollouts that the meta-gradients play
in copies of the environment are not counted: two per seven of the learner's for the bootstrapped
one, one per three for the plain one.
"""

import dataclasses
import itertools
import json
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
import xarray as xr

import envs
import jaxrl as rl
from envs.solve import best_rate
from experiments import _discovery as lab
from jaxrl import tree
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results"
WINDOW = 10
START = 0.1  # entropy weight of an untrained network, as a fraction of its limit
NUM_ENVS, NUM_STEPS = 8, 16


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    period: int = 315
    """updates of the learner between two swaps of the colours; 128 steps each, in 8 environments
    at once
    """
    periods: int = 10
    seeds: int = 16
    """number of training runs of each method"""
    meta_lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    tuning_seeds: int = 4
    """separate training runs of each meta learning rate; 4 for each of 4 rates are 16, as many as
    those that are reported, which makes it the same program
    """
    rows: int = 15
    """points of the curves in each period"""
    side: int = 3
    """side of the grid"""
    lr: float = 0.01
    fixed: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """fixed entropy weights"""
    num_updates: int = 3
    """K, the updates that are differentiated"""
    target: int = 5
    """L, the updates of the bootstrap target"""
    outer_entropy: float = 0.12
    """entropy weight in the objective of the plain meta-gradient"""
    runs: pathlib.Path = pathlib.Path("runs/bootstrapped_entropy")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS


@pytree
class AdaptiveEntropy(lab.WrappedRule):
    """An actor-critic with the entropy weight limit * sigmoid(network of the last mean rewards)."""

    weights: dict[str, jax.Array]
    rule: Any
    limit: float = 1.0

    @classmethod
    def random(cls, key: jax.Array, rule: Any, width: int = 32) -> "AdaptiveEntropy":
        zeros = {"bias": jnp.zeros(width), "output": jnp.zeros(width)}
        hidden = jax.random.normal(key, (WINDOW, width)) * WINDOW**-0.5
        return cls(
            {"hidden": hidden, "shift": jnp.full(1, math.log(START / (1 - START)))} | zeros, rule
        )

    def init(self, key: jax.Array, params: Any) -> jax.Array:
        return jnp.zeros(WINDOW)

    def targets(
        self, rule_state: jax.Array, out: Any, next_out: Any, batch: Any, clock: rl.Clock
    ) -> Any:
        rewards = jnp.roll(rule_state, -1).at[-1].set(batch.reward.mean())
        hidden = jax.nn.relu(rewards @ self.weights["hidden"] + self.weights["bias"])
        entropy_weight = self.limit * jax.nn.sigmoid(
            hidden @ self.weights["output"] + self.weights["shift"][0]
        )
        targets = self.rule.targets((), out, next_out, batch, clock)[1]
        return rewards, (targets, jnp.broadcast_to(entropy_weight, batch.reward.shape))

    def post_update(self, rule_state: Any, params: Any, forward: Any, targets: Any) -> Any:
        return rule_state

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        targets, entropy_weight = targets
        rule = replace(self.rule, entropy_weight=entropy_weight.mean())
        loss, metrics = rule.loss(out, batch, targets, clock)
        reported = {"entropy_weight": entropy_weight.mean(), "reward": batch.reward.mean()}
        return loss, metrics | reported


def learner(lr: float) -> rl.OnPolicy:
    critic = rl.Surrogate(rl.PolicyGradient(), normalize_advantage=False)
    return rl.OnPolicy(
        AdaptiveEntropy.random(jax.random.key(0), critic),
        lr=lr,
        schedule=rl.Constant(),
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        epochs=1,
        minibatches=1,
        max_grad_norm=1e9,
        optimizer=rl.Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-12}),
        network=rl.MLP((32,), activation=jax.nn.relu),
    )


def methods(config: Config) -> dict[str, tuple[Any, int]]:
    """Self-tuning algorithms, each with the number of learner updates in one of its updates."""
    adaptive = learner(config.lr)
    target_learner = replace(adaptive, rule=replace(adaptive.rule, limit=0.0))
    bootstrap = rl.Bootstrap(target_learner, num_updates=config.target)
    online = lambda meta_objective: rl.SelfTuning(
        adaptive, meta_objective, meta_params=("weights",), num_updates=config.num_updates
    )
    return {
        "bootstrapped": (online(bootstrap), config.num_updates + config.target - 1),
        "meta-gradient": (
            online(rl.PolicyGradientObjective(entropy_weight=config.outer_entropy)),
            config.num_updates,
        ),
    }


def training_of(config: Config, algo: Any, each: int = 1) -> rl.Training:
    """Return the training run of an algorithm that has `each` learner updates per update."""
    env = envs.make(
        "TwoColors", period=config.period * NUM_STEPS, side=config.side, max_steps=10**9
    )
    steps = config.period * config.periods // each * algo.steps_per_update
    return rl.Training(algo, env, steps, config.rows * config.periods, episodes=0)


def run(config: Config) -> tuple[dict[str, xr.Dataset], dict[str, list[float]]]:
    """Curves of each method, and the mean reward per step of each meta learning rate on the tuning
    seeds.
    """
    tuning_keys, keys = (
        jax.random.split(jax.random.key(seed), count)
        for seed, count in ((1, config.tuning_seeds), (0, config.seeds))
    )
    alone = training_of(config, learner(config.lr))
    train_fixed = lambda weight, life: tree.put(alone, {"algo.rule.limit": weight / START})(life)[1]
    found = rl.sweep(
        train_fixed,
        {"weight": jnp.array(config.fixed), "life": keys},
        folder=config.runs / "fixed",
    )
    print("fixed", found["reward"].mean(("life", "step")).values, flush=True)
    fixed = {f"fixed {weight:g}": found.isel(weight=i) for i, weight in enumerate(config.fixed)}
    curves, tuned = {}, {}
    for name, (algo, each) in methods(config).items():
        training = training_of(config, algo, each)
        train = lambda lr, seed, training=training: replace(
            training, algo=replace(training.algo, lr=lr)
        )(seed)[1]
        lrs, best = jnp.array(config.meta_lrs), config.meta_lrs[0]
        if len(lrs) > 1:
            setting = rl.zipped(
                lr=jnp.repeat(lrs, len(tuning_keys)), seed=jnp.tile(tuning_keys, len(lrs))
            )
            found = rl.sweep(train, {"setting": setting}, folder=config.runs / f"{name}_tuning")
            rewards, best = choose(found["reward"].mean("step").values, lrs)
            tuned[name] = [round(float(x), 5) for x in rewards]
        runs = rl.zipped(lr=jnp.full(len(keys), best), seed=keys)
        curves[name] = rl.sweep(train, {"life": runs}, folder=config.runs / name)
        print(name, tuned.get(name), float(curves[name]["reward"].mean()), flush=True)
    return curves | fixed, tuned


def choose(rewards: np.ndarray, lrs: Any) -> tuple[np.ndarray, Any]:
    """Mean reward of each rate, and the best rate; a rate with a non-finite run is never the best.

    rewards: [rates * runs], rate by rate.
    """
    means = rewards.reshape(len(lrs), -1).mean(1)
    return means, lrs[int(np.argmax(np.where(np.isfinite(means), means, -np.inf)))]


def score(config: Config, results: dict[str, xr.Dataset]) -> dict[str, Any]:
    """Mean regret per step with its interval over runs, and the paired differences to that of the
    bootstrapped method.
    """
    best = float(jax.jit(best_rate)(envs.make("TwoColors", side=config.side)))
    regret = {name: best - one["reward"].mean("step").values for name, one in results.items()}
    rounded = lambda score: [round(float(x), 5) for x in score]
    return {
        name: {
            "regret": rounded(rl.stats.interval(x, rl.stats.iqm)),
            "more_than_bootstrapped": rounded(
                rl.stats.paired_difference(x, regret["bootstrapped"], rl.stats.iqm)
            ),
            "entropy_weight": round(float(results[name]["entropy_weight"].mean()), 4),
        }
        for name, x in regret.items()
    } | {"best rate": round(best, 5)}


def figure(results: dict[str, xr.Dataset], config: Config) -> Any:
    """Mean reward and entropy weight over runs by age, with a dotted line at each swap."""
    panels = rl.plot.Picture(figsize=(10.5, 5.4), layout="constrained")
    top, bottom = panels.subplots(2, 1, sharex=True)
    # a grey and a line style for each weight
    fixed = itertools.cycle(itertools.product(("0.7", "0.35"), ("-", "--")))
    for i, (name, one) in enumerate(results.items()):
        rows = one.sizes["step"]
        age = (np.arange(rows) + 0.5) / rows * config.periods
        style: dict[str, Any] = {"color": f"C{i}", "zorder": 3}
        if name.startswith("fixed"):
            style = dict(zip(("color", "linestyle"), next(fixed), strict=True)) | {"linewidth": 1.2}
        top.plot(age, one["reward"].mean("life"), label=name, **style)
        bottom.plot(age, one["entropy_weight"].mean("life"), **style)
    for ax, label in (
        (top, "reward per step, mean over runs"),
        (bottom, "entropy weight, mean over runs"),
    ):
        ax.set_ylabel(label)
        for change in range(1, config.periods):
            ax.axvline(change, color="0.85", linestyle=":", zorder=0)
    bottom.set(
        xlabel=f"swaps of the colours, {config.period * NUM_ENVS * NUM_STEPS:,} steps apart",
        yscale="log",
    )
    top.legend(frameon=False, ncols=3)
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    began = time.process_time()
    results, tuned = run(config)
    card = {
        key: json.loads(next(iter(results.values())).attrs[key]) for key in ("versions", "machine")
    }
    settings = {
        name: x for name, x in dataclasses.asdict(config).items() if name not in ("runs", "folder")
    }
    record = {"scores": score(config, results), "reward_by_meta_lr": tuned, "config": settings}
    record["cpu_seconds"] = round(time.process_time() - began)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "bootstrapped_entropy.json").write_text(
        json.dumps(record | card, indent=1) + "\n"
    )
    figure(results, config).savefig(config.folder / "bootstrapped_entropy.png", dpi=110)
    print(json.dumps(record["scores"], indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
