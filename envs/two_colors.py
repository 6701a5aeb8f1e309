"""TwoColors: two coloured cells with rewards of opposite sign, which swap during training."""

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from .lpg_grid import MOVES, scatter


@pytree
class Colors:
    """State: cells (numbered row by row) of the agent, the first and the second colour, int32 [3];
    the number of steps so far.
    """

    cells: jax.Array
    age: jax.Array


@pytree
class TwoColors(Env):
    """The non-stationary grid of Flennerhag et al. (2022): reaching a colour gives `reward` or
    -`reward`.

    A colour that is reached moves to a random cell without agent or colour; nothing terminates.
    Every `period` steps the signs of the two are swapped, which only the rewards reveal. All other
    steps give `step_reward`. Truncation would reset the environment, so `max_steps` should be at
    least the number of steps of the training run. Actions: up, down, left, right. Observation
    [6 * side]: row and column of the agent and of each colour, one-hot.
    """

    reward: jax.Array | float = 1.0
    step_reward: jax.Array | float = -0.04
    period: jax.Array | int = 100_000
    side: int = static(default=5)
    max_steps: int = static(default=1_000_000)

    def __post_init__(self) -> None:
        if self.side < 2:
            raise ValueError(
                f"side={self.side}: an agent and two colours need a grid of side=2 or more."
            )

    @property
    def action_space(self) -> Discrete:
        return Discrete(4)

    def reset(self, key: jax.Array) -> tuple[Colors, jax.Array]:
        state = Colors(scatter(key, jnp.ones(self.side**2, bool), 3), jnp.int32(0))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: Colors, action: jax.Array) -> tuple[Colors, Step]:
        agent, colors = self.move(state.cells[0], action), state.cells[1:]
        reached = colors == agent
        sign = jnp.where(state.age // self.period % 2 == 0, 1.0, -1.0)
        earned = sign * self.reward * (reached[0].astype(jnp.float32) - reached[1])
        free = jnp.ones(self.side**2, bool).at[colors].set(False).at[agent].set(False)
        colors = jnp.where(reached, scatter(key, free, 1), colors)
        new = Colors(jnp.concatenate([agent[None], colors]), state.age + 1)
        reward = jnp.where(reached.any(), earned, self.step_reward)
        return new, Step(self.observe(new), reward, jnp.array(False), {})

    def observe(self, state: Colors) -> jax.Array:
        return jax.nn.one_hot(jax.vmap(self._place)(state.cells), self.side).ravel()

    def move(self, cell: jax.Array, action: jax.Array) -> jax.Array:
        """Cell after an action; the edge blocks. int32 []."""
        row, column = jnp.clip(
            self._place(cell) + jnp.array(MOVES, jnp.int32)[action], 0, self.side - 1
        )
        return row * self.side + column

    def _place(self, cell: jax.Array) -> jax.Array:
        return jnp.stack([cell // self.side, cell % self.side])
