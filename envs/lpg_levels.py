"""Levels of LPGGrid: the fixed ones of Oh et al. (2020), drawn as text, and distributions of random
ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Tasks
from jaxrl.tree import pytree, static

from . import solve
from .lpg_grid import LPGGrid, Range, log_uniform, log_uniform_int, redraw, scatter

# ------------------------------------------------------------------------------------- fixed levels


def drawn(
    text: str,
    reward: tuple[float, ...],
    termination: tuple[float, ...],
    respawn: tuple[float, ...],
    max_steps: int,
    roaming: bool = False,
) -> LPGGrid:
    """Return a level drawn as text: '#' is a wall, 'S' the start, a digit an object of that type,
    all else is free.

    Raises:
      ValueError: the map is not a rectangle, has not exactly one 'S', or has a type without reward.
    """
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"A level's map must be a rectangle; its lines have {[len(line) for line in lines]} "
            "characters."
        )
    cells = np.array([list(line) for line in lines])
    starts, objects = np.flatnonzero(cells == "S"), np.flatnonzero(np.char.isdigit(cells))
    types = cells.ravel()[objects].astype(np.int32)
    if len(starts) != 1 or (types >= len(reward)).any():
        raise ValueError(
            f"A level's map has one 'S' and digits below {len(reward)}, the number of types; this "
            f"one has {len(starts)} 'S' and objects of the types {types.tolist()}."
        )
    return LPGGrid(
        reward=jnp.array(reward),
        termination=jnp.array(termination),
        respawn=jnp.array(respawn),
        types=jnp.array(types[np.argsort(types, kind="stable")]),
        objects=jnp.array(objects[np.argsort(types, kind="stable")], jnp.int32),
        start=jnp.int32(starts[0]),
        walls=jnp.array(cells == "#"),
        time_limit=jnp.int32(max_steps),
        roaming=roaming,
        max_steps=max_steps,
    )


def _open(side: int, objects: str) -> str:
    """A map without walls: the start in the first corner, the objects evenly spaced."""
    cells = np.full(side * side, ".")
    cells[0] = "S"
    cells[np.linspace(0, side * side, len(objects) + 2).astype(int)[1:-1]] = list(objects)
    return "\n".join("".join(row) for row in cells.reshape(side, side))


LONGER = """
S...#...0
.........
....#..1.
..1.#....
....#....
.0..#....
....#.1..
.........
....#....
"""
LONG_DENSE = """
S..........
.0...#...0.
.....#.....
.....#.....
##.#####.##
.....#.....
.....#.....
...........
.....#.....
.0...#...0.
.....#.....
"""
SMALL_RAND = """
S.0....
..#..1.
.......
....#..
..0....
.....1.
.......
"""
DENSE = (1.0, -1.0, -1.0), (0.0, 0.5, 0.0), (0.05, 0.1, 0.5), 500
LONG = (1.0, -1.0), (0.0, 0.5), (0.01, 1.0), 1000
# name: map; reward, termination and respawn of each type; number of steps; roaming (as in the code
# of GROOVE, where it differs from the paper)
FIXED = {
    "LPGGrid-dense": (_open(11, "0012"), *DENSE),
    "LPGGrid-sparse": (_open(13, "01"), (1.0, -1.0), (1.0, 1.0), (0.0, 0.0), 50),
    "LPGGrid-long": (_open(11, "0011"), *LONG),
    "LPGGrid-longer": (LONGER, (1.0, -1.0), (0.1, 0.8), (0.01, 1.0), 2000),
    "LPGGrid-long_dense": (LONG_DENSE, (1.0,), (0.0,), (0.005,), 2000),
    "LPGGrid-rand_dense": (_open(11, "0012"), *DENSE, True),
    "LPGGrid-rand_long": (_open(11, "0011"), *LONG, True),
    "LPGGrid-rand_small": (SMALL_RAND, (1.0, -1.0), (0.0, 0.5), (0.05, 0.1), 500, True),
    "LPGGrid-rand_sparse": (_open(7, "011"), (1.0, -1.0), (1.0, 1.0), (1.0, 1.0), 50, True),
    "LPGGrid-rand_very_dense": (_open(11, "0"), (1.0,), (0.0,), (1.0,), 2000, True),
    "LPGGrid-rand_tiny": (_open(3, "00"), (1.0,), (0.0,), (1.0,), 50, True),
}


@pytree
class Redrawn(Tasks):
    """One level with its start and objects in random free cells: the tasks of Oh et al. (2020)."""

    level: LPGGrid

    def sample(self, key: jax.Array) -> LPGGrid:
        return redraw(key, self.level)

    def score(self, env: LPGGrid, episode_return: jax.Array) -> jax.Array:
        """A mean return, scaled to 0 for a random policy and 1 for the optimal one; unscaled where
        objects roam.
        """
        return episode_return if env.roaming else solve.score(env, episode_return)


def redrawn(name: str) -> Redrawn:
    """Return a fixed level as a distribution."""
    return Redrawn(drawn(*FIXED[name]))


# ----------------------------------------------------------------------------------- sampled levels


@pytree
class LPGLevels(Tasks):
    """Levels with random grids, walls and objects: the distributions of GROOVE (Jackson et al.,
    2023).

    All ranges are inclusive. Each object has a different type.

    reward: range of the uniform rewards; that of type 0, which is always present, is between 0 and
      the upper end.
    termination, respawn: ranges of the log-uniform probabilities of each type.
    reward_scale: range of a log-uniform factor for all rewards of a level.
    sides, num_objects: uniform ranges.
    num_walls: number of random wall cells in the largest grid, of which a smaller one is a part.
    mazes: perfect mazes in place of random walls (a random spanning tree: exactly one path between
      any two rooms).
    time_limit: log-uniform range.
    roaming, one_hot: of `LPGGrid`.
    """

    reward: Range = (-1.0, 1.0)
    termination: Range = (1e-2, 1.0)
    respawn: Range = (1e-3, 1e-1)
    reward_scale: Range = (1.0, 1.0)
    sides: tuple[int, int] = static(default=(4, 10))
    num_objects: tuple[int, int] = static(default=(1, 5))
    num_walls: int = static(default=15)
    mazes: bool = static(default=False)
    time_limit: tuple[int, int] = static(default=(20, 750))
    roaming: bool = static(default=False)
    one_hot: bool = static(default=True)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def num_states(self) -> int:
        """Number of states of the largest level: the size of a table for any of them."""
        return self.sides[1] ** 2 * 2 ** self.num_objects[1]

    def sample(self, key: jax.Array) -> LPGGrid:
        keys = iter(jax.random.split(key, 9))
        num = self.num_objects[1]
        uniform = lambda between: jax.random.randint(next(keys), (), between[0], between[1] + 1)
        low, high = self.reward
        reward = jax.random.uniform(
            next(keys), (num,), minval=jnp.full(num, low).at[0].set(0.0), maxval=high
        )
        level = LPGGrid(
            reward=reward * log_uniform(next(keys), self.reward_scale),
            termination=log_uniform(next(keys), self.termination, (num,)),
            respawn=log_uniform(next(keys), self.respawn, (num,)),
            types=jnp.where(jnp.arange(num) < uniform(self.num_objects), jnp.arange(num), -1),
            objects=jnp.zeros(num, jnp.int32),
            start=jnp.int32(0),
            walls=maze(next(keys), self.sides[1]) if self.mazes else self._walls(next(keys)),
            time_limit=log_uniform_int(next(keys), self.time_limit),
            roaming=self.roaming,
            one_hot=self.one_hot,
            max_steps=self.time_limit[1],
        )
        return redraw(next(keys), level)

    def score(self, env: LPGGrid, episode_return: jax.Array) -> jax.Array:
        """A mean return, scaled to 0 for a random policy and 1 for the optimal one; unscaled where
        objects roam.
        """
        return episode_return if self.roaming else solve.score(env, episode_return)

    def _walls(self, key: jax.Array) -> jax.Array:
        key_side, key_walls = jax.random.split(key)
        max_side = self.sides[1]
        side = jax.random.randint(key_side, (), self.sides[0], max_side + 1)
        inside = jnp.arange(max_side) < side
        cells = scatter(key_walls, jnp.ones(max_side**2, bool), self.num_walls)
        walls = jnp.zeros(max_side**2, bool).at[cells].set(True).reshape(max_side, max_side)
        return walls | ~(inside[:, None] & inside[None])


def maze(key: jax.Array, side: int) -> jax.Array:
    """Walls of a random perfect maze, by Kruskal's algorithm. bool [side, side].

    Rooms are the cells on even rows and columns; a door is a cell between two rooms. Doors are
    opened in random order where they join two separate trees of rooms.
    """
    row, column = np.indices((side, side)).reshape(2, -1)
    doors = np.flatnonzero((row + column) % 2 == 1)

    def join(
        now: tuple[jax.Array, jax.Array], door: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        tree, walls = now  # tree: index of the tree that each room belongs to
        across = jnp.where(door // side % 2 == 1, side, 1)
        one, other = tree[door - across], tree[door + across]
        return (jnp.where(tree == other, one, tree), walls.at[door].set(one == other)), None

    start = jnp.arange(side**2), jnp.array((row % 2 == 1) | (column % 2 == 1))
    (_, walls), _ = jax.lax.scan(join, start, jax.random.permutation(key, jnp.array(doors)))
    return walls.reshape(side, side)


def _check(levels: LPGLevels) -> None:
    for name, min_value in {"sides": 2, "num_objects": 1, "time_limit": 1}.items():
        low, high = getattr(levels, name)
        if not min_value <= low <= high:
            raise ValueError(
                f"{name}={(low, high)} is not a range of counts from {min_value} up: write "
                f"{name}=({min_value}, {min_value + 3})."
            )
    (smallest, largest), (_, objects) = levels.sides, levels.num_objects
    if smallest**2 <= objects:
        raise ValueError(
            f"A grid of {smallest} x {smallest} cells has no room for an agent and {objects} "
            "objects."
        )
    if not 0 <= levels.num_walls < largest**2:
        raise ValueError(
            f"num_walls={levels.num_walls} is not between 0 and {largest**2 - 1}, one less than "
            "the cells of the largest grid."
        )
    if levels.mazes and (smallest != largest or largest % 2 == 0):
        raise ValueError(
            f"All mazes have the same odd number of rows, unlike sides={levels.sides}: write "
            "sides=(13, 13)."
        )


# Updates per lifetime in GROOVE, for `rl.InnerLoop(lifetime=...)`: tiny 10 to 60; small 250; medium
# and all 1000; large and mazes 2500; rand_all 25,000. Oh et al. have 2500 on fixed levels (25,000
# where objects roam).
DISTRIBUTIONS = {
    "LPGGrid-tiny": LPGLevels(sides=(3, 5), num_objects=(1, 2), num_walls=3, time_limit=(10, 50)),
    "LPGGrid-small": LPGLevels(sides=(4, 6), num_objects=(1, 3), num_walls=7, time_limit=(20, 100)),
    "LPGGrid-medium": LPGLevels(
        sides=(6, 8), num_objects=(2, 4), num_walls=10, time_limit=(100, 250)
    ),
    "LPGGrid-large": LPGLevels(sides=(8, 10), num_objects=(2, 5), time_limit=(250, 750)),
    "LPGGrid-all": LPGLevels(),
    "LPGGrid-rand_all": LPGLevels(roaming=True),
    "LPGGrid-mazes": LPGLevels(
        reward=(0.0, 1.0), sides=(13, 13), num_objects=(3, 3), mazes=True, time_limit=(25, 50)
    ),
}
