"""Levels of Maze: random walls, perfect mazes, hand-made tests, and edits of a level."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Tasks
from jaxrl.tree import pytree, replace, static

from .lpg_levels import maze as perfect_maze
from .maze import FAR, Maze


@pytree
class MazeLevels(Tasks):
    """Mazes of one size with random walls, start, heading and goal (Dennis et al., 2020).

    side: rows and columns. num_walls: uniform range of the number of walls, (0, 0) for empty rooms;
    perfect: a random spanning tree of corridors in place of random walls, for an odd side.
    solvable: False also has levels without a path, as in the literature; True moves the goal of
    those to the cell that is the farthest from the start.
    """

    slowness: float = 0.9
    side: int = static(default=13)
    num_walls: tuple[int, int] = static(default=(0, 60))
    perfect: bool = static(default=False)
    solvable: bool = static(default=False)
    num_edits: int = static(default=20)
    view: int = static(default=5)
    max_steps: int = static(default=250)

    channels = Maze.channels

    def __post_init__(self) -> None:
        fewest, most = self.num_walls
        if not 0 <= fewest <= most <= self.side**2 - 2:
            raise ValueError(
                f"num_walls={self.num_walls} is not a range of numbers of walls that leaves two "
                f"of {self.side**2} cells free: write num_walls=(0, {self.side**2 // 3})."
            )
        if self.perfect and self.side % 2 == 0:
            raise ValueError(
                f"A perfect maze has an odd number of rows, and side={self.side}: write "
                f"side={self.side + 1}."
            )

    def sample(self, key: jax.Array) -> Maze:
        key_walls, key_number, key_places, key_heading = jax.random.split(key, 4)
        cells = self.side**2
        if self.perfect:
            walls = perfect_maze(key_walls, self.side).ravel()
        else:
            number = jax.random.randint(key_number, (), self.num_walls[0], self.num_walls[1] + 1)
            walls = jax.random.permutation(key_walls, jnp.arange(cells)) < number
        start, goal = _free_cells(key_places, walls, 2)
        level = Maze(
            walls=walls.reshape(self.side, self.side),
            start=_at(start, self.side),
            goal=_at(goal, self.side),
            heading=jax.random.randint(key_heading, (), 0, 4),
            slowness=self.slowness,
            view=self.view,
            max_steps=self.max_steps,
        )
        return _with_path(level) if self.solvable else level

    def optimum(self, env: Maze) -> jax.Array:
        return env.optimal_return()

    def mutate(self, key: jax.Array, env: Maze) -> Maze:
        """The level after `num_edits` edits (ACCEL, Parker-Holder et al., 2022).

        Each edit flips a wall of a random cell or, with a probability of 1/10 each, moves the goal
        or the start to a random free cell.
        """

        def edit(level: Maze, key: jax.Array) -> tuple[Maze, None]:
            key_kind, key_cell, key_place = jax.random.split(key, 3)
            kind = jax.random.choice(key_kind, 3, p=jnp.array([0.8, 0.1, 0.1]))
            cell = jax.random.randint(key_cell, (2,), 0, self.side)
            taken = (cell == level.start).all() | (cell == level.goal).all()
            flips = (kind == 0) & ~taken
            row, column = cell
            walls = level.walls.at[row, column].set(level.walls[row, column] ^ flips)
            blocked = walls.at[level.start[0], level.start[1]].set(True)
            blocked = blocked.at[level.goal[0], level.goal[1]].set(True)
            place = _at(_free_cells(key_place, blocked.ravel(), 1)[0], self.side)
            exists = ~blocked.all()
            return replace(
                level,
                walls=walls,
                goal=jnp.where((kind == 1) & exists, place, level.goal),
                start=jnp.where((kind == 2) & exists, place, level.start),
            ), None

        level = jax.tree.map(jnp.asarray, env)
        return jax.lax.scan(edit, level, jax.random.split(key, self.num_edits))[0]


@pytree
class LevelSet(Tasks):
    """Fixed levels, of which one is sampled uniformly: `LevelSet(family(levels))`.

    levels: an environment with a leading axis [L] of its leaves.
    """

    levels: Any

    @property
    def num_levels(self) -> int:
        """L."""
        return jax.tree.leaves(self.levels)[0].shape[0]

    @property
    def num_agents(self) -> int | None:
        return self.levels.num_agents

    @property
    def channels(self) -> tuple[str, ...]:
        return self.levels.channels

    def sample(self, key: jax.Array) -> Any:
        number = jax.random.randint(key, (), 0, self.num_levels)
        return jax.tree.map(lambda x: jnp.asarray(x)[number], self.levels)


def _free_cells(key: jax.Array, walls: jax.Array, num: int) -> jax.Array:
    """Random cells that are not walls, all different. int32 [num]."""
    return jax.lax.top_k(jnp.where(walls, -1.0, jax.random.uniform(key, walls.shape)), num)[1]


def _at(cell: jax.Array, side: int) -> jax.Array:
    """Row and column of a cell that is numbered row by row. int32 [2]."""
    return jnp.stack([cell // side, cell % side]).astype(jnp.int32)


def _with_path(level: Maze) -> Maze:
    """The level, with the goal where a path leads."""
    from_start = replace(level, goal=level.start).distances()
    reached = from_start < FAR
    farthest = _at(jnp.argmax(jnp.where(reached, from_start, -1)), level.walls.shape[1])
    has_path = reached[level.goal[0], level.goal[1]]
    return replace(level, goal=jnp.where(has_path, level.goal, farthest))


def drawn(text: str, view: int = 5, max_steps: int = 250) -> Maze:
    """A level drawn as text: '#' is a wall, '^', '>', 'v' or '<' the start with its heading, 'G'
    the goal, all else is free.

    Raises:
      ValueError: the map is not a rectangle, or has not one start and one goal.
    """
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"A maze's map must be a rectangle; its lines have {[len(line) for line in lines]} "
            "characters."
        )
    cells = np.array([list(line) for line in lines])
    starts, goals = np.argwhere(np.isin(cells, list("^>v<"))), np.argwhere(cells == "G")
    if len(starts) != 1 or len(goals) != 1:
        raise ValueError(
            f"A maze's map has one of ^ > v < and one G; this one has {len(starts)} and "
            f"{len(goals)}."
        )
    return Maze(
        walls=jnp.array(cells == "#"),
        start=jnp.array(starts[0], jnp.int32),
        goal=jnp.array(goals[0], jnp.int32),
        heading=jnp.int32("^>v<".index(str(cells[tuple(starts[0])]))),
        view=view,
        max_steps=max_steps,
    )


DISTRIBUTIONS = {
    "Maze-7": MazeLevels(side=7, num_walls=(0, 16), max_steps=100),
    "Maze-13": MazeLevels(),
    "Maze-13-empty": MazeLevels(num_walls=(0, 0)),
    "Maze-13-perfect": MazeLevels(perfect=True),
    "Maze-13-solvable": MazeLevels(solvable=True),
}
