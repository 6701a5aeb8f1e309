"""Fingerprints of levels, to find equal ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env


def fingerprints(levels: Env) -> jax.Array:
    """Two 32-bit hashes of each level; two different levels collide with a probability of about
    2^-64.

    uint32 [N, 2] of an environment with a leading axis [N] of its leaves. Each word of a level is
    mixed with its position (by the finalizer of MurmurHash3; Appleby, 2011), and the results are
    summed.
    """
    leaves = jax.tree.leaves(levels)
    words = jnp.concatenate([_words(x).reshape(x.shape[0], -1) for x in leaves], 1)
    salts = np.random.default_rng(0).integers(2**32, size=(2, words.shape[1]), dtype=np.uint32)
    return _mixed(_mixed(words)[:, None] ^ jnp.asarray(salts)[None]).sum(-1, dtype=jnp.uint32)


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as 32-bit words, of the same shape."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return x.astype(jnp.uint32)


def _mixed(words: jax.Array) -> jax.Array:
    words = (words ^ (words >> 16)) * np.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * np.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
