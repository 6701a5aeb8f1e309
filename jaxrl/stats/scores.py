"""Statistics of scores (Agarwal et al., 2021, and rliable), in pure JAX, for a whole grid at once.

NaN means "no value", as where no episode ended, and is left out. The scores of a diverged member
count like any other.
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
    """Interquartile mean: the mean without the floor(n/4) lowest and highest values. [...].

    Equals `scipy.stats.trim_mean(x, 0.25, axis)`, rliable's definition, where no value is NaN.
    """
    return _trim_values(jnp.asarray(x, float), TRIM[iqm], axis)


def median(x: Any, axis: Axes = -1) -> jax.Array:
    """Median of the values that are not NaN. [...].

    rliable's median is over tasks: `median(mean(scores, axis=0))`.
    """
    return _trim_values(jnp.asarray(x, float), TRIM[median], axis)


def mean(x: Any, axis: Axes = -1) -> jax.Array:
    """Mean of the values that are not NaN. [...]."""
    return jnp.nanmean(jnp.asarray(x, float), axis)


# all three are trimmed means: the fraction that is cut off at each end
TRIM: dict[Callable, float] = {mean: 0.0, iqm: 0.25, median: 0.5}


def optimality_gap(x: Any, gamma: float = 1.0, axis: Axes = None) -> jax.Array:
    """Mean amount by which scores are below `gamma`; scores above count as `gamma`. [...]."""
    return gamma - mean(jnp.minimum(jnp.asarray(x, float), gamma), axis)


def performance_profile(x: Any, thresholds: Any) -> jax.Array:
    """Fraction of scores `x` above each threshold (Agarwal et al., 2021, eq. 5). [thresholds]."""
    scores = jnp.sort(jnp.asarray(x, float), axis=None)
    finite = jnp.sum(~jnp.isnan(scores))
    up_to = jnp.searchsorted(scores, jnp.asarray(thresholds, float), side="right")
    return (finite - up_to) / finite


def probability_of_improvement(x: Any, y: Any) -> jax.Array:
    """Probability that a score of x is above one of y, averaged over tasks. [].

    A tie counts half: the Mann-Whitney U statistic over nm.

    x, y: [seeds, ...tasks]; the numbers of seeds may differ.

    Raises:
      ValueError: the shapes of the tasks differ.
    """
    check_tasks(np.shape(x)[1:], np.shape(y)[1:])
    x, y, below, up_to = wins(*(jnp.asarray(z, float).reshape(len(z), -1).T for z in (x, y)))
    return improvement_by_counts(x, y, below, up_to, jnp.ones(x.shape, int), jnp.ones(y.shape, int))


def check_tasks(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """Check that the shapes of the tasks of two sets of scores are equal."""
    if x != y:
        raise ValueError(
            f"tasks are compared one by one, and x has {x}, y {y}: write x and y as [seeds, "
            "...tasks] with equal tasks."
        )


def wins(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x [tasks, n], sorted y [tasks, m], and how many of y are below, and not above, each x.

    The counts are int [tasks, n].
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
    """`probability_of_improvement` of scores that are repeated by counts. [].

    x, y, below, up_to: of `wins`. count_x, count_y: how often each score occurs.
    """
    count_x, count_y = jnp.where(jnp.isnan(x), 0, count_x), jnp.where(jnp.isnan(y), 0, count_y)
    cumulative = jnp.pad(jnp.cumsum(count_y, -1), ((0, 0), (1, 0)))
    fraction = sum(jnp.take_along_axis(cumulative, index, -1) for index in (below, up_to)) / (
        2 * cumulative[:, -1:]
    )
    return jnp.mean((count_x * fraction).sum(-1) / count_x.sum(-1))


def auc(curve: Any, steps: Any, axis: int = -1) -> jax.Array:
    """Mean height of a learning curve: its area by the trapezoidal rule over the span. [...].

    curve: [..., points, ...], with points along `axis`. steps: [points]. A trapezoid with a NaN
    side is left out of area and span; a curve with one value has that as its mean.

    Raises:
      ValueError: the numbers of points and steps differ.
    """
    curve, steps = jnp.moveaxis(jnp.asarray(curve, float), axis, -1), jnp.asarray(steps, float)
    if curve.shape[-1:] != steps.shape:
        raise ValueError(
            f"a curve of {curve.shape[-1]} points needs a step for each point, not steps of shape "
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
    shape = x.shape[: x.ndim - len(axes)]
    x = jnp.sort(x.reshape(*shape, math.prod(x.shape[len(shape) :])))
    if not x.shape[-1]:
        return jnp.full(shape, jnp.nan)  # like the mean of an empty array
    return trimmed_mean(x, (~jnp.isnan(x)).astype(int), trim)


@partial(jnp.vectorize, signature="(n),(n)->()", excluded={2})
def trimmed_mean(x: jax.Array, counts: jax.Array, trim: float) -> jax.Array:
    """Trimmed mean of ascending `x` [..., n], with x[i] repeated counts[i] times. [...].

    floor(trim * total) values are cut off at each end, but never all of them: trim = 1/2 is the
    median. Sums are over blocks, so that only the two blocks with the ends of the range are summed
    value by value.
    """
    total = counts.sum()
    cut = jnp.minimum((trim * total).astype(int), (total - 1) // 2)
    width = math.isqrt(len(x) - 1) + 1
    x, counts = (jnp.pad(z, (0, -len(z) % width)).reshape(-1, width) for z in (x, counts))
    sums = jnp.where(counts > 0, x * counts, 0.0).sum(1)  # NaN has a count of 0
    end = jnp.cumsum(counts.sum(1))
    block = jnp.arange(len(end))
    first, last = jnp.sum(end <= cut), jnp.minimum(jnp.sum(end < total - cut), len(end) - 1)

    def sum_within(block: jax.Array) -> jax.Array:
        """The sum of the values of a block that are not cut off."""
        upper = end[block] - counts[block].sum() + jnp.cumsum(counts[block])
        times = jnp.clip(
            jnp.minimum(upper, total - cut) - jnp.maximum(upper - counts[block], cut), 0
        )
        return jnp.where(times > 0, x[block] * times, 0.0).sum()

    between = jnp.where((first < block) & (block < last), sums, 0.0).sum()
    trimmed = sum_within(first) + between + jnp.where(first < last, sum_within(last), 0.0)
    return jnp.where(total > 0, trimmed / (total - 2 * cut), jnp.nan)
