"""Levels of Maze: random walls, perfect mazes, sets graded by distance, and edits of a level."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Tasks
from jaxrl.tree import pytree, replace, static, where

from .level_set import LevelSet
from .lpg_levels import maze as perfect_maze
from .maze import FAR, Maze
from .maze_drawings import DRAWINGS, drawn
from .maze_editor import MazeEditor


@pytree
class MazeLevels(Tasks):
    """Mazes of one size with random walls, start, heading and goal (Dennis et al., 2020).

    side: rows and columns. num_walls: range of the number of walls, uniform, (0, 0) for empty
    rooms. perfect: a random spanning tree of corridors in place of random walls, for an odd side.
    solvable: False includes levels without a path, as in the literature; True moves their goal to
    the reachable cell that is farthest from the start. distance: range of the length of the
    shortest path from the start to the goal, in cells. The goal is then a random cell with a
    distance in the range, or as near to it as possible; if all cells are too near, the start is
    moved too. None: any. With `solvable` or `distance`, the walls around an enclosed start are
    removed. num_edits: of `mutate`. slowness, view, max_steps: of `Maze`.
    """

    slowness: float = 0.9
    side: int = static(default=13)
    num_walls: tuple[int, int] = static(default=(0, 60))
    perfect: bool = static(default=False)
    solvable: bool = static(default=False)
    distance: tuple[int, int] | None = static(default=None)
    num_edits: int = static(default=20)
    view: int = static(default=5)
    max_steps: int = static(default=250)

    channels = Maze.channels

    def __post_init__(self) -> None:
        fewest, most = self.num_walls
        if not 0 <= fewest <= most <= self.side**2 - 2:
            raise ValueError(
                f"num_walls={self.num_walls} is not a range from 0 to {self.side**2 - 2}, which "
                f"leaves two cells free: write num_walls=(0, {self.side**2 // 3})."
            )
        if self.perfect and self.side % 2 == 0:
            raise ValueError(
                f"A perfect maze has an odd number of rows, and side={self.side}: write "
                f"side={self.side + 1}."
            )
        if self.distance is not None and not 1 <= self.distance[0] <= self.distance[1]:
            raise ValueError(
                f"distance={self.distance} is not a range of numbers of cells from 1 up: write "
                f"distance=(1, {self.side})."
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
        if self.distance is not None:
            return _at_distance(jax.random.fold_in(key_places, 1), _opened(level), self.distance)
        return _with_path(_opened(level)) if self.solvable else level

    def optimum(self, env: Maze) -> jax.Array:
        return env.optimal_return()

    def describe(self, env: Maze) -> dict[str, jax.Array]:
        """Number of walls; 1 if the goal can be reached; path length in cells, 0 without a path."""
        cells = env.distances()[env.start[0], env.start[1]]
        return {
            "walls": env.walls.sum().astype(jnp.float32),
            "solvable": (cells < FAR).astype(jnp.float32),
            "distance": jnp.where(cells < FAR, cells, 0).astype(jnp.float32),
        }

    def editor(self) -> MazeEditor:
        """An editor that places at most the upper limit of `num_walls`."""
        return MazeEditor(
            slowness=self.slowness,
            side=self.side,
            num_walls=self.num_walls[1],
            view=self.view,
            level_steps=self.max_steps,
        )

    def mutate(self, key: jax.Array, env: Maze) -> Maze:
        """The level after `num_edits` edits (ACCEL, Parker-Holder et al., 2022).

        Each edit toggles the wall of a random cell or, with a probability of 1/10 each, moves the
        goal or the start to a random free cell.
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


def _free_cells(key: jax.Array, walls: jax.Array, num: int) -> jax.Array:
    """Random cells that are not walls, all different. int32 [num]."""
    return jax.lax.top_k(jnp.where(walls, -1.0, jax.random.uniform(key, walls.shape)), num)[1]


def _at(cell: jax.Array, side: int) -> jax.Array:
    """Row and column of a cell that is numbered row by row. int32 [2]."""
    return jnp.stack([cell // side, cell % side]).astype(jnp.int32)


def _opened(level: Maze) -> Maze:
    """The level, without the walls next to the start if these enclose it."""
    rows, columns = jnp.indices(level.walls.shape)
    steps = jnp.abs(rows - level.start[0]) + jnp.abs(columns - level.start[1])
    around = steps == 1
    is_enclosed = (level.walls | ~around).all()
    return replace(level, walls=level.walls & ~(around & is_enclosed))


def _with_path(level: Maze) -> Maze:
    """The level, with the goal in a cell that can be reached."""
    from_start = replace(level, goal=level.start).distances()
    reached = from_start < FAR
    farthest = _at(jnp.argmax(jnp.where(reached, from_start, -1)), level.walls.shape[1])
    has_path = reached[level.goal[0], level.goal[1]]
    return replace(level, goal=jnp.where(has_path, level.goal, farthest))


def _at_distance(key: jax.Array, level: Maze, distance: tuple[int, int]) -> Maze:
    """The level, with the goal in a random cell among those with a distance in the range, or as
    near to it as possible. If all cells are too near, the start is first moved to the cell that is
    farthest from it.
    """
    nearest, farthest = distance
    columns = level.walls.shape[1]

    def reached(level: Maze) -> jax.Array:
        from_start = replace(level, goal=level.start).distances()
        return jnp.where(from_start < FAR, from_start, 0)

    cells = reached(level)
    moved = replace(level, start=_at(jnp.argmax(cells), columns))
    level = where(cells.max() < nearest, moved, level)
    cells = reached(level)
    apart = jnp.maximum(jnp.maximum(nearest - cells, cells - farthest), 0)
    order = jax.random.uniform(key, apart.shape) - jnp.where(cells > 0, apart, FAR)
    return replace(level, goal=_at(jnp.argmax(order), columns))


def _drawings() -> LevelSet:
    """All drawings, as NumPy arrays, so that no device is initialised."""
    levels = [drawn(text) for text in DRAWINGS.values()]
    return LevelSet(jax.tree.map(lambda *leaves: np.stack(leaves), *levels))


DISTRIBUTIONS = {
    "Maze-7": MazeLevels(side=7, num_walls=(0, 16), max_steps=100),
    "Maze-7-hard": MazeLevels(side=7, num_walls=(8, 20), distance=(9, 49), max_steps=100),
    "Maze-13": MazeLevels(),
    "Maze-13-drawings": _drawings(),
    "Maze-13-easy": MazeLevels(num_walls=(0, 60), distance=(1, 7)),
    "Maze-13-empty": MazeLevels(num_walls=(0, 0)),
    "Maze-13-hard": MazeLevels(num_walls=(30, 70), distance=(18, 169)),
    "Maze-13-medium": MazeLevels(num_walls=(0, 60), distance=(8, 17)),
    "Maze-13-perfect": MazeLevels(perfect=True),
    "Maze-13-solvable": MazeLevels(solvable=True),
}
