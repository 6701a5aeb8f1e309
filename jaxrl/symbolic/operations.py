"""Operations of programs: total functions with finite gradients, and their types.

A list is an input [..., n], a value for each of n actions; reading one gives a number [..., 1]. An
action is the index of one of them, as a number. All other operations are elementwise on numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

BinaryFunction = Callable[[jax.Array, jax.Array], jax.Array]
NUMBER, LIST, ACTION = TYPES = ("number", "list", "action")
MAX_VALUE = 1e4  # every register is clipped to +-MAX_VALUE
MIN_MAGNITUDE = 1e-3  # a smaller divisor gives 0; the lower bound of a logarithm's argument


class Operation(NamedTuple):
    """A function of two registers, the second of which it may ignore.

    argument_types: one or two of `TYPES`. result_type: one of `TYPES`. text: a format string.
    """

    argument_types: tuple[str, ...]
    result_type: str
    function: BinaryFunction
    text: str


def _div(u: jax.Array, v: jax.Array) -> jax.Array:
    small = jnp.abs(v) < MIN_MAGNITUDE
    # the second `where` keeps gradients finite
    return jnp.where(small, 0.0, u / jnp.where(small, 1.0, v))


def _over_actions(reduce: Callable[..., jax.Array]) -> BinaryFunction:
    return lambda u, v: reduce(u, axis=-1, keepdims=True)


def _at(u: jax.Array, v: jax.Array) -> jax.Array:
    index = jnp.clip(jnp.round(v[..., 0]), 0, u.shape[-1] - 1).astype(jnp.int32)
    # by one_hot, so that the gradient is not a scatter
    return (u * jax.nn.one_hot(index, u.shape[-1])).sum(-1, keepdims=True)


def _unary(function: Callable[[jax.Array], jax.Array]) -> BinaryFunction:
    return lambda u, v: function(u)


N, L, A = (NUMBER,), (LIST,), (ACTION,)
OPERATIONS = {
    "add": Operation(N + N, NUMBER, jnp.add, "({}) + ({})"),
    "sub": Operation(N + N, NUMBER, jnp.subtract, "({}) - ({})"),
    "mul": Operation(N + N, NUMBER, jnp.multiply, "({}) * ({})"),
    "div": Operation(N + N, NUMBER, _div, "({}) / ({})"),
    "max": Operation(N + N, NUMBER, jnp.maximum, "max({}, {})"),
    "min": Operation(N + N, NUMBER, jnp.minimum, "min({}, {})"),
    "neg": Operation(N, NUMBER, _unary(jnp.negative), "-({})"),
    "square": Operation(N, NUMBER, _unary(jnp.square), "({}) ** 2"),
    "abs": Operation(N, NUMBER, _unary(jnp.abs), "abs({})"),
    "log": Operation(
        N, NUMBER, _unary(lambda u: jnp.log(jnp.maximum(u, MIN_MAGNITUDE))), "log({})"
    ),
    # e^9 < MAX_VALUE
    "exp": Operation(N, NUMBER, _unary(lambda u: jnp.exp(jnp.minimum(u, 9.0))), "exp({})"),
    "tanh": Operation(N, NUMBER, _unary(jnp.tanh), "tanh({})"),
    "at": Operation(L + A, NUMBER, _at, "at({}, {})"),
    "best": Operation(L, NUMBER, _over_actions(jnp.max), "best({})"),
    "mean": Operation(L, NUMBER, _over_actions(jnp.mean), "mean({})"),
    "softbest": Operation(L, NUMBER, _over_actions(jax.nn.logsumexp), "softbest({})"),
    "argbest": Operation(
        L, ACTION, _unary(lambda u: u.argmax(-1, keepdims=True) * 1.0), "argbest({})"
    ),
}
ELEMENTWISE = (
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
