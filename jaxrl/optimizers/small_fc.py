"""small_fc_lopt, a learned optimiser: a small network of the statistics of Adam and Adafactor."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.keys import as_key
from jaxrl.memories.layers import dense
from jaxrl.optimizers.features import average, normalized
from jaxrl.tree import pytree

MOMENTA, SQUARE, FACTORS = (0.9, 0.99, 0.999), (0.999,), (0.9, 0.99, 0.999)
DECAYS = np.array(MOMENTA + SQUARE + FACTORS, np.float32)
TIMES = np.array([1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5], np.float32)
NUM_FEATURES = 28  # inputs that differ between parameters; the time features follow them


@pytree
class Averages:
    """Moving averages of one tensor's gradients.

    momenta: of the gradient, [3, ...].
    square: of its square, [1, ...].
    rows, columns: of the square's means over the longest and the second longest axis, which have
      size 1, [3, ...].
    """

    momenta: jax.Array
    square: jax.Array
    rows: jax.Array
    columns: jax.Array


@pytree
class State:
    """Optimiser state: `averages`, one for each tensor, and `count`, gradient steps so far."""

    averages: list[Averages]
    count: jax.Array


@pytree
class SmallFC:
    """small_fc_lopt (Metz et al., 2022, "Practical tradeoffs in memory, compute, and performance").

    A network of 197 weights, applied to each parameter: step = lr * direction *
    exp(0.001 * magnitude), where both are outputs of two layers of 4 relu units. The 39 inputs are
    the parameter, its gradient, and Adam's and Adafactor's moving averages and their ratios, each
    normalised over its tensor; and the number of gradient steps, at 11 time scales. The paper's lr
    is 0.001. The total number of steps is not an input.

    weights: the layers "first", "second" and "output", and "decays" [7], of which each gives a
      decay 1 - (1 - d) exp(10 w), where d is the decay at w = 0. Untrained weights:
      `SmallFC.random(key)`.
    """

    weights: dict[str, Any]

    @classmethod
    def random(cls, key: jax.Array | int, width: int = 4, *, zero: bool = False) -> "SmallFC":
        """Random weights of variance 1 / inputs.

        key: a key or an integer seed. zero: an output layer of zeros, with which parameters do not
        change.
        """
        keys = jax.random.split(as_key(key), 3)
        output = dense(keys[2], width, 2)
        return cls(
            {
                "first": dense(keys[0], NUM_FEATURES + len(TIMES), width),
                "second": dense(keys[1], width, width),
                "output": jax.tree.map(jnp.zeros_like, output) if zero else output,
                "decays": jnp.zeros(len(DECAYS)),
            }
        )

    def __call__(self, lr: jax.Array | float) -> optax.GradientTransformationExtraArgs:
        """The optax transformation with learning rate `lr`. Extra arguments are ignored."""

        def update(
            updates: Any, state: Any, params: Any = None, **extra_args: Any
        ) -> tuple[Any, Any]:
            return self._update(lr, updates, state, params)

        return optax.GradientTransformationExtraArgs(init, update)

    def _update(
        self, lr: jax.Array | float, grads: Any, state: State, params: Any
    ) -> tuple[Any, State]:
        flat, unravel = ravel_pytree(params)
        momenta, square, factors = jnp.split(
            jnp.clip(1.0 - (1.0 - DECAYS) * jnp.exp(10.0 * self.weights["decays"]), 0, 1), [3, 4]
        )

        def update_averages(old: Averages, g: jax.Array) -> Averages:
            rows, columns = _factors(g**2)
            return Averages(
                momenta=average(old.momenta, g, momenta),
                square=average(old.square, g**2, square),
                rows=average(old.rows, rows, factors),
                columns=average(old.columns, columns, factors),
            )

        averages = [
            update_averages(old, g)
            for old, g in zip(state.averages, jax.tree.leaves(grads), strict=True)
        ]
        x = features(params, grads, averages)
        first, second, output = (self.weights[name] for name in ("first", "second", "output"))
        time = jnp.tanh(state.count / TIMES - 1.0) @ first["kernel"][NUM_FEATURES:] + first["bias"]
        x = jax.nn.relu(first["kernel"][:NUM_FEATURES].T @ x + time[:, None])
        x = jax.nn.relu(second["kernel"].T @ x + second["bias"][:, None])
        direction, magnitude = output["kernel"].T @ x + output["bias"][:, None]
        step = lr * direction * jnp.exp(0.001 * magnitude)
        return unravel(-step.astype(flat.dtype)), State(averages, state.count + 1)


def init(params: Any) -> Any:
    """The initial optimiser state: averages of 0."""

    def zeros(x: jax.Array) -> Averages:
        rows, columns = (jnp.zeros((len(FACTORS), *part.shape)) for part in _factors(x))
        return Averages(
            jnp.zeros((len(MOMENTA), *x.shape)), jnp.zeros((len(SQUARE), *x.shape)), rows, columns
        )

    return State([zeros(x) for x in jax.tree.leaves(params)], jnp.int32(0))


def features(params: Any, grads: Any, averages: list[Averages]) -> jax.Array:
    """Inputs of the network for each of P parameters, without the time features. [28, P].

    Gradient, parameter, momenta (3), square, momenta / root square (3), 1 / root square, gradients
    by Adafactor (3), rows (3), columns (3), 1 / root rows (3), 1 / root columns (3), momenta by
    Adafactor (3).
    """
    tensors = list(zip(jax.tree.leaves(params), jax.tree.leaves(grads), averages, strict=True))
    columns = [_tensor_features(p, g, now).reshape(NUM_FEATURES, -1) for p, g, now in tensors]
    return normalized(jnp.concatenate(columns, axis=1), [p.size for p, _, _ in tensors])


def _tensor_features(p: jax.Array, g: jax.Array, averages: Averages) -> jax.Array:
    """Inputs for one tensor, not normalised. [28, ...]."""
    momenta, square = averages.momenta, averages.square
    root = jax.lax.rsqrt(square + 1e-6)
    mean = jax.vmap(lambda rows: rows.mean(_axes(p.shape)[1], keepdims=True))(averages.rows)
    # 1 for a vector: its rows, columns and squares are equal
    ratio = (averages.rows + 1e-9) / (mean + 1e-9)
    factor = jax.lax.rsqrt(jnp.maximum(ratio, 1e-9)) * jax.lax.rsqrt(
        jnp.maximum(averages.columns, 1e-9)
    )
    rows = jnp.broadcast_to(averages.rows, (len(averages.rows), *p.shape))
    columns = jnp.broadcast_to(averages.columns, (len(averages.columns), *p.shape))
    features = [
        g[None],
        p[None],
        momenta,
        square,
        momenta * root,
        root,
        g[None] * factor,
        rows,
        columns,
        jax.lax.rsqrt(rows + 1e-8),
        jax.lax.rsqrt(columns + 1e-8),
        momenta * factor,
    ]
    return jnp.concatenate(features)


def _factors(square: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means over the longest and over the second longest axis, which keep size 1.

    For a vector or a scalar, the array itself twice.
    """
    longest, second = _axes(square.shape)
    return square.mean(longest, keepdims=True), square.mean(second, keepdims=True)


def _axes(shape: tuple[int, ...]) -> tuple[int, int] | tuple[tuple[()], tuple[()]]:
    """The longest and the second longest axis; for a vector or a scalar, no axes."""
    if len(shape) < 2:
        return (), ()
    *_, second, longest = np.argsort(shape, kind="stable").tolist()
    return longest, second
