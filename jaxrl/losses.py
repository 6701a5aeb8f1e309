"""Losses of single predictions, pure and elementwise: the caller takes the mean."""

import jax
import jax.numpy as jnp


def huber(error: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Squared (halved) up to `delta`, linear beyond it."""
    size = jnp.abs(error)
    bent = jnp.minimum(size, delta)
    return 0.5 * bent**2 + delta * (size - bent)


def quantile(error: jax.Array, tau: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Quantile Huber loss of error = target - prediction of the `tau` quantile (Dabney et al., 2018, equation 10)."""
    return jnp.abs(tau - (error < 0)) * huber(error, delta) / delta


def project(probabilities: jax.Array, positions: jax.Array, support: jax.Array) -> jax.Array:
    """A distribution over `positions` [K] as one over `support` [A] (Bellemare et al., 2017, equation 7). [A].

    Each mass goes to its two neighbours in the evenly spaced support, the nearer the more; what lies beyond, to its end.
    """
    place = (jnp.clip(positions, support[0], support[-1]) - support[0]) / (support[1] - support[0])
    low = jnp.clip(jnp.floor(place), 0, len(support) - 2)
    above = probabilities * (place - low)
    index = low.astype(jnp.int32)
    return jnp.zeros_like(support).at[index].add(probabilities - above).at[index + 1].add(above)


def clipped_value(value: jax.Array, old_value: jax.Array, target: jax.Array, clip: float | jax.Array) -> jax.Array:
    """Half the squared error, at least that of a value held within `clip` of the old one (PPO's value clipping).

    With `clip` infinite it is half the squared error.
    """
    near = old_value + jnp.clip(value - old_value, -clip, clip)
    return 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2)


def explained_variance(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The share of the target's variance that the prediction explains: 1 is perfect, 0 no better than the mean. []."""
    return 1.0 - jnp.var(target - prediction) / (jnp.var(target) + 1e-8)
