"""Comparison of two results: their statistics, difference, and probability of improvement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrl.errors import name_of
from jaxrl.lazy import xarray as xr
from jaxrl.stats.comparable import MIN_SEEDS, check_comparable
from jaxrl.stats.intervals import Interval, difference, improvement, interval
from jaxrl.stats.of_sweeps import Results, final
from jaxrl.stats.replicates import key_name, replicate_ids
from jaxrl.stats.scores import Statistic, iqm


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison of the final scores of two results.

    name, statistic: the variable, and the name of the statistic.
    first, second: the statistic of each.
    difference: first less second.
    improvement: the probability that a score of the first is above one of the second.
    seeds: the number of seeds of each.
    paired: True if the difference is over common seeds.
    level: of the intervals.
    """

    name: str
    statistic: str
    first: Interval
    second: Interval
    difference: Interval
    improvement: Interval
    seeds: tuple[int, int]
    paired: bool
    level: float

    @property
    def verdict(self) -> str:
        """The conclusion from the interval of the difference."""
        if float(self.difference.low) > 0:
            return "the first is higher"
        if float(self.difference.high) < 0:
            return "the second is higher"
        return "no difference is shown"

    def __str__(self) -> str:
        pairing = (
            f"paired over {self.seeds[0]} common seeds"
            if self.paired
            else "{} and {} seeds, unpaired".format(*self.seeds)
        )
        rows = {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "P(first > second)": self.improvement,
        }
        title = (
            f"{self.statistic} of {self.name!r}, {100 * self.level:g} % intervals, {pairing}: "
            f"{self.verdict}."
        )
        values = {
            row: "{:.4g} [{:.4g}, {:.4g}]".format(*map(float, value)) for row, value in rows.items()
        }
        return "\n".join([title, *(f"  {row:18}{text}" for row, text in values.items())])


def compare(
    a: Results,
    b: Results,
    name: str = "return",
    statistic: Statistic = iqm,
    *,
    over: str = "seed",
    tasks: str | Sequence[str] | None = None,
    last: int = 1,
    paired: bool | None = None,
    allow: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
) -> Comparison:
    """Comparison of the final `name` of two results, if they are comparable.

        print(compare(results.sel(lr=1e-3), results.sel(lr=3e-3)))

    Args:
      a, b: results of one setting each.
      name: the variable to compare.
      statistic: of the final scores.
      over: the axis of the replicates.
      tasks: axes to pool, with the same tasks in both.
      last: as in `table`.
      paired: whether the difference is over the seeds that both have, so that the variance between
        seeds cancels. By default it is if both have the same seeds. Seeds are the same if their
        keys are equal; labels count where the results have no keys.
      allow: kinds of `obstacles` that are intended; with "seeds", members without a value are left
        out; with "diverged", diverged members count with their scores.
      level, resamples, key: as in `interval`.

    Raises:
      ValueError: the results are not comparable, have too few common seeds, a seed twice, or other
        axes.
    """
    check_comparable(a, b, name, over=over, last=last, allow=allow)
    pooled = [tasks] if isinstance(tasks, str) else list(tasks or [])
    first, second = (
        _single_setting(final(results, name, over, last), over, pooled).transpose(*pooled, over)
        for results in (a, b)
    )
    for axis in pooled:
        if set(first[axis].values.tolist()) != set(second[axis].values.tolist()):
            raise ValueError(
                f"The two do not have the same values of {axis}: select those that both have, by "
                f".sel({axis}=[...])."
            )
        second = second.sel({axis: first[axis].values})
    if paired is None:
        ids = [set(replicate_ids(side, over).tolist()) for side in (first, second)]
        paired = ids[0] == ids[1]
    pair = _common_seeds(first, second, over) if paired else (first, second)
    x, y = _finite(first), _finite(second)
    task_axes = tuple(range(len(pooled))) or None
    options: dict[str, Any] = {"level": level, "resamples": resamples, "key": key}
    return Comparison(
        name=name,
        statistic=name_of(statistic, str(statistic)),
        first=interval(x, statistic, tasks=task_axes, **options),
        second=interval(y, statistic, tasks=task_axes, **options),
        difference=difference(
            _finite(pair[0]),
            _finite(pair[1]),
            statistic,
            paired=paired,
            tasks=task_axes,
            **options,
        ),
        improvement=improvement(np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0), **options),
        seeds=(_num_known(pair[0], over), _num_known(pair[1], over)),
        paired=paired,
        level=level,
    )


def _finite(array: xr.DataArray) -> np.ndarray:
    """The values, NaN in place of those that are not finite."""
    return np.where(np.isfinite(array.values), array.values, np.nan)


def _num_known(array: xr.DataArray, over: str) -> int:
    """Number of seeds with finite scores on all tasks."""
    return int(np.isfinite(array.values).reshape(-1, array.sizes[over]).all(0).sum())


def _single_setting(array: xr.DataArray, over: str, pooled: list[str]) -> xr.DataArray:
    """The array without its axes of one value; ValueError if another axis is left."""
    rest = [str(dim) for dim in array.dims if dim not in (over, *pooled)]
    if many := [dim for dim in rest if array.sizes[dim] > 1]:
        raise ValueError(
            f"{array.name!r} also has the axes {many}: select a value of each, "
            f"results.sel({many[0]}=...), or pool them, tasks={many[0]!r}."
        )
    return array.squeeze(rest, drop=True)


def _common_seeds(a: xr.DataArray, b: xr.DataArray, over: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Both arrays on the seeds with finite scores in both, labelled by what identifies them."""
    a, b = (
        side.drop_vars(key_name(over), errors="ignore").assign_coords(
            {over: replicate_ids(side, over)}
        )
        for side in (a, b)
    )
    a, b = xr.align(a, b, join="inner")
    known = (np.isfinite(a.values) & np.isfinite(b.values)).all(tuple(range(a.ndim - 1)))
    if known.sum() < MIN_SEEDS:
        raise ValueError(
            f"The two have {int(known.sum())} {over}s in common, too few for a paired comparison "
            f"(at least {MIN_SEEDS}): run the same ones, or write paired=False."
        )
    return a.isel({over: known}), b.isel({over: known})
