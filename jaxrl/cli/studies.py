"""Commands on finished studies: tables, plots, comparisons and reports."""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any, Literal, cast

import jax
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import jaxrl as rl
from jaxrl.cli.labels import labels_of
from jaxrl.cli.words import FlagError
from jaxrl.errors import nearest
from jaxrl.lazy import xarray as xr
from jaxrl.runs.catalogue import select
from jaxrl.sweep.program import middle

PIPE_WIDTH = 160  # columns of a table that goes to a file or a pipe

# Results hold NaN where there is no value: these functions run without jax_debug_nans, which is for
# training.


@jax.debug_nans(False)
def draw(results: xr.Dataset, folder: pathlib.Path) -> None:
    """Draw the learning curve of at most one swept axis, or the heat map of two.

    For more axes, print what to write.
    """
    by = swept_axes(results)
    if not results["return"].notnull().any():
        print(
            "no episode ended between two evaluation points, so there is no return to draw: write "
            "more --steps, or fewer --evals."
        )
    elif len(by) <= 1:
        rl.plot.curve(results, "return", by=by[0] if by else None).savefig(folder / "curve.png")
    elif len(by) == 2:
        rl.plot.heat(results, "return").savefig(folder / "heat.png")
    else:
        chosen = " ".join(f"{axis}={_label(results, axis)}" for axis in by[1:])
        print(f"to draw {len(by)} axes, choose: jaxrl plot {folder} --by {by[0]} --where {chosen}")


@jax.debug_nans(False)
def show(results: xr.Dataset, name: str = "return") -> None:
    """Print the final `name` of each setting as a table."""
    frame = rl.stats.mark_too_few(rl.stats.table(results, name)).reset_index()
    unfinished = results.attrs.get("unfinished")
    final = f"last {name} so far ({unfinished})" if unfinished else f"final {name}"
    table = Table(
        title=f"{final}: interquartile mean over seeds, 95 % bootstrap interval",
        title_justify="left",
    )
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{x:.5g}" if isinstance(x, float) else str(x) for x in row))
    Console().print(table)


@jax.debug_nans(False)
def plot(
    folder: tyro.conf.Positional[pathlib.Path],
    name: str = "return",
    by: str | None = None,
    where: tuple[str, ...] = (),
    follow: bool = False,
    every: float = 5.0,
) -> None:
    """Draw the learning curves of a sweep, even while it is running, in FOLDER/curve.png or next to
    a record.

    Args:
        folder: folder of `jaxrl train --folder`, or a record
        name: the variable to draw
        by: the axis with one line per value
        where: labels of the other axes: gamma=0.99
        follow: print each new row and draw again, until the sweep has finished (or Ctrl-C)
        every: seconds between two looks at the folder, with --follow
    """
    if every <= 0:
        raise FlagError(f"--every {every:g}: write the seconds between two drawings, above 0.")
    labels = labels_of(where)
    path = folder.with_suffix(".png") if folder.is_file() else folder / "curve.png"

    def read() -> xr.Dataset:
        return cast(xr.Dataset, select(rl.load(folder), labels))

    results, last = read(), ""
    while follow and "unfinished" in results.attrs:
        line = progress_line(results, name)
        if line != last:
            print(line, flush=True)
            if name in results and bool(results[name].notnull().any()):
                _check_axes(results, name, by)
                rl.plot.curve(results, name, by=by).savefig(path)
        last = line
        time.sleep(every)
        results = read()
    if not results.data_vars:
        raise FlagError(
            f"{folder} has no row yet: a row is written at each evaluation point of a running "
            f"sweep. Wait, or write `jaxrl plot {folder} --follow`, which draws rows as they come."
        )
    _check_axes(results, name, by)
    rl.plot.curve(results, name, by=by).savefig(path)
    show(results, name)
    print(f"drew {path}")


def _check_axes(results: xr.Dataset, name: str, by: str | None) -> None:
    """Check that a variable is there, and that one axis at most is left beside its seeds.

    Raises:
      FlagError: it is not so.
    """
    curves = [str(key) for key, x in results.data_vars.items() if {"seed", "step"} <= set(x.dims)]
    if name not in curves:
        raise FlagError(f"--name {name}: there is no such curve; {nearest(name, curves)}.")
    axes = [axis for axis in swept_axes(results) if axis in results[name].dims]
    if by is not None and by not in axes:
        others = f"{nearest(by, axes)}" if axes else "it is one setting: leave --by out"
        raise FlagError(f"--by {by} is not an axis with a line for each value; {others}.")
    if rest := [axis for axis in axes if axis != (by or axes[0])]:
        chosen = " ".join(f"{axis}={_label(results, axis)}" for axis in rest)
        raise FlagError(
            f"{name} has a line for each of {', '.join(axes)}: choose a value of "
            f"{' and '.join(rest)}, --by {by or axes[0]} --where {chosen}."
        )


def swept_axes(results: xr.Dataset) -> list[str]:
    """The axes of several values beside the seeds and the steps."""
    sizes = results.sizes.items()
    return [str(axis) for axis, size in sizes if axis not in ("seed", "step") and size > 1]


def _label(results: xr.Dataset, axis: str) -> str:
    return (
        f"{results[axis].values[0]:.6g}"
        if results[axis].dtype.kind == "f"
        else str(results[axis].values[0])
    )


def progress_line(results: xr.Dataset, name: str) -> str:
    """The state of an unfinished sweep: members, the last row that any of them has, and its
    interquartile mean.
    """
    text = results.attrs["unfinished"]
    if name not in results or "step" not in results[name].dims:
        return f"{text}; no row yet"
    others = [dim for dim in results[name].dims if dim != "step"]
    known = results[name].notnull()
    rows = known.any(others)
    if not rows.any():
        return f"{text}; no {name} yet"
    last = results[name].isel(step=int(rows.values.nonzero()[0][-1]))
    values = last.values[last.notnull().values]
    cells = f"{int(known.sum()):,} of {known.size:,} values"
    score = f"at step {last['step'].item():,} {middle(values):.4g}"
    return f"{text}; {name}: {cells}, {score} over {len(values):,} runs"


def runs(
    folder: tyro.conf.Positional[pathlib.Path] = pathlib.Path("."),
    where: tuple[str, ...] = (),
    name: str = "return",
) -> None:
    """List the studies below FOLDER (folders of sweeps, and records), newest first.

    Args:
        folder: the directory to search
        where: only studies with these fields or labels: env=CartPole-v1 algorithm=ppo lr=3e-4; a
            commit or a date may be abbreviated
        name: the variable that is scored by its final value
    """
    found = rl.runs(folder, name=name, **labels_of(where, rl.runs))
    if not len(found):
        condition = f" has {' '.join(map(_printable, where))}" if where else ""
        print(f"no study below {folder}{condition}")
        return
    table = Table(
        title=(
            f"final {name}: interquartile mean over seeds, 95 % interval, of the study's best "
            "setting"
        )
    )
    columns = "folder,algorithm,env,steps,settings × seeds,score,date,commit,note"
    for column in columns.split(","):
        table.add_column(column, overflow="fold")
    for row in found.astype(object).where(found.notna(), "").to_dict("records"):
        size = f"{row['settings']:.0f} × {row['seeds']:.0f}" if row["members"] != "" else ""
        steps = f"{row['steps']:,.0f}" if row["steps"] != "" else ""
        score = "" if row["score"] == "" else f"{row['score']:.4g}"
        score += "" if row["low"] == "" else f" [{row['low']:.4g}, {row['high']:.4g}]"
        path = row["folder"].relative_to(folder) if row["folder"] != folder else folder
        cells = [
            path,
            row["algorithm"],
            row["env"],
            steps,
            size,
            score,
            row["date"][:10],
            row["commit"][:7],
            row["note"],
        ]
        table.add_row(*(escape(_printable(cell)) for cell in cells))  # without markup
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _printable(value: Any) -> str:
    """Text from an untrusted file without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


@jax.debug_nans(False)
def compare(
    first: tyro.conf.Positional[pathlib.Path],
    second: tyro.conf.Positional[pathlib.Path],
    name: str = "return",
    where: tuple[str, ...] = (),
    allow: tuple[
        Literal["seeds", "diverged", "budget", "environment", "simulator", "evaluation"], ...
    ] = (),
) -> None:
    """Compare the final scores of two studies, with intervals, if they are comparable.

    Args:
        first: folder of a sweep, or a record
        second: folder of another sweep, or a record
        name: the variable that is scored by its final value
        where: the setting, for axes with several values: lr=1e-3
        allow: differences that are intended, because they are what you study
    """
    print(f"first   {_printable(first)}\nsecond  {_printable(second)}")
    print(rl.compare(first, second, name, allow=allow, **labels_of(where, rl.compare)))


@jax.debug_nans(False)
def report(
    folders: tyro.conf.Positional[tuple[pathlib.Path, ...]],
    out: pathlib.Path = pathlib.Path("report.html"),
    name: str = "return",
    films: bool = True,
) -> None:
    """Write a report on one or more studies: one HTML page that works offline.

    Args:
        folders: folders of sweeps, or records
        out: file of the page
        name: the variable that is scored by its final value
        films: animate the best and the median policy, which takes several seconds
    """
    print(f"wrote {rl.report(*folders, out=out, name=name, films=films)}")
