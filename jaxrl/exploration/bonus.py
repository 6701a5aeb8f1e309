"""Exploration bonuses: what all of them share."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import normalize
from jaxrl.algorithms.rewarded import RewardModel
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.masks import visible
from jaxrl.normalize import ReturnStats
from jaxrl.rollout import Transition
from jaxrl.tree import leaf, pytree, static


@pytree
class State:
    """What a bonus has learned, and the statistics that it is scaled by; None without scaling."""

    model: Any
    returns: ReturnStats | None


@pytree
class Bonus(RewardModel):
    """Base class of exploration bonuses: `rl.Rewarded(rl.ppo(), rl.exploration.RND())`.

    The reward that is learned from is reward_weight * reward + weight * bonus.

    normalize: divide bonuses by the running standard deviation of their discounted sum along time
    (Burda et al., 2019), which does not stop where an episode ends; discount: of that sum.

    A subclass defines `start`, `bonus` and `learn`. Class attribute learns_first: True where a
    batch is learned before its bonuses are computed, as by counts.
    """

    weight: float = leaf(1.0, "[0, inf)")
    reward_weight: float = leaf(1.0, "[0, inf)")
    discount: float = leaf(0.99, "[0, 1)")
    normalize: bool = static(default=True)

    learns_first = False

    def start(self, key: jax.Array, env: Env, width: int) -> Any:
        """Return what the bonus has learned at the start. width: number of columns of a batch."""
        raise not_defined(self, Bonus.start)

    def bonus(self, key: jax.Array, model: Any, batch: Transition) -> jax.Array:
        """The bonuses of a batch, time first: a rollout, or pieces of a replay. [T, B]."""
        raise not_defined(self, Bonus.bonus)

    def learn(self, key: jax.Array, model: Any, batch: Transition) -> tuple[Any, Metrics]:
        """Return what the bonus has learned after a rollout [T, B], and metrics."""
        raise not_defined(self, Bonus.learn)

    def init(self, key: jax.Array, env: Env, width: int) -> State:
        returns = normalize.init_returns(self.normalize, (width,))
        return State(self.start(key, env, width), returns)

    def __call__(
        self, key: jax.Array, carry: State, batch: Transition
    ) -> tuple[State, jax.Array, Metrics]:
        key_bonus, key_learn = jax.random.split(key)
        model, metrics = self.learn(key_learn, carry.model, batch)
        seen = model if self.learns_first else carry.model
        bonus = jax.lax.stop_gradient(self.bonus(key_bonus, seen, batch))
        never = jnp.zeros(batch.done.shape, bool)
        returns = normalize.update_returns(carry.returns, bonus, never, self.discount)
        carry = State(model, returns)
        return carry, self._reward(carry, batch, bonus), metrics | {"bonus": bonus.mean()}

    def relabel(self, key: jax.Array, carry: State, batch: Transition) -> jax.Array:
        time_first = jax.tree.map(lambda x: x.swapaxes(0, 1), batch)
        bonus = jax.lax.stop_gradient(self.bonus(key, carry.model, time_first))
        return self._reward(carry, batch, bonus.swapaxes(0, 1))

    def _reward(self, carry: State, batch: Transition, bonus: jax.Array) -> jax.Array:
        scale = normalize.reward_scale(carry.returns, True)
        return self.reward_weight * batch.reward + self.weight * scale * bonus


def example(key: jax.Array, env: Env) -> tuple[Any, Any]:
    """An observation and an action of one agent."""
    obs, action = env.reset(key)[1], env.action_space.sample(key)
    if env.num_agents is not None:
        obs = jax.tree.map(lambda x: x[0], obs)
    return visible(obs), action


def flat(obs: Any, leading: int) -> jax.Array:
    """Observations as vectors of floats, without masks. [..., D] of `leading` leading axes."""
    leaves = jax.tree.leaves(visible(obs))
    rows = [x.reshape(*x.shape[:leading], -1).astype(jnp.float32) for x in leaves]
    return jnp.concatenate(rows, -1)
