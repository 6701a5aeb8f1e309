"""What an environment is: a frozen pytree of its own parameters with two pure functions."""

from typing import Any, Protocol

import jax

from jaxrl.spaces import Space
from jaxrl.tree import pytree

State = Any  # a pytree: copying it forks the world, storing it is a save game
Obs = Any  # an array, or a pytree of arrays; in a `spaces.Masked` where some actions are forbidden


@pytree
class Step:
    """What one action led to.

    obs: the true successor, also when it ends the episode. reward: float []. terminated: bool [],
    True when the state is final, so that no reward can follow; the time limit is not the
    environment's business (`max_steps` is its number). info: a dictionary of arrays, of the same
    structure at each step.
    """

    obs: Obs
    reward: jax.Array
    terminated: jax.Array
    info: dict[str, Any]


class Env(Protocol):
    """A pytree of its own parameters.

    No auto-reset, no clock, no params argument: the rollout does these, once, for all.
    """

    @property
    def max_steps(self) -> int:
        """The length after which an episode is cut off (a truncation, never a death). Static."""
        ...

    @property
    def action_space(self) -> Space: ...

    def reset(self, key: jax.Array) -> tuple[State, Obs]: ...

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]: ...
