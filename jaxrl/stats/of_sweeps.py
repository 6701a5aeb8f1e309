"""Statistics of the labelled results of a sweep."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import nearest
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.stats.intervals import interval
from jaxrl.stats.replicates import check_replicates
from jaxrl.stats.scores import Statistic, iqm, mean, median

Results: TypeAlias = "xr.Dataset | xr.DataArray"


def summary(
    results: Results,
    name: str = "return",
    *,
    over: str = "seed",
    tasks: str | Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> xr.Dataset:
    """Interquartile mean with its interval, mean, median and count over seeds.

    Args:
      results: of a sweep.
      name: the variable.
      over: the axis of the replicates.
      tasks: axes to pool, as in `interval`, with scores on one scale.
      level, resamples: as in `interval`.

    Returns:
      `iqm`, `low`, `high`, `mean`, `median` and `count` (of known seeds) on the other axes. Values
      that are not finite are left out: report `count` and the number of diverged members with the
      statistic (`table` has both). A single seed has NaN as the ends of its interval.

    Raises:
      ValueError: the variable or an axis does not exist, or a seed is there twice.
    """
    dims, coords, x, pooled = _scores(pick(results, name, over, *_names(tasks)), over, tasks)
    axes = (*pooled, -1)
    values = {
        "iqm": iqm(x, axes),
        "mean": mean(x, axes),
        "median": median(x, axes),
        "count": jnp.isfinite(x).sum(axes),
    }
    values["low"] = values["high"] = jnp.full_like(values["mean"], jnp.nan)
    if x.shape[-1] > 1:
        _, values["low"], values["high"] = interval(
            x, level=level, resamples=resamples, tasks=pooled or None
        )
    return xr.Dataset({key: (dims, np.asarray(value)) for key, value in values.items()}, coords)


def estimate(
    results: Results,
    name: str = "return",
    statistic: Statistic = iqm,
    *,
    over: str = "seed",
    tasks: str | Sequence[str] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Any statistic over seeds: `estimate`, `low` and `high` on the other axes, such as steps.

        estimate(results, "return", partial(optimality_gap, gamma=500.0), kind="basic")

    statistic, options: as in `interval`. over, tasks: as in `summary`.
    """
    dims, coords, x, pooled = _scores(pick(results, name, over, *_names(tasks)), over, tasks)
    found = interval(x, statistic, tasks=pooled or None, **options)._asdict()
    return xr.Dataset({key: (dims, np.asarray(value)) for key, value in found.items()}, coords)


def profile(
    results: Results,
    name: str = "return",
    thresholds: Any = None,
    *,
    over: str = "seed",
    tasks: str | Sequence[str] | None = None,
    last: int = 1,
    **options: Any,
) -> xr.Dataset:
    """Performance profile: the `share` of final scores above each threshold, with a band.

    The run-score distribution of Agarwal et al. (2021), on the other axes. The band from `low` to
    `high` is pointwise, not simultaneous.

    thresholds: [n], by default 51 from the lowest to the highest score.
    over, tasks: as in `summary`. last: as in `table`. options: of `interval`.

    Raises:
      ValueError: there is no finite final score.
    """
    array = final(results, name, over, last)
    pick(array, name, over, *_names(tasks))
    dims, coords, x, pooled = _scores(array, over, tasks)
    if not np.isfinite(x).any():
        raise ValueError(
            f"{name!r} has no finite final score, so there is no profile: write another variable."
        )
    if thresholds is None:
        thresholds = np.linspace(np.nanmin(x), np.nanmax(x), 51)
    thresholds = np.atleast_1d(np.asarray(thresholds, float))
    limits = jnp.asarray(thresholds, float)
    limits = limits.reshape(*[1] * len(dims), -1, *[1] * (len(pooled) + 1))
    scores = x.reshape(*x.shape[: len(dims)], 1, *x.shape[len(dims) :])
    is_above = jnp.greater(*jnp.broadcast_arrays(scores, limits))
    above = jnp.where(jnp.isnan(scores), jnp.nan, is_above)
    found = interval(above, mean, tasks=pooled or None, **options)._asdict()
    data = {key: ((*dims, "threshold"), np.asarray(value)) for key, value in found.items()}
    return xr.Dataset(data, {**coords, "threshold": thresholds}).rename(estimate="share")


def table(
    results: Results, name: str = "return", *, over: str = "seed", last: int = 1, **options: Any
) -> pd.DataFrame:
    """Final scores, with a row for each combination of the swept axes.

    Columns: iqm, low, high, seeds (the number of known ones) and diverged (the number of members).

    last: the number of last evaluation points that are averaged within each seed.
    options: of `summary`.
    """
    array = final(results, name, over, last)
    rows = summary(array, name, over=over, **options).rename(count="seeds")[
        ["iqm", "low", "high", "seeds"]
    ]
    if isinstance(results, xr.Dataset) and "diverged" in results:
        rows["diverged"] = num_diverged(results, over, rows.dims)
    return (rows if rows.dims else rows.expand_dims(variable=[name])).to_dataframe()


def final(results: Results, name: str, over: str, last: int = 1) -> xr.DataArray:
    """Final scores: the mean of each member's `last` evaluation points that have a value.

    NaN where none of them has.

    Raises:
      ValueError: there is no such variable or axis, or a seed is there twice.
    """
    array = pick(results, name, over)
    check_replicates(array, over)
    if last < 1:
        raise ValueError(f"last={last} evaluation points have no mean: write 1 or more.")
    if "step" not in array.dims:
        return array
    return array.isel(step=slice(-last, None)).where(np.isfinite).mean("step")


def final_of_sound(results: Results, name: str, over: str, last: int = 1) -> xr.DataArray:
    """`final`, with -inf for the members that diverged: what settings are ranked by.

    NaN where there is no finite score. Results without a variable `diverged` are as they are.
    """
    array = final(results, name, over, last)
    array = array.where(np.isfinite(array)).astype(float)
    if not isinstance(results, xr.Dataset) or "diverged" not in results:
        return array
    lost = has_diverged(results, array.dims)
    return array.where(~lost, -np.inf).transpose(*array.dims)


def ranking(scores: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """Settings from the highest interquartile mean to the lowest, those without a score last. [n].

    Diverged runs count as the lowest. Among settings that lost too many for a mean, those that
    lost fewer come first.

    scores: [n, seeds], NaN where unknown. diverged: bool [n, seeds].
    """
    sound = np.asarray(iqm(np.where(diverged, -np.inf, scores)))
    own = np.nan_to_num(np.asarray(iqm(scores)), nan=-np.inf)
    return np.lexsort((-own, diverged.sum(-1), -np.nan_to_num(sound, nan=-np.inf)))


def has_diverged(results: xr.Dataset, dims: Iterable[Hashable | None]) -> xr.DataArray:
    """True for members that diverged at any step. bool, on those of `dims` that it has."""
    # NaN: a step that a stopped search, or another group of a sweep, does not have
    diverged = (results["diverged"] > 0).reset_coords(drop=True)
    return diverged.any([dim for dim in diverged.dims if dim not in tuple(dims)])


def num_diverged(results: xr.Dataset, over: str, dims: Iterable[Hashable | None]) -> xr.DataArray:
    """Number of members along the axis `over` that diverged at any step. int [*dims]."""
    return has_diverged(results, (over, *dims)).sum([over])


def _names(tasks: str | Sequence[str] | None) -> list[str]:
    return [tasks] if isinstance(tasks, str) else list(tasks or [])


def _scores(
    array: xr.DataArray, over: str, tasks: str | Sequence[str] | None
) -> tuple[list[Any], dict[Any, Any], jax.Array, tuple[int, ...]]:
    """The other axes, their labels, scores [*other, *tasks, seeds], and the axes of tasks.

    Scores that are not finite are NaN.
    """
    check_replicates(array, over)
    pooled = _names(tasks)
    dims = [dim for dim in array.dims if dim not in (over, *pooled)]
    x = jnp.asarray(array.transpose(*dims, *pooled, over).where(np.isfinite(array)).values, float)
    coords = {dim: array.coords[dim] for dim in dims if dim in array.coords}
    return dims, coords, x, tuple(range(-1 - len(pooled), -1))


def binned(
    results: Results, name: str, along: str, by: str, bins: int | Sequence[float] = 5
) -> xr.DataArray:
    """Means of a variable over bins of a coordinate, such as success by the distance of levels.

        solved = stats.binned(results, "success", along="level", by="distance")
        plot.curve(solved, "success", by="teacher", x="distance")

    Args:
      results: with the axis `along`, which has the coordinate `by`.
      name: the variable; values that are NaN are ignored.
      along, by: the axis, and its coordinate. In the result, the axis `by` replaces `along`, with
        the mean coordinate of each bin.
      bins: a number of bins with about equally many entries, or the edges of bins, of which the
        last includes its upper edge; entries outside and empty bins are dropped.

    Raises:
      ValueError: there is no such variable, axis or coordinate, or no entry in any bin.
    """
    array = pick(results, name, along)
    if by not in array.coords or array[by].dims != (along,):
        known = [str(key) for key, x in array.coords.items() if x.dims == (along,)]
        raise ValueError(
            f"{along!r} has no coordinate {by!r}, only {', '.join(known) or 'none'}: write "
            f"results.assign_coords({by}=({along!r}, [...]))."
        )
    values = np.asarray(array[by].values, float)
    is_number = isinstance(bins, int)
    edges = np.quantile(values, np.linspace(0.0, 1.0, bins + 1)) if is_number else np.array(bins)
    edges = np.unique(edges)
    number = np.searchsorted(edges, values, side="right") - 1
    number = np.where(values == edges[-1], max(len(edges) - 2, 0), number)
    inside = (values >= edges[0]) & (values <= edges[-1])
    filled = np.unique(number[inside])
    if not len(filled):
        raise ValueError(
            f"No value of {by!r} is between {edges[0]:g} and {edges[-1]:g}: they are from "
            f"{values.min():g} to {values.max():g}."
        )
    members = [np.flatnonzero(inside & (number == i)) for i in filled]
    means = [array.isel({along: rows}).mean(along, skipna=True) for rows in members]
    return xr.concat(means, pd.Index([values[rows].mean() for rows in members], name=by))


def pick(results: Results, name: str, *axes: str) -> xr.DataArray:
    """The variable `name` of the results.

    Raises:
      TypeError: the results are not labelled.
      ValueError: there is no such variable, or it lacks one of `axes`.
    """
    if not isinstance(results, xr.Dataset | xr.DataArray):
        raise TypeError(
            "results need named axes, as those of rl.sweep have, and these are of type "
            f'{type(results).__name__}: write, for example, xr.DataArray(x, dims=("lr", '
            '"seed")), or take a statistic of plain arrays, rl.stats.interval(x).'
        )
    if isinstance(results, xr.Dataset) and not results.variables.keys() - results.coords.keys():
        raise ValueError(
            f"The results have no variable {name!r}, and no other: those of a running sweep "
            "appear at its first evaluation point."
        )
    if isinstance(results, xr.Dataset) and name not in results:
        raise ValueError(
            f"The results have no variable {name!r}; {nearest(name, map(str, results.data_vars))}."
        )
    is_dataset = isinstance(results, xr.Dataset)
    array = results[name] if is_dataset else results.rename(results.name or name)
    for axis in axes:
        if axes.count(axis) > 1:
            raise ValueError(
                f"{axis!r} can't be the axis of two things: write another one as by=, over= or x=, "
                "or leave it out."
            )
        if axis not in array.dims:
            raise ValueError(
                f"{name!r} has no axis {axis!r}; {nearest(axis, map(str, array.dims))}. Sweep "
                "over it, or write an axis of the results; that of the replicates is `over`."
            )
    return array
