"""Finished chunks as one labelled dataset, and the datasets of several groups as one."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl import stats
from jaxrl.lazy import xarray as xr

Outputs = dict[str, np.ndarray]
Chunks = dict[tuple[int, int], Outputs]
# the last dimension of outputs with one of their own
LAST_DIM = {"evaluation_by_agent": "agent", "evaluation_by_role": "role"}
Coordinates = dict[str, tuple[str, np.ndarray]]  # along an axis: {name: (axis, values)}


def without_agents(outputs: Outputs) -> Outputs:
    """The outputs of a chunk that a dataset shows: all but the leaves of agents and states."""
    return {
        name: value
        for name, value in outputs.items()
        if not name.startswith(("agent.", "best_agent.", "final_state."))
    }


def dataset(
    labels: dict[str, np.ndarray],
    chunks: Chunks,
    attributes: dict[str, Any],
    coordinates: Coordinates | None = None,
) -> xr.Dataset:
    """A dataset with an axis for each swept name, then the outputs' own.

    Members that are not done are NaN, or 0 among whole numbers.
    """
    sizes = {name: len(label) for name, label in labels.items()}
    outputs = _join(chunks, int(np.prod(list(sizes.values()))))
    coords: dict[str, Any] = dict(labels) | (coordinates or {})
    step = outputs.get("step")
    if step is not None and step.ndim == 2 and len(step) and chunks:
        first = next(iter(chunks))[0]
        if all((part["step"] == step[first]).all() for part in chunks.values()):
            coords["step"] = outputs.pop("step")[first]
    rows = len(coords["step"]) if "step" in coords else None
    variables = {}
    for name, value in outputs.items():
        if name in coords:
            raise ValueError(
                f"the program returns {name!r}, which is also a swept name: rename one of them."
            )
        variables[name] = (
            _dims(name, value, sizes, rows),
            value.reshape(*sizes.values(), *value.shape[1:]),
        )
    return xr.Dataset(variables, coords, attributes)


def _join(chunks: Chunks, members: int) -> Outputs:
    joined: Outputs = {}
    for (first, last), outputs in chunks.items():
        for name, value in outputs.items():
            if name not in joined:
                blank = np.nan if np.issubdtype(value.dtype, np.inexact) else 0
                joined[name] = np.full((members, *value.shape[1:]), blank, value.dtype)
            joined[name][first:last] = value
    return joined


def _dims(name: str, value: np.ndarray, sizes: dict[str, int], rows: int | None) -> tuple[str, ...]:
    own = _own_dims(name, value.ndim - 1)
    if own and value.shape[1] == rows:
        own[0] = "step"
    return (*sizes, *own)


def _own_dims(name: str, num: int) -> list[str]:
    """Names of an output's own axes, of which the first may be rows."""
    own = [f"{name}_{i}" for i in range(num)]
    return [*own[:-1], LAST_DIM[name]] if name in LAST_DIM and num > 1 else own


def coordinates_of(record: dict[str, Any]) -> Coordinates:
    """The numbers along zipped axes, and what identifies keys, from a record."""
    found = {
        name: (axis, np.asarray(values)) for name, (axis, values) in record["coordinates"].items()
    }
    return keys_of(record) | found


def keys_of(record: dict[str, Any]) -> Coordinates:
    """What identifies the keys that a record has in words: {coordinate: (axis, values)}."""
    found, kinds = {}, record.get("kinds")
    if not isinstance(kinds, dict):
        return {}  # of a function
    for axis, values in record["axes"].items():
        is_zipped = isinstance(values, dict) and list(values) == ["zipped"]
        for name, part in (values["zipped"] if is_zipped else {axis: values}).items():
            words = np.asarray(part) if kinds.get(name) == "key:threefry2x32" else np.zeros(0)
            if words.shape == (len(words), 2) and words.dtype.kind in "iu":
                found[stats.key_name(name)] = (axis, stats.key_ids(words))
    return found


# ----------------------------------------------------------------------------------- groups, joined


def join(
    outer: dict[str, np.ndarray],
    groups: list[xr.Dataset | None],
    blank: xr.Dataset,
    attributes: dict[str, Any],
) -> xr.Dataset:
    """Datasets over the same members as one, the axes `outer` before theirs. A group that is None
    or empty has not started.

    blank: the members' own axes, without variables. Each dimension is as long as the longest
    group's: beyond its own a group has NaN (0 among whole numbers); of a variable that it lacks,
    and in a group that has not started, all.
    """
    started = {i: group for i, group in enumerate(groups) if group is not None and group.data_vars}
    step, rows = _steps(started)
    if step is None:
        started = {i: _unstepped(group, blank) for i, group in started.items()}
    inner, sizes = [str(dim) for dim in blank.dims], [len(label) for label in outer.values()]
    variables = {}
    for name in dict.fromkeys(str(name) for group in started.values() for name in group.data_vars):
        parts = {i: group[name] for i, group in started.items() if name in group.data_vars}
        along = (
            0
            if step is None or not all("step" in part.dims for part in parts.values())
            else len(step)
        )
        placed = {i: (part.values, rows[i] if along else None) for i, part in parts.items()}
        value = _stack(len(groups), len(inner), placed, along, absent=len(parts) < len(started))
        own = _own_dims(name, value.ndim - 1 - len(inner))
        dims = (*outer, *inner, *(["step", *own[1:]] if along else own))
        variables[name] = (dims, value.reshape(*sizes, *value.shape[1:]))
    if step is not None and any(
        len(group["step"]) != len(step) or (group["step"] != step).any()
        for group in started.values()
    ):
        taken = _stack(
            len(groups), 0, {i: (started[i]["step"].values, rows[i]) for i in started}, len(step)
        )
        variables["step_taken"] = ((*outer, "step"), taken.reshape(*sizes, len(step)))
    coordinates = (
        outer
        | {str(name): c.variable for name, c in blank.coords.items()}
        | ({} if step is None else {"step": step})
    )
    return xr.Dataset(variables, coordinates, attributes)


def _steps(groups: dict[int, xr.Dataset]) -> tuple[np.ndarray | None, dict[int, np.ndarray]]:
    """One `step` for all groups, and each group's rows of it; None where a group has no such
    coordinate.

    Equally many: the largest, row by row. Else every step that any group has, so that each row is
    at its own step.
    """
    own = {
        i: np.asarray(group["step"].values) for i, group in groups.items() if "step" in group.coords
    }
    if not groups or len(own) < len(groups):
        return None, {}
    if len({len(step) for step in own.values()}) == 1:
        step = np.max(list(own.values()), axis=0)
        return step, {i: np.arange(len(step)) for i in own}
    step = np.unique(np.concatenate(list(own.values())))
    return step, {i: np.searchsorted(step, x) for i, x in own.items()}


def _unstepped(group: xr.Dataset, blank: xr.Dataset) -> xr.Dataset:
    """The group with its `step`, if it has one, as an output like others."""
    if "step" not in group.coords:
        return group
    step = np.broadcast_to(group["step"].values, (*blank.sizes.values(), group.sizes["step"]))
    return (
        group.drop_vars("step").rename_dims(step="row").assign(step=((*blank.dims, "step_0"), step))
    )


def _stack(
    size: int,
    members: int,
    parts: dict[int, tuple[np.ndarray, Any]],
    rows: int,
    absent: bool = False,
) -> np.ndarray:
    """The groups' values as one array [size, ...]: each dimension as long as the longest, the first
    of a group's own (after its `members`) at the rows given for it.
    """
    rank = max(value.ndim for value, _ in parts.values())
    values = {
        i: value.reshape(value.shape + (1,) * (rank - value.ndim))
        for i, (value, _) in parts.items()
    }
    shape = np.max([value.shape for value in values.values()], axis=0)
    if rows:
        shape[members] = rows
    kind = np.result_type(*values.values())
    if absent and kind.kind not in "fc":
        kind = np.dtype(float)  # a missing whole number is NaN, not 0
    made = np.full((size, *shape), np.nan if kind.kind in "fc" else 0, kind)
    for i, value in values.items():
        place: list[Any] = [slice(n) for n in value.shape]
        if rows:
            place[members] = parts[i][1]
        made[i][tuple(place)] = value
    return made
