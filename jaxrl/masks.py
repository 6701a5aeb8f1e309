"""Action masks: an observation that says which actions it allows."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree, replace


@pytree
class Masked:
    """An observation and the actions that it allows.

    mask: bool, True where an action is allowed: [n] for `Discrete(n)`, [sum(sizes)] for
    `MultiDiscrete(sizes)`, the parts side by side. A network sees `obs` alone; the policy gives the
    other actions no chance. Where none is allowed, as a final state may say, all are: nothing is
    done there, but what is computed must be finite.
    """

    obs: Any
    mask: jax.Array


def visible(obs: Any) -> Any:
    """What a network sees and statistics are kept of: an observation without its mask."""
    return obs.obs if isinstance(obs, Masked) else obs


def with_visible(obs: Any, seen: Any) -> Any:
    """The same observation with another visible part, its mask kept."""
    return replace(obs, obs=seen) if isinstance(obs, Masked) else seen


def mask_of(obs: Any) -> jax.Array | None:
    """Which actions an observation allows; None when it allows all."""
    return obs.mask if isinstance(obs, Masked) else None


def allow(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Logits or action values with -inf where `mask` forbids an action: no chance, never the
    largest. [..., n].

    Raises:
      ValueError: the mask is of another number of actions.
      TypeError: the mask is not bool.
    """
    if mask is None:
        return x
    if mask.shape[-1:] != x.shape[-1:]:
        raise ValueError(
            f"The observation's mask has shape {mask.shape}, but there are {x.shape[-1]} "
            "actions: a mask is [n] for "
            "Discrete(n), and [sum(sizes)] for MultiDiscrete(sizes)."
        )
    if mask.dtype != bool:
        raise TypeError(
            f"The observation's mask is {mask.dtype}: write Masked(obs, mask.astype(bool)), "
            "True where allowed."
        )
    return jnp.where(mask | ~mask.any(-1, keepdims=True), x, -jnp.inf)
