"""Heat maps of repertoires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxrl.archives.archive import Archive
from jaxrl.archives.cells import Cells
from jaxrl.errors import check_count
from jaxrl.plot.canvas import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def repertoire(
    archive: Archive,
    cells: Cells,
    *,
    label: str = "fitness",
    pixels: int = 400,
    ax: Axes | None = None,
) -> Figure:
    """Heat map of the fitness of each cell in a two-dimensional descriptor space; empty cells are
    grey.

    `plot.repertoire(state.archive, algo.cells)`.

    Args:
      archive: of one run.
      cells: a `Grid`, or `Nearest`, which is drawn as a Voronoi diagram.
      label: of the colour bar.
      pixels: resolution of the heat map along each axis.
      ax: the axes to draw on, by default those of a new Picture.

    Raises:
      ValueError: the cells do not divide a box of two dimensions, or are not the archive's.
    """
    check_count("pixels", pixels)
    if cells.num_dims != 2 or cells.bounds is None:
        raise ValueError(
            "A repertoire is drawn for a Grid or Nearest of 2 dimensions, and these cells are a "
            f"{type(cells).__name__} of {cells.num_dims}: choose two descriptors, or plot arrays "
            "of the archive, such as archive.fitness."
        )
    fitness = np.asarray(archive.fitness)
    if fitness.shape != (cells.num_cells,):
        raise ValueError(
            f"The archive's fitness has shape {fitness.shape}, and the cells are "
            f"{cells.num_cells}: write the cells of its algorithm, and for a sweep the archive of "
            "one member, jax.tree.map(lambda x: x[0], archive)."
        )
    low, high = (np.asarray(end) for end in cells.bounds)
    middles = low + (high - low) * ((np.arange(pixels) + 0.5) / pixels)[:, None]
    points = np.stack(np.meshgrid(*middles.T), -1)  # [y, x, 2]
    values = np.append(np.where(np.isfinite(fitness), fitness, np.nan), np.nan)
    figure, ax = canvas(ax, (5.4, 4.2))
    ax.set_facecolor("lightgrey")
    image = ax.imshow(
        values[np.asarray(cells(jnp.asarray(points, jnp.float32)))],
        cmap="cividis",
        origin="lower",
        aspect="auto",
        extent=(low[0], high[0], low[1], high[1]),
    )
    ax.figure.colorbar(image, ax=ax, label=label)
    filled = np.isfinite(fitness).mean()
    ax.set(
        xlabel="descriptor 1", ylabel="descriptor 2", title=f"{100 * filled:.3g} % of cells filled"
    )
    return figure
