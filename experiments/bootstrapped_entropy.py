"""An entropy bonus that adapts to a changing world: `python -m experiments.bootstrapped_entropy`.

Two-Colors (Flennerhag et al., 2022, section 5.1): which colour pays changes every `period` steps. An actor-critic's entropy
weight is what a small network makes of its last ten mean rewards. Its weights are learnt online: by a bootstrapped
meta-gradient, or by the plain one; beside them fixed entropy weights, of which the best is named. Regret is what one who
knows at each step which colour pays would have earned more, exactly: `envs.solve.best_rate`.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
import xarray as xr

import envs
import jaxrl as rl
from envs.solve import best_rate
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results"
WINDOW = 10
START = 0.1  # of its limit: the entropy weight that an untrained network makes


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few of everything."""

    steps: int = 400_000
    period: int = 20_000
    seeds: int = 16
    """lives of each way"""
    evals: int = 80
    fixed: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """entropy weights that do not adapt"""
    meta_lr: float = 5e-3
    num_updates: int = 7
    """K, that are differentiated"""
    target: int = 9
    """L, updates of the bootstrap target"""
    folder: pathlib.Path = RESULTS


@pytree
class AdaptiveEntropy:
    """An actor-critic whose entropy weight is limit * sigmoid(network of the last mean rewards)."""

    weights: dict[str, jax.Array]
    actor_critic: Any
    limit: float = 1.0

    @classmethod
    def random(cls, key: jax.Array, actor_critic: Any, width: int = 32) -> "AdaptiveEntropy":
        zeros = {"bias": jnp.zeros(width), "output": jnp.zeros(width)}
        hidden = jax.random.normal(key, (WINDOW, width)) * WINDOW**-0.5
        return cls({"hidden": hidden, "shift": jnp.full(1, math.log(START / (1 - START)))} | zeros, actor_critic)

    @property
    def heads(self) -> dict[str, int]:
        return self.actor_critic.heads

    @property
    def gamma(self) -> Any:
        return self.actor_critic.gamma

    def init(self, key: jax.Array, params: Any) -> jax.Array:
        return jnp.zeros(WINDOW)

    def targets(self, carry: jax.Array, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        seen = jnp.roll(carry, -1).at[-1].set(batch.reward.mean())
        hidden = jax.nn.relu(seen @ self.weights["hidden"] + self.weights["bias"])
        entropy_weight = self.limit * jax.nn.sigmoid(hidden @ self.weights["output"] + self.weights["shift"][0])
        targets = self.actor_critic.targets((), out, next_out, batch, clock)[1]
        return seen, (targets, jnp.broadcast_to(entropy_weight, batch.reward.shape))

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        targets, entropy_weight = targets
        own = replace(self.actor_critic, entropy_weight=entropy_weight.mean())
        loss, told = own.loss(out, batch, targets, clock)
        return loss, told | {"entropy_weight": entropy_weight.mean(), "reward": batch.reward.mean()}


def learner(rule: Any) -> rl.OnPolicy:
    return rl.OnPolicy(
        rule, lr=0.1, schedule=rl.Constant(), num_envs=1, num_steps=16, epochs=1, minibatches=1, max_grad_norm=1e9,
        optimizer=rl.Optimizer(optax.sgd), network=rl.MLP((64,), activation=jax.nn.relu),
    )  # fmt: skip


def ways(config: Config) -> dict[str, Any]:
    """Every way to have an entropy weight, as an algorithm."""
    critic = rl.Surrogate(rl.PolicyGradient(), lam=1.0, normalize_advantage=False)
    adaptive = learner(AdaptiveEntropy.random(jax.random.key(0), critic))
    truth = replace(adaptive, rule=replace(adaptive.rule, limit=0.0))
    meta = {"lr": config.meta_lr, "tunes": ("weights",), "num_updates": config.num_updates}
    fixed = lambda weight: replace(adaptive, rule=replace(adaptive.rule, limit=weight / START))
    return {
        "bootstrapped": rl.Online(adaptive, rl.Bootstrap(truth, num_updates=config.target), **meta),
        "meta-gradient": rl.Online(adaptive, rl.Gain(), **meta),
        **{f"fixed {weight:g}": fixed(weight) for weight in config.fixed},
    }


def run(config: Config) -> dict[str, xr.Dataset]:
    """The curves of each way."""
    env = envs.make("TwoColors", period=config.period, max_steps=max(1_000_000, 2 * config.steps))
    keys = jax.random.split(jax.random.key(0), config.seeds)
    made = {}
    for name, algo in ways(config).items():
        made[name] = rl.sweep(rl.Training(algo, env, config.steps, config.evals, episodes=0), {"seed": keys})
        print(f"{name}: {float(made[name]['reward'].mean()):.4f} a step", flush=True)
    return made


def score(results: dict[str, xr.Dataset]) -> dict[str, Any]:
    """Reward a step over the whole life, its interval over lives, and the mean regret of a step."""
    best = float(jax.jit(best_rate)(envs.make("TwoColors")))
    rows = {}
    for name, one in results.items():
        life = one["reward"].mean("step").values
        found = rl.stats.interval(life, rl.stats.iqm) if len(life) > 1 else [life.item()] * 3
        rows[name] = {"reward": [round(float(x), 5) for x in found], "regret": round(best - float(life.mean()), 5)}
    return rows


def figure(results: dict[str, xr.Dataset], config: Config) -> Any:
    """Reward and entropy weight over the life; dotted where the colours change."""
    panels = rl.plot.Picture(figsize=(10.5, 5.4), layout="constrained")
    top, bottom = panels.subplots(2, 1, sharex=True)
    for name, one in results.items():
        style = {"color": "0.75"} if name.startswith("fixed") else {}
        top.plot(one["step"], one["reward"].mean("seed"), label=name, **style)
        bottom.plot(one["step"], one["entropy_weight"].mean("seed"), **style)
    for ax, label in ((top, "reward a step"), (bottom, "entropy weight")):
        ax.set_ylabel(label)
        for change in range(config.period, config.steps, config.period):
            ax.axvline(change, color="0.85", linestyle=":", zorder=0)
    bottom.set_xlabel("environment steps")
    top.legend(frameon=False, ncols=3)
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    results = run(config)
    card = {key: json.loads(next(iter(results.values())).attrs[key]) for key in ("versions", "machine")}
    record = {"scores": score(results), "config": {n: getattr(config, n) for n in ("steps", "period", "seeds", "meta_lr")}}
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "bootstrapped_entropy.json").write_text(json.dumps(record | card, indent=1) + "\n")
    figure(results, config).savefig(config.folder / "bootstrapped_entropy.png", dpi=110)
    print(json.dumps(record["scores"], indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
