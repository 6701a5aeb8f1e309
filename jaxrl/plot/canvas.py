"""What all pictures share: the Figure, colours, labels, a line with its band, a cell with its
value.
"""

import io
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl import stats
from jaxrl.stats import Results

# Okabe and Ito (2008), dark and light by turns; with dashes and markers the lines differ without
# colour, too
COLORS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#D55E00")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def number(value: Any) -> str:
    """A short name for a value, of three digits: 0.01, 1e-3, 3.16e-4; but 0.9999 is not rounded up
    to 1.
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


def swept(array: xr.DataArray, *taken: str) -> list[str]:
    """The axes with more than one value, beside those taken."""
    return [str(axis) for axis, size in array.sizes.items() if size > 1 and axis not in taken]


def only(array: xr.DataArray, keep: tuple[str | None, ...], remedy: str) -> xr.DataArray:
    """The array without its axes of one value, all but `keep`; a picture can't show any more
    axes.
    """
    rest = [axis for axis in swept(array) if axis not in keep]
    if rest:
        here = ", ".join(f"{axis}={labels(array, axis)[0]}" for axis in rest)
        sizes = ", ".join(f"{axis} ({array.sizes[axis]} values)" for axis in swept(array))
        raise ValueError(
            f"{array.name!r} has the axes {sizes}, too many for one picture: choose a value of "
            f"{' and '.join(rest)}. "
            f"Write plot.{remedy.replace('HERE', here)}."
        )
    return array.squeeze([axis for axis in array.dims if axis not in keep], drop=True)


def labels(array: xr.DataArray | xr.Dataset, axis: str) -> list[str]:
    return [number(value) for value in array[axis].values.tolist()]


def count(array: xr.DataArray, over: str) -> str:
    return f"n = {array.sizes[over]} {over}" + "s" * (array.sizes[over] > 1)


def diverged(results: Results, over: str, by: str | None) -> list[int]:
    """How many members of each line diverged; zeros where the results don't say."""
    if isinstance(results, xr.Dataset) and "diverged" in results:
        return np.atleast_1d(stats.num_diverged(results, over, (by,))).tolist()
    return [0] * (results.sizes[by] if by else 1)


def canvas(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Axes to draw on, and the figure that they are part of. size: width and height in inches."""
    if ax is None:
        figure = Picture(figsize=size, layout="constrained")
        return figure, figure.add_subplot()
    return ax.figure.figure, ax  # of a subfigure, the figure


def line(ax: Axes, x: np.ndarray, made: xr.Dataset, i: int, label: str) -> None:
    """The i-th line with its band; about a dozen markers, shifted so that those of two lines don't
    meet.
    """
    color, dash, marker = (
        COLORS[i % len(COLORS)],
        DASHES[i % len(DASHES)],
        MARKERS[i % len(MARKERS)],
    )
    every = max(1, len(x) // 12)
    shown = None if every == 1 else (i % every, every)
    ax.plot(
        x,
        made.iqm,
        color=color,
        linestyle=dash,
        marker=marker,
        markevery=shown,
        markersize=5,
        label=label,
    )
    ax.fill_between(x, made.low, made.high, color=color, alpha=0.18, linewidth=0)


def cells(ax: Axes, values: np.ndarray, label: str) -> None:
    """Coloured cells [y, x], each with its value in whichever of black and white can be read on
    it.
    """
    image = ax.imshow(values, cmap="cividis", origin="lower", aspect="auto")
    ax.set_facecolor("lightgrey")  # seen through a cell without a value
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5 and np.isfinite(value)
        text = number(float(value)) if np.isfinite(value) else "none"
        ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    ax.figure.colorbar(image, ax=ax, label=label)
