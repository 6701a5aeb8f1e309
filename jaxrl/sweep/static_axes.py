"""Static axes: values that shape a program, crossed into one run for each combination, and their
labels.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrl import tree
from jaxrl.errors import name_of
from jaxrl.sweep import provenance
from jaxrl.sweep.grid import Grid, check_takes
from jaxrl.train import Training

MAX_LABEL = 48  # letters


@dataclasses.dataclass(frozen=True)
class Combinations:
    """A run for each combination of static values, the last axis fastest, and its name."""

    values: dict[str, tuple[Any, ...]]
    labels: dict[str, np.ndarray]
    names: list[str]
    runs: list[Any]


def combine(run: Any, static: Mapping[str, Any], grid: Grid) -> Combinations:
    """Every combination of the values of the static axes, and the run that has them.

    Raises:
      ValueError: an empty axis, a single value, a value twice, a name that is also swept or that
        `run` does not take,
        values that don't go together.
      TypeError: an array of floats.
    """
    if not isinstance(static, Mapping):
        raise TypeError(
            f"static={static!r} is not a dictionary: write static={{'num_envs': (16, 64)}}."
        )
    for name in static:
        if name in (*grid.names, *grid.values):
            raise ValueError(
                f"{name!r} is both in over= and in static=: a config would have two values for it. "
                "Remove one of them."
            )
    if not isinstance(run, Training):
        check_takes(run, static, "a static axis")
    values = {name: _values(name, value) for name, value in static.items()}
    named = {
        name: value.keys() if isinstance(value, Mapping) else values[name]
        for name, value in static.items()
    }
    labels = {name: label(tuple(value)) for name, value in named.items()}
    names, runs = [], []
    every_label = itertools.product(*(known.tolist() for known in labels.values()))
    for config, texts in zip(itertools.product(*values.values()), every_label, strict=True):
        names.append(", ".join(f"{name}={text}" for name, text in zip(values, texts, strict=True)))
        runs.append(with_note(names[-1], _fixed, run, dict(zip(values, config, strict=True))))
    return Combinations(values, labels, names, runs)


def with_note(name: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of a call; its exceptions get a note with the combination's name."""
    try:
        return call(*arguments, **options)
    except Exception as error:
        error.add_note(f"This is at {name}.")
        raise


def _values(name: str, value: Any) -> tuple[Any, ...]:
    """The values of one static axis as plain Python values."""
    value = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 1 and value.dtype.kind in "biuU":
        value = value.tolist()
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, jax.Array | np.ndarray):
            raise TypeError(
                f"static axis {name!r} holds an array of {each.dtype}: sweep it in over= instead, "
                "one compilation for all its values. A static axis is for what shapes the program: "
                "a count, a network, an environment."
            )
    if not isinstance(value, list | tuple | range):
        raise ValueError(
            f"static axis {name!r} is a single value, {value!r}; an axis is a list: write "
            f"[{value!r}]."
        )
    if not value:
        raise ValueError(
            f"static axis {name!r} is empty, so the sweep has no runs. Give at least one value."
        )
    for i, each in enumerate(value):
        if any(each is other or _same(each, other) for other in value[:i]):
            raise ValueError(f"static axis {name!r} has {short(each)} twice; write it once.")
    return tuple(value)


def _same(a: Any, b: Any) -> bool:
    """True for equal values of a type with plain equality."""
    return type(a) is type(b) and isinstance(a, bool | int | float | str) and a == b


def _fixed(run: Any, config: dict[str, Any]) -> Any:
    """The run with these values fixed; a function gets them as plain Python values."""
    if isinstance(run, Training):
        return replace_fields(run, config)
    fixed = functools.partial(run, **config)
    functools.update_wrapper(fixed, run, updated=())
    vars(fixed).pop("__wrapped__")  # by it `inspect` would show the arguments that are fixed
    return fixed


def replace_fields(training: Training, values: dict[str, Any]) -> Training:
    """As `tree.put`, but all fields of a dataclass at once: they may be valid only together, as
    counts that divide.
    """
    together: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        path = tree.find(training, name)
        home, _, field = path.rpartition(".")
        if field in together.setdefault(home, {}):
            raise ValueError(f"{name!r} sets {path} a second time: name it once.")
        together[home][field] = value
    # an environment before the fields in it
    for home in sorted(together, key=lambda home: home.count(".") + bool(home)):
        record = functools.reduce(getattr, home.split(".") if home else [], training)
        changed = tree.replace(record, **together[home])
        training = tree.put(training, {home: changed}) if home else changed
    return training


# --------------------------------------------------------------------------------------- the labels


def label(values: tuple[Any, ...]) -> np.ndarray:
    """The labels of a static axis: numbers and booleans as they are, else a short text for each."""
    kinds = {bool} if all(isinstance(value, bool) for value in values) else {int, float}
    if (
        all(type(value) in kinds for value in values)
        and (found := np.array(values)).dtype.kind in "bif"
    ):
        return found
    texts = [short(value) for value in values]
    counts = {text: itertools.count(1) for text in texts if texts.count(text) > 1}
    return np.array(
        [f"{text} #{next(counts[text])}" if text in counts else text for text in texts], object
    )


def with_static_values(name: str, known: dict[Any, Any], added: Any) -> dict[Any, Any]:
    """The values of a static axis by their labels, and those of `added` that are not among them.

    added: values, or {label: value}. Values are compared, not their labels, as different ones may
    have the same short text.

    Raises:
      ValueError: a label that another value has.
    """
    found = dict(known)
    is_labelled = isinstance(added, Mapping)
    labels = list(added) if is_labelled else label(tuple(added)).tolist()
    for text, value in zip(labels, added.values() if is_labelled else added, strict=True):
        described = provenance.describe(value)
        if any(provenance.describe(other) == described for other in found.values()):
            continue
        if text in found and is_labelled:
            raise ValueError(
                f"static axis {name!r} has the label {text!r} for {short(found[text])} already: "
                f"write another label for {short(value)}."
            )
        numbered = (f"{text} #{number}" for number in itertools.count(2))
        new = next(each for each in itertools.chain([text], numbered) if each not in found)
        found[new] = value
    return found


def short(value: Any) -> str:
    """A value as a short text: `MLP((64, 64))`, `relu`, `Walk(5, prize=2.0)`: its first field, and
    those that differ from their defaults.
    """
    text = name_of(value, str(value)) if callable(value) else str(value)
    if isinstance(value, jax.Array | np.ndarray):
        text = str(np.asarray(value).tolist())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field, vars(value)[field.name]) for field in dataclasses.fields(value)]
        shown = [short(x) for _, x in fields[:1]] + [
            f"{f.name}={short(x)}" for f, x in fields[1:] if not _is_default(f, x)
        ]
        text = f"{type(value).__name__}({', '.join(shown)})"
    text = " ".join(text.split())
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 3]}..."


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    return provenance.describe(field.default) == provenance.describe(value)
