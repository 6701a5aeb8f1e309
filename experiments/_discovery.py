"""What the discoveries share: small grid worlds as tasks, a control without a signal, and tests on
levels kept apart.

Levels are drawn with continuous rewards from three separate streams of keys: those of the
generations (from the meta-seed), those that choose a checkpoint (`jaxrl.meta.lives.SELECTION`) and
those of the test (`TEST`).
"""

import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import jaxrl as rl
from envs import tabular
from envs.levels import distribution
from envs.solve import optimal_return
from jaxrl.meta.inner_loop import SELECTION
from jaxrl.tree import pytree, static

TEST = 0x7E57
# a test runs once: to compile its program better takes longer than that gains
once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})


@pytree
class Shares(rl.Tasks):
    """Levels whose score is the return as a share of the best there is; where that is nothing, 1
    less what was lost.

    least: what a score is no less than. Where there is little to gain, what is lost is many times
    that, and would outweigh all other levels.
    """

    levels: Any
    least: float = -float("inf")

    def sample(self, key: jax.Array) -> Any:
        return self.levels.sample(key)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        best = optimal_return(env)
        return jnp.maximum(
            jnp.where(
                best > 0.01, episode_return / jnp.maximum(best, 0.01), 1.0 + episode_return - best
            ),
            self.least,
        )


def mini(least: float = -float("inf")) -> Shares:
    """Grids of up to 5 x 5 with one or two objects, 100 states, 50 steps."""
    return Shares(distribution("LPGGrid-tiny", one_hot=False), least)


@pytree
class Processes(rl.Tasks):
    """Random processes of 20 states and 4 actions, 50 steps: 0 is a random policy's return, 1 the
    best one's.

    branching, density: of `envs.tabular.garnet`; where few pairs reward, what follows counts for
    more than what is earned now. least: what a score is no less than.
    """

    density: float = 1.0
    branching: int = static(default=3)
    least: float = -float("inf")

    def sample(self, key: jax.Array) -> Any:
        how = {"num_states": 20, "branching": self.branching, "density": self.density}
        return tabular.garnet(key, max_steps=50, one_hot=False, **how)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        reward = jnp.sum(env.transition * env.reward, -1)

        def back(over_actions: Callable[..., jax.Array]) -> jax.Array:
            step = lambda _, value: over_actions(reward + env.transition @ value, axis=-1)
            return env.start @ jax.lax.fori_loop(0, env.max_steps, step, jnp.zeros(env.num_states))

        random = back(jnp.mean)
        return jnp.maximum((episode_return - random) / (back(jnp.max) - random), self.least)


@pytree
class Blind:
    """The negative control: the same strategy for as many generations, told random numbers in place
    of the fitness.
    """

    evolution: Any
    steps_per_update: int = static(default=1)

    def init(self, key: jax.Array, env: Any, num_updates: Any = float("inf")) -> Any:
        return self.evolution.init(key, env, num_updates)

    def update(self, key: jax.Array, env: Any, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        key_ask, key_luck = jax.random.split(key)
        strategy = self.evolution.strategy
        state, told = strategy.tell(
            key_ask, state, jax.random.normal(key_luck, (strategy.members,))
        )
        return state, {
            "return": told.pop("fitness"),
            "length": jnp.float32(0),
            "episodes": jnp.int32(1),
        } | told

    def judge(self, key: jax.Array, env: Any, state: Any, episodes: int) -> jax.Array:
        return self.evolution.judge(key, env, state, episodes)


class Wrapped:
    """A rule around `rule`, which does whatever is not written anew."""

    rule: Any

    @property
    def heads(self) -> dict[str, int]:
        return self.rule.heads

    @property
    def gamma(self) -> Any:
        return self.rule.gamma

    def init(self, key: jax.Array, params: Any) -> Any:
        return self.rule.init(key, params)

    def targets(self, carry: Any, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        return self.rule.targets(carry, out, next_out, batch, clock)


@pytree
class TimeConditioned(Wrapped):
    """A rule that is told an age at each update: its own where `age` is 1, always none where 0, a
    random one where -1.

    The random ages are one fixed sequence of shares of the lifetime, the same in all lives.
    """

    rule: Any
    age: float = 1.0

    action_spaces = (rl.Discrete,)

    def targets(self, carry: Any, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        return self.rule.targets(carry, out, next_out, batch, self.tell(clock))

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        return self.rule.loss(out, batch, targets, self.tell(clock))

    def tell(self, clock: rl.Clock) -> rl.Clock:
        luck = jax.random.uniform(jax.random.fold_in(jax.random.key(0), clock.n))
        other = jnp.where(self.age < 0.0, jnp.floor(luck * clock.total).astype(jnp.int32), 0)
        return rl.Clock(jnp.where(self.age > 0.0, clock.n, other), clock.total)


def discover(
    algo: Any,
    config: Any,
    name: str,
    tasks: Any,
    over: Mapping[str, jax.Array] | None = None,
    **how: Any,
) -> tuple[xr.Dataset, list[Any]]:
    """Every meta-seed's curves, and what each found, as it was when the selection levels liked it
    best.

    over: more axes of the sweep, before that of the seeds; what was found is in the order of their
    product. how: of `sweep`.
    """
    training = rl.Training(algo, tasks, config.generations, config.evals, config.selection_levels)
    folder, over = config.runs / name, dict(over or {})
    keys = jax.random.split(jax.random.key(config.first_seed), config.seeds)
    results = rl.sweep(training, over | {"seed": keys}, folder=folder, keep_best=True, **how)
    points = itertools.product(*(values.tolist() for values in over.values()), range(config.seeds))
    place = [dict(zip([*over, "seed"], point, strict=True)) for point in points]
    return results, [
        rl.policy(folder, training, kept="best", **each).state.params for each in place
    ]


def scorer(lives: rl.InnerLoop, tasks: Any, levels: int) -> Callable[..., np.ndarray]:
    """Parameters to their scores on the test levels, the same ones and the same luck for all.

    [levels].
    """
    run = once(lambda seed, params: lives.scores(jax.random.key(seed), tasks, params, levels))
    return lambda params, seed=TEST: np.asarray(run(seed, params))


def by_lifetime(
    lives: rl.InnerLoop, tasks: Any, levels: int, lifetimes: tuple[int, ...]
) -> Callable[..., np.ndarray]:
    """Parameters to their scores after lives of each length, on the same levels for all.

    [lifetimes, levels].
    """

    @once
    def run(seed: Any, params: Any) -> jax.Array:
        key_level, key_life = jax.random.split(jax.random.key(seed))

        def life(n: jax.Array, lifetime: jax.Array) -> jax.Array:
            env = tasks.sample(jax.random.fold_in(key_level, n))
            return lives.life(
                jax.random.fold_in(key_life, n), params, tasks, env, lifetime, lifetime
            )

        each = jax.vmap(life, in_axes=(0, None))
        return jax.lax.map(
            lambda lifetime: each(jnp.arange(levels), lifetime), jnp.array(lifetimes)
        )

    return lambda params, seed=TEST: np.asarray(run(seed, params))


def tuned(score: Callable[..., np.ndarray], settings: list[dict[str, float]]) -> dict[str, float]:
    """The setting that does best on the selection levels, and its score there."""
    found = [float(score(setting, SELECTION).mean()) for setting in settings]
    best = int(np.argmax(found))
    return settings[best] | {"selection": round(found[best], 4)}


def summary(scores: np.ndarray) -> dict[str, Any]:
    """Over meta-seeds and levels [sets, levels]: interquartile mean and mean, with 95 % intervals
    over levels.
    """
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
    ax.set(
        xlabel="share of the optimum, test levels",
        title="mean, 95 % interval over levels; a dot a meta-seed",
    )


def compare(scores: np.ndarray, other: np.ndarray) -> list[float]:
    """The mean of the differences on the same levels, with its 95 % interval."""
    return [round(float(x), 4) for x in rl.stats.paired_difference(scores.mean(0), other.mean(0))]


def by_life(
    tests: dict[str, np.ndarray],
    lifetimes: tuple[int, ...],
    differences: dict[str, tuple[str, str]],
) -> dict[str, dict[str, Any]]:
    """For each lifetime the `summary` of each of `tests` [sets, lifetimes, levels], and the
    differences of pairs.
    """
    told = lambda i: {name: summary(x[:, i]) for name, x in tests.items()}
    more = lambda i: {
        name: compare(tests[a][:, i], tests[b][:, i]) for name, (a, b) in differences.items()
    }
    return {str(lifetime): told(i) | more(i) for i, lifetime in enumerate(lifetimes)}


def lines(ax: Any, record: dict[str, Any], names: tuple[str, ...]) -> None:
    """The mean of each by lifetime, with its interval."""
    lifetimes = [int(name) for name in record["scores"]]
    for i, name in enumerate(names):
        mean, low, high = np.array([scores[name]["mean"] for scores in record["scores"].values()]).T
        ax.errorbar(
            lifetimes,
            mean,
            [mean - low, high - mean],
            label=name,
            color=f"C{i}",
            marker="o",
            capsize=3,
        )
    seen = "{} to {} were trained on".format(*record["config"]["lifetime"])
    ax.set(
        xscale="log",
        xlabel=f"lifetime, updates ({seen})",
        ylabel="share of the optimum, test levels",
    )
    ax.set_xticks(lifetimes, [str(lifetime) for lifetime in lifetimes])
    ax.minorticks_off()


def keep(
    path: pathlib.Path,
    agent: Any,
    number: int,
    record: dict[str, Any],
    names: tuple[str, ...],
    command: str,
) -> None:
    """An agent's rule as a file, with what was measured of its meta-seed; the first of `names` is
    what was found.
    """
    made = {
        "license": "Apache-2.0",
        "levels": "LPGGrid-tiny, lives of {} to {} updates".format(*record["config"]["lifetime"]),
        "command": command,
        "config": record["config"],
        "seeds": [number],
        "cost": record["with_compilation"],
    }
    scores = {
        f"lives of {lifetime} updates": {name: told[name]["mean"] for name in names}
        | {
            "each meta-seed": told[names[0]]["each_mean"],
            "this": told[names[0]]["each_mean"][number],
        }
        for lifetime, told in record["scores"].items()
    }
    note = "Shares of the optimum on test levels, mean and 95 % interval."
    rl.save_rule(
        path, agent.rule, agent=agent, scores=scores, note=note, versions=record["versions"], **made
    )


def card(results: xr.Dataset) -> dict[str, Any]:
    """Where the numbers are from."""
    parts = {key: json.loads(results.attrs[key]) for key in ("versions", "machine")}
    return parts | {
        key: results.attrs[key] for key in ("compile_seconds", "run_seconds", "commit", "started")
    }
