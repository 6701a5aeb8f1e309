"""Ranges of numbers as data: checked where a dataclass is made, printed by its documentation."""

import dataclasses
import re
from typing import Any

import numpy as np

RANGE = "within"  # the entry of a field's metadata


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers in the notation "[0, 1)", or "[0, 1) or None".

    A round bracket leaves its end out: "[0, inf)" is of finite numbers, "(0, inf]" has infinity.
    NaN is in none.
    """

    text: str

    def __post_init__(self) -> None:
        self._ends()

    @property
    def takes_none(self) -> bool:
        return self.text.endswith(" or None")

    def outside(self, value: Any) -> np.ndarray:
        """The numbers in `value` that are not in the interval. [n]."""
        low, high = self._ends()
        numbers = np.asarray(value).ravel()
        above = low <= numbers if self.text[0] == "[" else low < numbers
        interval = self.text.removesuffix(" or None")
        below = numbers <= high if interval[-1] == "]" else numbers < high
        return numbers[~(above & below)]

    def _ends(self) -> tuple[float, float]:
        found = re.fullmatch(r"[\[(](\S+), (\S+)[\])]( or None)?", self.text)
        if found is None:
            raise ValueError(f"{self.text!r} is not an interval: write '[0, 1)'.")
        return float(found[1]), float(found[2])


def range_of(field: dataclasses.Field) -> Range | None:
    """The range of a dataclass's field; None where it has none."""
    return field.metadata.get(RANGE)


def check_ranges(record: Any) -> None:
    """Check the fields of a dataclass that have a range, where they are plain or NumPy numbers.

    Arrays of JAX, traced or not, pass: their values are not known before a program runs.

    Raises:
      ValueError: a number out of its range. TypeError: a text, a function, a bool, or None.
    """
    for field in dataclasses.fields(record):
        within = range_of(field)
        if within is not None:
            _check(type(record).__name__, field, vars(record)[field.name], within)


def check_values(name: str, values: Any, field: dataclasses.Field) -> None:
    """Check the numbers that a sweep or a search gives to a field of this name.

    Raises:
      ValueError: one that is out of the field's range.
    """
    within = range_of(field)
    if within is None:
        return
    if is_plain_bool(values):
        raise ValueError(
            f"{name!r} takes True or False, and {field.name} is a number in {within.text}: write "
            "numbers."
        )
    if not is_plain_number(values):
        return
    for value in within.outside(values)[:1]:
        raise ValueError(
            f"{name!r} takes the value {value:g}, and {field.name} is a number in {within.text}: "
            "leave it out."
        )


def _check(owner: str, field: dataclasses.Field, value: Any, within: Range) -> None:
    if value is None and within.takes_none:
        return
    is_number = is_plain_number(value)
    if is_number and not within.outside(value).size:
        return
    is_other = (
        value is None
        or isinstance(value, str | list | tuple | dict | complex)
        or is_plain_bool(value)
        or callable(value)
    )
    if is_number or is_other:
        error = ValueError if is_number else TypeError
        raise error(
            f"{field.name}={value!r} of {owner} is not a number in {within.text}: write "
            f"{field.name}={field.default}."
        )


def is_plain_number(value: Any) -> bool:
    """True for a Python number, a NumPy one, and a NumPy array of numbers; a bool is none."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "iuf"
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_plain_bool(value: Any) -> bool:
    """True for True and False, of Python or NumPy, and a NumPy array of them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "b"
    return isinstance(value, bool)
