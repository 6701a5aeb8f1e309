"""Input features of learned optimisers, one column per parameter."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def normalized(features: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Features [F, P] scaled to a mean square of 1 over each tensor. [F, P].

    This makes them independent of the scale of the loss.

    sizes: the number of parameters of each tensor; tensors are consecutive along P.
    """
    tensors = jnp.split(features, np.cumsum(sizes)[:-1].tolist(), axis=1)
    return jnp.concatenate(
        [x * jax.lax.rsqrt(1e-5 + jnp.mean(x**2, axis=1, keepdims=True)) for x in tensors], axis=1
    )


def average(old: jax.Array, new: jax.Array, decays: jax.Array) -> jax.Array:
    """Exponential moving averages [K, ...] updated with `new` [...] or [1, ...]. [K, ...].

    decays: one for each average, [K].
    """
    decays = decays.reshape(-1, *[1] * (old.ndim - 1))
    return decays * old + (1.0 - decays) * new.reshape(1, *old.shape[1:])
