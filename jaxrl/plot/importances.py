"""What mattered: shares of the variance, parallel coordinates, a map of who diverged, several
studies in one picture.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxrl import stats
from jaxrl.importance import Importance
from jaxrl.plot.canvas import COLORS, canvas, cells, labels, line, number, only, swept
from jaxrl.stats import Results


def importance(found: Importance, *, ax: Axes | None = None) -> Figure:
    """Shares of the scores' variance with their intervals, the largest above:
    `importance(rl.importance(results))`.
    """
    shares = found.shares.sort_values("share")
    figure, ax = canvas(ax, (6.4, 0.8 + 0.32 * len(shares)))
    y = np.arange(len(shares))
    ax.barh(y, shares["share"], color=COLORS[5], height=0.7)
    ax.hlines(y, shares["low"], shares["high"], color=COLORS[0])
    ax.set_yticks(y, [str(name) for name in shares.index])
    fit = (
        ""
        if found.fit is None
        else f" (of a forest, R² {found.fit:.2g} on settings it had not seen)"
    )
    ax.set(xlabel=f"share of the variance of the score{fit}", xlim=(0, 1))
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
    """Parallel coordinates: a line for each setting through its values, coloured by the
    interquartile mean over seeds.

    names: of the coordinates beside an axis of random settings, those to draw; all unless given.
    Axes whose values span more than a factor of 30 are logarithmic. The best are drawn last.
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
    """A row for each setting: what it is made of, and its score.

    Settings without a score are left out.
    """
    made = stats.summary(stats.final(results, name, over, last), name, over=over)["iqm"].rename(
        "score"
    )
    table = made.squeeze(drop=True).to_dataframe().dropna(subset=["score"]).reset_index()
    beside = [key for key in made.coords if made[key].dims]
    sampled = {dim for key in beside if key not in made.dims for dim in made[key].dims}
    wanted = names or [str(key) for key in beside if key not in sampled and made[key].size > 1]
    return table.reindex(columns=[*wanted, "score"])


def heights(values: np.ndarray, most: int) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where values stand on an axis from 0 to 1, and its ticks: the values, or of more than `most`
    their ends.
    """
    numbers = values.dtype.kind in "iuf"
    if not numbers or not np.isfinite(values).all():  # one after another: no scale holds infinity
        known, place = np.unique(values if numbers else values.astype(str), return_inverse=True)
        ticks = [(i / max(len(known) - 1, 1), number(x)) for i, x in enumerate(known.tolist())]
        return place / max(len(known) - 1, 1), ticks if not numbers or len(ticks) <= most else [
            ticks[0],
            ticks[-1],
        ]
    low, high = float(values.min()), float(values.max())
    onto = np.log if low > 0 and high > 30 * low else np.asarray
    between = lambda x: (onto(x) - onto(low)) / ((onto(high) - onto(low)) or 1)
    shown = np.unique(values) if len(np.unique(values)) <= most else np.array([low, high])
    return between(values), [(float(between(x)), number(float(x))) for x in shown]


def divergence(
    results: xr.Dataset, x: str | None = None, y: str | None = None, *, over: str = "seed"
) -> Figure:
    """A map of the share of members that diverged, against one or two swept axes.

    Raises: ValueError where the results don't say who diverged, and when more than two swept axes
    are left.
    """
    if "diverged" not in results:
        raise ValueError(
            "The results have no variable 'diverged': sweep a rl.Training, which says who did."
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
    cells(ax, table, f"share of {results.sizes[over]} {over}s")
    ax.set(xlabel=x or "", ylabel=y or "", title="diverged")
    ax.set_xticks(range(table.shape[1]), labels(share, x) if x else [""])
    ax.set_yticks(range(table.shape[0]), labels(share, y) if y else [""])
    return figure


def together(
    studies: Mapping[str, Results], name: str = "return", *, over: str = "seed", level: float = 0.95
) -> Figure:
    """The learning curves of several studies, a line each: the interquartile mean over seeds with
    its bootstrap interval.

    studies: {label: results}, one setting of each, `results.sel(lr=1e-3)`; their steps may differ.
    What stands in one picture is compared: `stats.obstacles(a, b)` says what would make that
    misleading.
    """
    figure, ax = canvas(None, (6.4, 4.2))
    for i, (label, results) in enumerate(studies.items()):
        array = only(
            stats.pick(results, name, over, "step"),
            (over, "step"),
            f"together({{{label!r}: results.sel(HERE)}})",
        )
        made = stats.summary(array, name, over=over, level=level).dropna(
            "step", how="all", subset=["iqm"]
        )
        line(ax, made["step"].values, made, i, f"{label} (n = {array.sizes[over]})")
    ax.set(
        xlabel="environment steps",
        ylabel=f"{name} (interquartile mean,\n{100 * level:g} % interval)",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, handlelength=3.2
    )
    return figure
