"""How sure one may be: performance profiles, what few seeds say, and power laws with what they
foretell.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from jaxrl import stats
from jaxrl.plot.canvas import COLORS, MARKERS, canvas, labels, line, number


def profile(
    made: xr.Dataset, by: str | None = None, *, xlabel: str = "score", ax: Axes | None = None
) -> Figure:
    """The share of scores above each threshold with its band, a line for each value of `by`.

    made: by `stats.profile`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    made = made.rename(share="iqm")
    for i, label in enumerate(labels(made, by) if by else [""]):
        line(ax, made["threshold"].values, made.isel({by: i}) if by else made, i, label)
    _finish(ax, xlabel, "share of seeds above it", by)
    return figure


def power(made: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Studies of k seeds that rank two settings wrongly, and that tell them apart; made: by
    `stats.power`, with `by`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    pairs = made.stack(pair=("better", "worse")).dropna("pair", how="all", subset=["wrong"])
    for i, pair in enumerate(pairs["pair"].values):
        one, label = pairs.isel(pair=i), " over ".join(map(number, pair))
        look: dict[str, Any] = {
            "color": COLORS[i % len(COLORS)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        ax.plot(made["seeds"], one["separated"], label=f"{label}: told apart", **look)
        ax.plot(
            made["seeds"], one["wrong"], linestyle="--", label=f"{label}: ranked wrongly", **look
        )
    ax.axhline(made.attrs["needed"], color="grey", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(made["seeds"].values, [str(k) for k in made["seeds"].values])
    ax.minorticks_off()
    _finish(ax, "seeds of each", "share of studies", "")
    return figure


def law(
    fits: Mapping[str, tuple[stats.Fit, Any]],
    *,
    x: str = "x",
    y: str = "y",
    beyond: float = 2.0,
    ax: Axes | None = None,
) -> Figure:
    """Power laws with their bands, up to `beyond` times the largest x, and the seeds that they were
    fitted to.

    fits: {label: (fit, y [points, seeds])}, of `stats.fit_power_law`.
    """
    figure, ax = canvas(ax, (6.4, 4.2))
    for i, (label, (fit, scores)) in enumerate(fits.items()):
        at, color = np.asarray(fit.x, float), COLORS[i % len(COLORS)]
        dense = np.geomspace(at.min(), at.max() * beyond, 100)
        made = xr.Dataset(
            {
                key: ("x", np.asarray(end))
                for key, end in zip(("iqm", "low", "high"), fit.predict(dense), strict=True)
            }
        )
        ax.plot(dense, made.iqm, color=color)
        ax.fill_between(dense, made.low, made.high, color=color, alpha=0.18, linewidth=0)
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
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_minor_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    _finish(ax, x, y, "")
    return figure


def _finish(ax: Axes, x: str, y: str, title: str | None) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlabel=x, ylabel=y)
    if title is not None:
        ax.legend(
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
            handlelength=3.2,
        )
