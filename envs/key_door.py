"""KeyDoor: rooms with locked doors, keys and a distant treasure; the layout is in the leaves."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw
from .gridworld import MOVES

COLORS = "abcde"
NINE_ROOMS = """
#############
#b  #   #  c#
# ^     # ^ #
#   #   #   #
#####A####.##
#   #   #   #
#     S B   #
#   #   #   #
##.####C#####
#   #   #   #
# ^ #       #
#a  #   # ^*#
#############
"""


@pytree
class Explorer:
    """State: row and column of the agent, int32 [2]; True for the colours of its keys, and for
    those of the doors that it has opened, bool [num_colors] each.
    """

    position: jax.Array
    keys: jax.Array
    opened: jax.Array


def layout(text: str) -> dict[str, np.ndarray]:
    """The arrays of a layout that is drawn as text: '#' is a wall, 'S' the start, '*' the treasure,
    '^' a hazard, 'a' to 'e' the keys, 'A' to 'E' the doors that they open, all else is free.

    Raises:
      ValueError: the map is not a rectangle, does not have exactly one start and one treasure, or
        has several keys of one colour, or doors of a colour without a key.
    """
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"The lines of the map have lengths {[len(x) for x in lines]}: make them equal."
        )
    cells = np.array([list(line) for line in lines])
    numbers = {mark: int((cells == mark).sum()) for mark in f"S*{COLORS}{COLORS.upper()}"}
    if numbers["S"] != 1 or numbers["*"] != 1:
        raise ValueError(
            f"The map has {numbers['S']} of S and {numbers['*']} of *: write exactly one of each."
        )
    colors = [color for color in COLORS if numbers[color] or numbers[color.upper()]]
    for color in colors:
        if numbers[color] != 1:
            raise ValueError(
                f"The map has {numbers[color]} keys {color!r} and {numbers[color.upper()]} doors "
                f"{color.upper()!r}: write exactly one key of each colour."
            )
    doors = np.full(cells.shape, -1, np.int32)
    for number, color in enumerate(colors):
        doors[cells == color.upper()] = number
    places = [np.argwhere(cells == mark) for mark in ["S", "*", *colors]]
    start, treasure, *keys = (place[0].astype(np.int32) for place in places)
    return {
        "walls": cells == "#",
        "hazards": cells == "^",
        "doors": doors,
        "keys": np.array(keys, np.int32).reshape(-1, 2),
        "start": start,
        "treasure": treasure,
    }


def _of_default(name: str) -> Any:
    return dataclasses.field(default_factory=lambda: layout(NINE_ROOMS)[name])


@pytree
class KeyDoor(Env):
    """Rooms behind doors, in the spirit of Montezuma's Revenge: a test of exploration.

    Actions: up, right, down, left. Walls and the edge of the map block movement. Entering the cell
    of a key takes it; a door is blocked until its key is taken. The treasure terminates the episode
    with `reward`, a hazard with `hazard_reward`. For an easier problem, taking a key gives
    `key_reward`, and entering the first door of each colour `door_reward`. All other rewards are 0.
    The channel `success` is 1 at the treasure. The environment is deterministic; for a stochastic
    one, use `rl.envs.StickyActions`.

    walls, hazards: bool [rows, columns]. doors: colour of the door in each cell, -1 without one,
      int32 [rows, columns]. keys: row and column of the key of each colour, -1 and -1 for an absent
      one, int32 [num_colors, 2]. start, treasure: row and column, int32 [2]. The default is a map
      of nine rooms and three colours; `drawn` creates others, `KeyDoorLevels` samples random ones.
    key_reward, door_reward: a number, or one for each colour [num_colors].

    Observation: planes of walls, hazards, the treasure, the agent, the keys of each colour that are
    not yet taken, and the doors that are not yet opened. bool [rows, columns, 4 + 2 * num_colors].
    With `index=True` it is `cell(state)`, int32 [], for `rl.Table(env.num_states)`.
    """

    walls: jax.Array = _of_default("walls")
    hazards: jax.Array = _of_default("hazards")
    doors: jax.Array = _of_default("doors")
    keys: jax.Array = _of_default("keys")
    start: jax.Array = _of_default("start")
    treasure: jax.Array = _of_default("treasure")
    reward: jax.Array | float = 1.0
    key_reward: jax.Array | float = 0.0
    door_reward: jax.Array | float = 0.0
    hazard_reward: jax.Array | float = 0.0
    index: bool = static(default=False)
    max_steps: int = static(default=300)

    action_space = Discrete(len(MOVES))
    channels = ("success",)

    @property
    def num_colors(self) -> int:
        return self.keys.shape[-2]

    @property
    def num_cells(self) -> int:
        """Number of cells of the map."""
        return self.walls.shape[-2] * self.walls.shape[-1]

    @property
    def num_states(self) -> int:
        """Number of values of `cell`."""
        return self.num_cells * 4**self.num_colors

    def reset(self, key: jax.Array) -> tuple[Explorer, jax.Array]:
        check(self)
        none = jnp.zeros(self.num_colors, bool)
        state = Explorer(jnp.asarray(self.start, jnp.int32), none, none)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Explorer, action: jax.Array) -> tuple[Explorer, Step]:
        new, reward, terminated = self._move(state, action)
        success = (new.position == jnp.asarray(self.treasure)).all().astype(jnp.float32)
        return new, Step(self.observe(new), reward, terminated, {"success": success})

    def _move(self, state: Explorer, action: jax.Array) -> tuple[Explorer, jax.Array, jax.Array]:
        """The state after an action, its reward, and True if the episode terminates."""
        walls, doors = jnp.asarray(self.walls), jnp.asarray(self.doors)
        last = jnp.array(walls.shape, jnp.int32) - 1
        ahead = jnp.clip(state.position + jnp.array(MOVES, jnp.int32)[action], 0, last)
        doors_at = lambda place: jnp.arange(self.num_colors) == doors[place[0], place[1]]
        blocked = walls[ahead[0], ahead[1]] | (doors_at(ahead) & ~state.keys).any()
        position = jnp.where(blocked, state.position, ahead)
        takes = (jnp.asarray(self.keys) == position[None]).all(-1) & ~state.keys
        opens = doors_at(position) & ~state.opened
        new = Explorer(position, state.keys | takes, state.opened | opens)
        arrived = (position == jnp.asarray(self.treasure)).all()
        hit = jnp.asarray(self.hazards)[position[0], position[1]] & ~arrived
        reward = (
            jnp.where(arrived, self.reward, 0.0)
            + jnp.where(hit, self.hazard_reward, 0.0)
            + jnp.where(takes, self.key_reward, 0.0).sum()
            + jnp.where(opens, self.door_reward, 0.0).sum()
        )
        return new, reward, arrived | hit

    def observe(self, state: Explorer) -> jax.Array:
        if self.index:
            return self.cell(state)
        cells = jnp.stack(jnp.indices(self.walls.shape, jnp.int32), -1)
        is_at = lambda place: (cells == jnp.asarray(place)[None, None]).all(-1)
        keys = (cells[..., None, :] == jnp.asarray(self.keys)[None, None]).all(-1)
        doors = jnp.asarray(self.doors)[..., None] == jnp.arange(self.num_colors)[None, None]
        planes = [
            jnp.asarray(self.walls, bool),
            jnp.asarray(self.hazards, bool),
            is_at(self.treasure),
            is_at(state.position),
        ]
        left = [keys & ~state.keys[None, None], doors & ~state.opened[None, None]]
        return jnp.concatenate([jnp.stack(planes, -1), *left], -1)

    def cell(self, state: Explorer) -> jax.Array:
        """Index of a state, for counts and archives: (opened * 2^num_colors + keys) * num_cells +
        the position, row by row; key and door of colour k are bit k. int32 [].
        """
        bits = 2 ** jnp.arange(2 * self.num_colors, dtype=jnp.int32)
        held = jnp.where(jnp.concatenate([state.keys, state.opened]), bits, 0).sum(dtype=jnp.int32)
        row, column = state.position
        return held * self.num_cells + row * self.walls.shape[-1] + column

    def state_of(self, cell: jax.Array) -> Explorer:
        """The state with this number, the inverse of `cell`."""
        held, place = cell // self.num_cells, cell % self.num_cells
        columns = self.walls.shape[-1]
        position = jnp.stack([place // columns, place % columns]).astype(jnp.int32)
        bits = held // 2 ** jnp.arange(2 * self.num_colors) % 2 == 1
        return Explorer(position, bits[: self.num_colors], bits[self.num_colors :])

    def optimal_return(self, gamma: jax.Array | float = 1.0) -> jax.Array:
        """The highest discounted return from the start within `max_steps`, by dynamic programming
        over all states. float [].
        """
        states = jax.vmap(self.state_of)(jnp.arange(self.num_states))
        moves = jax.vmap(jax.vmap(self._move, (None, 0)), (0, None))
        to, reward, ended = moves(states, jnp.arange(len(MOVES)))
        after = jax.vmap(jax.vmap(self.cell))(to)
        backup = lambda _, value: (reward + gamma * jnp.where(ended, 0.0, value[after])).max(-1)
        value = jax.lax.fori_loop(0, self.max_steps, backup, jnp.zeros(self.num_states))
        row, column = jnp.asarray(self.start, jnp.int32)
        return value[row * self.walls.shape[-1] + column]

    def draw(self, ax: Any, state: Explorer) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.key_door(self, ax, state)


def check(level: KeyDoor) -> None:
    """Raise a ValueError if the shapes of a level are inconsistent, or it is a family of levels."""
    if jnp.ndim(level.walls) != 2:
        raise ValueError(
            f"walls has shape {jnp.shape(level.walls)}, but one level has [rows, columns]: use "
            "jax.vmap for a family of levels."
        )
    grid, num_colors = jnp.shape(level.walls), len(level.keys)
    shapes = {"hazards": grid, "doors": grid, "keys": (num_colors, 2), "start": (2,)}
    for name, shape in (shapes | {"treasure": (2,)}).items():
        given = jnp.shape(vars(level)[name])
        if given != shape:
            raise ValueError(f"{name} has shape {given}, and this KeyDoor needs {shape}.")
    if level.num_states > 2**30:
        raise ValueError(
            f"{num_colors} colours make {level.num_states} states, more than 2^30: write at most "
            "10 colours, or a smaller map."
        )
