"""A tabular network, for environments with finitely many observations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.networks import Network, Out, Params


@dataclasses.dataclass(frozen=True)
class Table:
    """A row of outputs for each value of an integer observation, initialised to 0.

    With zeros all actions are equally probable.

    size: the number of values. An observation of `size` or more gives NaN, rather than the row of
      another state.
    """

    size: int

    def __call__(self, heads: Mapping[str, int]) -> Network:
        def init(key: jax.Array, obs: Any) -> Params:
            kind = jnp.result_type(obs) if jax.tree_util.all_leaves([obs]) else None
            if kind is None or jnp.ndim(obs) != 0 or not jnp.issubdtype(kind, jnp.integer):
                raise TypeError(
                    "Table needs an integer observation, and this one is "
                    f"{jax.eval_shape(lambda: obs)}. Write an environment that returns the index "
                    "of its state (one_hot=False, where it has that), or use MLP()."
                )
            return {head: jnp.zeros((self.size, num), jnp.float32) for head, num in heads.items()}

        def apply(params: Params, obs: Any) -> Out:
            return {
                head: rows.at[obs].get(mode="fill", fill_value=jnp.nan)
                for head, rows in params.items()
            }

        return Network(init, apply)
