"""GridWorld: walk to a goal, on a map drawn as text."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import draw
from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

FOUR_ROOMS = """
#############
#     #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #  G  #
#           #
#     #     #
#############
"""  # Sutton, Precup & Singh (1999)

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left: (row, column)


@pytree
class GridWorld(Env):
    """Navigation on a `map` of text: '#' is a wall, 'S' a start, 'G' the goal, all else is free.

    An episode starts in a random 'S' (without any, in a random free cell other than the goal) and
    terminates at the goal with `reward`; each step adds `step_reward`. With probability `slip` the
    direction is random. Actions: up, right, down, left. State: row and column, int32 [2].
    Observation: the cell one-hot [rows * columns], or with `one_hot=False` the row and the column
    scaled to the range 0 to 1 [2].

    goal: row and column [2] in place of the map's 'G'; a leaf, so that tasks can be vmapped.
    """

    reward: jax.Array | float = 1.0
    step_reward: jax.Array | float = 0.0
    slip: jax.Array | float = 0.0
    goal: jax.Array | None = None
    map: str = static(default=FOUR_ROOMS)
    one_hot: bool = static(default=True)
    max_steps: int = static(default=200)

    def __post_init__(self) -> None:
        # `goal` is not checked: it is a leaf, which jax may replace by any object
        if len(_cells(self.map, "G")) > 1:
            raise ValueError(
                "GridWorld needs one goal: draw one 'G' in the map, or none and "
                "goal=jnp.array([row, column])."
            )

    @property
    def walls(self) -> np.ndarray:
        """True at walls. bool [rows, columns]."""
        return _grid(self.map) == "#"

    @property
    def goal_position(self) -> jax.Array:
        """Row and column of the goal. int32 [2]."""
        if self.goal is None and _cells(self.map, "G").shape != (1, 2):
            raise ValueError(
                "GridWorld needs one goal: draw one 'G' in the map, or give "
                "goal=jnp.array([row, column])."
            )
        return jnp.asarray(_cells(self.map, "G")[0] if self.goal is None else self.goal, jnp.int32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(MOVES))

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        starts = _cells(self.map, "S")
        cells = jnp.asarray(starts if len(starts) else np.argwhere(~self.walls), jnp.int32)
        allowed = (cells != self.goal_position[None]).any(-1)
        position = cells[jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))]
        return position, self.observe(position)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        key_slip, key_move = jax.random.split(key)
        slips = jax.random.uniform(key_slip) < self.slip
        move = jnp.where(slips, jax.random.randint(key_move, (), 0, len(MOVES)), action)
        ahead = jnp.clip(state + jnp.array(MOVES)[move], 0, jnp.array(self.walls.shape) - 1)
        position = jnp.where(jnp.array(self.walls)[ahead[0], ahead[1]], state, ahead)
        arrived = (position == self.goal_position).all()
        reward = self.step_reward + jnp.where(arrived, self.reward, 0.0)
        return position, Step(self.observe(position), reward, arrived, {})

    def observe(self, position: jax.Array) -> jax.Array:
        rows, columns = self.walls.shape
        if self.one_hot:
            return jax.nn.one_hot(position[0] * columns + position[1], rows * columns)
        return position / jnp.array([rows - 1, columns - 1], jnp.float32)

    def draw(self, ax: Any, state: jax.Array) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.gridworld(self, ax, state)


@lru_cache
def _grid(text: str) -> np.ndarray:
    """Characters of a map. [rows, columns]."""
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"A GridWorld's map must be a rectangle; its lines have {[len(x) for x in lines]} "
            "characters."
        )
    return np.array([list(line) for line in lines])


def _cells(text: str, mark: str) -> np.ndarray:
    """Row and column of each `mark` of a map. [n, 2]."""
    return np.argwhere(_grid(text) == mark)
