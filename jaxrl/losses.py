"""Losses of single predictions, pure and elementwise (the caller takes the mean).

`SignedRoot` is a transformation of the scale on which values are learned.
"""

import jax
import jax.numpy as jnp

from jaxrl.devices import platform
from jaxrl.tree import leaf, pytree


def huber(error: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Huber loss: half the squared error up to `delta`, linear beyond it. [...]."""
    size = jnp.abs(error)
    quadratic = jnp.minimum(size, delta)
    return 0.5 * quadratic**2 + delta * (size - quadratic)


def quantile(error: jax.Array, tau: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Quantile Huber loss of the `tau` quantile (Dabney et al., 2018, equation 10). [...].

    `error` is target - prediction.
    """
    return jnp.abs(tau - (error < 0)) * huber(error, delta) / delta


def project(probabilities: jax.Array, positions: jax.Array, support: jax.Array) -> jax.Array:
    """Categorical projection of a distribution over `positions` [K] onto `support` [A]. [A].

    Bellemare et al. (2017), equation 7. Each probability is split between the two neighbours in the
    evenly spaced support, in proportion to proximity; what lies outside goes to the nearest end.
    """
    place = (jnp.clip(positions, support[0], support[-1]) - support[0]) / (support[1] - support[0])
    low = jnp.clip(jnp.floor(place), 0, len(support) - 2)
    above = probabilities * (place - low)
    if platform() == "tpu":  # which would run the scatter as a loop over all batches
        near = jnp.maximum(1.0 - jnp.abs(place[:, None] - jnp.arange(len(support))[None]), 0.0)
        return probabilities @ near
    index = low.astype(jnp.int32)
    return jnp.zeros_like(support).at[index].add(probabilities - above).at[index + 1].add(above)


def clipped_value(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip: float | jax.Array
) -> jax.Array:
    """PPO's clipped value loss: half the larger of two squared errors. [...].

    The errors are those of the value and of the value clipped to within `clip` of the old one. With
    `clip` infinite it is half the squared error.
    """
    clipped = old_value + jnp.clip(value - old_value, -clip, clip)
    return 0.5 * jnp.maximum((value - target) ** 2, (clipped - target) ** 2)


def explained_variance(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Fraction of the target's variance that is explained by the prediction. [].

    1 is a perfect prediction, 0 is no better than the mean.
    """
    return 1.0 - jnp.var(target - prediction) / (jnp.var(target) + 1e-8)


@pytree
class SignedRoot:
    """Value rescaling h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x (Pohlen et al., 2018).

    R2D2 uses it in place of reward clipping (Kapturowski et al., 2019, section 2.3).
    """

    eps: float = leaf(1e-3, "[0, inf)")

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + self.eps * x

    def inverse(self, x: jax.Array) -> jax.Array:
        """Inverse of h in closed form (their proposition A.2). [...].

        It is arranged so that there is no cancellation and no division by eps.
        """
        y = jnp.abs(x) + 1.0 + self.eps
        root = 2.0 * y / (1.0 + jnp.sqrt(1.0 + 4.0 * self.eps * y))
        return jnp.sign(x) * (root**2 - 1.0)
