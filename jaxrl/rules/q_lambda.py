"""Q(lambda) from whole rollouts: action values without a replay or a target network."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import losses, returns
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Distribution
from jaxrl.mixers import Additive
from jaxrl.q_values import action_values, q_heads, q_policy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, RuleState, check_field, num_actions
from jaxrl.schedules import EpsilonGreedy
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import added, leaf, pytree, static


@pytree
class QLambda(Rule):
    """PQN's rule (Gallici et al., 2024): values fitted to lambda-returns of the current network.

    gamma, lam: of the returns, which bootstrap from the largest value of each next observation
    (Peng's Q(lambda): a random action does not cut the trace). exploration: the schedule of random
    actions. reward_scale: a factor on rewards; values are of the scaled rewards.
    mixer: `rl.Additive()` fits the sum of the values of a team's agents to the return of the
      reward that they share (VDN, Sunehag et al., 2018); None fits each agent's value to its own
      return.
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.65, "[0, 1]")
    exploration: EpsilonGreedy = EpsilonGreedy(1.0, 0.05, 0.1)
    reward_scale: float = leaf(1.0, "(0, inf)")
    mixer: Additive | None = added(None)

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        check_field(self, "exploration", EpsilonGreedy, "rl.EpsilonGreedy(1.0, 0.05, 0.5)")
        check_field(self, "mixer", Additive, "rl.Additive()")

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        return self.mixer is not None

    def for_team(self, num_agents: int | None) -> "QLambda":
        if self.mixer is None or num_agents == 1:  # the value of a team of one is its agent's
            return self
        if num_agents is None:
            raise TypeError(
                f"mixer={self.mixer} mixes the values of a team, and the environment has a single "
                "agent: write mixer=None."
            )
        if type(self) is not QLambda:
            raise TypeError(
                f"{type(self).__name__} may define a loss of its own, which a mixer would replace: "
                "write mixer=None, or override for_team."
            )
        return TeamQLambda(**vars(self), columns_together=num_agents)

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
        return self.squared_error(action_values(out["q"], batch.action), targets, out, clock)

    def squared_error(
        self, value: jax.Array, targets: jax.Array, out: Out, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of values and their targets, and metrics. []."""
        loss = 0.5 * jnp.mean((value - targets) ** 2)
        return loss, {
            "loss": loss,
            "value": value.mean(),
            "epsilon": self.exploration.epsilon(clock),
            "entropy": out["policy"].entropy().mean(),
            "explained_variance": losses.explained_variance(value, targets),
        }


@pytree
class TeamQLambda(QLambda):
    """The rule with a mixer, in a team: columns of its agents are neighbours."""

    columns_together: int = static(default=1)

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, jax.Array]:
        """The lambda-return of the team, the same for each of its agents. [T, B]."""
        num_agents, num_steps = self.columns_together, batch.reward.shape[0]
        team = lambda x: x.reshape(num_steps, -1, num_agents)
        next_value = jnp.where(batch.terminated, 0.0, next_out["policy"].values.max(-1))
        active = team(jnp.asarray(batch.active))
        total = jnp.where(active, team(batch.reward) * self.reward_scale, 0.0).sum(-1)
        found = returns.batched(returns.lambda_returns)(
            total / jnp.maximum(active.sum(-1), 1),
            self._mixed(team(next_value)),
            team(batch.terminated).all(-1),
            team(batch.done).all(-1),
            self.gamma,
            self.lam,
        )
        return rule_state, jnp.repeat(found, num_agents, axis=1)

    def loss(
        self, out: Out, batch: Transition, targets: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """As that of `QLambda`; the first axis is of columns."""
        team = lambda x: jnp.moveaxis(x.reshape(-1, self.columns_together, *x.shape[1:]), 1, -1)
        value = self._mixed(team(action_values(out["q"], batch.action)))
        return self.squared_error(value, team(targets)[..., 0], out, clock)

    def _mixed(self, values: jax.Array) -> jax.Array:
        """The value of the joint action, of values [..., A]."""
        mixer: Any = self.mixer
        return mixer((), values, jnp.zeros(0))
