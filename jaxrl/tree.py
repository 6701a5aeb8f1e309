"""Frozen pytrees: the container of everything in the kit."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl.errors import nearest, refuse_former_fields

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
    """Make `cls` a frozen dataclass and a pytree: `static` fields are structure, others leaves.

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
    refuse_former_fields(data_class)
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
                f"program, so it can't be the array {value!r}, nor be swept or traced. Write a "
                f"plain Python value, {field.name}={_plain(value)!r}, and one sweep for each value "
                "of it."
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

    mask: of the shape of the leading axes of each leaf.
    """

    def choose(a: Any, b: Any) -> Any:
        extra = jnp.ndim(a) - jnp.ndim(mask)
        return jnp.where(mask.reshape(mask.shape + (1,) * extra), a, b)

    return jax.tree.map(choose, new, old)


def is_finite(tree: Any) -> jax.Array:
    """True when every float in the tree is finite. []."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.array([jnp.all(jnp.isfinite(x)) for x in floats], bool).all()


# ---------------------------------------------- leaves by name: what a sweep and a command line set


def paths(tree: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Every field below a dataclass by its dotted path, `{"rule.gamma": field, ...}`.

    Entries of a dictionary have paths too, with the field of the dictionary.
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
    """The values of the fields of these names (as in `find`), by name.

    `put(tree, parts(tree, names))` is the same tree.

    Raises:
      TypeError: one text in place of several names. ValueError: no such field, or one that is named
        twice: once more as a part of another.
    """
    if isinstance(names, str):
        raise TypeError(f"{names!r} is one name, and several go here: write ({names!r},).")
    known = {name: find(tree, name) for name in names}
    for one, other in itertools.permutations(names, 2):
        if f"{known[other]}.".startswith(f"{known[one]}."):
            raise ValueError(f"{other!r} is within {one!r} in {type(tree).__name__}: name it once.")
    found = {}
    for name in names:
        found[name] = get(tree, known[name])
    return found


def get(tree: Any, path: str) -> Any:
    """The value at a dotted path, as `paths` gives it."""
    head, _, rest = path.partition(".")
    if isinstance(tree, dict):
        return tree[path]
    value = getattr(tree, head)
    return get(value, rest) if rest else value


def put(tree: T, values: Mapping[str, Any]) -> T:
    """A copy with the fields named in `values` (as in `find`) changed, all at once.

    `put(training, {"gamma": 0.9, "env.g": 5.0})`. A part that is replaced comes before the fields
    within it: `put(algo, {"rule": rl.Surrogate(), "clip": 0.1})`. Dataclasses check their fields
    once, when all are changed.

    Raises:
      ValueError: no such field, or one that is ambiguous.
    """
    changed, paths = tree, []
    for name in _parts_first(tree, values):
        path = find(changed, name).split(".")
        if path in paths:
            raise ValueError(f"{name!r} sets {'.'.join(path)} a second time: name it once.")
        changed = _put_unchecked(changed, path, values[name])
        paths.append(path)
    return _checked(changed, paths)


def _parts_first(tree: Any, values: Mapping[str, Any]) -> list[str]:
    """The names in `values`: parts before the fields within them, so that none is dropped."""

    def order(name: str) -> tuple[bool, int]:
        known = [path for path in paths(tree) if path == name or path.endswith(f".{name}")]
        depth = min((path.count(".") for path in known), default=len(values))
        return not dataclasses.is_dataclass(values[name]), depth

    return sorted(values, key=order)


def _put_unchecked(tree: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if isinstance(tree, dict):
        return tree | {".".join(path): value}
    changed = copy.copy(tree)
    value = _put_unchecked(getattr(tree, head), rest, value) if rest else value
    object.__setattr__(changed, head, value)
    return changed


def _checked(tree: Any, paths: list[list[str]]) -> Any:
    """The same tree with its dataclasses on these paths rebuilt, which checks their fields."""
    if not dataclasses.is_dataclass(tree) or not paths:
        return tree
    heads = dict.fromkeys(path[0] for path in paths)
    below = {head: [path[1:] for path in paths if path[0] == head and path[1:]] for head in heads}
    return replace(tree, **{head: _checked(getattr(tree, head), below[head]) for head in heads})


def partition(tree: T, is_chosen: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Any], T]]:
    """The leaves for which `is_chosen` holds, and the function that puts others in their places.

    The function of these leaves gives `tree`.
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if is_chosen(leaf)]

    def combine(chosen: Any) -> T:
        changed = list(leaves)
        for i, leaf in zip(places, chosen, strict=True):
            changed[i] = leaf
        return structure.unflatten(changed)

    return [leaves[i] for i in places], combine
