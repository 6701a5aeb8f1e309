"""Running mean and standard deviation of a stream of batches, as a pytree (Chan et al., 1979).

And what every algorithm does with them: `see` scales observations, `scale_rewards` rewards.
Statistics are () where not asked for. What `enabled` says is a leaf: a plain True or False, or
traced, for a sweep that has both in one program.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.masks import visible, with_visible
from jaxrl.tree import pytree


@pytree
class Running:
    """`mean` and `variance` have the structure and shapes of one observation; `count` is how many
    they were taken over.
    """

    mean: Any
    variance: Any
    count: jax.Array


def start(example: Any) -> Running:
    """Mean 0 and variance 1, held by next to no data: what `apply` does with it is next to nothing.

    A mask has none.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), visible(example))
    return Running(zeros, jax.tree.map(jnp.ones_like, zeros), jnp.array(1e-4))


def update(running: Running, batch: Any, axes: tuple[int, ...] = (0,)) -> Running:
    """Takes in a batch: `batch` has the leading `axes` [0, 1, ...] before one observation's
    shape.
    """
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


def apply(running: Running, x: Any, limit: float = 10.0) -> Any:
    """(x - mean) / std, held within `limit` standard deviations; `x` may have leading axes."""

    def one(mean: jax.Array, variance: jax.Array, x: jax.Array) -> jax.Array:
        mean, variance = (
            y.reshape((1,) * (jnp.ndim(x) - y.ndim) + y.shape) for y in (mean, variance)
        )
        return jnp.clip((x - mean) * jax.lax.rsqrt(variance + 1e-8), -limit, limit)

    return jax.tree.map(one, running.mean, running.variance, x)


# ------------------------------------------------------------------------------------- observations


def see(stats: Running | tuple[()], obs: Any, enabled: Any) -> Any:
    """Observations [..., shape] as a network should see them, scaled where `enabled`; an action
    mask stays as it is.

    Raises:
      TypeError: `enabled` is traced and an observation is whole numbers.
    """
    if not isinstance(stats, Running):
        return obs
    seen = visible(obs)
    if not isinstance(enabled, bool):
        _check_floats(seen)
    chosen = jax.tree.map(lambda new, old: jnp.where(enabled, new, old), apply(stats, seen), seen)
    return with_visible(obs, chosen)


def _check_floats(obs: Any) -> None:
    """An observation that is whole numbers, as an image of bytes, would be another one where it is
    cast but not scaled.

    Bits are the same numbers as floats.
    """
    for leaf in jax.tree.leaves(obs):
        if not (jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == bool):
            raise TypeError(
                "normalize_obs is traced (swept, or a leaf under jit), but observations are "
                f"{leaf.dtype}, which a network "
                "may read in another way than floats. Put it in static=: a program with it and "
                "one without."
            )


# ------------------------------------------------------------------------------------------ rewards


def scale_rewards(
    stats: Running | tuple[()],
    total: Any,
    reward: jax.Array,
    done: jax.Array,
    gamma: Any,
    enabled: Any,
    limit: float = 10.0,
) -> tuple[Any, Any, jax.Array]:
    """Rewards over the running standard deviation of the discounted return (Engstrom et al., 2020,
    code-level 2).

    `stats` are of that return, `total` [B] is its value so far in each environment; reward and done
    are [T, B]. Returns both, after these steps, and the rewards, held within `limit` where
    `enabled`.
    """
    if not isinstance(stats, Running):
        return stats, total, reward
    stats, total = follow_returns(stats, total, reward, done, gamma)
    scaled = jnp.clip(reward * reward_scale(stats, True), -limit, limit)
    return stats, total, jnp.where(enabled, scaled, reward)


def follow_returns(
    stats: Running, total: jax.Array, reward: jax.Array, done: jax.Array, gamma: Any
) -> tuple[Running, jax.Array]:
    """The statistics of the discounted return, and its value so far [B], after rewards [T, B]."""

    def discount(total: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reward, done = now
        total = gamma * total + reward
        return jnp.where(done, 0.0, total), total

    total, totals = jax.lax.scan(discount, total, (reward, done))
    return update(stats, totals, axes=(0, 1)), total


def reward_scale(stats: Running | tuple[()], enabled: Any) -> jax.Array | float:
    """The factor alone, for rewards that are stored raw and scaled when they are read.

    []; 1 where not `enabled`.
    """
    if not isinstance(stats, Running):
        return 1.0
    return jnp.where(enabled, jax.lax.rsqrt(stats.variance + 1e-8), 1.0)
