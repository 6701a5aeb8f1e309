"""An entropy bonus that adapts to a changing world: `python -m experiments.bootstrapped_entropy`.

Two-Colors (Flennerhag et al., 2022, section 5.1): which colour pays changes every `period` updates
of the learner. An actor-critic's entropy weight is what a small network makes of its last ten mean
rewards. Its weights are learnt online: by a bootstrapped meta-gradient, or by the plain one, whose
learning rates are chosen alike on other lives; beside them fixed weights. Regret is what one who
knows at each step which colour pays would have earned more, exactly: `envs.solve.best_rate`.

Every way lives equally long. What the meta-gradients play beside their lives, in copies of the
world, is theirs for nothing: two rollouts for every seven of the bootstrapped one's life, one for
every three of the plain one's.
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
START = 0.1  # of its limit: the entropy weight that an untrained network makes
NUM_ENVS, NUM_STEPS = 8, 16


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few of everything."""

    period: int = 315
    """updates of the learner between two changes of the colours; 128 steps each, in 8 worlds
    side by side
    """
    periods: int = 10
    seeds: int = 16
    """lives of each way"""
    meta_lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    tuning_seeds: int = 4
    """lives of each meta learning rate, other ones; 4 of 4 rates are 16, one program with the
    lives that count
    """
    rows: int = 15
    """of the curves, in each period"""
    side: int = 3
    """of the grid"""
    lr: float = 0.01
    fixed: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """entropy weights that do not adapt"""
    num_updates: int = 3
    """K, that are differentiated"""
    target: int = 5
    """L, updates of the bootstrap target"""
    outer_entropy: float = 0.12
    """the entropy bonus of the plain meta-gradient's own objective"""
    runs: pathlib.Path = pathlib.Path("runs/bootstrapped_entropy")
    """keeps the lives: the same command goes on from there"""
    folder: pathlib.Path = RESULTS


@pytree
class AdaptiveEntropy(lab.Wrapped):
    """An actor-critic whose entropy weight is limit * sigmoid(network of the last mean rewards)."""

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
        self, carry: jax.Array, out: Any, next_out: Any, batch: Any, clock: rl.Clock
    ) -> Any:
        seen = jnp.roll(carry, -1).at[-1].set(batch.reward.mean())
        hidden = jax.nn.relu(seen @ self.weights["hidden"] + self.weights["bias"])
        entropy_weight = self.limit * jax.nn.sigmoid(
            hidden @ self.weights["output"] + self.weights["shift"][0]
        )
        targets = self.rule.targets((), out, next_out, batch, clock)[1]
        return seen, (targets, jnp.broadcast_to(entropy_weight, batch.reward.shape))

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        targets, entropy_weight = targets
        own = replace(self.rule, entropy_weight=entropy_weight.mean())
        loss, told = own.loss(out, batch, targets, clock)
        return loss, told | {"entropy_weight": entropy_weight.mean(), "reward": batch.reward.mean()}


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


def ways(config: Config) -> dict[str, tuple[Any, int]]:
    """Each way to tune oneself, and how many updates of the learner's life one of its own is."""
    adaptive = learner(config.lr)
    truth = replace(adaptive, rule=replace(adaptive.rule, limit=0.0))
    bootstrap = rl.Bootstrap(truth, num_updates=config.target)
    online = lambda aim: rl.SelfTuning(
        adaptive, aim, meta_params=("weights",), num_updates=config.num_updates
    )
    return {
        "bootstrapped": (online(bootstrap), config.num_updates + config.target - 1),
        "meta-gradient": (
            online(rl.PolicyGradientObjective(entropy_weight=config.outer_entropy)),
            config.num_updates,
        ),
    }


def live(config: Config, algo: Any, each: int = 1) -> rl.Training:
    """A whole life of an algorithm whose update is `each` of its learner's."""
    env = envs.make(
        "TwoColors", period=config.period * NUM_STEPS, side=config.side, max_steps=10**9
    )
    steps = config.period * config.periods // each * algo.steps_per_update
    return rl.Training(algo, env, steps, config.rows * config.periods, episodes=0)


def run(config: Config) -> tuple[dict[str, xr.Dataset], dict[str, list[float]]]:
    """The curves of each way, and what each meta learning rate earned a step on the tuning
    seeds.
    """
    tuning_keys, keys = (
        jax.random.split(jax.random.key(seed), count)
        for seed, count in ((1, config.tuning_seeds), (0, config.seeds))
    )
    alone = live(config, learner(config.lr))
    still = lambda weight, life: tree.put(alone, {"algo.rule.limit": weight / START})(life)[1]
    found = rl.sweep(
        still, {"weight": jnp.array(config.fixed), "life": keys}, folder=config.runs / "fixed"
    )
    print("fixed", found["reward"].mean(("life", "step")).values, flush=True)
    fixed = {f"fixed {weight:g}": found.isel(weight=i) for i, weight in enumerate(config.fixed)}
    made, tuned = {}, {}
    for name, (algo, each) in ways(config).items():
        training = live(config, algo, each)
        grow = lambda lr, seed, training=training: replace(
            training, algo=replace(training.algo, lr=lr)
        )(seed)[1]
        lrs, best = jnp.array(config.meta_lrs), config.meta_lrs[0]
        if len(lrs) > 1:
            setting = rl.zipped(
                lr=jnp.repeat(lrs, len(tuning_keys)), seed=jnp.tile(tuning_keys, len(lrs))
            )
            found = rl.sweep(grow, {"setting": setting}, folder=config.runs / f"{name}_tuning")
            earned, best = choose(found["reward"].mean("step").values, lrs)
            tuned[name] = [round(float(x), 5) for x in earned]
        lives = rl.zipped(lr=jnp.full(len(keys), best), seed=keys)
        made[name] = rl.sweep(grow, {"life": lives}, folder=config.runs / name)
        print(name, tuned.get(name), float(made[name]["reward"].mean()), flush=True)
    return made | fixed, tuned


def choose(rewards: np.ndarray, lrs: Any) -> tuple[np.ndarray, Any]:
    """What the lives of each rate earned on average, and the rate of the most. rewards: [rates *
    lives], rate by rate.

    A rate with a life gone non-finite is never that.
    """
    earned = rewards.reshape(len(lrs), -1).mean(1)
    return earned, lrs[int(np.argmax(np.where(np.isfinite(earned), earned, -np.inf)))]


def score(config: Config, results: dict[str, xr.Dataset]) -> dict[str, Any]:
    """Regret of a step over the whole life, its interval over lives; and paired, how much less the
    bootstrapped one has.
    """
    best = float(jax.jit(best_rate)(envs.make("TwoColors", side=config.side)))
    regret = {name: best - one["reward"].mean("step").values for name, one in results.items()}
    told = lambda found: [round(float(x), 5) for x in found]
    return {
        name: {
            "regret": told(rl.stats.interval(life, rl.stats.iqm)),
            "more_than_bootstrapped": told(
                rl.stats.paired_difference(life, regret["bootstrapped"], rl.stats.iqm)
            ),
            "entropy_weight": round(float(results[name]["entropy_weight"].mean()), 4),
        }
        for name, life in regret.items()
    } | {"best rate": round(best, 5)}


def figure(results: dict[str, xr.Dataset], config: Config) -> Any:
    """Reward and entropy weight by age, means over lives; dotted where the colours change."""
    panels = rl.plot.Picture(figsize=(10.5, 5.4), layout="constrained")
    top, bottom = panels.subplots(2, 1, sharex=True)
    fixed = itertools.cycle(
        itertools.product(("0.7", "0.35"), ("-", "--"))
    )  # a grey and a line style for each weight
    for i, (name, one) in enumerate(results.items()):
        rows = one.sizes["step"]
        age = (np.arange(rows) + 0.5) / rows * config.periods
        style: dict[str, Any] = {"color": f"C{i}", "zorder": 3}
        if name.startswith("fixed"):
            style = dict(zip(("color", "linestyle"), next(fixed), strict=True)) | {"linewidth": 1.2}
        top.plot(age, one["reward"].mean("life"), label=name, **style)
        bottom.plot(age, one["entropy_weight"].mean("life"), **style)
    for ax, label in (
        (top, "reward a step, mean over lives"),
        (bottom, "entropy weight, mean over lives"),
    ):
        ax.set_ylabel(label)
        for change in range(1, config.periods):
            ax.axvline(change, color="0.85", linestyle=":", zorder=0)
    bottom.set(
        xlabel=f"changes of the colours, {config.period * NUM_ENVS * NUM_STEPS:,} steps apart",
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
