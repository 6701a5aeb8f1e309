"""Types of states: a scan needs constant types of leaves, but other packages may change them."""

from typing import Any

import jax
import jax.numpy as jnp


def strong(state: Any) -> Any:
    """The state with numbers as arrays, and without weak types, which a step would change."""
    return jax.tree.map(_strong, state)


def _strong(x: Any) -> Any:
    is_weak = isinstance(x, bool | int | float) or jax.typeof(x).weak_type
    return jnp.asarray(x, jnp.result_type(x)) if is_weak else x


def like_stepped(state: Any, stepped: Any) -> Any:
    """An initial state with the types of `stepped`, the shapes and types after a step."""
    return jax.tree.map(
        lambda x, y: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), y.dtype)), state, stepped
    )


def like(after: Any, state: Any) -> Any:
    """A state with the types of another."""
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), after, state)
