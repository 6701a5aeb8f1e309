"""Families of environments: distributions to sample from, and stacks of several as one pytree."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Tasks, check_is_env
from jaxrl.errors import nearest
from jaxrl.tree import find, get, is_static, paths, put, pytree, replace

from . import delayed_chain, key_door_levels, lpg_levels, maze_levels
from .arguments import check_names

# their leaves are plain numbers and NumPy arrays, so that this import initialises no device
SAMPLED: dict[str, Any] = (
    lpg_levels.DISTRIBUTIONS
    | delayed_chain.DISTRIBUTIONS
    | maze_levels.DISTRIBUTIONS
    | key_door_levels.DISTRIBUTIONS
)
# removed names, each the same distribution as another: that one, and the lifetime that is now given
# to the inner loop
REMOVED = {
    "LPGGrid-all_shortlife": ("LPGGrid-all", (250, 250)),
    "LPGGrid-all_randlife": ("LPGGrid-all", (50, 250)),
    "LPGGrid-all_vrandlife": ("LPGGrid-all", (10, 250)),
}


def distribution(name: str, **params: Any) -> Tasks:
    """Return the distribution of levels called `name` (see `distributions`), with some of its
    parameters changed.

    `jax.vmap(distribution("LPGGrid-tiny").sample)(jax.random.split(key, 1000))` samples a thousand
    levels.

    Raises:
      ValueError: no distribution, or no parameter of it, has this name; or a size is out of range.
      TypeError: a static parameter (a count such as `num_walls`) is an array.
    """
    if name in REMOVED:
        other, lifetime = REMOVED[name]
        raise ValueError(
            f"{name!r} was {other!r} under another name: write distribution({other!r}), and give "
            f"the lifetime to the learner, rl.InnerLoop(..., lifetime={lifetime})."
        )
    if name not in distributions():
        raise ValueError(
            f"There is no distribution of levels {name!r}; {nearest(name, distributions())}."
        )
    levels: Any = SAMPLED[name] if name in SAMPLED else lpg_levels.redrawn(name)
    check_names(name, params, type(levels).__dataclass_fields__)
    return replace(levels, **params)


@pytree
class Family(Tasks):
    """One environment with intervals for some of its floats: `Family(env, length=(0.25, 2.0))`.

    A sample draws each of these leaves uniformly from its interval (each entry of an array
    separately); everything else is as in `env`. Its score is the return.

    env: the environment. ranges: {name: (low, high)}; names as in a sweep, such as "env.length" if
      a path is needed.

    Raises:
      TypeError: not an environment, or a name that is static or not a float. ValueError: no
        interval, an unknown name, or an empty interval.
    """

    env: Env
    ranges: dict[str, tuple[float, float]]

    def __init__(
        self,
        env: Env,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        **intervals: tuple[float, float],
    ) -> None:
        object.__setattr__(self, "env", env)
        object.__setattr__(self, "ranges", {} if ranges is None and not intervals else ranges)
        if intervals:
            object.__setattr__(self, "ranges", dict(ranges or {}) | intervals)
        self.__post_init__()

    def __post_init__(self) -> None:
        if isinstance(self.env, Env) and isinstance(self.ranges, dict):  # jax may put others here
            _check_intervals(self.env, self.ranges)
        elif isinstance(self.env, str | type):
            check_is_env(self.env, self)

    @property
    def num_agents(self) -> int | None:
        return self.env.num_agents

    @property
    def roles(self) -> tuple[int, ...]:
        return self.env.roles

    @property
    def channels(self) -> tuple[str, ...]:
        return self.env.channels

    def sample(self, key: jax.Array) -> Any:
        values = {}
        shapes = self._shapes
        for key_leaf, name in zip(jax.random.split(key, len(shapes)), shapes, strict=True):
            low, high = self.ranges[name]
            values[name] = jax.random.uniform(key_leaf, shapes[name], jnp.float32, low, high)
        return put(self.env, values)

    def describe(self, env: Any) -> dict[str, jax.Array]:
        """The mean of each leaf that varies."""
        return {
            name.replace(".", "_"): jnp.mean(get(env, find(self.env, name))) for name in self.ranges
        }

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the leaves that vary, in the order of a pytree."""
        return {
            name: jnp.shape(get(self.env, find(self.env, name))) for name in sorted(self.ranges)
        }

    @property
    def dimensions(self) -> int:
        return sum(math.prod(shape) for shape in self._shapes.values())

    def at(self, place: jax.Array) -> Any:
        values, start = {}, 0
        for name, shape in self._shapes.items():
            (low, high), size = self.ranges[name], math.prod(shape)
            part = place[start : start + size].reshape(shape)
            values[name] = low + part * (high - low)
            start += size
        return put(self.env, values)


def _check_intervals(env: Env, ranges: dict[str, Any]) -> None:
    name_of_env, known = type(env).__name__, paths(env)
    if not ranges:
        raise ValueError(
            "Family varies nothing: write an interval for a leaf, as in Family(env, "
            "length=(0.25, 2.0))."
        )
    for name, between in ranges.items():
        path = find(env, name)
        value = get(env, path)
        if is_static(known[path]):
            raise TypeError(
                f"{name!r} is static in {name_of_env}: it shapes the compiled program, so that "
                "one family can't vary it. Write one Family for each value of it."
            )
        numbers = jax.tree.leaves(value)
        is_float = len(numbers) == 1 and jnp.issubdtype(jnp.result_type(numbers[0]), jnp.floating)
        if not is_float:
            raise TypeError(
                f"{name!r} of {name_of_env} is {value!r} and not a float: an interval is for "
                "floats; for anything else, subclass rl.Tasks with a sample(key)."
            )
        if not isinstance(between, tuple | list) or len(between) != 2:
            raise ValueError(f"{name}={between!r} is not an interval: write {name}=(low, high).")
        if any(isinstance(x, str) or x is None for x in between):
            raise TypeError(f"{name}={between!r} is not an interval: write two numbers.")
        are_plain = all(isinstance(x, int | float) for x in between)
        if are_plain and not -math.inf < between[0] < between[1] < math.inf:
            raise ValueError(
                f"{name}={between!r} is an empty or infinite interval: write two finite numbers, "
                "the lower one first."
            )


def distributions() -> list[str]:
    """All names that `distribution` accepts."""
    return [*SAMPLED, *lpg_levels.FIXED]


def family(levels: Sequence[Any]) -> Any:
    """Stack environments of one type: one environment with a leading axis [num] of its leaves, for
    `jax.vmap`.

    Raises:
      ValueError: their static parameters or the shapes of their leaves differ, so that one program
        can't run them all.
    """
    if not levels:
        raise ValueError("A family needs at least one level, and got none.")
    first, *rest = levels
    for i, other in enumerate(rest, 1):
        if jax.tree.structure(other) != jax.tree.structure(first):
            raise ValueError(
                f"Levels 0 and {i} can't be stacked, as {_difference(first, other)} differ. One "
                "program runs a family, so all its levels have the same static parameters: make "
                "them equal, or train on the levels one by one."
            )
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(other), strict=True
        ):
            if jnp.shape(a) != jnp.shape(b):
                name = jax.tree_util.keystr(path).lstrip(".")
                raise ValueError(
                    f"Levels 0 and {i} differ in the shape of {name}: {jnp.shape(a)} and "
                    f"{jnp.shape(b)}. One program runs a family, so all its levels have equal "
                    "shapes: pad the smaller one (with walls around a smaller grid, with the type "
                    "-1 for an absent object)."
                )
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *levels)


def _difference(one: Any, other: Any) -> str:
    if type(one) is not type(other):
        return f"their types, {type(one).__name__} and {type(other).__name__},"
    names = [field.name for field in dataclasses.fields(one) if is_static(field)]
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in names}
    static = [f"{name}={a!r} and {name}={b!r}" for name, (a, b) in pairs.items() if a != b]
    return ", ".join(static) or "the structures of their leaves"
