"""What learned optimisers read, a column for each parameter."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def normalized(features: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Each feature [F, P] at a mean square of 1 over each tensor, so that the scale of a loss is
    not seen. [F, P].

    sizes: how many parameters each tensor has; they lie one after another.
    """
    unit = lambda x: x * jax.lax.rsqrt(1e-5 + jnp.mean(x**2, axis=1, keepdims=True))
    return jnp.concatenate(
        [unit(x) for x in jnp.split(features, np.cumsum(sizes)[:-1].tolist(), axis=1)], axis=1
    )


def average(old: jax.Array, new: jax.Array, decays: jax.Array) -> jax.Array:
    """Moving averages [K, ...] after one more value [...] or [1, ...], one average for each decay
    [K].
    """
    decays = decays.reshape(-1, *[1] * (old.ndim - 1))
    return decays * old + (1.0 - decays) * new.reshape(1, *old.shape[1:])
