"""Rankings of agents over tasks by rules of social choice (Rofin et al., 2023), in pure JAX."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import nearest


class Ranking(NamedTuple):
    """A ranking of agents.

    points: what the rule assigns to each agent; higher is better. [agents].
    rank: 1 for the best; ties share their mean rank. NaN for an agent without scores. [agents].
    """

    points: jax.Array
    rank: jax.Array


def rank(scores: Any, how: str = "copeland", *, iterated: bool = False) -> Ranking:
    """Ranking of agents by their scores on several tasks. It can be jitted and vmapped.

    Args:
      scores: [agents, tasks], higher is better. NaN is a missing score: it is left out, and two
        agents are compared on the tasks that both have.
      how: the rule.
        "mean": the mean score, which depends on the scale of each task; the others do not.
        "borda": the mean fraction of the other agents that are below on a task.
        "plurality": the fraction of tasks on which the agent is the best.
        "copeland": agents beaten on most of the common tasks, less agents that it is beaten by.
          agents - 1 points are a Condorcet winner.
        "minimax": 1 less the largest fraction of the common tasks that another agent wins.
        A tie counts half.
      iterated: rank the winner first, remove it, and apply the rule to the other agents.

    Raises:
      ValueError: the scores are not a matrix, or there is no such rule.
    """
    scores = jnp.asarray(scores, float)
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {scores.shape} are not [agents, tasks].")
    if how not in RULES:
        raise ValueError(f"how={how!r} is not a rule; {nearest(how, RULES)}.")
    return _rank(scores, how, iterated)


def kendall(x: Any, y: Any) -> jax.Array:
    """Kendall's rank correlation tau-b of x and y, each [n]. [].

    Entries with NaN are left out.
    """
    x, y = (jnp.asarray(z, float) for z in (x, y))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y need one shape [n], and have {x.shape} and {y.shape}.")
    known = ~jnp.isnan(x) & ~jnp.isnan(y)
    sign_x, sign_y = (
        jnp.where(known[:, None] & known[None], jnp.sign(z[:, None] - z[None]), 0.0) for z in (x, y)
    )
    return jnp.sum(sign_x * sign_y) / jnp.sqrt(jnp.sum(sign_x**2) * jnp.sum(sign_y**2))


@partial(jax.jit, static_argnames=("how", "iterated"))
def _rank(scores: jax.Array, how: str, iterated: bool) -> Ranking:
    points = RULES[how](scores)
    if not iterated:
        better = jnp.sum(points[:, None] < points[None], 1)
        equal = jnp.sum(points[:, None] == points[None], 1)
        position = better + (1 + equal) / 2
        return Ranking(points, jnp.where(jnp.isnan(points), jnp.nan, position))

    def place(_: int, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple:
        scores, position, num_placed = now
        left = RULES[how](scores)
        first = left == jnp.nanmax(left)  # False everywhere if no agent is left
        position = jnp.where(first, num_placed + (1 + first.sum()) / 2, position)
        return jnp.where(first[:, None], jnp.nan, scores), position, num_placed + first.sum()

    start = scores, jnp.full(len(scores), jnp.nan), 0
    return Ranking(points, jax.lax.fori_loop(0, len(scores), place, start)[1])


# ------------------------------------------------------------------------------------------- rules


def _borda(scores: jax.Array) -> jax.Array:
    """Mean over tasks of the fraction of other agents that are below. [agents]."""
    win, known = _wins(scores)
    below = jnp.nanmean(win.sum(1) / jnp.where(known.any(1), known.sum(1), jnp.nan), 1)
    return _or_alone(below, scores)


def _plurality(scores: jax.Array) -> jax.Array:
    """Fraction of an agent's tasks on which it is the best. [agents]."""
    is_known = ~jnp.isnan(scores)
    first = is_known & (scores == jnp.max(jnp.where(is_known, scores, -jnp.inf), 0, keepdims=True))
    return (first / jnp.maximum(first.sum(0, keepdims=True), 1)).sum(1) / is_known.sum(1)


def _copeland(scores: jax.Array) -> jax.Array:
    """Agents beaten by majority, less those that it is beaten by. [agents]."""
    win, known = _wins(scores)
    points = jnp.sign(2 * win.sum(2) - known.sum(2)).sum(1)
    return jnp.where(jnp.isnan(scores).all(1), jnp.nan, points)


def _minimax(scores: jax.Array) -> jax.Array:
    """1 less the largest fraction of common tasks that another agent wins. [agents]."""
    win, known = _wins(scores)
    won = jnp.where(known.any(2), win.sum(2) / known.sum(2), jnp.nan)
    return _or_alone(jnp.nanmin(won, 1), scores)


def _or_alone(points: jax.Array, scores: jax.Array) -> jax.Array:
    """Points, or 1 for an agent that has scores but none to compare them with. [agents]."""
    return jnp.where(jnp.isnan(points) & ~jnp.isnan(scores).all(1), 1.0, points)


def _wins(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the first agent beats the second (half for a tie), and where both have a score.

    Each [agents, agents, tasks]; 0 and False on the diagonal.
    """
    first, second = scores[:, None], scores[None]
    known = ~jnp.isnan(first) & ~jnp.isnan(second) & ~jnp.eye(len(scores), dtype=bool)[..., None]
    return jnp.where(known, (first > second) + 0.5 * (first == second), 0.0), known


RULES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": partial(jnp.nanmean, axis=1),
    "borda": _borda,
    "plurality": _plurality,
    "copeland": _copeland,
    "minimax": _minimax,
}
