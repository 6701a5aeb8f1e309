"""Persistent evolution: unbiased gradients from training runs in pieces, each run at an age of its
own.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import tree
from jaxrl.algorithms.loop import run_updates
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Tasks, check_tasks
from jaxrl.errors import check_counts
from jaxrl.meta.base import MetaLearner
from jaxrl.meta.families import Families
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import as_floats, check_pairs, noise_like
from jaxrl.optimizer import Optimizer, OptimizerBuilder, at_rate, check_gradient_fields
from jaxrl.tree import leaf, pytree, replace, static

Start = Callable[[jax.Array], tuple[Any, Any]]  # key -> a new run, and its number of pieces
# (key, params, run) -> the run after one piece, and the fitness of the piece []
Unroll = Callable[[jax.Array, Any, Any], tuple[Any, jax.Array]]


@pytree
class State:
    """direction: what the gradient of each pair is along, [P, ...]. runs: of both of a pair,
    [P, 2, ...]; of several kinds, a tuple of [P / kinds, 2, ...]. age, end: of a run, in pieces,
    [P].
    """

    params: Any
    opt_state: optax.OptState
    clock: Clock
    direction: Any
    runs: Any
    age: jax.Array
    end: jax.Array


@pytree
class PES:
    """Persistent evolution strategies (Vicol et al., 2021, algorithm 2): unbiased gradients from
    pieces of a training run.

    Each of `population / 2` antithetic pairs continues from piece to piece, with fresh noise in
    each, and its gradient is (fitness of the first - of the second) * (the sum of its noise so far)
    / (2 sigma). A run that is over starts anew. Ages are staggered: first runs end after a uniform
    share of their length, else all pairs would be in one phase and the gradient biased by it.

    keeps_noise: noise-reuse evolution strategies (Li et al., 2023), one noise for a whole run,
    which has less variance. Runs may be of several kinds, as on several families of environments:
    `start` and `unroll` are then tuples of functions, each for an equal share of the pairs.
    """

    lr: float = leaf(0.01, "[0, inf)")
    sigma: float = leaf(0.1, "(0, inf)")
    optimizer: Optimizer | OptimizerBuilder = Optimizer(optax.adam)
    population: int = static(default=64)
    keeps_noise: bool = static(default=False)

    def __post_init__(self) -> None:
        check_pairs(self.population)
        check_gradient_fields(self)

    def init(
        self,
        key: jax.Array,
        params: Any,
        start: Start | tuple[Start, ...],
        num_updates: jax.Array | float = float("inf"),
    ) -> State:
        """Return the state before the first piece.

        Raises:
          ValueError: the number of kinds of runs does not divide that of the pairs.
        """
        params, pairs = as_floats(params), self.population // 2
        key_start, key_end = jax.random.split(key)
        keys = jax.random.split(key_start, pairs)
        found = [jax.vmap(one)(keys[part]) for one, part in self._parts(_kinds(start))]
        runs, ends = zip(*found, strict=True)
        run, end = runs if isinstance(start, tuple) else runs[0], jnp.concatenate(ends)
        first_end = 1 + jnp.floor(jax.random.uniform(key_end, (pairs,)) * end).astype(jnp.int32)
        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            clock=start_clock(num_updates),
            direction=jax.tree.map(lambda x: jnp.zeros((pairs, *x.shape), x.dtype), params),
            runs=jax.tree.map(lambda x: jnp.stack([x, x], 1), run),
            age=jnp.zeros(pairs, jnp.int32),
            end=first_end,
        )

    def update(
        self,
        key: jax.Array,
        state: State,
        start: Start | tuple[Start, ...],
        unroll: Unroll | tuple[Unroll, ...],
    ) -> tuple[State, Metrics]:
        """Return the state after one piece of every run and a gradient step, and metrics."""

        def one_pair(
            start: Start,
            unroll: Unroll,
            pair: jax.Array,
            direction: Any,
            runs: Any,
            age: jax.Array,
            end: jax.Array,
        ) -> tuple[Any, Any, Any, jax.Array, jax.Array, jax.Array]:
            key_noise, key_run, key_start = jax.random.split(jax.random.fold_in(key, pair), 3)
            fresh = noise_like(key_noise, state.params)
            if self.keeps_noise:
                noise = direction = tree.where(age == 0, fresh, direction)
            else:
                noise, direction = fresh, jax.tree.map(jnp.add, direction, fresh)
            both = jax.tree.map(
                lambda x, e: jnp.stack([x + self.sigma * e, x - self.sigma * e]),
                state.params,
                noise,
            )
            runs, fitness = jax.vmap(lambda params, run: unroll(key_run, params, run))(both, runs)
            finite = jnp.isfinite(fitness).all()
            slope = jnp.where(finite, fitness[0] - fitness[1], 0.0) / (2.0 * self.sigma)
            grad = jax.tree.map(lambda e: -slope * e, direction)
            over = (age + 1 >= end) | ~finite
            new_run, new_end = start(key_start)
            new_pair = (
                jax.tree.map(lambda x: jnp.stack([x, x]), new_run),
                jnp.int32(0),
                jnp.asarray(new_end, jnp.int32),
            )
            runs, age, end = tree.where(over, new_pair, (runs, age + 1, end))
            direction = jax.tree.map(lambda x: jnp.where(over, 0.0, x), direction)
            return grad, direction, runs, age, end, fitness

        several = isinstance(start, tuple)
        each = state.runs if several else (state.runs,)
        kinds = zip(_kinds(start), _kinds(unroll), each, strict=True)
        found = []
        for (start_one, unroll_one, runs), part in self._parts(tuple(kinds)):
            args = jnp.arange(len(state.age)), state.direction, state.age, state.end
            pair, direction, age, end = jax.tree.map(operator.itemgetter(part), args)
            one_of = jax.vmap(functools.partial(one_pair, start_one, unroll_one))
            found.append(one_of(pair, direction, runs, age, end))
        grads, direction, each, age, end, fitness = zip(*found, strict=True)
        joined = lambda parts: jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        grads, direction, age, end, fitness = map(joined, (grads, direction, age, end, fitness))
        runs = each if several else each[0]
        grads = jax.tree.map(lambda x: x.mean(0), grads)
        optimizer = at_rate(self.optimizer, self.lr, state.params)
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        metrics = {
            "fitness": jnp.nanmean(fitness),
            "non_finite": (~jnp.isfinite(fitness)).sum(),
            "grad_norm": optax.tree.norm(grads),
            "age": age.mean(),
        }
        return State(params, opt_state, state.clock.tick(), direction, runs, age, end), metrics

    def _parts(self, kinds: tuple[Any, ...]) -> list[tuple[Any, slice]]:
        """Each kind of run with its pairs."""
        count, pairs = len(kinds), self.population // 2
        if pairs % count:
            raise ValueError(
                f"{count} families do not divide population={self.population} into pairs: write "
                f"population={2 * count * -(-pairs // count)}."
            )
        each = pairs // count
        return [(kind, slice(i * each, (i + 1) * each)) for i, kind in enumerate(kinds)]


@pytree
class PersistentEvolution(MetaLearner):
    """Evolution of meta-parameters within training runs, by PES: a step of it is `unroll` updates
    of each member's learner.

    A piece's fitness is the score of the policy that it ends with, so that the sum over a run is
    that of its whole curve.
    """

    inner: InnerLoop = InnerLoop()
    strategy: PES = PES()
    unroll: int = static(default=5)

    def __post_init__(self) -> None:
        check_counts(self, "unroll")

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        if self.unroll > self.inner.lifetime[0]:
            raise ValueError(
                f"A piece of unroll={self.unroll} updates is longer than the shortest "
                f"lifetime={self.inner.lifetime}: write a smaller unroll, or a longer lifetime."
            )
        if self.inner.by_area:
            raise ValueError(
                "PersistentEvolution scores the policy after each piece, which sums up to the area "
                "under the curve, and by_area=True would be ignored: write by_area=False."
            )
        start, _ = self._of(env)
        return self.strategy.init(key, self.inner.tuned, start, num_updates)

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one piece of every run, and metrics; `return` is the mean score,
        `age` the mean age in pieces.
        """
        state, metrics = self.strategy.update(key, state, *self._of(env))
        return state, {"return": metrics.pop("fitness")} | metrics

    def _of(self, tasks: Tasks) -> tuple[Any, Any]:
        """The functions `start` and `unroll` of these tasks, or of each family."""
        if not isinstance(tasks, Families):
            start = lambda key: self._start(key, tasks)
            return start, lambda key, params, run: self._unroll(tasks, key, params, run)
        each = [replace(self, inner=inner)._of(family) for family, inner in tasks.loops(self.inner)]
        starts, unrolls = zip(*each, strict=True)
        return starts, unrolls

    def _start(self, key: jax.Array, tasks: Tasks) -> tuple[Any, jax.Array]:
        """A level and a learner's initial state on it, and the number of pieces of the run."""
        key_level, key_length, key_init = jax.random.split(key, 3)
        pieces = jnp.ceil(self.inner.quantile(jax.random.uniform(key_length)) / self.unroll)
        level = tasks.sample(key_level)
        return (level, self.inner.learner.init(key_init, level, pieces * self.unroll)), pieces

    def _unroll(
        self, tasks: Tasks, key: jax.Array, params: dict[str, Any], run: Any
    ) -> tuple[Any, jax.Array]:
        """The run after `unroll` updates, and its score."""
        level, state = run
        learner = self.inner.with_params(params)
        key_learn, key_score = jax.random.split(key)
        state, _ = run_updates(key_learn, learner, level, state, self.unroll)
        return (level, state), self.inner.score(key_score, learner, tasks, level, state)


def _kinds(functions: Any) -> tuple[Any, ...]:
    """The function of each kind of run."""
    return functions if isinstance(functions, tuple) else (functions,)
