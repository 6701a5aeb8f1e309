"""A transformer memory: attention over a window of past steps."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import check_counts
from jaxrl.memories.layers import dense, kernel, linear, normal
from jaxrl.networks import Params

Window = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class GTrXL:
    """Gated transformer-XL (Parisotto et al., 2020): attention over the last `window` steps.

    Each layer stores its last `window` inputs, and attends to those of the same episode and to the
    present one. Relative positions are a learned bias for each distance, rather than
    Transformer-XL's sinusoids. GRU-style gates are initialised nearly closed, so that a layer is
    initially close to the identity. Gradients flow through all steps of one call of `apply`.
    """

    size: int = 64
    window: int = 32
    heads: int = 2
    layers: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "size")
        if self.window < 1 or self.layers < 1:
            raise ValueError(
                f"window={self.window} and layers={self.layers} must be 1 or more: write "
                "GTrXL(window=32)."
            )
        if self.heads < 1 or self.size % self.heads:
            raise ValueError(
                f"heads={self.heads} does not divide size={self.size}, and each head of GTrXL "
                "takes an equal share of the features: write heads=1, or a multiple of heads as "
                "the size."
            )

    def init(self, key: jax.Array) -> Params:
        return {
            f"layer_{i}": self._init(key)
            for i, key in enumerate(jax.random.split(key, self.layers))
        }

    def _init(self, key: jax.Array) -> Params:
        keys = jax.random.split(key, 6)
        return {
            "attend": dense(keys[0], self.size, 3 * self.size),
            "distance": {"bias": jnp.zeros((self.heads, self.window + 1), jnp.float32)},
            "join": dense(keys[1], self.size, self.size),
            "attend_gate": _gate(keys[2], self.size),
            "hidden": dense(keys[3], self.size, 2 * self.size),
            "out": dense(keys[4], 2 * self.size, self.size),
            "out_gate": _gate(keys[5], self.size),
        }

    def start(self) -> Window:
        """An empty window: each layer's last inputs, oldest first, none of which is valid."""
        return {
            "read": jnp.zeros((self.layers, self.window, self.size), jnp.float32),
            "valid": jnp.zeros(self.window, bool),
        }

    def apply(
        self, params: Params, memory: Window, x: jax.Array, first: jax.Array
    ) -> tuple[Window, jax.Array]:
        # the number of each row's episode; -1 for empty rows of the window
        episode = jnp.concatenate([jnp.where(memory["valid"], 0, -1), jnp.cumsum(first)])
        valid = episode[-self.window :] == episode[-1]
        windows = []
        for i in range(self.layers):
            rows = jnp.concatenate([memory["read"][i], x])
            windows.append(jnp.where(valid[:, None], rows[-self.window :], 0.0))
            x = self._layer(params[f"layer_{i}"], rows, episode)
        return {"read": jnp.stack(windows), "valid": valid}, x

    def _layer(self, params: Params, rows: jax.Array, episode: jax.Array) -> jax.Array:
        """One layer's outputs for the last T of the window + T rows. [T, size]."""
        x = rows[self.window :]
        attended = self._attention(params, normal(rows), episode)
        x = _gated(params["attend_gate"], x, jax.nn.relu(linear(params["join"], attended)))
        hidden = jax.nn.relu(linear(params["hidden"], normal(x)))
        return _gated(params["out_gate"], x, jax.nn.relu(linear(params["out"], hidden)))

    def _attention(self, params: Params, rows: jax.Array, episode: jax.Array) -> jax.Array:
        """Attention of each of the last T rows to itself and the `window` rows before. [T, size].

        Computed in blocks of `window` rows, each of which attends to itself and to the block
        before, so that the cost is linear in T.
        """
        length = len(rows) - self.window
        block = min(length, self.window)
        padding = -length % block
        query, key, value = jnp.split(
            linear(params["attend"], jnp.pad(rows, ((0, padding), (0, 0)))), 3, axis=-1
        )
        episode = jnp.pad(episode, (0, padding), constant_values=-2)

        def split_heads(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:-1], self.heads, -1)

        queries = split_heads(query[self.window :].reshape(-1, block, self.size))
        keys = split_heads(self._blocks(key, length))
        values = split_heads(self._blocks(value, length))

        distance = np.arange(block)[:, None] + self.window - np.arange(self.window + block)[None]
        near = (distance >= 0) & (distance <= self.window)
        same = (
            episode[self.window :].reshape(-1, block)[:, :, None]
            == self._blocks(episode, length)[:, None]
        )
        bias = params["distance"]["bias"][:, np.clip(distance, 0, self.window)]
        score = (
            jnp.einsum("nqhd,nkhd->nhqk", queries, keys) / math.sqrt(self.size // self.heads)
            + bias[None]
        )
        # each row attends to itself at least
        weight = jax.nn.softmax(jnp.where((same & near[None])[:, None], score, -jnp.inf))
        return jnp.einsum("nhqk,nkhd->nqhd", weight, values).reshape(-1, self.size)[:length]

    def _blocks(self, x: jax.Array, length: int) -> jax.Array:
        """The rows of x [window + T, ...] that each block attends to.

        [blocks, window + block, ...].
        """
        if length <= self.window:
            return x[None]
        blocks = x.reshape(-1, self.window, *x.shape[1:])
        return jnp.concatenate([blocks[:-1], blocks[1:]], axis=1)


def _gate(key: jax.Array, size: int) -> Params:
    key_new, key_old, key_reset = jax.random.split(key, 3)
    return {
        "new": {"kernel": kernel(key_new, size, 3 * size)},
        "old": {"kernel": kernel(key_old, size, 2 * size)},
        "reset": {"kernel": kernel(key_reset, size, size)},
        "shut": {"bias": jnp.full(size, 2.0, jnp.float32)},
    }


def _gated(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """GRU-style gating of a residual branch y into x (Parisotto et al., 2020). [T, size]."""
    reset, update, new = jnp.split(y @ params["new"]["kernel"], 3, axis=-1)
    old_reset, old_update = jnp.split(x @ params["old"]["kernel"], 2, axis=-1)
    new = jnp.tanh(new + (jax.nn.sigmoid(reset + old_reset) * x) @ params["reset"]["kernel"])
    update = jax.nn.sigmoid(update + old_update - params["shut"]["bias"][None])
    return (1.0 - update) * x + update * new
