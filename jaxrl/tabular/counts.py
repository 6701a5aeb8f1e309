"""Counts of transitions, the empirical model of them, and bounds of the error of that model."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.tree import leaf, pytree


class Episode(NamedTuple):
    """One episode of H steps: states int [H + 1], actions int [H], rewards [H]."""

    state: jax.Array
    action: jax.Array
    reward: jax.Array


@pytree
class Counts:
    """Number of transitions from each state by each action to each state, and the sum of their
    rewards. Both [S, A, S].

    The reward is a function r(s, a, s'): of a random one the variance given s' is not counted.
    """

    arrived: jax.Array
    earned: jax.Array

    @property
    def visits(self) -> jax.Array:
        """Number of times that an action was taken. [S, A]."""
        return self.arrived.sum(-1)

    @property
    def transition(self) -> jax.Array:
        """Empirical P(s' | s, a), zeros without visits. [S, A, S]."""
        return self.arrived / jnp.maximum(self.visits, 1.0)[..., None]

    @property
    def reward(self) -> jax.Array:
        """Mean reward, 0 without visits. [S, A]."""
        return self.earned.sum(-1) / jnp.maximum(self.visits, 1.0)

    def add(self, episode: Episode, weight: jax.Array | float = 1.0) -> "Counts":
        """Return the counts with an episode more, or one less with the weight -1."""
        at = episode.state[:-1], episode.action, episode.state[1:]
        return Counts(
            self.arrived.at[at].add(weight), self.earned.at[at].add(weight * episode.reward)
        )

    @staticmethod
    def zeros(num_states: int, num_actions: int) -> "Counts":
        """Counts before the first episode."""
        return Counts(*2 * [jnp.zeros((num_states, num_actions, num_states))])


# ------------------------------------------------------------------------------------------ bonuses


class Bonus(Protocol):
    """A function of the counts, of the values of the next states, [S], and of the largest value
    that is possible, [], that returns what is added to the action values, [S, A].
    """

    def __call__(self, counts: Counts, value: jax.Array, largest: jax.Array) -> jax.Array: ...


@pytree
class Hoeffding:
    """scale * largest * sqrt(L / (2 n)) for n visits, with L = log(2 S A n (n + 1) / delta).

    With scale 1 it is a bound at all n at once. After UCBVI-CH (Azar et al., 2017). Never more than
    `largest`.
    """

    scale: float = leaf(1.0, "[0, inf)")
    delta: float = leaf(0.05, "(0, 1)")

    def __call__(self, counts: Counts, value: jax.Array, largest: jax.Array) -> jax.Array:
        ratio = _log_term(counts, self.delta)
        return _at_most(largest, counts, self.scale * largest * jnp.sqrt(ratio / 2))


@pytree
class Bernstein:
    """scale * (sqrt(2 V L / n) + lower * largest * L / n).

    V is the empirical variance of reward plus next value (Maurer and Pontil, 2009; UCBVI-BF, Azar
    et al., 2017). Never more than `largest`.
    """

    scale: float = leaf(1.0, "[0, inf)")
    lower: float = leaf(7 / 3, "[0, inf)")
    delta: float = leaf(0.05, "(0, 1)")

    def __call__(self, counts: Counts, value: jax.Array, largest: jax.Array) -> jax.Array:
        ratio = _log_term(counts, self.delta)
        width = jnp.sqrt(2 * _variance(counts, value) * ratio) + self.lower * largest * ratio
        return _at_most(largest, counts, self.scale * width)


@pytree
class Monotone:
    """scale * max(sqrt(2 V L / n), 2 * largest * L / n).

    As `Bernstein`, with a maximum, so that the optimistic value increases with the next value (MVP,
    Zhang et al., 2021).
    """

    scale: float = leaf(1.0, "[0, inf)")
    delta: float = leaf(0.05, "(0, 1)")

    def __call__(self, counts: Counts, value: jax.Array, largest: jax.Array) -> jax.Array:
        ratio = 2 * _log_term(counts, self.delta)
        width = jnp.maximum(jnp.sqrt(_variance(counts, value) * ratio), largest * ratio)
        return _at_most(largest, counts, self.scale * width)


def _log_term(counts: Counts, delta: jax.Array | float) -> jax.Array:
    """L / n. [S, A]."""
    visits = jnp.maximum(counts.visits, 1.0)
    return jnp.log(2 * visits.size * visits * (visits + 1) / delta) / visits


def _variance(counts: Counts, value: jax.Array) -> jax.Array:
    """Empirical variance of the reward plus the next value, functions of the next state. [S, A]."""
    target = counts.earned / jnp.maximum(counts.arrived, 1.0) + value[None, None]
    mean = (counts.transition * target).sum(-1, keepdims=True)
    return (counts.transition * (target - mean) ** 2).sum(-1)


def _at_most(largest: jax.Array, counts: Counts, bonus: jax.Array) -> jax.Array:
    """`bonus`, or the largest value where that is less, or where nothing was observed."""
    return jnp.where(counts.visits < 1, largest, jnp.minimum(bonus, largest))
