"""LPGGrid: walk on a small grid and collect objects; their types determine reward,
termination and respawning.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, replace, static

from . import draw

Range = tuple[float, float]
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))  # up, down, left, right, stay: (row, column)


@pytree
class Walk:
    """State: cells (numbered row by row) of the agent, int32 [], and of the objects [num_objects];
    `exists`, bool [num_objects]; the number of steps so far.
    """

    position: jax.Array
    objects: jax.Array
    exists: jax.Array
    age: jax.Array


@pytree
class LPGGrid(Env):
    """A level of the grid worlds of Oh et al. (2020, appendix A), with the actions of GROOVE
    (Jackson et al., 2023).

    Actions: up, down, left, right and stay (the paper has moves to all eight neighbours). Walls and
    edges block. Entering the cell of an object collects it: that gives the `reward` of its type,
    and terminates the episode with the probability `termination`. After each later step a collected
    object reappears with the probability `respawn`, where it was, or if `roaming` in a random cell
    without agent or object. All properties of a level are leaves, so one program runs a family of
    levels.

    reward, termination, respawn: of each type, float [num_types].
    types: of each object, int32 [num_objects]; -1 for an absent one.
    objects, start: cells, int32 [num_objects] and [], numbered row by row.
    walls: bool [rows, columns]; a smaller grid is padded with walls.
    time_limit: number of steps of the level, int32 []. It is part of the game: the episode
      terminates there, as no reward follows. `max_steps` truncates longer episodes.

    Observation: the index of the state, position + num_cells * sum_k exists_k 2^k, one-hot
    [num_states], or with `one_hot=False` int32 [], for a table. With `roaming` it is maps [rows,
    columns, 1 + num_types] of the agent and of each type. The time is not observed.
    """

    reward: jax.Array
    termination: jax.Array
    respawn: jax.Array
    types: jax.Array
    objects: jax.Array
    start: jax.Array
    walls: jax.Array
    time_limit: jax.Array
    roaming: bool = static(default=False)
    one_hot: bool = static(default=True)
    max_steps: int = static(default=500)

    @property
    def action_space(self) -> Discrete:
        return Discrete(len(MOVES))

    @property
    def num_cells(self) -> int:
        return self.walls.shape[-2] * self.walls.shape[-1]

    @property
    def num_states(self) -> int:
        """Number of states without the time: the size of a table."""
        return self.num_cells * 2 ** self.types.shape[-1]

    def reset(self, key: jax.Array) -> tuple[Walk, jax.Array]:
        check(self)
        start = jnp.asarray(self.start, jnp.int32)
        objects = jnp.asarray(self.objects, jnp.int32)
        if self.roaming:
            objects = scatter(key, self._free(start), len(objects))
        state = Walk(start, objects, self.types >= 0, jnp.int32(0))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Walk, action: jax.Array) -> tuple[Walk, Step]:
        key_end, key_respawn, key_place = jax.random.split(key, 3)
        bernoulli = lambda key, x: jax.random.uniform(key, state.exists.shape) < self.of_objects(x)
        position = self.move(state.position, action)
        collected = state.exists & (state.objects == position)
        appears = ~state.exists & bernoulli(key_respawn, self.respawn)
        ended = (collected & bernoulli(key_end, self.termination)).any()
        objects = state.objects
        if self.roaming:
            vacant = self._free(position).at[objects].set(False)
            objects = jnp.where(appears, scatter(key_place, vacant, len(objects)), objects)
        new = Walk(position, objects, state.exists & ~collected | appears, state.age + 1)
        reward = jnp.where(collected, self.of_objects(self.reward), 0.0).sum()
        return new, Step(self.observe(new), reward, ended | (new.age >= self.time_limit), {})

    def observe(self, state: Walk) -> jax.Array:
        if self.roaming:
            rows, columns = self.walls.shape
            maps = jnp.zeros((self.num_cells, 1 + len(self.reward))).at[state.position, 0].set(1.0)
            kinds = jnp.where(state.exists, 1 + self.types, -1)
            return (
                maps.at[state.objects, kinds]
                .max(state.exists.astype(jnp.float32))
                .reshape(rows, columns, -1)
            )
        bits = 2 ** jnp.arange(len(state.exists))
        number = state.position + self.num_cells * jnp.where(state.exists, bits, 0).sum()
        return jax.nn.one_hot(number, self.num_states) if self.one_hot else number.astype(jnp.int32)

    def move(self, position: jax.Array, action: jax.Array) -> jax.Array:
        """Cell after an action; walls and the edge of the grid block. int32 []."""
        rows, columns = self.walls.shape
        cell = jnp.stack([position // columns, position % columns])
        row, column = jnp.clip(
            cell + jnp.array(MOVES, jnp.int32)[action],
            0,
            jnp.array([rows - 1, columns - 1], jnp.int32),
        )
        return jnp.where(jnp.asarray(self.walls)[row, column], position, row * columns + column)

    def of_objects(self, x: jax.Array) -> jax.Array:
        """Property `x` [num_types] of each object's type; 0 for absent objects. [num_objects]."""
        return jnp.where(self.types >= 0, jnp.asarray(x)[self.types], 0.0)

    def _free(self, position: jax.Array) -> jax.Array:
        return (~jnp.ravel(self.walls)).at[position].set(False)

    def draw(self, ax: Any, state: Walk) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.lpg_grid(self, ax, state)


def scatter(key: jax.Array, free: jax.Array, num: int) -> jax.Array:
    """Random cells without replacement, free ones first. int32 [num].

    free: bool [num_cells].
    """
    return jax.lax.top_k(jnp.where(free, jax.random.uniform(key, free.shape), -1.0), num)[1]


def redraw(key: jax.Array, level: LPGGrid) -> LPGGrid:
    """The same level with its start and objects in new random free cells, as at the start of each
    lifetime of Oh et al. (2020).
    """
    places = scatter(key, ~jnp.ravel(level.walls), 1 + len(level.types))
    return replace(level, start=places[0], objects=places[1:])


def log_uniform(key: jax.Array, between: Range, shape: tuple[int, ...] = ()) -> jax.Array:
    """Log-uniform samples of the range `between`. float [shape]."""
    low, high = (jnp.log(jnp.asarray(x, jnp.float32)) for x in between)
    return jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high))


def log_uniform_int(key: jax.Array, between: Range) -> jax.Array:
    """One such sample, rounded. int32 []."""
    return jnp.round(log_uniform(key, between)).astype(jnp.int32)


def check(level: LPGGrid) -> None:
    """Raise a ValueError if the shapes of a level are inconsistent, or it is a family of levels."""
    if jnp.ndim(level.walls) != 2:
        raise ValueError(
            f"walls has shape {jnp.shape(level.walls)}, but one level has [rows, columns]: use "
            "jax.vmap for a family of levels, as in "
            "jax.vmap(lambda level, key: level.reset(key))(levels, keys)."
        )
    of_types, of_objects = ("reward", "termination", "respawn"), ("types", "objects")
    for names, size in ((of_types, "num_types"), (of_objects, "num_objects")):
        shapes = {name: jnp.shape(getattr(level, name)) for name in names}
        if len(set(shapes.values())) > 1 or len(shapes[names[0]]) != 1:
            raise ValueError(
                f"{', '.join(names)} have the shapes {shapes}, but each is [{size}], with one "
                f"{size} for all."
            )
    num_objects = len(level.types)
    if level.num_cells <= num_objects:
        raise ValueError(
            f"A grid of {level.num_cells} cells has no room for an agent and {num_objects} objects."
        )
    if level.num_states > 2**30:
        raise ValueError(
            f"{num_objects} objects make {level.num_states} states, too many to number: write at "
            "most 20 objects."
        )
