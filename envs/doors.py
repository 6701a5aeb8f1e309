"""Doors: two agents that pass a door which is open only while one of them is on a plate."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

# rows and columns of the actions up, right, down, left, stay
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1), (0, 0)], np.int32)
STAY = 4


@pytree
class Doors(Env):
    """Two rooms of `rows` x `side` cells, with a wall of one column between them.

    The wall has a door in its middle row, which is open while an agent is on a plate; each room has
    one plate. Both agents start at random cells of the left room. The episode terminates when both
    are in the right room, with a reward of 1 for each and 1 in the channel `success`: one agent has
    to hold the plate of the left room until the other one holds that of the right room. Agents can
    share a cell.

    State: cells of the agents, row * columns + column, int32 [2]. Actions: up, right, down, left,
    stay. Observation, float [2, 2 (rows + columns) + 1]: row and column of the agent, one-hot,
    those of the other agent, and 1 if the door is open.
    """

    rows: int = static(default=5)
    side: int = static(default=4)
    max_steps: int = static(default=64)

    num_agents = 2
    shared_reward = True
    action_space = Discrete(len(MOVES))
    channels = ("success",)

    def __post_init__(self) -> None:
        if self.rows < 3 or self.side < 3:
            raise ValueError(
                f"rows={self.rows} and side={self.side} of Doors leave no room for a plate off the "
                "wall: write 3 or more of both."
            )

    @property
    def columns(self) -> int:
        """Of both rooms and the wall."""
        return 2 * self.side + 1

    @property
    def num_cells(self) -> int:
        """Of both rooms and the wall."""
        return self.rows * self.columns

    @property
    def door(self) -> int:
        """The cell of the door."""
        return self.rows // 2 * self.columns + self.side

    @property
    def plates(self) -> np.ndarray:
        """The cells of the plates, near two opposite corners. int32 [2]."""
        last = self.num_cells - 1
        return np.array([self.columns + 1, last - self.columns - 1], np.int32)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jax.random.randint(key, (2,), 0, self.rows * self.side, jnp.int32)
        cells = place // self.side * self.columns + place % self.side
        return cells, self.observe(cells)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        ahead = self.place(state) + jnp.asarray(MOVES)[action]
        inside = ((ahead >= 0) & (ahead < np.array([[self.rows, self.columns]]))).all(-1)
        cells = ahead[:, 0] * self.columns + ahead[:, 1]
        passes = (cells == self.door) & self.is_open(state)
        new = jnp.where(inside & ((ahead[:, 1] != self.side) | passes), cells, state)
        wins = (new % self.columns > self.side).all()
        success = jnp.full(2, wins, jnp.float32)
        return new, Step(self.observe(new), success, wins, {"success": success})

    def place(self, cells: jax.Array) -> jax.Array:
        """Rows and columns of cells [...]. int32 [..., 2]."""
        return jnp.stack([cells // self.columns, cells % self.columns], -1)

    def is_open(self, cells: jax.Array) -> jax.Array:
        """True if the door is open with the agents at these cells [..., 2]. bool [...]."""
        first, second = (int(plate) for plate in self.plates)
        return ((cells == first) | (cells == second)).any(-1)

    def observe(self, state: jax.Array) -> jax.Array:
        row, column = self.place(state).T
        own = jnp.concatenate(
            [jax.nn.one_hot(row, self.rows), jax.nn.one_hot(column, self.columns)], -1
        )
        is_open = jnp.full((2, 1), self.is_open(state))
        return jnp.concatenate([own, own[::-1], is_open], -1).astype(jnp.float32)
