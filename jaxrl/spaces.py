"""Action spaces: the possible actions, and the network heads and distribution of their policies."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl import distributions
from jaxrl.distributions import Distribution
from jaxrl.errors import check_counts
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


# A bound beyond it counts as none, as other libraries write +-finfo(float32).max for "no bound": a
# Gaussian on such a scale would overflow.
LARGEST_BOUND = 1e18


def _whole(x: Any) -> Any:
    """NumPy's or JAX's whole number as an int; anything else as it is, to be refused."""
    if isinstance(x, Tracer) or not isinstance(x, np.integer | np.ndarray | jax.Array):
        return x
    is_whole = np.ndim(x) == 0 and np.asarray(x).dtype.kind in "iu"
    return int(x) if is_whole else x


def _wholes(x: Any) -> Any:
    """A list or an array of whole numbers as a tuple."""
    if isinstance(x, Tracer) or not isinstance(x, tuple | list | np.ndarray | jax.Array):
        return x
    return tuple(map(_whole, np.asarray(x))) if np.ndim(x) == 1 else x


@pytree
class Discrete:
    """The integers 0 to n - 1. Shape []."""

    n: int = static()

    def __init__(self, n: int, start: int = 0) -> None:
        if start != 0:
            raise ValueError(
                f"Discrete(..., start={start!r}) counts from 0 here: write Discrete({n}), and add "
                f"{start} to the action in the environment's step."
            )
        object.__setattr__(self, "n", _whole(n))
        self.__post_init__()

    def __post_init__(self) -> None:
        check_counts(self, "n")

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
            return jax.random.randint(key, (), 0, self.n, jnp.int32)
        return distributions.Categorical(allow(jnp.zeros(self.n, jnp.float32), mask)).sample(key)

    def clip(self, action: jax.Array) -> jax.Array:
        return action


@pytree
class MultiDiscrete:
    """A vector of integers, the i-th from 0 to sizes[i] - 1. Shape [len(sizes)]."""

    sizes: tuple[int, ...] = static()

    def __init__(self, sizes: Sequence[int]) -> None:
        object.__setattr__(self, "sizes", _wholes(sizes))
        self.__post_init__()

    def __post_init__(self) -> None:
        sizes: Any = self.sizes
        if not isinstance(sizes, tuple) or not sizes or not all(map(_is_size, sizes)):
            raise ValueError(
                f"sizes={sizes!r} of MultiDiscrete are not positive whole numbers: write "
                "MultiDiscrete((2, 3))."
            )

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
            return jax.random.randint(
                key, (len(self.sizes),), 0, jnp.array(self.sizes, jnp.int32), jnp.int32
            )
        logits = self._allow(jnp.zeros(sum(self.sizes), jnp.float32), mask)
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

    low, high: leaves; numbers, or arrays that broadcast to `shape`. A bound that is infinite, or
    beyond 1e18 in magnitude, counts as none.

    Raises:
      ValueError: bounds that are NaN or leave no room (low >= high), or do not fit the shape.
    """

    low: jax.Array | float = -1.0
    high: jax.Array | float = 1.0
    shape: tuple[int, ...] = static(default=(1,))

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else _wholes(self.shape)
        object.__setattr__(self, "shape", shape)
        _check_shape(shape, "Box")
        for name in ("low", "high"):
            value = vars(self)[name]
            if isinstance(value, list):  # jax may replace a leaf by any other object
                object.__setattr__(self, name, np.asarray(value, np.float32))
        if all(isinstance(x, PLAIN) for x in (self.low, self.high)):
            check_bounds(self, "Box")

    @property
    def heads(self) -> dict[str, int]:
        size = math.prod(self.shape)
        return {"loc": size, "log_std": size}

    def policy(self, out: dict[str, jax.Array]) -> Distribution:
        """A Gaussian in the units of the box: -1 and 1 of the head "loc" are its ends.

        It reaches beyond them; `clip` brings its samples back.
        """
        _check_unmasked(out.get("mask"))
        low, high, bounded = self._bounds()
        half = jnp.where(bounded, (high - low) / 2, 1.0)
        middle = jnp.where(bounded, (high + low) / 2, 0.0)
        return distributions.Normal(middle + half * out["loc"], jnp.log(half) + out["log_std"])

    def sample(self, key: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Uniform in the box; a standard normal where it has no bounds."""
        _check_unmasked(mask)
        low, high, bounded = self._bounds()
        key_uniform, key_normal = jax.random.split(key)
        low, high = jnp.where(bounded, low, 0.0), jnp.where(bounded, high, 1.0)
        uniform = jax.random.uniform(key_uniform, self.shape, jnp.float32, low, high)
        return jnp.where(bounded, uniform, jax.random.normal(key_normal, self.shape, jnp.float32))

    def clip(self, action: jax.Array) -> jax.Array:
        return jnp.clip(action, jnp.asarray(self.low), jnp.asarray(self.high))

    def _bounds(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The ends [shape], and True where there are both."""
        low, high = (
            jnp.broadcast_to(jnp.asarray(_infinite(x), jnp.float32), self.shape)
            for x in (self.low, self.high)
        )
        return low, high, jnp.isfinite(low) & jnp.isfinite(high)


PLAIN = (bool, int, float, np.ndarray, np.generic)


def _is_size(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x > 0


def is_bound(x: Any) -> Any:
    """True where an end of a box is a bound, rather than infinite or as good as that."""
    return np.abs(np.asarray(x)) < LARGEST_BOUND


def _infinite(end: Any) -> Any:
    """An end of plain numbers with infinity for what is not a bound; any other end as it is."""
    if not isinstance(end, PLAIN) or np.all(is_bound(end)):
        return end
    return np.where(is_bound(end), end, np.copysign(np.inf, end))


def is_allowed(space: "Space", action: jax.Array, mask: jax.Array | None) -> jax.Array:
    """True where `mask` allows an action, or is None. []."""
    if mask is None:
        return jnp.bool_(True)
    even = {name: jnp.zeros(size, jnp.float32) for name, size in space.heads.items()}
    return space.policy(even | {"mask": mask}).log_prob(action) > -jnp.inf


def _check_shape(shape: Any, name: str) -> None:
    if not isinstance(shape, tuple) or len(shape) != 1 or not all(map(_is_size, shape)):
        raise ValueError(
            f"shape={shape!r} of {name} is not that of a vector: write shape=(6,) for 6 numbers."
        )


def check_bounds(space: Box, name: str) -> None:
    """Check the ends of a box and its shape; ends that are traced are not looked at.

    Raises:
      ValueError: as of `Box`.
    """
    shape = space.shape
    _check_shape(shape, name)
    ends = {}
    for end in ("low", "high"):
        value: Any = vars(space)[end]
        known = isinstance(value, (*PLAIN, tuple, jax.Array)) and not isinstance(value, Tracer)
        if not known or any(isinstance(x, Tracer) for x in jax.tree.leaves(value)):
            continue
        ends[end] = np.asarray(value, np.float32)
        if np.isnan(ends[end]).any():
            raise ValueError(f"{end}={value} of {name} is NaN: write a number, or -inf or inf.")
        if isinstance(value, jax.Array) and (np.isfinite(ends[end]) & ~is_bound(value)).any():
            raise ValueError(
                f"{end} of {name} is {value}, beyond {LARGEST_BOUND:g}, where numbers overflow: "
                f"write {'-jnp.inf' if end == 'low' else 'jnp.inf'} for no bound."
            )
        if np.ndim(value) > 1 or np.shape(value) not in ((), (1,), shape):
            size = np.size(value)
            raise ValueError(
                f"{end} of {name} has the shape {list(np.shape(value))}, which does not fit "
                f"shape={shape}: write shape=({size},), or one number for all."
            )
    if len(ends) == 2 and not (ends["low"] < ends["high"]).all():
        raise ValueError(
            f"{name} has low={space.low} and high={space.high}, where low is not below high: write "
            "them the other way round, or remove entries that can't vary from the actions."
        )


def _check_unmasked(mask: jax.Array | None) -> None:
    if mask is not None:
        raise TypeError(
            "The observation is Masked, but actions are real numbers of a Box: a mask says of "
            "each of a finite number of actions whether it is allowed. Give the observation alone, "
            "or make the actions Discrete or MultiDiscrete."
        )


Space = Discrete | MultiDiscrete | Box
