"""Tournaments and adaptive comparisons that rank agents or select one, in pure JAX."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import is_count
from jaxrl.keys import as_key
from jaxrl.stats.draws import draw
from jaxrl.stats.intervals import Interval, of_normal

BATCH = 1000  # tournaments at a time: what they hold should fit in a cache


# ------------------------------------------------------------------------------------------- Swiss


def swiss(
    key: jax.Array | int, scores: Any, *, eliminated: int = 0, repeats: int = 10_000
) -> Interval:
    """Expected points of agents in Swiss-system tournaments, with 95 % intervals. [agents].

    After "LLM Swiss Round" (2025). Each task is a round: agents are ordered by their points, ties
    at random, and neighbours play. The higher score on the task gives a point, a tie half of one;
    an agent without an opponent gets a point. The interval is that of the simulation, not of the
    scores.

    Args:
      key: a key or an integer seed.
      scores: [agents, tasks]; the tasks in the order of the rounds. NaN loses to any score.
      eliminated: how many of the last agents leave after each round, with the points that they
        have: it penalises an agent for failing on one task.
      repeats: number of simulated tournaments.

    Raises:
      ValueError: the scores are not a matrix, no agent would be left before the last round, or
        there is no tournament.
    """
    scores = jnp.asarray(scores, float)
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {scores.shape} are not [agents, tasks].")
    num_agents, num_tasks = scores.shape
    if not is_count(eliminated, 0) or eliminated * (num_tasks - 1) >= num_agents:
        raise ValueError(
            f"eliminated={eliminated!r} after each of {num_tasks} rounds leaves none of "
            f"{num_agents} agents before the last: use a smaller number."
        )
    if not is_count(repeats, 2):
        raise ValueError(f"repeats={repeats!r} gives no expectation: write 1,000 or more.")
    return _swiss(as_key(key), scores, jnp.asarray(eliminated), repeats)


@partial(jax.jit, static_argnames="repeats")
def _swiss(key: jax.Array, scores: jax.Array, eliminated: jax.Array, repeats: int) -> Interval:
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    index = jnp.arange(len(scores))

    def play(now: tuple, drawn: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        points, is_in, num_left = now
        tie_break, score = drawn
        # place of each agent: by comparisons, as a sort of so few is slow
        order = jnp.where(is_in, tie_break - points, jnp.inf)
        earlier, same = order[None] < order[:, None], order[None] == order[:, None]
        place = (earlier | same & (index[None] < index[:, None])).sum(1)
        is_in = place < num_left
        opponent = jnp.where(place[None] == (place ^ 1)[:, None], score[None], 0.0).sum(1)
        point = jnp.where(score == opponent, 0.5, score > opponent)
        point = jnp.where((place ^ 1) < num_left, point, 1.0)
        return (points + jnp.where(is_in, point, 0.0), is_in, num_left - eliminated), None

    def tournament(key: jax.Array) -> jax.Array:
        # in [0, 0.5), and points are multiples of 0.5
        tie_break = draw(key, scores.T.shape, 2**20) / 2**21
        start = jnp.zeros(len(scores)), jnp.ones(len(scores), bool), jnp.asarray(len(scores))
        return jax.lax.scan(play, start, (tie_break, scores.T))[0][0]

    points = jax.lax.map(tournament, jax.random.split(key, repeats), batch_size=BATCH)
    return of_normal(points.mean(0), points.std(0, ddof=1) / repeats**0.5)


# ---------------------------------------------------------------------------------------- knockout


def knockout(
    key: jax.Array,
    compare: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    num: int,
    repeats: int = 1,
) -> jax.Array:
    """Index of the candidate that wins a knockout tournament with noisy comparisons. int [].

    After Chen et al. (2024). In each round neighbours are compared `repeats` times, and the
    majority decides, at random for a tie. `repeats * (num - 1)` comparisons in all.

    compare: `compare(key, i, j)`, True if candidate i is found better than j; it is vmapped.

    Raises:
      ValueError: there is no candidate or no comparison.
    """
    if not is_count(num) or not is_count(repeats):
        raise ValueError(f"num={num!r} and repeats={repeats!r} are counts of 1 or more.")
    rounds = math.ceil(math.log2(num))
    index = jnp.arange(2**rounds)

    def play(left: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        """The winners of a round; -1 where none is left."""
        first, second = left[::2], left[1::2]
        key_compare, key_tie = jax.random.split(key)
        keys = jax.random.split(key_compare, (len(first), repeats))
        wins = jax.vmap(jax.vmap(compare, (0, None, None)))(keys, first, second).sum(1)
        is_heads = jax.random.bernoulli(key_tie, shape=first.shape)
        is_won = (2 * wins > repeats) | ((2 * wins == repeats) & is_heads) | (second < 0)
        return jnp.concatenate([jnp.where(is_won, first, second), jnp.full_like(first, -1)]), None

    start = jnp.where(index < num, index, -1)
    return jax.lax.scan(play, start, jax.random.split(key, rounds))[0][0] if rounds else start[0]


def knockout_bound(num: int, repeats: int, p_good: float, p_compare: float) -> float:
    """Upper bound on the probability that `knockout` ends with a bad candidate.

    Chen et al. (2024), theorem 1. p_good: the probability that a candidate is good. p_compare: that
    a comparison of a good and a bad one is right, above 0.5.
    """
    rounds = math.ceil(math.log2(num))
    return (1 - p_good) ** num + rounds * math.exp(-2 * repeats * (p_compare - 0.5) ** 2)


# ------------------------------------------------------------------------------------------ active


class ActiveRanking(NamedTuple):
    """A ranking from adaptive evaluations.

    rank: 0 for the best. int [agents].
    pulls: the number of evaluations. int [agents, tasks].
    is_certain: False if the budget ended before all pairs were separated. bool [].
    """

    rank: jax.Array
    pulls: jax.Array
    is_certain: jax.Array


def active_rank(
    key: jax.Array,
    pull: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    num_agents: int,
    num_tasks: int,
    *,
    delta: float = 0.05,
    noise: float = 1.0,
    max_rounds: int = 100_000,
    adaptive: bool = True,
) -> ActiveRanking:
    """Ranking of agents by noisy evaluations, correct with probability 1 - delta.

    Assumes monotone dominance (Saad et al., 2023): of two agents, one is at least as good on all
    tasks, and better on one. Two agents are separated once their confidence intervals are disjoint
    on one task; the intervals hold for all agents, tasks and numbers of evaluations at once. In
    each round, each agent that is not separated from another is evaluated on the task that may
    separate it most: the largest optimistic gap to such an agent, which is the distance of the
    means plus both half-widths.

    Args:
      key: of the evaluations.
      pull: `pull(key, agent, task)`, a noisy score; it is vmapped.
      delta: the probability of a wrong ranking that is accepted.
      noise: scale of the scores, which are sub-Gaussian with it.
      max_rounds: the budget, in evaluations of each agent.
      adaptive: False evaluates all agents on all tasks in turn, with the same intervals.
    """
    if not (noise > 0 and 0 < delta < 1 and num_agents >= 2 and num_tasks >= 1):
        raise ValueError(
            f"noise={noise}, delta={delta}, {num_agents} agents and {num_tasks} tasks: noise is "
            "above 0, delta between 0 and 1, and there are two agents and one task or more."
        )
    agents = jnp.arange(num_agents)

    def radius(pulls: jax.Array) -> jax.Array:
        """Half-width of the intervals, by a union bound over agents, tasks and numbers n."""
        n = jnp.maximum(pulls, 1)
        bound = jnp.log(math.pi**2 * num_agents * num_tasks * jnp.square(1.0 * n) / (3 * delta))
        return jnp.where(pulls > 0, noise * jnp.sqrt(2 * bound / n), jnp.inf)

    def compare(total: jax.Array, pulls: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Optimistic gaps [agents, agents, tasks], and which agents are above. [agents, agents]."""
        mean = total / jnp.maximum(pulls, 1)
        half = radius(pulls)
        gap, width = mean[:, None] - mean[None], half[:, None] + half[None]
        return jnp.abs(gap) + width, (gap > width).any(-1)

    def evaluate(now: tuple) -> tuple:
        i, key, total, pulls = now
        optimistic, above = compare(total, pulls)
        open_pair = ~(above | above.T) & ~jnp.eye(num_agents, dtype=bool)
        is_open = open_pair.any(1) if adaptive else jnp.ones(num_agents, bool)
        widest = jnp.where(open_pair[..., None], optimistic, 0.0).max(1)
        task = jnp.argmax(widest, 1) if adaptive else jnp.full(num_agents, i % num_tasks)
        key, key_pull = jax.random.split(key)
        score = jax.vmap(pull)(jax.random.split(key_pull, num_agents), agents, task)
        total = total.at[agents, task].add(jnp.where(is_open, score, 0.0))
        return i + 1, key, total, pulls.at[agents, task].add(is_open)

    def is_undecided(now: tuple) -> jax.Array:
        i, _, total, pulls = now
        _, above = compare(total, pulls)
        return (i < max_rounds) & ~(above | above.T | jnp.eye(num_agents, dtype=bool)).all()

    start = (0, key, jnp.zeros((num_agents, num_tasks)), jnp.zeros((num_agents, num_tasks), int))
    end = jax.lax.while_loop(is_undecided, evaluate, start)
    _, above = compare(*end[2:])
    order = jnp.argsort(-above.sum(1))
    rank = jnp.zeros(num_agents, int).at[order].set(agents)
    return ActiveRanking(rank, end[3], (above | above.T | jnp.eye(num_agents, dtype=bool)).all())
