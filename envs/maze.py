"""Maze: reach a goal, with an egocentric view or the whole map; the level is in the leaves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw

HEADINGS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)], np.int32)  # up, right, down, left
LEFT, RIGHT, FORWARD = range(3)
FAR = 2**20  # larger than the length of any path


@pytree
class Walker:
    """State: row and column of the agent, int32 [2]; its heading, an index of `HEADINGS`, int32
    []; the number of steps so far, int32 [].
    """

    position: jax.Array
    heading: jax.Array
    age: jax.Array


@pytree
class Maze(Env):
    """A maze with one goal, as in minimax and jaxued (Jiang et al., 2023; Coward et al., 2024).

    Actions: turn left, turn right, go forward. Walls and map edges block movement. Reaching the
    goal terminates the episode with a reward of 1 - slowness * steps / max_steps; all other rewards
    are 0. The channel `success` is 1 at the goal.

    walls: bool [rows, columns]. start, goal: row and column, int32 [2]. heading: at the start, 0
    (up) to 3 (left), int32 []. slowness: fraction of the reward that is lost if the goal is reached
    in the last step.

    view: side of the square that the agent sees, an odd number. The view is rotated so that the
      agent is in the middle of its last row and faces up; walls do not block it. Observation:
      planes of walls (including cells beyond the edge), of the goal, and one for each heading, all
      ones for the current one. bool [view, view, 6]. With view=0 it is the whole map: walls, the
      goal, and the agent's cell in the plane of its heading. bool [rows, columns, 6].
    """

    walls: jax.Array
    start: jax.Array
    goal: jax.Array
    heading: jax.Array | int = 0
    slowness: jax.Array | float = 0.9
    view: int = static(default=5)
    max_steps: int = static(default=250)

    action_space = Discrete(3)
    channels = ("success",)

    def __post_init__(self) -> None:
        if self.view != 0 and (self.view < 3 or self.view % 2 == 0):
            raise ValueError(
                f"view={self.view} has no middle column in front of the agent: write an odd number "
                "from 3 up, or view=0 for the whole map."
            )

    def reset(self, key: jax.Array) -> tuple[Walker, jax.Array]:
        check(self)
        position, heading = (jnp.asarray(x, jnp.int32) for x in (self.start, self.heading))
        state = Walker(position, heading, jnp.int32(0))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Walker, action: jax.Array) -> tuple[Walker, Step]:
        turn = jnp.where(action == RIGHT, 1, jnp.where(action == LEFT, -1, 0))
        heading = (state.heading + turn) % 4
        ahead = state.position + jnp.asarray(HEADINGS)[heading]
        moves = (action == FORWARD) & ~self.is_wall(ahead)
        position = jnp.where(moves, ahead, state.position)
        new = Walker(position, heading, state.age + 1)
        arrived = (position == jnp.asarray(self.goal)).all()
        reward = jnp.where(arrived, 1.0 - self.slowness * new.age / self.max_steps, 0.0)
        success = {"success": arrived.astype(jnp.float32)}
        return new, Step(self.observe(new), reward, arrived, success)

    def is_wall(self, cell: jax.Array) -> jax.Array:
        """True at walls and beyond the edge. bool [...] of cells [..., 2]."""
        walls = jnp.asarray(self.walls, bool)
        last = jnp.broadcast_to(jnp.array(walls.shape, jnp.int32) - 1, cell.shape)
        inside = ((cell >= 0) & (cell <= last)).all(-1)
        row, column = jnp.moveaxis(jnp.clip(cell, 0, last), -1, 0)
        return walls[row, column] | ~inside

    def observe(self, state: Walker) -> jax.Array:
        """The observation of a state. bool [view, view, 6] or [rows, columns, 6]."""
        goal, is_heading = jnp.asarray(self.goal), jnp.arange(4) == state.heading
        if self.view == 0:
            cells = jnp.stack(jnp.indices(jnp.shape(self.walls)), -1)
            here = (cells == state.position[None, None]).all(-1)[..., None] & is_heading[None, None]
            return jnp.concatenate(
                [
                    jnp.asarray(self.walls, bool)[..., None],
                    (cells == goal[None, None]).all(-1)[..., None],
                    here,
                ],
                -1,
            )
        ahead, side = np.indices((self.view, self.view))
        ahead, side = self.view - 1 - ahead, side - self.view // 2  # steps forward, to the right
        forward = jnp.asarray(HEADINGS)[state.heading]
        right = jnp.asarray(HEADINGS)[(state.heading + 1) % 4]
        along = lambda steps, way: steps[..., None] * way[None, None]
        cells = state.position[None, None] + along(ahead, forward) + along(side, right)
        planes = [self.is_wall(cells)[..., None], (cells == goal[None, None]).all(-1)[..., None]]
        headings = jnp.broadcast_to(is_heading, (self.view, self.view, 4))
        return jnp.concatenate([*planes, headings], -1)

    # -------------------------------------------------------------------------------- exactly

    def distances(self, needed: jax.Array | bool = True) -> jax.Array:
        """Length of the shortest path from each cell to the goal, in cells; `FAR` without a path.
        int32 [rows, columns].

        needed: False: the values are undefined; the search is skipped if all of a batch are False.
        """
        walls = jnp.asarray(self.walls, bool)
        goal = jnp.asarray(self.goal)
        start = jnp.full(walls.shape, FAR, jnp.int32).at[goal[0], goal[1]].set(0)

        def dilate(now: jax.Array) -> jax.Array:
            nearest = jnp.min(jnp.stack([_shifted(now, heading) for heading in HEADINGS]), 0)
            return jnp.where(walls, FAR, jnp.minimum(now, nearest + 1))

        return _repeat(dilate, start, needed)

    def actions_to_goal(self) -> jax.Array:
        """Smallest number of actions, including turns, from each heading and cell to the goal;
        `FAR` without a path. int32 [4, rows, columns].
        """
        walls = jnp.asarray(self.walls, bool)
        goal = jnp.asarray(self.goal)
        start = jnp.full((4, *walls.shape), FAR, jnp.int32).at[:, goal[0], goal[1]].set(0)

        def dilate(now: jax.Array) -> jax.Array:
            forward = jnp.stack([_shifted(now[i], heading) for i, heading in enumerate(HEADINGS)])
            turned = jnp.minimum(jnp.roll(now, 1, 0), jnp.roll(now, -1, 0))
            nearest = jnp.minimum(now, jnp.minimum(forward, turned) + 1)
            return jnp.where(walls[None], FAR, nearest)

        return _repeat(dilate, start)

    def optimal_return(self) -> jax.Array:
        """The return of the shortest sequence of actions; 0 if none reaches the goal in time. []"""
        position = jnp.asarray(self.start)
        needed = self.actions_to_goal()[jnp.asarray(self.heading), position[0], position[1]]
        reward = 1.0 - self.slowness * needed / self.max_steps
        return jnp.where(needed <= self.max_steps, reward, 0.0)

    def draw(self, ax: Any, state: Walker) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.maze(self, ax, state)


def _shifted(values: jax.Array, heading: np.ndarray) -> jax.Array:
    """The value of the cell one step ahead of each cell; FAR beyond the edge. [rows, columns]."""
    row, column = (int(x) for x in heading)
    padded = jnp.pad(values, 1, constant_values=FAR)
    rows, columns = values.shape
    return padded[1 + row : 1 + row + rows, 1 + column : 1 + column + columns]


def _repeat(function: Any, start: jax.Array, needed: jax.Array | bool = True) -> jax.Array:
    """The fixed point of iterating `function` from `start`, if it is needed."""

    def body(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return function(now[0]), now[0]

    different = lambda now: (now[0] != now[1]).any() & needed
    return jax.lax.while_loop(different, body, (function(start), start))[0]


def check(level: Maze) -> None:
    """Raise a ValueError if the shapes of a level are inconsistent, or it is a family of levels."""
    if jnp.ndim(level.walls) != 2:
        raise ValueError(
            f"walls has shape {jnp.shape(level.walls)}, but one level has [rows, columns]: use "
            "jax.vmap for a family of levels."
        )
    for name, shape in {"start": (2,), "goal": (2,), "heading": ()}.items():
        given = jnp.shape(getattr(level, name))
        if given != shape:
            raise ValueError(f"{name} has shape {given}, and a Maze needs {shape}.")
