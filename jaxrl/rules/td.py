"""Values of actions fitted to one-step targets of a slow copy: DQN's rule, and losses that were
found in its place.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import masks
from jaxrl.distributions import EpsilonGreedyCategorical as Greedy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree


@pytree
class Prediction:
    """What was predicted of a step, and what came of it. All have one leading shape; `values` and
    `next_values` [..., n].

    values: of the actions, by the learner. next_values: at the next observation, by the slow copy;
    -inf where forbidden. discount: gamma, 0 where the episode terminated. fraction: how much of the
    life is over, [].
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
        return jnp.take_along_axis(self.values, self.action[..., None], axis=-1)[..., 0]

    @property
    def next_value(self) -> jax.Array:
        """max Q'(s', .) of the slow copy Q'."""
        return self.next_values.max(-1)

    @property
    def target(self) -> jax.Array:
        """Y = r + gamma max Q'(s', .)."""
        return self.reward + self.discount * self.next_value

    @property
    def error(self) -> jax.Array:
        """Q(s, a) - Y."""
        return self.value - self.target


class ValueLoss(Protocol):
    """A pytree: what a prediction costs, elementwise. Its mean is minimised."""

    def __call__(self, prediction: Prediction) -> jax.Array: ...


@pytree
class SquaredError:
    """(Q(s, a) - Y)^2, as DQN's (Mnih et al., 2015)."""

    def __call__(self, prediction: Prediction) -> jax.Array:
        return prediction.error**2


@pytree
class DQNReg:
    """weight Q(s, a) + (Q(s, a) - Y)^2, found by evolution (Co-Reyes et al., 2021, section 4.3): it
    holds values down.
    """

    weight: float = 0.1

    def __call__(self, prediction: Prediction) -> jax.Array:
        return self.weight * prediction.value + prediction.error**2


@pytree
class DQNClipped:
    """max(Q, (Q - Y)^2 + Y) + max(Q - Y, gamma max Q'(s', .)^2), found likewise (Co-Reyes et al.,
    2021, section 4.3).

    At a terminal step, whose successor has no value, the last term is 0.
    """

    def __call__(self, prediction: Prediction) -> jax.Array:
        error = prediction.error
        value = jnp.maximum(prediction.value, error**2 + prediction.target)
        return value + jnp.maximum(error, prediction.discount * prediction.next_value**2)


@pytree
class TD:
    """Values of actions, fitted to a slow copy's targets by any loss of a `Prediction`: DQN's rule
    on what was just played.

    There is no replay: each rollout is learnt from and thrown away. criterion: the loss. slow_rate:
    how much of the way to the learner the slow copy goes after each update; with 1 it is the
    network that the rollout began with. exploration: the schedule of random actions.
    """

    criterion: Any = SquaredError()
    gamma: float = 0.99
    exploration: Any = EpsilonGreedy()
    slow_rate: float = 1.0

    action_spaces = (Discrete,)

    @property
    def heads(self) -> dict[str, int]:
        return {}

    def policy_heads(self, space: Discrete) -> dict[str, int]:
        return {"q": space.n}

    def policy(self, space: Discrete, out: Out, clock: Clock) -> Greedy:
        """Epsilon-greedy, among the actions that are allowed."""
        return Greedy(masks.allow(out["q"], out.get("mask")), self.exploration.epsilon(clock))

    def init(self, key: jax.Array, params: Any) -> Any:
        return jax.tree.map(jnp.copy, params)

    def slow(self, carry: Any) -> Any:
        return carry

    def targets(
        self, carry: Any, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """The discount of what follows each step, and the slow copy's values there.

        [T, B], [T, B, n].
        """
        return carry, (self.gamma * (1.0 - batch.terminated), next_out["slow"]["policy"].values)

    def loss(
        self, out: Out, batch: Transition, targets: tuple[jax.Array, jax.Array], clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The mean of the criterion over a minibatch, any leading shape, and what describes the
        update. [].
        """
        prediction = Prediction(out["q"], batch.action, batch.reward, *targets, clock.fraction)
        loss = self.criterion(prediction).mean()
        return loss, {
            "loss": loss,
            "value": prediction.value.mean(),
            "error": jnp.abs(prediction.error).mean(),
            "epsilon": self.exploration.epsilon(clock),
            "entropy": out["policy"].entropy().mean(),
        }

    def settle(self, carry: Any, params: Any, read: Callable[[], Out], targets: Any) -> Any:
        return jax.tree.map(lambda slow, fast: slow + self.slow_rate * (fast - slow), carry, params)
