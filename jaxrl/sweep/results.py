"""Finished chunks as one labelled dataset, and the datasets of several groups as one."""

from typing import Any

import numpy as np
import xarray as xr

Outputs = dict[str, np.ndarray]
Chunks = dict[tuple[int, int], Outputs]
Coordinates = dict[
    str, tuple[str, np.ndarray]
]  # numbers beside an axis that is labelled otherwise: {name: (axis, values)}


def without_learners(outputs: Outputs) -> Outputs:
    """What a dataset shows of a chunk: parameters are for policies alone."""
    return {
        name: value
        for name, value in outputs.items()
        if not name.startswith(("learner.", "best_learner."))
    }


def dataset(
    labels: dict[str, np.ndarray],
    chunks: Chunks,
    attributes: dict[str, Any],
    beside: Coordinates | None = None,
) -> xr.Dataset:
    """An axis for each swept name, then the program's own.

    Members that are not done are NaN, or 0 where whole numbers.
    """
    sizes = {name: len(label) for name, label in labels.items()}
    outputs = _join(chunks, int(np.prod(list(sizes.values()))))
    coordinates: dict[str, Any] = dict(labels) | (beside or {})
    step = outputs.get("step")
    if step is not None and step.ndim == 2 and len(step) and chunks:
        first = next(iter(chunks))[0]
        if all((part["step"] == step[first]).all() for part in chunks.values()):
            coordinates["step"] = outputs.pop("step")[first]
    rows = len(coordinates["step"]) if "step" in coordinates else None
    variables = {}
    for name, value in outputs.items():
        if name in coordinates:
            raise ValueError(
                f"the program returns {name!r}, which is also a swept name: rename one of them."
            )
        variables[name] = (
            _dims(name, value, sizes, rows),
            value.reshape(*sizes.values(), *value.shape[1:]),
        )
    return xr.Dataset(variables, coordinates, attributes)


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
    own = [f"{name}_{i}" for i in range(value.ndim - 1)]
    if own and value.shape[1] == rows:
        own[0] = "step"
    return (*sizes, *own)


# ----------------------------------------------------------------------------------- groups, joined


def join(
    outer: dict[str, np.ndarray],
    groups: list[xr.Dataset | None],
    blank: xr.Dataset,
    attributes: dict[str, Any],
) -> xr.Dataset:
    """Datasets over the same members as one, the axes `outer` before theirs. A group that is None
    or empty is not begun.

    blank: the members' own axes, without variables. Each dimension is as long as the longest
    group's: beyond its own a group has NaN (0 among whole numbers); of a variable that it lacks,
    and in what is not begun, all.
    """
    begun = {i: group for i, group in enumerate(groups) if group is not None and group.data_vars}
    step, rows = _steps(begun)
    if step is None:
        begun = {i: _unstepped(group, blank) for i, group in begun.items()}
    inner, sizes = [str(dim) for dim in blank.dims], [len(label) for label in outer.values()]
    variables = {}
    for name in dict.fromkeys(str(name) for group in begun.values() for name in group.data_vars):
        parts = {i: group[name] for i, group in begun.items() if name in group.data_vars}
        along = (
            0
            if step is None or not all("step" in part.dims for part in parts.values())
            else len(step)
        )
        placed = {i: (part.values, rows[i] if along else None) for i, part in parts.items()}
        value = _stack(len(groups), len(inner), placed, along, absent=len(parts) < len(begun))
        own = [f"{name}_{i}" for i in range(value.ndim - 1 - len(inner))]
        dims = (*outer, *inner, *(["step", *own[1:]] if along else own))
        variables[name] = (dims, value.reshape(*sizes, *value.shape[1:]))
    if step is not None and any(
        len(group["step"]) != len(step) or (group["step"] != step).any() for group in begun.values()
    ):
        taken = _stack(
            len(groups), 0, {i: (begun[i]["step"].values, rows[i]) for i in begun}, len(step)
        )
        variables["step_taken"] = ((*outer, "step"), taken.reshape(*sizes, len(step)))
    coordinates = (
        outer
        | {str(name): c.variable for name, c in blank.coords.items()}
        | ({} if step is None else {"step": step})
    )
    return xr.Dataset(variables, coordinates, attributes)


def _steps(groups: dict[int, xr.Dataset]) -> tuple[np.ndarray | None, dict[int, np.ndarray]]:
    """One `step` for all groups, and the rows of it that are each group's; None where a group has
    no such coordinate.

    Equally many: the largest, row by row. Else every step that any group has, so that no row stands
    at another's step.
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
        kind = np.dtype(float)  # a whole number that isn't there is no 0
    made = np.full((size, *shape), np.nan if kind.kind in "fc" else 0, kind)
    for i, value in values.items():
        place: list[Any] = [slice(n) for n in value.shape]
        if rows:
            place[members] = parts[i][1]
        made[i][tuple(place)] = value
    return made
