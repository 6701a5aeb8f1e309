"""What the adapters of several suites share."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.errors import nearest


def check_id(name: str, names: Collection[str], left_out: Mapping[str, str]) -> None:
    """Raise a ValueError where `name` is not one of `names`, with the reason if it is left out."""
    if name in left_out:
        raise ValueError(f"{name} can't be made: {left_out[name]}.")
    if name not in names:
        raise ValueError(f"There is no environment {name!r}; {nearest(name, names)}.")


def strong(state: Any) -> Any:
    """The state without weak types, which a step would change, in new dictionaries.

    Some suites write into the dictionaries of their argument.
    """
    return jax.tree.map(_array, state)


def like(state: Any, old: Any) -> Any:
    """The state after a step in the types of the state before it, in new dictionaries."""
    return jax.tree.map(lambda x, y: x if _is_key(y) else jnp.asarray(x, y.dtype), state, old)


def _array(x: Any) -> Any:
    return x if _is_key(x) else jnp.asarray(x, jnp.result_type(x))


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
