"""Types of the command line, and errors in its words: flags and typed names."""

import ast
import dataclasses
import decimal
import inspect
import pathlib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

REGISTRY = ConstructorRegistry()
ASSIGNMENT = re.compile(
    r"(?<![\w.{'\"-])(\w+(?:\.\w+)*)=(\((?:[^()]*)\)|'[^']*'|\"[^\"]*\"|-?[\w.+]*\w|(?![\w(]))"
)
# a swept name in an error: "axis 'algo.lr' holds ...", "'algo.lr' takes the value ..."
AXIS = re.compile(r"(?:(?:static )?axis |^(?=\S+ takes ))'([\w.]+)'")
ASSIGNING = ("--add", "--also", "--env-params")  # options that take name=value
# pieces of errors that speak of Python, and what they are on the command line
REWORDED = (
    (r"(: select one of each, for example )", r"\1--where "),
    (
        r"^0 of [\d,]+ runs have finished and are kept as this exception's \.results(; (.*))?\.$",
        r"\2",
    ),
    (
        r"runs have finished and are kept as this exception's \.results",
        "runs had finished, and are lost: --folder FOLDER saves them",
    ),
    (r"rl\.envs\.names\(\) lists all of them", "`jaxrl envs` lists all"),
    (r"call again to resume from there", "run the command again to resume from there"),
    (r"call the same sweep again", "run the command again"),
    (r"Run the same sweep again", "Run the command again"),
    (r"run the same sweep again", "run the command again"),
    (r"rl\.best\(results\) names the best\.", "Write --where NAME=VALUE for each."),
    (
        r"that rl\.sweep\(folder=\) made, or a record in one file",
        "of `jaxrl train --folder`, or a record in one file",
    ),
    (
        r"the best are kept by rl\.sweep\(\.\.\., keep_best=True\), the last by default",
        "--keep-best saves the best, the last are saved by default",
    ),
    (r"(where it is kept, )rl\.sweep\(\.\.\., folder=\)", r"\1jaxrl train --folder FOLDER"),
    (r"[Pp]ass training=, the rl\.Training that was swept", "it can be read in Python only"),
)


class FlagError(ValueError):
    """An error about what was typed, in the words of the command line already."""


def whole_number(text: str) -> int:
    """The whole number that a text is: 1000, 1_000 or 1e3.

    Raises:
      ValueError: it is not one.
    """
    try:
        number = decimal.Decimal(text)
        if number.is_finite() and abs(number) < 2**63 and number == int(number):
            return int(number)
    except (decimal.InvalidOperation, ValueError):
        pass
    raise ValueError(f"{text!r} is not a whole number")


@REGISTRY.primitive_rule
def _whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda x: isinstance(x, int),
        str_from_instance=lambda x: [str(x)],
    )


@REGISTRY.primitive_rule
def _paths(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[pathlib.Path] | None:
    if info.type is not pathlib.Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: pathlib.Path(words[0]).expanduser(),
        is_instance=lambda x: isinstance(x, pathlib.Path),
        str_from_instance=lambda x: [str(x)],
    )


def flags_of(commands: dict[str, Callable[..., Any]], words: list[str]) -> set[str]:
    """The names of the options that a command line may use, without those of labels in it.

    A label such as seed=7 of --where is not an option.
    """
    if not words or words[0] not in commands:
        return set()
    parameters = inspect.signature(commands[words[0]]).parameters
    names = set(parameters)
    for parameter in parameters.values():  # a command of each algorithm has the options of all
        for option in typing.get_args(parameter.annotation):
            names |= {
                field.name
                for data_class in typing.get_args(option)[:1]
                if dataclasses.is_dataclass(data_class)
                for field in dataclasses.fields(data_class)
            }
    labels = {word.partition("=")[0] for word in words if "=" in word and word[:1] != "-"}
    return names - labels


def assigned(words: list[str]) -> dict[str, str]:
    """The names that were typed as name=value, and the option that each was typed after."""
    found, option = {}, ""
    for word in words:
        if word.startswith("--"):
            option, _, word = word.partition("=")
        name, is_assignment, _ = word.partition("=")
        if is_assignment and option in ASSIGNING:
            found[name] = option
    return found


def spoken(
    text: str,
    flags: Iterable[str],
    names: dict[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
) -> str:
    """An error in the words of the command line.

    `chunk=0` is `--chunk 0`, `allow=('seeds',)` is `--allow seeds`, where these are among `flags`.
    names: of classes, and what was typed for them. typed: of `assigned`; `max_steps=0` is
    `--env-params max_steps=0`, and axis 'algo.lr' is `--also lr`.
    """
    known, options = set(flags), typed or {}

    def typed_for(path: str) -> str | None:
        """The name that was typed for a field."""
        return next((name for name in options if f".{path}".endswith(f".{name}")), None)

    def axis(match: re.Match[str]) -> str:
        name = typed_for(match[1])
        last = match[1].rpartition(".")[2]
        if name is not None:
            return f"{options[name]} {name}"
        return f"--{last.replace('_', '-')}" if last in known else match[0]

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        if (given := typed_for(name)) is not None:
            return f"{options[given]} {given}={' '.join(_words(value))}"
        if name not in known:
            return match[0]
        option = name.replace("_", "-")
        if value in ("True", "False"):
            return f"--{option}" if value == "True" else f"--no-{option}"
        return " ".join([f"--{option}", *_words(value)])

    for pattern, replacement in REWORDED:
        text = re.sub(pattern, replacement, text)
    for name, word in (names or {}).items():
        text = re.sub(rf"\b{name}\b(?![.(])", word, text)
    return ASSIGNMENT.sub(flag, AXIS.sub(axis, text))


def _words(value: str) -> list[str]:
    """A value in Python's notation as the words that are typed for it."""
    if not value:
        return []
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return [value]
    if isinstance(found, tuple | list):
        return [str(x) for x in found]
    return [found] if isinstance(found, str) else [value]
