"""What turns experience into a loss."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.rollout import Transition
from jaxrl.tree import pytree

Out = dict[str, Any]  # a network's heads, and under "policy" the distribution over actions that they make
Metrics = dict[str, jax.Array]


@pytree
class Clock:
    """Update `n` of a lifetime of `total`: every schedule and every rule that knows its age reads this one clock.

    An unbounded lifetime has an infinite `total`: its fraction stays 0.
    """

    n: jax.Array | int
    total: jax.Array | float

    @property
    def fraction(self) -> jax.Array:
        """How much of the life is over, 0 to 1."""
        return jnp.minimum(jnp.asarray(self.n) / jnp.asarray(self.total, jnp.float32), 1.0)

    @property
    def log_total(self) -> jax.Array:
        return jnp.log(jnp.asarray(self.total, jnp.float32))

    def tick(self) -> "Clock":
        return Clock(self.n + 1, self.total)


class UpdateRule(Protocol):
    """A pytree; its leaves are what a sweep varies and what meta-learning tunes.

    `targets` reads a whole rollout once, out and batch [T, B]; `loss` is then differentiated through `out`, on minibatches
    of any leading shape. Both see the behaviour's policy and the learner's as `out["policy"]`.
    """

    @property
    def heads(self) -> dict[str, int]:
        """The heads it needs beside the policy's, and their sizes."""
        ...

    @property
    def gamma(self) -> Any:
        """The discount: what a return is."""
        ...

    def init(self, key: jax.Array, params: Any) -> Any:
        """The rule's memory of a lifetime; () when it has none."""
        ...

    def targets(self, carry: Any, out: Out, next_out: Out, batch: Transition, clock: Clock) -> tuple[Any, Any]: ...

    def loss(self, out: Out, batch: Transition, targets: Any, clock: Clock) -> tuple[jax.Array, Metrics]: ...
