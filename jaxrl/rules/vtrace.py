"""IMPALA's rule: V-trace corrects for experience of a policy other than the learner's."""

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.clock import Clock, Metrics
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, RuleState
from jaxrl.tree import leaf, pytree


@pytree
class VTraceTargets:
    """Log-probabilities of actions and values of next observations, both of the rollout. [T, B].

    The former are under the policy that acted, the latter by the network at that time.
    """

    log_prob: jax.Array
    next_value: jax.Array


@pytree
class VTrace(Rule):
    """Actor-critic on V-trace targets (Espeholt et al., 2018, section 4).

    The loss computes the targets, from the policy and the values of the learner at that gradient
    step: so a minibatch is whole trajectories, and a ratio is the probability of an action under
    the learner's policy over that under the policy that acted. The value after the last step of a
    trajectory or of an episode is that of the rollout's network; all others are the learner's.

    gamma, lam: the discount, and a factor on each trace. max_rho, max_c: bounds of the ratios, for
    the targets' fixed point and for the traces. entropy_weight, value_weight: factors on the
    entropy bonus and the value loss.
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(1.0, "[0, 1]")
    max_rho: float = leaf(1.0, "[0, inf]")
    max_c: float = leaf(1.0, "[0, inf]")
    entropy_weight: float = leaf(0.01, "[0, inf)")
    value_weight: float = leaf(0.5, "[0, inf)")

    whole_trajectories = True

    @property
    def heads(self) -> dict[str, int]:
        return {"value": 1}

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, VTraceTargets]:
        log_prob = out["policy"].log_prob(batch.action)
        return rule_state, VTraceTargets(log_prob, next_out["value"][..., 0])

    def loss(
        self, out: Out, batch: Transition, targets: VTraceTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of trajectories [M, T], and metrics. []."""
        value, log_prob = out["value"][..., 0], out["policy"].log_prob(batch.action)
        old_value, ratio = jax.lax.stop_gradient((value, jnp.exp(log_prob - targets.log_prob)))
        next_value = jnp.where(
            batch.done.at[:, -1].set(True), targets.next_value, jnp.roll(old_value, -1, axis=1)
        )
        over_rows = jax.vmap(returns.vtrace, in_axes=(0, 0, 0, 0, 0, 0, None, None, None, None))
        target, advantage = over_rows(
            batch.reward,
            old_value,
            next_value,
            batch.terminated,
            batch.done,
            ratio,
            self.gamma,
            self.lam,
            self.max_rho,
            self.max_c,
        )
        policy_loss = -(log_prob * advantage).mean()
        value_loss = 0.5 * ((target - value) ** 2).mean()
        entropy = out["policy"].entropy().mean()
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.mean(ratio - 1.0 - (log_prob - targets.log_prob)),
            "clip_fraction": jnp.mean(ratio > self.max_rho),
            "explained_variance": losses.explained_variance(value, target),
        }
