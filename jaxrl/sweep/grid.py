"""The configs of a sweep: named axes, crossed or zipped."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import stats, tree
from jaxrl.env import check_copies
from jaxrl.errors import name_of, nearest
from jaxrl.keys import as_key, batch_dependence, check_keys, is_key, is_whole
from jaxrl.ranges import check_values
from jaxrl.sweep import arrays
from jaxrl.sweep.results import Coordinates
from jaxrl.train import Training
from jaxrl.tree import pytree

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@pytree
class Zipped:
    """Names that change together along one axis, each with its values; made by `zipped(...)`."""

    values: dict[str, Any]


def zipped(**values: Any) -> Zipped:
    """One axis along which several names change together: `over={"setting": zipped(lr=[1e-3, 1e-2],
    gamma=[0.9, 0.99])}`.

    The axis is labelled 0, 1, 2, ...; values that are numbers are coordinates along it. Names with
    a dot: `zipped(**{"env.g": g, "lr": lr})`.

    Raises:
      ValueError: no name, an empty or single value, names with different numbers of values.
    """
    if not values:
        raise ValueError(
            "zipped() holds no values: write zipped(lr=[1e-3, 1e-2], gamma=[0.9, 0.99])."
        )
    if inner := [name for name, value in values.items() if isinstance(value, Zipped)]:
        raise ValueError(
            f"zipped({inner[0]}=zipped(...)) zips twice: name all that changes together in one "
            "zipped(...)."
        )
    made = {name: _axis(name, value) for name, value in values.items()}
    sizes = {name: _size(value) for name, value in made.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"zipped({', '.join(f'{name}: {size} values' for name, size in sizes.items())}): "
            "names that change together need the same number of values. To cross them instead, "
            "give each its own entry in over=."
        )
    return Zipped(made)


class Grid:
    """Every combination of the values of named axes, the last axis fastest. Member i has one
    config: {name: value}.
    """

    def __init__(self, over: Mapping[str, Any]) -> None:
        if not isinstance(over, Mapping):
            raise TypeError(
                f"over is a dictionary from a name to its values, and got a {type(over).__name__}: "
                "write rl.sweep(training, {'seed': range(10)})."
            )
        if not over:
            raise ValueError(
                "over={} sweeps nothing: write over={'seed': "
                "jax.random.split(jax.random.key(0), 100)}."
            )
        self.values = {
            name: value if isinstance(value, Zipped) else _axis(name, value)
            for name, value in over.items()
        }
        self.sizes = {name: _size(value) for name, value in self.values.items()}
        self.members = math.prod(self.sizes.values())
        _check_names(self.values)
        for name, value in self.values.items():
            _check_values(name, value)

    @property
    def names(self) -> list[str]:
        """The names in a config: the axes, and in place of a zipped one the names in it."""
        return [name for axis, value in self.values.items() for name in _parts(axis, value)]

    def configs(self, members: np.ndarray) -> dict[str, Any]:
        """The configs of some members, stacked: {name: [len(members), ...]}."""
        places = np.unravel_index(members, tuple(self.sizes.values()))
        configs: dict[str, Any] = {}
        for (axis, value), place in zip(self.values.items(), places, strict=True):
            configs |= _parts(axis, jax.tree.map(lambda x, place=place: x[place], value))
        return configs

    @property
    def first(self) -> dict[str, Any]:
        """The config of the first member."""
        return jax.tree.map(lambda x: x[0], self.configs(np.zeros(1, int)))

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """The labels of each axis: its values where they are numbers, else 0, 1, 2, ..."""
        return {name: _label(value, self.sizes[name]) for name, value in self.values.items()}

    @property
    def coordinates(self) -> Coordinates:
        """The numbers in zipped axes, and of keys what identifies them: {name: (axis, values)}."""
        zips = [
            (axis, value.values) for axis, value in self.values.items() if isinstance(value, Zipped)
        ]
        numbers = {
            name: (axis, _label(x, self.sizes[axis]))
            for axis, inner in zips
            for name, x in inner.items()
            if _plain(x)
        }
        keys = {
            stats.key_name(name): (axis, stats.key_ids(raw(x)))
            for axis, value in self.values.items()
            for name, x in _parts(axis, value).items()
            if _is_keys(name, x)
        }
        return numbers | keys

    def record(self) -> dict[str, Any]:
        """The axes as JSON, keys as their raw words: enough to build them again.

        `config_from_record` reads it.
        """

        def words(value: Any) -> Any:
            if isinstance(value, Zipped):
                return {"zipped": {name: _words(inner) for name, inner in value.values.items()}}
            return _words(value)

        return {name: words(value) for name, value in self.values.items()}

    @property
    def large_arrays(self) -> list[jax.Array]:
        """The arrays that `record` names by their digests."""
        return [x for x in jax.tree.leaves(self.values) if _by_digest(x)]


def config_from_record(
    record: dict[str, Any], member: int | np.ndarray, load: Callable[[arrays.Reference], np.ndarray]
) -> dict[str, Any]:
    """The config of member i of a recorded sweep, or of several: {name: array}, a pytree as {path:
    array}, keys as their raw words.

    load: the array of a reference.
    """
    labels, config = record["labels"], {}
    places = np.unravel_index(member, tuple(len(label) for label in labels.values()))

    def at(values: Any, place: Any) -> Any:
        if arrays.is_reference(values):
            return load(values)[place]
        if isinstance(values, dict):
            return {path: at(x, place) for path, x in values.items()}
        return np.asarray(values)[place]

    for axis, place in zip(labels, places, strict=True):
        values = record["axes"][axis]
        is_zipped = isinstance(values, dict) and list(values) == ["zipped"]
        parts = values["zipped"] if is_zipped else {axis: values}
        config |= {name: at(part, place) for name, part in parts.items()}
    return config


def _words(value: Any) -> Any:
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    words = {
        jax.tree_util.keystr(path): arrays.reference(x) if _by_digest(x) else raw(x).tolist()
        for path, x in leaves
    }
    return words[""] if list(words) == [""] else words


def _by_digest(x: jax.Array) -> bool:
    """True for a large array that is not itself the labels of its axis."""
    return x.ndim > 1 and arrays.is_large(x)


def _parts(axis: str, value: Any) -> dict[str, Any]:
    return value.values if isinstance(value, Zipped) else {axis: value}


def _size(value: Any) -> int:
    return jax.tree.leaves(value)[0].shape[0]


def _check_names(values: Mapping[str, Any]) -> None:
    """Each name once: as an axis, or in one zipped axis."""
    taken = dict.fromkeys(values, "an axis itself")
    for axis, value in values.items():
        for name in value.values if isinstance(value, Zipped) else ():
            if name in taken:
                raise ValueError(
                    f"{name!r} is zipped in axis {axis!r} and is {taken[name]}: a config would "
                    "have two values of it. Name it once; an axis that zips may have any other "
                    "name, such as 'setting'."
                )
            taken[name] = f"zipped in axis {axis!r}"


def _axis(name: str, value: Any) -> Any:
    if not jax.tree.leaves(value):
        raise ValueError(f"axis {name!r} is empty: {value!r}. Give at least one value.")
    if isinstance(value, list | tuple | range):
        value = np.asarray(value)
    value = jax.tree.map(
        lambda x: x if isinstance(x, jax.Array) else _array(name, np.asarray(x)), value
    )
    shapes = {jnp.shape(x)[:1] for x in jax.tree.leaves(value)}
    if () in shapes:
        raise ValueError(
            f"axis {name!r} is a single value, {value!r}; an axis has a leading length: write "
            "jnp.array([...])."
        )
    if len(shapes) > 1:
        raise ValueError(
            f"axis {name!r} has leaves of different lengths, {sorted(s[0] for s in shapes)}; make "
            "them equal."
        )
    if shapes == {(0,)}:
        raise ValueError(
            f"axis {name!r} has length 0, so the sweep has no runs. Give at least one value."
        )
    return value


def _array(name: str, x: np.ndarray) -> jax.Array:
    if x.dtype.kind not in "biuf":
        raise ValueError(
            f"axis {name!r} holds {x.dtype}, which is not a number: an axis is an array of numbers "
            "or of keys."
        )
    made = jnp.asarray(x)
    if x.dtype.kind in "iu" and not (np.asarray(made) == x).all():
        raise ValueError(
            f"axis {name!r} holds whole numbers beyond {made.dtype}: {x.min()} to {x.max()}; keep "
            "them within it."
        )
    return made


def raw(x: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def _plain(value: Any) -> bool:
    """True for an axis of numbers [n]."""
    return (
        isinstance(value, jax.Array)
        and value.ndim == 1
        and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    )


def _is_keys(name: str, value: Any) -> bool:
    """True for an axis of keys of two words [n], or of raw ones of a training [n, 2]."""
    if not isinstance(value, jax.Array):
        return False
    is_raw = name == "seed" and value.ndim == 2 and value.dtype == jnp.uint32
    return (is_raw or (is_key(value) and value.ndim == 1)) and raw(value).shape[1:] == (2,)


def _check_values(name: str, value: Any) -> None:
    """Refuse keys that depend on their batch, and repeated values, which are not replicates."""
    leaves = jax.tree.leaves(value)
    for leaf in leaves:
        if is_key(leaf):
            check_keys(leaf)
    if any(arrays.is_large(leaf) for leaf in leaves if not is_key(leaf)):
        return
    size = _size(value)
    rows = np.concatenate(
        [np.ascontiguousarray(raw(x).reshape(size, -1)).view(np.uint8) for x in leaves], axis=1
    )
    words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
    words = words[:, 0] if words.shape[1] == 1 else words  # the axis costs most of the time
    unique, first, counts = np.unique(words, axis=0, return_index=True, return_counts=True)
    if len(unique) == size:
        return
    place = int(first[counts > 1].min())
    shown = _label(value, size)[place] if _plain(value) else f"value {place}"
    raise ValueError(
        f"axis {name!r} has {shown} {counts.max()} times: equal values are one run, not "
        "replicates. Write each value once."
    )


def _label(value: Any, size: int) -> np.ndarray:
    if not _plain(value):
        return np.arange(size)
    label = np.asarray(value)
    # a float32 as the decimal that was written, so that results.sel(gamma=0.99) finds it
    return np.array([float(str(x)) for x in label]) if label.dtype == np.float32 else label


def bind(run: Callable[..., Any] | Training, grid: Grid) -> Callable[..., Any]:
    """The function of one config, after checking that `run` takes the swept names and no others.

    Of a function its outputs, `at(config)`; of a Training that with the values of the config and
    its key, `at(config, training)`.

    Raises:
      ValueError: a swept name that `run` does not take, or a parameter without a value.
      TypeError: a swept name that is static.
    """
    return _bind_training(run, grid) if isinstance(run, Training) else _bind_function(run, grid)


def _bind_function(run: Callable[..., Any], grid: Grid) -> Callable[[dict[str, Any]], Any]:
    if not callable(run):
        raise TypeError(
            f"a sweep runs an rl.Training or a function, and got a {type(run).__name__}: write "
            "rl.sweep(rl.Training(algo, env), {'seed': range(10)})."
        )
    check_takes(run, grid.names, "swept")
    if reason := batch_dependence():  # of keys that the function may make
        warnings.warn(reason, stacklevel=4)
    parameters = inspect.signature(run).parameters.values()
    needed = {p.name for p in parameters if p.default is p.empty and p.kind in NAMED}
    if missing := sorted(needed - set(grid.names)):
        raise ValueError(
            f"{_title(run)} needs {', '.join(missing)}, which is not swept: add an axis, or a "
            "default value."
        )
    return lambda config: run(**config)


def check_takes(run: Callable[..., Any], names: Iterable[str], given: str) -> None:
    """Raise ValueError for a name that is not a parameter of `run`; given: where it is from."""
    parameters = inspect.signature(run).parameters.values()
    named = [p.name for p in parameters if p.kind in NAMED]
    for name in names:
        if name not in named and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            hint = nearest(name, named)
            raise ValueError(
                f"{_title(run)}({', '.join(named)}) takes no {name!r}, which is {given}; {hint}."
            )


def _title(run: Callable[..., Any]) -> str:
    return name_of(run, type(run).__name__)


def _bind_training(
    run: Training, grid: Grid
) -> Callable[[dict[str, Any], Training], tuple[Training, jax.Array]]:
    check_copies(
        run.env,
        "A sweep has environments of its own for each member",
        "train one after the other, train = jax.jit(training), and [train(jax.random.key(seed)) "
        "for seed in range(5)]",
    )
    if "seed" not in grid.names:
        raise ValueError(
            "a Training is swept over at least 'seed': whole numbers, or keys from "
            "jax.random.split."
        )
    seed = grid.first["seed"]
    if not is_key(seed):
        check_keys()
        if not is_whole(seed):
            raise ValueError(
                f"axis 'seed' holds {seed.dtype}, and a seed is a whole number: write "
                "'seed': range(10)."
            )
    known = tree.paths(run)
    values = {name: x for item in grid.values.items() for name, x in _parts(*item).items()}
    for name in grid.names:
        if name == "seed":
            continue
        field = known[tree.find(run, name)]
        if tree.is_static(field):
            raise TypeError(
                f"{name!r} is static in {type(run).__name__}: it shapes the compiled program, so "
                f"it can't be swept inside one. Write {_static_call(grid, name)}: one compilation "
                "for each value, and one dataset."
            )
        if _plain(values[name]):
            check_values(name, np.asarray(values[name]), field)

    def at(config: dict[str, Any], training: Training) -> tuple[Training, jax.Array]:
        fields = {name: value for name, value in config.items() if name != "seed"}
        return tree.put(training, fields), as_key(config["seed"])

    return at


def _static_call(grid: Grid, name: str) -> str:
    """The call that makes a swept name a static axis."""
    rest = "".join(
        f"{axis!r}: ..., " for axis, value in grid.values.items() if name not in _parts(axis, value)
    )
    value = next(
        parts[name] for parts in (_parts(*item) for item in grid.values.items()) if name in parts
    )
    values = tuple(np.asarray(value).tolist()) if _plain(value) else "(...)"
    return f"rl.sweep(training, {{{rest.removesuffix(', ')}}}, static={{{name!r}: {values}}})"
