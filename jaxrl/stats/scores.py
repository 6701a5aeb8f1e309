"""Statistics of one set of scores (Agarwal et al., 2021, and rliable), pure JAX, a whole grid at
once.

NaN means "no value" and is left out: no episode ended in that window. A diverged member counts with
what it earns.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Statistic = Callable[[jax.Array], jax.Array]
Axes = int | tuple[int, ...] | None


def iqm(x: Any, axis: Axes = -1) -> jax.Array:
    """The interquartile mean: the mean of what is left without the floor(n/4) lowest and highest.
    [...].

    Equals `scipy.stats.trim_mean(x, 0.25, axis)`, rliable's definition, where no value is NaN.
    """
    return _trim_values(jnp.asarray(x, float), TRIM[iqm], axis)


def median(x: Any, axis: Axes = -1) -> jax.Array:
    """The median of the values that are not NaN.

    [...]. (rliable's is over tasks: `median(mean(scores, axis=0))`.)
    """
    return _trim_values(jnp.asarray(x, float), TRIM[median], axis)


def mean(x: Any, axis: Axes = -1) -> jax.Array:
    """The mean of the values that are not NaN. [...]."""
    return jnp.nanmean(jnp.asarray(x, float), axis)


TRIM: dict[Callable, float] = {
    mean: 0.0,
    iqm: 0.25,
    median: 0.5,
}  # all three are a trimmed mean: the share cut off each end


def optimality_gap(x: Any, gamma: float = 1.0, axis: Axes = None) -> jax.Array:
    """How far the scores fall short of `gamma` on average, nothing gained above it. [...]."""
    return gamma - mean(jnp.minimum(jnp.asarray(x, float), gamma), axis)


def performance_profile(x: Any, thresholds: Any) -> jax.Array:
    """The share of all scores `x` above each threshold (Agarwal et al., 2021, equation 5).

    [thresholds].
    """
    scores = jnp.sort(jnp.asarray(x, float), axis=None)
    finite = jnp.sum(~jnp.isnan(scores))
    up_to = jnp.searchsorted(scores, jnp.asarray(thresholds, float), side="right")
    return (finite - up_to) / finite


def probability_of_improvement(x: Any, y: Any) -> jax.Array:
    """P(a score of X > a score of Y), a tie counts half (Mann-Whitney's U / nm), averaged over
    tasks. [].

    x, y: [seeds, ...tasks], the numbers of seeds may differ.
    """
    check_tasks(np.shape(x)[1:], np.shape(y)[1:])
    x, y, below, up_to = wins(*(jnp.asarray(z, float).reshape(len(z), -1).T for z in (x, y)))
    return improvement_by_counts(x, y, below, up_to, jnp.ones(x.shape, int), jnp.ones(y.shape, int))


def check_tasks(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """Refuses scores on other tasks, of these shapes."""
    if x != y:
        raise ValueError(
            f"tasks are compared one by one, and x has {x}, y {y}: give [seeds, ...tasks] of each."
        )


def wins(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x [tasks, n], y [tasks, m] ascending, and how many of y are below, and not above, each of x.

    [tasks, n].
    """
    y = jnp.sort(y)
    below, up_to = (
        jax.vmap(partial(jnp.searchsorted, side=side))(y, x) for side in ("left", "right")
    )
    return x, y, below, up_to


def improvement_by_counts(
    x: jax.Array,
    y: jax.Array,
    below: jax.Array,
    up_to: jax.Array,
    count_x: jax.Array,
    count_y: jax.Array,
) -> jax.Array:
    """`probability_of_improvement` where each score came as often as its count says, from what
    `wins` gives. [].
    """
    count_x, count_y = jnp.where(jnp.isnan(x), 0, count_x), jnp.where(jnp.isnan(y), 0, count_y)
    so_far = jnp.pad(jnp.cumsum(count_y, -1), ((0, 0), (1, 0)))
    beaten = sum(jnp.take_along_axis(so_far, place, -1) for place in (below, up_to)) / (
        2 * so_far[:, -1:]
    )
    return jnp.mean((count_x * beaten).sum(-1) / count_x.sum(-1))


def auc(curve: Any, steps: Any, axis: int = -1) -> jax.Array:
    """The mean height of a learning curve: its area by the trapezium rule over the span of `steps`.
    [...].

    curve: [..., points, ...] along `axis`; steps: [points]. A trapezium with a NaN side is left out
    of area and span; a curve of one known point is as high as that.

    Raises: ValueError for other steps than points.
    """
    curve, steps = jnp.moveaxis(jnp.asarray(curve, float), axis, -1), jnp.asarray(steps, float)
    if curve.shape[-1:] != steps.shape:
        raise ValueError(
            f"a curve of {curve.shape[-1]} points has a step for each of them, and here are "
            f"{steps.shape}."
        )
    middle = (curve[..., 1:] + curve[..., :-1]) / 2
    width = jnp.broadcast_to(jnp.diff(steps), middle.shape)
    known = ~jnp.isnan(middle)
    area, span = (jnp.where(known, x, 0.0).sum(-1) for x in (middle * width, width))
    return jnp.where(span > 0, area / jnp.where(span > 0, span, 1.0), jnp.nanmean(curve, -1))


@partial(jax.jit, static_argnames=("trim", "axis"))
def _trim_values(x: jax.Array, trim: float, axis: Axes) -> jax.Array:
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis))
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    kept = x.shape[: x.ndim - len(axes)]
    x = jnp.sort(x.reshape(*kept, math.prod(x.shape[len(kept) :])))
    if not x.shape[-1]:
        return jnp.full(kept, jnp.nan)  # as the mean of nothing is
    return trimmed_mean(x, (~jnp.isnan(x)).astype(int), trim)


@partial(jnp.vectorize, signature="(n),(n)->()", excluded={2})
def trimmed_mean(x: jax.Array, counts: jax.Array, trim: float) -> jax.Array:
    """The mean of ascending `x` [..., n], the i-th taken counts[i] times, without the share `trim`
    at each end. [...].

    floor(trim * total) values go at each end, but never all of them: trim = 1/2 is the median.
    Summed in blocks, so that only the two in which the ends fall are gone through value by value.
    """
    total = counts.sum()
    cut = jnp.minimum((trim * total).astype(int), (total - 1) // 2)
    width = math.isqrt(len(x) - 1) + 1
    x, counts = (jnp.pad(z, (0, -len(z) % width)).reshape(-1, width) for z in (x, counts))
    sums = jnp.where(counts > 0, x * counts, 0.0).sum(1)  # NaN counts nothing
    end = jnp.cumsum(counts.sum(1))
    block = jnp.arange(len(end))
    first, last = jnp.sum(end <= cut), jnp.minimum(jnp.sum(end < total - cut), len(end) - 1)

    def kept(block: jax.Array) -> jax.Array:
        """What is kept of a block in which an end falls."""
        upper = end[block] - counts[block].sum() + jnp.cumsum(counts[block])
        times = jnp.clip(
            jnp.minimum(upper, total - cut) - jnp.maximum(upper - counts[block], cut), 0
        )
        return jnp.where(times > 0, x[block] * times, 0.0).sum()

    between = jnp.where((first < block) & (block < last), sums, 0.0).sum()
    kept_sum = kept(first) + between + jnp.where(first < last, kept(last), 0.0)
    return jnp.where(total > 0, kept_sum / (total - 2 * cut), jnp.nan)
