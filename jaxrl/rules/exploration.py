"""How a value-based learner leaves the greedy action: schedules as values, shared by every rule and
loop that explores.
"""

import jax
import jax.numpy as jnp

from jaxrl.rules.base import Clock
from jaxrl.tree import pytree


@pytree
class EpsilonGreedy:
    """The chance of a uniformly random action (Mnih et al., 2015, methods): from start to end over
    a fraction of the life.

    Linear in the clock, then constant. A life without an end (an infinite clock) stays at the
    start: where that is not meant, set both alike. A sweep finds the fields by the names that
    makers give them, so they are long.
    """

    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_fraction: float = 0.5

    def epsilon(self, clock: Clock) -> jax.Array:
        """The chance at this point of the life. []."""
        over = jnp.minimum(clock.fraction / jnp.maximum(self.epsilon_fraction, 1e-8), 1.0)
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * over
