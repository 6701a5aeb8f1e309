"""What a line of a program can do: total functions with finite slopes, each with the types it takes
and gives.

Lists are inputs [..., n], a value for each of n actions; what is asked of one is a number [..., 1].
An action is a number that says which. All else acts elementwise on numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

NUMBER, LIST, ACTION = TYPES = ("number", "list", "action")
MOST = 1e4  # what every register is clipped to
LEAST = 1e-3  # a divisor nearer 0 than this gives 0; a logarithm's argument is at least this


class Operation(NamedTuple):
    """A function of two registers, of which it may ignore the second."""

    takes: tuple[str, ...]
    gives: str
    function: Callable[[jax.Array, jax.Array], jax.Array]
    text: str


def _div(u: jax.Array, v: jax.Array) -> jax.Array:
    small = jnp.abs(v) < LEAST
    return jnp.where(
        small, 0.0, u / jnp.where(small, 1.0, v)
    )  # the second `where` keeps slopes finite


def _over_actions(reduce: Callable[..., jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda u, v: reduce(u, axis=-1, keepdims=True)


def _at(u: jax.Array, v: jax.Array) -> jax.Array:
    index = jnp.clip(jnp.round(v[..., 0]), 0, u.shape[-1] - 1).astype(jnp.int32)
    return (u * jax.nn.one_hot(index, u.shape[-1])).sum(
        -1, keepdims=True
    )  # whose slope is no scatter


def _one(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda u, v: function(u)


N, L, A = (NUMBER,), (LIST,), (ACTION,)
OPERATIONS = {
    "add": Operation(N + N, NUMBER, jnp.add, "({}) + ({})"),
    "sub": Operation(N + N, NUMBER, jnp.subtract, "({}) - ({})"),
    "mul": Operation(N + N, NUMBER, jnp.multiply, "({}) * ({})"),
    "div": Operation(N + N, NUMBER, _div, "({}) / ({})"),
    "max": Operation(N + N, NUMBER, jnp.maximum, "max({}, {})"),
    "min": Operation(N + N, NUMBER, jnp.minimum, "min({}, {})"),
    "neg": Operation(N, NUMBER, _one(jnp.negative), "-({})"),
    "square": Operation(N, NUMBER, _one(jnp.square), "({}) ** 2"),
    "abs": Operation(N, NUMBER, _one(jnp.abs), "abs({})"),
    "log": Operation(N, NUMBER, _one(lambda u: jnp.log(jnp.maximum(u, LEAST))), "log({})"),
    "exp": Operation(
        N, NUMBER, _one(lambda u: jnp.exp(jnp.minimum(u, 9.0))), "exp({})"
    ),  # e^9 is less than MOST
    "tanh": Operation(N, NUMBER, _one(jnp.tanh), "tanh({})"),
    "at": Operation(L + A, NUMBER, _at, "at({}, {})"),
    "best": Operation(L, NUMBER, _over_actions(jnp.max), "best({})"),
    "mean": Operation(L, NUMBER, _over_actions(jnp.mean), "mean({})"),
    "softbest": Operation(L, NUMBER, _over_actions(jax.nn.logsumexp), "softbest({})"),
    "argbest": Operation(
        L, ACTION, _one(lambda u: u.argmax(-1, keepdims=True) * 1.0), "argbest({})"
    ),
}
ARITHMETIC = (
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "neg",
    "square",
    "abs",
    "log",
    "exp",
    "tanh",
)
