"""What turns experience into a loss."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.distributions import Distribution
from jaxrl.env import Env
from jaxrl.rollout import Episode, Policy, Transition, rollout
from jaxrl.spaces import Space
from jaxrl.tree import pytree

Out = dict[
    str, Any
]  # a network's heads, and under "policy" the distribution over actions that they make
Metrics = dict[str, jax.Array]


@pytree
class Clock:
    """Update `n` of a lifetime of `total`: every schedule and every rule that knows its age reads
    this one clock.

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

    `targets` reads a whole rollout once, out and batch [T, B]; `loss` is then differentiated
    through `out`, on minibatches of any leading shape. Both see the behaviour's policy and the
    learner's as `out["policy"]`.

    A rule may also say how actions are drawn: `policy_heads(space)` and `policy(space, out,
    clock)`. It may say how a rollout is played: `play(key, env, explore, greedy, episodes,
    num_steps)`; look back on an update: `settle(carry, params, read, targets)`, where `read()`
    gives the heads after it; and ask for minibatches of trajectories [M, T] rather than of single
    steps: `whole_trajectories = True`. One that keeps parameters of its own, as a slow copy, says
    which: `slow(carry)`; `targets` then finds what they read of the rollout under "slow", beside
    the learner's heads.
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

    def targets(
        self, carry: Any, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Any, Any]: ...

    def loss(
        self, out: Out, batch: Transition, targets: Any, clock: Clock
    ) -> tuple[jax.Array, Metrics]: ...


def check_rule(rule: Any) -> None:
    """Refuses what stands in the place of a rule and is none, as an objective by itself."""
    for name in ("heads", "init", "targets", "loss"):
        if not hasattr(rule, name):
            kind = type(rule).__name__
            raise TypeError(
                f"{kind} is no update rule: it has no {name!r}. Of an objective, make "
                f"rl.Surrogate({kind}(...)); of a name "
                "or a folder, rl.load_rule(...)."
            )


def policy_heads(rule: Any, space: Space) -> dict[str, int]:
    """The heads that actions are drawn from: `rule.policy_heads(space)` where a rule has a say,
    else the action space's.
    """
    own = getattr(rule, "policy_heads", None)
    return space.heads if own is None else own(space)


def policy(rule: Any, space: Space, out: Out, clock: Clock) -> Distribution:
    """How actions are drawn: `rule.policy(space, out, clock)` where a rule has a say, else as the
    action space does.
    """
    own = getattr(rule, "policy", None)
    return space.policy(out) if own is None else own(space, out, clock)


def play(
    rule: Any,
    key: jax.Array,
    env: Env,
    explore: Policy,
    greedy: Policy,
    episodes: Episode,
    num_steps: int,
) -> tuple[Episode, Episode, Transition]:
    """A rollout as the rule plays it, else on from `episodes`: these as it begins and ends [B], and
    transitions [T, B].
    """
    own = getattr(rule, "play", None)
    if own is not None:
        return own(key, env, explore, greedy, episodes, num_steps)
    return episodes, *rollout(key, env, explore, episodes, num_steps)


def slow(rule: Any, carry: Any) -> Any:
    """The parameters that a rule keeps beside the learner's: `rule.slow(carry)`; None where it
    keeps none.
    """
    own = getattr(rule, "slow", None)
    return None if own is None else own(carry)


def settle(rule: Any, carry: Any, params: Any, read: Callable[[], Out], targets: Any) -> Any:
    """The rule's memory after an update: what `rule.settle(carry, params, read, targets)` makes of
    it, if there is one.
    """
    own = getattr(rule, "settle", None)
    return carry if own is None else own(carry, params, read, targets)
