"""PointMaze: steer a point through a maze to a goal, with a sparse or a dense reward."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Box
from jaxrl.tree import leaf, pytree, static

from . import draw
from .maze import FAR, Maze

MEDIUM = """
########
#  ##  #
#  #   #
##   ###
#  #   #
# #  # #
#   # G#
########
"""  # of maze2d-medium, Fu et al. (2020)
MARGIN = 1e-3  # distance from the wall of a point that is stopped there


@pytree
class Point:
    """State: position and velocity (per step) in cells, along rows and columns, float [2] each."""

    position: jax.Array
    velocity: jax.Array


def layout(text: str) -> dict[str, np.ndarray]:
    """Walls and goal of a maze drawn as text: '#' is a wall, 'G' the goal, all else is free.

    Raises:
      ValueError: the map is not a rectangle, or does not have exactly one goal.
    """
    lines = text.strip("\n").split("\n")
    if len({len(line) for line in lines}) != 1:
        raise ValueError(
            f"The lines of the map have lengths {[len(line) for line in lines]}: make them equal."
        )
    cells = np.array([list(line) for line in lines])
    goals = np.argwhere(cells == "G")
    if len(goals) != 1:
        raise ValueError(f"The map has {len(goals)} of G: write exactly one.")
    return {"walls": cells == "#", "goal": goals[0].astype(np.int32)}


def _of_default(name: str) -> Any:
    return dataclasses.field(default_factory=lambda: layout(MEDIUM)[name])


@pytree
class PointMaze(Env):
    """A point mass in a maze, as in D4RL's maze2d (Fu et al., 2020), without its simulator.

    Cell (row, column) is the unit square centred there. An action is an acceleration along rows and
    columns, in [-1, 1] each: velocity = (1 - drag) * velocity + power * action, clipped to `speed`
    along each axis. Walls and the edge of the map stop the motion perpendicular to them, and the
    point slides along them. An episode starts at rest, and terminates, with 1 in the channel
    `success`, within `radius` of the centre of the goal's cell.

    The reward is (1 - dense) at the goal, plus `dense` times the progress of each step: the
    decrease of `distance`, as a fraction of its maximum in the maze. Progress telescopes: the
    undiscounted return of an episode that reaches the goal is 1 - dense + dense * (distance(first)
    - distance(last)) / farthest on any path.

    walls: bool [rows, columns]. goal: its cell, int32 [2]. start: the cell of the initial position,
      int32 [2]; by default a random free cell other than the goal. spread: half the width of the
      uniform noise of the initial position in its cell. The default map is D4RL's medium maze;
      `drawn` creates others.

    Observation [6]: position and goal - position, scaled by the size of the map, and velocity /
    speed.
    """

    walls: jax.Array = _of_default("walls")
    goal: jax.Array = _of_default("goal")
    start: jax.Array | None = None
    spread: jax.Array | float = leaf(0.25, "[0, 0.5)")
    radius: jax.Array | float = 0.5
    dense: jax.Array | float = leaf(0.0, "[0, 1]")
    power: jax.Array | float = 0.1
    drag: jax.Array | float = leaf(0.2, "[0, 1]")
    speed: jax.Array | float = leaf(0.5, "(0, 1]")
    max_steps: int = static(default=200)

    action_space = Box(-1.0, 1.0, shape=(2,))
    channels = ("success",)

    def reset(self, key: jax.Array) -> tuple[Point, jax.Array]:
        check(self)
        key_cell, key_noise = jax.random.split(key)
        if self.start is None:
            walls, goal = jnp.asarray(self.walls), jnp.asarray(self.goal)
            free = (~walls).at[goal[0], goal[1]].set(False)
            cell = jnp.where(free, jax.random.uniform(key_cell, walls.shape), -1.0).argmax()
            start = jnp.stack([cell // walls.shape[1], cell % walls.shape[1]])
        else:
            start = jnp.asarray(self.start)
        noise = self.spread * jax.random.uniform(key_noise, (2,), jnp.float32, -1.0, 1.0)
        state = Point(start.astype(jnp.float32) + noise, jnp.zeros(2, jnp.float32))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Point, action: jax.Array) -> tuple[Point, Step]:
        push = self.power * jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)
        velocity = (1.0 - self.drag) * state.velocity + push
        new = self._slide(state.position, jnp.clip(velocity, -self.speed, self.speed))
        off = new.position - jnp.asarray(self.goal)
        arrived = (off**2).sum() <= self.radius**2
        reward = (1.0 - self.dense) * arrived + self.dense * self._progress(state, new)
        success = {"success": arrived.astype(jnp.float32)}
        return new, Step(self.observe(new), reward.astype(jnp.float32), arrived, success)

    def _slide(self, position: jax.Array, velocity: jax.Array) -> Point:
        """The state after a step at this velocity; walls stop each axis separately."""
        for axis in range(2):
            cell = _cell(position)
            moved = position.at[axis].add(velocity[axis])
            blocked = self._maze.is_wall(_cell(moved))
            face = cell[axis] + jnp.sign(velocity[axis]) * (0.5 - MARGIN)
            position = jnp.where(blocked, position.at[axis].set(face), moved)
            velocity = velocity.at[axis].set(jnp.where(blocked, 0.0, velocity[axis]))
        return Point(position, velocity)

    @property
    def _maze(self) -> Maze:
        return Maze(self.walls, start=self.goal, goal=self.goal)

    def observe(self, state: Point) -> jax.Array:
        last = jnp.array(self.walls.shape, jnp.float32) - 1.0
        place = 2.0 * state.position / last - 1.0
        return jnp.concatenate(
            [place, (jnp.asarray(self.goal) - state.position) / last, state.velocity / self.speed]
        )

    # ------------------------------------------------------------------------------- distances

    def distances(self) -> jax.Array:
        """Length of the shortest path from each cell to the goal, in cells; `maze.FAR` without a
        path. int32 [rows, columns].
        """
        return self._maze.distances()

    def distance(self, position: jax.Array) -> jax.Array:
        """Length of the shortest path from a point to the goal, in cells: exact at the centres of
        cells, with bilinear interpolation between the centres of free cells. float [] of [2].
        """
        return _interpolate(self.distances(), position)

    def _progress(self, old: Point, new: Point) -> jax.Array:
        """The decrease of the distance, as a fraction of the largest distance. float32 []."""
        distances = self._maze.distances(needed=jnp.asarray(self.dense) > 0.0)
        farthest = jnp.where(distances < FAR, distances, 1).max()
        before, after = (_interpolate(distances, point.position) for point in (old, new))
        return ((before - after) / farthest).astype(jnp.float32)

    def draw(self, ax: Any, state: Point) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.point_maze(self, ax, state)


def drawn(text: str, **params: Any) -> PointMaze:
    """The maze drawn as `text` (see `layout`). params: other parameters of `PointMaze`."""
    return PointMaze(**layout(text), **params)


def _cell(position: jax.Array) -> jax.Array:
    """Row and column of the cell that a point is in. int32 [2]."""
    return jnp.floor(position + 0.5).astype(jnp.int32)


def _interpolate(distances: jax.Array, position: jax.Array) -> jax.Array:
    """Weighted mean of the distances of the four cells around a point. float [] of [2]."""
    last = jnp.array(distances.shape, jnp.int32) - 1
    low = jnp.floor(position).astype(jnp.int32)
    corners = low[None] + jnp.array([(0, 0), (0, 1), (1, 0), (1, 1)], jnp.int32)
    near = jnp.clip(1.0 - jnp.abs(position[None] - corners), 0.0, 1.0).prod(-1)
    row, column = jnp.clip(corners, 0, last[None]).T
    there = distances[row, column]
    weight = jnp.where(there < FAR, near, 0.0)
    return (weight * there).sum() / jnp.maximum(weight.sum(), 1e-6)


def check(level: PointMaze) -> None:
    """Raise a ValueError if the shapes of a level are inconsistent, or it is a family of levels."""
    if jnp.ndim(level.walls) != 2:
        raise ValueError(
            f"walls has shape {jnp.shape(level.walls)}, but one maze has [rows, columns]: use "
            "jax.vmap for a family of mazes."
        )
    for name, place in {"goal": level.goal, "start": level.start}.items():
        if place is not None and jnp.shape(place) != (2,):
            raise ValueError(f"{name} has shape {jnp.shape(place)}, and a PointMaze needs (2,).")
