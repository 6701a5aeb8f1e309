"""Policy-gradient rules of the form mean of objective(ratio, advantage): PPO, A2C, and any
objective you write.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.distributions import Distribution
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.objectives import Clip, PolicyGradient
from jaxrl.tree import pytree

__all__ = ["Clip", "Objective", "Penalty", "PolicyGradient", "Surrogate", "Targets", "policy_loss"]


class Objective(Protocol):
    """A pytree.

    One that changes over the life has `at(clock)` too: the objective, of two arguments, that it is
    then.
    """

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """What each action is worth to the learner, elementwise; its mean is maximised."""
        ...


class Penalty(Protocol):
    """What it costs the policy to move.

    Its `settle(carry, distance)`, where it has one, looks back on each update.
    """

    def init(self) -> Any: ...
    def weigh(self, carry: Any, clock: Clock) -> jax.Array: ...
    def distance(self, old: Distribution, new: Distribution) -> jax.Array: ...


@pytree
class Targets:
    """What a loss needs of the rollout, each [T, B] or () where unused.

    `policy` is the one that played and `penalty_weight` what it costs to leave it; `weight`, of
    mean 1, says how much each row counts.
    """

    log_prob: jax.Array
    value: Any
    advantage: jax.Array
    value_target: Any
    policy: Any = ()
    penalty_weight: Any = ()
    weight: Any = ()


def policy_loss(
    objective: Objective,
    penalty: Penalty | None,
    out: Out,
    batch: Transition,
    targets: Targets,
    advantage: jax.Array,
    clock: Clock,
) -> tuple[jax.Array, jax.Array, Metrics]:
    """The loss of the policy alone, its mean entropy, and how far it went from the one that played.

    [], [].
    """
    policy = out["policy"]
    log_ratio = policy.log_prob(batch.action) - targets.log_prob
    ratio = jnp.exp(log_ratio)
    mean = lambda x: jnp.mean(x if isinstance(targets.weight, tuple) else x * targets.weight)
    aged = getattr(objective, "at", lambda clock: objective)(clock)
    gain, metrics = aged(ratio, advantage), {}
    if penalty is not None:
        gain -= targets.penalty_weight * penalty.distance(targets.policy, policy)
        metrics["penalty_weight"] = targets.penalty_weight.mean()
    return (
        -mean(gain),
        mean(policy.entropy()),
        metrics
        | {
            "kl": mean(
                ratio - 1.0 - log_ratio
            ),  # Schulman's low-variance estimate of KL(old || new)
            "clip_fraction": mean(jnp.abs(ratio - 1.0) > getattr(objective, "clip", jnp.inf)),
        },
    )


def kept(
    penalty: Penalty | None, carry: Any, policy: Distribution, clock: Clock, shape: tuple[int, ...]
) -> dict[str, Any]:
    """What targets keep for a penalty: the policy that played, and the weight of leaving it, of
    `shape`.
    """
    if penalty is None:
        return {}
    return {
        "policy": policy,
        "penalty_weight": jnp.broadcast_to(penalty.weigh(carry, clock), shape),
    }


def settle(penalty: Penalty | None, carry: Any, read: Callable[[], Out], targets: Targets) -> Any:
    """What a penalty that remembers makes of the distance that an update went; `read` gives the
    heads after it.
    """
    own = getattr(penalty, "settle", None)
    return (
        carry
        if penalty is None or own is None
        else own(carry, penalty.distance(targets.policy, read()["policy"]).mean())
    )


@pytree
class Surrogate:
    """An objective of ratio and advantage, a value function learned beside it, and an entropy
    bonus.

    gamma, lam: of the advantage estimates (GAE). entropy_weight, value_weight: of the bonus and of
    the value loss. value_clip: how far the value may move from the old one in an update; infinite
    is no limit. normalize_advantage: to mean 0 and standard deviation 1 in each minibatch.
    baseline: whether advantages are over the learned value; a leaf. Without it they are discounted
    sums of what the rollout holds of an episode (lam 1), and the value is learned for nothing.
    penalty: of how far the policy moves; None for none.
    """

    objective: Any = Clip()
    gamma: float = 0.99
    lam: float = 0.95
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    value_clip: float = float("inf")
    normalize_advantage: bool = True
    baseline: bool = True
    penalty: Any = None

    @property
    def heads(self) -> dict[str, int]:
        return {"value": 1}

    def init(self, key: jax.Array, params: Any) -> Any:
        return () if self.penalty is None else self.penalty.init()

    def targets(
        self, carry: Any, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Any, Targets]:
        """Advantages and value targets of a rollout. [T, B]."""
        value = out["value"][..., 0]
        base, next_base = (
            jnp.where(self.baseline, x["value"][..., 0], 0.0) for x in (out, next_out)
        )
        estimate = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        advantage = estimate(
            batch.reward, base, next_base, batch.terminated, batch.done, self.gamma, self.lam
        )
        old = kept(self.penalty, carry, out["policy"], clock, value.shape)
        return carry, Targets(
            out["policy"].log_prob(batch.action), value, advantage, advantage + base, **old
        )

    def policy_loss(
        self, out: Out, batch: Transition, targets: Targets, clock: Clock
    ) -> tuple[jax.Array, jax.Array, Metrics]:
        """The loss of the policy alone, without the bonus, its mean entropy, and what describes it.

        [], [].
        """
        return policy_loss(
            self.objective, self.penalty, out, batch, targets, self._scale(targets.advantage), clock
        )

    def loss(
        self, out: Out, batch: Transition, targets: Targets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch, any leading shape, and what describes the update. []."""
        policy_loss, entropy, metrics = self.policy_loss(out, batch, targets, clock)
        value = out["value"][..., 0]
        value_loss = losses.clipped_value(
            value, targets.value, targets.value_target, self.value_clip
        ).mean()
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return loss, metrics | {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "explained_variance": losses.explained_variance(targets.value, targets.value_target),
        }

    def settle(self, carry: Any, params: Any, read: Callable[[], Out], targets: Targets) -> Any:
        return settle(self.penalty, carry, read, targets)

    def _scale(self, advantage: jax.Array) -> jax.Array:
        normal = (advantage - advantage.mean()) * jax.lax.rsqrt(
            advantage.var() + 1e-12
        )  # differentiable where all are equal
        return jnp.where(self.normalize_advantage, normal, advantage)
