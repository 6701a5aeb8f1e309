"""Losses of single predictions, pure and elementwise: the caller takes the mean.

And a scale that values are learnt on.
"""

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


def huber(error: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Squared (halved) up to `delta`, linear beyond it."""
    size = jnp.abs(error)
    bent = jnp.minimum(size, delta)
    return 0.5 * bent**2 + delta * (size - bent)


def quantile(error: jax.Array, tau: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Quantile Huber loss of error = target - prediction of the `tau` quantile (Dabney et al.,
    2018, equation 10).
    """
    return jnp.abs(tau - (error < 0)) * huber(error, delta) / delta


def project(probabilities: jax.Array, positions: jax.Array, support: jax.Array) -> jax.Array:
    """A distribution over `positions` [K] as one over `support` [A] (Bellemare et al., 2017,
    equation 7). [A].

    Each mass goes to its two neighbours in the evenly spaced support, the nearer the more; what
    lies beyond, to its end.
    """
    place = (jnp.clip(positions, support[0], support[-1]) - support[0]) / (support[1] - support[0])
    low = jnp.clip(jnp.floor(place), 0, len(support) - 2)
    above = probabilities * (place - low)
    index = low.astype(jnp.int32)
    return jnp.zeros_like(support).at[index].add(probabilities - above).at[index + 1].add(above)


def clipped_value(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip: float | jax.Array
) -> jax.Array:
    """Half the squared error, at least that of a value held within `clip` of the old one (PPO's
    value clipping).

    With `clip` infinite it is half the squared error.
    """
    near = old_value + jnp.clip(value - old_value, -clip, clip)
    return 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2)


def explained_variance(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The share of the target's variance that the prediction explains: 1 is perfect, 0 no better
    than the mean. [].
    """
    return 1.0 - jnp.var(target - prediction) / (jnp.var(target) + 1e-8)


@pytree
class SignedRoot:
    """Values learnt as sign(x) (sqrt(|x| + 1) - 1) + eps x, so that large ones grow slower (Pohlen
    et al., 2018).

    R2D2's way to do without clipped rewards (Kapturowski et al., 2019, section 2.3).
    """

    eps: float = 1e-3

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + self.eps * x

    def inverse(self, x: jax.Array) -> jax.Array:
        """In closed form (their proposition A.2), arranged so that nothing cancels or is divided by
        eps.
        """
        y = jnp.abs(x) + 1.0 + self.eps
        root = 2.0 * y / (1.0 + jnp.sqrt(1.0 + 4.0 * self.eps * y))
        return jnp.sign(x) * (root**2 - 1.0)
