"""Gated recurrent cells (GRU, LSTM), which are computed one step after another."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.errors import check_counts
from jaxrl.memories.layers import linear
from jaxrl.networks import Params, orthogonal
from jaxrl.packing import packs

Cell = tuple[jax.Array, jax.Array]  # the cell state and the hidden state (output) of an LSTM


@dataclasses.dataclass(frozen=True)
class GRU:
    """Gated recurrent unit (Cho et al., 2014), with the reset gate after the matrix product.

    `rl.ppo(memory=rl.GRU(64))`.
    """

    size: int = 64

    def __post_init__(self) -> None:
        check_counts(self, "size")

    def init(self, key: jax.Array) -> Params:
        return _gates(key, self.size, 3) | {"new": {"bias": jnp.zeros(self.size, jnp.float32)}}

    def start(self) -> jax.Array:
        return jnp.zeros(self.size, jnp.float32)

    def apply(
        self, params: Params, memory: jax.Array, x: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def step(hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            reset, update, new = jnp.split(x, 3)
            hidden_reset, hidden_update, hidden_new = jnp.split(
                hidden @ params["hidden"]["kernel"], 3
            )
            new = jnp.tanh(
                new + jax.nn.sigmoid(reset + hidden_reset) * (hidden_new + params["new"]["bias"])
            )
            update = jax.nn.sigmoid(update + hidden_update)
            hidden = (1.0 - update) * new + update * hidden
            return hidden, hidden

        return _step_by_step(step, memory, linear(params["input"], x), first)


@dataclasses.dataclass(frozen=True)
class LSTM:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget-gate bias of 1."""

    size: int = 64

    def __post_init__(self) -> None:
        check_counts(self, "size")

    def init(self, key: jax.Array) -> Params:
        return _gates(key, self.size, 4)

    def start(self) -> Cell:
        return jnp.zeros(self.size, jnp.float32), jnp.zeros(self.size, jnp.float32)

    def apply(
        self, params: Params, memory: Cell, x: jax.Array, first: jax.Array
    ) -> tuple[Cell, jax.Array]:
        def step(memory: Cell, x: jax.Array) -> tuple[Cell, jax.Array]:
            cell, hidden = memory
            write, forget, new, output = jnp.split(x + hidden @ params["hidden"]["kernel"], 4)
            cell = jax.nn.sigmoid(forget + 1.0) * cell + jax.nn.sigmoid(write) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(output) * jnp.tanh(cell)
            return (cell, hidden), hidden

        return _step_by_step(step, memory, linear(params["input"], x), first)


def _gates(key: jax.Array, size: int, num: int) -> Params:
    """Initial parameters of `num` gates, concatenated: orthogonal kernels and zero biases.

    "input" is applied to the features, "hidden" to the hidden state.
    """
    sample = jax.vmap(lambda key: orthogonal()(key, (size, size)), out_axes=1)
    kernels = sample(jax.random.split(key, 2 * num)).reshape(size, 2, num * size)
    return {
        "input": {"kernel": kernels[:, 0], "bias": jnp.zeros(num * size, jnp.float32)},
        "hidden": {"kernel": kernels[:, 1]},
    }


def _step_by_step(
    step: Callable[[Any, Any], Any], memory: Any, x: jax.Array, first: jax.Array
) -> tuple[Any, jax.Array]:
    """A scan of `step(memory, x) -> memory, y`, with the memory reset to 0 at first steps."""

    def step_or_reset(memory: Any, row: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        x, first = row
        return step(tree.where(first, jax.tree.map(jnp.zeros_like, memory), memory), x)

    if packs():  # what a gradient needs of a step is computed again, rather than stacked: on a GPU
        # each array that is stacked costs a launch at each step
        step_or_reset = jax.checkpoint(step_or_reset, prevent_cse=False)
    return jax.lax.scan(step_or_reset, memory, (x, first))
