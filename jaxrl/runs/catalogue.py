"""The studies below a directory (folders of sweeps and records), as a table and compared.

Files may be untrusted: only JSON and netCDF are read, within limits of size, and nothing is
executed. A study that cannot be read is listed with the reason.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl import stats
from jaxrl.errors import as_path, nearest
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.sweep import load, lookup, provenance, store

Record = dict[str, Any]  # the reproducibility card of a sweep

COLUMNS = (
    "folder",
    "algorithm",
    "env",
    "steps",
    "settings",
    "seeds",
    "done",
    "members",
    "finished",
    "score",
    "low",
    "high",
    "best",
    "date",
    "commit",
    "note",
)
RECORD_KEYS = (b'"run"', b'"versions"', b'"machine"')  # which every record contains
MAX_BYTES = 2**26  # longer JSON files are skipped
MAX_DEPTH = 8  # directories below the root
PREFIX_COLUMNS = ("commit", "date")  # columns that also match by a prefix
MAX_LENGTH = {"algorithm": 60, "env": 60, "date": 40, "commit": 60}  # characters of a cell


def runs(root: str | os.PathLike[str] = ".", *, name: str = "return", **where: Any) -> pd.DataFrame:
    """A table of the studies below `root`, newest first: folders of sweeps, and records.

    Args:
      root: the directory to search, or one record.
      name: the variable, the final value of which is the score.
      where: conditions on columns, or on any field or axis of what was run:
        `runs("runs", env="CartPole-v1", lr=3e-4)`. An axis matches by any of its values, a commit
        or a date also by a prefix, `date="2026-11"`. A field with the name of an argument here is
        written with more of its path: `**{"env.name": "ant"}`.

    Returns:
      A row for each study. `score`, `low` and `high` are the interquartile mean of the final `name`
      over seeds with its 95 % bootstrap interval, at the setting `best`. Of several settings that
      is the best on the same seeds, so that its score is biased upwards. `note` says what is broken
      or missing, such as the interval of too few seeds. `rl.load(row.folder)` returns the results.

    Raises:
      FileNotFoundError: `root` does not exist.
      ValueError: no study has a field that `where` names.
    """
    root = as_path(root, "root")
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: write the directory of your runs.")
    rows: list[dict[str, Any]] = []
    known_fields: set[str] = set()
    for path in _find_studies(root):
        try:
            record = store.read_record(path)
            row, fields = _row(path, record), _fields(record)
            known_fields |= set(fields)
            if all(_matches(row, fields, key, value) for key, value in where.items()):
                score = _score(path, row, name)
                notes = [note for note in (row["note"], score.get("note")) if note]
                rows.append(row | score | {"note": "; ".join(notes)})
        except Exception as error:  # an untrusted file may be wrong in any way
            rows.append({"folder": path, "note": f"broken: {_one_line(error)}"})
    for key in where:
        if known_fields and not any(_is_path(field, key) for field in (*COLUMNS, *known_fields)):
            last_parts = [field.rpartition(".")[2] for field in known_fields]
            closest = nearest(key, [*COLUMNS, *known_fields, *last_parts])
            raise ValueError(f"no study here has a field {key!r}; {closest}.")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.sort_values("date", ascending=False, na_position="last", kind="stable")
    return table.reset_index(drop=True)


def _find_studies(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders with a sweep.json, and files elsewhere that look like records."""
    if root.is_file():
        yield root
        return
    for directory, subdirectories, files in os.walk(root):
        path = pathlib.Path(directory)
        if "sweep.json" in files:
            subdirectories.clear()
            yield path
            continue
        deep = len(path.relative_to(root).parts) >= MAX_DEPTH
        subdirectories[:] = sorted(
            name for name in subdirectories if not name.startswith(".") and not deep
        )
        for name in sorted(files):
            if name.endswith(".json") and _is_record(path / name):
                yield path / name


def _is_record(path: pathlib.Path) -> bool:
    """True for a file that looks like a record, without parsing it."""
    try:
        text = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_BYTES else b""
    except OSError:
        return False
    return (
        all(key in text for key in RECORD_KEYS)
        and text.lstrip()[:1] == b"{"
        and (b'"labels"' in text or b'"seed"' in text)
    )


# --------------------------------------------------------------------------- contents of a record


def _row(path: pathlib.Path, record: Record) -> dict[str, Any]:
    """The columns of a study that its record contains, without the score."""
    run = record["run"]
    sizes = {name: len(labels) for name, labels in record["labels"].items()}
    members, seeds = math.prod(sizes.values()), sizes.get("seed", 1)
    steps = run.get("steps")
    is_trainable = can_rerun(path, record) or "function" in run
    row = {
        "folder": path,
        "algorithm": algorithm_name(record),
        "env": env_name(run),
        "steps": steps if type(steps) is int and abs(steps) < 2**63 else None,
        "settings": members // max(seeds, 1),
        "seeds": seeds,
        "done": members if path.is_file() else _num_done(path, record),
        "members": members,
        "finished": path.is_file() or (path / store.RESULTS).exists(),
        "date": str(record.get("started", "")),
        "commit": _commit(record),
        "note": "" if is_trainable else "no recipe: rerun needs its training",
    }
    return row | {name: row[name][:length] for name, length in MAX_LENGTH.items()}


def _commit(record: Record) -> str:
    """The commit of the project that a study belongs to, or else that of the kit."""
    known = [str(record.get(name, "unknown")) for name in reversed(provenance.SOURCES)]
    return next((commit for commit in known if commit != "unknown"), "unknown")


def can_rerun(path: pathlib.Path, record: Record) -> bool:
    """True if members can be trained again from the record alone.

    Each group of static values has its recipe.
    """
    if "groups" not in record:
        return "recipe" in record
    try:
        groups = [lookup.in_group(path, record, group) for group in record["groups"][:1]]
        return any("recipe" in group for group in groups)
    except (ValueError, FileNotFoundError):  # the groups' own records are missing
        return False


def _num_done(folder: pathlib.Path, record: Record) -> int:
    """Number of members in finished chunks, of all groups."""
    groups = [folder / str(group) for group in record["groups"]] if "groups" in record else [folder]
    total = 0
    for group in groups:
        end = 0
        for first, last in store.chunk_names(group):
            total, end = total + max(last - max(first, end), 0), max(end, last)
    return total


def algorithm_name(record: Record) -> str:
    """The name of the algorithm that was trained; of one without a name its type, or a function."""
    row = str(record.get("row", "")).partition(" ")[0]  # of the zoo
    run = record["run"]
    if "algo" not in run:
        return str(run.get("function", "unknown")).rpartition(".")[2]
    return str(record.get("algorithm") or row or run["algo"].get("type", "unknown"))


def env_name(run: dict[str, Any]) -> str:
    """The name of the environment and its wrappers: "Pendulum-v1 in Observe".

    It is that of gymnax or brax, or else the name of the type.
    """
    env, wrappers = run.get("env", {}), []
    while isinstance(env, dict) and isinstance(env.get("env"), dict):
        wrappers.insert(0, f" in {env.get('type')}")
        env = env["env"]
    if not isinstance(env, dict):
        return str(env)
    source, name = env.get("source"), str(env.get("type", ""))
    if isinstance(source, list) and source:
        name = str(source[0])
    elif "backend" in env and "name" in env:
        name = f"brax:{env['name']}"
    return name + "".join(wrappers)


def _fields(record: Record) -> dict[str, list[Any]]:
    """Path and values of each field of what was run: one value, or all those of its axis."""
    fields: dict[str, list[Any]] = {}

    def collect(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}.{key}" if path else str(key))
        else:
            fields[path] = [value]

    collect(record["run"], "")
    coordinates = {name: labels for name, (_, labels) in record.get("coordinates", {}).items()}
    for name, labels in (dict(record["labels"]) | coordinates).items():
        for path in [path for path in fields if _is_path(path, name)] or [name]:
            fields[path] = list(labels)
    return fields


def _is_path(path: str, name: str) -> bool:
    """True if `name` is the path of a field, or its end."""
    return path == name or path.endswith(f".{name}")


def _matches(row: dict[str, Any], fields: dict[str, list[Any]], name: str, value: Any) -> bool:
    """True if the column or a field `name` of a study has this value."""
    if name in PREFIX_COLUMNS and row[name].startswith(str(value)):
        return True
    found = [row[name], *re.split(" or | in ", str(row[name]))] if name in row else []
    found += [x for path, values in fields.items() if _is_path(path, name) for x in values]
    return any(_equal(x, value) for x in found)


def _equal(found: Any, value: Any) -> bool:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if isinstance(value, bool | str) or not is_number:
        return str(found) == str(value)
    return bool(np.isclose(found, value, rtol=1e-6, atol=0))


# -------------------------------------------------------------------------------------- the score


def _score(path: pathlib.Path, row: dict[str, Any], name: str) -> dict[str, Any]:
    """The columns score, low, high and best of a study, or a note in their place."""
    if not row["finished"]:
        return {"note": f"{row['done']:,} of {row['members']:,} runs have finished"}
    results = load(path)
    if name not in results or "seed" not in results[name].dims:
        return {"note": f"has no {name!r} over seeds"}
    try:
        stats.check_replicates(results[name], "seed")
    except ValueError as error:
        return {"note": str(error)}
    scores, best = best_setting(results, name)
    labels = ", ".join(f"{key}={value}" for key, value in best.items())
    notes = [f"{lost} diverged" for lost in [_num_diverged_at(results, best)] if lost]
    if note := stats.too_few(int(scores.notnull().sum())):
        note = "; ".join([note, *notes])
        return {"best": labels, "score": float(stats.iqm(scores.values)), "note": note}
    score, low, high = map(float, stats.interval(scores.values))
    return {"best": labels, "score": score, "low": low, "high": high, "note": "; ".join(notes)}


def _num_diverged_at(results: xr.Dataset, labels: dict[str, Any]) -> int:
    """The number of members of one setting that diverged."""
    if "diverged" not in results or "seed" not in results["diverged"].dims:
        return 0
    at = {axis: label for axis, label in labels.items() if axis in results["diverged"].dims}
    return int(stats.num_diverged(results.sel(at), "seed", ()))


def best_setting(results: xr.Dataset, name: str = "return") -> tuple[xr.DataArray, dict[str, Any]]:
    """Final scores [seed] and labels of the setting with the highest interquartile mean.

    Diverged runs count as the lowest in this choice.
    """
    final = stats.final(results, name, "seed").transpose(..., "seed")
    final = final.where(np.isfinite(final)).astype(float)
    ranked = stats.final_of_sound(results, name, "seed").transpose(*final.dims)
    flat = (-1, final.sizes["seed"])
    order = stats.ranking(final.values.reshape(flat), np.isneginf(ranked.values).reshape(flat))
    axes = [axis for axis in final.dims if axis != "seed"]
    place = np.unravel_index(order[0], [final.sizes[axis] for axis in axes])
    index = dict(zip(axes, place, strict=True))
    best = final.isel({axis: int(i) for axis, i in index.items()})
    labels = {str(key): c.values.item() for key, c in best.coords.items() if c.ndim == 0}
    return best.reset_coords(drop=True), labels


def _one_line(error: BaseException) -> str:
    """The type and message of an error, at most 200 characters."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 200 else f"{text[:197]}..."


# --------------------------------------------------------------------------------------- comparison


def compare(
    a: str | os.PathLike[str] | xr.Dataset | xr.DataArray,
    b: str | os.PathLike[str] | xr.Dataset | xr.DataArray,
    name: str = "return",
    *,
    allow: Sequence[str] = (),
    **where: Any,
) -> stats.Comparison:
    """Comparison of the final `name` of two studies, by `stats.compare`.

    Args:
      a, b: folders, records or results.
      name: the variable, the final value of which is the score.
      allow: kinds of `stats.obstacles` that are intended, because they are what you study.
      where: the setting, for axes with several values.

    Raises:
      ValueError: the comparison would be misleading, an axis with several values has no label in
        `where`, or `where` names an axis of neither study.
    """
    sides = [
        x if isinstance(x, xr.Dataset | xr.DataArray) else load(x, running=False) for x in (a, b)
    ]
    axes = [str(axis) for results in sides for axis in results.dims]
    if unknown := [axis for axis in where if axis not in axes]:
        raise ValueError(
            f"neither study was swept over {unknown[0]!r}; {nearest(unknown[0], axes)}."
        )
    first, second = (_one_setting(results, name, where) for results in sides)
    return stats.compare(first, second, name, allow=allow)


def select(results: stats.Results, where: Mapping[str, Any]) -> stats.Results:
    """The results at labels of axes, numbers as nearly as they are written.

    Raises:
      ValueError: an axis that is not there, or a label that it does not have.
    """
    for axis, value in where.items():
        if axis not in results.dims:
            raise ValueError(f"{axis!r} was not swept; {nearest(axis, map(str, results.dims))}.")
        labels = results[axis].values
        are_numbers = labels.dtype.kind in "iuf" and not isinstance(value, str)
        equal = np.isclose(labels, value, rtol=1e-6, atol=0.0) if are_numbers else labels == value
        if not np.any(equal):
            raise ValueError(
                f"{axis}={value} was not swept; its values are {labels[:12].tolist()}."
            )
        results = results.isel({axis: int(np.flatnonzero(equal)[0])})
    return results


def _one_setting(results: stats.Results, name: str, where: dict[str, Any]) -> stats.Results:
    """The results at the setting `where`; ValueError if it is not there or not a single one."""
    results = select(results, {axis: x for axis, x in where.items() if axis in results.dims})
    sizes = stats.pick(results, name, "seed").sizes
    if swept := [
        str(axis) for axis, size in sizes.items() if size > 1 and axis not in ("seed", "step")
    ]:
        example = " ".join(
            f"{axis}={results[axis].values[0]}" for axis in swept if axis in results.coords
        )
        raise ValueError(
            f"{name!r} has several settings along {', '.join(swept)}: select one of each, for "
            f"example {example}."
        )
    return results.squeeze(
        [axis for axis in results.dims if axis not in ("seed", "step") and results.sizes[axis] == 1]
    )
