"""What all kinds of finite games have: values, best responses, and the gaps between them."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Game(Protocol):
    """A finite game of A players: `NormalForm`, `Extensive`, `FiniteHorizon`, or any object with
    these two methods.

    What `policies` are depends on the kind of game.
    """

    def values(self, policies: Any) -> jax.Array:
        """Expected payoff of each player. float [A]."""
        ...

    def best_values(self, policies: Any) -> jax.Array:
        """Expected payoff of each player with a best response to the others. float [A]."""
        ...


def nash_gaps(game: Game, policies: Any) -> jax.Array:
    """What each player would gain by a best response to the others. float [A].

    All are 0 in a Nash equilibrium; where none is above epsilon, it is an epsilon-equilibrium.
    """
    return jnp.maximum(game.best_values(policies) - game.values(policies), 0.0)


def exploitability(game: Game, policies: Any) -> jax.Array:
    """Mean gain of a player by a best response to the others: NashConv / A. float [].

    NashConv is the sum (Lanctot et al., 2017). For two players with payoffs that sum to 0, this is
    how much an optimal opponent wins against the policies, on average over both seats, beyond the
    value of the game.

    game: `NormalForm(payoff)`, `Extensive`, as `kuhn()`, or `FiniteHorizon(markov_game, horizon)`.
    """
    return nash_gaps(game, policies).mean()


def check_probabilities(
    name: str, probs: Any, shape: tuple[int, ...], axis: int | None = -1
) -> jax.Array:
    """Probabilities as float32, after a check of their shape and, if they are not traced, values.

    axis: along which they sum to 1; None for all.

    Raises:
      ValueError: another shape, a negative number, or a sum that is not 1.
    """
    if np.shape(probs) != shape:
        raise ValueError(f"{name} has shape {np.shape(probs)}, and this game needs {shape}.")
    if not isinstance(probs, Tracer):
        table = np.asarray(probs)
        error = np.abs(table.sum(axis) - 1).max()
        if (table < 0).any() or not error < 1e-3:
            raise ValueError(
                f"{name} is no distribution: its lowest number is {table.min():g}, and a sum "
                f"differs from 1 by {error:g}. Write probabilities, as jax.nn.softmax(logits)."
            )
    return jnp.asarray(probs, jnp.float32)
