"""One member of a kept sweep: which it is, what it was given, and the training that it was one
of.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.sweep import provenance, serialize, store
from jaxrl.sweep.grid import point_from_record
from jaxrl.sweep.groups import group_at
from jaxrl.sweep.record_file import read_group
from jaxrl.sweep.static import replace_fields
from jaxrl.train import Training

Record = dict[str, Any]


def find(
    folder: str | os.PathLike[str], where: Mapping[str, Any]
) -> tuple[pathlib.Path, Record, dict[str, Any]]:
    """The folder and record that the member at `where` is in, and the labels that name it there.

    Of a sweep with static axes it is one of its groups; `outer` in the record is then what the
    groups have in common.
    """
    folder = pathlib.Path(folder).expanduser()
    record = store.read_record(folder)
    if "groups" not in record:
        return folder, record, dict(where)
    group, rest = group_at(record, where)
    return folder / group, in_group(folder, record, group), rest


def in_group(folder: pathlib.Path, record: Record, group: str) -> Record:
    own = (
        read_group(folder, record, group) if folder.is_file() else store.read_record(folder / group)
    )
    return own | {"outer": {"run": record["run"], "static": list(record["static"])}}


def training_of(folder: pathlib.Path, record: Record, training: Training | None = None) -> Training:
    """The training that was swept: the one in the record, or the one that is given, once it is sure
    to be the same.

    Raises:
      ValueError: the sweep was of a function, or of another training, or of one that only its
        owner's code has.
    """
    if "function" in record["run"]:
        raise ValueError(
            "the sweep was of a function, which keeps no policies: sweep a rl.Training to have "
            "them."
        )
    if training is not None:
        return _same(folder, record, training)
    if "recipe" not in record:
        raise ValueError(
            f"{folder} has no recipe: it was begun before those were kept. In Python, pass "
            "training=, the rl.Training swept."
        )
    try:
        found = serialize.decode(record["recipe"])
    except ValueError as error:
        raise ValueError(f"{folder} alone is not enough: {error}") from error
    if not isinstance(found, Training):
        raise ValueError(
            f"{folder} holds a {type(found).__name__} in place of a training: pass training=."
        )
    return found


def _same(folder: pathlib.Path, record: Record, training: Training) -> Training:
    """The training that is given; in a group, that with the group's static values."""
    outer, here = record.get("outer"), _fields(provenance.describe(training))
    changed = provenance.differences(_fields(record["run"]), here, "training")
    if changed and outer is not None and not provenance.differences(_fields(outer["run"]), here):
        paths = {name: tree.find(training, name) for name in outer["static"]}
        return replace_fields(training, {path: _part(record, path) for path in paths.values()})
    if changed:
        listed = "\n  ".join(changed[:12])
        raise ValueError(
            f"{folder} holds the policies of another training; these fields differ:\n  {listed}"
        )
    return training


def _part(record: Record, path: str) -> Any:
    """One field of the recorded training."""
    found = record["recipe"]
    for part in path.split("."):
        found = found["fields"][part]
    return serialize.decode(found, path)


def _fields(run: Any) -> Any:
    """What a record says of a training, without its program's fingerprint."""
    return {name: value for name, value in run.items() if name != "program"}


def places(labels: Mapping[str, np.ndarray], where: Mapping[str, Any]) -> dict[str, int]:
    """The place along each axis that these labels name; an axis that has one value need not be
    named.

    Raises:
      ValueError: an axis that was not swept, a label that it does not have, an axis without a
        label.
    """
    for name in where:
        if name not in labels:
            raise ValueError(f"{name!r} was not swept; {tree.nearest(name, labels)}.")
    if missing := [name for name, label in labels.items() if name not in where and len(label) > 1]:
        shown = "; ".join(f"{name} is one of {_some(labels[name])}" for name in missing)
        raise ValueError(f"name one member: {shown}. rl.best(results) names the best.")
    return {
        name: _place(name, label, where[name]) if name in where else 0
        for name, label in labels.items()
    }


def _place(name: str, label: np.ndarray, value: Any) -> int:
    found = np.zeros(0, int)
    if np.ndim(value) == 0 and isinstance(value, bool | int | float | np.generic | jax.Array):
        exact = label == float(value)
        near = (
            np.isclose(label, float(value), rtol=1e-6, atol=0, equal_nan=True)
            if label.dtype.kind == "f"
            else exact
        )
        found = np.flatnonzero(exact if exact.any() else near)
    if not len(found):
        raise ValueError(f"{name}={value} was not swept; its values are {_some(label)}.")
    return int(found[0])


def _some(label: np.ndarray) -> str:
    return f"{label[:12].tolist()}{'...' if len(label) > 12 else ''}"


def number_at(record: Record, where: Mapping[str, Any]) -> int:
    """The number of the member that has these labels."""
    labels = labels_of(record)
    return int(
        np.ravel_multi_index(
            tuple(places(labels, where).values()), tuple(len(label) for label in labels.values())
        )
    )


def places_of(record: Record, number: int) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The place of a member along each axis, and the one label that each has there."""
    labels = labels_of(record)
    found = np.unravel_index(number, tuple(len(label) for label in labels.values()))
    places = {name: int(i) for name, i in zip(labels, found, strict=True)}
    return places, {name: label[[places[name]]] for name, label in labels.items()}


def labels_of(record: Record) -> dict[str, np.ndarray]:
    return {name: np.asarray(label) for name, label in record["labels"].items()}


def point_of(record: Record, member: int, training: Training) -> dict[str, Any]:
    """What this member was given, as the sweep gave it: {name: array, key or pytree}.

    A folder made before the axes' types were kept has the structure of a pytree from the training's
    own field.
    """
    kinds = record.get("kinds", {})
    return {
        name: _value(training, name, x, kinds.get(name))
        for name, x in point_from_record(record, member).items()
    }


def _value(training: Training, name: str, found: Any, kinds: Any) -> Any:
    at = f"the axis {name}"
    if not isinstance(found, dict):
        return _leaf(found, kinds, at)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(_structure(training, name, kinds))
    if [jax.tree_util.keystr(path) for path, _ in leaves] != list(found):
        raise ValueError(
            f"{at} is a tree of {', '.join(found)}: pass training= with such a tree as its {name}."
        )
    return treedef.unflatten(
        [_leaf(x, kind, at) for (_, kind), x in zip(leaves, found.values(), strict=True)]
    )


def _structure(training: Training, name: str, kinds: Any) -> Any:
    """A tree like the axis's: of the kinds that were kept, or else what the training has in that
    field.
    """
    try:
        if kinds is not None:
            return serialize.decode(kinds, name)
    except ValueError:
        pass  # a class that only the owner's code has
    value = training
    for part in tree.find(training, name).split("."):
        value = getattr(value, part)
    return value


def _leaf(x: np.ndarray, kind: Any, at: str) -> jax.Array:
    if isinstance(kind, str):
        return serialize.array(x, kind, at)
    words = (
        np.ndim(x) == 1 and at == "the axis seed"
    )  # a key, of which an old folder kept the words alone
    return jax.random.wrap_key_data(jnp.asarray(x, jnp.uint32)) if words else jnp.asarray(x)
