"""Statistics of a sweep's results, by the names of its axes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from jaxrl.stats.intervals import interval
from jaxrl.stats.scores import Statistic, iqm, mean, median
from jaxrl.tree import nearest

Results = xr.Dataset | xr.DataArray


def summary(
    results: Results,
    name: str = "return",
    *,
    over: str = "seed",
    tasks: str | Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> xr.Dataset:
    """`iqm` with its interval `low`, `high`, `mean`, `median` and `count` of the seeds known, on
    the axes that remain.

    over: the axis of the replicates. tasks: axes to pool, as in `interval`, whose scores are on one
    scale. Values that are not finite are left out: report `count` beside the statistic, and who
    diverged (`table` has both).

    Raises: ValueError for an unknown variable or axis. A single seed has no interval: NaN.
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
    """Any statistic of the seeds as `estimate` with `low` and `high`, on the axes that remain: of a
    curve, at each step.

    statistic, options: of `interval`: `estimate(results, "return", partial(optimality_gap,
    gamma=500.0), kind="basic")`.
    """
    dims, coords, x, pooled = _scores(pick(results, name, over, *_names(tasks)), over, tasks)
    made = interval(x, statistic, tasks=pooled or None, **options)._asdict()
    return xr.Dataset({key: (dims, np.asarray(value)) for key, value in made.items()}, coords)


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
    """The `share` of final scores above each threshold, with a band from `low` to `high`, on the
    axes that remain.

    The run-score distribution of Agarwal et al. (2021). thresholds: [n], 51 from the least score to
    the best unless given. last: as in `table`. options: of `interval`. The band holds at each
    threshold, not at all of them at once.
    """
    array = final(results, name, over, last)
    pick(array, name, over, *_names(tasks))
    dims, coords, x, pooled = _scores(array, over, tasks)
    if not np.isfinite(x).any():
        raise ValueError(
            f"{name!r} has no final score that is known: nothing to draw a profile of."
        )
    if thresholds is None:
        thresholds = np.linspace(np.nanmin(x), np.nanmax(x), 51)
    thresholds = np.atleast_1d(np.asarray(thresholds, float))
    cut = jnp.asarray(thresholds, float)
    spread = x.reshape(*x.shape[: len(dims)], 1, *x.shape[len(dims) :])
    cut = cut.reshape(*[1] * len(dims), -1, *[1] * (len(pooled) + 1))
    above = jnp.where(jnp.isnan(spread), jnp.nan, jnp.greater(*jnp.broadcast_arrays(spread, cut)))
    made = interval(above, mean, tasks=pooled or None, **options)._asdict()
    data = {key: ((*dims, "threshold"), np.asarray(value)) for key, value in made.items()}
    return xr.Dataset(data, {**coords, "threshold": thresholds}).rename(estimate="share")


def table(
    results: Results, name: str = "return", *, over: str = "seed", last: int = 1, **options: Any
) -> pd.DataFrame:
    """One row per combination of the swept axes: iqm, low, high, seeds (known) and diverged (how
    many of them), at the end.

    last: the number of last evaluation points that are averaged within each seed before seeds are
    compared. options: of `summary`.
    """
    array = final(results, name, over, last)
    rows = summary(array, name, over=over, **options).rename(count="seeds")[
        ["iqm", "low", "high", "seeds"]
    ]
    if isinstance(results, xr.Dataset) and "diverged" in results:
        rows["diverged"] = num_diverged(results, over, rows.dims)
    return (rows if rows.dims else rows.expand_dims(variable=[name])).to_dataframe()


def final(results: Results, name: str, over: str, last: int = 1) -> xr.DataArray:
    """The mean of each member's `last` evaluation points that have a value, NaN where none of them
    has.
    """
    array = pick(results, name, over)
    if last < 1:
        raise ValueError(f"last={last} evaluation points have no mean: write 1 or more.")
    return (
        array.isel(step=slice(-last, None)).where(np.isfinite).mean("step")
        if "step" in array.dims
        else array
    )


def num_diverged(results: xr.Dataset, over: str, dims: Any) -> xr.DataArray:
    """How many members of the axis `over` diverged, at any time. int [dims]."""
    diverged = results["diverged"].astype(bool).reset_coords(drop=True)
    return diverged.any([dim for dim in diverged.dims if dim not in (over, *dims)]).sum([over])


def _names(tasks: str | Sequence[str] | None) -> list[str]:
    return [tasks] if isinstance(tasks, str) else list(tasks or [])


def _scores(
    array: xr.DataArray, over: str, tasks: str | Sequence[str] | None
) -> tuple[list[Any], dict[Any, Any], jax.Array, tuple[int, ...]]:
    """The axes that remain and their labels, the scores [*these, *tasks, seeds] with NaN for none,
    and the axes of tasks.
    """
    pooled = _names(tasks)
    dims = [dim for dim in array.dims if dim not in (over, *pooled)]
    x = jnp.asarray(array.transpose(*dims, *pooled, over).where(np.isfinite(array)).values, float)
    return (
        dims,
        {dim: array.coords[dim] for dim in dims if dim in array.coords},
        x,
        tuple(range(-1 - len(pooled), -1)),
    )


def pick(results: Results, name: str, *axes: str) -> xr.DataArray:
    """The variable `name` of the results, which must have the named `axes`.

    Raises: ValueError that names what is there.
    """
    if not isinstance(results, xr.Dataset | xr.DataArray):
        raise TypeError(
            f"results have named axes, as those of rl.sweep, and got {type(results).__name__}: "
            "write, say, "
            'xr.DataArray(x, dims=("lr", "seed")), or take a statistic of plain arrays, '
            "rl.stats.interval(x)."
        )
    if isinstance(results, xr.Dataset) and name not in results:
        raise ValueError(
            f"The results have no variable {name!r}; {nearest(name, map(str, results.data_vars))}."
        )
    array = (
        results[name] if isinstance(results, xr.Dataset) else results.rename(results.name or name)
    )
    for axis in axes:
        if axis not in array.dims:
            raise ValueError(
                f"{name!r} has no axis {axis!r}; {nearest(axis, map(str, array.dims))}. Sweep "
                "over it, or write the name of "
                "an axis that is there; the one that counts the replicates is `over`."
            )
    return array
