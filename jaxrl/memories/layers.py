"""Layers shared by several memories, as plain functions of their parameters."""

import jax
import jax.numpy as jnp

from jaxrl.networks import Params


def kernel(key: jax.Array, inputs: int, outputs: int) -> jax.Array:
    """Normal weights of variance 1 / inputs (LeCun et al., 1998). [inputs, outputs]."""
    return jax.random.normal(key, (inputs, outputs), jnp.float32) / jnp.sqrt(inputs)


def dense(key: jax.Array, inputs: int, outputs: int) -> Params:
    """Initial parameters of a linear layer."""
    return {"kernel": kernel(key, inputs, outputs), "bias": jnp.zeros(outputs, jnp.float32)}


def linear(params: Params, x: jax.Array) -> jax.Array:
    """A linear layer with parameters of `dense`, applied to x [T, inputs]. [T, outputs]."""
    return x @ params["kernel"] + params["bias"][None]


def normal(x: jax.Array) -> jax.Array:
    """Layer normalisation (Ba et al., 2016) of each row of x [T, n], without weights. [T, n].

    The layer that follows has weights.
    """
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6)
