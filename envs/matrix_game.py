"""MatrixGame: normal-form games, one-shot or repeated, and standard examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete, Masked
from jaxrl.tree import pytree, static

from . import draw, teams


@pytree
class MatrixGame(Env):
    """A game in which A agents choose one of n1, ..., nA actions at the same time.

    With max_steps=1, a one-shot game, the episode terminates after the joint action. A game that is
    repeated `max_steps` times is truncated there, as agents do not observe how often it has been
    played: values include further repetitions.

    payoff: of each agent for each joint action, float [A, n1, ..., nA].
    observe_last: if False, observations of a repeated game leave out the last joint action, as in
      Papoudakis et al. (2021).
    shared_reward: True if the payoffs of all agents are equal (`shared`).

    State: the last joint action, -1 at first, int32 [A]. Observation: the last joint action
    one-hot, zeros at first, the agent's own action first and the others after it in cyclic order
    (not in a one-shot game); then the agent one-hot. float [A, A * n + A], n the largest number of
    actions, or [A, A]. If the numbers of actions differ, it is `Masked`.
    """

    payoff: jax.Array
    observe_last: bool = static(default=True)
    num_agents: int = static(default=2)
    max_steps: int = static(default=1)
    shared_reward: bool = static(default=False, added=True)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of actions of each agent."""
        return jnp.shape(self.payoff)[-self.num_agents :]

    @property
    def action_space(self) -> Discrete:
        return Discrete(max(self.sizes))

    def reset(self, key: jax.Array) -> tuple[jax.Array, Any]:
        check(self)
        state = jnp.full(self.num_agents, -1, jnp.int32)
        return state, self.observe(state)

    def step(self, key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        new = jnp.asarray(action, jnp.int32)
        reward = jnp.asarray(self.payoff, jnp.float32)[(slice(None), *new)]
        return new, Step(self.observe(new), reward, jnp.bool_(self.max_steps == 1), {})

    def observe(self, state: jax.Array) -> Any:
        num = self.num_agents
        obs = jnp.eye(num, dtype=jnp.float32)
        if self.observe_last and self.max_steps > 1:
            seen = state[(np.arange(num)[:, None] + np.arange(num)[None]) % num]
            actions = jax.nn.one_hot(seen, max(self.sizes), dtype=jnp.float32)
            obs = jnp.concatenate([actions.reshape(num, -1), obs], -1)
        return masked(obs, self.sizes)

    def draw(self, ax: Any, state: jax.Array) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.matrix_game(self, ax, state)


def masked(obs: jax.Array, sizes: tuple[int, ...]) -> Any:
    """Observations [A, ...] with the masks of agents that have different numbers of actions."""
    if len(set(sizes)) == 1:
        return obs
    return Masked(obs, teams.pad_masks([np.ones(size, bool) for size in sizes]))


def check(game: MatrixGame) -> None:
    """Raise a ValueError if the shape of the payoff does not fit the number of agents."""
    shape: Any = jnp.shape(game.payoff)
    num = game.num_agents
    if len(shape) != num + 1 or shape[0] != num:
        fits = len(shape) > 1 and shape[0] == len(shape) - 1
        instead = f"num_agents={shape[0]}" if fits else "payoff [A, n1, ..., nA]"
        raise ValueError(
            f"The payoff has the shape {shape}, which is not that of a game of num_agents={num}: "
            f"write {instead}; for a family of games, use jax.vmap."
        )


# ------------------------------------------------------------------------------------------- makers


def shared(payoff: Any, max_steps: int = 1) -> MatrixGame:
    """Return the game that pays each agent `payoff` [n1, ..., nA]."""
    payoff = jnp.asarray(payoff, jnp.float32)
    each = jnp.tile(payoff[None], (payoff.ndim,) + (1,) * payoff.ndim)
    return MatrixGame(each, num_agents=payoff.ndim, max_steps=max_steps, shared_reward=True)


def zero_sum(payoff: Any, max_steps: int = 1) -> MatrixGame:
    """Return the game that pays `payoff` [n1, n2] to the first agent and minus it to the second."""
    payoff = jnp.asarray(payoff, jnp.float32)
    return MatrixGame(jnp.stack([payoff, -payoff]), max_steps=max_steps)


def symmetric(payoff: Any, max_steps: int = 1) -> MatrixGame:
    """Return the game that pays each of two agents payoff[own action, other action], [n, n]."""
    payoff = jnp.asarray(payoff, jnp.float32)
    return MatrixGame(jnp.stack([payoff, payoff.T]), max_steps=max_steps)


def climbing(max_steps: int = 1) -> MatrixGame:
    """Return the climbing game (Claus & Boutilier, 1998): the optimum 11 is next to losses."""
    return shared([[11, -30, 0], [-30, 7, 6], [0, 0, 5]], max_steps)


def penalty(k: float = -100.0, max_steps: int = 1) -> MatrixGame:
    """Return the penalty game (Claus & Boutilier, 1998): two optima of 10, `k` <= 0 for a mix."""
    return shared([[10, 0, k], [0, 2, 0], [k, 0, 10]], max_steps)


def prisoners_dilemma(max_steps: int = 150) -> MatrixGame:
    """Return the iterated prisoners' dilemma of Foerster et al. (2018). Actions: cooperate,
    defect.
    """
    return symmetric([[-1, -3], [0, -2]], max_steps)


def matching_pennies(max_steps: int = 1) -> MatrixGame:
    """Return matching pennies: the first agent wins if the actions are equal."""
    return zero_sum([[1, -1], [-1, 1]], max_steps)


def skewed_rock_paper_scissors(max_steps: int = 1) -> MatrixGame:
    """Return rock, paper, scissors in which scissors against rock counts twice.

    The only equilibrium has the probabilities (1/4, 1/2, 1/4) and the value 0.
    """
    return zero_sum([[0, -1, 2], [1, 0, -1], [-2, 1, 0]], max_steps)


def stag_hunt(max_steps: int = 1) -> MatrixGame:
    """Return a stag hunt: actions stag, with the best payoff if both select it, and hare."""
    return symmetric([[10, 1], [8, 5]], max_steps)


def chicken(max_steps: int = 1) -> MatrixGame:
    """Return the game of chicken. Actions: swerve, straight.

    In its mixed equilibrium straight has the probability 1/10.
    """
    return symmetric([[0, -1], [1, -10]], max_steps)


GAMES: dict[str, tuple[Callable[..., MatrixGame], tuple[Any, ...]]] = {
    "Matrix-Chicken": (chicken, ()),
    "Matrix-Climbing": (climbing, ()),
    "Matrix-MatchingPennies": (matching_pennies, ()),
    "Matrix-Penalty": (penalty, ()),
    "Matrix-PrisonersDilemma": (prisoners_dilemma, ()),
    "Matrix-SkewedRPS": (skewed_rock_paper_scissors, ()),
    "Matrix-StagHunt": (stag_hunt, ()),
}
