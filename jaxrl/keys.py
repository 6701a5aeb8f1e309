"""Random keys of runs, and the whole numbers that stand for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# generators of jax that give other random numbers under vmap than alone
BATCH_DEPENDENT = ("rbg", "unsafe_rbg")


def as_key(seed: Any) -> jax.Array:
    """A key as it is, or the key of a whole number.

    Raises:
      TypeError: neither.
    """
    if not is_key(seed) and not is_whole(seed):
        given = seed.dtype if isinstance(seed, jax.Array) else repr(seed)
        raise TypeError(
            f"a seed is a whole number or a key, and got {given}: write 0 or jax.random.key(0)."
        )
    # a raw key is a vector
    return seed if is_key(seed) or jnp.ndim(seed) else jax.random.key(seed)


def is_whole(seed: Any) -> bool:
    """True for whole numbers, plain or of an array, traced or not; a bool is none."""
    array = seed if isinstance(seed, jax.Array) else np.asarray(seed)
    return bool(jnp.issubdtype(array.dtype, jnp.integer))


def is_key(seed: Any) -> bool:
    """True for keys of jax.random.key, of any shape."""
    return isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)


def batch_dependence(seeds: Any = None) -> str:
    """The reason why runs with these keys (or whole numbers, as by default) can't be repeated under
    vmap, in one sentence; empty if they can.
    """
    given = is_key(seeds)
    config: Any = jax.config
    name = str(jax.random.key_impl(seeds) if given else config.jax_default_prng_impl)
    if name not in BATCH_DEPENDENT:
        return ""
    instead = (
        "jax.random.key(seed, impl='threefry2x32')"
        if given
        else "jax.config.update('jax_default_prng_impl', 'threefry2x32')"
    )
    return (
        f"under jax.vmap the random numbers of a key of the generator {name!r} depend on the other "
        "keys of the batch, so a run depends on its chunk and can't be reproduced: write "
        f"{instead}."
    )


def check_keys(seeds: Any = None) -> None:
    """Refuse keys by which a run under vmap can't be repeated.

    Raises:
      ValueError: keys of a generator in `BATCH_DEPENDENT`.
    """
    if reason := batch_dependence(seeds):
        raise ValueError(reason)
