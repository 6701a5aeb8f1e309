"""What a generation's fitness says to an evolution strategy: utilities, which it weighs its noise
by.

Each is called with the fitness of P antithetic pairs on K tasks, [P, 2, K], -inf where it was not
finite, and gives utilities [P, 2], of which the difference within a pair counts.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


class Shaping(Protocol):
    def __call__(self, fitness: jax.Array) -> jax.Array: ...


@pytree
class PairSign:
    """Which of the two was better, on average over the tasks: 1/2 and -1/2, or 0 where they tie
    (Jackson et al., 2024).

    A pair is compared with itself alone, so how hard or how well paid its task was does not matter.
    """

    def __call__(self, fitness: jax.Array) -> jax.Array:
        first, second = fitness[:, 0], fitness[:, 1]
        won = (first > second).astype(jnp.float32) - (first < second).astype(
            jnp.float32
        )  # -inf - -inf is no number
        return jnp.stack([won, -won], 1).mean(-1) / 2.0


@pytree
class CentredRank:
    """The rank among all members, from -1/2 to 1/2 (Salimans et al., 2017); those that tie share
    their mean rank.
    """

    def __call__(self, fitness: jax.Array) -> jax.Array:
        score = fitness.mean(-1).ravel()
        ordered = jnp.sort(score)
        rank = (
            jnp.searchsorted(ordered, score) + jnp.searchsorted(ordered, score, side="right") - 1
        ) / 2.0
        return (rank / (score.size - 1) - 0.5).reshape(fitness.shape[:2])


@pytree
class ZScore:
    """To mean 0 and standard deviation 1 among all members."""

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
