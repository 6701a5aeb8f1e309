"""Running mean and standard deviation of a stream of batches, as a pytree (Chan et al., 1979).

Also the two normalisations of algorithms: of observations, and of rewards by the standard deviation
of the discounted return. Their switch `enabled` is a leaf. A plain False leaves a normalisation out
of the program, and its statistics are None; a traced switch has both cases in one program, so that
a sweep can vary it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.masks import visible, with_visible
from jaxrl.tree import pytree


@pytree
class Running:
    """Statistics over `count` samples: `mean` and `variance` have the structure of one sample."""

    mean: Any
    variance: Any
    count: jax.Array


def init_running(example: Any) -> Running:
    """Mean 0 and variance 1 with the weight of 1e-4 samples. An action mask has no statistics."""
    zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), visible(example))
    return Running(zeros, jax.tree.map(jnp.ones_like, zeros), jnp.array(1e-4))


def update(running: Running, batch: Any, axes: tuple[int, ...] = (0,)) -> Running:
    """Return the statistics after a batch; its leading `axes` (0, 1, ...) are samples."""
    batch = visible(batch)
    count = math.prod(jax.tree.leaves(batch)[0].shape[: len(axes)])
    total = running.count + count

    def mean_of(mean: jax.Array, x: jax.Array) -> jax.Array:
        return mean + (x.astype(jnp.float32).mean(axes) - mean) * count / total

    def variance_of(mean: jax.Array, variance: jax.Array, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        between = (x.mean(axes) - mean) ** 2 * running.count * count / total
        return (variance * running.count + x.var(axes) * count + between) / total

    mean = jax.tree.map(mean_of, running.mean, batch)
    variance = jax.tree.map(variance_of, running.mean, running.variance, batch)
    return Running(mean, variance, total)


def standardize(running: Running, x: Any, limit: float = 10.0) -> Any:
    """(x - mean) / std, clipped to `limit` standard deviations; `x` may have leading axes."""

    def one(mean: jax.Array, variance: jax.Array, x: jax.Array) -> jax.Array:
        mean, variance = (
            y.reshape((1,) * (jnp.ndim(x) - y.ndim) + y.shape) for y in (mean, variance)
        )
        return jnp.clip((x - mean) * jax.lax.rsqrt(variance + 1e-8), -limit, limit)

    return jax.tree.map(one, running.mean, running.variance, x)


# ------------------------------------------------------------------------------------- observations


def init_obs(enabled: Any, example: Any) -> Running | None:
    """Return the statistics of observations at the start; None where `enabled` is a plain False."""
    return None if enabled is False else init_running(example)


def update_obs(stats: Running | None, obs: Any) -> Running | None:
    """Return the statistics after observations [T, B, ...]."""
    return None if stats is None else update(stats, obs, axes=(0, 1))


def normalize_obs(stats: Running | None, obs: Any, enabled: Any) -> Any:
    """Observations [..., shape], standardized where `enabled`; an action mask stays as it is.

    Raises:
      TypeError: `enabled` is traced and an observation holds whole numbers.
    """
    if stats is None:
        return obs
    raw = visible(obs)
    if not isinstance(enabled, bool):
        _check_floats(raw)
    scaled = standardize(stats, raw)
    selected = jax.tree.map(lambda new, old: jnp.where(enabled, new, old), scaled, raw)
    return with_visible(obs, selected)


def _check_floats(obs: Any) -> None:
    """Check that observations are floats or bits.

    A cast alone would turn whole numbers, such as the bytes of an image, into another observation.
    """
    for leaf in jax.tree.leaves(obs):
        if not (jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == bool):
            raise TypeError(
                "normalize_obs is traced (swept, or a leaf under jit), but observations are "
                f"{leaf.dtype}, which a network may read in another way than floats. Put it in "
                "static=: a program with it and one without."
            )


# ------------------------------------------------------------------------------------------ rewards


@pytree
class ReturnStats:
    """Statistics of the discounted return, and its value so far in each column, `total` [B]."""

    running: Running
    total: jax.Array


def init_returns(enabled: Any, shape: tuple[int, ...]) -> ReturnStats | None:
    """Return the statistics of returns at the start; None where `enabled` is a plain False."""
    return None if enabled is False else ReturnStats(init_running(0.0), jnp.zeros(shape))


def continue_returns(stats: ReturnStats | None, ongoing: jax.Array) -> ReturnStats | None:
    """Return the statistics with sums that go on only where an episode is `ongoing` [B]."""
    if stats is None:
        return None
    return ReturnStats(stats.running, jnp.where(ongoing, stats.total, 0.0))


def update_returns(
    stats: ReturnStats | None, reward: jax.Array, done: jax.Array, gamma: jax.Array | float
) -> ReturnStats | None:
    """Return the statistics after rewards [T, B]."""
    if stats is None:
        return None

    def discount(total: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reward, done = now
        total = gamma * total + reward
        return jnp.where(done, 0.0, total), total

    total, totals = jax.lax.scan(discount, stats.total, (reward, done))
    return ReturnStats(update(stats.running, totals, axes=(0, 1)), total)


def scale_rewards(
    stats: ReturnStats | None, reward: jax.Array, enabled: jax.Array | bool, limit: float = 10.0
) -> jax.Array:
    """Rewards over the running standard deviation of the discounted return, where `enabled`.

    Clipped to `limit` (Engstrom et al., 2020, code-level optimisation 2).
    """
    if stats is None:
        return reward
    scaled = jnp.clip(reward * reward_scale(stats, True), -limit, limit)
    return jnp.where(enabled, scaled, reward)


def reward_scale(stats: ReturnStats | None, enabled: Any) -> jax.Array | float:
    """The factor of `scale_rewards`, for rewards that are stored raw. []."""
    if stats is None:
        return 1.0
    return jnp.where(enabled, jax.lax.rsqrt(stats.running.variance + 1e-8), 1.0)
