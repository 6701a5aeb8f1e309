"""Evolution strategies over any pytree of floats: what asks for members, and learns from how fit
they were.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.algorithms.base import Optimizer
from jaxrl.meta.shaping import PairSign, Shaping
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static

Fitness = Callable[[jax.Array, Any], jax.Array]  # (key, params) -> [] or, one for each task, [K]


class Strategy(Protocol):
    """A pytree of settings.

    Its state has the fields `params`, what it has learnt so far, and `clock`, of generations.
    """

    @property
    def members(self) -> int:
        """How many a generation has."""
        ...

    @property
    def luck(self) -> np.ndarray:
        """Members with the same number share their tasks and their keys, so that they differ by
        themselves alone. [M].
        """
        ...

    def init(self, params: Any, num_generations: Any = float("inf")) -> Any: ...

    def ask(self, key: jax.Array, state: Any, member: Any) -> Any:
        """The parameters of one member, a whole number below `members`.

        Ask and tell of a generation have the same key.
        """
        ...

    def tell(self, key: jax.Array, state: Any, fitness: jax.Array) -> tuple[Any, Metrics]:
        """The state after a generation that was so fit: [M] or, with K tasks each, [M, K].

        More is better.
        """
        ...


def generation(
    strategy: Strategy, key: jax.Array, state: Any, fitness: Fitness
) -> tuple[Any, Metrics]:
    """One generation of `fitness(key, params)`, all members at once."""
    key_ask, key_luck = jax.random.split(key)

    def judge(member: jax.Array, luck: jax.Array) -> jax.Array:
        return fitness(jax.random.fold_in(key_luck, luck), strategy.ask(key_ask, state, member))

    found = jax.vmap(judge)(jnp.arange(strategy.members), jnp.asarray(strategy.luck))
    return strategy.tell(key_ask, state, found)


@pytree
class State:
    """The centre of the cloud, its optimiser, and the generation."""

    params: Any
    opt_state: Any
    clock: Clock


@pytree
class ES:
    """Evolution strategy in antithetic pairs (Salimans et al., 2017): gradient ascent on the
    fitness of a cloud of members.

    Members 2i and 2i + 1 stand at params + sigma * noise and params - sigma * noise, and share
    their luck. The gradient is sum over pairs of (utility of the first - of the second) * noise /
    (2 * sigma * pairs); `shaping` makes the utilities. The noise is drawn again from its key where
    it is weighed, so that no generation is kept.

    lr, sigma: of the first generation; each later one multiplies them by `lr_decay` and
    `sigma_decay`. population: members of a generation, an even number.
    """

    lr: float = 0.03
    sigma: float = 0.1
    lr_decay: float = 1.0
    sigma_decay: float = 1.0
    shaping: Shaping = PairSign()
    optimizer: Any = Optimizer(optax.adam)
    population: int = static(default=64)

    def __post_init__(self) -> None:
        check_pairs(self.population)
        if callable(self.optimizer) and jax.tree_util.all_leaves([self.optimizer]):
            object.__setattr__(
                self, "optimizer", Optimizer(self.optimizer)
            )  # a bare function can't be a leaf

    @property
    def members(self) -> int:
        return self.population

    @property
    def luck(self) -> np.ndarray:
        return np.arange(self.population) // 2

    def init(self, params: Any, num_generations: Any = float("inf")) -> State:
        params = as_floats(params)
        return State(
            params,
            self.optimizer(self.lr).init(params),
            Clock(jnp.int32(0), jnp.float32(num_generations)),
        )

    def ask(self, key: jax.Array, state: State, member: Any) -> Any:
        member = jnp.asarray(member)
        step = self._now(state)[1] * (1.0 - 2.0 * (member % 2))
        noise = noise_like(jax.random.fold_in(key, member // 2), state.params)
        return jax.tree.map(lambda x, e: x + step.astype(x.dtype) * e, state.params, noise)

    def tell(self, key: jax.Array, state: State, fitness: jax.Array) -> tuple[State, Metrics]:
        lr, sigma = self._now(state)
        fitness, metrics = clean(fitness)
        pairs = fitness.reshape(self.population // 2, 2, -1)
        utility = self.shaping(pairs)
        weight = (utility[:, 0] - utility[:, 1]) / (2.0 * sigma * len(pairs))

        def add(total: Any, now: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            pair, weight = now
            noise = noise_like(jax.random.fold_in(key, pair), state.params)
            return jax.tree.map(lambda g, e: g - weight.astype(g.dtype) * e, total, noise), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        grads, _ = jax.lax.scan(add, zeros, (jnp.arange(len(pairs)), weight))
        changes, opt_state = self.optimizer(lr).update(grads, state.opt_state, state.params)
        metrics |= {
            "ties": jnp.mean(pairs[:, 0] == pairs[:, 1]),
            "grad_norm": optax.tree.norm(grads),
            "spread": sigma,
        }
        return State(
            optax.apply_updates(state.params, changes), opt_state, state.clock.tick()
        ), metrics

    def update(self, key: jax.Array, state: State, fitness: Fitness) -> tuple[State, Metrics]:
        """One generation of `fitness(key, params)`, [] or [K]; the two of a pair get the same
        key.
        """
        return generation(self, key, state, fitness)

    def _now(self, state: State) -> tuple[jax.Array, jax.Array]:
        n = jnp.asarray(state.clock.n, jnp.float32)
        return self.lr * jnp.asarray(self.lr_decay) ** n, self.sigma * jnp.asarray(
            self.sigma_decay
        ) ** n


def clean(fitness: jax.Array) -> tuple[jax.Array, Metrics]:
    """Fitness [M] or [M, K] with -inf, the worst there is, for what is not finite; and what a
    generation was like. [].
    """
    finite = jnp.isfinite(fitness)
    mean = lambda x: jnp.sum(jnp.where(finite, x, 0.0)) / jnp.maximum(finite.sum(), 1)
    middle = jnp.where(finite.any(), mean(fitness), jnp.nan)
    cleaned = jnp.where(finite, fitness, -jnp.inf)
    each = cleaned.reshape(len(fitness), -1).mean(-1)
    return cleaned, {
        "fitness": middle,
        "best_fitness": each.max(),
        "fitness_std": jnp.sqrt(mean((fitness - middle) ** 2)),
        "non_finite": (~finite).sum(),
    }


def check_pairs(population: int) -> None:
    """Refuses a number of members that is not made of antithetic pairs."""
    if not isinstance(population, int | np.integer) or population < 2 or population % 2:
        even = max(2, 2 * int(-(-population // 2)))
        raise ValueError(f"population={population} is not made of pairs; write population={even}.")


def as_floats(params: Any) -> Any:
    """The parameters as arrays.

    Raises:
      ValueError: there are none.
      TypeError: one of them is no real number, so that no noise can be added to it.
    """
    named = jax.tree_util.tree_leaves_with_path(params)
    if not named:
        raise ValueError(
            "Nothing is tuned: name the fields that are learnt, say meta_params=('weights',) or "
            "meta_params=('lr',)."
        )
    for path, x in named:
        kind = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        if not jnp.issubdtype(kind, jnp.floating):
            raise TypeError(
                f"{jax.tree_util.keystr(path) or 'params'} = {x!r} is {kind}, and evolution "
                "adds noise to real numbers. "
                "Tune only the fields below it that are floats."
            )
    return jax.tree.map(jnp.asarray, params)


def noise_like(key: jax.Array, params: Any) -> Any:
    """Standard normal noise for each of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, noise)
