"""Learning curves, and maps of two swept axes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxrl import stats
from jaxrl.plot.canvas import canvas, cells, count, diverged, labels, line, only, swept
from jaxrl.stats import Results


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
    """A line for each value of the axis `by`: the interquartile mean over seeds, with its bootstrap
    interval as a band.

    by: may be left out where one swept axis is left. over: the axis of the replicates. ax: draws
    there, not on a Picture. Points without a value are gaps; rows that no member measured
    (`evaluation` is made at some only) are passed over.

    Raises: ValueError for names that are not there, and when more than one swept axis is left.
    """
    array = stats.pick(results, name, over, x, *([by] if by else []))
    by = by or next(iter(swept(array, over, x)), None)
    array = only(array, (over, x, by), f"curve(results.sel(HERE), {name!r}, by={by!r})")
    made = stats.summary(array, over=over, level=level).dropna(x, how="all", subset=["iqm"])
    if not made.sizes[x]:
        raise ValueError(
            f"{array.name!r} has no finite value to draw: at no point has any {over} one. "
            "Choose another variable."
        )
    figure, ax = canvas(ax, (6.4, 4.2))
    lost = [f", {n} diverged" if n else "" for n in diverged(results, over, by)]
    for i, label in enumerate(labels(made, by) if by else [""]):
        line(ax, made[x].values, made.isel({by: i}) if by else made, i, label + lost[i])
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("environment steps" if x == "step" else x)
    known = count(array, over) + ("" if by else lost[0])
    ax.set_ylabel(f"{array.name} (interquartile mean,\n{100 * level:g} % interval, {known})")
    if np.issubdtype(made[x].dtype, np.number) and made[x].max() >= 10_000:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 1M
    if by:  # beside the axes, where it covers no line
        ax.legend(
            title=by,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
            handlelength=3.2,
        )
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
    """A map of the interquartile mean over seeds against two swept axes, its values written in the
    cells.

    x, y: may be left out where two swept axes are left. at: which evaluation point, -1 is the last.

    Raises: ValueError for names that are not there, and when more or fewer than two swept axes are
    left.
    """
    array = stats.pick(results, name, over, *(axis for axis in (x, y) if axis))
    array = array.isel(step=at) if "step" in array.dims else array
    when = (
        f" at {EngFormatter(sep='')(float(f'{array.step.item():.3g}'))} environment steps"
        if "step" in array.coords
        else ""
    )
    free = [axis for axis in swept(array, over) if axis not in (x, y)]
    y, x = y or (free.pop(0) if free else None), x or (free.pop(0) if free else None)
    array = only(array, (over, x, y), f"heat(results.sel(HERE), {name!r}, x={x!r}, y={y!r})")
    if not (x and y):
        raise ValueError(
            f"A map needs two swept axes, and {name!r} has {y or x or 'none'}. Write "
            f"curve(results, {name!r})."
        )
    array = array.where(np.isfinite(array)).transpose(y, x, over)
    figure, ax = canvas(ax, (max(4.4, 2.4 + 0.8 * array.sizes[x]), 1.6 + 0.5 * array.sizes[y]))
    cells(
        ax,
        np.asarray(stats.iqm(array.values)),
        f"{array.name} (interquartile mean,\n{count(array, over)})",
    )
    ax.set(xlabel=x, ylabel=y, title=f"{array.name}{when}")
    ax.set_xticks(range(array.sizes[x]), labels(array, x))
    ax.set_yticks(range(array.sizes[y]), labels(array, y))
    return figure
