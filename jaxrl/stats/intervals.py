"""Bootstrap intervals of any statistic of the seeds, stratified by task; sorted once, resampled by counts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.stats.scores import TRIM, Statistic, iqm, mean, trimmed_mean

CHUNK = 2**22  # values that a batch of resamples holds at once: 16 MB for each intermediate array


class Interval(NamedTuple):
    """A statistic and the ends of its bootstrap interval, in the units of the scores. Each [...]."""

    estimate: jax.Array
    low: jax.Array
    high: jax.Array


def interval(
    x: Any,
    statistic: Statistic = iqm,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | None = None,
    axis: int = -1,
    tasks: int | None = None,
) -> Interval:
    """A statistic of the seeds and its percentile bootstrap interval, for every other axis of `x` at once. [...].

    x: scores with seeds along `axis`. Scores along the axis `tasks` are pooled, and seeds drawn anew within each task
    (rliable's stratified bootstrap). The same seeds are drawn at each point of the grid, so that points compare.
    statistic: `iqm`, `mean` and `median` cost O(n) a resample, for the scores are sorted once and then recounted; any
    other is called with each resample [seeds], or [seeds, tasks].
    level: the share of such intervals that hold the truth. key: the luck of the resamples, `jax.random.key(0)` unless given.

    Returns: NaN ends where fewer than two scores are known.
    Raises: ValueError for a single seed or a level outside (0, 1).
    """
    x = jnp.asarray(x, float)
    if not 0 < level < 1:
        raise ValueError(f"level={level} is not the share of intervals that hold the truth; write level=0.95 for 95 %.")
    if x.shape[axis] < 2:
        raise ValueError(
            f"{x.shape[axis]} seed along axis {axis} of shape {x.shape} says nothing of the spread between seeds. "
            "Sweep at least 2, better 10: jax.random.split(jax.random.key(0), 10), or name another axis."
        )
    scores = jnp.moveaxis(x, axis, -1)[..., None, :] if tasks is None else jnp.moveaxis(x, (tasks, axis), (-2, -1))
    key = jax.random.key(0) if key is None else key
    known = jnp.sum(~jnp.isnan(scores), axis=(-2, -1)) > 1
    resample = partial(_recount, trim=TRIM[statistic]) if statistic in TRIM else partial(_redraw, statistic=statistic)
    estimate, draws = resample(key, scores, resamples=resamples)
    return Interval(estimate, *(jnp.where(known, end, jnp.nan) for end in percentile(draws, level)))


@partial(jax.jit, static_argnames="level")
def percentile(draws: jax.Array, level: float = 0.95) -> jax.Array:
    """The two ends of the percentile interval from `draws` [resamples, ...] of a statistic. [2, ...]."""
    return jnp.nanquantile(draws, jnp.array([(1 - level) / 2, (1 + level) / 2]), axis=0)


def bootstrap(key: jax.Array, statistic: Callable, *samples: Any, resamples: int = 2000) -> jax.Array:
    """`statistic(*samples)` of samples drawn anew, each on its own, with replacement within each task. [resamples, ...].

    samples: each [seeds] or [seeds, tasks]. With two, `percentile(bootstrap(key, probability_of_improvement, x, y))`.
    """
    arrays = [jnp.asarray(x, float) for x in samples]

    def one(key: jax.Array) -> jax.Array:
        drawn = [_draw(key, x.shape, len(x)) for key, x in zip(jax.random.split(key, len(arrays)), arrays, strict=True)]
        return statistic(*(jnp.take_along_axis(x, seeds, axis=0) for x, seeds in zip(arrays, drawn, strict=True)))

    return jax.lax.map(one, jax.random.split(key, resamples), batch_size=_batch(sum(x.size for x in arrays), resamples))


def paired_difference(x: Any, y: Any, statistic: Statistic = mean, **options: Any) -> Interval:
    """`interval` of x - y where both ran the same seeds, so that the luck of a seed cancels. x, y: the same shape.

    Raises: ValueError when the shapes differ. With two results, `a["return"] - b["return"]` keeps their common seeds.
    """
    if np.shape(x) != np.shape(y):
        raise ValueError(
            f"Pairs need one y for each x, and the shapes are {np.shape(x)} and {np.shape(y)}. Keep the common seeds, "
            'difference = a["return"] - b["return"], or compare unpaired: probability_of_improvement(x, y).'
        )
    return interval(jnp.asarray(x, float) - jnp.asarray(y, float), statistic, **options)


@partial(jax.jit, static_argnames=("trim", "resamples"))
def _recount(key: jax.Array, scores: jax.Array, trim: float, resamples: int) -> tuple[jax.Array, jax.Array]:
    """The trimmed mean of scores [..., tasks, seeds], and of resamples told only by how often each score came. [R, ...]."""
    *points, num_tasks, num_seeds = scores.shape
    scores = scores.reshape(*points, num_tasks * num_seeds)
    order = jnp.argsort(scores, axis=-1)
    scores = jnp.take_along_axis(scores, order, axis=-1)
    known = ~jnp.isnan(scores)

    def one(key: jax.Array) -> jax.Array:
        counts = draw_counts(key, num_tasks, num_seeds).ravel()
        return trimmed_mean(scores, jnp.where(known, counts[order], 0), trim)

    draws = jax.lax.map(one, jax.random.split(key, resamples), batch_size=_batch(scores.size, resamples))
    return trimmed_mean(scores, known.astype(int), trim), draws


def _redraw(key: jax.Array, scores: jax.Array, statistic: Statistic, resamples: int) -> tuple[jax.Array, jax.Array]:
    """As `_recount` for any statistic, by calling it, one point of the grid after another."""
    *points, num_tasks, num_seeds = scores.shape
    samples = jnp.swapaxes(scores.reshape(-1, num_tasks, num_seeds), 1, 2)
    samples = samples[..., 0] if num_tasks == 1 else samples
    draws = jax.lax.map(lambda x: bootstrap(jax.random.clone(key), statistic, x, resamples=resamples), samples)
    return jax.vmap(statistic)(samples).reshape(points), draws.T.reshape(resamples, *points)


def draw_counts(key: jax.Array, num_tasks: int, num_seeds: int) -> jax.Array:
    """How often each seed is drawn when num_seeds are, with replacement, in each task. int [num_tasks, num_seeds]."""
    drawn = _draw(key, (num_tasks, num_seeds), num_seeds)
    task = jnp.broadcast_to(jnp.arange(num_tasks)[:, None], drawn.shape)
    return jnp.zeros(drawn.shape, int).at[task, drawn].add(1)


def _draw(key: jax.Array, shape: tuple[int, ...], n: int) -> jax.Array:
    """Uniform integers below n. Five times faster than `randint`, whose exactness (n / 2^23) no resample can feel."""
    return jnp.minimum((jax.random.uniform(key, shape) * n).astype(int), n - 1)


def _batch(size: int, resamples: int) -> int:
    return min(resamples, max(1, CHUNK // size))
