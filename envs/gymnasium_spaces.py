"""Conversion of gymnasium's spaces to the kit's, for packages that step on the host."""

import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.spaces import Box, Discrete, MultiDiscrete, Space


def action_space(name: str, space: Any) -> Space:
    """The action space of an environment called `name`.

    Boxes of any shape are vectors here, and MultiBinary is a MultiDiscrete of twos.

    Raises:
      TypeError: a space without a counterpart, such as a Dict.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return MultiDiscrete(space.nvec.tolist())
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return MultiDiscrete((2,) * math.prod(space.shape))
    if isinstance(space, gymnasium.spaces.Box) and space.dtype.kind == "f":
        low, high = (jnp.asarray(x, jnp.float32).ravel() for x in (space.low, space.high))
        return Box(low, high, (math.prod(space.shape),))
    raise TypeError(
        f"{name} has the actions {space}; supported are Discrete, MultiDiscrete, MultiBinary or a "
        "Box of floats: write wrappers=(a class of gymnasium.ActionWrapper that makes them of "
        "these,)."
    )


def as_actions(space: Any, actions: np.ndarray) -> np.ndarray:
    """The kit's actions [B, ...], converted to a space of gymnasium."""
    actions = actions.reshape(len(actions), *space.shape).astype(space.dtype)
    if isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        return actions + space.start
    return actions


def box_of(space: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of the observations of a Box: bytes unchanged, other numbers as floats."""
    return jax.ShapeDtypeStruct(space.shape, jnp.uint8 if space.dtype == np.uint8 else jnp.float32)
