"""The space of a search: ranges, each a map from [0, 1] to values."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrl import tree
from jaxrl.errors import not_defined
from jaxrl.ranges import check_values
from jaxrl.sweep.program import flatten
from jaxrl.sweep.static_axes import label, replace_fields, with_note
from jaxrl.train import Training

MAX_COMBINATIONS = 256  # of grouped values, all checked before anything runs


class Range:
    """One dimension of the unit cube that a tuner searches: a base class."""

    def at(self, u: float) -> Any:
        """The value at `u`, from 0 to 1."""
        raise not_defined(self, Range.at)


@dataclasses.dataclass(frozen=True)
class Uniform(Range):
    """Numbers from `low` to `high`, all equally likely: `uniform(low, high)`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends("uniform", self.low, self.high)

    def at(self, u: float) -> float:
        return self.low + u * (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Log(Range):
    """Numbers from `low` to `high` with equally likely logarithms: `log(low, high)`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends("log", self.low, self.high)
        if self.low <= 0:
            ends = f"{self.low}, {self.high}"
            raise ValueError(
                f"log({ends}): no logarithm of {self.low}. Write a low end above 0, or "
                f"uniform({ends})."
            )

    def at(self, u: float) -> float:
        return self.low * (self.high / self.low) ** u


@dataclasses.dataclass(frozen=True)
class Integer(Range):
    """Whole numbers from `low` to `high`, both included: `integer(low, high)`."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_ends("integer", self.low, self.high)
        if int(self.low) != self.low or int(self.high) != self.high:
            ends = f"{self.low}, {self.high}"
            raise ValueError(
                f"integer({ends}): the ends are whole numbers; write uniform({ends}) for others."
            )

    @property
    def options(self) -> range:
        return range(int(self.low), int(self.high) + 1)

    def at(self, u: float) -> int:
        return self.options[place(u, len(self.options))]


@dataclasses.dataclass(frozen=True)
class Choice(Range):
    """One of several values of any kind: `choice(a, b, ...)`."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2:
            shown = ", ".join(map(str, self.options))
            raise ValueError(
                f"choice({shown}) leaves nothing to choose: write at least two values, "
                "choice(a, b, ...)."
            )

    def at(self, u: float) -> Any:
        return self.options[place(u, len(self.options))]


@dataclasses.dataclass(frozen=True)
class When(Range):
    """A range that is searched only where a choice has one value: `when(name, value, {...})`."""

    name: str
    value: Any
    range: Range

    def at(self, u: float) -> Any:
        return self.range.at(u)


def place(u: float, size: int) -> int:
    """The index of the equal part of the unit interval, of `size`, that a number is in."""
    return min(int(u * size), size - 1)


def uniform(low: float, high: float) -> Uniform:
    """A range of numbers, all equally likely."""
    return Uniform(_plain(low), _plain(high))


def log(low: float, high: float) -> Log:
    """A range of positive numbers, such as learning rates, with equally likely orders of
    magnitude.
    """
    return Log(_plain(low), _plain(high))


def integer(low: int, high: int) -> Integer:
    """A range of whole numbers, both ends included.

    In a static field each of them compiles a program.
    """
    return Integer(_plain(low), _plain(high))


def choice(*options: Any) -> Choice:
    """One of these values: numbers, or in a static field (or of a rule, a schedule, ...) any value
    of that field.
    """
    return Choice(options)


def when(name: str, value: Any, ranges: Mapping[str, Any]) -> dict[str, When]:
    """Ranges of fields that are searched only where the choice `name` of the space is `value`.

    They may be fields of that value: `{"objective": choice(rl.Clip(), rl.DPO()),
    **when("objective", rl.DPO(), {"alpha": uniform(1.0, 4.0)})}`. Elsewhere they stay as they are
    in the training. Each option of such a choice compiles a program.
    """
    return {inner: When(name, value, each) for inner, each in flatten(dict(ranges)).items()}


def _plain(end: Any) -> Any:
    """A number of numpy or jax as a Python number."""
    return end.item() if isinstance(end, jax.Array | np.generic) else end


def _check_ends(kind: str, low: float, high: float) -> None:
    if np.asarray([low, high]).dtype.kind not in "iuf":
        raise TypeError(f"{kind}({low!r}, {high!r}): the ends of a range are numbers.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"{kind}({low}, {high}) is empty: write its finite low end first, then a higher one."
        )


@dataclasses.dataclass(frozen=True)
class Space:
    """The named dimensions of a search. Names in `grouped` shape the program: each combination of
    them is compiled.

    A point is a row of numbers from 0 to 1, one for each name. conditions: of a name, the choice
    before it and the place of the option with which it is searched.
    """

    ranges: dict[str, Range]
    grouped: tuple[str, ...] = ()
    conditions: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def dims(self) -> int:
        return len(self.ranges)

    @property
    def free(self) -> np.ndarray:
        """True for dimensions that may change during training: those not grouped. [dims]."""
        return np.array([name not in self.grouped for name in self.ranges])

    @property
    def sizes(self) -> list[int]:
        """The number of options of a dimension without an order; 0 where it has one. [dims]."""
        return [
            len(each.options) if isinstance(each, Choice) else 0 for each in self.ranges.values()
        ]

    def active(self, points: np.ndarray) -> np.ndarray:
        """True where a name's condition holds. bool [n, dims]."""
        found = np.ones(points.shape, bool)
        names = list(self.ranges)
        for name, (parent, option) in self.conditions.items():
            i, size = names.index(parent), len(options(self.ranges[parent]))
            chosen = [place(float(u), size) == option for u in points[:, i]]
            found[:, names.index(name)] = found[:, i] & chosen
        return found

    def apply(self, training: Training, setting: Mapping[str, Any]) -> Training:
        """The training with a setting; what has a condition comes after what it depends on."""
        first = {name: x for name, x in setting.items() if name not in self.conditions}
        training = replace_fields(training, first)
        for name in self.conditions:
            if name in setting:
                training = replace_fields(training, {name: setting[name]})
        return training

    def encode(self, points: np.ndarray) -> np.ndarray:
        """Points [n, dims] for a model by distances: two options without an order are 1 apart, and
        what is not searched is the same everywhere.

        A dimension without an order becomes one column for each option. [n, columns].
        """
        columns, points = [], np.where(self.active(points), points, 0.5)
        for x, size in zip(points.T, self.sizes, strict=True):
            places = np.minimum((x * size).astype(int), size - 1)
            columns.append(np.eye(size)[places] / np.sqrt(2.0) if size else x[:, None])
        return np.concatenate(columns, 1)

    def setting(self, point: np.ndarray) -> dict[str, Any]:
        """The values of one point [dims], of the names that are searched there."""
        places = zip(self.ranges.items(), point, self.active(point[None])[0], strict=True)
        return {name: each.at(float(u)) for (name, each), u, active in places if active}

    def leaves(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """The values that one program takes as arguments, of its points [n, dims]: {name: [n]}."""
        found, active = {}, self.active(points[:1])[0]
        for i, (name, each) in enumerate(self.ranges.items()):
            if name not in self.grouped and active[i]:
                values = np.array([each.at(float(u)) for u in points[:, i]])
                found[name] = values if values.dtype == bool else values.astype(np.float32)
        return found

    def static_group(self, point: np.ndarray) -> tuple[int, ...]:
        """The options of the grouped names that a point has: the program that it needs.

        -1 of a name that is not searched there.
        """
        places = zip(self.ranges.items(), point, self.active(point[None])[0], strict=True)
        return tuple(
            place(float(u), len(options(each))) if active else -1
            for (name, each), u, active in places
            if name in self.grouped
        )

    def labels(self, points: Sequence[np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
        """The values of points for a table, {name: [n]}: numbers, or a short text for each.

        Of a name that is not searched there, NaN, or an empty text.
        """
        found = {}
        for i, (name, each) in enumerate(self.ranges.items()):
            if isinstance(each, Choice):
                found[name] = label(each.options)[
                    [place(float(point[i]), len(each.options)) for point in points]
                ]
            else:
                found[name] = np.array([each.at(float(point[i])) for point in points])
            if name in self.conditions:
                blank = "" if found[name].dtype == object else np.nan
                active = self.active(np.asarray(points))[:, i]
                found[name] = np.where(active, found[name], blank)
        return found


def space_of(training: Training, space: Mapping[str, Any]) -> Space:
    """The ranges by the full names of the training's fields, checked against them.

    Raises:
      ValueError: nothing to tune, a value that is not a range, an unknown field or one named twice,
        values that don't combine, a field of the training itself, such as its steps.
      TypeError: a range of floats in a static field, a choice of anything but numbers in a field
        that is a number.
    """
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            f"space={space!r} tunes nothing: write space={{'lr': rl.tuning.log(1e-5, 1e-2)}}."
        )
    ranges, grouped, paths, conditions = {}, [], set(), {}
    bases: dict[str, Training] = {}  # where the condition of a name holds
    for name, each in flatten(dict(space)).items():
        base = training
        if isinstance(each, When):
            conditions[name] = _condition(name, each, ranges)
            if each.name not in grouped:
                grouped.append(each.name)
            base = replace_fields(bases[each.name], {each.name: each.value})
            each = each.range
        bases[name] = base
        if not isinstance(each, Range):
            raise ValueError(
                f"{name!r}: {each!r} is not a range. Write rl.tuning.uniform, log, integer or "
                "choice(...) of it."
            )
        path, known = tree.find(base, name), tree.paths(base)
        if path in paths:
            raise ValueError(f"{name!r} is in the space twice: name each field once.")
        if "." not in path and path not in ("algo", "env"):
            raise ValueError(
                f"{name!r} is the length or the evaluation of a run, which is the same for all "
                "settings of a search: write it in the rl.Training."
            )
        paths.add(path)
        if tree.is_static(known[path]):
            if isinstance(each, Uniform | Log):
                raise TypeError(
                    f"{name!r} is static in {type(training).__name__}: it shapes the compiled "
                    "program, so it can't be a range of floats. Write rl.tuning.integer(...) or "
                    "rl.tuning.choice(...): one compilation for each value."
                )
            grouped.append(name)
        elif isinstance(each, Choice) and (
            odd := [x for x in each.options if not isinstance(x, bool | int | float)]
        ):
            if isinstance(now := tree.parts(base, [path])[path], bool | int | float):
                raise TypeError(
                    f"{name!r} is a number, {now}, and can't be {odd[0]!r}: choose among numbers."
                )
            grouped.append(name)
        if name not in grouped:
            check_ends(name, each, known[path])
        ranges[name] = each
    found = Space(ranges, tuple(grouped), conditions)
    _check_together(training, found)
    return found


def _condition(name: str, each: When, ranges: Mapping[str, Range]) -> tuple[str, int]:
    """The choice that a range depends on, and the place of its option.

    Raises:
      ValueError: no such choice before it, or no such option.
    """
    if not isinstance(choice := ranges.get(each.name), Choice):
        raise ValueError(
            f"{name!r} is searched when {each.name!r} is {each.value!r}, and the space has no "
            f"choice of that name before it: write {{{each.name!r}: rl.tuning.choice(...), "
            "**rl.tuning.when(...)}."
        )
    if each.value not in choice.options:
        shown = ", ".join(map(str, choice.options))
        raise ValueError(
            f"{name!r} is searched when {each.name!r} is {each.value!r}, which is none of its "
            f"options: {shown}."
        )
    return each.name, choice.options.index(each.value)


def options(each: Range) -> Sequence[Any]:
    """The values of a range that has finitely many; a TypeError of another."""
    if not isinstance(each, Integer | Choice):
        raise TypeError(f"{each} has no options: write rl.tuning.choice(...) of them.")
    return each.options


def check_ends(name: str, each: Range, field: dataclasses.Field) -> None:
    """Check that all numbers of a range are in that of the field.

    Raises:
      ValueError: one that is not.
    """
    numbers = each.options if isinstance(each, Choice) else [each.at(0.0), each.at(1.0)]
    check_values(name, np.array(numbers), field)


def _check_together(training: Training, space: Space) -> None:
    """Check that every combination of what shapes the program is a training that has the other
    fields too, and can be traced.
    """
    sizes = {name: len(options(space.ranges[name])) for name in space.grouped}
    if math.prod(sizes.values()) > MAX_COMBINATIONS:
        raise ValueError(
            f"{', '.join(sizes)} shape the program in {math.prod(sizes.values()):,} ways, and "
            f"each is compiled: leave at most {MAX_COMBINATIONS}."
        )
    seen = set()
    for places in itertools.product(*map(range, sizes.values())):
        at = {name: (i + 0.5) / sizes[name] for name, i in zip(sizes, places, strict=True)}
        point = np.array([at.get(name, 0.5) for name in space.ranges])
        if (group := space.static_group(point)) in seen:
            continue
        seen.add(group)
        setting = space.setting(point)
        grouped = {name: setting[name] for name in sizes if name in setting}
        combination = (
            ", ".join(f"{name}={value}" for name, value in grouped.items())
            or "the training as it is"
        )
        try:
            made = with_note(combination, space.apply, training, grouped)
            for name in setting.keys() - grouped.keys():
                with_note(combination, tree.find, made, name)
            with_note(combination, jax.eval_shape, made.init, jax.random.key(0))
        except AttributeError as error:  # such as a number where a network belongs
            raise TypeError(
                f"{combination} is not of the kind that belongs there: {error}."
            ) from error
