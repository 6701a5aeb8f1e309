"""Action masks: observations that contain which actions are allowed."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree, replace


@pytree
class Masked:
    """An observation with the mask of its allowed actions.

    obs: the observation proper, the only part that networks read.
    mask: bool, True where an action is allowed: [n] for `Discrete(n)`, [sum(sizes)] for
      `MultiDiscrete(sizes)`, the parts concatenated. The policy gives the other actions probability
      0. A mask without any allowed action, as of a final state, counts as all allowed: no action is
      taken there, but what is computed must be finite.
    """

    obs: Any
    mask: jax.Array


def visible(obs: Any) -> Any:
    """The observation without its mask: the input of networks and of running statistics."""
    return obs.obs if isinstance(obs, Masked) else obs


def with_visible(obs: Any, new: Any) -> Any:
    """The observation with `new` as its visible part and the same mask."""
    return replace(obs, obs=new) if isinstance(obs, Masked) else new


def mask_of(obs: Any) -> jax.Array | None:
    """The mask of an observation; None for an observation without one."""
    return obs.mask if isinstance(obs, Masked) else None


def allow(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Logits or action values `x` with -inf where `mask` is False. [..., n].

    Raises:
      ValueError: the mask is for another number of actions.
      TypeError: the mask is not bool.
    """
    if mask is None:
        return x
    if mask.shape[-1:] != x.shape[-1:]:
        raise ValueError(
            f"The observation's mask has shape {mask.shape}, but there are {x.shape[-1]} "
            "actions: write a mask [n] for Discrete(n), or [sum(sizes)] for MultiDiscrete(sizes)."
        )
    if mask.dtype != bool:
        raise TypeError(
            f"The observation's mask has dtype {mask.dtype} and must be bool: write "
            "Masked(obs, mask.astype(bool)), True where an action is allowed."
        )
    return jnp.where(mask | ~mask.any(-1, keepdims=True), x, -jnp.inf)
