"""MarkovGame: any finite Markov game as arrays, and random games."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.keys import as_key
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw, tabular
from .matrix_game import masked


@pytree
class MarkovGame(Env):
    """A game of A agents with S states and n1, ..., nA actions (Shapley, 1953; Littman, 1994). Its
    arrays are leaves, so one program runs a family of games.

    transition: P(s' | s, joint action), [S, n1, ..., nA, S].
    reward: of each agent, [A, S, n1, ..., nA].
    terminal: True at final states, bool [S].
    start: P(first state), [S].
    shared_reward: True if the rewards of all agents are equal.

    State: its index, int32 []. Observation: the state one-hot and the agent one-hot, float
    [A, S + A]; or with `one_hot=False` the index agent * S + state, int32 [A], for
    `rl.Table(A * S)`. If the numbers of actions differ, it is `Masked`.
    """

    transition: jax.Array
    reward: jax.Array
    terminal: jax.Array
    start: jax.Array
    one_hot: bool = static(default=True)
    num_agents: int = static(default=2)
    max_steps: int = static(default=100)
    shared_reward: bool = static(default=False, added=True)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of actions of each agent."""
        return jnp.shape(self.reward)[-self.num_agents :]

    @property
    def action_space(self) -> Discrete:
        return Discrete(max(self.sizes))

    @property
    def num_states(self) -> int | None:
        """The number of possible observations if they are indices, A * S."""
        return None if self.one_hot else self.num_agents * jnp.shape(self.transition)[-1]

    def reset(self, key: jax.Array) -> tuple[jax.Array, Any]:
        check(self)
        state = _draw(key, self.start)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        new = _draw(key, jnp.asarray(self.transition)[(state, *action)])
        reward = jnp.asarray(self.reward, jnp.float32)[(slice(None), state, *action)]
        return new, Step(self.observe(new), reward, jnp.asarray(self.terminal)[new], {})

    def observe(self, state: jax.Array) -> Any:
        num, num_states = self.num_agents, jnp.shape(self.transition)[-1]
        if not self.one_hot:
            return masked(jnp.arange(num, dtype=jnp.int32) * num_states + state, self.sizes)
        place = jnp.tile(jax.nn.one_hot(state, num_states, dtype=jnp.float32), (num, 1))
        return masked(jnp.concatenate([place, jnp.eye(num, dtype=jnp.float32)], -1), self.sizes)

    def draw(self, ax: Any, state: jax.Array) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.markov_game(self, ax, state)


def _draw(key: jax.Array, probs: Any) -> jax.Array:
    return jax.random.choice(key, jnp.arange(len(probs), dtype=jnp.int32), p=jnp.asarray(probs))


def check(game: MarkovGame) -> None:
    """Raise a ValueError if the shapes of a game are inconsistent, or it is a family of them."""
    shapes = {
        name: jnp.shape(getattr(game, name))
        for name in ("transition", "reward", "terminal", "start")
    }
    num = game.num_agents
    num_states, *actions = shapes["transition"][:-1] or (0,)
    expected = {
        "transition": (num_states, *actions, num_states),
        "reward": (num, num_states, *actions),
        "terminal": (num_states,),
        "start": (num_states,),
    }
    if shapes != expected or len(actions) != num:
        raise ValueError(
            f"The shapes {shapes} do not form a game of num_agents={num}: write transition "
            "[S, n1, ..., nA, S], reward [A, S, n1, ..., nA], terminal [S], start [S], and "
            "num_agents=A; for a family of games, use jax.vmap."
        )


def garnet(
    key: jax.Array | int,
    num_states: int = 5,
    num_actions: tuple[int, ...] = (2, 2),
    branching: int = 2,
    correlation: jax.Array | float = 0.0,
    max_steps: int = 100,
    one_hot: bool = True,
) -> MarkovGame:
    """Return a random game with the transitions of `tabular.garnet`: each joint action leads to
    `branching` random states, with random probabilities.

    Rewards are standard normal numbers, with the same correlation between any two agents: 1 is a
    team with equal rewards, 0 independent rewards, and the lowest, -1 / (A - 1), a game in which
    they sum to 0 (a zero-sum game of two agents with -1). The first state is uniform; nothing
    terminates.

    num_actions: of each agent. key: a key, or an integer seed; `jax.vmap` over keys makes a family.

    Raises:
      ValueError: a correlation that does not exist.
    """
    num_agents = len(num_actions)
    lowest = -1.0 / max(num_agents - 1, 1)
    if isinstance(correlation, int | float) and not lowest <= correlation <= 1.0:
        raise ValueError(
            f"correlation={correlation} of {num_agents} agents is not in [{lowest:g}, 1]: write "
            f"{lowest:g} for rewards that sum to 0, 1 for equal ones."
        )
    key_moves, key_reward = jax.random.split(as_key(key))
    moves = tabular.garnet(key_moves, num_states, int(np.prod(num_actions)), branching)
    own = jax.random.normal(key_reward, (num_agents, num_states, *num_actions), jnp.float32)
    mean = own.mean(0, keepdims=True)
    of_mean = jnp.sqrt(jnp.maximum(1.0 + (num_agents - 1) * correlation, 0.0))
    return MarkovGame(
        transition=moves.transition.reshape(num_states, *num_actions, num_states),
        reward=jnp.sqrt(1.0 - correlation) * (own - mean) + of_mean * mean,
        terminal=moves.terminal,
        start=moves.start,
        one_hot=one_hot,
        num_agents=num_agents,
        max_steps=max_steps,
        shared_reward=isinstance(correlation, int | float) and correlation == 1.0,
    )
