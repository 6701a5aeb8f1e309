"""What the discoveries share: small grid worlds as tasks, a control without a signal, and tests on levels kept apart.

Levels are drawn with continuous rewards from three separate streams of keys: those of the generations (from the meta-seed),
those that choose a checkpoint (`jaxrl.meta.lives.SELECTION`) and those of the test (`TEST`).
"""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import jaxrl as rl
from envs.levels import distribution
from envs.solve import optimal_return
from jaxrl.meta.lives import SELECTION
from jaxrl.tree import pytree, static

TEST = 0x7E57


@pytree
class Shares:
    """Levels whose score is the return as a share of the best there is; where that is nothing, 1 less what was lost."""

    levels: Any

    def sample(self, key: jax.Array) -> Any:
        return self.levels.sample(key)

    def score(self, env: Any, ret: jax.Array) -> jax.Array:
        best = optimal_return(env)
        return jnp.where(best > 0.01, ret / jnp.maximum(best, 0.01), 1.0 + ret - best)


def mini() -> Shares:
    """Grids of up to 5 x 5 with one or two objects, 100 states, 50 steps."""
    return Shares(distribution("LPGGrid-tiny", one_hot=False))


@pytree
class Blind:
    """The negative control: the same strategy for as many generations, told random numbers in place of the fitness."""

    evolution: Any
    steps_per_update: int = static(default=1)

    def init(self, key: jax.Array, env: Any, num_updates: Any = float("inf")) -> Any:
        return self.evolution.init(key, env, num_updates)

    def update(self, key: jax.Array, env: Any, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        key_ask, key_luck = jax.random.split(key)
        strategy = self.evolution.strategy
        state, told = strategy.tell(key_ask, state, jax.random.normal(key_luck, (strategy.members,)))
        return state, {"return": told.pop("fitness"), "length": jnp.float32(0), "episodes": jnp.int32(1)} | told

    def judge(self, key: jax.Array, env: Any, state: Any, episodes: int) -> jax.Array:
        return self.evolution.judge(key, env, state, episodes)


def discover(algo: Any, config: Any, name: str, tasks: Any, chunk: int | None = None) -> tuple[xr.Dataset, list[Any]]:
    """Every meta-seed's curves, and what each found, as it was when the selection levels liked it best."""
    training = rl.Training(algo, tasks, config.generations, config.evals, config.selection_levels)
    folder = config.runs / name
    keys = jax.random.split(jax.random.key(config.first_seed), config.seeds)
    results = rl.sweep(training, {"seed": keys}, folder=folder, keep_best=True, chunk=chunk)
    return results, [rl.policy(folder, training, kept="best", seed=i).state.params for i in range(config.seeds)]


def scorer(lives: rl.Lives, tasks: Any, levels: int) -> Callable[[Any], np.ndarray]:
    """Parameters to their scores on the test levels, the same ones and the same luck for all. [levels]."""
    run = jax.jit(lambda seed, params: lives.scores(jax.random.key(seed), tasks, params, levels))
    return lambda params, seed=TEST: np.asarray(run(seed, params))


def by_lifetime(lives: rl.Lives, tasks: Any, levels: int, lifetimes: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Parameters to their scores after lives of each length, on the same levels for all. [lifetimes, levels]."""

    @jax.jit
    def run(seed: Any, params: Any) -> jax.Array:
        key_level, key_life = jax.random.split(jax.random.key(seed))

        def life(n: jax.Array, lifetime: jax.Array) -> jax.Array:
            env = tasks.sample(jax.random.fold_in(key_level, n))
            return lives.life(jax.random.fold_in(key_life, n), params, tasks, env, lifetime, lifetime)

        each = jax.vmap(life, in_axes=(0, None))
        return jax.lax.map(lambda lifetime: each(jnp.arange(levels), lifetime), jnp.array(lifetimes))

    return lambda params, seed=TEST: np.asarray(run(seed, params))


def tuned(score: Callable[..., np.ndarray], settings: list[dict[str, float]]) -> dict[str, float]:
    """The setting that does best on the selection levels, and its score there."""
    found = [float(score(setting, SELECTION).mean()) for setting in settings]
    best = int(np.argmax(found))
    return settings[best] | {"selection": round(found[best], 4)}


def summary(scores: np.ndarray) -> dict[str, Any]:
    """Over meta-seeds and levels [sets, levels]: interquartile mean and mean, with 95 % intervals over levels."""
    told: dict[str, Any] = {"each_mean": scores.mean(1).round(4).tolist()}
    for name, statistic in (("mean", rl.stats.mean), ("iqm", rl.stats.iqm)):
        found = rl.stats.interval(scores.mean(0), statistic)
        told[name] = [round(float(x), 4) for x in found]
    return told


def bars(ax: Any, scores: dict[str, Any]) -> None:
    """A bar for each `summary`, the interval of its mean, and a dot for each meta-seed."""
    names = list(scores)
    mean, low, high = np.array([scores[name]["mean"] for name in names]).T
    ax.barh(names, mean, xerr=[mean - low, high - mean], color="0.75")
    for i, name in enumerate(names):
        each = scores[name]["each_mean"]
        ax.plot(each, [i] * len(each), "k.", markersize=4)
    ax.invert_yaxis()
    ax.set(xlabel="share of the optimum, test levels", title="mean, 95 % interval over levels; a dot a meta-seed")


def compare(scores: np.ndarray, other: np.ndarray) -> list[float]:
    """The mean of the differences on the same levels, with its 95 % interval."""
    return [round(float(x), 4) for x in rl.stats.paired_difference(scores.mean(0), other.mean(0))]


def card(results: xr.Dataset) -> dict[str, Any]:
    """Where the numbers are from."""
    parts = {key: json.loads(results.attrs[key]) for key in ("versions", "machine")}
    return parts | {key: results.attrs[key] for key in ("compile_seconds", "run_seconds", "commit", "started")}
