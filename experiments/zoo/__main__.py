"""Command line of the zoo: train rows, store their results, make the table."""

import dataclasses
import json
import pathlib
import re
import tempfile
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from experiments.ppo_classic import (
    README,
    RESULTS,
    TASKS,
    TEST_SEEDS,
    TUNING_SEEDS,
    best_of_grid,
    fill,
    score,
)
from experiments.zoo import Row
from experiments.zoo.rows import ROWS
from jaxrl.errors import nearest


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; tests use few `seeds`, a small `scale` and another `folder`."""

    rows: tuple[str, ...] = ()
    """"algorithm env", or one of the two for all its rows (default: all rows without a result of
    their current setting)
    """
    tune: bool = False
    """sweep the grid on the tuning seeds instead"""
    seeds: int = 0
    """number of seeds (0: all)"""
    scale: float = 1.0
    """factor on the number of steps"""
    table: bool = False
    """only make the table of the existing results"""
    folder: pathlib.Path = RESULTS / "zoo"


def chosen(config: Config) -> list[Row]:
    """Rows to run.

    Raises:
      ValueError: no row has such a name.
    """
    if not config.rows:
        return [] if config.table else [row for row in ROWS if not is_known(row, config.folder)]
    for name in config.rows:
        if not any(name in (row.name, row.algorithm, row.env) for row in ROWS):
            raise ValueError(
                f"There is no row {name!r}; {nearest(name, [row.name for row in ROWS])}."
            )
    return [row for row in ROWS if {row.name, row.algorithm, row.env} & set(config.rows)]


def is_known(row: Row, folder: pathlib.Path) -> bool:
    """True if there is a result of the current setting."""
    record = read(row, folder)
    return (
        record is not None and record["setting"] == described(row) and record["steps"] == row.steps
    )


def read(row: Row, folder: pathlib.Path) -> dict[str, Any] | None:
    """Record of a row; that of `ppo_classic` if it ran the row."""
    path, classic = folder / row.file, RESULTS / "ppo_classic.json"
    if path.exists():
        return json.loads(path.read_text())
    if row.algorithm == "ppo" and row.env in TASKS:
        return json.loads(classic.read_text())[row.env] | {
            "setting": described(row),
            "steps": row.steps,
        }
    return None


def described(row: Row) -> dict[str, str]:
    """A setting as text; functions by name, without their address."""
    return {
        name: re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        for name, value in (row.setting | row.params).items()
    }


def run(row: Row, config: Config) -> dict[str, Any]:
    """Record of a row: its score on the test seeds, or of its grid on the tuning seeds."""
    seeds = np.array(TUNING_SEEDS if config.tune else TEST_SEEDS)[: config.seeds or None]
    axes = {name: jnp.array(values) for name, values in row.grid.items()} if config.tune else {}
    own = {
        "row": row.name,
        "algorithm": row.algorithm,
        "steps": row.steps,
        "setting": described(row),
    }
    with tempfile.TemporaryDirectory() as home:
        folder = pathlib.Path(home) / "sweep"
        results = rl.sweep(
            row.training(config.scale), axes | {"seed": jnp.asarray(seeds)}, folder=folder
        )
        if config.tune:
            return own | best_of_grid(results)
        # in the format that `jaxrl runs` and `jaxrl rerun` read
        record = json.loads(rl.export(folder, to="record").read_text())
    scores = {
        name: value
        for name, value in score(results).items()
        if name not in ("evaluation", "return")
    }
    return own | record | scores


def table(folder: pathlib.Path) -> str:
    """Markdown table of the rows, sorted by environment."""
    columns = (
        "environment",
        "algorithm",
        "steps",
        "greedy return, IQM [95 %]",
        "mean ± std",
        "target",
        "published",
        "s a seed",
    )
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += [
        "| " + " | ".join(cells(row, read(row, folder), folder)) + " |"
        for row in sorted(ROWS, key=lambda row: row.env)
    ]
    return "\n".join(lines)


def cells(row: Row, record: dict[str, Any] | None, folder: pathlib.Path) -> tuple[str, ...]:
    if record is None:
        return row.env, row.algorithm, f"{row.steps:,}", "not run yet", "", "", row.published, ""
    e, seconds = record["evaluation_score"], float(record["run_seconds"]) / len(record["seed"])
    stale = "" if is_known(row, folder) else " (of an earlier setting)"
    score = f"{e['iqm']:.4g} [{e['low']:.4g}, {e['high']:.4g}]{stale}"
    goal = (
        ""
        if row.target is None
        else f"{row.target:g}, {'met' if e['iqm'] >= row.target else 'missed'}"
    )
    spread, steps = f"{e['mean']:.4g} ± {e['std']:.3g}", f"{record['step'][-1]:,}"
    return row.env, row.algorithm, steps, score, spread, goal, row.published, f"{seconds:.1f}"


def main(config: Config) -> None:
    rl.use_all_cores()
    config.folder.mkdir(parents=True, exist_ok=True)
    for row in chosen(config):
        print(f"{row.name}, {'tuning' if config.tune else 'test'} seeds", flush=True)
        started = time.monotonic()
        record = run(row, config)
        path = config.folder / ("tuning-" * config.tune + row.file)
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        shown = record["rows"][:4] if config.tune else record["evaluation_score"]
        print(f"{shown}, {time.monotonic() - started:.0f} s", flush=True)
    if not config.tune:
        print(table(config.folder))
        if config.folder == RESULTS / "zoo":
            fill(README, "zoo", table(config.folder))


if __name__ == "__main__":
    main(tyro.cli(Config))
