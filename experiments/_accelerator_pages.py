"""Record of `experiments.accelerator` as a page of markdown and a picture."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import scipy.stats

import jaxrl as rl
from experiments._accelerator_stages import STAGES, Measured, Stage

Row = dict[str, Any]
INTRO = """
`python -m experiments.accelerator --minutes 12` measures these, in order of worth, and adds to the
tables of its device each time it is called. Each part is run once. Compilation includes tracing; a
training run's seconds are without it. Numbers of small sizes ("toy") only show that the script
works: nothing can be concluded from them.
""".strip()


def number(value: Any) -> str:
    """A value as text; large numbers with a comma between thousands."""
    if isinstance(value, int | float) and abs(value) >= 1_000:
        return f"{value:,.0f}"
    return rl.plot.number(value)


def correlations(rows: Iterable[Row]) -> str:
    """Rank correlations of the measured times with both bounds; "" of fewer than three programs."""
    found = [row for row in rows if "measured_ms" in row]
    if len(found) < 3:
        return ""
    measured = [row["measured_ms"] for row in found]
    values = []
    for bound in ("fastest_ms", "slowest_ms"):
        result: Any = scipy.stats.spearmanr([row[bound] for row in found], measured)
        values.append(f"{result.statistic:.2f}")
    return (
        f"Spearman's rank correlation with the measured times of {len(found)} programs: "
        f"{values[0]} of the bound with CUDA graphs, {values[1]} of that without."
    )


def table(stage: Stage, rows: list[Row]) -> list[str]:
    """Lines of a table: a row per part, or the reason why it has no numbers."""
    if len(reasons := {row.get("skipped", "") for row in rows}) == 1 and (reason := reasons.pop()):
        return [f"Left out: {reason}."]
    names = list(rows[0]["part"])
    columns = {"compile_seconds": "compilation, s", "run_seconds": "run, s"} | stage.columns
    if any("peak_gb" in row for row in rows):
        columns["peak_gb"] = "peak memory of the process so far, GB"
    lines = [
        "| " + " | ".join([*names, *columns.values()]) + " |",
        "|---" * len(names) + "|---:" * len(columns) + "|",
    ]
    for row in rows:
        reason = row.get("error") or row.get("skipped")
        cells = [number(row["part"].get(name, "")) for name in names]
        if reason:
            cells += [reason.replace("|", "\\|")] + [""] * (len(columns) - 1)
        else:
            cells += [number(row.get(name, "")) for name in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(rows: list[Row]) -> str:
    """Markdown page of a record: a section per device and size, a table per stage."""
    lines = ["# Measurements on accelerators", "", INTRO, ""]
    for (device, size), own in grouped(rows, "device", "size").items():
        days, versions = (sorted({row[name] for row in own}) for name in ("day", "jax"))
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        mark = "" if size == "full" else f", {size} sizes"
        lines += [f"## {device}{mark}", "", f"jax {', '.join(versions)}, {when}.", ""]
        by_stage = grouped(own, "stage")
        for name, stage in STAGES.items():
            if (name,) not in by_stage:
                continue
            found = by_stage[name,]
            lines += [f"### {stage.title}", "", *table(stage, found), ""]
            if text := correlations(found):
                lines += [text, ""]
    return "\n".join(lines)


def grouped(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some fields, in the order of the first of each."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def picture(rows: list[Row]) -> Any:
    """Steps per second by members, times of recurrent cells, and measured times by their bounds.

    Toy sizes are drawn only where there is nothing else.
    """
    panels = rl.plot.Picture(figsize=(14, 4), layout="constrained")
    speed, cells, bounds = panels.subplots(1, 3)
    done = [row for row in rows if "run_seconds" in row]
    done = [row for row in done if row["size"] == "full"] or done
    style = itertools.cycle(zip(rl.plot.MARKERS, rl.plot.COLORS, strict=False))
    for (device, size), own in grouped(done, "device", "size").items():
        where = device if size == "full" else f"{device}, {size}"
        for name, found in grouped(own, "stage").items():
            marker, color = next(style)
            look = {"marker": marker, "color": color, "label": f"{name[0]}, {where}"}
            _draw(speed, found, "seeds", "steps_per_second", look)
            if name == ("roofline",):
                pairs = [(row["slowest_ms"], row["measured_ms"]) for row in found]
                bounds.plot(*zip(*pairs, strict=True), linestyle="none", **look)
            if name == ("memories",):
                labels = ["{cell}, {length:,} x {batch}".format(**row["part"]) for row in found]
                times = [row["milliseconds"] for row in found]
                cells.plot(times, labels, linestyle="none", **look)
    speed.set(xscale="log", yscale="log", xlabel="members", ylabel="environment steps per second")
    cells.set(xscale="log", xlabel="ms per update", title="cell, length x sequences")
    bounds.set(xscale="log", yscale="log", xlabel="lower bound, ms", ylabel="measured, ms")
    for axes in (speed, cells, bounds):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
    return panels


def _draw(axes: Any, rows: list[Row], x: str, y: str, look: dict[str, Any]) -> None:
    """Draw a line through the rows that have both numbers."""
    points = sorted((row["part"][x], row[y]) for row in rows if x in row["part"] and y in row)
    if points:
        axes.plot(*zip(*points, strict=True), **look)


def summary(stage: Stage, measured: Measured) -> str:
    """The measurements of a part in one line."""
    named = [f"{number(measured[name])} {title}" for name, title in stage.columns.items()]
    spent = "compiled in {compile_seconds:.1f} s, ran {run_seconds:.2f} s".format(**measured)
    return "; ".join([*named, spent])


def part_name(part: dict[str, Any]) -> str:
    """A part in one line."""
    return ", ".join(f"{name} {number(value)}" for name, value in part.items())


def as_json(rows: list[Row]) -> str:
    """A record with one line per part."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
