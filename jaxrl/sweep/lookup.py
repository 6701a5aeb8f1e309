"""Find one member of a folder: its number, its config and its training."""

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl import tree
from jaxrl.errors import as_path, nearest
from jaxrl.sweep import arrays, provenance, serialize, store
from jaxrl.sweep.grid import config_from_record
from jaxrl.sweep.record import Record
from jaxrl.sweep.record_file import read_group
from jaxrl.sweep.static_axes import replace_fields
from jaxrl.sweep.static_groups import group_at
from jaxrl.train import Training


def find(
    folder: str | os.PathLike[str], where: Mapping[str, Any]
) -> tuple[pathlib.Path, Record, dict[str, Any]]:
    """The folder and record that the member at `where` is in, and the labels that name it there.

    Of a sweep with static axes it is one of its groups; `outer` in the record is then the part that
    the groups have in common.
    """
    folder = as_path(folder)
    record = store.read_record(folder)
    if "groups" not in record:
        return folder, record, dict(where)
    group, rest = group_at(record, where)
    home = folder if folder.is_file() else folder / group
    return home, in_group(folder, record, group), rest


def in_group(folder: pathlib.Path, record: Record, group: str) -> Record:
    """The record of a group, from a folder or a record in one file."""
    is_file = folder.is_file()
    own = read_group(record, group) if is_file else store.read_record(folder / group)
    return own | {"outer": {"run": record["run"], "static": list(record["static"])}}


def training_of(folder: pathlib.Path, record: Record, training: Training | None = None) -> Training:
    """The training that was swept: the one in the record, or the given one, once it is found to be
    equal.

    Raises:
      ValueError: the sweep was of a function, of another training, or of one that the folder can't
        make: parts that are not of the kit, or a large array without its file.
    """
    if "function" in record["run"]:
        raise ValueError(
            "the sweep was of a function, which keeps no policies: sweep a rl.Training to have "
            "them."
        )
    if training is not None:
        return arrays.on_device(_same(folder, record, training))
    try:
        found = serialize.decode(record.get("recipe"), load=_load_from(folder))
    except ValueError as error:
        raise ValueError(f"{folder} alone is not enough: {error}") from error
    if not isinstance(found, Training):
        raise ValueError(
            f"{folder} has no recipe of a training: pass training=, the rl.Training that was swept."
        )
    return found


def _load_from(folder: pathlib.Path) -> serialize.Load | None:
    """The function that loads the large arrays of a folder; None for a record in one file."""
    return None if folder.is_file() else functools.partial(arrays.load, folder)


def _same(folder: pathlib.Path, record: Record, training: Training) -> Training:
    """The given training; in a group, that with the group's static values."""
    outer, here = record.get("outer"), _fields(provenance.describe(training))
    changed = provenance.differences(_fields(record["run"]), here, "training")
    if changed and outer is not None and not provenance.differences(_fields(outer["run"]), here):
        paths = [tree.find(training, name) for name in outer["static"]]
        return replace_fields(training, {path: _part(folder, record, path) for path in paths})
    if changed:
        listed = "\n  ".join(changed[:12])
        raise ValueError(
            f"{folder} holds the policies of another training; these fields differ:\n  {listed}"
        )
    return training


def _part(folder: pathlib.Path, record: Record, path: str) -> Any:
    """One field of the recorded training."""
    found = record["recipe"]
    for part in path.split("."):
        found = found["fields"][part]
    return serialize.decode(found, path, _load_from(folder))


def _fields(run: Any) -> Any:
    """The fields of a training in a record, without its program's digest."""
    return {name: value for name, value in run.items() if name != "program"}


def indices(labels: Mapping[str, np.ndarray], where: Mapping[str, Any]) -> dict[str, int]:
    """The index along each axis that these labels name; an axis of one value need not be named.

    Raises:
      ValueError: an axis that was not swept, a label that it does not have, an axis without a
        label.
    """
    for name in where:
        if name not in labels:
            raise ValueError(f"{name!r} was not swept; {nearest(name, labels)}.")
    if missing := [name for name, label in labels.items() if name not in where and len(label) > 1]:
        shown = "; ".join(f"{name} is one of {_some(labels[name])}" for name in missing)
        raise ValueError(f"name one run: {shown}. rl.best(results) names the best.")
    return {
        name: _index(name, label, where[name]) if name in where else 0
        for name, label in labels.items()
    }


def _index(name: str, label: np.ndarray, value: Any) -> int:
    found = np.zeros(0, int)
    if np.ndim(value) == 0 and isinstance(value, bool | int | float | np.generic | jax.Array):
        exact = label == float(value)
        near = exact
        if label.dtype.kind == "f":
            near = np.isclose(label, float(value), rtol=1e-6, atol=0, equal_nan=True)
        found = np.flatnonzero(exact if exact.any() else near)
    if not len(found):
        raise ValueError(f"{name}={value} was not swept; its values are {_some(label)}.")
    return int(found[0])


def _some(label: np.ndarray) -> str:
    return f"{label[:12].tolist()}{'...' if len(label) > 12 else ''}"


def number_at(record: Record, where: Mapping[str, Any]) -> int:
    """The number of the member that has these labels."""
    labels = labels_of(record)
    shape = tuple(len(label) for label in labels.values())
    return int(np.ravel_multi_index(tuple(indices(labels, where).values()), shape))


def indices_of(record: Record, number: int) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The index of a member along each axis, and each axis's label there. [1]."""
    labels = labels_of(record)
    found = np.unravel_index(number, tuple(len(label) for label in labels.values()))
    at = {name: int(i) for name, i in zip(labels, found, strict=True)}
    return at, {name: label[[at[name]]] for name, label in labels.items()}


def labels_of(record: Record) -> dict[str, np.ndarray]:
    """The labels of each axis."""
    return {name: np.asarray(label) for name, label in record["labels"].items()}


def config_of(
    folder: pathlib.Path, record: Record, member: int | np.ndarray, training: Training
) -> dict[str, Any]:
    """The config of a member, or those of several, as the sweep had it: {name: array, key or
    pytree}.
    """
    load = _load_from(folder)

    def load_axis(found: arrays.Reference) -> np.ndarray:
        if load is None:
            raise ValueError(
                f"{folder} knows an axis of arrays {found['shape']} by its digest alone: use the "
                "folder of the sweep."
            )
        return load(found)

    try:
        config = config_from_record(record, member, load_axis)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"the record of {folder} is damaged: its axes ({error}).") from None
    return {
        name: _value(training, name, x, record["kinds"].get(name)) for name, x in config.items()
    }


def _value(training: Training, name: str, found: Any, kinds: Any) -> Any:
    at = f"the axis {name}"
    if not isinstance(found, dict):
        return serialize.array(found, kinds, at)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(_structure(training, name, kinds))
    if [jax.tree_util.keystr(path) for path, _ in leaves] != list(found):
        raise ValueError(
            f"{at} is a tree of {', '.join(found)}: pass training= with such a tree as its {name}."
        )
    return treedef.unflatten(
        [
            serialize.array(x, kind, at) if isinstance(kind, str) else jax.numpy.asarray(x)
            for (_, kind), x in zip(leaves, found.values(), strict=True)
        ]
    )


def _structure(training: Training, name: str, kinds: Any) -> Any:
    """A tree like the axis's, of dtypes; for a class outside the kit, the training's own field."""
    try:
        return serialize.decode(kinds, name)
    except ValueError:
        return tree.parts(training, [name])[name]
