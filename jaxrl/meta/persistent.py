"""Evolution through lives cut into pieces, without the bias of short horizons: each particle has a
clock of its own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import tree
from jaxrl.algorithms.base import Optimizer
from jaxrl.env import Tasks, check_tasks
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import as_floats, check_pairs, noise_like
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static

Begin = Callable[
    [jax.Array], tuple[Any, Any]
]  # key -> the start of a life, and how many pieces it lasts
Unroll = Callable[
    [jax.Array, Any, Any], tuple[Any, jax.Array]
]  # (key, params, life) -> life, the fitness of one piece []


@pytree
class State:
    """`direction` [P, ...] is what a pair's gradient is along; `lives` [P, 2, ...]; `age` and `end`
    [P], in pieces.
    """

    params: Any
    opt_state: Any
    clock: Clock
    direction: Any
    lives: Any
    age: jax.Array
    end: jax.Array


@pytree
class PES:
    """Persistent evolution strategies (Vicol et al., 2021): unbiased gradients from pieces of a
    life.

    Each of `population / 2` antithetic pairs lives on from piece to piece, with fresh noise in
    each, and its gradient is (fitness of the first - of the second) * (the sum of its noise so far)
    / (2 sigma). A life that is over begins anew. Ages are staggered: first lives end after a
    uniform share of their length, else all particles would be in one phase and the gradient biased
    by it.

    keeps_noise: noise-reuse evolution strategies (Li et al., 2023), one noise for a whole life,
    which has less variance.
    """

    lr: float = 0.01
    sigma: float = 0.1
    optimizer: Any = Optimizer(optax.adam)
    population: int = static(default=64)
    keeps_noise: bool = static(default=False)

    def __post_init__(self) -> None:
        check_pairs(self.population)

    def init(
        self, key: jax.Array, params: Any, begin: Begin, num_updates: Any = float("inf")
    ) -> State:
        params, pairs = as_floats(params), self.population // 2
        key_begin, key_end = jax.random.split(key)
        life, end = jax.vmap(begin)(jax.random.split(key_begin, pairs))
        first_end = 1 + jnp.floor(jax.random.uniform(key_end, (pairs,)) * end).astype(jnp.int32)
        twins = jax.tree.map(lambda x: jnp.stack([x, x], 1), life)
        still = jax.tree.map(lambda x: jnp.zeros((pairs, *x.shape), x.dtype), params)
        clock = Clock(jnp.int32(0), jnp.float32(num_updates))
        return State(
            params,
            self.optimizer(self.lr).init(params),
            clock,
            still,
            twins,
            jnp.zeros(pairs, jnp.int32),
            first_end,
        )

    def update(
        self, key: jax.Array, state: State, begin: Begin, unroll: Unroll
    ) -> tuple[State, Metrics]:
        """One piece of every life, and a step."""

        def live(
            pair: jax.Array, direction: Any, lives: Any, age: jax.Array, end: jax.Array
        ) -> tuple[Any, ...]:
            key_noise, key_luck, key_begin = jax.random.split(jax.random.fold_in(key, pair), 3)
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
            lives, fitness = jax.vmap(lambda params, life: unroll(key_luck, params, life))(
                both, lives
            )
            finite = jnp.isfinite(fitness).all()
            slope = jnp.where(finite, fitness[0] - fitness[1], 0.0) / (2.0 * self.sigma)
            grad = jax.tree.map(lambda e: -slope * e, direction)
            over = (age + 1 >= end) | ~finite
            born, next_end = begin(key_begin)
            fresh_pair = (
                jax.tree.map(lambda x: jnp.stack([x, x]), born),
                jnp.int32(0),
                jnp.asarray(next_end, jnp.int32),
            )
            lives, age, end = tree.where(over, fresh_pair, (lives, age + 1, end))
            return (
                grad,
                jax.tree.map(lambda x: jnp.where(over, 0.0, x), direction),
                lives,
                age,
                end,
                fitness,
            )

        grads, direction, lives, age, end, fitness = jax.vmap(live)(
            jnp.arange(len(state.age)), state.direction, state.lives, state.age, state.end
        )
        grads = jax.tree.map(lambda x: x.mean(0), grads)
        changes, opt_state = self.optimizer(self.lr).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        return State(params, opt_state, state.clock.tick(), direction, lives, age, end), {
            "fitness": jnp.nanmean(fitness),
            "non_finite": (~jnp.isfinite(fitness)).sum(),
            "grad_norm": optax.tree.norm(grads),
            "age": age.mean(),
        }


@pytree
class PersistentEvolution:
    """Evolves a learner while it lives, by PES: a step of it is `unroll` updates of each particle's
    learner.

    A piece's fitness is the score of the policy that it ends with, so that the sum over a life is
    of its whole curve.
    """

    lives: InnerLoop = InnerLoop()
    strategy: PES = PES()
    unroll: int = static(default=5)

    steps_per_update = 1

    def __post_init__(self) -> None:
        tree.check_counts(self, "unroll")

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> State:
        check_tasks(env, self)
        if self.unroll > self.lives.lifetime[0]:
            raise ValueError(
                f"A piece of unroll={self.unroll} updates is longer than the shortest "
                f"lifetime={self.lives.lifetime}: write "
                "a smaller unroll, or longer lives."
            )
        return self.strategy.init(
            key, self.lives.tuned, lambda key: self._begin(key, env), num_updates
        )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        begin, unroll = lambda key: self._begin(key, env), lambda *now: self._unroll(env, *now)
        state, metrics = self.strategy.update(key, state, begin, unroll)
        ended = {"length": metrics["age"], "episodes": jnp.int32(self.strategy.population)}
        return state, {"return": metrics.pop("fitness")} | ended | metrics

    def judge(self, key: jax.Array, env: Tasks, state: State, episodes: int) -> jax.Array:
        return self.lives.judge(env, state.params, episodes)

    def _begin(self, key: jax.Array, tasks: Tasks) -> tuple[Any, jax.Array]:
        key_level, key_length, key_init = jax.random.split(key, 3)
        pieces = jnp.ceil(self.lives.quantile(jax.random.uniform(key_length)) / self.unroll)
        level = tasks.sample(key_level)
        return (level, self.lives.learner.init(key_init, level, pieces * self.unroll)), pieces

    def _unroll(
        self, tasks: Tasks, key: jax.Array, params: dict[str, Any], life: Any
    ) -> tuple[Any, jax.Array]:
        level, state = life
        learner = self.lives.with_params(params)
        key_learn, key_judge = jax.random.split(key)
        update = lambda n, state: learner.update(jax.random.fold_in(key_learn, n), level, state)[0]
        state = jax.lax.fori_loop(0, self.unroll, update, state)
        return (level, state), self.lives.score_of(key_judge, learner, tasks, level, state)
