"""A named algorithm as data: a value, and the names by which its fields are changed."""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from jaxrl import tree
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.field_meanings import MEANINGS, meaning
from jaxrl.errors import nearest_field


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Preset:
    """A named algorithm. Calling it gives its value with some of the fields changed.

    `rl.ppo(lr=1e-3, clip=0.1)`: any field below the value is found by its name, as in
    `rl.tree.put`; floats may be traced.

    value: the whole algorithm. summary: one sentence, with the paper. details: what else a user
    should know. aliases: keywords that set fields of other names or several fields, {keyword:
    paths}. options: keywords with values that stand for other fields, {keyword: {value: {field:
    value}}}. fixed: fields that this algorithm is defined by, which are refused.
    """

    name: str
    value: Algorithm
    summary: str
    details: str = ""
    aliases: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[Any, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", tree.replace(self.value, name=self.name))
        object.__setattr__(self, "__name__", self.name)
        object.__setattr__(self, "__doc__", self._document())

    def __call__(self, **fields: Any) -> Any:
        """The algorithm with these fields changed.

        Raises:
          TypeError: an unknown field, or one that this algorithm is defined by.
          ValueError: a value that the algorithm refuses.
        """
        values: dict[str, Any] = {}
        for keyword, value in fields.items():
            if keyword.rpartition(".")[2] in (*self.fixed, "name"):
                raise TypeError(f"{self.name} is defined by its {keyword}: leave {keyword} out.")
            given = self._fields_of(keyword, value)
            if twice := values.keys() & given.keys():
                raise TypeError(f"{keyword} sets {min(twice)} a second time: write one of the two.")
            values |= given
        try:
            algo = tree.put(self.value, values)
        except ValueError as error:
            unknown = [name for name in fields if not self._takes(name, values)]
            if unknown:
                raise TypeError(
                    f"{self.name} has no field {unknown[0]!r}; "
                    f"{nearest_field(unknown[0], self.fields())}. "
                    f"help(rl.{self.name}) lists them, and "
                    "`jaxrl algorithms` which algorithm takes a memory or a normalisation."
                ) from None
            raise error
        self._check_fixed(algo)
        return algo

    def fields(self) -> dict[str, Any]:
        """Every field that a keyword changes, and its value here.

        Not listed, and changed by their paths: fields of the same name in several parts, and those
        of an optimiser or a schedule.
        """
        found: dict[str, Any] = {}
        paths = tree.paths(self.value)
        names = [path.rpartition(".")[2] for path in paths]
        for path, name in zip(paths, names, strict=True):
            holder = path.rpartition(".")[0]
            inside = holder.rpartition(".")[2] in ("options", "optimizer", "schedule")
            hidden = inside or name in (*self.fixed, "name")
            if names.count(name) == 1 and not hidden:
                found[name] = tree.get(self.value, path)
        for name, targets in self.aliases.items():
            found[name] = tree.get(self.value, tree.find(self.value, targets[0]))
        for name, settings in self.options.items():
            found[name] = next(value for value, fields in settings.items() if self._has(fields))
        return found

    def meaning(self, name: str) -> str:
        """The meaning of a field of `fields()`, in words."""
        if name in self.options:
            return MEANINGS.get(name, "")
        path = tree.find(self.value, self.aliases.get(name, (name,))[0])
        holder, _, last = path.rpartition(".")
        owner = tree.get(self.value, holder) if holder else self.value
        text = MEANINGS[name] if last != name and name in MEANINGS else meaning(type(owner), last)
        return text[:1].upper() + text[1:] + "." if text else ""

    @property
    def __signature__(self) -> inspect.Signature:
        kind = inspect.Parameter.KEYWORD_ONLY
        fields = sorted(self.fields().items(), key=lambda item: dataclasses.is_dataclass(item[1]))
        return inspect.Signature(
            [inspect.Parameter(name, kind, default=value) for name, value in fields],
            return_annotation=type(self.value),
        )

    def __repr__(self) -> str:
        return f"<{self.name}: {self.summary}>"

    def _fields_of(self, keyword: str, value: Any) -> Mapping[str, Any]:
        """The fields that a keyword sets, and their values."""
        if keyword in self.options:
            return self._option(keyword, value)
        return dict.fromkeys(self.aliases.get(keyword, (keyword,)), value)

    def _check_fixed(self, algo: Algorithm) -> None:
        """Check that a part that was replaced has not changed what the algorithm is defined by."""
        for name in self.fixed:
            path = tree.find(self.value, name)
            if path in tree.paths(algo) and tree.get(algo, path) != tree.get(self.value, path):
                raise TypeError(f"{self.name} is defined by its {name}, and {path} has another.")

    def _option(self, name: str, value: Any) -> Mapping[str, Any]:
        if value not in self.options[name]:
            known = ", ".join(map(repr, self.options[name]))
            raise ValueError(f"{name}={value!r} of {self.name} is none of {known}.")
        return self.options[name][value]

    def _has(self, fields: Mapping[str, Any]) -> bool:
        return all(
            tree.get(self.value, tree.find(self.value, name)) == value
            for name, value in fields.items()
        )

    def _takes(self, name: str, values: Mapping[str, Any]) -> bool:
        if name in self.options or name in self.aliases:
            return True
        parts = {key: x for key, x in values.items() if dataclasses.is_dataclass(x)}
        for value in (self.value, *parts.values()):
            if any(path == name or path.endswith(f".{name}") for path in tree.paths(value)):
                return True
        return False

    def _document(self) -> str:
        lines = [f"{self.summary}.", ""]
        if self.details:
            lines += [*textwrap.wrap(self.details, 98), ""]
        lines += ["Fields, with their values here and their meaning:"]
        for name, value in self.fields().items():
            lines += [f"  {name} = {_short(value)}"]
            lines += textwrap.wrap(
                self.meaning(name), 98, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
