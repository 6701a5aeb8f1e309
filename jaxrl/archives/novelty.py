"""Novelty: the mean distance of a descriptor to its nearest neighbours."""

import jax
import jax.numpy as jnp

from jaxrl.archives.archive import Archive

ROWS = 256  # points at a time, of which the distances are stored


def novelty(
    points: jax.Array, others: jax.Array, valid: jax.Array, is_inside: jax.Array, k: int
) -> jax.Array:
    """The mean distance of each point [N, D] to the k nearest of `others` [C, D] (Lehman and
    Stanley, 2011, equation 1). [N].

    valid: False for entries of `others` to ignore. [C]. is_inside: True for a point that is itself
    one of the others, which is then not its own neighbour. [N]. With fewer than k neighbours, the
    mean is over all of them; with none it is 0.
    """

    def mean_distance(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        point, is_inside = row
        squares = jnp.sum((point[None] - others) ** 2, -1)
        squares = jnp.where(valid, squares, jnp.inf)
        nearest = -jax.lax.top_k(-squares, min(k + 1, others.shape[0]))[0]
        place = jnp.arange(nearest.shape[0]) - is_inside
        counts = (place >= 0) & (place < k) & jnp.isfinite(nearest)
        distance = jnp.sqrt(jnp.where(counts, nearest, 0.0))
        return distance.sum() / jnp.maximum(counts.sum(), 1)

    return jax.lax.map(mean_distance, (points, is_inside), batch_size=ROWS)


def elite_novelty(archive: Archive, k: int) -> jax.Array:
    """The novelty of each elite among the others; 0 in an empty cell. [C]."""
    descriptor = archive.items.descriptor
    found = novelty(descriptor, descriptor, archive.filled, archive.filled, k)
    return jnp.where(archive.filled, found, 0.0)
