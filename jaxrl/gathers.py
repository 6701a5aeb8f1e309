"""Entries of arrays by index, and reductions of a short axis, which are fast on each platform.

The gradient of a gather is a scatter: a TPU runs it as a loop over all indices of all batches, and
a GPU as a kernel of its own. A sum with a mask has neither, and the same value.

XLA launches a kernel on a GPU for each reduction. Over few actions it is written out, element by
element, and becomes part of the kernels around it.
"""

import functools

import jax
import jax.numpy as jnp

from jaxrl.devices import platform

SHORT = 8  # the longest axis that is written out


def is_short(length: int) -> bool:
    """True where a reduction of so many elements is written out."""
    return platform() == "gpu" and 0 < length <= SHORT


def row(x: jax.Array, index: jax.Array) -> jax.Array:
    """x[index] of an array [n, ...]. index: [], which is inside of the axis. [...]."""
    if platform() == "cpu":
        return x[index]
    if is_short(len(x)):
        return functools.reduce(
            lambda found, i: jnp.where(index == i, x[i], found), range(1, len(x)), x[0]
        )
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


def total(x: jax.Array) -> jax.Array:
    """The sum of the last axis [..., n]. [...]."""
    if not is_short(x.shape[-1]):
        return x.sum(-1)
    kind = jax.eval_shape(jnp.sum, x).dtype  # of booleans an integer
    return functools.reduce(jnp.add, _columns(x.astype(kind)))


def largest(x: jax.Array) -> jax.Array:
    """The maximum of the last axis [..., n]. [...]."""
    return functools.reduce(jnp.maximum, _columns(x)) if is_short(x.shape[-1]) else x.max(-1)


def index_of_largest(x: jax.Array) -> jax.Array:
    """The index of the maximum of the last axis [..., n], the first of several; of a NaN where
    there is one. int32 [...].
    """
    if not is_short(x.shape[-1]):
        return jnp.argmax(x, axis=-1).astype(jnp.int32)
    best, *others = _columns(x)
    index = jnp.zeros(best.shape, jnp.int32)
    for i, each in enumerate(others, 1):
        is_better = (each > best) | (jnp.isnan(each) & ~jnp.isnan(best))
        best, index = jnp.where(is_better, each, best), jnp.where(is_better, i, index)
    return index


def _columns(x: jax.Array) -> list[jax.Array]:
    return [x[..., i] for i in range(x.shape[-1])]
