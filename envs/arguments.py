"""Checks of keyword arguments, shared by all functions that make an environment."""

import importlib
from collections.abc import Collection, Hashable, Iterable, Mapping
from types import ModuleType
from typing import Any

from jaxrl.errors import nearest


def check_id(name: str, names: Collection[str], left_out: Mapping[str, str]) -> None:
    """Raise a ValueError if `name` is not one of `names`, with the reason given in `left_out`."""
    if name in left_out:
        raise ValueError(f"{name} can't be made: {left_out[name]}.")
    if name not in names:
        raise ValueError(f"There is no environment {name!r}; {nearest(name, names)}.")


def check_names(env: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ValueError that lists the parameters of `env` if one in `given` is not `known`."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = nearest(name, known)
            rest = "" if near.startswith("known") else f"; all are {', '.join(known)}"
            raise ValueError(f"{env} has no parameter {name!r}: {near}{rest}.")


def frozen(env: str, settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Constructor arguments as the value of a static field: sorted pairs, so that equal settings
    are equal and hash alike.
    """
    for name, value in settings.items():
        if not isinstance(value, Hashable):
            raise TypeError(
                f"{env} takes {name!r} when it is built, so it is static and can't be {value!r}, "
                "which is not hashable: write a plain number, a string or a tuple."
            )
    return tuple(sorted(settings.items()))


def of_extra(module: str, extra: str, user: str) -> ModuleType:
    """The module of a package that an extra of the kit installs.

    Raises:
      ImportError: it is not installed; `user` is what needs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{user} needs the package {module.partition('.')[0]}, which is not installed: "
            f"pip install 'jaxrl[{extra}]'."
        ) from None
