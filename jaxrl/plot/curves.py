"""Learning curves, and heat maps of two swept axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxrl import stats
from jaxrl.plot.canvas import (
    canvas,
    cells,
    count,
    diverged,
    labels,
    legend_beside,
    line,
    only,
    swept,
)
from jaxrl.stats import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curve(
    results: Results,
    name: str = "return",
    by: str | None = None,
    *,
    over: str = "seed",
    x: str = "step",
    level: float = 0.95,
    ax: Axes | None = None,
) -> Figure:
    """Learning curves: the interquartile mean over seeds, with a bootstrap interval as a band.

    Points without a value are gaps; rows where no member has a value are skipped.

    Args:
      results: of a sweep.
      name: the variable.
      by: the axis with a line for each value; it may be left out if one swept axis is left.
      over: the axis of the replicates.
      x: the horizontal axis.
      level: of the intervals.
      ax: the axes to draw on, by default those of a new Picture.

    Raises:
      ValueError: a variable or an axis does not exist, there is no finite value, or more than one
        swept axis is left.
    """
    from matplotlib.ticker import EngFormatter

    array = stats.pick(results, name, over, x, *([by] if by else []))
    by = by or next(iter(swept(array, over, x)), None)
    array = only(array, (over, x, by), f"curve(results.sel(HERE), {name!r}, by={by!r})")
    summary = stats.summary(array, over=over, level=level).dropna(x, how="all", subset=["iqm"])
    if not summary.sizes[x]:
        raise ValueError(
            f"{array.name!r} has no finite value to draw, for any {over} at any point: write "
            "another variable."
        )
    figure, ax = canvas(ax, (6.4, 4.2))
    notes = [f", {n} diverged" if n else "" for n in diverged(results, over, by)]
    for i, label in enumerate(labels(summary, by) if by else [""]):
        line(ax, summary[x].values, summary.isel({by: i}) if by else summary, i, label + notes[i])
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("environment steps" if x == "step" else x)
    sample = count(array, over) + ("" if by else notes[0])
    ax.set_ylabel(f"{array.name} (interquartile mean,\n{100 * level:g} % interval, {sample})")
    if np.issubdtype(summary[x].dtype, np.number) and summary[x].max() >= 10_000:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1M
    if by:
        legend_beside(ax, by)
    return figure


def heat(
    results: Results,
    name: str = "return",
    x: str | None = None,
    y: str | None = None,
    *,
    over: str = "seed",
    at: int = -1,
    ax: Axes | None = None,
) -> Figure:
    """Heat map of the interquartile mean over seeds against two swept axes.

    x, y: the axes; they may be left out if two swept axes are left.
    over: the axis of the replicates.
    at: the evaluation point, by default the last.
    ax: the axes to draw on, by default those of a new Picture.

    Raises:
      ValueError: a variable or an axis does not exist, or more or fewer than two swept axes are
        left.
    """
    from matplotlib.ticker import EngFormatter

    array = stats.pick(results, name, over, *(axis for axis in (x, y) if axis))
    stats.check_replicates(array, over)
    array = array.isel(step=at) if "step" in array.dims else array
    time = (
        f" at {EngFormatter(sep='')(float(f'{array.step.item():.3g}'))} environment steps"
        if "step" in array.coords
        else ""
    )
    free = [axis for axis in swept(array, over) if axis not in (x, y)]
    y, x = y or (free.pop(0) if free else None), x or (free.pop(0) if free else None)
    array = only(array, (over, x, y), f"heat(results.sel(HERE), {name!r}, x={x!r}, y={y!r})")
    if not (x and y):
        raise ValueError(
            f"A heat map needs two swept axes, and {name!r} has {y or x or 'none'}. Write "
            f"curve(results, {name!r})."
        )
    array = array.where(np.isfinite(array)).transpose(y, x, over)
    figure, ax = canvas(ax, (max(4.4, 2.4 + 0.8 * array.sizes[x]), 1.6 + 0.5 * array.sizes[y]))
    cells(
        ax,
        np.asarray(stats.iqm(array.values)),
        f"{array.name} (interquartile mean,\n{count(array, over)})",
    )
    ax.set(xlabel=x, ylabel=y, title=f"{array.name}{time}")
    ax.set_xticks(range(array.sizes[x]), labels(array, x))
    ax.set_yticks(range(array.sizes[y]), labels(array, y))
    return figure
