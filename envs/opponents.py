"""Policies of other players in a game: callable pytrees `(key, Masked observation) -> action`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.rollout import Episode, Policy
from jaxrl.spaces import Discrete, Masked
from jaxrl.tree import pytree, static


@pytree
class RandomMoves:
    """The policy that takes each legal action with equal chances."""

    def __call__(self, key: jax.Array, obs: Masked) -> jax.Array:
        return Discrete(obs.mask.shape[-1]).sample(key, obs.mask)


@pytree
class Function:
    """A function as a policy."""

    function: Callable[[jax.Array, Masked], jax.Array] = static()

    def __call__(self, key: jax.Array, obs: Masked) -> jax.Array:
        return self.function(key, obs)


@pytree
class Trained:
    """A policy of a run, of which the parameters are leaves."""

    policy: Any

    def __call__(self, key: jax.Array, obs: Masked) -> jax.Array:
        return _act(self.policy, key, obs)


@dataclasses.dataclass(frozen=True)
class Acting:
    """A policy of the kit that is no pytree, as a function."""

    policy: Policy

    def __call__(self, key: jax.Array, obs: Masked) -> jax.Array:
        return _act(self.policy, key, obs)


def _act(policy: Policy, key: jax.Array, obs: Masked) -> jax.Array:
    return policy(key, Episode(None, obs, (), jnp.int32(0), jnp.float32(0.0), {}))[1]


def as_opponent(game: str, opponent: Any) -> Any:
    """An opponent in `game` as a callable pytree: `RandomMoves()` for None.

    Raises:
      TypeError: it is not callable. ValueError: a policy with a recurrent state.
    """
    if opponent is None:
        return RandomMoves()
    if isinstance(opponent, Policy):
        if jax.tree.leaves(opponent.rnn_state):
            raise ValueError(
                f"The opponent in {game} has a recurrent state, which is not kept between its "
                "moves: write a policy without a memory."
            )
        is_tree = not jax.tree_util.all_leaves([opponent])
        return Trained(opponent) if is_tree else Function(Acting(opponent))
    if not callable(opponent) or isinstance(opponent, type):
        raise TypeError(
            f"The opponent in {game} is {opponent!r}: write a function (key, obs) -> action, in "
            "which obs.obs is the observation and obs.mask the legal actions."
        )
    return Function(opponent) if jax.tree_util.all_leaves([opponent]) else opponent
