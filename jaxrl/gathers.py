"""Entries of arrays by index, the gradients of which are fast on each platform.

The gradient of a gather is a scatter: a TPU runs it as a loop over all indices of all batches, and
a GPU as a kernel of its own. A sum with a mask has neither, and the same value.
"""

import jax
import jax.numpy as jnp

from jaxrl.devices import platform


def row(x: jax.Array, index: jax.Array) -> jax.Array:
    """x[index] of an array [n, ...]. index: [], which is inside of the axis. [...]."""
    if platform() == "cpu":
        return x[index]
    mask = (jnp.arange(len(x)) == index).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.sum(jnp.where(mask, x, 0.0), axis=0)


def last(x: jax.Array, index: jax.Array) -> jax.Array:
    """x[..., index] of an array [..., n]. index: [...], which is inside of the axis. [...].

    index may have axes of 1 that broadcast.
    """
    if platform() != "tpu":  # on a GPU XLA fuses the scatter, and a mask takes more memory
        return jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]
    mask = index[..., None] == jnp.arange(x.shape[-1]).reshape((1,) * index.ndim + (-1,))
    return jnp.sum(jnp.where(mask, x, 0.0), axis=-1)
