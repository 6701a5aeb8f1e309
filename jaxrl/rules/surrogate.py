"""Policy-gradient rules of the form mean of objective(ratio, advantage): PPO, A2C, and any objective you write."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.tree import pytree


class Objective(Protocol):
    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """What each action is worth to the learner, elementwise; its mean is maximised."""
        ...


@pytree
class PolicyGradient:
    """ratio * advantage: at ratio 1 its gradient is the policy gradient (Williams, 1992)."""

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return ratio * advantage


@pytree
class Clip:
    """PPO's clipped surrogate (Schulman et al., 2017, equation 7)."""

    clip: float = 0.2

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        held = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        return jnp.minimum(ratio * advantage, held * advantage)


@pytree
class Targets:
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    value_target: jax.Array


@pytree
class Surrogate:
    """An objective of ratio and advantage, a value function learned beside it, and an entropy bonus.

    gamma, lam: of the advantage estimates (GAE). entropy_weight, value_weight: of the bonus and of the value loss.
    value_clip: how far the value may move from the old one in an update; infinite is no limit.
    normalize_advantage: to mean 0 and standard deviation 1 in each minibatch.
    """

    objective: Any = Clip()
    gamma: float = 0.99
    lam: float = 0.95
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    value_clip: float = float("inf")
    normalize_advantage: bool = True

    @property
    def heads(self) -> dict[str, int]:
        return {"value": 1}

    def init(self, key: jax.Array, params: Any) -> tuple[()]:
        return ()

    def targets(
        self, carry: tuple[()], out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[tuple[()], Targets]:
        """Advantages and value targets of a rollout. [T, B]."""
        value, next_value = out["value"][..., 0], next_out["value"][..., 0]
        estimate = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        advantage = estimate(batch.reward, value, next_value, batch.terminated, batch.done, self.gamma, self.lam)
        return carry, Targets(out["policy"].log_prob(batch.action), value, advantage, advantage + value)

    def loss(self, out: Out, batch: Transition, targets: Targets, clock: Clock) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch, any leading shape, and what describes the update. []."""
        value, policy = out["value"][..., 0], out["policy"]
        log_ratio = policy.log_prob(batch.action) - targets.log_prob
        ratio = jnp.exp(log_ratio)
        policy_loss = -self.objective(ratio, self._scale(targets.advantage)).mean()
        value_loss = losses.clipped_value(value, targets.value, targets.value_target, self.value_clip).mean()
        entropy = policy.entropy().mean()
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.mean(ratio - 1.0 - log_ratio),  # Schulman's low-variance estimate of KL(old || new)
            "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > getattr(self.objective, "clip", jnp.inf)),
            "explained_variance": losses.explained_variance(targets.value, targets.value_target),
        }

    def _scale(self, advantage: jax.Array) -> jax.Array:
        normal = (advantage - advantage.mean()) * jax.lax.rsqrt(
            advantage.var() + 1e-12
        )  # differentiable where all are equal
        return jnp.where(self.normalize_advantage, normal, advantage)
