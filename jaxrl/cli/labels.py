"""Labels on the command line: --where lr=1e-3 seed=7."""

import inspect
from collections.abc import Callable
from typing import Any

import jaxrl as rl
from jaxrl.cli.words import FlagError
from jaxrl.runs.catalogue import PREFIX_COLUMNS


def labels_of(where: tuple[str, ...], call: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The labels of --where, as keyword arguments of `call(..., **labels)` where there is one.

    Raises:
      FlagError: a label is malformed, or has the name of another argument of `call`.
    """
    labels = dict(label_of(text) for text in where)
    if call is None:
        return labels
    reserved = [
        name
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    ]
    for name in labels:
        if name in reserved:
            by_path = f"Write more of the field's path, for example env.{name}=..."
            by_axis = f"Select along that axis in Python: rl.load(FOLDER).sel({name}=...)"
            raise FlagError(
                f"--where {name}=...: {name!r} is an argument of rl.{call.__name__} itself. "
                f"{by_path if call is rl.runs else by_axis}."
            )
    return labels


def label_of(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise FlagError(f"--where {text!r} is not name=value; write, for example, lr=1e-3 seed=7.")
    if name in PREFIX_COLUMNS:  # the commit 12e4567 is not a number
        return name, value
    try:
        number = float(value)
    except ValueError:
        return name, {"true": True, "false": False}.get(value.lower(), value)
    # a whole number stays one in errors
    return name, int(number) if number.is_integer() else number
