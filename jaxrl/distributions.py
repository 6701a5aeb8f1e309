"""Probability distributions as pytrees.

Event axes come last; every method works for any leading batch axes.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import gathers
from jaxrl.tree import pytree, static

HALF_LOG_TWO_PI = 0.9189385332046727


class Distribution(Protocol):
    """Interface of all distributions. `event` is the shape of one value, () for an integer."""

    def sample(self, key: jax.Array) -> jax.Array:
        """One value for each batch element. [..., *event]."""
        ...

    def mode(self) -> jax.Array:
        """The most probable value: the greedy action. [..., *event]."""
        ...

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-probability (density) of `value` [..., *event]. [...]."""
        ...

    def entropy(self) -> jax.Array:
        """Entropy in nats. [...]."""
        ...

    def kl(self, other: Any) -> jax.Array:
        """KL(self || other) to a distribution of the same class. [...]."""
        ...


@pytree
class Categorical:
    """Categorical distribution over n actions.

    `logits` [..., n]; values are integers [...]. An action with a logit of -inf is never sampled.
    """

    logits: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Sample by inversion: one random number per draw, where the Gumbel trick takes n. [...].

        Probabilities below 2**-23 round to zero.
        """
        p = jax.nn.softmax(self.logits)
        # a parallel sum may round up where p is 0: such an entry repeats the one before it, and so
        # is never sampled
        cdf = jax.lax.cummax(jnp.where(p > 0, jnp.cumsum(p, axis=-1), 0.0), axis=p.ndim - 1)
        u = jax.random.uniform(key, (*self.logits.shape[:-1], 1), cdf.dtype) * cdf[..., -1:]
        return jnp.sum(u >= cdf[..., :-1], axis=-1, dtype=jnp.int32)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, value: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(self.logits)
        return gathers.last(log_p, value)

    def entropy(self) -> jax.Array:
        log_p = jax.nn.log_softmax(self.logits)
        p = jnp.exp(log_p)
        return -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)

    def kl(self, other: "Categorical") -> jax.Array:
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        p = jnp.exp(log_p)
        return jnp.sum(p * jnp.where(p > 0, log_p - log_q, 0.0), axis=-1)


@pytree
class MultiDiscrete:
    """Independent categorical distributions, concatenated.

    `logits` [..., sum(sizes)]; values are integers [..., len(sizes)].
    """

    logits: jax.Array
    sizes: tuple[int, ...] = static()

    def _parts(self) -> list[Categorical]:
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes) - 1)]
        return [Categorical(part) for part in jnp.split(self.logits, ends, axis=-1)]

    def sample(self, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(self.sizes))
        return jnp.stack(
            [part.sample(k) for part, k in zip(self._parts(), keys, strict=True)], axis=-1
        )

    def mode(self) -> jax.Array:
        return jnp.stack([part.mode() for part in self._parts()], axis=-1)

    def log_prob(self, value: jax.Array) -> jax.Array:
        parts = [part.log_prob(value[..., i]) for i, part in enumerate(self._parts())]
        return jnp.stack(parts).sum(0)

    def entropy(self) -> jax.Array:
        return jnp.stack([part.entropy() for part in self._parts()]).sum(0)

    def kl(self, other: "MultiDiscrete") -> jax.Array:
        return jnp.stack([a.kl(b) for a, b in zip(self._parts(), other._parts(), strict=True)]).sum(
            0
        )


@pytree
class EpsilonGreedyCategorical:
    """Epsilon-greedy distribution over the n actions of action values `values` [..., n].

    The largest value's action, or with probability `epsilon` ([...] or []) an action drawn
    uniformly. Sampled values are integers [...]. An action with a value of -inf is never sampled.
    """

    values: jax.Array
    epsilon: jax.Array | float

    def _categorical(self) -> Categorical:
        allowed = self.values > -jnp.inf
        epsilon = jnp.broadcast_to(self.epsilon, self.values.shape[:-1])[..., None]
        best = jax.nn.one_hot(self.mode(), self.values.shape[-1], dtype=self.values.dtype)
        p = (1.0 - epsilon) * best + epsilon * allowed / gathers.total(allowed)[..., None]
        return Categorical(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf))

    def sample(self, key: jax.Array) -> jax.Array:
        return self._categorical().sample(key)

    def mode(self) -> jax.Array:
        return gathers.index_of_largest(self.values)

    def log_prob(self, value: jax.Array) -> jax.Array:
        return self._categorical().log_prob(value)

    def entropy(self) -> jax.Array:
        return self._categorical().entropy()

    def kl(self, other: "EpsilonGreedyCategorical") -> jax.Array:
        return self._categorical().kl(other._categorical())


@pytree
class Normal:
    """Diagonal Gaussian over vectors. `loc` and `log_std` [..., d]; values [..., d]."""

    loc: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return self.loc + jnp.exp(self.log_std) * _normal_like(key, self.loc)

    def mode(self) -> jax.Array:
        return self.loc

    def log_prob(self, value: jax.Array) -> jax.Array:
        z = (value - self.loc) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - HALF_LOG_TWO_PI, axis=-1)

    def entropy(self) -> jax.Array:
        return jnp.sum(0.5 + HALF_LOG_TWO_PI + self.log_std + jnp.zeros_like(self.loc), axis=-1)

    def kl(self, other: "Normal") -> jax.Array:
        log_ratio = self.log_std - other.log_std
        distance = (self.loc - other.loc) * jnp.exp(-other.log_std)
        return jnp.sum(0.5 * (jnp.exp(2.0 * log_ratio) + distance**2 - 1.0) - log_ratio, axis=-1)


@pytree
class TanhNormal:
    """Gaussian squashed into a box: `middle + half * tanh(x)`, where x is Gaussian.

    Haarnoja et al. (2018), appendix C. `loc` and `log_std` [..., d] are those of x; `low` and
    `high` (broadcast to [d]) are the bounds of the box. Use `sample_with_log_prob` where the action
    may be close to the bounds: float32 cannot invert a saturated tanh.
    """

    loc: jax.Array
    log_std: jax.Array
    low: jax.Array | float = -1.0
    high: jax.Array | float = 1.0

    @property
    def _half(self) -> jax.Array:
        return (jnp.asarray(self.high) - jnp.asarray(self.low)) / 2

    @property
    def _middle(self) -> jax.Array:
        return (jnp.asarray(self.high) + jnp.asarray(self.low)) / 2

    def _squash(self, x: jax.Array) -> jax.Array:
        return self._middle + self._half * jnp.tanh(x)

    def _log_prob_of_x(self, x: jax.Array) -> jax.Array:
        return Normal(self.loc, self.log_std).log_prob(x) - jnp.sum(
            _log_slope(x) + jnp.log(self._half), axis=-1
        )

    def sample(self, key: jax.Array) -> jax.Array:
        return self._squash(Normal(self.loc, self.log_std).sample(key))

    def sample_with_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample [..., d] and its exact log-probability [...]."""
        x = Normal(self.loc, self.log_std).sample(key)
        return self._squash(x), self._log_prob_of_x(x)

    def mode(self) -> jax.Array:
        """The squashed mode of x (the median of the action): the greedy action. [..., d]."""
        return self._squash(self.loc)

    def log_prob(self, value: jax.Array) -> jax.Array:
        inside = 1.0 - jnp.finfo(jnp.float32).eps
        return self._log_prob_of_x(
            jnp.arctanh(jnp.clip((value - self._middle) / self._half, -inside, inside))
        )

    def entropy(self) -> jax.Array:
        """Entropy, which has no closed form, by Gauss-Hermite quadrature with 20 nodes. [...].

        It is the Gaussian's entropy plus the expected log-slope of the squashing.
        """
        std = jnp.exp(self.log_std)
        slopes = [w * _log_slope(self.loc + std * x) for x, w in zip(*_HERMITE, strict=True)]
        return Normal(self.loc, self.log_std).entropy() + jnp.sum(
            sum(slopes) + jnp.log(self._half), axis=-1
        )

    def kl(self, other: "TanhNormal") -> jax.Array:
        """KL of the Gaussians, which equals that of the squashed ones if the boxes are equal."""
        return Normal(self.loc, self.log_std).kl(Normal(other.loc, other.log_std))


def _normal_like(key: jax.Array, x: jax.Array) -> jax.Array:
    """Standard normal numbers of the shape and type of `x`."""
    return jax.random.normal(key, x.shape, x.dtype)


def _log_slope(x: jax.Array) -> jax.Array:
    """log(1 - tanh(x)^2), exact where 1 - tanh^2 has underflowed."""
    return 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def _hermite(num_nodes: int) -> tuple[list[float], list[float]]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    return nodes.tolist(), (weights / weights.sum()).tolist()


_HERMITE = _hermite(20)
