"""The clock that schedules read: which update it is, of how many."""

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree

Metrics = dict[str, jax.Array]  # what an update reports, by name
LAST_UPDATE = 2**31 - 1  # the largest int32


@pytree
class Clock:
    """Update `n` of a training run of `total` updates.

    An unbounded run has an infinite `total`: its fraction stays 0.
    """

    n: jax.Array | int
    total: jax.Array | float

    @property
    def fraction(self) -> jax.Array:
        """The elapsed fraction of the training run, 0 to 1. []."""
        return jnp.minimum(jnp.asarray(self.n) / jnp.asarray(self.total, jnp.float32), 1.0)

    @property
    def log_total(self) -> jax.Array:
        """The logarithm of the number of updates. []."""
        return jnp.log(jnp.asarray(self.total, jnp.float32))

    def tick(self) -> "Clock":
        """Return the clock one update later; after `LAST_UPDATE` it stays."""
        return Clock(self.n + (self.n < LAST_UPDATE), self.total)


def start_clock(num_updates: jax.Array | float) -> Clock:
    """Return the clock of a training run of `num_updates` at its first update."""
    return Clock(jnp.int32(0), jnp.float32(num_updates))
