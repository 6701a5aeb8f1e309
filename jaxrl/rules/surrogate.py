"""The surrogate rule: mean of objective(ratio, advantage), a value loss and an entropy bonus.

PPO, A2C, REINFORCE, and any objective of your own.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Distribution
from jaxrl.rollout import Transition, Values
from jaxrl.rules.base import Out, Rule, RuleState, check_field
from jaxrl.rules.objectives import Clip, Objective, Penalty
from jaxrl.tree import leaf, pytree


@pytree
class SurrogateTargets:
    """Constants of the loss, each [T, B, ...] or None where not used.

    log_prob: of the actions, under the policy that acted. policy: that policy, where a penalty
    measures the distance from it; penalty_weight: the factor on the distance. weight: of each row
    in the mean; its own mean is 1. signals: value and value target of each signal of
    `RewardSignals`.
    """

    log_prob: jax.Array
    value: Any
    advantage: jax.Array
    value_target: Any
    policy: Any = None
    penalty_weight: Any = None
    weight: jax.Array | None = None
    signals: Any = None


def policy_loss(
    objective: Objective,
    penalty: Penalty | None,
    out: Out,
    batch: Transition,
    targets: SurrogateTargets,
    advantage: jax.Array,
    clock: Clock,
) -> tuple[jax.Array, jax.Array, Metrics]:
    """The policy loss without an entropy bonus, the mean entropy, and metrics. [], []."""
    policy = out["policy"]
    log_ratio = policy.log_prob(batch.action) - targets.log_prob
    ratio = jnp.exp(log_ratio)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.mean(x if targets.weight is None else x * targets.weight)

    gain, metrics = objective.at(clock)(ratio, advantage), {}
    if penalty is not None:
        gain -= targets.penalty_weight * penalty.distance(targets.policy, policy)
        metrics["penalty_weight"] = targets.penalty_weight.mean()
    loss, entropy = -mean(gain), mean(policy.entropy())
    metrics["kl"] = mean(ratio - 1.0 - log_ratio)  # low-variance estimate of KL(old || new)
    metrics["clip_fraction"] = mean(jnp.abs(ratio - 1.0) > objective.clip)
    return loss, entropy, metrics


def penalty_targets(
    penalty: Penalty | None,
    rule_state: RuleState,
    policy: Distribution,
    clock: Clock,
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """The fields of `SurrogateTargets` that a penalty needs; {} without a penalty.

    policy: the one that acted. The penalty's weight is broadcast to `shape`.
    """
    if penalty is None:
        return {}
    weight = jnp.broadcast_to(penalty.weight(rule_state, clock), shape)
    return {"policy": policy, "penalty_weight": weight}


def penalty_post_update(
    penalty: Penalty | None,
    rule_state: RuleState,
    forward: Callable[[], Out],
    targets: SurrogateTargets,
) -> RuleState:
    """Return the penalty's state after an update; `forward()` gives the new heads."""
    if penalty is None or not jax.tree.leaves(rule_state):
        return rule_state
    distance = penalty.distance(targets.policy, forward()["policy"]).mean()
    return penalty.post_update(rule_state, distance)


@pytree
class Surrogate(Rule):
    """A policy objective, a value loss, and an entropy bonus.

    gamma, lam: of the advantage estimates (GAE; Schulman et al., 2016). entropy_weight,
    value_weight: factors on the bonus and the value loss. value_clip: the largest change of a value
    in an update; infinity is unlimited. normalize_advantage: to mean 0 and standard deviation 1 in
    each minibatch of two rows or more. baseline: True subtracts the learned value from returns; a
    leaf. Without it, advantages are discounted sums of the rewards of an episode that the rollout
    holds (with lam 1), and the value function is fitted but not used. penalty: on the distance
    between the old policy and the new one, or None.
    """

    objective: Objective = Clip()
    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.95, "[0, 1]")
    entropy_weight: float = leaf(0.01, "[0, inf)")
    value_weight: float = leaf(0.5, "[0, inf)")
    value_clip: float = leaf(float("inf"), "[0, inf]")
    normalize_advantage: bool = True
    baseline: bool = True
    penalty: Penalty | None = None

    def __post_init__(self) -> None:
        check_field(self, "objective", Objective, "rl.Clip(0.2)")
        check_field(self, "penalty", Penalty, "rl.rules.FixedPenalty(0.1)")

    @property
    def heads(self) -> dict[str, int]:
        return {"value": 1}

    def init(self, key: jax.Array, params: Any) -> RuleState:
        """Return the penalty's state; () without one."""
        return () if self.penalty is None else self.penalty.init()

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, SurrogateTargets]:
        """Advantages and value targets of a rollout. [T, B]."""
        values = self.values(out, next_out, batch)
        base = jnp.where(self.baseline, values.value, 0.0)
        return rule_state, SurrogateTargets(
            log_prob=out["policy"].log_prob(batch.action),
            value=values.value,
            advantage=values.advantage,
            value_target=values.advantage + base,
            **penalty_targets(self.penalty, rule_state, out["policy"], clock, values.value.shape),
        )

    def values(self, out: Out, next_out: Out, batch: Transition) -> Values:
        value = out["value"][..., 0]
        base = jnp.where(self.baseline, value, 0.0)
        next_base = jnp.where(self.baseline, next_out["value"][..., 0], 0.0)
        advantage = returns.batched(returns.gae)(
            batch.reward, base, next_base, batch.terminated, batch.done, self.gamma, self.lam
        )
        return Values(value, advantage)

    def policy_loss(
        self, out: Out, batch: Transition, targets: SurrogateTargets, clock: Clock
    ) -> tuple[jax.Array, jax.Array, Metrics]:
        """The policy loss without the entropy bonus, the mean entropy, and metrics. [], []."""
        return policy_loss(
            self.objective,
            self.penalty,
            out,
            batch,
            targets,
            self._normalized(targets.advantage),
            clock,
        )

    def loss(
        self, out: Out, batch: Transition, targets: SurrogateTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
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

    def post_update(
        self,
        rule_state: RuleState,
        params: Any,
        forward: Callable[[], Out],
        targets: SurrogateTargets,
    ) -> RuleState:
        return penalty_post_update(self.penalty, rule_state, forward, targets)

    def _normalized(self, advantage: jax.Array) -> jax.Array:
        """Advantages of mean 0 and standard deviation 1 where `normalize_advantage`."""
        normalized = returns.standardized(advantage, 1e-12)  # finite slope at variance 0
        return jnp.where(self.normalize_advantage, normalized, advantage)
