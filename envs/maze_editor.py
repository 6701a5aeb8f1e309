"""An environment in which an episode builds a maze."""

import jax
import jax.numpy as jnp

from jaxrl.env import Editor, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from .maze import Maze


@pytree
class Draft:
    """State: walls, bool [side, side]; the cells of the goal and of the start, numbered row by row,
    -1 before they are placed, int32 []; the random heading at the start and the noise [num_noise];
    the number of steps so far.
    """

    walls: jax.Array
    goal: jax.Array
    start: jax.Array
    heading: jax.Array
    noise: jax.Array
    age: jax.Array


@pytree
class MazeEditor(Editor):
    """A maze that is built cell by cell, as by the adversary of Dennis et al. (2020).

    An action is a cell. The first action places the goal, the second the start (in another random
    cell, if the goal is there), and each further one a wall, unless the goal or the start is there.

    Observation: planes of walls, the goal, the start, the fraction of steps taken, and noise that
    is constant during an episode, so that a designer can build different levels. float [side, side,
    4 + num_noise].

    num_walls: number of actions that place walls, and so the maximum number of walls. slowness,
    view, level_steps: of the maze; `level_steps` is its `max_steps`.
    """

    slowness: jax.Array | float = 0.9
    side: int = static(default=13)
    num_walls: int = static(default=60)
    num_noise: int = static(default=16)
    view: int = static(default=5)
    level_steps: int = static(default=250)

    @property
    def max_steps(self) -> int:  # type: ignore[override]
        return self.num_walls + 2

    @property
    def action_space(self) -> Discrete:  # type: ignore[override]
        return Discrete(self.side**2)

    def reset(self, key: jax.Array) -> tuple[Draft, jax.Array]:
        key_heading, key_noise = jax.random.split(key)
        state = Draft(
            walls=jnp.zeros((self.side, self.side), bool),
            goal=jnp.int32(-1),
            start=jnp.int32(-1),
            heading=jax.random.randint(key_heading, (), 0, 4),
            noise=jax.random.uniform(key_noise, (self.num_noise,)),
            age=jnp.int32(0),
        )
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Draft, action: jax.Array) -> tuple[Draft, Step]:
        cells = self.side**2
        cell = jnp.asarray(action, jnp.int32)
        other = (cell + jax.random.randint(key, (), 1, cells)) % cells
        goal = jnp.where(state.age == 0, cell, state.goal)
        start = jnp.where(cell == goal, other, cell)
        start = jnp.where(state.age == 1, start, state.start)
        is_wall = (state.age > 1) & (cell != goal) & (cell != start)
        row, column = cell // self.side, cell % self.side
        new = Draft(
            walls=state.walls.at[row, column].set(state.walls[row, column] | is_wall),
            goal=goal,
            start=start,
            heading=state.heading,
            noise=state.noise,
            age=state.age + 1,
        )
        return new, Step(self.observe(new), jnp.float32(0.0), new.age >= self.max_steps, {})

    def observe(self, state: Draft) -> jax.Array:
        """The observation of a state. float [side, side, 4 + num_noise]."""
        cells = jnp.arange(self.side**2).reshape(self.side, self.side)
        planes = [state.walls, cells == state.goal, cells == state.start]
        constant = jnp.concatenate([state.age[None] / self.max_steps, state.noise])
        everywhere = jnp.broadcast_to(constant, (*cells.shape, len(constant)))
        return jnp.concatenate([jnp.stack(planes, -1).astype(jnp.float32), everywhere], -1)

    def level(self, state: Draft) -> Maze:
        place = lambda cell: jnp.stack([cell // self.side, cell % self.side])
        return Maze(
            walls=state.walls,
            start=place(state.start),
            goal=place(state.goal),
            heading=state.heading,
            slowness=self.slowness,
            view=self.view,
            max_steps=self.level_steps,
        )
