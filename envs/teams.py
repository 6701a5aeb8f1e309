"""Agents that differ: their observations and masks padded to one shape, with the role appended."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def pad(observations: Sequence[Any], roles: Sequence[int]) -> jax.Array:
    """Observations of different sizes as one array, [A, width + R] of A agents with R roles.

    Each one (an array or a pytree of arrays) is flattened, padded with zeros to `width`, the
    largest size, and followed by the one-hot role of its agent. One network for all agents can
    distinguish them by the role.

    roles: of each agent, from 0 to R - 1.

    Raises:
      ValueError: the numbers of observations and roles differ.
    """
    if len(observations) != len(roles):
        raise ValueError(
            f"{len(observations)} observations have {len(roles)} roles: write one role for each "
            "agent, roles=(0, 1) for two that differ and (0, 0) for two that are alike."
        )
    flat = [
        jnp.concatenate([jnp.ravel(jnp.asarray(x, jnp.float32)) for x in jax.tree.leaves(obs)])
        for obs in observations
    ]
    width = max(x.size for x in flat)
    one_hot = jnp.eye(max(roles) + 1, dtype=jnp.float32)
    rows = [
        jnp.concatenate([jnp.pad(x, (0, width - x.size)), one_hot[role]])
        for x, role in zip(flat, roles, strict=True)
    ]
    return jnp.stack(rows)


def pad_masks(masks: Sequence[Any]) -> jax.Array:
    """Action masks of different sizes as one array, bool [A, largest size].

    Actions keep their indices; those that an agent does not have are False. For agents with 3 and 5
    actions, all of them allowed: `pad_masks([np.ones(n, bool) for n in (3, 5)])`.
    """
    num = max(len(mask) for mask in masks)
    rows = [jnp.pad(jnp.asarray(mask, bool), (0, num - len(mask))) for mask in masks]
    return jnp.stack(rows)
