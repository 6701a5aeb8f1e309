"""Elo ratings of players from the results of their games, in pure JAX."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.sparse.linalg import cg

from jaxrl.errors import is_count
from jaxrl.keys import as_key
from jaxrl.stats.intervals import Interval, Kind, check_options, ends

SCALE = 400 / math.log(10)  # points per unit of log odds: 400 for odds of ten to one
BATCH = 100  # resamples at a time: what they hold should fit in a cache
# of the fit: the largest change of a log strength in the last step, 0.02 points; and steps at most
TOLERANCE, MAX_STEPS = 1e-4, 100


def elo(
    wins: Any,
    games: Any = None,
    *,
    anchor: int | None = None,
    rating: float = 1200.0,
    prior: float = 1.0,
    level: float = 0.95,
    resamples: int = 2000,
    key: jax.Array | int | None = None,
    kind: Kind = "percentile",
) -> Interval:
    """Elo ratings of P players from their games, in any order, with bootstrap intervals. [P].

    The maximum likelihood of the model of Bradley and Terry (1952): i beats j with probability
    1 / (1 + 10^((rating_j - rating_i) / 400)). To the games of each player, `prior` draws with an
    average player are added, or the rating of a player that never lost would be infinite (Ford,
    1957): with 1, a player that won 10 of 10 games is 581 points above its opponent.

    A bootstrap resample has new results of the games, drawn from the fitted model. A draw is half a
    win, so that intervals are too wide where most games are drawn; and the interval of a player
    that won or lost almost all of its games ends too early.

    Args:
      wins: of the row over the column, with a draw as half a win to each, [P, P]; of win rates,
        `rates * games`. The diagonal is left out.
      games: of each pair, [P, P], symmetric; by default `wins + wins.T`. Where [i, j] and [j, i]
        are different games, as in two seats, write `elo(wins + (games - wins).T)`.
      anchor: the index of the player with `rating`; by default it is the mean of all players.
      rating: of the anchor, in points.
      prior: the number of draws that are added for each player, above 0.
      level: the coverage of the interval.
      resamples: their number.
      key: a key or an integer seed of the resamples, by default 0.
      kind: "percentile" or "basic", as in `interval`.

    Raises:
      ValueError: wins are not a square matrix of two players or more, or negative; games are not
        the sum of wins and losses; a player has no games; or groups of players never met, which
        leaves the difference of their ratings open. Values are checked unless they are traced.
    """
    check_options(level, kind, resamples)
    wins = jnp.asarray(wins, float)
    _check(wins, games, anchor, prior)
    key = as_key(0 if key is None else key)
    estimate, draws = _elo(key, wins, prior, rating, anchor, resamples)
    return Interval(estimate, *ends(estimate, draws, level, kind))


def expected_score(rating: Any, opponent: Any) -> jax.Array:
    """Expected score, from 0 to 1, of a player with `rating` against `opponent`, in points. [...].

    The logistic form of Elo's curve: 400 points are odds of ten to one.
    """
    return jax.nn.sigmoid((jnp.asarray(rating, float) - opponent) / SCALE)


def elo_update(rating: Any, opponent: Any, score: Any, k: Any = 32.0) -> jax.Array:
    """The rating after one game (Elo, 1978): rating + k (score - expected score). [...].

    The result depends on the order of the games, and moves without end at a fixed k; `elo` fits all
    games at once.

    rating, opponent: before the game, in points. score: 1, 0.5 or 0. k: the largest change, in
    points.
    """
    rating = jnp.asarray(rating, float)
    return rating + k * (score - expected_score(rating, opponent))


# ------------------------------------------------------------------------------------------ the fit


@partial(jax.jit, static_argnames=("anchor", "resamples"))
def _elo(
    key: jax.Array,
    wins: jax.Array,
    prior: jax.Array | float,
    rating: jax.Array | float,
    anchor: int | None,
    resamples: int,
) -> tuple[jax.Array, jax.Array]:
    """Ratings from wins [P, P], and from resamples. [P], [resamples, P]."""
    wins = jnp.where(jnp.eye(len(wins), dtype=bool), 0.0, wins)
    games = jnp.round(wins + wins.T)

    def fit(wins: jax.Array) -> jax.Array:
        # the last player is the average one
        return _log_strengths(jnp.pad(wins, (0, 1), constant_values=prior / 2))[:-1]

    def points(strength: jax.Array) -> jax.Array:
        base = strength.mean() if anchor is None else strength[anchor]
        return rating + SCALE * (strength - base)

    strength = fit(wins)
    rate = jax.nn.sigmoid(strength[:, None] - strength[None])

    def resampled(key: jax.Array) -> jax.Array:
        upper = jnp.triu(jax.random.binomial(key, games, rate), 1)
        return points(fit(upper + jnp.tril(games - upper.T, -1)))

    draws = jax.lax.map(resampled, jax.random.split(key, resamples), batch_size=BATCH)
    return points(strength), draws


def _log_strengths(wins: jax.Array) -> jax.Array:
    """Maximum of the likelihood of wins [P, P]: log strengths up to a constant. [P].

    By Newton's method. A step changes no difference of two strengths by more than 1, within which
    the curvature of the logistic function changes by less than a factor e, so that no step lowers
    the likelihood. (Hunter's iteration, 2004, takes thousands of steps where strengths differ much
    or few pairs met.) The linear system is solved by conjugate gradients: LAPACK can hang in
    vmapped programs.
    """

    def step(now: tuple) -> tuple:
        strength, _, num_steps = now
        loss = jax.nn.sigmoid(strength[None] - strength[:, None])  # probability that the row loses
        surprise = wins * loss
        gradient = (surprise - surprise.T).sum(1)
        weight = (wins + wins.T) * loss * loss.T
        degree = weight.sum(1)
        move, _ = cg(
            lambda x: degree * x - jnp.matmul(weight, x, precision="highest"),
            gradient,
            M=lambda x: x / degree,
            maxiter=2 * len(wins),
        )
        span = move.max() - move.min()
        return strength + move / jnp.maximum(span, 1.0), span, num_steps + 1

    def is_moving(now: tuple) -> jax.Array:
        return (now[1] > TOLERANCE) & (now[2] < MAX_STEPS)

    start = jnp.zeros(len(wins), wins.dtype), jnp.array(jnp.inf, wins.dtype), 0
    return jax.lax.while_loop(is_moving, step, start)[0]


# ---------------------------------------------------------------------------------------- arguments


def _check(wins: jax.Array, games: Any, anchor: int | None, prior: Any) -> None:
    """Raise a ValueError for results that have no ratings; numbers are checked if not traced."""
    num = len(wins) if wins.ndim else 0
    if wins.shape != (num, num) or num < 2:
        raise ValueError(
            f"wins of shape {wins.shape} are not [P, P], of P players, two or more: write the wins "
            "of each row over each column."
        )
    if games is not None and jnp.shape(games) != wins.shape:
        raise ValueError(
            f"games of shape {jnp.shape(games)} do not fit wins of shape {wins.shape}: write the "
            "number of games of each pair, [P, P]."
        )
    if anchor is not None and not (is_count(anchor, 0) and anchor < num):
        raise ValueError(f"anchor={anchor!r} is not the index of one of {num} players, from 0.")
    if not isinstance(prior, Tracer) and not 0 < prior < math.inf:
        raise ValueError(
            f"prior={prior!r} leaves the rating of a player that never lost infinite: write "
            "prior=0.01, above 0, for a fit near the maximum of the likelihood."
        )
    if not any(isinstance(x, Tracer) for x in (wins, games)):
        _check_results(np.array(wins, float), games)


def _check_results(wins: np.ndarray, games: Any) -> None:
    np.fill_diagonal(wins, 0.0)
    if not (np.isfinite(wins) & (wins >= 0)).all():
        i, j = np.argwhere(~(np.isfinite(wins) & (wins >= 0)))[0]
        raise ValueError(
            f"wins[{i}, {j}] = {wins[i, j]:g} is not a count: write how often player {i} beat "
            f"player {j}, 0 for a pair that never met."
        )
    if games is not None:
        _check_games(wins, np.array(games, float))
    met = wins + wins.T > 0
    if not met.any(1).all():
        raise ValueError(
            f"{_listed(np.flatnonzero(~met.any(1)))} played no games, so that there is no rating: "
            "leave out the row and the column."
        )
    groups = _groups(met)
    if len(groups) > 1:
        raise ValueError(
            f"{' and '.join(map(_listed, groups))} never met, nor through others, so that the "
            "differences between the groups can't be known: let some of them play, or rate each "
            "group alone, elo(wins[np.ix_(group, group)])."
        )


def _check_games(wins: np.ndarray, games: np.ndarray) -> None:
    np.fill_diagonal(games, 0.0)
    wrong = np.abs(wins + wins.T - games) > 1e-3 * np.maximum(games, 1.0)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise ValueError(
            f"games[{i}, {j}] = {games[i, j]:g}, and wins[{i}, {j}] + wins[{j}, {i}] = "
            f"{wins[i, j] + wins[j, i]:g}: a draw is half a win to each. If [i, j] and [j, i] are "
            "different games, write elo(wins + (games - wins).T); for win rates, "
            "elo(rates * games)."
        )


def _groups(met: np.ndarray) -> list[np.ndarray]:
    """Players that met, directly or through others, as one array of indices for each group."""
    reached = met | np.eye(len(met), dtype=bool)
    for _ in range(len(met).bit_length()):
        reached = reached @ reached
    return [np.flatnonzero(row) for row in np.unique(reached, axis=0)[::-1]]


def _listed(players: Iterable[int]) -> str:
    numbers = [str(i) for i in players]
    return f"Player{'s' * (len(numbers) > 1)} {', '.join(numbers)}"
