"""Evolution strategies over any pytree of floats: they propose members and learn from fitness."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.errors import not_defined
from jaxrl.meta.shaping import PairSign, Shaping
from jaxrl.optimizer import Optimizer, OptimizerBuilder, at_rate, check_gradient_fields
from jaxrl.tree import leaf, pytree, static

Fitness = Callable[[jax.Array, Any], jax.Array]  # (key, params) -> [] or, one for each task, [K]


class Strategy:
    """Base class of evolution strategies: a pytree of settings.

    Its state has the fields `params`, the current solution, and `clock`, which counts generations.
    """

    @property
    def members(self) -> int:
        """The number of members of a generation."""
        raise not_defined(self, Strategy.members)

    @property
    def crn_group(self) -> np.ndarray:
        """The group of each member: those of one group use common random numbers, the same tasks
        and keys, so that their fitness differs by their parameters alone. [M].
        """
        raise not_defined(self, Strategy.crn_group)

    def init(self, params: Any, num_generations: jax.Array | float = float("inf")) -> Any:
        """Return the state before the first generation."""
        raise not_defined(self, Strategy.init)

    def ask(self, key: jax.Array, state: Any, member: Any) -> Any:
        """The parameters of one member, a whole number below `members`.

        `ask` and `tell` of a generation have the same key.
        """
        raise not_defined(self, Strategy.ask)

    def tell(self, key: jax.Array, state: Any, fitness: jax.Array) -> tuple[Any, Metrics]:
        """Return the state after a generation of this fitness, [M] or with K tasks each [M, K], and
        metrics. Higher is better.
        """
        raise not_defined(self, Strategy.tell)

    def update(self, key: jax.Array, state: Any, fitness: Fitness) -> tuple[Any, Metrics]:
        """Return the state after one generation of `fitness(key, params)`, [] or [K], of all
        members side by side. Members of one group get the same key.
        """
        key_ask, key_fitness = jax.random.split(key)

        def evaluate(member: jax.Array, group: jax.Array) -> jax.Array:
            params = self.ask(key_ask, state, member)
            return fitness(jax.random.fold_in(key_fitness, group), params)

        found = jax.vmap(evaluate)(jnp.arange(self.members), jnp.asarray(self.crn_group))
        return self.tell(key_ask, state, found)


@pytree
class State:
    """The centre of the members' distribution, the optimiser's state, and the generation."""

    params: Any
    opt_state: optax.OptState
    clock: Clock


@pytree
class ES(Strategy):
    """Evolution strategy with antithetic pairs (Salimans et al., 2017): gradient ascent on the mean
    fitness of normally distributed members.

    Members 2i and 2i + 1 are params + sigma * noise and params - sigma * noise, and use common
    random numbers. The gradient is the sum over pairs of (utility of the first - of the second) *
    noise / (2 * sigma * pairs); `shaping` gives the utilities. The noise is drawn again from its
    key in `tell`, so that no generation is stored.

    lr, sigma: of the first generation; each later one multiplies them by `lr_decay` and
    `sigma_decay`. population: members of a generation, an even number.
    """

    lr: float = leaf(0.03, "[0, inf)")
    sigma: float = leaf(0.1, "(0, inf)")
    lr_decay: float = leaf(1.0, "[0, inf)")
    sigma_decay: float = leaf(1.0, "(0, inf)")
    shaping: Shaping = PairSign()
    optimizer: Optimizer | OptimizerBuilder = Optimizer(optax.adam)
    population: int = static(default=64)

    def __post_init__(self) -> None:
        check_pairs(self.population)
        check_gradient_fields(self)

    @property
    def members(self) -> int:
        return self.population

    @property
    def crn_group(self) -> np.ndarray:
        return np.arange(self.population) // 2

    def init(self, params: Any, num_generations: jax.Array | float = float("inf")) -> State:
        params = as_floats(params)
        opt_state = self.optimizer(self.lr).init(params)
        return State(params, opt_state, start_clock(num_generations))

    def ask(self, key: jax.Array, state: State, member: Any) -> Any:
        member = jnp.asarray(member)
        _, sigma = self._rates(state)
        step = sigma * (1.0 - 2.0 * (member % 2))
        noise = noise_like(jax.random.fold_in(key, member // 2), state.params)
        return jax.tree.map(lambda x, e: x + step.astype(x.dtype) * e, state.params, noise)

    def tell(self, key: jax.Array, state: State, fitness: jax.Array) -> tuple[State, Metrics]:
        factor, sigma = self._rates(state)
        fitness, metrics = clean(fitness)
        pairs = fitness.reshape(self.population // 2, 2, -1)
        utility = self.shaping(pairs)
        weight = (utility[:, 0] - utility[:, 1]) / (2.0 * sigma * len(pairs))

        def add(total: Any, pair_weight: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            pair, weight = pair_weight
            noise = noise_like(jax.random.fold_in(key, pair), state.params)
            return jax.tree.map(lambda g, e: g - weight.astype(g.dtype) * e, total, noise), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        grads, _ = jax.lax.scan(add, zeros, (jnp.arange(len(pairs)), weight))
        optimizer = at_rate(self.optimizer, self.lr, state.params, factor)
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        metrics |= {
            "ties": jnp.mean(pairs[:, 0] == pairs[:, 1]),
            "grad_norm": optax.tree.norm(grads),
            "spread": sigma,
        }
        return State(params, opt_state, state.clock.tick()), metrics

    def _rates(self, state: State) -> tuple[jax.Array, jax.Array]:
        """The factor on the learning rate, and sigma, of this generation."""
        n = jnp.asarray(state.clock.n, jnp.float32)
        return jnp.asarray(self.lr_decay) ** n, self.sigma * jnp.asarray(self.sigma_decay) ** n


def clean(fitness: jax.Array) -> tuple[jax.Array, Metrics]:
    """Fitness [M] or [M, K] with -inf in place of what is not finite, and the generation's metrics:
    mean `fitness`, `best_fitness`, `fitness_std` and the number of `non_finite` ones. [].
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
    """Check that a population is made of antithetic pairs.

    Raises:
      ValueError: it is odd, or below 2.
    """
    if not isinstance(population, int | np.integer) or population < 2 or population % 2:
        even = max(2, 2 * int(-(-population // 2)))
        raise ValueError(f"population={population} is not made of pairs; write population={even}.")


def as_floats(params: Any) -> Any:
    """The parameters as arrays.

    Raises:
      ValueError: there are none.
      TypeError: one of them is not a real number, so that no noise can be added to it.
    """
    named = jax.tree_util.tree_leaves_with_path(params)
    if not named:
        raise ValueError(
            "Nothing is tuned: name the fields that are learnt, such as "
            "meta_params=('weights',) or meta_params=('lr',)."
        )
    for path, x in named:
        is_array = isinstance(x, jax.Array | np.ndarray | np.generic)
        kind = x.dtype if is_array else np.asarray(x).dtype
        if not jnp.issubdtype(kind, jnp.floating):
            raise TypeError(
                f"{jax.tree_util.keystr(path) or 'params'} = {x!r} is {kind}, and evolution "
                "adds noise to real numbers. Tune only the fields below it that are floats."
            )
    return jax.tree.map(jnp.asarray, params)


def noise_like(key: jax.Array, params: Any) -> Any:
    """Standard normal noise of the shapes of the parameters."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, noise)
