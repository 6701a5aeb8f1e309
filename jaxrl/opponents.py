"""Policies of other players in a game: callable pytrees `(key, observation) -> action`.

The observation is `Masked` where actions are.
"""

from collections.abc import Callable
from typing import Any, cast

import jax

from jaxrl.spaces import Discrete, Masked
from jaxrl.tree import pytree, static


@pytree
class RandomMoves:
    """The uniformly random policy over legal actions."""

    def __call__(self, key: jax.Array, obs: Masked) -> jax.Array:
        return Discrete(obs.mask.shape[-1]).sample(key, obs.mask)


@pytree
class Function:
    """A function as a policy."""

    function: Callable[[jax.Array, Any], jax.Array] = static()

    def __call__(self, key: jax.Array, obs: Any) -> jax.Array:
        return self.function(key, obs)


def as_opponent(game: str, opponent: Any) -> Any:
    """An opponent in `game` as a callable pytree: `RandomMoves()` for None.

    Raises:
      TypeError: it is not callable.
    """
    return RandomMoves() if opponent is None else as_pytree(game, opponent)


def as_pytree(game: str, opponent: Any) -> Any:
    """A callable pytree, or a function as one.

    Raises:
      TypeError: it is not callable.
    """
    if not callable(opponent) or isinstance(opponent, type):
        raise TypeError(
            f"The opponent in {game} is {opponent!r}: write a function (key, obs) -> action, in "
            "which obs is the observation of its seat; where actions are masked, obs.obs is the "
            "observation and obs.mask the legal actions."
        )
    is_function = jax.tree_util.all_leaves([opponent])
    return Function(cast(Any, opponent)) if is_function else opponent
