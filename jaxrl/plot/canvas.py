"""Elements shared by all plots: the Figure, colours, labels, lines with bands, cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl import stats
from jaxrl.lazy import xarray as xr
from jaxrl.stats import Results

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), dark and light alternating; with dashes and markers, lines can also be
# distinguished without colour
COLORS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#D55E00")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def number(value: Any) -> str:
    """A value as text, floats with three digits: 0.01, 1e-3, 3.16e-4.

    Numbers below 1 have as many digits as they need not to be rounded up to 1: 0.9999.
    """
    if not isinstance(value, float):
        return str(value)
    digits = 3
    while digits < 8 and abs(value) < 1 == abs(float(f"{value:.{digits}g}")):
        digits += 1
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0 or 0.01 <= abs(rounded) < 1e5:
        return np.format_float_positional(rounded, trim="-")
    return np.format_float_scientific(rounded, trim="-", exp_digits=1).replace("e+", "e")


def swept(array: xr.DataArray, *excluded: str) -> list[str]:
    """The axes with more than one value, without those `excluded`."""
    return [str(axis) for axis, size in array.sizes.items() if size > 1 and axis not in excluded]


def only(array: xr.DataArray, keep: tuple[str | None, ...], remedy: str) -> xr.DataArray:
    """The array without axes of one value other than `keep`.

    remedy: the call to suggest, with HERE in place of a selection.

    Raises:
      ValueError: another axis has several values.
    """
    rest = [axis for axis in swept(array) if axis not in keep]
    if rest:
        selection = ", ".join(f"{axis}={labels(array, axis)[0]}" for axis in rest)
        sizes = ", ".join(f"{axis} ({array.sizes[axis]} values)" for axis in swept(array))
        raise ValueError(
            f"{array.name!r} has the axes {sizes}, too many for one plot: choose a value of "
            f"{' and '.join(rest)}. Write plot.{remedy.replace('HERE', selection)}."
        )
    return array.squeeze([axis for axis in array.dims if axis not in keep], drop=True)


def labels(array: xr.DataArray | xr.Dataset, axis: str) -> list[str]:
    """The values of an axis, as text."""
    return [number(value) for value in array[axis].values.tolist()]


def count(array: xr.DataArray, over: str) -> str:
    """The number of replicates, as text: "n = 10 seeds"."""
    return f"n = {array.sizes[over]} {over}" + "s" * (array.sizes[over] > 1)


def diverged(results: Results, over: str, by: str | None) -> list[int]:
    """The number of diverged members of each line; 0 if the results have no such variable."""
    if isinstance(results, xr.Dataset) and "diverged" in results:
        return np.atleast_1d(stats.num_diverged(results, over, (by,))).tolist()
    return [0] * (results.sizes[by] if by else 1)


def canvas(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """The figure and axes to draw on: those of `ax`, or a new Picture of `size` (in inches)."""
    if ax is None:
        from jaxrl.plot.picture import Picture

        figure = Picture(figsize=size, layout="constrained")
        return figure, figure.add_subplot()
    return ax.figure.figure, ax  # of a subfigure, the figure


def line(ax: Axes, x: np.ndarray, summary: xr.Dataset, i: int, label: str) -> None:
    """Draw the i-th line with its band.

    It has about twelve markers, shifted so that those of two lines do not overlap.

    summary: iqm, low and high at each x.
    """
    color = COLORS[i % len(COLORS)]
    every = max(1, len(x) // 12)
    ax.plot(
        x,
        summary.iqm,
        color=color,
        linestyle=DASHES[i % len(DASHES)],
        marker=MARKERS[i % len(MARKERS)],
        markevery=None if every == 1 else (i % every, every),
        markersize=5,
        label=label,
    )
    ax.fill_between(x, summary.low, summary.high, color=color, alpha=0.18, linewidth=0)


def legend_beside(ax: Axes, title: str | None) -> None:
    """Draw the legend to the right of the axes, where it covers no line."""
    ax.legend(
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        frameon=False,
        handlelength=3.2,
    )


def cells(
    ax: Axes,
    values: np.ndarray,
    label: str,
    notes: np.ndarray | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> None:
    """Draw coloured cells [y, x], each with its value in black or white.

    label: of the colour bar. notes: a second line for each cell with a value, [y, x]. limits: the
    values of the first and the last colour, by default the extremes.
    """
    low, high = limits
    image = ax.imshow(values, cmap="cividis", origin="lower", aspect="auto", vmin=low, vmax=high)
    ax.set_facecolor("lightgrey")  # visible through a cell without a value
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5 and np.isfinite(value)
        text = number(float(value)) if np.isfinite(value) else "none"
        if notes is not None and np.isfinite(value):
            text = f"{text}\n{notes[row, column]}"
        ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    ax.figure.colorbar(image, ax=ax, label=label)
