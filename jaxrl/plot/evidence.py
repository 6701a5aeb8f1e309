"""Plots of statistical evidence: performance profiles, power of studies, power laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl import stats
from jaxrl.lazy import xarray as xr
from jaxrl.plot.canvas import COLORS, MARKERS, canvas, labels, legend_beside, line, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def profile(
    found: xr.Dataset, by: str | None = None, *, xlabel: str = "score", ax: Axes | None = None
) -> Figure:
    """Performance profiles with bands, with a line for each value of the axis `by`.

    found: of `stats.profile`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    found = found.rename(share="iqm")
    for i, label in enumerate(labels(found, by) if by else [""]):
        line(ax, found["threshold"].values, found.isel({by: i}) if by else found, i, label)
    _finish(ax, xlabel, "fraction of seeds above", by)
    return figure


def power(found: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Fractions of studies that separate two settings, and that rank them wrongly, by seeds.

    found: of `stats.power`, with `by`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    seeds = found["seeds"].values
    pairs = found.stack(pair=("better", "worse")).dropna("pair", how="all", subset=["wrong"])
    for i, names in enumerate(pairs["pair"].values):
        pair, label = pairs.isel(pair=i), " over ".join(map(number, names))
        style: dict[str, Any] = {
            "color": COLORS[i % len(COLORS)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        ax.plot(seeds, pair["separated"], label=f"{label}: separated", **style)
        ax.plot(seeds, pair["wrong"], linestyle="--", label=f"{label}: ranked wrongly", **style)
    ax.axhline(found.attrs["needed"], color="grey", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(seeds, [str(k) for k in seeds])
    ax.minorticks_off()
    _finish(ax, "seeds of each setting", "fraction of studies", "")
    return figure


def law(
    fits: Mapping[str, tuple[stats.Fit, Any]],
    *,
    x: str = "x",
    y: str = "y",
    beyond: float = 2.0,
    ax: Axes | None = None,
) -> Figure:
    """Power laws with bands, extrapolated to `beyond` times the largest x, and their data.

    fits: {label: (fit, y [points, seeds])}, of `stats.fit_power_law`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    for i, (label, (fit, scores)) in enumerate(fits.items()):
        at, color = np.asarray(fit.x, float), COLORS[i % len(COLORS)]
        dense = np.geomspace(at.min(), at.max() * beyond, 100)
        predicted, low, high = map(np.asarray, fit.predict(dense))
        ax.plot(dense, predicted, color=color)
        ax.fill_between(dense, low, high, color=color, alpha=0.18, linewidth=0)
        scores = np.asarray(scores, float).reshape(len(at), -1)
        ax.plot(at, np.median(scores, axis=1), MARKERS[i % len(MARKERS)], color=color, label=label)
        scores = np.where(np.isfinite(scores), scores, np.nan)
        ax.plot(
            np.repeat(at, scores.shape[1]),
            scores.ravel(),
            ".",
            color=color,
            alpha=0.25,
            markersize=3,
        )
    ax.set(xscale="log", yscale="log")
    ticks = np.unique(np.concatenate([np.asarray(fit.x, float) for fit, _ in fits.values()]))
    ax.set_xticks(ticks, [number(x) for x in ticks.tolist()])
    from matplotlib.ticker import EngFormatter, NullFormatter

    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_minor_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    _finish(ax, x, y, "")
    return figure


def _finish(ax: Axes, x: str, y: str, title: str | None) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlabel=x, ylabel=y)
    if title is not None:
        legend_beside(ax, title)
