"""What the command line says of studies that are kept: tables and pictures."""

import pathlib
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

import jaxrl as rl


def draw(results: Any, folder: pathlib.Path) -> None:
    """The learning curve of no or one swept axis, the map of two; of more, what to write."""
    by = [str(name) for name, size in results.sizes.items() if name not in ("seed", "step") and size > 1]
    if not results["return"].notnull().any():
        print("no episode ended within a row, so there is no return to draw: write more --steps, or fewer --evals.")
    elif len(by) <= 1:
        rl.plot.curve(results, "return", by=by[0] if by else None).savefig(folder / "curve.png")
    elif len(by) == 2:
        rl.plot.heat(results, "return").savefig(folder / "heat.png")
    else:
        print(f"to draw {len(by)} axes, choose: rl.plot.curve(rl.load({str(folder)!r}).sel(...), 'return', by={by[0]!r})")


def show(results: Any) -> None:
    """The final return of each setting, as a table."""
    frame = rl.stats.table(results, "return").reset_index()
    table = Table(title="return at the end: interquartile mean over seeds, 95 % bootstrap interval", title_justify="left")
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{x:.5g}" if isinstance(x, float) else str(x) for x in row))
    Console().print(table)


def plot(folder: tyro.conf.Positional[pathlib.Path], name: str = "return", by: str | None = None) -> None:
    """Draws a sweep's learning curve into FOLDER/curve.png.

    Args:
        folder: what `jaxrl train --folder` made
        name: which of its curves
        by: the axis that gets a line for each value
    """
    results = rl.load(folder)
    rl.plot.curve(results, name, by=by).savefig(folder / "curve.png")
    show(results)
    print(f"drew {folder / 'curve.png'}")
