"""Learners that plan with counts, and the loop that plays their episodes and measures regret."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.keys import as_key
from jaxrl.tabular.counts import Bonus, Counts, Episode, Hoeffding
from jaxrl.tabular.exact import Process, backward, optimal_value, value
from jaxrl.tree import leaf, pytree, static


class Plan(NamedTuple):
    """What is played next: one of K policies, drawn for a whole episode.

    policy: probabilities [K, H, S, A]. weight: the probability of each policy, [K].
    """

    policy: jax.Array
    weight: jax.Array


class Learner(Protocol):
    """A learner of episodes: its state before the first one, what it plays next, and its state
    after an episode. A state is any pytree.
    """

    def init(self, num_states: int, num_actions: int, horizon: int) -> Any: ...
    def plan(self, state: Any, horizon: int) -> Plan: ...
    def update(self, state: Any, episode: Episode) -> Any: ...


class Seen(NamedTuple):
    """State of an `Optimist`.

    counts: of the episodes that are used. num_episodes: all that were played, int [].
    recent: the last `memory` episodes, in the order of their number modulo `memory`.
    """

    counts: Counts
    num_episodes: jax.Array
    recent: Episode


@pytree
class Optimist:
    """Optimistic value iteration on counts, planned before each episode (UCBVI, Azar et al., 2017).

    bonus: what is added to the empirical action values.
    limit: the largest reward of a step; the smallest is 0.
    mix: a function of this learner, its counts and the optimistic policy [H, S, A], that returns
      the `Plan` that is played in its place.
    restart_every: counts are reset after this number of episodes.
    window: number of the latest episodes that are counted. Needs a `memory` of at least as many.
    memory: number of episodes that are kept.
    """

    bonus: Bonus = Hoeffding()
    limit: float = leaf(1.0, "[0, inf)")
    mix: Callable[["Optimist", Counts, jax.Array], Plan] | None = None
    restart_every: float | jax.Array = leaf(math.inf, "[1, inf]")
    window: float | jax.Array = leaf(math.inf, "[1, inf]")
    memory: int = static(default=0)

    def __post_init__(self) -> None:
        finite = isinstance(self.window, int | float) and math.isfinite(self.window)
        if finite and self.window > self.memory:
            raise ValueError(
                f"A window of {self.window} episodes does not fit in memory={self.memory}: write "
                f"Optimist(window={self.window}, memory={math.ceil(self.window)})."
            )

        restarts = self.restart_every
        if finite and isinstance(restarts, int | float) and math.isfinite(restarts):
            raise ValueError(
                f"A window and restart_every={restarts} together would subtract episodes that a "
                "restart has removed: set one of them."
            )

    def init(self, num_states: int, num_actions: int, horizon: int) -> Seen:
        index = lambda length: jnp.zeros((self.memory, length), jnp.int32)
        recent = Episode(index(horizon + 1), index(horizon), jnp.zeros((self.memory, horizon)))
        return Seen(Counts.zeros(num_states, num_actions), jnp.int32(0), recent)

    def plan(self, state: Seen, horizon: int) -> Plan:
        q = self.q(state.counts, horizon)
        policy = jax.nn.one_hot(q.argmax(-1), q.shape[-1])
        if self.mix is not None:
            return self.mix(self, state.counts, policy)
        return Plan(policy[None], jnp.ones(1))

    def q(self, counts: Counts, horizon: int) -> jax.Array:
        """Optimistic action values. float [H, S, A]."""
        bonus = lambda value, left: self.bonus(counts, value, self.limit * left)
        return backward(
            counts.transition, counts.reward, horizon, bonus=bonus, bounds=(0.0, self.limit)
        )

    def update(self, state: Seen, episode: Episode) -> Seen:
        counts, number, recent = state
        counts = counts.add(episode)
        if self.memory:
            first = jnp.asarray((number - self.window) % self.memory).astype(jnp.int32)
            oldest = jax.tree.map(lambda x: x[first], recent)
            counts = counts.add(oldest, jnp.where(number >= self.window, -1.0, 0.0))
            recent = jax.tree.map(
                lambda x, new: x.at[number % self.memory].set(new), recent, episode
            )
        ends = (number + 1) % self.restart_every == 0
        counts = jax.tree.map(lambda x: jnp.where(ends, 0.0, x), counts)
        return Seen(counts, number + 1, recent)


def play_episodes(
    key: jax.Array | int,
    process: Process | Callable[[jax.Array], Process],
    learner: Learner,
    horizon: int,
    episodes: int,
    *,
    floor: jax.Array | float = -math.inf,
    points: int = 100,
) -> dict[str, jax.Array]:
    """Play a learner's episodes, and return its exact regret at equally spaced episodes.

    process: a process, or a function of the fraction of the episodes that were played, in [0, 1),
      that returns the present one; regret is then dynamic.
    floor: a value that a policy should reach.

    Returns:
      Arrays [points]: `episode`, the number of episodes so far; `regret`, the sum over them of the
      optimal value less that of what was played, both exact; `violations`, the number of them with
      a value below `floor`; `value`, that of the last one.

    Raises:
      ValueError: `points` does not divide `episodes`.
    """
    if points < 1 or episodes % points:
        raise ValueError(
            f"points={points} does not divide episodes={episodes}: each point is after the same "
            "number of episodes."
        )
    first = process(jnp.zeros(())) if callable(process) else process
    num_states, num_actions, _ = first.transition.shape
    best = optimal_value(first, horizon)

    def episode(carry: tuple[Any, ...], number: jax.Array) -> tuple[tuple[Any, ...], jax.Array]:
        state, regret, violations = carry
        now = process(number / episodes) if callable(process) else first
        plan = learner.plan(state, horizon)
        worth = plan.weight @ jax.vmap(value, (None, 0))(now, plan.policy)
        key_episode = jax.random.fold_in(as_key(key), number)
        state = learner.update(state, sample(key_episode, now, plan))
        optimum = optimal_value(now, horizon) if callable(process) else best
        regret += jnp.maximum(optimum - worth, 0.0)
        return (state, regret, violations + (worth < floor)), worth

    def point(carry: tuple[Any, ...], numbers: jax.Array) -> tuple[tuple[Any, ...], Any]:
        carry, worth = jax.lax.scan(episode, carry, numbers)
        return carry, (carry[1], carry[2], worth[-1])

    numbers = jnp.arange(episodes).reshape(points, -1)
    state = learner.init(num_states, num_actions, horizon)
    start = state, jnp.zeros(()), jnp.zeros(())
    _, (regret, violations, last) = jax.lax.scan(point, start, numbers)
    found = {"regret": regret, "violations": violations, "value": last}
    return found | {"episode": numbers[:, -1] + 1}


def sample(key: jax.Array, process: Process, plan: Plan) -> Episode:
    """One episode of a plan."""
    key_policy, key_start, key_steps = jax.random.split(key, 3)
    policy = plan.policy[_draw(jax.random.uniform(key_policy), plan.weight)]
    reward = jnp.broadcast_to(process.reward, process.transition.shape)

    def step(state: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        probs, noise = at
        action = _draw(noise[0], probs[state])
        new = _draw(noise[1], process.transition[state, action])
        return new, (new, action, reward[state, action, new])

    first = _draw(jax.random.uniform(key_start), process.start)
    noise = jax.random.uniform(key_steps, (len(policy), 2))
    _, (states, actions, rewards) = jax.lax.scan(step, first, (policy, noise))
    return Episode(jnp.concatenate([first[None], states]), actions, rewards)


def _draw(uniform: jax.Array, probs: jax.Array) -> jax.Array:
    """An index with these probabilities, from a uniform number. int []."""
    index = (uniform * probs.sum() >= jnp.cumsum(probs)).sum()
    return jnp.minimum(index, len(probs) - 1)
