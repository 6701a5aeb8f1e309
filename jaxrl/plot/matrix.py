"""Heat maps of labelled matrices, such as win rates of pairs of players."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl.plot.canvas import canvas, cells, number
from jaxrl.stats import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def matrix(
    values: Any,
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    *,
    label: str = "win rate of the row",
    limits: tuple[float | None, float | None] = (None, None),
    ax: Axes | None = None,
) -> Figure:
    """Heat map of a matrix, the first row at the top, with the value in each cell.

    `plot.matrix(stats.win_rates(scores), names, limits=(0, 1))` also has the intervals.

    Args:
      values: [P, Q], or an `Interval` of this shape; NaN has a grey cell.
      rows: P labels, by default 0, 1, ...
      columns: Q labels, by default those of the rows if the matrix is square.
      label: of the colour bar.
      limits: the values of the first and the last colour, by default the extremes.
      ax: the axes to draw on, by default those of a new Picture.

    Raises:
      ValueError: the values are not a matrix with finite values, or the numbers of labels differ
        from its shape.
    """
    has_ends = isinstance(values, Interval)
    table = np.asarray(values.estimate if has_ends else values, float)
    if table.ndim != 2 or not np.isfinite(table).any():
        what = f"shape {table.shape}" if table.ndim != 2 else "no finite value"
        raise ValueError(
            f"A matrix [P, Q] is drawn, and the values have {what}: write values of two axes, such "
            "as scores.mean(-1) of scores [P, P, games]."
        )
    columns = rows if columns is None and table.shape[0] == table.shape[1] else columns
    names = [_names(*given) for given in zip((rows, columns), table.shape, strict=True)]
    notes = _ends(values) if has_ends else None
    width, height = (1.1, 0.55) if has_ends else (0.8, 0.5)
    size = (max(4.4, 2.4 + width * table.shape[1]), 1.6 + height * table.shape[0])
    figure, ax = canvas(ax, size)
    cells(ax, table, label, notes, limits)
    ax.invert_yaxis()
    ax.set_xticks(range(table.shape[1]), names[1])
    ax.set_yticks(range(table.shape[0]), names[0])
    return figure


def _ends(values: Interval) -> np.ndarray:
    """The ends of intervals as text, "0.31 to 0.58". [P, Q]."""
    ends = zip(np.ravel(values.low).tolist(), np.ravel(values.high).tolist(), strict=True)
    texts = [f"{low:.2g} to {high:.2g}" for low, high in ends]
    return np.array(texts).reshape(np.shape(values.low))


def _names(labels: Sequence[Any] | None, num: int) -> list[str]:
    """Labels of `num` rows or columns, as text."""
    labels = list(range(num)) if labels is None else list(labels)
    if len(labels) != num:
        raise ValueError(
            f"{len(labels)} labels {labels} do not fit {num} rows or columns: write one for each."
        )
    return [number(label) for label in labels]
