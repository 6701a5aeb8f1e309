"""Persistent evolution: unbiased gradients from training runs in pieces, each run at an age of its
own.
"""

import functools
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
class Pairs:
    """Antithetic pairs with runs of one kind.

    direction: what the gradient of each pair is along, [P, ...]. runs: of both of a pair,
    [P, 2, ...]. age, end: of a run, in pieces, [P].
    """

    direction: Any
    runs: Any
    age: jax.Array
    end: jax.Array


@pytree
class State:
    """pairs: those of each kind of run."""

    params: Any
    opt_state: optax.OptState
    clock: Clock
    pairs: tuple[Pairs, ...]


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
        params, starts = as_floats(params), _each(start)
        key_start, key_end = jax.random.split(key)
        keys = jax.random.split(key_start, self.population // 2)
        num = self._pairs_of_each(len(starts))

        def begin(i: int, start: Start) -> Pairs:
            run, end = jax.vmap(start)(keys[i * num : (i + 1) * num])
            key = key_end if len(starts) == 1 else jax.random.fold_in(key_end, i)
            share = jax.random.uniform(key, (num,))
            return Pairs(
                direction=jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), params),
                runs=jax.tree.map(lambda x: jnp.stack([x, x], 1), run),
                age=jnp.zeros(num, jnp.int32),
                end=1 + jnp.floor(share * end).astype(jnp.int32),
            )

        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            clock=start_clock(num_updates),
            pairs=tuple(begin(i, one) for i, one in enumerate(starts)),
        )

    def update(
        self,
        key: jax.Array,
        state: State,
        start: Start | tuple[Start, ...],
        unroll: Unroll | tuple[Unroll, ...],
    ) -> tuple[State, Metrics]:
        """Return the state after one piece of every run and a gradient step, and metrics."""
        first, found = 0, []
        for pairs, one, piece in zip(state.pairs, _each(start), _each(unroll), strict=True):
            one_pair = functools.partial(self._one_pair, state.params, one, piece)
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
                first + jnp.arange(len(pairs.age))
            )
            found.append(jax.vmap(one_pair)(keys, pairs))
            first += len(pairs.age)
        grads, pairs, fitness = zip(*found, strict=True)
        grads = jax.tree.map(lambda *x: jnp.concatenate(x).mean(0), *grads)
        fitness, age = jnp.concatenate(fitness), jnp.concatenate([one.age for one in pairs])
        optimizer = at_rate(self.optimizer, self.lr, state.params)
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        metrics = {
            "fitness": jnp.nanmean(fitness),
            "non_finite": (~jnp.isfinite(fitness)).sum(),
            "grad_norm": optax.tree.norm(grads),
            "age": age.mean(),
        }
        return State(params, opt_state, state.clock.tick(), pairs), metrics

    def _one_pair(
        self, params: Any, start: Start, unroll: Unroll, key: jax.Array, pair: Pairs
    ) -> tuple[Any, Pairs, jax.Array]:
        """A pair's gradient, the pair after one piece, and the fitness of both. [2]."""
        key_noise, key_run, key_start = jax.random.split(key, 3)
        fresh = noise_like(key_noise, params)
        if self.keeps_noise:
            noise = direction = tree.where(pair.age == 0, fresh, pair.direction)
        else:
            noise, direction = fresh, jax.tree.map(jnp.add, pair.direction, fresh)
        both = jax.tree.map(
            lambda x, e: jnp.stack([x + self.sigma * e, x - self.sigma * e]), params, noise
        )
        runs, fitness = jax.vmap(lambda params, run: unroll(key_run, params, run))(both, pair.runs)
        finite = jnp.isfinite(fitness).all()
        slope = jnp.where(finite, fitness[0] - fitness[1], 0.0) / (2.0 * self.sigma)
        grad = jax.tree.map(lambda e: -slope * e, direction)
        new_run, new_end = start(key_start)
        new = Pairs(
            direction=jax.tree.map(jnp.zeros_like, direction),
            runs=jax.tree.map(lambda x: jnp.stack([x, x]), new_run),
            age=jnp.int32(0),
            end=jnp.asarray(new_end, jnp.int32),
        )
        over = (pair.age + 1 >= pair.end) | ~finite
        return grad, tree.where(over, new, Pairs(direction, runs, pair.age + 1, pair.end)), fitness

    def _pairs_of_each(self, count: int) -> int:
        """The number of pairs of each of `count` kinds of runs."""
        pairs = self.population // 2
        if pairs % count:
            raise ValueError(
                f"{count} kinds of runs do not divide the {pairs} pairs of population="
                f"{self.population}: write population={2 * count * -(-pairs // count)}."
            )
        return pairs // count


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
                "PersistentEvolution evaluates the policy after each piece, and does not read "
                "training returns: write by_area=False."
            )
        start, _ = self._start_and_unroll(env)
        return self.strategy.init(key, self.inner.tuned, start, num_updates)

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one piece of every run, and metrics; `return` is the mean score,
        `age` the mean age in pieces.
        """
        state, metrics = self.strategy.update(key, state, *self._start_and_unroll(env))
        return state, {"return": metrics.pop("fitness")} | metrics

    def _start_and_unroll(self, tasks: Tasks) -> tuple[Any, Any]:
        """The functions `start` and `unroll` of these tasks, or of each family."""
        if not isinstance(tasks, Families):
            start = lambda key: self._start(key, tasks)
            return start, lambda key, params, run: self._unroll(tasks, key, params, run)
        each = [
            replace(self, inner=inner)._start_and_unroll(family)
            for family, inner in tasks.loops(self.inner)
        ]
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


def _each(functions: Any) -> tuple[Any, ...]:
    """The function of each kind of run."""
    return functions if isinstance(functions, tuple) else (functions,)
