"""Strategies of evosax, the only module that imports it (`pip install 'jaxrl[evosax]'`).

They rank all members of a generation, so all of them use common random numbers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.errors import check_counts
from jaxrl.meta.strategies import Strategy, as_floats, clean
from jaxrl.tree import leaf, pytree, static


@pytree
class State:
    """`params` is the mean; `search` is evosax's own state."""

    params: Any
    search: Any
    clock: Clock


@pytree
class _Evosax(Strategy):
    """A strategy of evosax. sigma: the initial standard deviation, a leaf."""

    sigma: float = leaf(0.1, "(0, inf)")
    population: int = static(default=32)

    def __post_init__(self) -> None:
        check_counts(self, "population", min_value=2)

    @property
    def members(self) -> int:
        return self.population

    @property
    def crn_group(self) -> np.ndarray:
        return np.zeros(self.population, int)

    def init(self, params: Any, num_generations: jax.Array | float = float("inf")) -> State:
        params = as_floats(params)
        with BROADCASTS():
            search, settings = self._search(params)
            start = search.init(jax.random.key(0), params, settings)  # it draws nothing
        return State(params, jax.tree.map(_strong, start), start_clock(num_generations))

    def ask(self, key: jax.Array, state: State, member: Any) -> Any:
        return jax.tree.map(lambda x: x[member], self._ask_all(key, state)[0])

    def tell(self, key: jax.Array, state: State, fitness: jax.Array) -> tuple[State, Metrics]:
        fitness, metrics = clean(fitness)
        cost = -fitness.reshape(self.population, -1).mean(-1)  # evosax minimises
        members, asked = self._ask_all(key, state)
        with BROADCASTS():
            search, settings = self._search(state.params)
            after, _ = search.tell(jax.random.fold_in(key, 1), members, cost, asked, settings)
        after = jax.tree.map(_strong, after)
        metrics |= {"spread": jnp.mean(after.std)}
        return State(search.get_mean(after), after, state.clock.tick()), metrics

    def _search(self, params: Any) -> tuple[Any, Any]:
        try:
            from evosax import algorithms
        except ImportError as error:
            name = type(self).__name__
            raise ImportError(
                f"{name} is evosax's: pip install 'jaxrl[evosax]'. rl.ES needs nothing."
            ) from error
        search = vars(algorithms)[NAMES[type(self)]](self.population, params)
        return search, search.default_params.replace(std_init=jnp.asarray(self.sigma, jnp.float32))

    def _ask_all(self, key: jax.Array, state: State) -> tuple[Any, Any]:
        """All members, and evosax's state after proposing them."""
        with BROADCASTS():
            search, settings = self._search(state.params)
            return search.ask(jax.random.fold_in(key, 0), state.search, settings)


@pytree
class SNES(_Evosax):
    """Separable natural evolution strategy (Wierstra et al., 2014): a mean and a standard deviation
    for each parameter.
    """


@pytree
class SepCMAES(_Evosax):
    """Separable CMA-ES (Ros and Hansen, 2008): a diagonal covariance, for up to some thousands of
    parameters.
    """


@pytree
class CMAES(_Evosax):
    """CMA-ES (Hansen and Ostermeier, 2001): a full covariance, for up to some hundreds of
    parameters.
    """


# evosax adds vectors to matrices, which the user's configuration may forbid
BROADCASTS = functools.partial(jax.numpy_rank_promotion, "allow")
NAMES = {SNES: "SNES", SepCMAES: "Sep_CMA_ES", CMAES: "CMA_ES"}


def _strong(x: Any) -> jax.Array:
    """An array without a weak type, as a scan's carry and a checkpoint have."""
    return jax.lax.convert_element_type(jnp.asarray(x), jnp.asarray(x).dtype)
