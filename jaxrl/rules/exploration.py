"""How a value-based learner leaves the greedy action: schedules as values, shared by every rule and loop that explores."""

import jax
import jax.numpy as jnp

from jaxrl.rules.base import Clock
from jaxrl.tree import pytree


@pytree
class EpsilonGreedy:
    """The chance of a uniformly random action (Mnih et al., 2015, methods): `start` to `end` over `fraction` of the life.

    Linear in the clock, then constant. A life without an end (an infinite clock) stays at `start`: where that is not meant,
    set `start` and `end` alike.
    """

    start: float = 1.0
    end: float = 0.05
    fraction: float = 0.5

    def epsilon(self, clock: Clock) -> jax.Array:
        """The chance at this point of the life. []."""
        over = jnp.minimum(clock.fraction / jnp.maximum(self.fraction, 1e-8), 1.0)
        return self.start + (self.end - self.start) * over
