"""Seeds drawn with replacement, by random words that cost next to nothing."""

import math
from typing import Any

import jax
import jax.numpy as jnp


def draw_counts(
    key: jax.Array, num_tasks: int, num_seeds: int, stratified: bool = True, size: Any = None
) -> jax.Array:
    """How often each seed is drawn when num_seeds are, with replacement, in each task. int
    [num_tasks, num_seeds].

    size: with it, as many are drawn of the first so many. It may be traced.
    """
    size = num_seeds if size is None else size
    strata = num_tasks if stratified else 1
    drawn = draw(key, (strata, num_seeds), size) + num_seeds * jnp.arange(strata)[:, None]
    once = jnp.broadcast_to(jnp.arange(num_seeds) < size, drawn.shape).ravel().astype(int)
    counts = (
        jnp.zeros(strata * num_seeds, int).at[drawn.ravel()].add(once, mode="promise_in_bounds")
    )
    return jnp.broadcast_to(counts.reshape(strata, num_seeds), (num_tasks, num_seeds))


def draw(key: jax.Array, shape: tuple[int, ...], n: Any) -> jax.Array:
    """Whole numbers below n, uniform but for n / 2^24, which no resample can feel."""
    share = (_words(key, math.prod(shape)) >> 8).astype(jnp.float32) * (n / 2**24)
    return jnp.minimum(share.astype(int), n - 1).reshape(shape)


def _words(key: jax.Array, size: int) -> jax.Array:
    """Random words: a counter, hashed twice with the key between.

    Threefry's would cost more than all the rest. uint32.
    """
    first, last = jax.random.key_data(key).ravel()[jnp.array([0, -1])]
    return _mix(_mix(jnp.arange(size, dtype=jnp.uint32) ^ first) + last)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of 32 bits in which each bit of x turns over each other bit in half of the cases
    (Wellons, 2018).
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
