"""One agent's life, as one pure function."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import progress, rollout, tree
from jaxrl.algorithms.base import Algorithm, State
from jaxrl.env import Env
from jaxrl.rules.base import Metrics
from jaxrl.tree import pytree, static


@pytree
class Training:
    """A life as a value: an algorithm, an environment, and how long. `training(key)` lives it.

    steps: environment steps, of which the last incomplete update is left out. evals: the rows that
    the metrics have. episodes: of the greedy evaluation at each row, as far as `eval_share` of the
    steps allows (`eval_rows` says where). stop_after: environment steps after which a member stands
    still, its schedules over: shorter lives in one program (what is left of `steps` is padding,
    computed and thrown away). Later rows are empty: NaN.

    Every float below it is a leaf: `sweep(training, {"lr": ..., "gamma": ..., "seed": keys})` finds
    fields by their names.
    """

    algo: Any
    env: Any
    steps: int = static(default=100_000)
    evals: int = static(default=10)
    episodes: int = static(default=16)
    eval_share: float = static(default=0.05)
    stop_after: float = float("inf")

    __hash__ = (
        object.__hash__
    )  # so that it can be jitted as it is, although its leaves may be arrays

    def __post_init__(self) -> None:
        for name in ("steps", "evals"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                better = int(value) if isinstance(value, float) and value >= 1 else 10
                raise ValueError(
                    f"{name}={value!r} is not a positive whole number; write, say, {name}={better}."
                )

    @property
    def updates(self) -> np.ndarray:
        """How many updates each row takes: as even as whole numbers allow. [evals]."""
        total = self.steps // self.algo.steps_per_update
        if total < self.evals:
            per = self.algo.steps_per_update
            raise ValueError(
                f"steps={self.steps} gives {total} updates of {per} environment steps "
                "(num_envs * num_steps), fewer than "
                f"evals={self.evals}. Write steps={per * self.evals} or more, or "
                f"evals={max(total, 1)}, or play fewer steps "
                "an update."
            )
        return np.diff(np.arange(self.evals + 1) * total // self.evals).astype(np.int32)

    @property
    def eval_rows(self) -> tuple[np.ndarray, int]:
        """Which rows end in a greedy evaluation, and of how many episodes, within `eval_share` of
        the steps.

        An episode is counted as `max_steps`, the most it can take. Where not even one an evaluation
        fits at every row, as many rows as can afford one have it, the last first and the others
        spread evenly. [evals], []. A meta-learner's `judge` is afforded at every row.
        """
        if self._judges:
            return np.full(self.evals, self.episodes > 0), self.episodes
        affordable = int(self.eval_share * self.steps) // self.env.max_steps
        rows = min(self.evals, affordable if self.episodes > 0 else 0)
        chosen = self.evals - 1 - np.arange(rows) * self.evals // max(rows, 1)
        return np.isin(np.arange(self.evals), chosen), min(
            self.episodes, affordable // max(rows, 1)
        )

    def begin(self, key: jax.Array) -> State:
        """The learner before its first step."""
        updates = self.updates.sum()
        if self._stops:
            updates = jnp.minimum(updates, self._last_update)
        return self.algo.init(jax.random.fold_in(key, 0), self.env, updates)

    @property
    def _judges(self) -> bool:
        """Whether the algorithm has no action to be judged by, and says itself how good it is, as
        meta-learners do.
        """
        return hasattr(self.algo, "judge")

    @property
    def _stops(self) -> bool:
        """Whether a member may stop early, as far as is known before compilation."""
        return not (isinstance(self.stop_after, float) and self.stop_after >= self.steps)

    @property
    def _last_update(self) -> jax.Array:
        """How many updates fit before a member stops. [] or inf."""
        return jnp.floor(jnp.asarray(self.stop_after, jnp.float32) / self.algo.steps_per_update)

    def advance(self, key: jax.Array, state: State, row: jax.Array | int) -> tuple[State, Metrics]:
        """InnerLoop one row: updates, then the greedy evaluation. The metrics are the row's means.
        [].
        """
        key_row = jax.random.fold_in(jax.random.fold_in(key, 1), row)
        key_learn, key_eval = jax.random.split(key_row)
        before, (state, metrics) = state, self._learn(key_learn, state, row)
        metrics["diverged"] = ~tree.is_finite(state.params)
        metrics["evaluation"] = self._evaluate(key_eval, state, row)
        if (
            self._stops
        ):  # one that stands still is not judged again: the best of many tries would be luck
            metrics["evaluation"] = jnp.where(
                state.clock.n > before.clock.n, metrics["evaluation"], jnp.nan
            )
        return state, metrics

    def __call__(self, key: jax.Array | int) -> tuple[State, Metrics]:
        key = as_key(key)

        def live(state: State, row: jax.Array) -> tuple[State, Metrics]:
            progress.tick(row, self.evals)
            return self.advance(key, state, row)

        state, metrics = jax.lax.scan(live, self.begin(key), jnp.arange(self.evals))
        return state, self.clocks | metrics

    @property
    def clocks(self) -> Metrics:
        """Environment steps so far at each row: `step`, and those spent on evaluation beside them,
        `eval_step`. [evals].
        """
        evaluated, episodes = self.eval_rows
        step = np.cumsum(self.updates, dtype=np.int64) * self.algo.steps_per_update
        eval_step = (
            np.cumsum(evaluated, dtype=np.int64)
            * episodes
            * (1 if self._judges else self.env.max_steps)
        )
        kind = (
            np.int32 if max(step[-1], eval_step[-1]) < 2**31 else np.float32
        )  # x64 is off by default
        return {
            "step": jnp.asarray(step.astype(kind)),
            "eval_step": jnp.asarray(eval_step.astype(kind)),
        }

    def _learn(self, key: jax.Array, state: State, row: jax.Array | int) -> tuple[State, Metrics]:
        """The row's updates; their metrics are summed as they come, so that memory does not grow
        with the steps.
        """
        update = lambda key, state: self.algo.update(key, self.env, state)
        counts = self.updates

        def live(carry: tuple[State, Metrics], i: jax.Array) -> tuple[State, Metrics]:
            state, totals = carry
            learnt, metrics = update(jax.random.fold_in(key, i), state)
            metrics = weigh(metrics)
            if self._stops:
                alive = state.clock.n < self._last_update
                learnt = _stand_still(alive, learnt, state)
                metrics = jax.tree.map(lambda x: jnp.where(alive, x, jnp.zeros_like(x)), metrics)
                metrics["lived"] = jnp.float32(alive)
            return learnt, jax.tree.map(jnp.add, totals, metrics)

        def one(carry: tuple[State, Metrics], i: jax.Array) -> tuple[tuple[State, Metrics], None]:
            if counts.min() == counts.max():
                return live(carry, i), None
            # `row` and `i` belong to no member, so this stays a branch under vmap: a row with fewer
            # updates skips one
            return jax.lax.cond(
                i < jnp.asarray(counts)[row], live, lambda carry, _: carry, carry, i
            ), None

        shapes = jax.eval_shape(lambda key, state: weigh(update(key, state)[1]), key, state)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        zeros |= {"lived": jnp.float32(0.0)} if self._stops else {}
        (state, totals), _ = jax.lax.scan(one, (state, zeros), jnp.arange(counts.max()))
        return state, to_means(totals, totals.pop("lived", jnp.asarray(counts)[row]))

    def _evaluate(self, key: jax.Array, state: State, row: jax.Array | int) -> jax.Array:
        evaluated, episodes = self.eval_rows
        if not evaluated.any():
            return jnp.float32(jnp.nan)

        def judge(key: jax.Array) -> jax.Array:
            if self._judges:
                return self.algo.judge(key, self.env, state, episodes)
            policy = lambda key, memory, obs: self.algo.act(key, self.env, state, memory, obs)
            return rollout.evaluate(
                key, self.env, policy, episodes, self.algo.start(self.env)
            ).mean()

        if evaluated.all():
            return judge(key)
        return jax.lax.cond(jnp.asarray(evaluated)[row], judge, lambda _: jnp.float32(jnp.nan), key)


def _stand_still(alive: jax.Array, learnt: State, state: State) -> State:
    """The state of before, for one whose life is over; but its replay goes on: nobody reads it, and
    to copy it is dear.
    """
    still = tree.where(alive, learnt, state)
    return tree.replace(still, replay=learnt.replay) if hasattr(state, "replay") else still


def weigh(metrics: Metrics) -> Metrics:
    """Metrics of an update as sums: the return and length of its episodes are weighted by how many
    ended.
    """
    count = metrics["episodes"]
    total = lambda name: jnp.where(count > 0, metrics[name] * count, 0.0)
    return metrics | {name: total(name) for name in ("return", "length")}


def to_means(totals: Metrics, updates: jax.Array) -> Metrics:
    """The sums of a row as means; `episodes` stays a count; return and length are NaN when no
    episode ended.
    """
    means = {name: total / updates for name, total in totals.items()}
    count = totals["episodes"]
    ended = {
        name: jnp.where(count > 0, totals[name] / jnp.maximum(count, 1), jnp.nan)
        for name in ("return", "length")
    }
    return means | ended | {"episodes": count}


def as_key(seed: Any) -> jax.Array:
    """A key as it is, or the key of a whole number."""
    is_key = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    return seed if is_key or jnp.ndim(seed) else jax.random.key(seed)  # a raw key is a vector


def train(
    key: jax.Array | int,
    algo: Algorithm,
    env: Env,
    *,
    steps: int,
    evals: int = 10,
    episodes: int = 16,
    eval_share: float = 0.05,
) -> tuple[State, Metrics]:
    """Trains one agent. Pure: jit it, vmap it over keys and over any float of `algo` and `env`,
    differentiate it.

    `key` may be a whole number, for the key that it seeds.

    Returns the learner and the metrics, one row for each of `evals` points [evals]: `step`;
    `return`, `length` and number of the `episodes` that ended since the last row; the rule's losses
    and diagnostics, means over the updates; `grad_norm`; `evaluation`, the mean return of up to
    `episodes` greedy episodes, which may take `eval_share` of the steps at most (`eval_step` says
    what they took); `diverged`, True once a parameter is not finite.

    Raises:
      ValueError: fewer updates than evals.
    """
    return Training(algo, env, steps, evals, episodes, eval_share)(key)
