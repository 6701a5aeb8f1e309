"""Parameter-space noise (noisy networks) for any network, without a change to its modules."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


@pytree
class Noisy:
    """Noisy parameters: `mean` and the learned scale of the noise, `sigma`, of the same shapes."""

    mean: Any
    sigma: Any


def add(params: Any, scale: float | jax.Array = 0.5) -> Noisy:
    """`params` with noise of scale `scale` / sqrt(inputs) (Fortunato et al., 2018, section 3.2).

    A kernel [..., in, out] has prod(..., in) inputs. A vector has those of the kernel of the same
    layer, or its size where the layer has none.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    inputs = {path[:-1]: math.prod(x.shape[:-1]) for path, x in leaves if x.ndim > 1}
    sigma = [
        jnp.full_like(x, 1.0) * scale / math.sqrt(inputs.get(path[:-1], math.prod(x.shape)))
        for path, x in leaves
    ]
    return Noisy(params, jax.tree.unflatten(structure, sigma))


def draw(key: jax.Array, params: Any) -> Any:
    """Sampled parameters: `mean + sigma * noise`, with factorised noise for kernels.

    Fortunato et al. (2018), equations 9 and 10, but a vector has independent noise, where the
    paper's bias shares that of its kernel's outputs. Parameters without noise are returned
    unchanged.
    """
    if not isinstance(params, Noisy):
        return params
    means, structure = jax.tree.flatten(params.mean)
    ends = list(itertools.accumulate(sum(_sides(x)) for x in means))
    normal = jax.random.normal(key, (ends[-1],))  # one call for all: each costs a compilation
    parts = jnp.split(jnp.sign(normal) * jnp.sqrt(jnp.abs(normal)), ends[:-1])
    sampled = [
        x + s * _noise(part, x)
        for x, s, part in zip(means, jax.tree.leaves(params.sigma), parts, strict=True)
    ]
    return jax.tree.unflatten(structure, sampled)


def mean(params: Any) -> Any:
    """The parameters without noise, which are used in evaluation."""
    return params.mean if isinstance(params, Noisy) else params


def _sides(x: jax.Array) -> tuple[int, ...]:
    """The numbers of inputs and outputs of a kernel; the size of a vector."""
    return (x.size,) if x.ndim < 2 else (math.prod(x.shape[:-1]), x.shape[-1])


def _noise(normal: jax.Array, x: jax.Array) -> jax.Array:
    """The noise of one array; for a kernel the outer product of input and output noise."""
    if x.ndim < 2:
        return normal.reshape(x.shape)
    inputs, _ = _sides(x)
    return jnp.outer(normal[:inputs], normal[inputs:]).reshape(x.shape)
