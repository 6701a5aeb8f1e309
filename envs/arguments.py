"""The checks of keyword arguments that every way to make an environment shares."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from jaxrl.tree import nearest


def check_names(env: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises a ValueError that names the parameters of `env` when one in `given` is not in
    `known`.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            near = nearest(name, known)
            rest = "" if near.startswith("known") else f"; all are {', '.join(known)}"
            raise ValueError(f"{env} has no parameter {name!r}: {near}{rest}.")


def frozen(env: str, settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments of a library's constructor as a static field: sorted pairs, equal for equal
    settings.
    """
    for name, value in settings.items():
        if not isinstance(value, Hashable):
            raise TypeError(
                f"{env} takes {name!r} when it is built, so it is static and can't be "
                f"{value!r}, which has no hash: write a "
                "plain number, a string or a tuple."
            )
    return tuple(sorted(settings.items()))
