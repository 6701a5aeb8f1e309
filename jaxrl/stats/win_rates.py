"""Win rates of pairs of players, and Wilson's interval of a proportion, in pure JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl.stats.intervals import Interval


def win_rates(scores: Any, *, level: float = 0.95) -> Interval:
    """Mean scores of games and their Wilson intervals. [...], as [P, P] for the pairs of P players.

    scores: 1 for a win of the row over the column, 0.5 for a draw, 0 for a loss; NaN where no game
      was played. [..., games], as [P, P, games].
    level: the coverage. With draws, which have less variance than wins and losses, it is larger.

    Raises:
      ValueError: scores below 0 or above 1; they are checked unless they are traced.
    """
    scores = jnp.asarray(scores, float)
    if not isinstance(scores, Tracer):
        _check(np.asarray(scores))
    is_played = ~jnp.isnan(scores)
    return wilson(jnp.where(is_played, scores, 0.0).sum(-1), is_played.sum(-1), level=level)


def wilson(successes: Any, trials: Any, *, level: float = 0.95) -> Interval:
    """The fraction of successes and its interval (Wilson, 1927). [...]; NaN without a trial.

    Unlike that of a normal distribution, it has a width where all trials are successes, or none.
    """
    if not 0 < level < 1:
        raise ValueError(
            f"level={level} is not a coverage between 0 and 1; write level=0.95 for 95 %."
        )
    num = jnp.asarray(trials, float)
    square = jax.scipy.special.ndtri((1 + level) / 2) ** 2 / num
    rate = jnp.asarray(successes, float) / num
    middle = (rate + square / 2) / (1 + square)
    half = jnp.sqrt(square * (rate * (1 - rate) + square / 4)) / (1 + square)
    return Interval(rate, middle - half, middle + half)


def _check(scores: np.ndarray) -> None:
    if not scores.ndim:
        raise ValueError("scores are an array of games, [..., games], and not one number.")
    low, high = np.nanmin(scores, initial=0.0), np.nanmax(scores, initial=1.0)
    if low < 0 or high > 1:
        raise ValueError(
            "scores are 1 for a win, 0.5 for a draw and 0 for a loss, and there are scores from "
            f"{low:g} to {high:g}: of returns of a zero-sum game, write (1 + jnp.sign(scores)) / 2."
        )
