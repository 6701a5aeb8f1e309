"""What the command line says of studies that are kept: tables and pictures."""

import pathlib
import sys
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import jaxrl as rl
from jaxrl.cli.commands import labels_of

WIDE = 160  # columns of a table that goes to a file or a pipe


def draw(results: Any, folder: pathlib.Path) -> None:
    """The learning curve of no or one swept axis, the map of two; of more, what to write."""
    by = [
        str(name)
        for name, size in results.sizes.items()
        if name not in ("seed", "step") and size > 1
    ]
    if not results["return"].notnull().any():
        print(
            "no episode ended within a row, so there is no return to draw: write more --steps, "
            "or fewer --evals."
        )
    elif len(by) <= 1:
        rl.plot.curve(results, "return", by=by[0] if by else None).savefig(folder / "curve.png")
    elif len(by) == 2:
        rl.plot.heat(results, "return").savefig(folder / "heat.png")
    else:
        print(
            f"to draw {len(by)} axes, choose: rl.plot.curve(rl.load({str(folder)!r}).sel(...), "
            f"'return', by={by[0]!r})"
        )


def show(results: Any) -> None:
    """The final return of each setting, as a table."""
    frame = rl.stats.tell_few(rl.stats.table(results, "return")).reset_index()
    table = Table(
        title="return at the end: interquartile mean over seeds, 95 % bootstrap interval",
        title_justify="left",
    )
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{x:.5g}" if isinstance(x, float) else str(x) for x in row))
    Console().print(table)


def plot(
    folder: tyro.conf.Positional[pathlib.Path], name: str = "return", by: str | None = None
) -> None:
    """Draws a sweep's learning curve into FOLDER/curve.png, or that of a record beside it.

    Args:
        folder: what `jaxrl train --folder` made, or a record
        name: which of its curves
        by: the axis that gets a line for each value
    """
    results = rl.load(folder)
    path = folder.with_suffix(".png") if folder.is_file() else folder / "curve.png"
    rl.plot.curve(results, name, by=by).savefig(path)
    show(results)
    print(f"drew {path}")


def runs(
    folder: tyro.conf.Positional[pathlib.Path] = pathlib.Path("."),
    where: tuple[str, ...] = (),
    name: str = "return",
) -> None:
    """Lists the studies below FOLDER: sweeps' folders and records, newest first, each with its
    score.

    Args:
        folder: where to look where: what was run, by any field or axis: env=CartPole-v1
        algorithm=ppo lr=3e-4; commit and date by their beginnings name: which curve is the score
    """
    listed = rl.runs(folder, name=name, **labels_of(where, rl.runs))
    if not len(listed):
        return print(
            f"no study below {folder}" + f" has {' '.join(map(_plain, where))}" * bool(where)
        )
    table = Table(
        title=(
            f"{name} at the end: interquartile mean over seeds, 95 % interval; of several "
            "settings, the best"
        )
    )
    for column in (
        "folder",
        "algorithm",
        "env",
        "steps",
        "settings × seeds",
        "score",
        "date",
        "commit",
        "note",
    ):
        table.add_column(column, overflow="fold")
    for row in listed.astype(object).where(listed.notna(), "").to_dict("records"):
        known = row["members"] != ""
        size = f"{row['settings']:.0f} × {row['seeds']:.0f}" if known else ""
        steps = f"{row['steps']:,.0f}" if row["steps"] != "" else ""
        score = "" if row["score"] == "" else f"{row['score']:.4g}"
        score += "" if row["low"] == "" else f" [{row['low']:.4g}, {row['high']:.4g}]"
        path = row["folder"].relative_to(folder) if row["folder"] != folder else folder
        cells = (
            path,
            row["algorithm"],
            row["env"],
            steps,
            size,
            score,
            row["date"][:10],
            row["commit"][:7],
            row["note"],
        )
        table.add_row(*map(_shown, cells))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _shown(value: Any) -> str:
    """A stranger's text as a table may show it: without markup."""
    return escape(_plain(value))


def _plain(value: Any) -> str:
    """A stranger's text as a terminal may show it: without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def compare(
    first: tyro.conf.Positional[pathlib.Path],
    second: tyro.conf.Positional[pathlib.Path],
    name: str = "return",
    where: tuple[str, ...] = (),
    allow: tuple[Literal["seeds", "budget", "environment", "simulator", "evaluation"], ...] = (),
) -> None:
    """Compares the final scores of two studies, with intervals; refuses what would mislead.

    Args:
        first: a sweep's folder, or a record
        second: another
        name: which curve is the score
        where: the setting, for axes of several values: lr=1e-3
        allow: what may differ, because it is what you study
    """
    print(f"first   {_plain(first)}\nsecond  {_plain(second)}")
    print(rl.compare(first, second, name, allow=allow, **labels_of(where, rl.compare)))


def report(
    folders: tyro.conf.Positional[tuple[pathlib.Path, ...]],
    out: pathlib.Path = pathlib.Path("report.html"),
    name: str = "return",
    films: bool = True,
) -> None:
    """Writes one HTML page of one or several studies, which opens from disk and needs no network.

    Args:
        folders: sweeps' folders, or records
        out: the page
        name: which curve is the score
        films: play the best and the median policy, which takes some seconds
    """
    print(f"wrote {rl.report(*folders, out=out, name=name, films=films)}")
