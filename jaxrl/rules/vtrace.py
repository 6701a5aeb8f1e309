"""IMPALA's rule: V-trace corrects for how far the learner has gone since the experience was
gathered.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.tree import pytree


@pytree
class Behaviour:
    """What the actor knew: the chance of its actions, and the value of what followed each. [T,
    B].
    """

    log_prob: jax.Array
    next_value: jax.Array


@pytree
class VTrace:
    """Actor-critic on V-trace targets (Espeholt et al., 2018, section 4).

    The targets are made in the loss, with the policy and values that the learner has at that
    gradient step: so a minibatch is whole trajectories, and the ratio is of the learner's policy to
    that which played. The value beyond a trajectory's end, or a time-out, is as old as the rollout;
    all others are the learner's own.

    gamma, lam: discount, and a factor on each trace; max_rho, max_c: where ratios are cut off, for
    the targets' fixed point and for the traces. entropy_weight, value_weight: of the bonus and of
    the value loss.
    """

    gamma: float = 0.99
    lam: float = 1.0
    max_rho: float = 1.0
    max_c: float = 1.0
    entropy_weight: float = 0.01
    value_weight: float = 0.5

    whole_trajectories = True

    @property
    def heads(self) -> dict[str, int]:
        return {"value": 1}

    def init(self, key: jax.Array, params: Any) -> tuple[()]:
        return ()

    def targets(
        self, carry: tuple[()], out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[tuple[()], Behaviour]:
        return carry, Behaviour(out["policy"].log_prob(batch.action), next_out["value"][..., 0])

    def loss(
        self, out: Out, batch: Transition, targets: Behaviour, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of trajectories [M, T], and what describes the update. []."""
        value, log_prob = out["value"][..., 0], out["policy"].log_prob(batch.action)
        known, ratio = jax.lax.stop_gradient((value, jnp.exp(log_prob - targets.log_prob)))
        follows = jnp.where(
            batch.done.at[:, -1].set(True), targets.next_value, jnp.roll(known, -1, axis=1)
        )
        estimate = jax.vmap(returns.vtrace, in_axes=(0, 0, 0, 0, 0, 0, None, None, None, None))
        experience = batch.reward, known, follows, batch.terminated, batch.done, ratio
        target, advantage = estimate(*experience, self.gamma, self.lam, self.max_rho, self.max_c)
        policy_loss, value_loss = (
            -(log_prob * advantage).mean(),
            0.5 * ((target - value) ** 2).mean(),
        )
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
