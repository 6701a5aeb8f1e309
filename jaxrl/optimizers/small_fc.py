"""A learned optimiser without a memory of its own: a tiny network of what Adam and Adafactor
keep.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.memories.layers import dense
from jaxrl.optimizers.features import average, normalized
from jaxrl.tree import pytree

MOMENTA, SQUARE, FACTORS = (0.9, 0.99, 0.999), (0.999,), (0.9, 0.99, 0.999)
DECAYS = np.array(MOMENTA + SQUARE + FACTORS, np.float32)
TIMES = np.array([1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5], np.float32)
NUM_FEATURES = 28  # that differ between parameters; the times come after them


@pytree
class Averages:
    """Of a tensor's gradients: their means [3, ...], squares [1, ...], and the squares' means over
    rows and columns.
    """

    momenta: jax.Array
    square: jax.Array
    rows: jax.Array
    columns: jax.Array


@pytree
class State:
    """`averages`: one for each tensor. `count`: gradient steps so far."""

    averages: list[Averages]
    count: jax.Array


@pytree
class SmallFC:
    """small_fc_lopt (Metz et al., 2022, "Practical tradeoffs"): the step of each parameter by a
    network of 197 weights.

    step = lr * direction * exp(0.001 * magnitude), where both are outputs of two layers of 4 relu
    units, of 39 features: the parameter, its gradient, moving averages as Adam's and Adafactor's,
    raw and as they divide each other, each normalised over its tensor; and the age in gradient
    steps, at 11 time scales. The paper's lr is 0.001.

    weights: the layers "first", "second" and "output", and "decays" [7]: of the averages, each 1 -
    (1 - d) exp(10 w), where d is what it is at w = 0. It does not ask how long a life is.
    Untrained: `SmallFC.random(key)`.
    """

    weights: dict[str, Any]

    @classmethod
    def random(cls, key: jax.Array, width: int = 4, *, zero: bool = False) -> "SmallFC":
        """Random weights of variance 1 / inputs; with `zero` an output of zeros: then it changes
        nothing.
        """
        keys = jax.random.split(key, 3)
        output = dense(keys[2], width, 2)
        return cls(
            {
                "first": dense(keys[0], NUM_FEATURES + len(TIMES), width),
                "second": dense(keys[1], width, width),
                "output": jax.tree.map(jnp.zeros_like, output) if zero else output,
                "decays": jnp.zeros(len(DECAYS)),
            }
        )

    def __call__(self, lr: Any) -> optax.GradientTransformationExtraArgs:
        update: Any = functools.partial(self._update, lr)
        return optax.GradientTransformationExtraArgs(start, update)

    def _update(
        self, lr: Any, grads: Any, state: State, params: Any, **told: Any
    ) -> tuple[Any, State]:
        flat, unravel = ravel_pytree(params)
        momenta, square, factors = jnp.split(
            jnp.clip(1.0 - (1.0 - DECAYS) * jnp.exp(10.0 * self.weights["decays"]), 0, 1), [3, 4]
        )

        def follow(old: Averages, g: jax.Array) -> Averages:
            rows, columns = _factors(g**2)
            kept = average(old.momenta, g, momenta), average(old.square, g**2, square)
            return Averages(
                *kept, average(old.rows, rows, factors), average(old.columns, columns, factors)
            )

        averages = [
            follow(old, g) for old, g in zip(state.averages, jax.tree.leaves(grads), strict=True)
        ]
        x = features(params, grads, averages)
        first, second, output = (self.weights[name] for name in ("first", "second", "output"))
        now = jnp.tanh(state.count / TIMES - 1.0) @ first["kernel"][NUM_FEATURES:] + first["bias"]
        x = jax.nn.relu(first["kernel"][:NUM_FEATURES].T @ x + now[:, None])
        x = jax.nn.relu(second["kernel"].T @ x + second["bias"][:, None])
        direction, magnitude = output["kernel"].T @ x + output["bias"][:, None]
        step = lr * direction * jnp.exp(0.001 * magnitude)
        return unravel(-step.astype(flat.dtype)), State(averages, state.count + 1)


def start(params: Any) -> Any:
    """Averages of nothing yet."""

    def zeros(x: jax.Array) -> Averages:
        rows, columns = (jnp.zeros((len(FACTORS), *part.shape)) for part in _factors(x))
        return Averages(
            jnp.zeros((len(MOMENTA), *x.shape)), jnp.zeros((len(SQUARE), *x.shape)), rows, columns
        )

    return State([zeros(x) for x in jax.tree.leaves(params)], jnp.int32(0))


def features(params: Any, grads: Any, averages: list[Averages]) -> jax.Array:
    """What the network reads of each of P parameters. [28, P].

    Gradient, parameter, momenta (3), square, momenta / root square (3), 1 / root square, gradients
    by Adafactor (3), rows (3), columns (3), 1 / root rows (3), 1 / root columns (3), momenta by
    Adafactor (3).
    """
    tensors = list(zip(jax.tree.leaves(params), jax.tree.leaves(grads), averages, strict=True))
    found = jnp.concatenate(
        [_of_tensor(p, g, now).reshape(NUM_FEATURES, -1) for p, g, now in tensors], axis=1
    )
    return normalized(found, [p.size for p, _, _ in tensors])


def _of_tensor(p: jax.Array, g: jax.Array, now: Averages) -> jax.Array:
    root = jax.lax.rsqrt(now.square + 1e-6)
    mean = jax.vmap(lambda rows: rows.mean(_axes(p.shape)[1], keepdims=True))(now.rows)
    share = (now.rows + 1e-9) / (
        mean + 1e-9
    )  # 1 in a vector, where rows, columns and squares are one
    factor = jax.lax.rsqrt(jnp.maximum(share, 1e-9)) * jax.lax.rsqrt(jnp.maximum(now.columns, 1e-9))
    rows, columns = (jnp.broadcast_to(x, (len(x), *p.shape)) for x in (now.rows, now.columns))
    inverse = lambda x: jax.lax.rsqrt(x + 1e-8)
    parts = g[None], p[None], now.momenta, now.square, now.momenta * root, root, g[None] * factor
    return jnp.concatenate(
        [*parts, rows, columns, inverse(rows), inverse(columns), now.momenta * factor]
    )


def _factors(square: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means over the longest axis and over the second longest, kept as axes of one; of a vector,
    itself twice.
    """
    longest, second = _axes(square.shape)
    return square.mean(longest, keepdims=True), square.mean(second, keepdims=True)


def _axes(shape: tuple[int, ...]) -> tuple[int, int] | tuple[tuple[()], tuple[()]]:
    """The longest axis and the second longest; of a vector neither."""
    if len(shape) < 2:
        return (), ()
    *_, second, longest = np.argsort(shape, kind="stable").tolist()
    return longest, second
