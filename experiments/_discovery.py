"""Shared code of the discovery experiments: small grid worlds as tasks, a control without signal,
and tests on separate levels.

Levels have continuous rewards and are sampled from three separate streams of keys: those of the
generations (from the meta-seed), those that select a checkpoint (`jaxrl.meta.base.SELECTION`)
and those of the test (`TEST`).
"""

import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import jaxrl as rl
from envs import tabular
from envs.levels import distribution
from envs.solve import optimal_return
from jaxrl.meta.base import SELECTION, InnerProblem, MetaLearner
from jaxrl.rules.base import Rule
from jaxrl.tree import pytree, static

TEST = 0x7E57
SIDE_BY_SIDE = 64  # training runs of `sweep_scores` in a program
# a test runs once: full optimisation of its program takes longer than it saves
once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})


@pytree
class Shares(rl.Tasks):
    """Levels, scored by the return as a share of the optimal return; where that is 0, 1 minus
    the difference to it.

    min_score: lower bound of the scores. On a level with a small optimal return a negative return
    is
      many times that, and would outweigh all other levels.
    """

    levels: Any
    min_score: float = -float("inf")

    def sample(self, key: jax.Array) -> Any:
        return self.levels.sample(key)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        best = optimal_return(env)
        return jnp.maximum(
            jnp.where(
                best > 0.01, episode_return / jnp.maximum(best, 0.01), 1.0 + episode_return - best
            ),
            self.min_score,
        )


def mini(min_score: float = -float("inf")) -> Shares:
    """Grids of up to 5 x 5 with one or two objects, 100 states, 50 steps."""
    return Shares(distribution("LPGGrid-tiny", one_hot=False), min_score)


@pytree
class Always(rl.Tasks):
    """One environment as a distribution; `best` is the return that counts as optimal."""

    env: Any
    best: float = 1.0

    def sample(self, key: jax.Array) -> Any:
        return self.env

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        return episode_return / self.best


@pytree
class Processes(rl.Tasks):
    """Random processes of 20 states and 4 actions, 50 steps, scored 0 for the random policy and 1
    for the optimal one.

    density, branching: of `envs.tabular.garnet`; the fewer rewards there are, the more later ones
      matter. min_score: lower bound of the scores.
    """

    density: float = 1.0
    branching: int = static(default=3)
    min_score: float = -float("inf")

    def sample(self, key: jax.Array) -> Any:
        return tabular.garnet(
            key,
            num_states=20,
            branching=self.branching,
            density=self.density,
            max_steps=50,
            one_hot=False,
        )

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        reward = jnp.sum(env.transition * env.reward, -1)

        def back(over_actions: Callable[..., jax.Array]) -> jax.Array:
            step = lambda _, value: over_actions(reward + env.transition @ value, axis=-1)
            return env.start @ jax.lax.fori_loop(0, env.max_steps, step, jnp.zeros(env.num_states))

        random = back(jnp.mean)
        return jnp.maximum((episode_return - random) / (back(jnp.max) - random), self.min_score)


@pytree
class Blind(MetaLearner):
    """Negative control: the same strategy and number of generations, with random numbers in place
    of the fitness.
    """

    evolution: rl.Evolution

    @property
    def inner(self) -> Any:
        return self.evolution.inner

    def init(self, key: jax.Array, env: Any, num_updates: Any = float("inf")) -> Any:
        return self.evolution.init(key, env, num_updates)

    def update(self, key: jax.Array, env: Any, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        key_ask, key_fitness = jax.random.split(key)
        strategy = self.evolution.strategy
        fitness = jax.random.normal(key_fitness, (strategy.members,))
        state, metrics = strategy.tell(key_ask, state, fitness)
        return state, {"return": metrics.pop("fitness")} | metrics


class WrappedRule(Rule):
    """A rule around `rule`, to which all that is not overridden is forwarded."""

    rule: Any

    @property
    def action_spaces(self) -> Any:  # type: ignore[override]
        return self.rule.action_spaces

    @property
    def whole_trajectories(self) -> Any:  # type: ignore[override]
        return self.rule.whole_trajectories

    @property
    def heads(self) -> dict[str, int]:
        return self.rule.heads

    @property
    def gamma(self) -> Any:  # type: ignore[override]
        return self.rule.gamma

    def init(self, key: jax.Array, params: Any) -> Any:
        return self.rule.init(key, params)

    def policy_heads(self, space: Any) -> dict[str, int]:
        return self.rule.policy_heads(space)

    def policy(self, space: Any, out: Any, clock: rl.Clock) -> Any:
        return self.rule.policy(space, out, clock)

    def play(
        self, key: jax.Array, env: Any, explore: Any, greedy: Any, episodes: Any, num_steps: int
    ) -> Any:
        return self.rule.play(key, env, explore, greedy, episodes, num_steps)

    def target_params(self, rule_state: Any) -> Any:
        return self.rule.target_params(rule_state)

    def targets(self, rule_state: Any, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        return self.rule.targets(rule_state, out, next_out, batch, clock)

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        return self.rule.loss(out, batch, targets, clock)

    def post_update(self, rule_state: Any, params: Any, forward: Any, targets: Any) -> Any:
        return self.rule.post_update(rule_state, params, forward, targets)


@pytree
class TimeConditioned(WrappedRule):
    """A rule with another age (n of its clock) at each update: the true one where `age` is 1, 0
    where it is 0, a random one where it is -1.

    The random ages are a fixed sequence of fractions of the lifetime, the same in all of them.
    """

    rule: Any
    age: float = 1.0

    def targets(self, rule_state: Any, out: Any, next_out: Any, batch: Any, clock: rl.Clock) -> Any:
        return self.rule.targets(rule_state, out, next_out, batch, self.clock(clock))

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        return self.rule.loss(out, batch, targets, self.clock(clock))

    def clock(self, clock: rl.Clock) -> rl.Clock:
        fraction = jax.random.uniform(jax.random.fold_in(jax.random.key(0), clock.n))
        other = jnp.where(self.age < 0.0, jnp.floor(fraction * clock.total).astype(jnp.int32), 0)
        return rl.Clock(jnp.where(self.age > 0.0, clock.n, other), clock.total)


def discover(
    algo: Any,
    config: Any,
    name: str,
    tasks: Any,
    over: Mapping[str, jax.Array] | None = None,
    kept: Literal["best", "final"] = "best",
    **options: Any,
) -> tuple[xr.Dataset, list[Any]]:
    """Curves of all meta-seeds, and the parameters that each found: those of its best checkpoint on
    the selection levels, or the final ones.

    over: further axes of the sweep, before that of the seeds; the parameters are in the order of
      their product. options: of `sweep`.
    """
    training = rl.Training(algo, tasks, config.generations, config.evals, config.selection_levels)
    folder, over = config.runs / name, dict(over or {})
    keys = jax.random.split(jax.random.key(config.first_seed), config.seeds)
    results = rl.sweep(training, over | {"seed": keys}, folder=folder, keep_best=True, **options)
    points = itertools.product(*(values.tolist() for values in over.values()), range(config.seeds))
    place = [dict(zip([*over, "seed"], point, strict=True)) for point in points]
    return results, [rl.agent(folder, training, kept=kept, **each) for each in place]


def scorer(inner: InnerProblem, tasks: Any, levels: int) -> Callable[..., np.ndarray]:
    """Function from parameters to their scores on test levels, with the same levels and keys for
    all. [levels].
    """
    run = once(lambda seed, params: inner.scores(jax.random.key(seed), tasks, params, levels))
    return lambda params, seed=TEST: np.asarray(run(seed, params))


def by_lifetime(
    inner: rl.InnerLoop, tasks: Any, levels: int, lifetimes: tuple[int, ...]
) -> Callable[..., np.ndarray]:
    """Function from parameters to their scores after each lifetime, on the same levels for all.
    [lifetimes, levels].
    """

    @once
    def run(seed: Any, params: Any) -> jax.Array:
        key_level, key_run = jax.random.split(jax.random.key(seed))

        def score(n: jax.Array, lifetime: jax.Array) -> jax.Array:
            env = tasks.sample(jax.random.fold_in(key_level, n))
            return inner.run_one(
                jax.random.fold_in(key_run, n), params, tasks, env, lifetime, lifetime
            )

        each = jax.vmap(score, in_axes=(0, None))
        return jax.lax.map(
            lambda lifetime: each(jnp.arange(levels), lifetime), jnp.array(lifetimes)
        )

    return lambda params, seed=TEST: np.asarray(run(seed, params))


def sweep_scores(
    inner: rl.InnerLoop,
    tasks: Any,
    params: list[dict[str, Any]],
    levels: int,
    lifetimes: tuple[int, ...],
    seed: int = TEST,
    folder: pathlib.Path | None = None,
) -> np.ndarray:
    """Scores of each of `params` after each lifetime, on the same levels and with the same keys for
    all; on all devices. NaN of a training run that diverged. [params, lifetimes, levels].

    seed: of the levels. folder: where the scores are kept, to resume.
    """
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(each) for each in x]), *params)

    def run(lifetime: jax.Array, setting: jax.Array, level: jax.Array) -> dict[str, jax.Array]:
        key_env, key_run = jax.random.split(jax.random.fold_in(jax.random.key(seed), level))
        now = jax.tree.map(lambda x: x[setting], stacked)
        env = tasks.sample(key_env)
        return {"score": inner.run_one(key_run, now, tasks, env, lifetime, lifetime)}

    over = {
        "lifetime": jnp.array(lifetimes),  # those of one lifetime together: the longest counts
        "setting": jnp.arange(len(params)),
        "level": jnp.arange(levels),
    }
    found = rl.sweep(run, over, chunk=SIDE_BY_SIDE, folder=folder, progress=folder is not None)
    return found["score"].transpose("setting", "lifetime", "level").values


def tuned(score: Callable[..., np.ndarray], settings: list[dict[str, float]]) -> dict[str, float]:
    """Setting with the best score on the selection levels, and that score."""
    found = [float(score(setting, SELECTION).mean()) for setting in settings]
    best = argbest(found)
    return settings[best] | {"selection": round(found[best], 4)}


def argbest(scores: Any) -> int:
    """Index of the highest score; NaN, the score of a diverged run, is the lowest."""
    return int(np.argmax(np.nan_to_num(np.asarray(scores), nan=-np.inf)))


def summary(scores: np.ndarray) -> dict[str, Any]:
    """Mean and interquartile mean with 95 % intervals over levels, and the mean of each meta-seed.

    scores: [meta-seeds, levels].
    """
    record: dict[str, Any] = {"each_mean": scores.mean(1).round(4).tolist()}
    for name, statistic in (("mean", rl.stats.mean), ("iqm", rl.stats.iqm)):
        found = rl.stats.interval(scores.mean(0), statistic)
        record[name] = [round(float(x), 4) for x in found]
    return record


def bars(ax: Any, scores: dict[str, Any]) -> None:
    """Draw a bar for each `summary`, with the interval of its mean and a dot per meta-seed."""
    names = list(scores)
    mean, low, high = np.array([scores[name]["mean"] for name in names]).T
    ax.barh(names, mean, xerr=[mean - low, high - mean], color="0.75")
    for i, name in enumerate(names):
        each = scores[name]["each_mean"]
        ax.plot(each, [i] * len(each), "k.", markersize=4)
    ax.invert_yaxis()
    ax.set(
        xlabel="share of the optimum, test levels",
        title="mean, 95 % interval over levels; one dot per meta-seed",
    )


def compare(scores: np.ndarray, other: np.ndarray) -> list[float]:
    """Mean difference on the same levels, with its 95 % interval."""
    return [round(float(x), 4) for x in rl.stats.paired_difference(scores.mean(0), other.mean(0))]


def summary_by_lifetime(
    tests: dict[str, np.ndarray],
    lifetimes: tuple[int, ...],
    differences: dict[str, tuple[str, str]],
) -> dict[str, dict[str, Any]]:
    """For each lifetime the `summary` of each of `tests` [meta-seeds, lifetimes, levels], and the
    differences of pairs of them.
    """
    summaries = lambda i: {name: summary(x[:, i]) for name, x in tests.items()}
    pairs = lambda i: {
        name: compare(tests[a][:, i], tests[b][:, i]) for name, (a, b) in differences.items()
    }
    return {str(lifetime): summaries(i) | pairs(i) for i, lifetime in enumerate(lifetimes)}


def lines(ax: Any, record: dict[str, Any], names: tuple[str, ...]) -> None:
    """Draw the mean of each by lifetime, with its interval."""
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
    seen = "trained on {} to {}".format(*record["config"]["lifetime"])
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
    """Save an agent's rule as a file, with the measurements of its meta-seed; the first of `names`
    is that of the rules found.
    """
    fields = {
        "license": "Apache-2.0",
        "levels": "LPGGrid-tiny, lifetimes of {} to {} updates".format(
            *record["config"]["lifetime"]
        ),
        "command": command,
        "config": record["config"],
        "seeds": [number],
        "cost": record["with_compilation"],
    }
    scores = {
        f"lifetimes of {lifetime} updates": {name: rows[name]["mean"] for name in names}
        | {
            "each meta-seed": rows[names[0]]["each_mean"],
            "this": rows[names[0]]["each_mean"][number],
        }
        for lifetime, rows in record["scores"].items()
    }
    note = "Share of the optimum on test levels, mean and 95 % interval."
    rl.save_rule(
        path,
        agent.rule,
        agent=agent,
        scores=scores,
        note=note,
        versions=record["versions"],
        **fields,
    )


def card(results: xr.Dataset) -> dict[str, Any]:
    """Provenance of the numbers."""
    parts = {key: json.loads(results.attrs[key]) for key in ("versions", "machine")}
    return parts | {
        key: results.attrs[key] for key in ("compile_seconds", "run_seconds", "commit", "started")
    }
