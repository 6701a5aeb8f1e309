"""Strategies that evosax has well: the only door to it (`pip install 'jaxrl[evosax]'`).

They compare each member with all others, so all members of a generation share their luck.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.meta.strategies import Fitness, as_floats, clean, generation
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import check_counts, pytree, static


@pytree
class State:
    """`params` is the mean; `search` is evosax's own state."""

    params: Any
    search: Any
    clock: Clock


@pytree
class _Search:
    """A strategy of evosax's with the three methods of the kit's. sigma: the first spread, a
    leaf.
    """

    sigma: float = 0.1
    population: int = static(default=32)

    def __post_init__(self) -> None:
        check_counts(self, "population", least=2)

    @property
    def members(self) -> int:
        return self.population

    @property
    def luck(self) -> np.ndarray:
        return np.zeros(self.population, int)

    def init(self, params: Any, num_generations: Any = float("inf")) -> State:
        params = as_floats(params)
        with BROADCASTS():
            search, settings = self._search(params)
            begun = search.init(jax.random.key(0), params, settings)  # it draws nothing
        return State(
            params, jax.tree.map(_strong, begun), Clock(jnp.int32(0), jnp.float32(num_generations))
        )

    def ask(self, key: jax.Array, state: State, member: Any) -> Any:
        return jax.tree.map(lambda x: x[member], self._asked(key, state)[0])

    def tell(self, key: jax.Array, state: State, fitness: jax.Array) -> tuple[State, Metrics]:
        fitness, metrics = clean(fitness)
        cost = -fitness.reshape(self.population, -1).mean(-1)  # evosax minimises
        members, asked = self._asked(key, state)
        with BROADCASTS():
            search, settings = self._search(state.params)
            told, _ = search.tell(jax.random.fold_in(key, 1), members, cost, asked, settings)
        told = jax.tree.map(_strong, told)
        return State(search.get_mean(told), told, state.clock.tick()), metrics | {
            "spread": jnp.mean(told.std)
        }

    def update(self, key: jax.Array, state: State, fitness: Fitness) -> tuple[State, Metrics]:
        """One generation of `fitness(key, params)`, [] or [K]; all members get the same key."""
        return generation(self, key, state, fitness)

    def _search(self, params: Any) -> tuple[Any, Any]:
        try:
            from evosax import algorithms
        except ImportError as error:
            name = type(self).__name__
            raise ImportError(
                f"{name} is evosax's: pip install 'jaxrl[evosax]'. rl.ES needs nothing."
            ) from error
        search = getattr(algorithms, NAMES[type(self)])(self.population, params)
        return search, search.default_params.replace(std_init=jnp.asarray(self.sigma, jnp.float32))

    def _asked(self, key: jax.Array, state: State) -> tuple[Any, Any]:
        with BROADCASTS():
            search, settings = self._search(state.params)
            return search.ask(jax.random.fold_in(key, 0), state.search, settings)


@pytree
class SNES(_Search):
    """Separable natural evolution strategy (Wierstra et al., 2014): a mean and a spread for each
    parameter.
    """


@pytree
class SepCMAES(_Search):
    """Separable CMA-ES (Ros and Hansen, 2008): a diagonal covariance, for up to some thousands of
    parameters.
    """


@pytree
class CMAES(_Search):
    """CMA-ES (Hansen and Ostermeier, 2001): a full covariance, for up to some hundreds of
    parameters.
    """


BROADCASTS = functools.partial(
    jax.numpy_rank_promotion, "allow"
)  # evosax adds vectors to matrices; we may forbid it
NAMES = {SNES: "SNES", SepCMAES: "Sep_CMA_ES", CMAES: "CMA_ES"}


def _strong(x: Any) -> jax.Array:
    """An array with a type of its own, as a scan's carry and a checkpoint have."""
    return jax.lax.convert_element_type(jnp.asarray(x), jnp.asarray(x).dtype)
