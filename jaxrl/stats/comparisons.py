"""Two results side by side: each one's statistic, their difference, and how often the first is the
better.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from jaxrl.stats.comparable import FEWEST, check_comparable
from jaxrl.stats.intervals import Interval, difference, improvement, interval
from jaxrl.stats.of_sweeps import Results, final
from jaxrl.stats.scores import Statistic, iqm


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The final scores of two results.

    first, second: the statistic of each. difference: first less second. improvement: the
    probability that a score of the first is above one of the second. seeds: of each. paired:
    whether the difference is over common seeds.
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
        """What the interval of the difference says."""
        if float(self.difference.low) > 0:
            return "the first is higher"
        return (
            "the second is higher" if float(self.difference.high) < 0 else "no difference is shown"
        )

    def __str__(self) -> str:
        tell = lambda made: "{:.4g} [{:.4g}, {:.4g}]".format(*map(float, made))
        how = (
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
            f"{self.statistic} of {self.name!r}, {100 * self.level:g} % intervals, {how}: "
            f"{self.verdict}."
        )
        return "\n".join([title, *(f"  {row:18}{tell(made)}" for row, made in rows.items())])


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
    key: jax.Array | None = None,
) -> Comparison:
    """The final `name` of two results of one setting each, once it is sure that comparing them does
    not mislead.

    `print(compare(results.sel(lr=1e-3), results.sel(lr=3e-3)))`. What `obstacles` names is refused
    unless its kind is in `allow`; with allow=("seeds",) members without a value are left out.

    tasks: axes to pool, the same tasks in both. last: as in `table`. paired: the difference over
    the seeds that both have, by their labels, so that their luck cancels; left out, it is so where
    both have the same seeds.

    Raises: ValueError for what would mislead, too few common seeds, or other axes left.
    """
    check_comparable(a, b, name, over=over, last=last, allow=allow)
    pooled = [tasks] if isinstance(tasks, str) else list(tasks or [])
    sides = [_only(final(results, name, over, last), over, pooled) for results in (a, b)]
    first, second = (side.transpose(*pooled, over) for side in sides)
    for axis in pooled:
        if set(first[axis].values.tolist()) != set(second[axis].values.tolist()):
            raise ValueError(
                f"The two have not the same {axis}: keep those that both have, by "
                f".sel({axis}=[...])."
            )
        second = second.sel({axis: first[axis].values})
    same = set(first[over].values.tolist()) == set(second[over].values.tolist())
    paired = same if paired is None else paired
    pair = _common(first, second, over) if paired else (first, second)
    known = lambda side: np.where(np.isfinite(side.values), side.values, np.nan)
    x, y = known(first), known(second)
    places = tuple(range(len(pooled))) or None
    options: dict[str, Any] = {"level": level, "resamples": resamples, "key": key}
    of = lambda scores: interval(scores, statistic, tasks=places, **options)
    seeds_first = lambda scores: np.moveaxis(scores, -1, 0)
    return Comparison(
        name=name,
        statistic=getattr(statistic, "__name__", str(statistic)),
        first=of(x),
        second=of(y),
        difference=difference(
            known(pair[0]), known(pair[1]), statistic, paired=paired, tasks=places, **options
        ),
        improvement=improvement(seeds_first(x), seeds_first(y), **options),
        seeds=(_num_known(pair[0], over), _num_known(pair[1], over)),
        paired=paired,
        level=level,
    )


def _num_known(array: xr.DataArray, over: str) -> int:
    return int(np.isfinite(array.values).reshape(-1, array.sizes[over]).all(0).sum())


def _only(array: xr.DataArray, over: str, pooled: list[str]) -> xr.DataArray:
    """The array without its axes of one value; no other axis may be left."""
    rest = [str(dim) for dim in array.dims if dim not in (over, *pooled)]
    if many := [dim for dim in rest if array.sizes[dim] > 1]:
        raise ValueError(
            f"{array.name!r} has the axes {many} too: choose a value of each, "
            f"results.sel({many[0]}=...), or pool them, "
            f"tasks={many[0]!r}."
        )
    return array.squeeze(rest, drop=True)


def _common(a: xr.DataArray, b: xr.DataArray, over: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Both on the seeds of which both know all scores."""
    a, b = xr.align(a, b, join="inner")
    known = (np.isfinite(a.values) & np.isfinite(b.values)).all(tuple(range(a.ndim - 1)))
    if known.sum() < FEWEST:
        raise ValueError(
            f"The two have {int(known.sum())} {over}s in common, too few for pairs ({FEWEST} "
            "are the fewest): run the same "
            "ones, or write paired=False."
        )
    return a.isel({over: known}), b.isel({over: known})
