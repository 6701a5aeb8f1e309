"""Targets of Q-learning: the policy that they follow, bonuses, and the scale of values."""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl import gathers
from jaxrl.losses import SignedRoot
from jaxrl.tree import leaf, pytree

__all__ = ["Backup", "Identity", "Max", "Munchausen", "SignedRoot", "Transform"]


class Backup(Protocol):
    """A pytree: the policy of the target, and its bonuses."""

    def __call__(
        self, value: jax.Array, next_value: jax.Array, next_online: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Weights of the next actions [n], a bonus on the reward [], and one on the next value [].

        value, next_value: by the target network, at this row and at the next one [n].
        next_online: by the network that is trained [n].
        All values are -inf where an action is forbidden.
        """
        ...


class Transform(Protocol):
    """A pytree: an invertible transform between returns and the values that are learned."""

    def __call__(self, x: jax.Array) -> jax.Array: ...

    def inverse(self, x: jax.Array) -> jax.Array: ...


@pytree
class Max:
    """The greedy next action (Watkins, 1989).

    It is greedy by the online values where `double` (van Hasselt et al., 2016).
    """

    double: bool = True

    def __call__(
        self, value: jax.Array, next_value: jax.Array, next_online: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        selecting = jnp.where(self.double, next_online, next_value)
        zero = jnp.float32(0.0)
        return jax.nn.one_hot(gathers.index_of_largest(selecting), selecting.shape[-1]), zero, zero


@pytree
class Munchausen:
    """The soft policy of the target network, and its log-probability as a reward.

    Vieillard et al. (2020), equation 3. The policy is softmax(value / temperature). The bonus on
    the reward (the first of n, for n-step returns) is `alpha` times the temperature times the
    log-probability of the action, clipped below at `min_log_prob`; that on the next value is the
    temperature times the policy's entropy. Online values are not used: it is never double.
    """

    alpha: float = leaf(0.9, "[0, 1]")
    temperature: float = leaf(0.03, "(0, inf)")
    min_log_prob: float = leaf(-1.0, "[-inf, 0]")

    def __call__(
        self, value: jax.Array, next_value: jax.Array, next_online: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        scaled = self.temperature * jax.nn.log_softmax(value / self.temperature)[action]
        log_policy = jax.nn.log_softmax(next_value / self.temperature)
        policy = jnp.exp(log_policy)
        entropy = -jnp.sum(policy * jnp.where(policy > 0, log_policy, 0.0))
        bonus = self.alpha * jnp.clip(scaled, self.min_log_prob, 0.0)
        return policy, bonus, self.temperature * entropy


@pytree
class Identity:
    """Values on the scale of rewards."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x

    def inverse(self, x: jax.Array) -> jax.Array:
        return x
