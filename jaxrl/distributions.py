"""Probability distributions as pytrees.

Event axes come last; every method works for any leading batch axes.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.tree import pytree, static

HALF_LOG_TWO_PI = 0.9189385332046727


class Distribution(Protocol):
    def sample(self, key: jax.Array) -> jax.Array: ...
    def mode(self) -> jax.Array: ...
    def log_prob(self, value: jax.Array) -> jax.Array: ...
    def entropy(self) -> jax.Array: ...
    def kl(self, other: Any) -> jax.Array:
        """KL(self || other), where the other is of the same kind. [...]."""
        ...


@pytree
class Categorical:
    """One of n.

    `logits` [..., n]; values are integers [...]. A logit of -inf is an action that is never taken.
    """

    logits: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """By inversion: one random number a draw, where the Gumbel trick takes n.

        Below 2**-23 chance rounds to zero.
        """
        p = jax.nn.softmax(self.logits)
        # a parallel sum may round up where p is 0: such an entry repeats the one before it, and so
        # is never drawn
        cdf = jax.lax.cummax(jnp.where(p > 0, jnp.cumsum(p, axis=-1), 0.0), axis=p.ndim - 1)
        u = jax.random.uniform(key, (*self.logits.shape[:-1], 1)) * cdf[..., -1:]
        return jnp.sum(u >= cdf[..., :-1], axis=-1)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, value: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_p, value[..., None], axis=-1)[..., 0]

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
    """Independent categoricals side by side.

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
class EpsilonGreedy:
    """The largest of `values` [..., n], but with chance `epsilon` ([...] or []) any of them alike.

    Values are integers [...]. A value of -inf is an action that is never taken, neither by chance.
    """

    values: jax.Array
    epsilon: jax.Array | float

    def _categorical(self) -> Categorical:
        allowed = self.values > -jnp.inf
        epsilon = jnp.broadcast_to(self.epsilon, self.values.shape[:-1])[..., None]
        best = jax.nn.one_hot(self.mode(), self.values.shape[-1])
        p = (1.0 - epsilon) * best + epsilon * allowed / allowed.sum(-1, keepdims=True)
        return Categorical(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf))

    def sample(self, key: jax.Array) -> jax.Array:
        return self._categorical().sample(key)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.values, axis=-1)

    def log_prob(self, value: jax.Array) -> jax.Array:
        return self._categorical().log_prob(value)

    def entropy(self) -> jax.Array:
        return self._categorical().entropy()

    def kl(self, other: "EpsilonGreedy") -> jax.Array:
        return self._categorical().kl(other._categorical())


@pytree
class Normal:
    """A diagonal Gaussian over vectors. `loc` and `log_std` [..., d]; values [..., d]."""

    loc: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return self.loc + jnp.exp(self.log_std) * jax.random.normal(key, self.loc.shape)

    def mode(self) -> jax.Array:
        return self.loc

    def log_prob(self, value: jax.Array) -> jax.Array:
        z = (value - self.loc) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - HALF_LOG_TWO_PI, axis=-1)

    def entropy(self) -> jax.Array:
        return jnp.sum(0.5 + HALF_LOG_TWO_PI + self.log_std + jnp.zeros_like(self.loc), axis=-1)

    def kl(self, other: "Normal") -> jax.Array:
        wider = self.log_std - other.log_std
        far = (self.loc - other.loc) * jnp.exp(-other.log_std)
        return jnp.sum(0.5 * (jnp.exp(2.0 * wider) + far**2 - 1.0) - wider, axis=-1)


@pytree
class TanhNormal:
    """A Gaussian squashed into a box: `middle + half * tanh(x)` (Haarnoja et al., 2018, appendix
    C).

    `loc` and `log_std` [..., d] describe x; `low` and `high` (broadcast to [d]) are the box. Keep x
    as well as the action (`sample_with_log_prob`) where the action may come close to the bounds:
    float32 cannot undo a saturated tanh.
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
        x = Normal(self.loc, self.log_std).sample(key)
        return self._squash(x), self._log_prob_of_x(x)

    def mode(self) -> jax.Array:
        """The squashed mode of x (the median of the action): what a greedy policy does."""
        return self._squash(self.loc)

    def log_prob(self, value: jax.Array) -> jax.Array:
        inside = 1.0 - jnp.finfo(jnp.float32).eps
        return self._log_prob_of_x(
            jnp.arctanh(jnp.clip((value - self._middle) / self._half, -inside, inside))
        )

    def entropy(self) -> jax.Array:
        """No closed form: the Gaussian's entropy plus the mean log-slope by Gauss-Hermite
        quadrature (20 nodes).
        """
        std = jnp.exp(self.log_std)
        slopes = [w * _log_slope(self.loc + std * x) for x, w in zip(*_HERMITE, strict=True)]
        return Normal(self.loc, self.log_std).entropy() + jnp.sum(
            sum(slopes) + jnp.log(self._half), axis=-1
        )

    def kl(self, other: "TanhNormal") -> jax.Array:
        """Of the Gaussians: both are squashed alike. The boxes must be the same."""
        return Normal(self.loc, self.log_std).kl(Normal(other.loc, other.log_std))


def _log_slope(x: jax.Array) -> jax.Array:
    """log(1 - tanh(x)^2), exact where 1 - tanh^2 has underflowed."""
    return 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def _hermite(num_nodes: int) -> tuple[list[float], list[float]]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    return nodes.tolist(), (weights / weights.sum()).tolist()


_HERMITE = _hermite(20)
