"""A network for finite worlds: a table."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.networks import Network, Out, Params


@dataclasses.dataclass(frozen=True)
class Table:
    """A row of numbers for each value of an integer observation, 0 at first: every action is as
    likely as any other.

    size: how many values there are. An observation beyond them gives NaN rather than another
    state's row.
    """

    size: int

    def __call__(self, heads: Mapping[str, int]) -> Network:
        def init(key: jax.Array, obs: Any) -> Params:
            kind = jnp.result_type(obs) if jax.tree_util.all_leaves([obs]) else None
            if kind is None or jnp.ndim(obs) != 0 or not jnp.issubdtype(kind, jnp.integer):
                raise TypeError(
                    "Table looks one integer up, but the observation is "
                    f"{jax.eval_shape(lambda: obs)}. Let the environment "
                    "show the number of its state (one_hot=False, where it has that), or use MLP()."
                )
            return {head: jnp.zeros((self.size, num)) for head, num in heads.items()}

        def apply(params: Params, obs: Any) -> Out:
            return {
                head: rows.at[obs].get(mode="fill", fill_value=jnp.nan)
                for head, rows in params.items()
            }

        return Network(init, apply)
