"""Regret minimisers: rules that choose a policy by the regret of each action."""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl.tree import pytree, static


class RegretMinimizer(Protocol):
    """A rule by which `no_regret` and `cfr` choose policies: a pair of pure functions."""

    def policy(
        self, total: jax.Array, legal: jax.Array, step: jax.Array, spread: jax.Array
    ) -> jax.Array:
        """Probabilities of the actions, 0 for those that are not legal. float [..., n].

        total: what `add` returned, 0 at first, [..., n]. legal: bool [..., n]. step: 1 for the
        first policy, []. spread: the largest payoff of the player less the lowest one, [...].
        """
        ...

    def add(self, total: jax.Array, regret: jax.Array) -> jax.Array:
        """The new total, given the regrets of one step. float [..., n].

        regret: payoff of each action less that of the policy, [..., n].
        """
        ...


@pytree
class RegretMatching:
    """Probabilities in proportion to the positive total regrets; uniform if there are none.

    After t steps, the regret per step is at most spread * sqrt(n / t) (Hart and Mas-Colell, 2000,
    with the regrets of fixed actions).

    plus: totals that become negative are set to 0, so that an action that becomes good again is
      played at once (regret matching plus; Tammelin et al., 2015).
    """

    plus: bool = static(default=False)

    def policy(
        self, total: jax.Array, legal: jax.Array, step: jax.Array, spread: jax.Array
    ) -> jax.Array:
        positive = jnp.where(legal, jnp.maximum(total, 0.0), 0.0)
        sum = positive.sum(-1, keepdims=True)
        uniform = legal / legal.sum(-1, keepdims=True, dtype=jnp.float32)
        return jnp.where(sum > 0, positive / jnp.where(sum > 0, sum, 1.0), uniform)

    def add(self, total: jax.Array, regret: jax.Array) -> jax.Array:
        return jnp.maximum(total + regret, 0.0) if self.plus else total + regret


@pytree
class Hedge:
    """Probabilities in proportion to exp(learning_rate * total regret): multiplicative weights
    (Freund and Schapire, 1997).

    learning_rate: per unit of payoff. By default sqrt(8 log(n) / t) / spread in step t, with which
      the regret per step is at most spread * (sqrt(2 log(n) / t) + sqrt(log(n) / 8) / t) for all t
      (Cesa-Bianchi and Lugosi, 2006, theorem 2.3).
    """

    learning_rate: float | jax.Array | None = None

    def policy(
        self, total: jax.Array, legal: jax.Array, step: jax.Array, spread: jax.Array
    ) -> jax.Array:
        rate = self.learning_rate
        if rate is None:
            num_actions = legal.sum(-1, dtype=jnp.float32)
            rate = jnp.sqrt(8.0 * jnp.log(num_actions) / step) / jnp.maximum(spread, 1e-30)
        logits = jnp.broadcast_to(rate, total.shape[:-1])[..., None] * total
        return jax.nn.softmax(jnp.where(legal, logits, -jnp.inf), -1)

    def add(self, total: jax.Array, regret: jax.Array) -> jax.Array:
        return total + regret
