"""Sampling of seeds with replacement, by a fast random number generator."""

import math

import jax
import jax.numpy as jnp

from jaxrl.keys import as_key


def draw_counts(
    key: jax.Array | int,
    num_tasks: int,
    num_seeds: int,
    stratified: bool = True,
    size: int | jax.Array | None = None,
) -> jax.Array:
    """Counts of how often each seed is drawn, with replacement. int [num_tasks, num_seeds].

    key: a key or an integer seed. stratified: draw independently for each task, rather than the
    same seeds for all.
    size: draw `size` times from the first `size` seeds, by default all; it may be traced.
    """
    size = num_seeds if size is None else size
    strata = num_tasks if stratified else 1
    index = draw(as_key(key), (strata, num_seeds), size) + num_seeds * jnp.arange(strata)[:, None]
    one = jnp.broadcast_to(jnp.arange(num_seeds) < size, index.shape).ravel().astype(int)
    counts = jnp.zeros(strata * num_seeds, int)
    counts = counts.at[index.ravel()].add(one, mode="promise_in_bounds")
    return jnp.broadcast_to(counts.reshape(strata, num_seeds), (num_tasks, num_seeds))


def draw(key: jax.Array, shape: tuple[int, ...], n: int | jax.Array) -> jax.Array:
    """Integers below n, uniform up to a bias of n / 2^24, which is negligible for a bootstrap."""
    uniform = (_words(key, math.prod(shape)) >> 8).astype(jnp.float32) * (n / 2**24)
    return jnp.minimum(uniform.astype(int), n - 1).reshape(shape)


def _words(key: jax.Array, size: int) -> jax.Array:
    """Random words, by hashing a counter twice with the key. uint32 [size].

    Threefry would take longer than the rest of the bootstrap.
    """
    first, last = jax.random.key_data(key).ravel()[jnp.array([0, -1])]
    return _mix(_mix(jnp.arange(size, dtype=jnp.uint32) ^ first) + last)


def _mix(x: jax.Array) -> jax.Array:
    """A 32-bit hash (a bijection) with low avalanche bias (Wellons, 2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
