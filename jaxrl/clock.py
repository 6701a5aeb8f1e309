"""The clock that schedules read: which update it is, of how many."""

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree

Metrics = dict[str, jax.Array]  # what an update reports, by name
LAST_UPDATE = 2**31 - 1  # the largest int32


@pytree
class Clock:
    """Update `n` of a training run of `total` updates.

    An unbounded run has an infinite `total`: its fraction stays 0. start: the update at which
    schedules began again, of a run that was extended so; None where they began with the run.
    """

    n: jax.Array | int
    total: jax.Array | float
    start: jax.Array | None = None

    @property
    def fraction(self) -> jax.Array:
        """The elapsed fraction of the training run, 0 to 1. []."""
        n, total = self._since_start
        return jnp.minimum(jnp.asarray(n) / jnp.asarray(total, jnp.float32), 1.0)

    @property
    def log_total(self) -> jax.Array:
        """The logarithm of the number of updates. []."""
        return jnp.log(jnp.asarray(self._since_start[1], jnp.float32))

    @property
    def _since_start(self) -> tuple[jax.Array | float, jax.Array | float]:
        """The updates so far and in total, counted from `start`."""
        if self.start is None:
            return self.n, self.total
        return self.n - self.start, self.total - self.start

    def tick(self) -> "Clock":
        """Return the clock one update later; after `LAST_UPDATE` it stays."""
        return Clock(self.n + (self.n < LAST_UPDATE), self.total, self.start)


def start_clock(num_updates: jax.Array | float) -> Clock:
    """Return the clock of a training run of `num_updates` at its first update."""
    return Clock(jnp.int32(0), jnp.float32(num_updates))
