"""What a value-based target follows: the next action, the bonuses, and the scale that values are
learnt on.
"""

import jax
import jax.numpy as jnp

from jaxrl.losses import SignedRoot
from jaxrl.tree import pytree

__all__ = ["Identity", "Max", "Munchausen", "SignedRoot"]


@pytree
class Max:
    """The target follows the best next action: by the online values when `double` (van Hasselt et
    al., 2016).
    """

    double: bool = True

    def __call__(
        self, value: jax.Array, next_value: jax.Array, next_online: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Weights of the next actions [n], and what is added to this reward and to the next value.
        [], [].

        value, next_value: by the slow copy, at this row and at what follows [n]; next_online: by
        the learner [n]. They are
        -inf where an action is forbidden.
        """
        judge = jnp.where(self.double, next_online, next_value)
        zero = jnp.float32(0.0)
        return jax.nn.one_hot(jnp.argmax(judge), judge.shape[-1]), zero, zero


@pytree
class Munchausen:
    """The target follows the soft policy of the slow copy, and rewards what that found likely
    (Vieillard et al., 2020).

    The policy is softmax(value / temperature). `alpha` times the log-probability of the action,
    times the temperature and no less than `least`, is added to the reward (the first of n, for
    n-step returns), and the policy's entropy, times the temperature, to the next value. The online
    values are not asked: it is never double.
    """

    alpha: float = 0.9
    temperature: float = 0.03
    least: float = -1.0

    def __call__(
        self, value: jax.Array, next_value: jax.Array, next_online: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `Max`."""
        scaled = self.temperature * jax.nn.log_softmax(value / self.temperature)[action]
        log_policy = jax.nn.log_softmax(next_value / self.temperature)
        policy = jnp.exp(log_policy)
        entropy = -jnp.sum(policy * jnp.where(policy > 0, log_policy, 0.0))
        return policy, self.alpha * jnp.clip(scaled, self.least, 0.0), self.temperature * entropy


@pytree
class Identity:
    """Values on the scale of rewards."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x

    def inverse(self, x: jax.Array) -> jax.Array:
        return x
