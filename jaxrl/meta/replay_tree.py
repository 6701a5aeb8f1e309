"""Reverse mode through long training runs in little memory: a tree of checkpoints, from which the
states in between are computed again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def tree_scan(
    step: Callable[[Any, jax.Array], Any], state: Any, length: int, branch: int = 8
) -> Any:
    """The state after `state = step(state, n)` for n = 0 ... length - 1, for reverse mode in little
    memory.

    The backward pass keeps `branch` states on each of log(length) / log(branch) levels and computes
    each step again once for each level, rather than keep all `length` (REPLAY; Engstrom et al.,
    2025, section 3). Up to `branch` steps it is a scan with each step checkpointed. A step must be
    the same when it is computed again: take randomness from n.

    Raises:
      ValueError: a branch below 2.
    """
    if branch < 2:
        raise ValueError(
            f"branch={branch} is not a tree: write branch=2 or more; 8 suits most lengths."
        )
    levels = 1
    while branch**levels < length:
        levels += 1
    leaf_span = branch ** (levels - 1)  # steps below each child of the root
    widths = [-(-length // leaf_span)] + [branch] * (levels - 1)
    padded = widths[0] * leaf_span > length

    def leaf(state: Any, n: jax.Array) -> Any:
        if not padded:
            return step(state, n)
        # n is not batched by vmap, so this stays a branch, and padding costs nothing
        return jax.lax.cond(n < length, step, lambda state, n: state, state, n)

    def node(level: int, state: Any, first: jax.Array) -> Any:
        if level == levels:
            return leaf(state, first)
        span = branch ** (levels - 1 - level)
        child = jax.checkpoint(
            lambda state, i: node(level + 1, state, first + i * span), prevent_cse=False
        )
        return jax.lax.scan(
            lambda state, i: (child(state, i), None), state, jnp.arange(widths[level])
        )[0]

    return node(0, state, jnp.int32(0))
