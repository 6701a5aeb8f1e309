"""Noise on parameters instead of on actions: any network's, without a change to its modules."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree


@pytree
class Noisy:
    """Parameters drawn anew for each use: `mean` and, of the same shapes, `sigma`, the learnt scale
    of the noise.
    """

    mean: Any
    sigma: Any


def add(params: Any, scale: Any = 0.5) -> Noisy:
    """`params` with noise of `scale` / sqrt(inputs) (Fortunato et al., 2018, section 3.2).

    A kernel [..., in, out] has prod(..., in) inputs; a vector those of the kernel beside it, else
    its own size.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    inputs = {path[:-1]: math.prod(x.shape[:-1]) for path, x in leaves if x.ndim > 1}
    sigma = [
        jnp.full_like(x, 1.0) * scale / math.sqrt(inputs.get(path[:-1], math.prod(x.shape)))
        for path, x in leaves
    ]
    return Noisy(params, jax.tree.unflatten(structure, sigma))


def draw(key: jax.Array, params: Any) -> Any:
    """`mean + sigma * noise`, the noise of a kernel factorised (Fortunato et al., 2018, equations 9
    and 10).

    A vector's noise is its own (the paper's bias shares that of its kernel's outputs). Parameters
    without noise are returned as they are.
    """
    if not isinstance(params, Noisy):
        return params
    means, structure = jax.tree.flatten(params.mean)
    normal = jax.random.normal(
        key, (sum(sum(_sides(x)) for x in means),)
    )  # at once: each call costs a compilation
    ends = list(itertools.accumulate(sum(_sides(x)) for x in means))
    parts = jnp.split(jnp.sign(normal) * jnp.sqrt(jnp.abs(normal)), ends[:-1])
    drawn = [
        x + s * _noise(part, x)
        for x, s, part in zip(means, jax.tree.leaves(params.sigma), parts, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def mean(params: Any) -> Any:
    """The parameters without their noise: what is judged."""
    return params.mean if isinstance(params, Noisy) else params


def _sides(x: jax.Array) -> tuple[int, ...]:
    """A kernel's inputs and outputs; a vector's size."""
    return (x.size,) if x.ndim < 2 else (math.prod(x.shape[:-1]), x.shape[-1])


def _noise(normal: jax.Array, x: jax.Array) -> jax.Array:
    """The noise of one array: of a kernel, the product of a number for each input and one for each
    output.
    """
    if x.ndim < 2:
        return normal.reshape(x.shape)
    inputs, _ = _sides(x)
    return jnp.outer(normal[:inputs], normal[inputs:]).reshape(x.shape)
