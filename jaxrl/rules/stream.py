"""What a stream learns from one step: Q(lambda), SARSA(lambda) and AC(lambda) (Elsayed et al.,
2024).
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import masks
from jaxrl.distributions import Distribution
from jaxrl.distributions import EpsilonGreedyCategorical as Greedy
from jaxrl.rules.base import Clock, Out
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import pytree


class StreamRule(Protocol):
    """A pytree; `out` is a network's heads at one observation, and under "policy" the distribution
    that they make.
    """

    gamma: Any
    lam: Any

    @property
    def kappa(self) -> dict[str, Any]:
        """How much of an overshoot each network's step is allowed: larger is more careful."""
        ...

    @property
    def commits(self) -> bool:
        """Whether the next action is drawn before the step is learnt from, and then taken."""
        ...

    def heads(self, space: Any) -> dict[str, dict[str, int]]:
        """The heads of each network: each has a trace and a step size of its own."""
        ...

    def policy(self, space: Any, out: Out, clock: Clock) -> Distribution: ...

    def value(self, out: Out, action: Any) -> jax.Array:
        """What was predicted. []."""
        ...

    def next_value(self, out: Out, action: Any) -> jax.Array:
        """What the prediction should follow: the value of the next observation. []."""
        ...

    def objective(self, out: Out, action: Any, error: jax.Array) -> jax.Array:
        """What the traces add up the gradient of; `error` is the step's TD error. []."""
        ...

    def survives(self, out: Out, action: Any) -> jax.Array:
        """Whether what came before this action has a share in what follows it: a trace is cut where
        not. bool [].
        """
        ...


@pytree
class Watkins:
    """The value of the best action; a trace is cut by any other (Watkins, 1989)."""

    commits = False

    def next_value(self, policy: Greedy, action: jax.Array) -> jax.Array:
        return policy.values.max(-1)

    def survives(self, policy: Greedy, action: jax.Array) -> jax.Array:
        return policy.values[action] == policy.values.max(-1)


@pytree
class Sarsa:
    """The value of the action that is taken next (Rummery and Niranjan, 1994)."""

    commits = True

    def next_value(self, policy: Greedy, action: jax.Array) -> jax.Array:
        return policy.values[action]

    def survives(self, policy: Greedy, action: jax.Array) -> jax.Array:
        return jnp.bool_(True)


@pytree
class ActionValues:
    """Values of actions, and the best of them but for chance: stream Q(lambda) and stream
    SARSA(lambda).

    backup: what a value follows, `Watkins()` or `Sarsa()`. exploration: the schedule of random
    actions.
    """

    backup: Any = Watkins()
    gamma: float = 0.99
    lam: float = 0.8
    exploration: Any = EpsilonGreedy(1.0, 0.01, 0.05)
    value_kappa: float = 2.0

    action_spaces = (Discrete,)

    @property
    def kappa(self) -> dict[str, Any]:
        return {"value": self.value_kappa}

    @property
    def commits(self) -> bool:
        return self.backup.commits

    def heads(self, space: Discrete) -> dict[str, dict[str, int]]:
        return {"value": {"q": space.n}}

    def policy(self, space: Discrete, out: Out, clock: Clock) -> Greedy:
        return Greedy(masks.allow(out["q"], out.get("mask")), self.exploration.epsilon(clock))

    def value(self, out: Out, action: jax.Array) -> jax.Array:
        return out["q"][action]

    def next_value(self, out: Out, action: jax.Array) -> jax.Array:
        return self.backup.next_value(out["policy"], action)

    def objective(self, out: Out, action: jax.Array, error: jax.Array) -> jax.Array:
        return out["q"][action]

    def survives(self, out: Out, action: jax.Array) -> jax.Array:
        return self.backup.survives(out["policy"], action)


@pytree
class ActorCritic:
    """A policy and a value of states, in a network each: stream AC(lambda).

    entropy_weight: of a bonus whose gradient takes the sign of the TD error, so that the step,
    which is multiplied by that error, always goes towards more entropy.
    """

    gamma: float = 0.99
    lam: float = 0.8
    entropy_weight: float = 0.01
    policy_kappa: float = 3.0
    value_kappa: float = 2.0

    commits = False

    @property
    def kappa(self) -> dict[str, Any]:
        return {"policy": self.policy_kappa, "value": self.value_kappa}

    def heads(self, space: Space) -> dict[str, dict[str, int]]:
        return {"policy": space.heads, "value": {"value": 1}}

    def policy(self, space: Space, out: Out, clock: Clock) -> Distribution:
        """As the action space has it, but that a spread is a softplus of its head, as the authors
        have it.
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

    def survives(self, out: Out, action: Any) -> jax.Array:
        return jnp.bool_(True)
