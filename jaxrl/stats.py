"""Statistics of many seeds: interquartile means, bootstrap intervals, profiles (Agarwal et al., 2021, and rliable).

The first half works on arrays and is pure JAX, a whole grid at once; `summary` and `table` give a sweep's results names.
NaN means "no value" and is left out: no episode ended in that window. A diverged member counts with what it earns.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from jaxrl.tree import nearest

Statistic = Callable[[jax.Array], jax.Array]
Axes = int | tuple[int, ...] | None
Results = xr.Dataset | xr.DataArray
CHUNK = 2**22  # values that a batch of resamples holds at once: 16 MB for each intermediate array


class Interval(NamedTuple):
    """A statistic and the ends of its bootstrap interval, in the units of the scores. Each [...]."""

    estimate: jax.Array
    low: jax.Array
    high: jax.Array


# --------------------------------------------------------------------------------------------------- of one set of scores


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


# -------------------------------------------------------------------------------------------------------------- intervals


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


# ---------------------------------------------------------------------------------------------------------- of a sweep


def summary(
    results: Results,
    name: str = "return",
    *,
    over: str = "seed",
    tasks: str | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> xr.Dataset:
    """`iqm` with its interval `low`, `high`, `mean`, `median` and `count` of the seeds known, on the axes that remain.

    over: the axis of the replicates. tasks: an axis to pool, as in `interval`. Values that are not finite are left out:
    report `count` beside the statistic, and who diverged (`table` has both).

    Raises: ValueError for an unknown variable or axis. A single seed has no interval: NaN.
    """
    array = pick(results, name, over, *([tasks] if tasks else []))
    dims = [dim for dim in array.dims if dim not in (over, tasks)]
    x = jnp.asarray(array.transpose(*dims, ..., over).where(np.isfinite(array)).values, float)
    axes = (-2, -1) if tasks else (-1,)
    values = {"iqm": iqm(x, axes), "mean": mean(x, axes), "median": median(x, axes), "count": jnp.isfinite(x).sum(axes)}
    values["low"] = values["high"] = jnp.full_like(values["mean"], jnp.nan)
    if x.shape[-1] > 1:
        _, values["low"], values["high"] = interval(x, level=level, resamples=resamples, tasks=-2 if tasks else None)
    data = {key: (dims, np.asarray(value)) for key, value in values.items()}
    return xr.Dataset(data, {dim: array.coords[dim] for dim in dims if dim in array.coords})


def table(results: Results, name: str = "return", *, over: str = "seed", last: int = 1, **options: Any) -> pd.DataFrame:
    """One row per combination of the swept axes: iqm, low, high, seeds (known) and diverged (how many of them), at the end.

    last: the number of last evaluation points that are averaged within each seed before seeds are compared.
    options: of `summary`.
    """
    array = pick(results, name, over)
    if "step" in array.dims:
        array = array.isel(step=slice(-last, None)).where(np.isfinite).mean("step")
    rows = summary(array, name, over=over, **options).rename(count="seeds")[["iqm", "low", "high", "seeds"]]
    if isinstance(results, xr.Dataset) and "diverged" in results:
        rows["diverged"] = num_diverged(results, over, rows.dims)
    return (rows if rows.dims else rows.expand_dims(variable=[name])).to_dataframe()


def num_diverged(results: xr.Dataset, over: str, dims: Any) -> xr.DataArray:
    """How many members of the axis `over` diverged, at any time. int [dims]."""
    diverged = results["diverged"].astype(bool).reset_coords(drop=True)
    return diverged.any([dim for dim in diverged.dims if dim not in (over, *dims)]).sum([over])


def pick(results: Results, name: str, *axes: str) -> xr.DataArray:
    """The variable `name` of the results, which must have the named `axes`.

    Raises: ValueError that names what is there.
    """
    if isinstance(results, xr.Dataset) and name not in results:
        raise ValueError(f"The results have no variable {name!r}; {nearest(name, map(str, results.data_vars))}.")
    array = results[name] if isinstance(results, xr.Dataset) else results.rename(results.name or name)
    for axis in axes:
        if axis not in array.dims:
            raise ValueError(
                f"{name!r} has no axis {axis!r}; {nearest(axis, map(str, array.dims))}. Sweep over it, or write the name of "
                "an axis that is there; the one that counts the replicates is `over`."
            )
    return array
