"""The environments of jumanji (Bonnet et al., 2024), without its time limits, which end episodes
with discount 0, as terminations do.

All that jumanji registers run with jumanji 1.1.2 and jax 0.10, except those in `LEFT_OUT`.
"""

import importlib
import inspect
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Box, Discrete, Masked, MultiDiscrete, Space
from jaxrl.tree import pytree, replace, static

from .arguments import check_id, check_names, frozen, of_extra
from .states import like, strong

NAMES = tuple(
    f"jumanji:{name}"
    for name in (
        "BinPack-v2",
        "CVRP-v1",
        "Cleaner-v0",
        "Connector-v3",
        "FlatPack-v0",
        "Game2048-v1",
        "GraphColoring-v1",
        "JobShop-v0",
        "Knapsack-v1",
        "LevelBasedForaging-v0",
        "MMST-v0",
        "Maze-v0",
        "Minesweeper-v0",
        "MultiCVRP-v0",
        "PacMan-v1",
        "RobotWarehouse-v0",
        "RubiksCube-partly-scrambled-v0",
        "RubiksCube-v0",
        "SearchAndRescue-v0",
        "SlidingTilePuzzle-v0",
        "Snake-v1",
        "Sudoku-v0",
        "Sudoku-very-easy-v0",
        "TSP-v1",
        "Tetris-v0",
    )
)
LEFT_OUT = {"jumanji:Sokoban-v0": "it downloads its levels when it is created"}
# agents with observations of their own; Cleaner, MMST and MultiCVRP have one observation and one
# reward for all, and are one agent with an action for each part
TEAMS = ("Connector-v3", "LevelBasedForaging-v0", "RobotWarehouse-v0", "SearchAndRescue-v0")
# more steps than an episode has, where the environment has no limit
LENGTHS = {"Game2048-v1": 10_000}
LENGTH = 1000
COUNTERS = ("step_count", "step")
NEVER = 2**30  # a time limit that is never reached
Source = tuple[str, tuple[tuple[str, Any], ...]]


@pytree
class FromJumanji(Env):
    """An environment of jumanji; those in `TEAMS` are teams. State: jumanji's, with its key.

    The observation is jumanji's without step counters: its array, if there is only one (a board),
    else one vector of all its numbers. It is `Masked` if there is an action mask. A multi-discrete
    action with one mask over all combinations becomes Discrete, the index of the combination.
    `info` is jumanji's `extras`, metrics of the state. A shared reward is given to each agent; in
    Connector each agent is agent 0 in its own view of the grid.

    source: (name, arguments of jumanji's constructor), static.
    """

    source: Source = static()
    max_steps: int = static()
    num_agents: int | None = static(default=None)

    @property
    def action_space(self) -> Space:
        return _space(self._game(), self.num_agents)

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        state, first = self._game().reset(key)
        return strong(state), self._observation(first.observation)

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        game = self._game()
        combined = _combined(game, self.num_agents)
        if combined:
            action = jnp.stack(jnp.unravel_index(action, combined)).astype(jnp.int32)
        after, timestep = game.step(strong(state), action)  # a copy, as some write into it
        reward = jnp.asarray(timestep.reward, jnp.float32)
        if self.num_agents is not None:
            reward = jnp.broadcast_to(reward, (self.num_agents,))
        terminated = timestep.last() & (jnp.asarray(timestep.discount) == 0).all()
        info = {name: jnp.asarray(x, jnp.float32) for name, x in timestep.extras.items()}
        step = Step(
            self._observation(timestep.observation), reward, jnp.asarray(terminated, bool), info
        )
        return like(after, state), step

    def __str__(self) -> str:
        return f"jumanji:{self.source[0]}"

    def _game(self) -> Any:
        return _build(*self.source, self.max_steps)

    def _observation(self, obs: Any) -> Any:
        parts = obs._asdict()
        mask = parts.pop("action_mask", None)
        hidden = COUNTERS if self.num_agents is None else (*COUNTERS, "positions")  # for debugging
        if self.num_agents is not None and self.source[0] == "Connector-v3":
            parts["grid"] = _perspectives(parts["grid"], self.num_agents)
        arrays = jax.tree.leaves([x for name, x in parts.items() if name not in hidden])
        if len(arrays) == 1:
            seen = arrays[0] if arrays[0].dtype == bool else jnp.asarray(arrays[0], jnp.float32)
        else:
            seen = jnp.concatenate([self._vectors(x) for x in arrays], axis=-1)
        if mask is None:
            return seen
        return Masked(seen, mask if self.num_agents is not None else mask.ravel())

    def _vectors(self, x: Any) -> jax.Array:
        """An array as a vector; for a team one per agent, the same if it has no axis of agents."""
        x = jnp.asarray(x, jnp.float32)
        if self.num_agents is None:
            return x.ravel()
        return jnp.broadcast_to(x, (self.num_agents, *x.shape[1:])).reshape(self.num_agents, -1)


def _perspectives(grid: jax.Array, num_agents: int) -> jax.Array:
    """Connector's grid as each agent sees it: it is agent 0, and the next is 1. [A, rows, cols].

    Numbers from 1 are 3 * agent + 1 (its path), + 2 (its position) and + 3 (its target).
    """
    grid = grid[None]
    other = (grid - 1) // 3 - jnp.arange(num_agents)[:, None, None]
    return jnp.where(grid > 0, other % num_agents * 3 + (grid - 1) % 3 + 1, 0)


def make(name: str, *, max_steps: int | None = None, **settings: Any) -> FromJumanji:
    """Return the environment of jumanji called `name` ("jumanji:Snake-v1").

    max_steps: the time limit; None is jumanji's, or more steps than an episode has.
    settings: arguments of its constructor, static (`generator`, `reward_fn`, `num_rows`, ...).

    Raises:
      ValueError: there is no such environment or argument.
    """
    check_id(name, NAMES, LEFT_OUT)
    short = name.removeprefix("jumanji:")
    known = set(inspect.signature(_class(short)).parameters)
    check_names(name, settings, (known - {"time_limit", "viewer"}) | {"max_steps"})
    source = (short, frozen(name, settings))
    if max_steps is None:
        max_steps = _limit(*source) if "time_limit" in known else LENGTHS.get(short, LENGTH)
    env = FromJumanji(source, max_steps)
    return replace(env, num_agents=int(env._game().num_agents)) if short in TEAMS else env


# ------------------------------------------------------------------------------- jumanji's objects


def _registration() -> Any:
    """jumanji's registry. Importing it creates arrays, which must not be tracers."""
    with jax.ensure_compile_time_eval():
        of_extra("jumanji", "jumanji", "an environment of jumanji")
        return importlib.import_module("jumanji.registration")


def _class(name: str) -> Any:
    registration = _registration()
    return registration.load(registration._REGISTRY[name].entry_point)


def _make(name: str, settings: tuple[tuple[str, Any], ...], limit: int | None) -> Any:
    with jax.ensure_compile_time_eval():
        has_limit = limit is not None and "time_limit" in inspect.signature(_class(name)).parameters
        given = {"time_limit": limit} if has_limit else {}
        return _registration().make(name, **dict(settings), **given)


@lru_cache
def _limit(name: str, settings: tuple[tuple[str, Any], ...]) -> int:
    """jumanji's time limit of an environment that has one."""
    return int(_make(name, settings, None).time_limit)


def _build(name: str, settings: tuple[tuple[str, Any], ...], max_steps: int) -> Any:
    """jumanji's object with `max_steps` as the time limit of its arrays and rewards, which ends no
    episode. It is built once for each default float dtype, that of its arrays.
    """
    return _built(name, settings, max_steps, jnp.result_type(float))


@lru_cache
def _built(
    name: str, settings: tuple[tuple[str, Any], ...], max_steps: int, float_type: Any
) -> Any:
    game = _make(name, settings, max_steps)
    if name == "SearchAndRescue-v0":
        rewards, limit = game._reward_fn, game.time_limit
        game._reward_fn = lambda found, step, _: rewards(found, step, limit)
    game.time_limit = NEVER
    return game


def _mask_shape(game: Any) -> tuple[int, ...]:
    """Shape of the action mask, () for none."""
    spec = game.observation_spec._specs.get("action_mask")
    return () if spec is None else tuple(spec.shape)


def _sizes(game: Any) -> tuple[int, ...]:
    """The number of values of each entry of a discrete action."""
    return tuple(int(n) for n in np.ravel(game.action_spec.num_values))


def _combined(game: Any, num_agents: int | None) -> tuple[int, ...]:
    """Sizes of the entries of an action, if one mask is for all their combinations; else ()."""
    specs = importlib.import_module("jumanji.specs")
    if num_agents is not None or not isinstance(game.action_spec, specs.MultiDiscreteArray):
        return ()
    sizes = _sizes(game)
    return sizes if _mask_shape(game) == sizes else ()


@lru_cache
def _space(game: Any, num_agents: int | None) -> Space:
    """The action space, of one agent of a team."""
    spec, mask = game.action_spec, _mask_shape(game)
    if jnp.issubdtype(spec.dtype, jnp.floating):
        return Box(float(spec.minimum), float(spec.maximum), shape=spec.shape[-1:])
    combined = _combined(game, num_agents)
    if combined:
        return Discrete(math.prod(combined))
    if spec.shape == ():
        return Discrete(int(spec.num_values))
    if num_agents is not None:
        return Discrete(mask[-1])
    return MultiDiscrete((mask[-1],) * mask[0] if mask else _sizes(game))
