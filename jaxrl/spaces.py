"""Action spaces: what an action may be, and which network heads and distribution a policy over them needs."""

import math

import jax
import jax.numpy as jnp

from jaxrl import distributions
from jaxrl.distributions import Distribution
from jaxrl.tree import pytree, static


@pytree
class Discrete:
    """The integers 0 to n - 1. Shape []."""

    n: int = static()

    @property
    def heads(self) -> dict[str, int]:
        return {"logits": self.n}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        return distributions.Categorical(out["logits"])

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.n)

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
        return distributions.MultiDiscrete(out["logits"], self.sizes)

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (len(self.sizes),), 0, jnp.array(self.sizes))

    def clip(self, action: jax.Array) -> jax.Array:
        return action


@pytree
class Box:
    """Vectors between `low` and `high` (leaves: numbers or arrays that broadcast to `shape`, which is [d])."""

    low: jax.Array | float = -1.0
    high: jax.Array | float = 1.0
    shape: tuple[int, ...] = static(default=(1,))

    @property
    def heads(self) -> dict[str, int]:
        size = math.prod(self.shape)
        return {"loc": size, "log_std": size}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        """A Gaussian in the box's own units: a head's -1 and 1 are its ends, and what falls outside `clip` brings back."""
        low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), self.shape) for x in (self.low, self.high))
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        half = jnp.where(bounded, (high - low) / 2, 1.0)
        middle = jnp.where(bounded, (high + low) / 2, 0.0)
        return distributions.Normal(middle + half * out["loc"], jnp.log(half) + out["log_std"])

    def sample(self, key: jax.Array) -> jax.Array:
        """Uniform in the box; a standard normal where it has no bounds."""
        low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), self.shape) for x in (self.low, self.high))
        bounded = jnp.isfinite(low) & jnp.isfinite(high)
        key_uniform, key_normal = jax.random.split(key)
        low, high = jnp.where(bounded, low, 0.0), jnp.where(bounded, high, 1.0)
        uniform = jax.random.uniform(key_uniform, self.shape, minval=low, maxval=high)
        return jnp.where(bounded, uniform, jax.random.normal(key_normal, self.shape))

    def clip(self, action: jax.Array) -> jax.Array:
        return jnp.clip(action, self.low, self.high)


Space = Discrete | MultiDiscrete | Box
