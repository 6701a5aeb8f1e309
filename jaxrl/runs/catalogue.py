"""A catalogue of studies, of this year and of years ago: the folders and records below a root,
found by what was run.

What lies there may be a stranger's: JSON and netCDF are all that is read, within bounds, and none
of it is run. A study that can't be read is listed with the reason.
"""

import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from jaxrl import algorithms, stats, tree
from jaxrl.sweep import load, lookup, provenance, store

COLUMNS = (
    *(
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
    ),
    *("best", "date", "commit", "note"),
)
MARKS = (b'"run"', b'"versions"', b'"machine"')  # of a JSON file that is a record
SMALL = 2**26  # bytes: longer JSON files are passed over
DEPTH = 8  # folders below the root
BEGINNINGS = ("commit", "date")  # what is asked for by how it begins
GIVEN = (
    "network",
    "optimizer",
    "schedule",
    "memory",
)  # fields that any algorithm may be given another of


def runs(root: str | os.PathLike[str] = ".", *, name: str = "return", **where: Any) -> pd.DataFrame:
    """A row for each study below `root`, newest first: a sweep's folder, or a record in one file.

    where: what was run, by column or by the name of any field or axis: `runs("runs",
    env="CartPole-v1", lr=3e-4)`; an axis
      holds each of its values, and a commit or date each of its beginnings, `date="2026-11"`. A
      field that is called as an argument here has a longer name: `**{"env.name": "ant"}`. name:
      which variable is the score.

    Columns: `score`, `low` and `high` are the interquartile mean of the final `name` over seeds
    with its 95 % bootstrap interval, at the setting `best`: where a study has several settings that
    is the best of them, judged by these very seeds, and so looks better than it is. `note` says
    what is amiss or missing, such as the interval of too few seeds. A study's results are
    `rl.load(row.folder)`.

    Raises:
      FileNotFoundError: there is no such root.
      ValueError: no study has a field of that name.
    """
    root = pathlib.Path(root).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: name the directory that holds your runs.")
    rows, known = [], set()
    for path in _studies(root):
        try:
            record = store.read_record(path)
            row, fields = _row(path, record), _fields(record)
            known |= set(fields)
            if all(_holds(row, fields, key, value) for key, value in where.items()):
                score = _score(path, row, name)
                rows.append(
                    row
                    | score
                    | {"note": "; ".join(filter(None, (row["note"], score.get("note"))))}
                )
        except Exception as error:  # what a stranger wrote may be wrong in any way
            rows.append({"folder": path, "note": f"broken: {_short(error)}"})
    for key in where:
        if known and not any(_ends(field, key) for field in (*COLUMNS, *known)):
            names = [*COLUMNS, *known, *(field.rpartition(".")[2] for field in known)]
            raise ValueError(f"no study here has a field {key!r}; {tree.nearest(key, names)}.")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(
        "date", ascending=False, na_position="last", kind="stable"
    ).reset_index(drop=True)


def _studies(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders with a sweep.json and the files that look like records, without what lies in a
    sweep's folder.
    """
    if root.is_file():
        yield root
        return
    for home, inner, files in os.walk(root):
        here = pathlib.Path(home)
        if "sweep.json" in files:
            inner.clear()
            yield here
            continue
        inner[:] = (
            sorted(name for name in inner if not name.startswith("."))
            if len(here.relative_to(root).parts) < DEPTH
            else []
        )
        yield from (
            here / name
            for name in sorted(files)
            if name.endswith(".json") and _is_record(here / name)
        )


def _is_record(path: pathlib.Path) -> bool:
    try:
        text = path.read_bytes() if path.is_file() and path.stat().st_size <= SMALL else b""
    except OSError:
        return False
    return (
        all(mark in text for mark in MARKS)
        and text.lstrip()[:1] == b"{"
        and (b'"labels"' in text or b'"seed"' in text)
    )


# ------------------------------------------------------------------------------------- what was run


def _row(path: pathlib.Path, record: dict[str, Any]) -> dict[str, Any]:
    run, sizes = record["run"], {name: len(label) for name, label in record["labels"].items()}
    members, seeds = math.prod(sizes.values()), sizes.get("seed", 1)
    done = members if path.is_file() else _done(path, record)
    lacks = (
        ""
        if can_rerun(path, record) or "function" in run
        else "no recipe: rerun needs its training"
    )
    return {
        "folder": path,
        "algorithm": str(
            record.get("algorithm")
            or str(record.get("row", "")).partition(" ")[0]
            or algorithm_of(run)
        )[:60],
        "env": env_of(run)[:60],
        "steps": run["steps"]
        if type(run.get("steps")) is int and abs(run["steps"]) < 2**63
        else None,
        "settings": members // max(seeds, 1),
        "seeds": seeds,
        "done": done,
        "members": members,
        "finished": path.is_file() or (path / store.RESULTS).exists(),
        "date": str(record.get("started", ""))[:40],
        "commit": str(record.get("commit", "unknown"))[:60],
        "note": lacks,
    }


def can_rerun(path: pathlib.Path, record: dict[str, Any]) -> bool:
    """Whether a member can be trained again from the record alone: each group of static values
    keeps its own recipe.
    """
    if "groups" not in record:
        return "recipe" in record
    try:
        return any(
            "recipe" in lookup.in_group(path, record, group) for group in record["groups"][:1]
        )
    except (ValueError, FileNotFoundError):  # a file without its groups, or a folder without theirs
        return False


def _done(folder: pathlib.Path, record: dict[str, Any]) -> int:
    """How many members the finished chunks hold, those of all groups together."""
    homes = [folder / str(group) for group in record["groups"]] if "groups" in record else [folder]
    places = ((i, chunk) for i, home in enumerate(homes) for chunk in store.chunk_names(home))
    total = 0
    for _, chunks in itertools.groupby(places, key=lambda place: place[0]):
        end = 0
        for _, (first, last) in chunks:
            total, end = total + max(last - max(first, end), 0), max(end, last)
    return total


def algorithm_of(run: dict[str, Any]) -> str:
    """The maker of such an algorithm, `ppo`; of several that differ in numbers alone, "a2c or
    reinforce"; where none makes its like, the name of its type; of a function, its own.
    """
    if "algo" not in run:
        return str(run.get("function", "unknown")).rpartition(".")[2]
    made = {name: provenance.describe(maker()) for name, maker in algorithms.PRESETS.items()}
    apart = {
        name: _apart(one, run["algo"])
        for name, one in made.items()
        if _types(one) == _types(run["algo"])
    }
    nearest = [name for name, number in apart.items() if number == min(apart.values())]
    return " or ".join(nearest) or str(run["algo"].get("type", "unknown"))


def _types(described: Any) -> Any:
    """What a description is made of: the types of its parts, but for what any algorithm may be
    given.
    """
    if not isinstance(described, dict):
        return None
    own = {
        key: _types(value)
        for key, value in described.items()
        if key not in ("network", "optimizer", "schedule", "memory")
    }
    return described.get("type"), {key: types for key, types in own.items() if types is not None}


def _apart(one: Any, other: Any) -> int:
    """How many switches differ, which are on or off, and numbers, which are there or not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return sum(_apart(one[key], other[key]) for key in one.keys() & other.keys())
    return int(one != other and (one is None or other is None or isinstance(one, bool)))


def env_of(run: dict[str, Any]) -> str:
    """The name of the environment that a training was on, gymnax's and brax's own, or that of the
    type; and its wrappers: "Pendulum-v1 in Observe".
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


def _fields(record: dict[str, Any]) -> dict[str, list[Any]]:
    """Each field of what was run by its path, with its value, or all of an axis's."""
    fields: dict[str, list[Any]] = {}

    def look(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                look(item, f"{path}.{key}" if path else str(key))
        else:
            fields[path] = [value]

    look(record["run"], "")
    axes = dict(record["labels"]) | {
        name: label for name, (_, label) in record.get("coordinates", {}).items()
    }
    for name, label in axes.items():
        for path in [path for path in fields if _ends(path, name)] or [name]:
            fields[path] = list(label)
    return fields


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _holds(row: dict[str, Any], fields: dict[str, list[Any]], name: str, value: Any) -> bool:
    if name in BEGINNINGS and row[name].startswith(str(value)):
        return True
    found = [row[name], *re.split(" or | in ", str(row[name]))] if name in row else []
    found += [x for path, values in fields.items() if _ends(path, name) for x in values]
    return any(_equal(x, value) for x in found)


def _equal(found: Any, value: Any) -> bool:
    if (
        isinstance(found, bool)
        or isinstance(value, bool | str)
        or not isinstance(found, int | float)
    ):
        return str(found) == str(value)
    return bool(np.isclose(found, value, rtol=1e-6, atol=0))


# ---------------------------------------------------------------------------------------- its score


def _score(path: pathlib.Path, row: dict[str, Any], name: str) -> dict[str, Any]:
    if not row["finished"]:
        return {"note": f"{row['done']:,} of {row['members']:,} members are done"}
    results = load(path)
    if name not in results or "seed" not in results[name].dims:
        return {"note": f"has no {name!r} over seeds"}
    scores, best = best_setting(results, name)
    known = int(scores.notnull().sum())
    told = {"best": ", ".join(f"{key}={value}" for key, value in best.items())}
    if few := stats.too_few(known):
        return told | {"score": float(stats.iqm(scores.values)), "note": few}
    return told | dict(
        zip(("score", "low", "high"), map(float, stats.interval(scores.values)), strict=True)
    )


def best_setting(results: xr.Dataset, name: str = "return") -> tuple[xr.DataArray, dict[str, Any]]:
    """The final scores of the setting with the highest interquartile mean, [seed], and its
    labels.
    """
    final = stats.final(results, name, "seed").transpose(..., "seed")
    final = final.where(np.isfinite(final)).astype(float)
    means = np.nan_to_num(np.asarray(stats.iqm(final.values)), nan=-np.inf)
    axes = [axis for axis in final.dims if axis != "seed"]
    place = dict(zip(axes, np.unravel_index(means.argmax(), means.shape), strict=True))
    chosen = final.isel({axis: int(i) for axis, i in place.items()})
    return chosen.reset_coords(drop=True), {
        str(key): c.values.item() for key, c in chosen.coords.items() if c.ndim == 0
    }


def _short(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 200 else f"{text[:197]}..."


# ------------------------------------------------------------------------------------- side by side


def compare(
    a: str | os.PathLike[str] | stats.Results,
    b: str | os.PathLike[str] | stats.Results,
    name: str = "return",
    *,
    allow: Sequence[str] = (),
    **where: Any,
) -> stats.Comparison:
    """`stats.compare` of two studies: the final `name` of each, their difference, how often the
    first is the better.

    a, b: folders, records or results. where: the setting of each, for those of its axes that have
    several values. allow: what may differ, of `stats.obstacles`, because it is what you study.

    Raises:
      ValueError: what would make the comparison misleading; an axis of several values without its
        label; one of neither.
    """
    sides = [x if isinstance(x, xr.Dataset | xr.DataArray) else load(x) for x in (a, b)]
    axes = [str(axis) for results in sides for axis in results.dims]
    if unknown := [axis for axis in where if axis not in axes]:
        raise ValueError(
            f"neither study was swept over {unknown[0]!r}; {tree.nearest(unknown[0], axes)}."
        )
    first, second = (_one_setting(results, name, where) for results in sides)
    return stats.compare(first, second, name, allow=allow)


def _one_setting(results: Any, name: str, where: dict[str, Any]) -> Any:
    """A study's results at one setting."""
    for axis, value in where.items():
        if axis in results.dims:
            labels = results[axis].values
            numbers = labels.dtype.kind in "iuf" and not isinstance(value, str)
            found = np.flatnonzero(
                np.isclose(labels, value, rtol=1e-6, atol=0.0) if numbers else labels == value
            )
            if not len(found):
                raise ValueError(
                    f"{axis}={value} was not swept; its values are {labels[:12].tolist()}."
                )
            results = results.isel({axis: int(found[0])})
    array = stats.pick(results, name, "seed")
    open_axes = [
        str(axis) for axis, size in array.sizes.items() if size > 1 and axis not in ("seed", "step")
    ]
    if open_axes:
        shown = " ".join(
            f"{axis}={array[axis].values[0]}" for axis in open_axes if axis in array.coords
        )
        raise ValueError(
            f"{name!r} has several settings along {', '.join(open_axes)}: choose one for each, "
            f"say {shown}."
        )
    return results.squeeze(
        [axis for axis in results.dims if axis not in ("seed", "step") and results.sizes[axis] == 1]
    )
