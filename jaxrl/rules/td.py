"""DQN's rule without a replay, and losses found by evolution in place of its squared error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import Distribution
from jaxrl.errors import not_defined
from jaxrl.optimizer import polyak_average
from jaxrl.q_values import action_values, q_heads, q_policy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Out, Rule, check_field, num_actions
from jaxrl.schedules import EpsilonGreedy
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import leaf, pytree


@pytree
class Prediction:
    """The learner's prediction at a step, and the outcome of the step.

    All have one leading shape [...]; `values` and `next_values` [..., n].

    values: of the actions, by the learner. next_values: at the next observation, by the target
    network; -inf where forbidden. discount: gamma, 0 where the episode terminated. fraction: the
    elapsed fraction of the training run, [].
    """

    values: jax.Array
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_values: jax.Array
    fraction: jax.Array

    @property
    def value(self) -> jax.Array:
        """Q(s, a)."""
        return action_values(self.values, self.action)

    @property
    def next_value(self) -> jax.Array:
        """max Q'(s', .) of the target network Q'."""
        return self.next_values.max(-1)

    @property
    def target(self) -> jax.Array:
        """Y = r + gamma max Q'(s', .)."""
        return self.reward + self.discount * self.next_value

    @property
    def error(self) -> jax.Array:
        """Q(s, a) - Y."""
        return self.value - self.target


class ValueLoss:
    """Base class of losses of a `Prediction`: a pytree that is called with one."""

    def __call__(self, prediction: Prediction) -> jax.Array:
        """The loss of each step, elementwise; its mean is minimised. [...]."""
        raise not_defined(self, ValueLoss.__call__)


@pytree
class SquaredError(ValueLoss):
    """(Q(s, a) - Y)^2, as DQN's (Mnih et al., 2015)."""

    def __call__(self, prediction: Prediction) -> jax.Array:
        return prediction.error**2


@pytree
class DQNReg(ValueLoss):
    """weight Q(s, a) + (Q(s, a) - Y)^2: regularised towards small values.

    Found by evolution (Co-Reyes et al., 2021, section 4.3).
    """

    weight: float = leaf(0.1, "(-inf, inf)")

    def __call__(self, prediction: Prediction) -> jax.Array:
        return self.weight * prediction.value + prediction.error**2


@pytree
class DQNClipped(ValueLoss):
    """max(Q, (Q - Y)^2 + Y) + max(Q - Y, gamma max Q'(s', .)^2).

    Found by evolution (Co-Reyes et al., 2021, section 4.3). At a terminal step, where the discount
    is 0, the last term is max(Q - Y, 0).
    """

    def __call__(self, prediction: Prediction) -> jax.Array:
        error = prediction.error
        value = jnp.maximum(prediction.value, error**2 + prediction.target)
        return value + jnp.maximum(error, prediction.discount * prediction.next_value**2)


@pytree
class TD(Rule):
    """Action values fitted to one-step targets of a target network: DQN's rule without a replay.

    Each rollout is learned from once. criterion: the loss of a `Prediction`. tau: the part of the
    way to the learner's parameters that the target network moves after each update; with 1 it is
    the network at the start of the update. exploration: the schedule of random actions. The rule's
    state is the parameters of the target network.
    """

    criterion: ValueLoss = SquaredError()
    gamma: float = leaf(0.99, "[0, 1]")
    exploration: EpsilonGreedy = EpsilonGreedy()
    tau: float = leaf(1.0, "[0, 1]")

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        check_field(self, "criterion", ValueLoss, "rl.rules.SquaredError()")
        check_field(self, "exploration", EpsilonGreedy, "rl.EpsilonGreedy(1.0, 0.05, 0.5)")

    def policy_heads(self, space: Space) -> dict[str, int]:
        return q_heads(num_actions(space))

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """Epsilon-greedy among the allowed actions."""
        return q_policy(out["q"], out.get("mask"), self.exploration.epsilon(clock))

    def init(self, key: jax.Array, params: Any) -> Any:
        return jax.tree.map(jnp.copy, params)

    def target_params(self, rule_state: Any) -> Any:
        return rule_state

    def targets(
        self, rule_state: Any, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """The discount at each step, and the target network's values of the next observation.

        [T, B], [T, B, n].
        """
        discount = self.gamma * (1.0 - batch.terminated)
        return rule_state, (discount, next_out["target"]["policy"].values)

    def loss(
        self, out: Out, batch: Transition, targets: tuple[jax.Array, jax.Array], clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The mean of the criterion over a minibatch of any leading shape, and metrics. []."""
        discount, next_values = targets
        prediction = Prediction(
            values=out["q"],
            action=batch.action,
            reward=batch.reward,
            discount=discount,
            next_values=next_values,
            fraction=clock.fraction,
        )
        loss = self.criterion(prediction).mean()
        return loss, {
            "loss": loss,
            "value": prediction.value.mean(),
            "error": jnp.abs(prediction.error).mean(),
            "epsilon": self.exploration.epsilon(clock),
            "entropy": out["policy"].entropy().mean(),
        }

    def post_update(
        self, rule_state: Any, params: Any, forward: Callable[[], Out], targets: Any
    ) -> Any:
        return polyak_average(rule_state, params, self.tau)
