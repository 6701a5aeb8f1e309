"""A memory that keeps what it read and looks back at it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.memories.layers import dense, kernel, linear, normal
from jaxrl.networks import Params

Kept = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class GTrXL:
    """A gated transformer-XL (Parisotto et al., 2020): attention over the last `window` steps,
    gated as a GRU is.

    Each layer keeps its last `window` inputs and looks at them and at its present one, in the same
    episode. Attention knows distance by a learnt bias for each, the simplest relative position,
    rather than by Transformer-XL's sinusoids. A gate starts nearly shut, so that a layer passes on
    what it gets. Gradients flow through all that is read at once.
    """

    size: int = 64
    window: int = 32
    heads: int = 2
    layers: int = 1

    def __post_init__(self) -> None:
        if self.window < 1 or self.layers < 1:
            raise ValueError(
                f"window={self.window} and layers={self.layers} are at least 1; write, say, "
                "GTrXL(window=32)."
            )
        if self.heads < 1 or self.size % self.heads:
            raise ValueError(
                f"heads={self.heads} does not divide size={self.size}, and each head of GTrXL "
                "takes an equal share of the "
                "features: write heads=1, or a size that it divides."
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
            "distance": {"bias": jnp.zeros((self.heads, self.window + 1))},
            "join": dense(keys[1], self.size, self.size),
            "attend_gate": _gate(keys[2], self.size),
            "hidden": dense(keys[3], self.size, 2 * self.size),
            "out": dense(keys[4], 2 * self.size, self.size),
            "out_gate": _gate(keys[5], self.size),
        }

    def start(self) -> Kept:
        """What each layer read, oldest first, and which of these rows are of this episode: none
        yet.
        """
        return {
            "read": jnp.zeros((self.layers, self.window, self.size)),
            "valid": jnp.zeros(self.window, bool),
        }

    def apply(
        self, params: Params, memory: Kept, x: jax.Array, first: jax.Array
    ) -> tuple[Kept, jax.Array]:
        episode = jnp.concatenate(
            [jnp.where(memory["valid"], 0, -1), jnp.cumsum(first)]
        )  # -1: of none
        valid = episode[-self.window :] == episode[-1]
        kept = []
        for i in range(self.layers):
            read = jnp.concatenate([memory["read"][i], x])
            kept.append(jnp.where(valid[:, None], read[-self.window :], 0.0))
            x = self._layer(params[f"layer_{i}"], read, episode)
        return {"read": jnp.stack(kept), "valid": valid}, x

    def _layer(self, params: Params, read: jax.Array, episode: jax.Array) -> jax.Array:
        """One layer's outputs for all rows but the first `window`, which are only looked at.

        [T, size].
        """
        x = read[self.window :]
        seen = self._attention(params, normal(read), episode)
        x = _gated(params["attend_gate"], x, jax.nn.relu(linear(params["join"], seen)))
        hidden = jax.nn.relu(linear(params["hidden"], normal(x)))
        return _gated(params["out_gate"], x, jax.nn.relu(linear(params["out"], hidden)))

    def _attention(self, params: Params, read: jax.Array, episode: jax.Array) -> jax.Array:
        """What each row but the first `window` finds in the `window` before it and itself. [T,
        size].

        In blocks of `window` rows, each of which sees itself and the block before, so that its cost
        is linear in T.
        """
        length = len(read) - self.window
        block = min(length, self.window)
        rest = -length % block
        query, key, value = jnp.split(
            linear(params["attend"], jnp.pad(read, ((0, rest), (0, 0)))), 3, axis=-1
        )
        episode = jnp.pad(episode, (0, rest), constant_values=-2)
        share = lambda x: x.reshape(*x.shape[:-1], self.heads, -1)
        queries = share(query[self.window :].reshape(-1, block, self.size))
        keys, values = share(self._blocks(key, length)), share(self._blocks(value, length))

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
        weight = jax.nn.softmax(
            jnp.where((same & near[None])[:, None], score, -jnp.inf)
        )  # each row sees itself at least
        return jnp.einsum("nhqk,nkhd->nqhd", weight, values).reshape(-1, self.size)[:length]

    def _blocks(self, x: jax.Array, length: int) -> jax.Array:
        """Of x [window + T, ...], the rows that each block of rows looks at.

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
        "shut": {"bias": jnp.full(size, 2.0)},
    }


def _gated(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """x, moved towards y as a GRU's state is by its input (Parisotto et al., 2020, gated recurrent
    unit). [T, size].
    """
    reset, update, new = jnp.split(y @ params["new"]["kernel"], 3, axis=-1)
    old_reset, old_update = jnp.split(x @ params["old"]["kernel"], 2, axis=-1)
    new = jnp.tanh(new + (jax.nn.sigmoid(reset + old_reset) * x) @ params["reset"]["kernel"])
    update = jax.nn.sigmoid(update + old_update - params["shut"]["bias"][None])
    return (1.0 - update) * x + update * new
