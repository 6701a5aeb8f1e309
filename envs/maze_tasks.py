"""Sets of mazes with near to distant goals and integer observations, for tabular policies."""

import jax
import jax.numpy as jnp

from .key_door import KeyDoor
from .level_set import LevelSet
from .lpg_levels import maze as perfect_maze
from .maze import FAR, Maze
from .wrappers import TaskId


def maze_tasks(
    key: jax.Array,
    num: int = 8,
    side: int = 9,
    distance: tuple[int, int] = (2, 16),
    max_steps: int = 60,
) -> LevelSet:
    """Return `num` perfect mazes of one size, each with one goal, a reward of 1 there, and the
    moves up, right, down and left.

    The distance of the goal of task k from the start is as near as possible to the k-th of `num`
    equally spaced values in the range `distance`. Observations are integers below num * side**2:
    all tasks fit in `rl.Table(num * side**2)`, with separate rows.
    """
    steps = jnp.linspace(*distance, num)

    def level(key: jax.Array, steps: jax.Array) -> KeyDoor:
        key_walls, key_goal = jax.random.split(key)
        walls = perfect_maze(key_walls, side)
        start = jnp.zeros(2, jnp.int32)
        cells = Maze(walls, start, start).distances()  # of the start from each cell
        apart = jnp.where((cells < FAR) & (cells > 0), jnp.abs(cells - steps), jnp.inf)
        noise = 0.5 * jax.random.uniform(key_goal, apart.shape)
        goal = jnp.argmin(jnp.round(apart) + noise)
        return KeyDoor(
            walls=walls,
            hazards=jnp.zeros((side, side), bool),
            doors=jnp.full((side, side), -1, jnp.int32),
            keys=jnp.zeros((0, 2), jnp.int32),
            start=start,
            treasure=jnp.stack([goal // side, goal % side]).astype(jnp.int32),
            index=True,
            max_steps=max_steps,
        )

    levels = jax.vmap(level)(jax.random.split(key, num), steps)
    return LevelSet(TaskId(levels, jnp.arange(num), num, side**2))
