"""Rankings of a batch by its effect on an archive, for emitters around evolution strategies."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.archives.archive import Archive, Entered
from jaxrl.archives.novelty import novelty
from jaxrl.archives.tasks import Evaluated
from jaxrl.errors import check_counts, not_defined
from jaxrl.tree import pytree, static

RankingState = Any


class Ranking:
    """Base class of rankings: a pytree of settings."""

    def init(self, key: jax.Array, descriptor: jax.Array) -> RankingState:
        """Return the state at a start or restart; () without one. descriptor: an example. [D]."""
        return ()

    def order(
        self, state: RankingState, archive: Archive, evaluated: Evaluated, entered: Entered
    ) -> jax.Array:
        """The indices of a batch [N] from worst to best. archive: after the batch. [N]."""
        raise not_defined(self, Ranking.order)


def ascending(value: jax.Array) -> jax.Array:
    """The indices of a batch [N] by ascending value, NaN before all others. [N]."""
    return jnp.argsort(jnp.where(jnp.isnan(value), -jnp.inf, value))


@pytree
class Improvement(Ranking):
    """Solutions of new cells first, then by the gain in fitness: the improvement emitter (Fontaine
    et al., 2020).
    """

    def order(
        self, state: RankingState, archive: Archive, evaluated: Evaluated, entered: Entered
    ) -> jax.Array:
        return jnp.lexsort((entered.gain, entered.is_new))


@pytree
class ByFitness(Ranking):
    """By fitness alone: the optimising emitter (Fontaine et al., 2020)."""

    def order(
        self, state: RankingState, archive: Archive, evaluated: Evaluated, entered: Entered
    ) -> jax.Array:
        return ascending(evaluated.fitness)


@pytree
class RandomDirection(Ranking):
    """By the projection of the descriptor on a direction that is drawn at each restart: the random
    direction emitter (Fontaine et al., 2020).
    """

    def init(self, key: jax.Array, descriptor: jax.Array) -> jax.Array:
        return jax.random.normal(key, descriptor.shape)

    def order(
        self, state: jax.Array, archive: Archive, evaluated: Evaluated, entered: Entered
    ) -> jax.Array:
        return ascending(evaluated.descriptor @ state)


@pytree
class ByNovelty(Ranking):
    """By novelty among the elites: novelty search by an evolution strategy (NS-ES, Conti et al.,
    2018).

    num_neighbors: k.
    """

    num_neighbors: int = static(default=15)

    def __post_init__(self) -> None:
        check_counts(self, "num_neighbors")

    def order(
        self, state: RankingState, archive: Archive, evaluated: Evaluated, entered: Entered
    ) -> jax.Array:
        others, filled = archive.items.descriptor, archive.filled
        value = novelty(evaluated.descriptor, others, filled, entered.enters, self.num_neighbors)
        return ascending(value)
