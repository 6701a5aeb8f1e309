"""Foraging: agents of different levels that collect food in a grid, alone or together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw

# rows and columns of the actions none, up, down, left, right, load
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)], np.int32)
LOAD = 5
APART = 3  # the least number of steps between two items of food
BLOCKED = 13  # the most cells that an item of food excludes for the next


@pytree
class Forage:
    """State: row and column of each agent, int32 [A, 2]; levels of the agents, int32 [A]; row and
    column of each item of food, int32 [F, 2]; their levels, int32 [F], and which of them have been
    collected, bool [F].
    """

    position: jax.Array
    level: jax.Array
    food: jax.Array
    food_level: jax.Array
    collected: jax.Array


@pytree
class Foraging(Env):
    """Level-based foraging (Albrecht & Ramamoorthy, 2013; Papoudakis et al., 2021).

    Agents and food have levels. An item of food is collected if the levels of the agents that load
    next to it (not diagonally) sum to its level or more. Its level is then divided among them in
    proportion to theirs, as rewards, which are scaled so that all food pays 1 to the team in sum.
    The episode terminates, with 1 in the channel `success`, when nothing is left.

    Agents do not enter cells of food, and cells beyond the edge. If several agents would be in the
    same cell after a step, because they move there or stay there, those that move stay where they
    are, and so do others that would enter their cells, and so on: each cell has one agent at most.
    Two agents can exchange their cells.

    Each reset draws the world. Agents have levels from 1 to max_level, food from 1 to the sum of
    the three lowest of these (of all, for fewer agents); with `cooperative`, all food has this sum
    as its level, so that it needs all of up to three agents. Food is not at the edge, and no two
    items have a common neighbour, so that all of it can be collected.

    sight: an agent observes what is at most so many rows and columns away; 0 is the whole grid.

    Actions: none, up, down, left, right, load. Observation, float [A, 3 (A + F)]: row and column of
    the agent, as fractions of the last ones, and its level; then of the other agents, in the order
    of their indices, and of the food: row and column relative to the agent, as the same fractions,
    and the level. What is not seen or already collected is three zeros.
    """

    max_level: jax.Array | int = 2
    size: int = static(default=8)
    num_agents: int = static(default=2)
    num_food: int = static(default=2)
    cooperative: bool = static(default=False)
    sight: int = static(default=0)
    max_steps: int = static(default=50)

    action_space = Discrete(len(MOVES))
    channels = ("success",)

    def __post_init__(self) -> None:
        counts = (self.num_agents, self.num_food)
        if not all(isinstance(x, int) and x > 0 for x in counts) or self.sight < 0:
            raise ValueError(
                f"num_agents={self.num_agents}, num_food={self.num_food} and sight={self.sight} of "
                "Foraging: write 1 or more agents and food, and sight=0 for the whole grid."
            )
        inner, needed = (self.size - 2) ** 2, 1 + BLOCKED * (self.num_food - 1)
        if self.size < 3 or inner < needed or self.num_agents > self.size**2 - self.num_food:
            side = 2 + int(np.ceil(np.sqrt(max(needed, self.num_agents))))
            raise ValueError(
                f"size={self.size} has no room for {self.num_agents} agents and {self.num_food} "
                f"items of food with {BLOCKED} cells each inside the edge: write size={side}."
            )

    def reset(self, key: jax.Array) -> tuple[Forage, jax.Array]:
        key_level, key_food, key_food_level, key_agents = jax.random.split(key, 4)
        num, most = self.num_agents, jnp.asarray(self.max_level, jnp.int32)
        level = jax.random.randint(key_level, (num,), 1, most + 1, jnp.int32)
        limit = jnp.sort(level)[:3].sum(dtype=jnp.int32)
        drawn = jax.random.randint(key_food_level, (self.num_food,), 1, limit + 1, jnp.int32)
        food = self._place_food(key_food)
        state = Forage(
            position=self._place_agents(key_agents, food),
            level=level,
            food=food,
            food_level=jnp.full_like(drawn, limit) if self.cooperative else drawn,
            collected=jnp.zeros(self.num_food, bool),
        )
        return state, self.observe(state)

    def _place_food(self, key: jax.Array) -> jax.Array:
        """Random cells inside the edge, `APART` steps apart. int32 [F, 2]."""
        row, column = np.indices((self.size, self.size))
        free = (np.minimum(row, column) > 0) & (np.maximum(row, column) < self.size - 1)

        def place(free: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            uniform = jax.random.uniform(key, free.shape, jnp.float32)
            cell = jnp.where(free, uniform, -1.0).argmax().astype(jnp.int32)
            food = jnp.stack([cell // self.size, cell % self.size])
            steps = jnp.abs(row - food[0]) + jnp.abs(column - food[1])
            return free & (steps >= APART), food

        return jax.lax.scan(place, jnp.asarray(free), jax.random.split(key, self.num_food))[1]

    def _place_agents(self, key: jax.Array, food: jax.Array) -> jax.Array:
        """Different random cells without food. int32 [A, 2]."""
        uniform = jax.random.uniform(key, (self.size, self.size), jnp.float32)
        free = uniform.at[food[:, 0], food[:, 1]].set(-1.0)
        cells = jax.lax.top_k(free.ravel(), self.num_agents)[1].astype(jnp.int32)
        return jnp.stack([cells // self.size, cells % self.size], -1)

    def step(self, key: jax.Array, state: Forage, action: jax.Array) -> tuple[Forage, Step]:
        left = ~state.collected[None]
        off = jnp.abs(state.position[:, None] - state.food[None]).sum(-1)
        loads = (off == 1) & (action == LOAD)[:, None] & left
        power = jnp.where(loads, state.level[:, None], 0)
        total = power.sum(0)
        taken = (total >= state.food_level) & left[0]
        paid = jnp.where(taken, state.food_level / jnp.maximum(total, 1), 0.0)
        reward = (power * paid[None]).sum(1) / state.food_level.sum()
        new = Forage(
            position=self.move(state, action),
            level=state.level,
            food=state.food,
            food_level=state.food_level,
            collected=state.collected | taken,
        )
        over = new.collected.all()
        success = {"success": jnp.full(self.num_agents, over, jnp.float32)}
        return new, Step(self.observe(new), reward.astype(jnp.float32), over, success)

    def move(self, state: Forage, action: jax.Array) -> jax.Array:
        """Cells of the agents after their moves. int32 [A, 2]."""
        ahead = state.position + jnp.asarray(MOVES)[action]
        inside = ((ahead >= 0) & (ahead < self.size)).all(-1)
        at_food = (ahead[:, None] == state.food[None]).all(-1) & ~state.collected[None]
        can_move = inside & ~at_food.any(-1)
        cells = jnp.where(can_move[:, None], ahead, state.position)
        for _ in range(self.num_agents):  # an agent that stays may block another one
            meets = (cells[:, None] == cells[None]).all(-1).sum(-1) > 1
            cells = jnp.where(meets[:, None], state.position, cells)
        return cells

    def observe(self, state: Forage) -> jax.Array:
        num, last = self.num_agents, self.size - 1
        own = jnp.concatenate([state.position / last, state.level[:, None]], -1)
        others = np.array([[j for j in range(num) if j != i] for i in range(num)], np.int32)
        food = jnp.tile(state.food[None], (num, 1, 1))
        places = jnp.concatenate([state.position[others], food], 1)
        food_level = jnp.where(state.collected, 0, state.food_level)
        levels = jnp.concatenate(
            [state.level[others], jnp.tile(food_level[None], (num, 1))], 1
        )  # 0 of what is no longer there
        off = places - state.position[:, None]
        seen = levels > 0
        if self.sight:
            seen &= (jnp.abs(off) <= self.sight).all(-1)
        things = jnp.concatenate([off / last, levels[..., None]], -1)
        things = jnp.where(seen[..., None], things, 0.0)
        return jnp.concatenate([own, things.reshape(num, -1)], -1).astype(jnp.float32)

    def draw(self, ax: Any, state: Forage) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.foraging(self, ax, state)
