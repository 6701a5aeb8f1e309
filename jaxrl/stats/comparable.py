"""Checks that two results are comparable: seeds, budgets, environments, simulators, evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl.errors import refuse_former_names
from jaxrl.lazy import pandas as pd
from jaxrl.lazy import xarray as xr
from jaxrl.stats.of_sweeps import Results, final, has_diverged, pick

# seeds: 95 % intervals of 3 normal scores cover the true value in 74 % of cases, of 5 in 88 %, of
# 10 in 93 %
MIN_SEEDS = 5
TOLERANCE = 0.01  # relative difference of budgets: the last, incomplete update is left out
MAX_SHOWN = 4  # fields of one kind
# packages with environments, and a word that the descriptions of these contain
KINDS = ("seeds", "diverged", "budget", "environment", "simulator", "evaluation")
SIMULATORS = {"gymnax": "gymnax", "brax": "brax", "mujoco": "mjx"}


@refuse_former_names
def obstacles(
    a: Results,
    b: Results,
    name: str = "return",
    *,
    over: str = "seed",
    last: int = 1,
    min_seeds: int = MIN_SEEDS,
) -> list[str]:
    """Reasons why comparing the final `name` of two results would be misleading, one per line.

    Args:
      a, b: results of one setting each, `results.sel(lr=1e-3)`. The label of an axis counts as the
        value of its field.
      over: the axis of the replicates.
      last: the number of last evaluation points that are averaged.
      min_seeds: the number of seeds below which a comparison is misleading.

    Returns:
      A line for each reason, none if there is none. A line begins with its kind: `seeds` (members
      without a value, or fewer than `min_seeds`), `diverged` (members that diverged, the scores of
      which say nothing about a policy), `budget` (environment steps that differ by more
      than 1 %), `environment` (any of its fields), `simulator` (versions of the packages that
      simulate it) or `evaluation` (the numbers of episodes and evaluation points of a score). What
      is not recorded is not compared: a DataArray has no record, and that of a function has only
      its steps.
    """
    lines = [
        *_seed_obstacles(a, "first", name, over, last, min_seeds),
        *_seed_obstacles(b, "second", name, over, last, min_seeds),
        *_diverged_obstacles(a, "first", over),
        *_diverged_obstacles(b, "second", over),
    ]
    first, second = _protocol(a, name), _protocol(b, name)
    for kind in ("budget", "environment", "simulator", "evaluation"):
        if kind not in first or kind not in second:
            continue
        old, new = first[kind], second[kind]
        if kind == "simulator":  # only packages that both records have
            common = old.keys() & new.keys()
            old, new = ({package: side[package] for package in common} for side in (old, new))
        differences = _differences(old, new)
        num_hidden = len(differences) - MAX_SHOWN
        more = [f"and {num_hidden} more fields"] if num_hidden > 0 else []
        lines += [f"{kind}: {line}" for line in differences[:MAX_SHOWN] + more]
    return lines


def check_comparable(
    a: Results, b: Results, name: str = "return", *, allow: Sequence[str] = (), **options: Any
) -> None:
    """Raise an error if comparing two results would be misleading.

    allow: kinds of `obstacles` that are intended. options: other arguments of `obstacles`.

    Raises:
      ValueError: there are other obstacles, which it lists, or an unknown kind is allowed.
    """
    if unknown := [kind for kind in allow if kind not in KINDS]:
        raise ValueError(f"allow={allow!r} names {unknown[0]!r}; known are {', '.join(KINDS)}.")
    kinds_and_lines = [(line.split(":")[0], line) for line in obstacles(a, b, name, **options)]
    if found := [(kind, line) for kind, line in kinds_and_lines if kind not in allow]:
        listed = "\n  ".join(line for _, line in found)
        kinds = tuple(dict.fromkeys(kind for kind, _ in found))
        raise ValueError(
            f"Comparing these two results would be misleading:\n  {listed}\nRun both in the same "
            f"way, or write allow={kinds!r} if the difference is what you study."
        )


def too_few(seeds: int, min_seeds: int = MIN_SEEDS) -> str:
    """A note in place of the interval of so few seeds; empty if they are enough."""
    return f"too few seeds for an interval ({seeds})" if seeds < min_seeds else ""


def mark_too_few(table: pd.DataFrame) -> pd.DataFrame:
    """A `table` for display: a note as `low` and no `high` where there are too few `seeds`."""
    notes = [too_few(seeds) for seeds in table["seeds"]]
    if not any(notes):
        return table
    low = [note or low for note, low in zip(notes, table["low"], strict=True)]
    high = ["" if note else high for note, high in zip(notes, table["high"], strict=True)]
    return table.assign(low=low, high=high)


def _seed_obstacles(
    results: Results, title: str, name: str, over: str, last: int, min_seeds: int
) -> list[str]:
    array = final(results, name, over, last)
    known = np.isfinite(array.transpose(over, ...).values).reshape(array.sizes[over], -1).all(1)
    num_missing, total = int((~known).sum()), known.size
    lines = []
    if num_missing:
        missing = ", ".join(map(str, array[over].values[~known][:5]))
        missing += ", ..." if num_missing > 5 else ""
        lines.append(
            f"seeds: {num_missing} of the {title}'s {total} have no {name!r} at the end "
            f"({over} {missing})"
        )
    num_known = total - num_missing
    if num_known < min_seeds:
        note = too_few(num_known, min_seeds)
        lines.append(f"seeds: the {title} has {note}; use at least {min_seeds}")
    return lines


def _diverged_obstacles(results: Results, title: str, over: str) -> list[str]:
    if not isinstance(results, xr.Dataset) or "diverged" not in results:
        return []
    diverged = has_diverged(results, (over,))
    if over not in diverged.dims or not diverged.any():
        return []
    listed = results[over].values[diverged.values]
    shown = ", ".join(map(str, listed[:5])) + (", ..." if len(listed) > 5 else "")
    return [
        f"diverged: {len(listed)} of the {title}'s {diverged.size} diverged ({over} {shown}); "
        "their scores count if this is allowed"
    ]


def _protocol(results: Results, name: str) -> dict[str, Any]:
    """What a record contains of each kind of obstacle, with the labels of axes in their fields."""
    array, record = pick(results, name), _record(results)
    labels = {str(key): c.item() for key, c in results.coords.items() if c.ndim == 0}
    run, versions = record.get("run", {}), record.get("versions", {})
    for key, label in labels.items():
        run = _put(run, key.split("."), record.get("static", {}), label)
    protocol: dict[str, Any] = {}
    if "step" in array.coords:
        protocol["budget"] = {"environment steps": int(np.max(array["step"].values))}
    if run.get("type") != "Training":
        return protocol
    if "budget" in protocol and not np.isinf(float(run.get("stop_after", "inf"))):
        steps = min(protocol["budget"]["environment steps"], int(run["stop_after"]))
        protocol["budget"] = {"environment steps": steps}
    description = json.dumps(run["env"]).lower()
    simulators = {
        package: versions[package]
        for package, word in SIMULATORS.items()
        if word in description and package in versions
    }
    if simulators:
        protocol["simulator"] = simulators
    fields = ("evals", "episodes", "eval_share") if "evaluation" in name else ("evals",)
    protocol["environment"] = run["env"]
    protocol["evaluation"] = {key: run[key] for key in fields}
    return protocol


def _record(results: Results) -> dict[str, Any]:
    """The reproducibility card, from the attributes of the results.

    A finished sweep has its parts as attributes; an unfinished one has one text.
    """
    card = json.loads(results.attrs["card"]) if "card" in results.attrs else {}
    return card | {
        part: json.loads(results.attrs[part])
        for part in ("run", "versions", "static")
        if part in results.attrs
    }


def _put(described: Any, path: list[str], static: dict[str, Any], label: Any) -> Any:
    """A description with `label`, or the static value that it labels, as the field at `path`.

    path: the last parts of the field's path.
    """
    static_values = static.get(".".join(path), {})
    value = static_values.get(str(label), label) if isinstance(static_values, dict) else label

    def put(node: Any, at: list[str]) -> Any:
        if not isinstance(node, dict):
            return node
        return {
            key: value if [*at, key][-len(path) :] == path else put(child, [*at, key])
            for key, child in node.items()
        }

    return put(described, [])


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines on the fields that differ; environment steps, by more than `TOLERANCE`."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("type") != new.get("type"):
            title = f"{path}: " if path else ""
            return [f"{title}{old.get('type')} in the first, {new.get('type')} in the second"]
        # plain fields before nested ones
        keys = sorted(dict.fromkeys([*old, *new]), key=lambda key: isinstance(old.get(key), dict))
        return [
            line
            for key in keys
            for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    near = path == "environment steps" and abs(old - new) <= TOLERANCE * max(old, new)
    return [] if old == new or near else [f"{path} {old} in the first, {new} in the second"]
