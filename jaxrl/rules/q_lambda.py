"""Q(lambda) from whole rollouts: values of actions, without a replay buffer or a slow copy."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import losses, masks, returns
from jaxrl.distributions import EpsilonGreedyCategorical as Greedy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree


@pytree
class QLambda:
    """PQN's rule: values fitted to lambda-returns of the current network (Gallici et al., 2024).

    gamma, lam: of the returns, which take the largest value of each next state (Peng's Q(lambda): a
    random action cuts nothing). exploration: the schedule of random actions. reward_scale: what
    rewards are multiplied by; the values are of rewards so scaled.
    """

    gamma: float = 0.99
    lam: float = 0.65
    exploration: Any = EpsilonGreedy(1.0, 0.05, 0.1)
    reward_scale: float = 1.0

    action_spaces = (Discrete,)

    @property
    def heads(self) -> dict[str, int]:
        return {}

    def policy_heads(self, space: Discrete) -> dict[str, int]:
        return {"q": space.n}

    def policy(self, space: Discrete, out: Out, clock: Clock) -> Greedy:
        """Epsilon-greedy, among the actions that are allowed."""
        return Greedy(masks.allow(out["q"], out.get("mask")), self.exploration.epsilon(clock))

    def init(self, key: jax.Array, params: Any) -> tuple[()]:
        return ()

    def targets(
        self, carry: tuple[()], out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[tuple[()], jax.Array]:
        """The lambda-return of each step of a rollout. [T, B]."""
        next_value = next_out["policy"].values.max(-1)
        estimate = jax.vmap(returns.lambda_returns, in_axes=(1, 1, 1, 1, None, None), out_axes=1)
        reward = batch.reward * self.reward_scale
        return carry, estimate(
            reward, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )

    def loss(
        self, out: Out, batch: Transition, targets: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """Half the mean squared error of a minibatch, any leading shape, and what describes the
        update. [].
        """
        value = jnp.take_along_axis(out["q"], batch.action[..., None], axis=-1)[..., 0]
        loss = 0.5 * jnp.mean((value - targets) ** 2)
        return loss, {
            "loss": loss,
            "value": value.mean(),
            "epsilon": self.exploration.epsilon(clock),
            "entropy": out["policy"].entropy().mean(),
            "explained_variance": losses.explained_variance(value, targets),
        }
