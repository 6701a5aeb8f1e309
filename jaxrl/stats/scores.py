"""Statistics of one set of scores (Agarwal et al., 2021, and rliable), pure JAX, a whole grid at once.

NaN means "no value" and is left out: no episode ended in that window. A diverged member counts with what it earns.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Statistic = Callable[[jax.Array], jax.Array]
Axes = int | tuple[int, ...] | None


def iqm(x: Any, axis: Axes = -1) -> jax.Array:
    """The interquartile mean: the mean of what is left without the floor(n/4) lowest and highest. [...].

    Equals `scipy.stats.trim_mean(x, 0.25, axis)`, rliable's definition, where no value is NaN.
    """
    return _trim_values(x, TRIM[iqm], axis)


def median(x: Any, axis: Axes = -1) -> jax.Array:
    """The median of the values that are not NaN. [...]. (rliable's is over tasks: `median(mean(scores, axis=0))`.)"""
    return _trim_values(x, TRIM[median], axis)


def mean(x: Any, axis: Axes = -1) -> jax.Array:
    """The mean of the values that are not NaN. [...]."""
    return jnp.nanmean(jnp.asarray(x, float), axis)


TRIM: dict[Callable, float] = {mean: 0.0, iqm: 0.25, median: 0.5}  # all three are a trimmed mean: the share cut off each end


def optimality_gap(x: Any, gamma: float = 1.0, axis: Axes = None) -> jax.Array:
    """How far the scores fall short of `gamma` on average, nothing gained above it. [...]."""
    return gamma - mean(jnp.minimum(jnp.asarray(x, float), gamma), axis)


def performance_profile(x: Any, thresholds: Any) -> jax.Array:
    """The share of all scores `x` above each threshold (Agarwal et al., 2021, equation 5). [thresholds]."""
    scores = jnp.sort(jnp.asarray(x, float), axis=None)
    finite = jnp.sum(~jnp.isnan(scores))
    up_to = jnp.searchsorted(scores, jnp.asarray(thresholds, float), side="right")
    return (finite - up_to) / finite


def probability_of_improvement(x: Any, y: Any) -> jax.Array:
    """P(a score of X > a score of Y), a tie counts half (Mann-Whitney's U / nm), averaged over tasks. [].

    x, y: [seeds] or [seeds, tasks], the numbers of seeds may differ.
    """
    x, y = (jnp.asarray(z, float).reshape(len(z), -1).T for z in (x, y))
    return jnp.mean(jax.vmap(_improvement)(x, y))


def _improvement(x: jax.Array, y: jax.Array) -> jax.Array:
    y, count = jnp.sort(y), jnp.sum(~jnp.isnan(y))
    below, up_to = (jnp.searchsorted(y, x, side=side) for side in ("left", "right"))
    return mean(jnp.where(jnp.isnan(x), jnp.nan, (below + up_to) / (2 * count)))


def auc(curve: Any, steps: Any, axis: int = -1) -> jax.Array:
    """The mean height of a learning curve: its area by the trapezium rule over the span of `steps`. [...].

    curve: [..., points, ...] along `axis`; steps: [points]. A trapezium with a NaN side is left out of area and span.
    """
    curve, steps = jnp.moveaxis(jnp.asarray(curve, float), axis, -1), jnp.asarray(steps, float)
    middle = (curve[..., 1:] + curve[..., :-1]) / 2
    width = jnp.broadcast_to(jnp.diff(steps), middle.shape)
    known = ~jnp.isnan(middle)
    return jnp.where(known, middle * width, 0.0).sum(-1) / jnp.where(known, width, 0.0).sum(-1)


@partial(jax.jit, static_argnames=("trim", "axis"))
def _trim_values(x: Any, trim: float, axis: Axes) -> jax.Array:
    x = jnp.asarray(x, float)
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis))
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    x = jnp.sort(x.reshape(*x.shape[: -len(axes)], -1))
    return trimmed_mean(x, (~jnp.isnan(x)).astype(int), trim)


def trimmed_mean(x: jax.Array, counts: jax.Array, trim: float) -> jax.Array:
    """The mean of ascending `x` [..., n], the i-th taken counts[i] times, without the share `trim` at each end. [...].

    floor(trim * total) values go at each end, but never all of them: trim = 1/2 is the median.
    """
    total = counts.sum(-1, keepdims=True)
    cut = jnp.minimum((trim * total).astype(int), (total - 1) // 2)
    end = jnp.cumsum(counts, -1)
    kept = jnp.clip(jnp.minimum(end, total - cut) - jnp.maximum(end - counts, cut), 0)
    mean = jnp.where(kept > 0, x * kept, 0.0).sum(-1) / (total - 2 * cut)[..., 0]
    return jnp.where(total[..., 0] > 0, mean, jnp.nan)
