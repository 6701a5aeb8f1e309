"""What several memories are made of: a linear layer and a norm, as plain functions of their
parameters.
"""

import jax
import jax.numpy as jnp

from jaxrl.networks import Params


def kernel(key: jax.Array, inputs: int, outputs: int) -> jax.Array:
    """Normal weights of variance 1 / inputs (LeCun et al., 1998). [inputs, outputs]."""
    return jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(inputs)


def dense(key: jax.Array, inputs: int, outputs: int) -> Params:
    """The parameters of a linear layer."""
    return {"kernel": kernel(key, inputs, outputs), "bias": jnp.zeros(outputs)}


def linear(params: Params, x: jax.Array) -> jax.Array:
    """A linear layer of `dense` over x [T, inputs]. [T, outputs]."""
    return x @ params["kernel"] + params["bias"][None]


def normal(x: jax.Array) -> jax.Array:
    """Each row of x [T, n] at mean 0 and variance 1 (Ba et al., 2016), without weights: the layer
    after it has them.
    """
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6)
