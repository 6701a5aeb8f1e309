"""Frozen pytrees: the container of everything in the kit."""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A dataclass field that is fixed at compile time: a count, a shape or a function.

    It must be hashable.
    """
    return dataclasses.field(metadata={"static": True}, **kwargs)


def is_static(field: dataclasses.Field) -> bool:
    return bool(field.metadata.get("static", False))


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def pytree(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass whose fields are leaves (or subtrees) and whose `static`
    fields are structure.

    Raises:
      TypeError: when an instance is built with an array in a static field.
    """
    own_check = getattr(cls, "__post_init__", None)  # or its base's

    def __post_init__(self: Any) -> None:
        _check_static(self)
        if own_check is not None:
            own_check(self)

    setattr(cls, "__post_init__", __post_init__)
    data_class: Any = dataclasses.dataclass(frozen=True)(cls)
    fields = [field for field in dataclasses.fields(data_class) if field.init]
    return jax.tree_util.register_dataclass(
        data_class,
        data_fields=[field.name for field in fields if not is_static(field)],
        meta_fields=[field.name for field in fields if is_static(field)],
    )


def _check_static(self: Any) -> None:
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if is_static(field) and isinstance(value, jax.Array | np.ndarray):
            raise TypeError(
                f"{type(self).__name__}.{field.name} is static: it shapes the compiled "
                "program, so it can't be the array "
                f"{value!r}, nor be swept or traced. Write a plain Python value, "
                f"{field.name}={_plain(value)!r}, and "
                "one sweep for each value of it."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Tracer):
        return "a Python value"
    return np.asarray(value).ravel()[:1].tolist()[0] if np.size(value) else None


def replace(tree: T, /, **changes: Any) -> T:
    """A copy of a frozen dataclass with some fields changed."""
    return dataclasses.replace(tree, **changes)  # type: ignore[type-var]


def where(mask: jax.Array, new: T, old: T) -> T:
    """`new` where `mask` holds, else `old`, leaf by leaf.

    `mask` [...] lines up with the leading axes of each leaf.
    """

    def choose(a: Any, b: Any) -> Any:
        extra = jnp.ndim(a) - jnp.ndim(mask)
        return jnp.where(mask.reshape(mask.shape + (1,) * extra), a, b)

    return jax.tree.map(choose, new, old)


def is_finite(tree: Any) -> jax.Array:
    """True when every float in the tree is finite. []."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.array([jnp.all(jnp.isfinite(x)) for x in floats], bool).all()


def check_counts(record: Any, *names: str, least: int = 1) -> None:
    """Refuses a dataclass in which a count of these names is no whole number, or is less than
    `least`.
    """
    for name in names:
        count = getattr(record, name)
        if not isinstance(count, int | np.integer) or count < least:
            told = f"{type(record).__name__}({name}={count!r})"
            raise ValueError(
                f"{told} asks for nothing that can be done: write a whole number, "
                f"{name}={least} or more."
            )


def nearest(name: str, known: Any) -> str:
    """The end of an error about an unknown name: the names most like it, else all of them."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"the nearest are {', '.join(close)}" if close else f"known are {', '.join(known)}"


# ---------------------------------------------- leaves by name: what a sweep and a command line set


def paths(tree: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Every field below a dataclass by its dotted path, `{"rule.gamma": field, ...}`, and what its
    dictionaries hold.
    """
    found = {}
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        path = f"{prefix}{field.name}"
        found[path] = field
        if dataclasses.is_dataclass(value) and not is_static(field):
            found |= paths(value, f"{path}.")
        if isinstance(value, dict) and not is_static(field):
            found |= {f"{path}.{name}": field for name in value}
    return found


def find(tree: Any, name: str) -> str:
    """The dotted path of the field called `name` (its last part, or a longer end that is unique).

    Raises:
      ValueError: no field ends in `name`, or several do.
    """
    known = paths(tree)
    matches = [path for path in known if path == name or path.endswith(f".{name}")]
    exact = [path for path in matches if path == name]
    if not matches:
        likely = known if "." in name else {path.rpartition(".")[2] for path in known}
        raise ValueError(f"{type(tree).__name__} has no field {name!r}; {nearest(name, likely)}.")
    if len(matches) > 1 and not exact:
        raise ValueError(
            f"{name!r} is ambiguous in {type(tree).__name__}: write one of {', '.join(matches)}."
        )
    return (exact or matches)[0]


def parts(tree: Any, names: Sequence[str]) -> dict[str, Any]:
    """What the fields of these names hold (as in `find`): `put(tree, parts(tree, names))` is the
    same tree.

    Raises:
      TypeError: one text in place of several names. ValueError: no such field, or one that is named
        twice, by itself or with the whole that it is a part of.
    """
    if isinstance(names, str):
        raise TypeError(f"{names!r} is one name, and several go here: write ({names!r},).")
    known = {name: find(tree, name) for name in names}
    for one, other in itertools.permutations(names, 2):
        if f"{known[other]}.".startswith(f"{known[one]}."):
            raise ValueError(f"{other!r} is within {one!r} in {type(tree).__name__}: name it once.")
    found = {}
    for name in names:
        found[name] = tree
        for part in known[name].split("."):
            found[name] = (
                found[name][part] if isinstance(found[name], dict) else getattr(found[name], part)
            )
    return found


def put(tree: T, values: Mapping[str, Any]) -> T:
    """A copy with the fields named in `values` (as in `find`) changed: `put(training, {"gamma":
    0.9, "env.g": 5.0})`.
    """
    for name, value in values.items():
        tree = _put(tree, find(tree, name).split("."), value)
    return tree


def _put(tree: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if isinstance(tree, dict):
        return tree | {".".join(path): value}
    return replace(tree, **{head: _put(getattr(tree, head), rest, value) if rest else value})


def partition(tree: T, is_chosen: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Any], T]]:
    """The leaves for which `is_chosen` holds, and the function that puts others in their places:
    `combine(chosen)` equals `tree`.
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if is_chosen(leaf)]

    def combine(chosen: Any) -> T:
        changed = list(leaves)
        for i, leaf in zip(places, chosen, strict=True):
            changed[i] = leaf
        return structure.unflatten(changed)

    return [leaves[i] for i in places], combine
