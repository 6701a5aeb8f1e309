"""Schedules as values: functions of the clock, with fields that can be swept."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.tree import leaf, pytree, static


class Schedule(Protocol):
    """A pytree: the factor on a learning rate at a point of the training run."""

    def __call__(self, clock: Clock) -> jax.Array: ...


@pytree
class Linear:
    """A factor that changes linearly from 1 to `end` over the training run, by default to 0 at its
    last step.
    """

    end: float = leaf(0.0, "[0, inf)")

    def __call__(self, clock: Clock) -> jax.Array:
        return 1.0 + (self.end - 1.0) * clock.fraction


@pytree
class Cooldown:
    """A factor of 1 until `start`, as a fraction of the training run, and then a linear change to
    `end` at its last step (the constant schedule with cooldown of Haegele et al., 2024, without
    their warm-up). `Cooldown(0.0, end)` equals `Linear(end)`.
    """

    start: float = leaf(0.8, "[0, 1]")
    end: float = leaf(0.0, "[0, inf)")

    def __call__(self, clock: Clock) -> jax.Array:
        remaining = (1.0 - clock.fraction) / jnp.maximum(1.0 - self.start, 1e-8)
        return self.end + (1.0 - self.end) * jnp.minimum(remaining, 1.0)


@pytree
class Cosine:
    """A factor that decreases from 1 to `end` over the training run as half a period of a cosine
    (Loshchilov and Hutter, 2017, eq. 5, without restarts).
    """

    end: float = leaf(0.0, "[0, inf)")

    def __call__(self, clock: Clock) -> jax.Array:
        return self.end + (1.0 - self.end) * (1.0 + jnp.cos(jnp.pi * clock.fraction)) / 2.0


@pytree
class Constant:
    """A factor of 1."""

    def __call__(self, clock: Clock) -> jax.Array:
        return jnp.ones_like(clock.fraction)


@pytree
class OptaxSchedule:
    """An optax schedule of the number of updates, as a factor on the learning rate.

    `OptaxSchedule(optax.cosine_decay_schedule(1.0, decay_steps=1_000))`. It multiplies `lr`: a
    schedule that starts at 1 starts with `lr`. An update is a rollout and all gradient steps on it,
    not a single gradient step; there are `steps // algo.steps_per_update` of them.

    function: from a count to the factor.
    """

    function: Callable[[Any], Any] = static(default=jnp.ones_like)

    def __call__(self, clock: Clock) -> jax.Array:
        n = clock.n if clock.start is None else clock.n - clock.start
        return jnp.asarray(self.function(n), jnp.float32)


def check_schedule(record: Any) -> None:
    """Check that the field `schedule` of a dataclass is a schedule.

    Raises:
      TypeError: a function, such as an optax schedule; a class, a number, a text, or None.
    """
    value = record.schedule
    is_leaf = jax.tree_util.all_leaves([value])
    if not isinstance(value, type) and callable(value) and not is_leaf:
        return
    if isinstance(value, type):
        instead = f"write {value.__name__}()"
    elif callable(value):
        instead = (
            "write schedule=rl.OptaxSchedule(function), which multiplies lr by function(n) at "
            "update n: an optax schedule that starts at 1, such as "
            "optax.cosine_decay_schedule(1.0, 1_000)"
        )
    else:
        instead = "write schedule=rl.Linear(0.1)"
    raise TypeError(
        f"schedule={value!r} of {type(record).__name__} is not a schedule, a function of the clock "
        f"under @rl.pytree: {instead}."
    )


@pytree
class EpsilonGreedy:
    """The probability of a uniformly random action (Mnih et al., 2015, methods).

    It goes linearly from `epsilon_start` to `epsilon_end` over the fraction `epsilon_fraction` of
    the training run, then stays. In an unbounded run (an infinite clock) it stays at the start: set
    both ends to one value where that is not intended. The field names are long because sweeps find
    fields by their names.
    """

    epsilon_start: float = leaf(1.0, "[0, 1]")
    epsilon_end: float = leaf(0.05, "[0, 1]")
    epsilon_fraction: float = leaf(0.5, "[0, inf)")

    def epsilon(self, clock: Clock) -> jax.Array:
        """The probability at this point of the training run. []."""
        elapsed = jnp.minimum(clock.fraction / jnp.maximum(self.epsilon_fraction, 1e-8), 1.0)
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * elapsed
