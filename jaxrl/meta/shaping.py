"""Fitness shaping: the utilities that an evolution strategy weights its noise by.

Each is called with the fitness of P antithetic pairs on K tasks, [P, 2, K], -inf where it was not
finite, and gives utilities [P, 2], of which the difference within a pair counts.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


class Shaping(Protocol):
    """A pytree: fitness [P, 2, K] to utilities [P, 2]."""

    def __call__(self, fitness: jax.Array) -> jax.Array: ...


@pytree
class PairSign:
    """The sign of the difference within each pair, averaged over the tasks: 1/2 and -1/2, or 0 for
    a tie (Jackson et al., 2024).

    A pair is compared with itself alone, so the difficulty and the scale of its task don't matter.
    """

    def __call__(self, fitness: jax.Array) -> jax.Array:
        first, second = fitness[:, 0], fitness[:, 1]
        # by comparison, as -inf - -inf is NaN
        sign = (first > second).astype(jnp.float32) - (first < second).astype(jnp.float32)
        return jnp.stack([sign, -sign], 1).mean(-1) / 2.0


@pytree
class CentredRank:
    """The rank among all members, from -1/2 to 1/2 (Salimans et al., 2017); ties get their mean
    rank.
    """

    def __call__(self, fitness: jax.Array) -> jax.Array:
        score = fitness.mean(-1).ravel()
        ordered = jnp.sort(score)
        low = jnp.searchsorted(ordered, score)
        rank = (low + jnp.searchsorted(ordered, score, side="right") - 1) / 2.0
        return (rank / (score.size - 1) - 0.5).reshape(fitness.shape[:2])


@pytree
class ZScore:
    """Fitness scaled to mean 0 and standard deviation 1 over all members."""

    def __call__(self, fitness: jax.Array) -> jax.Array:
        score = _bounded(fitness.mean(-1))
        return (score - score.mean()) / (score.std() + 1e-8)


@pytree
class Raw:
    """The mean fitness itself: the step is then an unbiased estimate of the smoothed fitness's
    gradient.
    """

    def __call__(self, fitness: jax.Array) -> jax.Array:
        return _bounded(fitness.mean(-1))


def _bounded(score: jax.Array) -> jax.Array:
    """-inf as the worst finite score; 0 where none is finite."""
    finite = jnp.isfinite(score)
    worst = jnp.min(score, where=finite, initial=jnp.inf)
    return jnp.where(finite, score, jnp.where(finite.any(), worst, 0.0))
