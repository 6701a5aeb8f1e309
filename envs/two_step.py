"""TwoStep: a cooperative game of two steps that separates ways to factor a team's value."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree

from . import draw

PAYOFF = np.array([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], np.float32)
STATES = ("1", "2A", "2B")
END = len(STATES)


@pytree
class TwoStep(Env):
    """The two-step game of Rashid et al. (2018, section 6.1) for two agents.

    In state 1 the first agent's action selects state 2A (action 0) or 2B (action 1), with the
    reward 0. There both agents receive the payoff of their joint action, and the episode
    terminates. 2A pays 7 for each joint action, 2B [[0, 1], [1, 8]]: the highest return is 8. The
    best fit of a sum of the agents' values to 2B, over uniform actions, has the maximum 6.5, so
    that a learner of such sums prefers 2A and its return of 7.

    payoff: of each joint action in 2A and in 2B, float [2, 2, 2].
    State: index of the state, 3 after the end, int32 []. Observation, float [2, 5]: the state
    one-hot (zeros after the end) and the agent one-hot.
    """

    payoff: Any = dataclasses.field(default_factory=PAYOFF.copy)

    num_agents = 2
    shared_reward = True
    max_steps = 2
    action_space = Discrete(2)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        if jnp.shape(self.payoff) != PAYOFF.shape:
            raise ValueError(
                f"The payoff of TwoStep has the shape {jnp.shape(self.payoff)}: write [2, 2, 2], "
                "one matrix for each of the states 2A and 2B; for a family of games, use jax.vmap."
            )
        state = jnp.int32(0)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        first, second = action
        new = jnp.where(state == 0, 1 + first, END).astype(jnp.int32)
        pays = (state > 0) & (state < END)
        payoff = jnp.asarray(self.payoff, jnp.float32)[jnp.clip(state - 1, 0, 1), first, second]
        reward = jnp.full(2, jnp.where(pays, payoff, 0.0))
        return new, Step(self.observe(new), reward, state > 0, {})

    def observe(self, state: jax.Array) -> jax.Array:
        place = jnp.tile(jax.nn.one_hot(state, END, dtype=jnp.float32), (2, 1))
        return jnp.concatenate([place, jnp.eye(2, dtype=jnp.float32)], -1)

    def draw(self, ax: Any, state: jax.Array) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.two_step(self, ax, state)
