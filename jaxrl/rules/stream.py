"""Rules that learn from each step of a stream: Q(lambda), SARSA(lambda) and AC(lambda).

Elsayed et al. (2024).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock
from jaxrl.distributions import Distribution
from jaxrl.distributions import EpsilonGreedyCategorical as EpsilonGreedyPolicy
from jaxrl.errors import not_defined
from jaxrl.q_values import action_values, q_heads, q_policy
from jaxrl.rules.base import Out, check_field, num_actions
from jaxrl.schedules import EpsilonGreedy
from jaxrl.spaces import Box, Discrete, MultiDiscrete, Space
from jaxrl.tree import leaf, pytree


class StreamRule:
    """Base class of rules that learn from one step at a time: a pytree.

    `out` is a network's heads at one observation, and under "policy" their distribution over
    actions. Each network has eligibility traces and a step size (ObGD).

    action_spaces: the kinds that it has a policy for.
    """

    action_spaces: tuple[type, ...] = (Discrete, MultiDiscrete, Box)
    gamma: float  # the discount of a return
    lam: float  # the decay of the traces, besides gamma

    @property
    def kappa(self) -> dict[str, Any]:
        """The overshooting bound of each network's step, by name.

        The larger it is, the smaller is the step (Elsayed et al., 2024, section 3.2).
        """
        raise not_defined(self, StreamRule.kappa)

    @property
    def uses_next_action(self) -> bool:
        """True where `next_value` reads the next action, which is then drawn before learning."""
        return False

    def heads(self, space: Space) -> dict[str, dict[str, int]]:
        """The heads of each network, by its name."""
        raise not_defined(self, StreamRule.heads)

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """The distribution that actions are drawn from; by default the action space's."""
        return space.policy(out)

    def value(self, out: Out, action: Any) -> jax.Array:
        """The prediction of which the TD error is computed. []."""
        raise not_defined(self, StreamRule.value)

    def next_value(self, out: Out, action: Any) -> jax.Array:
        """The value of the next observation in the TD target. []."""
        raise not_defined(self, StreamRule.next_value)

    def objective(self, out: Out, action: Any, error: jax.Array) -> jax.Array:
        """The function of which the traces sum the gradients; `error` is the TD error. []."""
        raise not_defined(self, StreamRule.objective)

    def trace_mask(self, out: Out, action: Any) -> jax.Array:
        """False where the action cuts the traces of the steps before it. bool []."""
        return jnp.bool_(True)


class StreamBackup:
    """Base class of the TD targets of `ActionValues`: a pytree."""

    uses_next_action: bool = False

    def next_value(self, policy: EpsilonGreedyPolicy, action: jax.Array) -> jax.Array:
        """The value of the next observation in the TD target. []."""
        raise not_defined(self, StreamBackup.next_value)

    def trace_mask(self, policy: EpsilonGreedyPolicy, action: jax.Array) -> jax.Array:
        """False where the action cuts the traces of the steps before it. bool []."""
        return jnp.bool_(True)


@pytree
class Watkins(StreamBackup):
    """The value of the greedy action; any other action cuts the traces (Watkins, 1989)."""

    def next_value(self, policy: EpsilonGreedyPolicy, action: jax.Array) -> jax.Array:
        return policy.values.max(-1)

    def trace_mask(self, policy: EpsilonGreedyPolicy, action: jax.Array) -> jax.Array:
        return action_values(policy.values, action) == policy.values.max(-1)


@pytree
class Sarsa(StreamBackup):
    """The value of the action that is taken next (Rummery and Niranjan, 1994)."""

    uses_next_action = True

    def next_value(self, policy: EpsilonGreedyPolicy, action: jax.Array) -> jax.Array:
        return action_values(policy.values, action)


@pytree
class ActionValues(StreamRule):
    """Action values with an epsilon-greedy policy: stream Q(lambda) and stream SARSA(lambda).

    backup: the TD target, `Watkins()` or `Sarsa()`. exploration: the schedule of random actions.
    value_kappa: the overshooting bound.
    """

    backup: StreamBackup = Watkins()
    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.8, "[0, 1]")
    exploration: EpsilonGreedy = EpsilonGreedy(1.0, 0.01, 0.05)
    value_kappa: float = leaf(2.0, "[0, inf)")

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        check_field(self, "backup", StreamBackup, "rl.rules.stream.Watkins()")
        check_field(self, "exploration", EpsilonGreedy, "rl.EpsilonGreedy(1.0, 0.01, 0.05)")

    @property
    def kappa(self) -> dict[str, Any]:
        return {"value": self.value_kappa}

    @property
    def uses_next_action(self) -> bool:
        return self.backup.uses_next_action

    def heads(self, space: Space) -> dict[str, dict[str, int]]:
        return {"value": q_heads(num_actions(space))}

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """Epsilon-greedy among the allowed actions."""
        return q_policy(out["q"], out.get("mask"), self.exploration.epsilon(clock))

    def value(self, out: Out, action: jax.Array) -> jax.Array:
        return action_values(out["q"], action)

    def next_value(self, out: Out, action: jax.Array) -> jax.Array:
        return self.backup.next_value(out["policy"], action)

    def objective(self, out: Out, action: jax.Array, error: jax.Array) -> jax.Array:
        return action_values(out["q"], action)

    def trace_mask(self, out: Out, action: jax.Array) -> jax.Array:
        return self.backup.trace_mask(out["policy"], action)


@pytree
class ActorCritic(StreamRule):
    """A policy and a state value, with one network each: stream AC(lambda).

    entropy_weight: of a bonus that is multiplied by the sign of the TD error. The step is
    multiplied by the error itself, so that it always increases the entropy. policy_kappa,
    value_kappa: the overshooting bounds.
    """

    gamma: float = leaf(0.99, "[0, 1]")
    lam: float = leaf(0.8, "[0, 1]")
    entropy_weight: float = leaf(0.01, "[0, inf)")
    policy_kappa: float = leaf(3.0, "[0, inf)")
    value_kappa: float = leaf(2.0, "[0, inf)")

    @property
    def kappa(self) -> dict[str, Any]:
        return {"policy": self.policy_kappa, "value": self.value_kappa}

    def heads(self, space: Space) -> dict[str, dict[str, int]]:
        return {"policy": space.heads, "value": {"value": 1}}

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """The action space's distribution.

        A standard deviation is the softplus of its head, as in the authors' code.
        """
        if "log_std" in out:
            out = out | {"log_std": jnp.log(jax.nn.softplus(out["log_std"]) + 1e-8)}
        return space.policy(out)

    def value(self, out: Out, action: Any) -> jax.Array:
        return out["value"][0]

    def next_value(self, out: Out, action: Any) -> jax.Array:
        return out["value"][0]

    def objective(self, out: Out, action: Any, error: jax.Array) -> jax.Array:
        policy = out["policy"]
        bonus = self.entropy_weight * jnp.sign(error) * policy.entropy()
        return out["value"][0] + policy.log_prob(action) + bonus
