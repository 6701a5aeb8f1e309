"""One training run of one agent, as one pure function."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl import progress, tree
from jaxrl.algorithms.base import Algorithm, State
from jaxrl.algorithms.loop import COUNTED, Row, run_updates, to_row
from jaxrl.algorithms.preset import Preset
from jaxrl.clock import LAST_UPDATE, Metrics
from jaxrl.env import Env, Tasks, check_copies
from jaxrl.env_check import check_contract, check_max_steps
from jaxrl.errors import check_counts
from jaxrl.keys import as_key, batch_dependence
from jaxrl.optimizer import LONGEST_PERIOD
from jaxrl.tree import leaf, pytree, static

LARGEST_SUM = 2**24  # of ones, in float32


@pytree
class Training:
    """A training run as a value: an algorithm, an environment and a number of steps.

    `training(key)` runs it and returns the final state and the metrics, one row for each of `evals`
    evaluation points.

    steps: environment steps; an incomplete last update is dropped. Schedules end with them: the
    learning rate of most on-policy algorithms decays to 0 by default (`schedule=rl.Constant()`
    keeps it constant). evals: number of evaluation points, the rows of the metrics.
    episodes: number of greedy episodes per evaluation, as far as `eval_share` of the steps allows
    (`eval_rows` returns the rows with an evaluation). stop_after: environment steps after which a
    run and its schedules end, so that shorter runs fit in one program: the rest of `steps` is
    padding, computed and discarded, and its rows are NaN (`episodes` 0, `diverged` False).

    Every float in it is a leaf: `sweep(training, {"lr": ..., "gamma": ..., "seed": keys})` finds
    fields by their names.
    """

    algo: Algorithm
    env: Env | Tasks
    steps: int = static(default=100_000)
    evals: int = static(default=10)
    episodes: int = static(default=16)
    eval_share: float = static(default=0.05, within="[0, inf)")
    stop_after: float = leaf(float("inf"), "[0, inf]")

    # so that it can be jitted as it is, although its leaves may be arrays
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        check_counts(self, "steps", "evals")
        check_counts(self, "episodes", min_value=0)
        if isinstance(self.algo, Preset):
            raise TypeError(
                f"rl.{self.algo.name} is not an algorithm yet: write rl.{self.algo.name}(), with "
                "its fields in the brackets."
            )
        _check_parts(self.algo, self.env)
        if self._may_stop:
            check_copies(
                self.env, "stop_after drops steps after a run's end", "write a smaller steps="
            )

    @property
    def updates(self) -> np.ndarray:
        """The number of updates of each row, as even as whole numbers allow. [evals]."""
        total = self.steps // self.algo.steps_per_update
        if total < self.evals:
            per = self.algo.steps_per_update
            raise ValueError(
                f"steps={self.steps} gives {total} updates of {per} environment steps (num_envs * "
                f"num_steps), fewer than evals={self.evals}. Write steps={per * self.evals} or "
                f"more, or evals={max(total, 1)}, or play fewer steps an update."
            )
        self._check_counters(total)
        return np.diff(np.arange(self.evals + 1) * total // self.evals).astype(np.int32)

    def _check_counters(self, total: int) -> None:
        """Check that the program can count its updates and gradient steps, and sum over a row."""
        each, gradient_steps = self.algo.steps_per_update, self.algo.gradient_steps_per_update
        if total * gradient_steps > LAST_UPDATE:
            most = LAST_UPDATE // gradient_steps * each
            raise ValueError(
                f"steps={self.steps} gives {total} updates of {each} environment steps, with "
                f"{gradient_steps} gradient steps each, and a counter holds {LAST_UPDATE}: write "
                f"steps={most} or fewer, or collect more steps in an update (num_envs, num_steps)."
            )
        most_updates = max(min(LARGEST_SUM, LAST_UPDATE // each), 1)
        if -(-total // self.evals) > most_updates:
            raise ValueError(
                f"steps={self.steps} with evals={self.evals} gives rows of {total // self.evals} "
                f"updates, and the sums of their metrics are right up to {most_updates}: write "
                f"evals={-(-total // most_updates)} or more."
            )

    @property
    def eval_rows(self) -> tuple[np.ndarray, int]:
        """The rows that end in an evaluation, a mask [evals], and its number of episodes [].

        An episode counts as `max_steps`, the most it can take. Where `eval_share` of the steps does
        not afford one episode at every row, as many rows as it affords are evaluated: the last one,
        and the others spread evenly. A meta-learner's evaluation counts no environment
        steps and is done at every row.
        """
        if self.episodes < 1:
            return np.zeros(self.evals, bool), 0
        each = self.algo.evaluation_steps(self.env, 1)  # type: ignore[arg-type]
        if each == 0:
            return np.ones(self.evals, bool), self.episodes
        affordable = int(self.eval_share * self.steps) // each
        rows = min(self.evals, affordable)
        selected = self.evals - 1 - np.arange(rows) * self.evals // max(rows, 1)
        evaluated = np.isin(np.arange(self.evals), selected)
        return evaluated, min(self.episodes, affordable // max(rows, 1))

    @property
    def _algo(self) -> Algorithm:
        """The algorithm, which computes in 32 bits where x64 is enabled too."""
        return tree.in_32_bits(self.algo)

    @property
    def _may_stop(self) -> bool:
        """True where a member may stop early, as far as is known before compilation."""
        return not (isinstance(self.stop_after, float) and self.stop_after >= self.steps)

    @property
    def _schedule_updates(self) -> Any:
        """The number of updates that schedules go over at the start. []."""
        return self.updates.sum()

    @property
    def _last_update(self) -> jax.Array:
        """The number of updates before a member stops, at most `LAST_UPDATE`. []."""
        last = jnp.floor(jnp.asarray(self.stop_after, jnp.float32) / self.algo.steps_per_update)
        fits = jnp.minimum(last, LONGEST_PERIOD).astype(jnp.int32)
        return jnp.where(last < LONGEST_PERIOD, fits, LAST_UPDATE)

    def init(self, key: jax.Array | int) -> State:
        """Return the state before the first step."""
        key = as_key(key)
        updates = self._schedule_updates
        if self._may_stop:
            updates = jnp.minimum(updates, self._last_update)
        state = self._algo.init(jax.random.fold_in(key, 0), self.env, updates)  # type: ignore[arg-type]
        return jax.tree.map(_strong, state)

    def run_row(
        self, key: jax.Array | int, state: State, row: jax.Array | int
    ) -> tuple[State, Metrics]:
        """Return the state after the updates of one row, and the row's metrics. []."""
        state, metrics = self.masked_row(key, state, row)
        return state, _with_nan(metrics)

    def masked_row(
        self, key: jax.Array | int, state: State, row: jax.Array | int
    ) -> tuple[State, Row]:
        """As `run_row`, with masks in place of NaN for metrics without a value."""
        key_row = jax.random.fold_in(jax.random.fold_in(as_key(key), 1), row)
        key_learn, key_eval = jax.random.split(key_row)
        counts = self.updates
        even = counts.min() == counts.max()
        count = None if even else jnp.asarray(counts)[row]
        before = state.clock.n
        state, totals = run_updates(
            key_learn,
            self._algo,
            self.env,
            state,
            int(counts.max()),
            count=count,
            last_update=self._last_update if self._may_stop else None,
        )
        num_updates = totals.pop(COUNTED) if self._may_stop else jnp.asarray(counts)[row]
        metrics = to_row(self.env, totals, num_updates, self._may_stop)
        finite = tree.is_finite(state.params)
        evaluation, evaluated = self._evaluate(key_eval, state, row)
        evaluated &= finite  # a policy of NaN plays one action throughout, which may even win
        if self._may_stop:  # padding is not evaluated again: it would give the best of many tries
            evaluated &= state.clock.n > before
        return state, Row(
            values=metrics.values | {"diverged": ~finite} | evaluation,
            known=metrics.known | dict.fromkeys(evaluation, evaluated),
        )

    def __call__(self, key: jax.Array | int) -> tuple[State, Metrics]:
        if reason := batch_dependence(key):
            warnings.warn(reason, stacklevel=2)
        key = as_key(key)

        def run(state: State, row: jax.Array) -> tuple[State, Row]:
            progress.tick(row, self.evals)
            return self.masked_row(key, state, row)

        state, metrics = jax.lax.scan(run, self.init(key), jnp.arange(self.evals))
        return state, jax.tree.map(_as_array, self.clocks) | _with_nan(metrics)

    @property
    def clocks(self) -> dict[str, np.ndarray]:
        """Environment steps up to each row: `step` of training, `eval_step` of evaluation. [evals].

        int32, or int64 where they do not fit. The evaluation of a meta-learner counts tasks.
        """
        step = np.cumsum(self.updates, dtype=np.int64) * self.algo.steps_per_update
        evaluated, episodes = self.eval_rows
        each = self.algo.evaluation_steps(self.env, 1) or 1  # type: ignore[arg-type]
        eval_step = np.cumsum(evaluated, dtype=np.int64) * episodes * each
        kind = np.int32 if max(step[-1], eval_step[-1]) < 2**31 else np.int64
        return {"step": step.astype(kind), "eval_step": eval_step.astype(kind)}

    def _evaluate(
        self, key: jax.Array, state: State, row: jax.Array | int
    ) -> tuple[Metrics, jax.Array]:
        """The mean return of an evaluation, of a team also those of each agent and role, and the
        mean sum of each channel; and True where there is one.
        """
        evaluated, episodes = self.eval_rows
        if not evaluated.any():
            return {"evaluation": jnp.float32(0.0)}, jnp.bool_(False)

        def evaluate(key: jax.Array) -> Metrics:
            found = self._algo.evaluate(key, self.env, state, episodes)  # type: ignore[arg-type]
            info = found.info
            if self.env.num_agents is not None:
                info = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), info)
            metrics = {f"evaluation_{name}": x.mean(0) for name, x in info.items()}
            is_team = self.env.num_agents not in (None, 1)
            if is_team and found.episode_return.ndim == 2:
                by_agent = found.episode_return.mean(0)
                metrics["evaluation_by_agent"] = by_agent
                if self.env.roles:
                    metrics["evaluation_by_role"] = _by_role(by_agent, self.env.roles)
            return {"evaluation": found.episode_return.mean()} | metrics

        if evaluated.all():
            return evaluate(key), jnp.bool_(True)
        shapes = jax.eval_shape(evaluate, key)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        here = jnp.asarray(evaluated)[row]
        return jax.lax.cond(here, evaluate, lambda _: nothing, key), here


def _check_parts(algo: Any, env: Any) -> None:
    """Check what is known before tracing; jax may put any other object in the place of a leaf.

    Raises:
      TypeError, ValueError: as `rl.check_env`, or parts in the wrong order.
    """
    if isinstance(algo, Env | Tasks) and isinstance(env, Algorithm):
        raise TypeError(
            "An algorithm comes first and its environment second: write rl.Training(algo, env, "
            "steps)."
        )
    if isinstance(env, str | type | Algorithm):
        check_contract(env, algo if isinstance(algo, Algorithm) else None)
    if isinstance(env, Env):
        check_max_steps(env)


def _by_role(by_agent: jax.Array, roles: tuple[int, ...]) -> jax.Array:
    """The means over the agents of each role, NaN for one without agents. [R]."""
    members = np.equal.outer(np.arange(max(roles) + 1), roles)
    return jnp.mean(jnp.broadcast_to(by_agent, members.shape), 1, where=members)


def _as_array(count: np.ndarray) -> jax.Array:
    """A count as an array: of float32 where it does not fit, as int64 is off by default."""
    return jnp.asarray(count if count.dtype == np.int32 else count.astype(np.float32))


def _strong(x: Any) -> Any:
    """An array without jax's weak type, which the state after an update does not have either."""
    is_weak = isinstance(x, jax.Array) and jax.typeof(x).weak_type
    return jax.lax.convert_element_type(x, x.dtype) if is_weak else x


def _with_nan(row: Row) -> Metrics:
    """The metrics, with NaN for a missing value.

    Raises:
      ValueError: jax_debug_nans is on, and this is inside a program, which it would stop.
    """
    config: Any = jax.config
    if not config.jax_debug_nans:
        return row.metrics()
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(row)):
        raise ValueError(
            "jax_debug_nans stops at NaN, and inside jit or vmap rl.train marks a missing metric "
            "(the return if no episode ended) by NaN: call rl.train outside of them, write "
            "rl.sweep(rl.Training(...), ...), or disable jax_debug_nans."
        )
    with jax.debug_nans(False):
        return {name: jnp.asarray(x) for name, x in row.on_host().items()}


def train(
    key: jax.Array | int,
    algo: Algorithm,
    env: Env | Tasks,
    *,
    steps: int,
    evals: int = 10,
    episodes: int = 16,
    eval_share: float = 0.05,
) -> tuple[State, Metrics]:
    """Train one agent.

    The function is pure: jit it, vmap it over keys and over any float of `algo` and `env`,
    differentiate it.

    key: a key, or an integer seed.

    Returns the final state and the metrics, one row for each of `evals` evaluation points [evals]:
    `step`; `return`, `length` and number of the `episodes` that ended since the previous row;
    losses and diagnostics, averaged over the updates; `grad_norm`; `evaluation`, the mean return of
    up to `episodes` greedy episodes, which use at most `eval_share` of the steps (`eval_step`
    counts them), NaN without an evaluation and after the run has diverged; `diverged`, True from
    the row at which a parameter is not finite. Each of the environment's `channels` adds the mean
    of its sums over episodes, and in evaluation `evaluation_NAME`.

    Raises:
      ValueError: fewer updates than evals, or jax_debug_nans inside a program.
      TypeError, ValueError: an environment that violates its contract (see `rl.check_env`).
    """
    return Training(algo, env, steps, evals, episodes, eval_share)(key)
