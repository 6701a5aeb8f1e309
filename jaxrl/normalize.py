"""Running mean and standard deviation of a stream of batches, as a pytree (Chan et al., 1979)."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


@pytree
class Running:
    """`mean` and `variance` have the structure and shapes of one observation; `count` is how many they were taken over."""

    mean: Any
    variance: Any
    count: jax.Array


def start(example: Any) -> Running:
    """Mean 0 and variance 1, held by next to no data: what `apply` does with it is next to nothing."""
    zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), example)
    return Running(zeros, jax.tree.map(jnp.ones_like, zeros), jnp.array(1e-4))


def update(running: Running, batch: Any, axes: tuple[int, ...] = (0,)) -> Running:
    """Takes in a batch: `batch` has the leading `axes` [0, 1, ...] before one observation's shape."""
    count = math.prod(jax.tree.leaves(batch)[0].shape[: len(axes)])
    total = running.count + count

    def mean_of(mean: jax.Array, x: jax.Array) -> jax.Array:
        return mean + (x.astype(jnp.float32).mean(axes) - mean) * count / total

    def variance_of(mean: jax.Array, variance: jax.Array, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        between = (x.mean(axes) - mean) ** 2 * running.count * count / total
        return (variance * running.count + x.var(axes) * count + between) / total

    mean = jax.tree.map(mean_of, running.mean, batch)
    variance = jax.tree.map(variance_of, running.mean, running.variance, batch)
    return Running(mean, variance, total)


def apply(running: Running, x: Any, limit: float = 10.0) -> Any:
    """(x - mean) / std, held within `limit` standard deviations."""

    def one(mean: jax.Array, variance: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.clip((x - mean) * jax.lax.rsqrt(variance + 1e-8), -limit, limit)

    return jax.tree.map(one, running.mean, running.variance, x)
