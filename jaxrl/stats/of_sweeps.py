"""Statistics of a sweep's results, by the names of its axes."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from jaxrl.stats.intervals import interval
from jaxrl.stats.scores import iqm, mean, median
from jaxrl.tree import nearest

Results = xr.Dataset | xr.DataArray


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
    array = final(results, name, over, last)
    rows = summary(array, name, over=over, **options).rename(count="seeds")[["iqm", "low", "high", "seeds"]]
    if isinstance(results, xr.Dataset) and "diverged" in results:
        rows["diverged"] = num_diverged(results, over, rows.dims)
    return (rows if rows.dims else rows.expand_dims(variable=[name])).to_dataframe()


def final(results: Results, name: str, over: str, last: int = 1) -> xr.DataArray:
    """The mean of each member's `last` evaluation points that have a value, NaN where none of them has."""
    array = pick(results, name, over)
    return array.isel(step=slice(-last, None)).where(np.isfinite).mean("step") if "step" in array.dims else array


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
