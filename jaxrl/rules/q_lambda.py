"""Q(lambda) from whole rollouts: action values without a replay or a target network."""

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Distribution
from jaxrl.q_values import action_values, q_heads, q_policy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, RuleState, check_field, num_actions
from jaxrl.schedules import EpsilonGreedy
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import leaf, pytree


@pytree
class QLambda(Rule):
    """PQN's rule (Gallici et al., 2024): values fitted to lambda-returns of the current network.

    gamma, lam: of the returns, which bootstrap from the largest value of each next observation
    (Peng's Q(lambda): a random action does not cut the trace). exploration: the schedule of random
    actions. reward_scale: a factor on rewards; values are of the scaled rewards.
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.65, "[0, 1]")
    exploration: EpsilonGreedy = EpsilonGreedy(1.0, 0.05, 0.1)
    reward_scale: float = leaf(1.0, "(0, inf)")

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        check_field(self, "exploration", EpsilonGreedy, "rl.EpsilonGreedy(1.0, 0.05, 0.5)")

    def policy_heads(self, space: Space) -> dict[str, int]:
        return q_heads(num_actions(space))

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """Epsilon-greedy among the allowed actions."""
        return q_policy(out["q"], out.get("mask"), self.exploration.epsilon(clock))

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, jax.Array]:
        """The lambda-return of each step of a rollout. [T, B]."""
        next_value = next_out["policy"].values.max(-1)
        reward = batch.reward * self.reward_scale
        return rule_state, returns.batched(returns.lambda_returns)(
            reward, next_value, batch.terminated, batch.done, self.gamma, self.lam
        )

    def loss(
        self, out: Out, batch: Transition, targets: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """Half the mean squared error of a minibatch of any leading shape, and metrics. []."""
        value = action_values(out["q"], batch.action)
        loss = 0.5 * jnp.mean((value - targets) ** 2)
        return loss, {
            "loss": loss,
            "value": value.mean(),
            "epsilon": self.exploration.epsilon(clock),
            "entropy": out["policy"].entropy().mean(),
            "explained_variance": losses.explained_variance(value, targets),
        }
