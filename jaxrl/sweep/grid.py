"""The points of a sweep: named axes, crossed."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.train import Training, as_key


class Grid:
    """Every combination of the values of named axes, the last axis fastest. Member i is one point."""

    def __init__(self, over: Mapping[str, Any]) -> None:
        if not over:
            raise ValueError("over={} sweeps nothing; write, say, over={'seed': jax.random.split(jax.random.key(0), 100)}.")
        self.values = {name: _axis(name, value) for name, value in over.items()}
        self.sizes = {name: jax.tree.leaves(value)[0].shape[0] for name, value in self.values.items()}
        self.members = math.prod(self.sizes.values())

    def points(self, members: np.ndarray) -> dict[str, Any]:
        """The points of some members, stacked: {name: [len(members), ...]}."""
        places = np.unravel_index(members, tuple(self.sizes.values()))
        pick = lambda value, place: jax.tree.map(lambda x: x[place], value)
        return {name: pick(value, place) for (name, value), place in zip(self.values.items(), places, strict=True)}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """What an axis is labelled with: its values where they are numbers, else 0, 1, 2, ..."""
        return {name: _label(value, self.sizes[name]) for name, value in self.values.items()}

    def record(self) -> dict[str, Any]:
        """The axes as JSON, keys as their raw words: enough to build them again."""
        flat = {name: jax.tree_util.tree_flatten_with_path(value)[0] for name, value in self.values.items()}
        words = {name: {jax.tree_util.keystr(path): raw(x).tolist() for path, x in leaves} for name, leaves in flat.items()}
        return {name: value[""] if list(value) == [""] else value for name, value in words.items()}


def _axis(name: str, value: Any) -> Any:
    if not jax.tree.leaves(value):
        raise ValueError(f"axis {name!r} is empty: {value!r}. Give at least one value.")
    if isinstance(value, list | tuple | range):
        value = np.asarray(value)
    value = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else _array(name, np.asarray(x)), value)
    shapes = {jnp.shape(x)[:1] for x in jax.tree.leaves(value)}
    if () in shapes:
        raise ValueError(
            f"axis {name!r} is a single value, {value!r}; an axis has a leading length: write jnp.array([...])."
        )
    if len(shapes) > 1:
        raise ValueError(f"axis {name!r} has leaves of different lengths, {sorted(s[0] for s in shapes)}; make them equal.")
    if shapes == {(0,)}:
        raise ValueError(f"axis {name!r} has length 0, so the sweep has no member. Give at least one value.")
    return value


def _array(name: str, x: np.ndarray) -> jax.Array:
    if x.dtype.kind not in "biuf":
        raise ValueError(f"axis {name!r} holds {x.dtype}, which is not a number: an axis is an array of numbers or of keys.")
    made = jnp.asarray(x)
    if x.dtype.kind in "iu" and not (np.asarray(made) == x).all():
        raise ValueError(
            f"axis {name!r} holds whole numbers beyond {made.dtype}: {x.min()} to {x.max()}; keep them within it."
        )
    return made


def raw(x: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def _label(value: Any, size: int) -> np.ndarray:
    plain = isinstance(value, jax.Array) and value.ndim == 1 and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not plain:
        return np.arange(size)
    label = np.asarray(value)
    # a float32 as the decimal that was written, so that results.sel(gamma=0.99) finds it
    return np.array([float(str(x)) for x in label]) if label.dtype == np.float32 else label


def bind(run: Callable[..., Any], grid: Grid) -> Callable[[dict[str, Any]], Any]:
    """The function of one point, once it is sure that `run` takes just the swept names.

    Raises:
      ValueError: a swept name that `run` does not take, or one that it needs and nobody gives.
      TypeError: a swept name that is static.
    """
    return _bind_training(run, grid) if isinstance(run, Training) else _bind_function(run, grid)


def _bind_function(run: Callable[..., Any], grid: Grid) -> Callable[[dict[str, Any]], Any]:
    parameters = inspect.signature(run).parameters
    named = {p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    title = getattr(run, "__name__", type(run).__name__)
    for name in grid.values:
        if name not in named and not anything:
            raise ValueError(f"{title}({', '.join(named)}) takes no {name!r}, which is swept; {tree.nearest(name, named)}.")
    needed = {p.name for p in parameters.values() if p.default is p.empty and p.name in named}
    if missing := sorted(needed - set(grid.values)):
        raise ValueError(f"{title} needs {', '.join(missing)}, which nothing sweeps: add an axis, or a default value.")
    return lambda point: run(**point)


def _bind_training(run: Training, grid: Grid) -> Callable[[dict[str, Any]], tuple[Training, jax.Array]]:
    if "seed" not in grid.values:
        raise ValueError("a Training is swept over at least 'seed': whole numbers, or keys from jax.random.split.")
    known = tree.paths(run)
    for name in grid.values:
        if name != "seed" and tree.is_static(known[tree.find(run, name)]):
            raise TypeError(
                f"{name!r} is static in {type(run).__name__}: it shapes the compiled program, so it can't be an axis. Write "
                f"one sweep for each value of it, and join the results with xarray.concat(..., dim={name!r})."
            )

    def at(point: dict[str, Any]) -> tuple[Training, jax.Array]:
        return tree.put(run, {name: value for name, value in point.items() if name != "seed"}), as_key(point["seed"])

    return at
