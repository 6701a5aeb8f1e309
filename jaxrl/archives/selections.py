"""Selections of elites: from which cells of an archive parents are drawn."""

import jax
import jax.numpy as jnp

from jaxrl.archives.archive import Archive
from jaxrl.archives.novelty import elite_novelty
from jaxrl.errors import check_counts
from jaxrl.tree import leaf, pytree, static


@pytree
class Selection:
    """Base class of selections, and uniform selection."""

    def weight(self, archive: Archive) -> jax.Array:
        """The weight of each cell, to which the probability of its elite is proportional. [C]."""
        return jnp.ones(archive.num_cells)


@pytree
class Novel(Selection):
    """Truncation selection by novelty, regardless of fitness (novelty search, Lehman and Stanley,
    2011).

    The repertoire is both the population and the archive of the paper. truncation: the fraction of
    elites, the most novel ones, that parents are drawn from. num_neighbors: k.
    """

    truncation: float = leaf(0.1, "(0, 1]")
    num_neighbors: int = static(default=15)

    def __post_init__(self) -> None:
        check_counts(self, "num_neighbors")

    def weight(self, archive: Archive) -> jax.Array:
        novelty = jnp.where(archive.filled, elite_novelty(archive, self.num_neighbors), -jnp.inf)
        order = jnp.argsort(-novelty)
        rank = jnp.zeros(archive.num_cells).at[order].set(jnp.arange(archive.num_cells * 1.0))
        return (rank < jnp.ceil(self.truncation * archive.filled.sum())).astype(jnp.float32)


@pytree
class Above(Selection):
    """Elites with a fitness above `fitness`, from which the reward emitters of SERENE start (Paolo
    et al., 2021); all elites while there are none.
    """

    fitness: float = leaf(0.0, "(-inf, inf)")

    def weight(self, archive: Archive) -> jax.Array:
        above = archive.fitness > self.fitness
        return jnp.where(above.any(), above, archive.filled).astype(jnp.float32)
