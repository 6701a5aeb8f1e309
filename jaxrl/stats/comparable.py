"""Whether two results may be compared: what their records say of budgets, environments, simulators,
evaluations, seeds.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxrl.stats.of_sweeps import Results, final, pick

FEWEST = 5  # seeds: of 95 % intervals of 3 normal scores 74 % hold the truth, of 5 88 %, of 10 93 %
SLACK = 0.01  # the share by which budgets may differ: the last, incomplete update is left out
SHOWN = 4  # fields of one kind
SIMULATORS = {
    "gymnax": "gymnax",
    "brax": "brax",
    "mujoco": "mjx",
}  # packages that hold worlds: a word of their records


def obstacles(
    a: Results,
    b: Results,
    name: str = "return",
    *,
    over: str = "seed",
    last: int = 1,
    fewest: int = FEWEST,
) -> list[str]:
    """What makes a comparison of the final `name` of two results misleading, a line each; empty
    where nothing does.

    A line begins with its kind: `seeds` (members without a value, or fewer than `fewest`), `budget`
    (environment steps more than 1 % apart), `environment` (any field of it), `simulator` (versions
    of the packages that simulate it) or `evaluation` (how many episodes and rows a score is made
    of). Choose one setting of each first, `results.sel(lr=1e-3)`: where a field of the environment
    is an axis, its label counts. What was never recorded is no obstacle: a DataArray has no record,
    and of a function only its steps are known.

    over: the axis of the replicates. last: the last evaluation points that are averaged.
    """
    lines = [
        line
        for title, results in (("first", a), ("second", b))
        for line in _seeds(results, title, name, over, last, fewest)
    ]
    old, new = _protocol(a, name), _protocol(b, name)
    for kind in ("budget", "environment", "simulator", "evaluation"):
        if kind in old and kind in new:
            there, here = old[kind], new[kind]
            if kind == "simulator":  # records named fewer packages once
                there, here = (
                    {name: side[name] for name in there.keys() & here.keys()}
                    for side in (there, here)
                )
            apart = _differences(there, here)
            more = [f"and {len(apart) - SHOWN} more fields"] if len(apart) > SHOWN else []
            lines += [f"{kind}: {line}" for line in apart[:SHOWN] + more]
    return lines


def check_comparable(
    a: Results, b: Results, name: str = "return", *, allow: Sequence[str] = (), **options: Any
) -> None:
    """Refuses a comparison that would mislead. allow: kinds of `obstacles` that are meant to be
    there; options: theirs.

    Raises: ValueError that lists the obstacles.
    """
    if found := [
        line for line in obstacles(a, b, name, **options) if line.split(":")[0] not in allow
    ]:
        listed, kinds = (
            "\n  ".join(found),
            tuple(dict.fromkeys(line.split(":")[0] for line in found)),
        )
        raise ValueError(
            f"To compare these two would mislead:\n  {listed}\nRun both alike; or, where the "
            "difference is what you study, "
            f"write allow={kinds!r}."
        )


def too_few(seeds: int, fewest: int = FEWEST) -> str:
    """What to say in place of the interval of so few seeds; nothing where they are enough."""
    return f"too few seeds for an interval ({seeds})" if seeds < fewest else ""


def tell_few(table: pd.DataFrame) -> pd.DataFrame:
    """A `table` for the eye: where `seeds` are too few for an interval, `low` says so and `high` is
    empty.
    """
    few = [too_few(seeds) for seeds in table["seeds"]]
    if not any(few):
        return table
    low = [why or low for why, low in zip(few, table["low"], strict=True)]
    return table.assign(
        low=low, high=["" if why else high for why, high in zip(few, table["high"], strict=True)]
    )


def _seeds(results: Results, title: str, name: str, over: str, last: int, fewest: int) -> list[str]:
    array = final(results, name, over, last)
    known = np.isfinite(array.transpose(over, ...).values).reshape(array.sizes[over], -1).all(1)
    lost, total = int((~known).sum()), known.size
    lines = []
    if lost:
        which = ", ".join(map(str, array[over].values[~known][:5])) + ", ..." * (lost > 5)
        lines.append(
            f"seeds: {lost} of the {title}'s {total} have no {name!r} at the end ({over} {which})"
        )
    if total - lost < fewest:
        lines.append(
            f"seeds: the {title} has {too_few(total - lost, fewest)}; {fewest} are the fewest"
        )
    return lines


def _protocol(results: Results, name: str) -> dict[str, Any]:
    """What a record says, by kind, with the labels of what was swept in place of the fields that
    they are of.
    """
    array, record = pick(results, name), _record(results)
    labels = {str(key): c.item() for key, c in results.coords.items() if c.ndim == 0}
    run, versions = record.get("run", {}), record.get("versions", {})
    for key, label in labels.items():
        run = _put(run, key.split("."), record.get("static", {}), label)
    found: dict[str, Any] = {}
    if "step" in array.coords:
        found["budget"] = {"environment steps": int(np.max(array["step"].values))}
    if run.get("type") != "Training":
        return found
    if not np.isinf(float(run.get("stop_after", "inf"))) and "budget" in found:
        found["budget"]["environment steps"] = min(
            found["budget"]["environment steps"], int(run["stop_after"])
        )
    judged = ("evals", "episodes", "eval_share") if "evaluation" in name else ("evals",)
    text = json.dumps(run["env"]).lower()
    simulators = {
        package: versions[package]
        for package, mark in SIMULATORS.items()
        if mark in text and package in versions
    }
    evaluation = {key: run[key] for key in judged}
    return found | {
        "environment": run["env"],
        "evaluation": evaluation,
        **({"simulator": simulators} if simulators else {}),
    }


def _record(results: Results) -> dict[str, Any]:
    """The reproducibility card among the attributes, of a sweep that is done (its parts) or not
    (one text).
    """
    whole = json.loads(results.attrs["card"]) if "card" in results.attrs else {}
    return whole | {
        part: json.loads(results.attrs[part])
        for part in ("run", "versions", "static")
        if part in results.attrs
    }


def _put(described: Any, path: list[str], static: dict[str, Any], label: Any) -> Any:
    """A description with `label` as the field that ends in `path`; where it labels a static value,
    with that.
    """
    known = static.get(".".join(path), {})
    value = known.get(str(label), label) if isinstance(known, dict) else label

    def put(node: Any, at: list[str]) -> Any:
        if not isinstance(node, dict):
            return node
        here = {key: put(child, [*at, key]) for key, child in node.items()}
        return {
            key: value if [*at, key][-len(path) :] == path else child for key, child in here.items()
        }

    return put(described, [])


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The fields that differ; numbers of environment steps by more than `SLACK`."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("type") != new.get("type"):
            return [
                f"{path + ': ' if path else ''}{old.get('type')} in the first, "
                f"{new.get('type')} in the second"
            ]
        keys = sorted(
            dict.fromkeys([*old, *new]), key=lambda key: isinstance(old.get(key), dict)
        )  # what it is, then how
        each = [(old.get(key), new.get(key), f"{path}.{key}" if path else key) for key in keys]
        return [line for one, other, at in each for line in _differences(one, other, at)]
    near = path == "environment steps" and abs(old - new) <= SLACK * max(old, new)
    return [] if old == new or near else [f"{path} {old} in the first, {new} in the second"]
