"""Plots of hyperparameters: importance, parallel coordinates, divergence; and several studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxrl import stats
from jaxrl.importance import Importance
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.plot.canvas import (
    COLORS,
    canvas,
    cells,
    labels,
    legend_beside,
    line,
    number,
    only,
    swept,
)
from jaxrl.stats import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def importance(found: Importance, *, ax: Axes | None = None) -> Figure:
    """Fractions of the variance of the scores, with intervals, in decreasing order.

    found: of `rl.importance`.
    """
    shares = found.shares.sort_values("share")
    figure, ax = canvas(ax, (6.4, 0.8 + 0.32 * len(shares)))
    y = np.arange(len(shares))
    ax.barh(y, shares["share"], color=COLORS[5], height=0.7)
    ax.hlines(y, shares["low"], shares["high"], color=COLORS[0])
    ax.set_yticks(y, [str(name) for name in shares.index])
    fit = "" if found.fit is None else f" (random forest, out-of-bag R² {found.fit:.2g})"
    ax.set(xlabel=f"fraction of the variance of the score{fit}", xlim=(0, 1))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def parallel(
    results: Results,
    name: str = "return",
    names: Sequence[str] = (),
    *,
    over: str = "seed",
    last: int = 1,
) -> Figure:
    """Parallel coordinates: a line for each setting, coloured by its interquartile mean.

    Axes with values that span more than a factor of 30 are logarithmic. The best settings are drawn
    last; a setting of which most runs diverged is left out.

    names: the hyperparameters to draw, of an axis of random settings; by default all.

    Raises:
      ValueError: no setting has a final value.
    """
    table = settings(results, name, names, over, last).sort_values("score")
    if table.empty:
        raise ValueError(f"no setting has a final {name!r} to draw.")
    columns = {
        str(column): heights(table[column].to_numpy(), 2 if column == "score" else 6)
        for column in table
    }
    figure, ax = canvas(None, (1.6 + 1.3 * len(columns), 4.2))
    scores = table["score"].to_numpy()
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(scores.min(), scores.max()), colormaps["cividis_r"])
    for row, score in zip(
        np.stack([height for height, _ in columns.values()], 1), scores, strict=True
    ):
        ax.plot(row, color=scale.to_rgba(score), linewidth=1.2, alpha=0.9)
    for x, (_, ticks) in enumerate(columns.values()):
        ax.axvline(x, color="black", linewidth=0.8)
        for height, text in ticks:
            ax.annotate(
                text,
                (x, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
            )
    ax.set_xticks(range(len(columns)), [*list(columns)[:-1], f"{name}\n(interquartile mean)"])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return figure


def settings(
    results: Results, name: str, names: Sequence[str], over: str, last: int
) -> pd.DataFrame:
    """A table with a row for each setting that has a score: its hyperparameters and its score."""
    final = stats.final_of_sound(results, name, over, last)
    means = stats.iqm(final.transpose(..., over).values)
    scores = final.isel({over: 0}, drop=True).copy(data=np.asarray(means)).rename("score")
    scores = scores.where(np.isfinite(scores))
    table = scores.squeeze(drop=True).to_dataframe().dropna(subset=["score"]).reset_index()
    coords = [key for key in scores.coords if scores[key].dims]
    # axes of random settings, which have their hyperparameters as coordinates
    sampled = {dim for key in coords if key not in scores.dims for dim in scores[key].dims}
    columns = names or [str(key) for key in coords if key not in sampled and scores[key].size > 1]
    return table.reindex(columns=[*columns, "score"])


def heights(values: np.ndarray, max_ticks: int) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Positions of values on an axis from 0 to 1, and its ticks (position, label).

    The ticks are the values, or their extremes if there are more than `max_ticks` numbers.
    """
    are_numbers = values.dtype.kind in "iuf"
    if not are_numbers or not np.isfinite(values).all():  # evenly spaced categories
        categories, index = np.unique(
            values if are_numbers else values.astype(str), return_inverse=True
        )
        scale = max(len(categories) - 1, 1)
        ticks = [(i / scale, number(x)) for i, x in enumerate(categories.tolist())]
        if are_numbers and len(ticks) > max_ticks:
            ticks = [ticks[0], ticks[-1]]
        return index / scale, ticks
    low, high = float(values.min()), float(values.max())
    transform = np.log if low > 0 and high > 30 * low else np.asarray

    def height(x: np.ndarray | float) -> np.ndarray:
        span = (transform(high) - transform(low)) or 1
        return (transform(x) - transform(low)) / span

    unique = np.unique(values)
    shown = unique if len(unique) <= max_ticks else np.array([low, high])
    return height(values), [(float(height(x)), number(float(x))) for x in shown]


def divergence(
    results: xr.Dataset, x: str | None = None, y: str | None = None, *, over: str = "seed"
) -> Figure:
    """Heat map of the fraction of members that diverged, against one or two swept axes.

    Raises:
      ValueError: the results have no variable `diverged`, or more than two swept axes are left.
    """
    if "diverged" not in results:
        raise ValueError(
            "The results have no variable 'diverged': sweep a rl.Training, which records it."
        )
    dims = [dim for dim in results["diverged"].dims if dim not in (over, "step")]
    share = (stats.num_diverged(results, over, dims) / results.sizes[over]).rename("diverged")
    free = [axis for axis in swept(share) if axis not in (x, y)]
    y, x = y or (free.pop(0) if len(free) > 1 or x else None), x or (free.pop(0) if free else None)
    share = only(share, (x, y), f"divergence(results.sel(HERE), x={x!r}, y={y!r})")
    table = share.transpose(*[axis for axis in (y, x) if axis]).values.reshape(
        share.sizes.get(y, 1), share.sizes.get(x, 1)
    )
    figure, ax = canvas(None, (max(4.4, 2.4 + 0.8 * table.shape[1]), 1.6 + 0.5 * table.shape[0]))
    cells(ax, table, f"fraction of {results.sizes[over]} {over}s")
    ax.set(xlabel=x or "", ylabel=y or "", title="diverged")
    ax.set_xticks(range(table.shape[1]), labels(share, x) if x else [""])
    ax.set_yticks(range(table.shape[0]), labels(share, y) if y else [""])
    return figure


def together(
    studies: Mapping[str, Results], name: str = "return", *, over: str = "seed", level: float = 0.95
) -> Figure:
    """Learning curves of several studies: interquartile means over seeds, with intervals.

    `stats.obstacles(a, b)` gives reasons why comparing two studies would be misleading.

    studies: {label: results}, of one setting each, `results.sel(lr=1e-3)`; their steps may differ.
    """
    figure, ax = canvas(None, (6.4, 4.2))
    for i, (label, results) in enumerate(studies.items()):
        array = only(
            stats.pick(results, name, over, "step"),
            (over, "step"),
            f"together({{{label!r}: results.sel(HERE)}})",
        )
        summary = stats.summary(array, name, over=over, level=level).dropna(
            "step", how="all", subset=["iqm"]
        )
        line(ax, summary["step"].values, summary, i, f"{label} (n = {array.sizes[over]})")
    ax.set(
        xlabel="environment steps",
        ylabel=f"{name} (interquartile mean,\n{100 * level:g} % interval)",
    )
    ax.spines[["top", "right"]].set_visible(False)
    legend_beside(ax, None)
    return figure
