"""Frozen pytrees: the container of everything in the kit."""

import copy
import copyreg
import dataclasses
import itertools
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl.errors import nearest_field, refuse_unknown_fields
from jaxrl.ranges import RANGE, Range, check_ranges, range_of

T = TypeVar("T")


def static(*, within: str | None = None, added: bool = False, **kwargs: Any) -> Any:
    """A dataclass field that is fixed at compile time: a count, a shape or a function.

    It must be hashable. within: the range of a number, as in `leaf`. added: as in `added`.
    """
    metadata = {"static": True, "added": added} | ({} if within is None else {RANGE: Range(within)})
    return dataclasses.field(metadata=metadata, **kwargs)


def added(default: Any) -> Any:
    """A dataclass field that a former version did not have: records omit it where it has its
    default (None, True, False or ()), so that those of that version, and folders with them, stay
    valid.
    """
    return dataclasses.field(default=default, metadata={"added": True})


def recorded_fields(value: Any) -> list[dataclasses.Field]:
    """The fields that a record of a dataclass has: all but those of `added` at their default."""

    def is_omitted(field: dataclasses.Field) -> bool:
        has_default = vars(value)[field.name] is field.default
        return has_default and field.metadata.get("added", False)

    return [field for field in dataclasses.fields(value) if not is_omitted(field)]


def leaf(default: Any, within: str) -> Any:
    """A dataclass field that is a number in a range, such as `gamma: float = leaf(0.99, "[0, 1]")`.

    A value out of range is refused when the dataclass is created, unless it is a JAX array. within:
    the range, in the notation of `Range`; `ranges` returns it.
    """
    return dataclasses.field(default=default, metadata={RANGE: Range(within)})


def is_static(field: dataclasses.Field) -> bool:
    """True for a field that is structure: of ours, of equinox's, or flax's `pytree_node=False`."""
    is_leaf = field.metadata.get("pytree_node", True)
    return bool(field.metadata.get("static", False)) or not is_leaf


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree: `static` fields are structure, others leaves.

    An instance is checked where it is made, by its own `__post_init__` too; not where JAX builds
    one from leaves, which may be anything (`jax.tree.map(jnp.shape, algo)`).

    Raises:
      TypeError: when an instance is built with an array in a static field.
      ValueError: when it is built with a number out of the range of its field (`leaf`).
    """
    own = set(vars(cls))
    _inherit_ranges(cls)
    own_check = getattr(cls, "__post_init__", None)  # or its base's

    def __post_init__(self: Any) -> None:
        _check_static(self)
        if own_check is not None:
            own_check(self)
        check_ranges(self)

    setattr(cls, "__post_init__", __post_init__)
    data_class: Any = dataclasses.dataclass(frozen=True)(cls)
    if "__init__" not in own:
        refuse_unknown_fields(data_class)
    _register(data_class)
    return data_class


def _inherit_ranges(cls: type) -> None:
    """Give a field with a new default the range that it has in the base class."""
    inherited: dict[str, dataclasses.Field] = {}
    for base in reversed(cls.__mro__[1:]):
        if dataclasses.is_dataclass(base):
            inherited |= {field.name: field for field in dataclasses.fields(base)}
    for name, default in list(vars(cls).items()):
        within = range_of(inherited[name]) if name in inherited else None
        if within is not None and not isinstance(default, dataclasses.Field | property):
            setattr(cls, name, leaf(default, within.text))


def _register(data_class: Any) -> None:
    """Make a dataclass a pytree. What is built from leaves is not checked."""
    fields = [field for field in dataclasses.fields(data_class) if field.init]
    leaves = [field.name for field in fields if not is_static(field)]
    structure = [field.name for field in fields if is_static(field)]
    keys = [jax.tree_util.GetAttrKey(name) for name in leaves]

    def flatten(tree: Any) -> tuple[list[Any], tuple[Any, ...]]:
        held = vars(tree)
        return [held[name] for name in leaves], tuple(held[name] for name in structure)

    def flatten_with_keys(tree: Any) -> tuple[list[Any], tuple[Any, ...]]:
        values, held = flatten(tree)
        return list(zip(keys, values, strict=True)), held

    def unflatten(held: tuple[Any, ...], values: Any) -> Any:
        tree = object.__new__(data_class)
        vars(tree).update(zip(structure, held, strict=True))
        vars(tree).update(zip(leaves, values, strict=True))
        return tree

    jax.tree_util.register_pytree_with_keys(
        data_class, flatten_with_keys, unflatten, flatten_func=flatten
    )


def _check_static(self: Any) -> None:
    for field in dataclasses.fields(self):
        value = vars(self)[field.name]
        if not is_static(field):
            continue
        if not isinstance(value, jax.Array | np.ndarray):
            _check_builder(self, field.name, value)
        else:
            raise TypeError(
                f"{type(self).__name__}.{field.name} is static: it shapes the compiled "
                f"program, so it can't be the array {value!r}, nor be swept or traced. Write a "
                f"plain Python value, {field.name}={_plain(value)!r}, and one sweep for each value "
                "of it."
            )


def _check_builder(self: Any, name: str, value: Any) -> None:
    """Check that a static value holds no arrays, as a module of equinox or flax.nnx does."""
    if any(isinstance(x, jax.Array | np.ndarray) for x in jax.tree.leaves(value)):
        raise TypeError(
            f"{name} of {type(self).__name__} is a {type(value).__name__} that holds its parameters"
            " already: write a builder, a function from {head: size} to rl.Network(init, apply), "
            "where init(key, obs) gives the parameters, or rl.MLP((64, 64))."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Tracer):
        return "a Python value"
    return np.asarray(value).ravel()[:1].tolist()[0] if np.size(value) else None


def replace(tree: T, /, **changes: Any) -> T:
    """A copy of a frozen dataclass with some fields changed."""
    return dataclasses.replace(tree, **changes)  # type: ignore[type-var]


def flat(values: Any, leading: int = 0) -> jax.Array:
    """All numbers of a pytree, with `leading` leading axes, as vectors. float32 [..., D]."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(values)]
    rows = [x.reshape(*x.shape[:leading], -1).astype(jnp.float32) for x in leaves]
    return jnp.concatenate(rows, -1)


def where(mask: jax.Array, new: T, old: T) -> T:
    """`new` where `mask` holds, else `old`, leaf by leaf.

    mask: of the shape of the leading axes of each leaf.
    """

    def choose(a: Any, b: Any) -> Any:
        extra = jnp.ndim(a) - jnp.ndim(mask)
        return jnp.where(mask.reshape(mask.shape + (1,) * extra), a, b)

    return jax.tree.map(choose, new, old)


def cast_like(new: T, old: Any) -> T:
    """`new` with the widths of the numbers in `old`, leaf by leaf, as a carry of a scan must have.

    Only with `jax_enable_x64` do they differ, where what has no explicit type is 64 bits wide.
    Kinds of numbers are kept: a float does not become an integer.
    """

    def cast(a: Any, b: Any) -> Any:
        kinds = (jnp.result_type(a), jnp.result_type(b))
        same = kinds[0] == kinds[1] or kinds[0].kind != kinds[1].kind
        return a if same else jnp.asarray(a, kinds[1])

    return jax.tree.map(cast, new, old)


def in_32_bits(tree: T) -> T:
    """The same tree with its arrays of 64-bit numbers, which `jax_enable_x64` makes, in 32 bits."""
    narrow = {np.dtype("float64"): jnp.float32, np.dtype("int64"): jnp.int32}

    def cast(x: Any) -> Any:
        is_array = isinstance(x, jax.Array | np.ndarray | np.generic)
        return jnp.asarray(x, narrow[x.dtype]) if is_array and x.dtype in narrow else x

    return tree if jnp.result_type(float).itemsize == 4 else jax.tree.map(cast, tree)


def is_finite(tree: Any) -> jax.Array:
    """True when every float in the tree is finite. []."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.array([jnp.all(jnp.isfinite(x)) for x in floats], bool).all()


# ---------------------------------------------- leaves by name: what a sweep and a command line set


def paths(tree: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Every field below a dataclass by its dotted path, `{"rule.gamma": field, ...}`.

    Entries of a dictionary also have paths, mapped to the field of the dictionary, and so have the
    fields of entries that are dataclasses.
    """
    found = {}
    for field in dataclasses.fields(tree):
        value = vars(tree)[field.name]
        path = f"{prefix}{field.name}"
        found[path] = field
        if dataclasses.is_dataclass(value) and not is_static(field):
            found |= paths(value, f"{path}.")
        if isinstance(value, dict) and not is_static(field):
            found |= {f"{path}.{name}": field for name in value}
            for name, entry in value.items():
                found |= paths(entry, f"{path}.{name}.") if dataclasses.is_dataclass(entry) else {}
    return found


def ranges(tree: Any) -> dict[str, str]:
    """The ranges of the numbers below a dataclass, `{"rule.gamma": "[0, 1]", ...}`.

    `rl.ranges(rl.ppo())`. A round bracket excludes its end: "[0, inf)" excludes infinity.
    """
    found = {path: range_of(field) for path, field in paths(tree).items()}
    return {path: within.text for path, within in found.items() if within is not None}


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
        raise ValueError(
            f"{type(tree).__name__} has no field {name!r}; {nearest_field(name, likely)}."
        )
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
        return tree[path] if path in tree else get(tree[head], rest)
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
        name = ".".join(path)
        if name in tree or head not in tree:
            return tree | {name: value}
        return tree | {head: _put_unchecked(tree[head], rest, value)}
    changed = copy.copy(tree)
    value = _put_unchecked(getattr(tree, head), rest, value) if rest else value
    object.__setattr__(changed, head, value)
    return changed


def _checked(tree: Any, paths: list[list[str]]) -> Any:
    """The same tree with its dataclasses on these paths rebuilt, which checks their fields."""

    def below(head: str) -> list[list[str]]:
        return [path[1:] for path in paths if path[0] == head and path[1:]]

    if isinstance(tree, dict):
        return {name: _checked(entry, below(name)) for name, entry in tree.items()}
    if not dataclasses.is_dataclass(tree) or not paths:
        return tree
    heads = dict.fromkeys(path[0] for path in paths)
    return replace(tree, **{head: _checked(getattr(tree, head), below(head)) for head in heads})


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


# -------------------------------------------------------------------- functions as values by name


def _reduced(function: Any) -> Any:
    """The name of a function that its module has, by which it is pickled and copied; of any other
    function, such as a closure, what jax itself writes.
    """
    name = function.__qualname__
    found: Any = sys.modules.get(function.__module__)
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    # what __main__ defines is not there in another process
    known = found is function and function.__module__ != "__main__"
    return name if known else function.__reduce_ex__(4)


# jax's functions, such as jnp.tanh and jax.nn.relu, are objects that pickle can't write and that
# copy.deepcopy compiles anew: another function than the one in the original
for _kind in (type(jax.nn.leaky_relu), jax.custom_jvp, jax.custom_vjp):
    copyreg.pickle(_kind, _reduced)  # type: ignore[arg-type]
