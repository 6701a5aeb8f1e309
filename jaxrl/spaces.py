"""Action spaces: the possible actions, and the network heads and distribution of their policies."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import distributions
from jaxrl.distributions import Distribution
from jaxrl.masks import Masked, allow, mask_of, visible, with_visible
from jaxrl.tree import pytree, static

__all__ = [
    "Box",
    "Discrete",
    "Masked",
    "MultiDiscrete",
    "Space",
    "mask_of",
    "visible",
    "with_visible",
]


@pytree
class Discrete:
    """The integers 0 to n - 1. Shape []."""

    n: int = static()

    @property
    def heads(self) -> dict[str, int]:
        return {"logits": self.n}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        """The distribution of a head's logits in `out`.

        Actions that `out["mask"]` [..., n] forbids, if it is there, have probability 0.
        """
        return distributions.Categorical(allow(out["logits"], out.get("mask")))

    def sample(self, key: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Any action, or any that `mask` [n] allows, with equal chances."""
        if mask is None:
            return jax.random.randint(key, (), 0, self.n)
        return distributions.Categorical(allow(jnp.zeros(self.n), mask)).sample(key)

    def clip(self, action: jax.Array) -> jax.Array:
        return action


@pytree
class MultiDiscrete:
    """A vector of integers, the i-th from 0 to sizes[i] - 1. Shape [len(sizes)]."""

    sizes: tuple[int, ...] = static()

    @property
    def heads(self) -> dict[str, int]:
        return {"logits": sum(self.sizes)}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        """The distribution of a head's logits in `out`.

        Choices that `out["mask"]` [..., sum(sizes)] forbids, if it is there, have probability 0.
        """
        return distributions.MultiDiscrete(self._allow(out["logits"], out.get("mask")), self.sizes)

    def sample(self, key: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Any action, or any that `mask` [sum(sizes)] allows, each entry with equal chances."""
        if mask is None:
            return jax.random.randint(key, (len(self.sizes),), 0, jnp.array(self.sizes))
        logits = self._allow(jnp.zeros(sum(self.sizes)), mask)
        return distributions.MultiDiscrete(logits, self.sizes).sample(key)

    def _allow(self, logits: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Apply a mask to the logits, to those of each entry separately."""
        if mask is None or mask.shape[-1:] != logits.shape[-1:]:
            return allow(logits, mask)
        ends = np.cumsum(self.sizes)[:-1]
        parts = zip(jnp.split(logits, ends, -1), jnp.split(mask, ends, -1), strict=True)
        return jnp.concatenate([allow(*part) for part in parts], -1)

    def clip(self, action: jax.Array) -> jax.Array:
        return action


@pytree
class Box:
    """Vectors between `low` and `high`. Shape [d].

    low, high: leaves; numbers, or arrays that broadcast to `shape`.
    """

    low: jax.Array | float = -1.0
    high: jax.Array | float = 1.0
    shape: tuple[int, ...] = static(default=(1,))

    @property
    def heads(self) -> dict[str, int]:
        size = math.prod(self.shape)
        return {"loc": size, "log_std": size}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        """A Gaussian in the units of the box: -1 and 1 of the head "loc" are its ends.

        It reaches beyond them; `clip` brings its samples back.
        """
        _check_unmasked(out.get("mask"))
        low, high = (
            jnp.broadcast_to(jnp.asarray(x, jnp.float32), self.shape) for x in (self.low, self.high)
        )
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        half = jnp.where(bounded, (high - low) / 2, 1.0)
        middle = jnp.where(bounded, (high + low) / 2, 0.0)
        return distributions.Normal(middle + half * out["loc"], jnp.log(half) + out["log_std"])

    def sample(self, key: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Uniform in the box; a standard normal where it has no bounds."""
        _check_unmasked(mask)
        low, high = (
            jnp.broadcast_to(jnp.asarray(x, jnp.float32), self.shape) for x in (self.low, self.high)
        )
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        key_uniform, key_normal = jax.random.split(key)
        low, high = jnp.where(bounded, low, 0.0), jnp.where(bounded, high, 1.0)
        uniform = jax.random.uniform(key_uniform, self.shape, minval=low, maxval=high)
        return jnp.where(bounded, uniform, jax.random.normal(key_normal, self.shape))

    def clip(self, action: jax.Array) -> jax.Array:
        return jnp.clip(action, self.low, self.high)


def _check_unmasked(mask: jax.Array | None) -> None:
    if mask is not None:
        raise TypeError(
            "The observation is Masked, but actions are real numbers of a Box: a mask says of "
            "each of a finite number of actions whether it is allowed. Give the observation alone, "
            "or make the actions Discrete or MultiDiscrete."
        )


Space = Discrete | MultiDiscrete | Box
