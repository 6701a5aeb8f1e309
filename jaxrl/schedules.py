"""Schedules as values: functions of the clock, with fields that can be swept."""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.tree import pytree


class Schedule(Protocol):
    """A pytree: the factor on a learning rate at a point of the training run."""

    def __call__(self, clock: Clock) -> jax.Array: ...


@pytree
class Linear:
    """A factor that goes linearly from 1 to `end` over the training run, at its last step 0 by
    default.
    """

    end: float = 0.0

    def __call__(self, clock: Clock) -> jax.Array:
        return 1.0 + (self.end - 1.0) * clock.fraction


@pytree
class Constant:
    """A factor of 1."""

    def __call__(self, clock: Clock) -> jax.Array:
        return jnp.ones_like(clock.fraction)


@pytree
class EpsilonGreedy:
    """The probability of a uniformly random action (Mnih et al., 2015, methods).

    It goes linearly from `epsilon_start` to `epsilon_end` over the fraction `epsilon_fraction` of
    the training run, then stays. In an unbounded run (an infinite clock) it stays at the start: set
    both ends to one value where that is not intended. The field names are long because sweeps find
    fields by their names.
    """

    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.5

    def epsilon(self, clock: Clock) -> jax.Array:
        """The probability at this point of the training run. []."""
        elapsed = jnp.minimum(clock.fraction / jnp.maximum(self.epsilon_fraction, 1e-8), 1.0)
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * elapsed
