"""The base class of exploration bonuses."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import normalize, tree
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
    """The state of a bonus.

    model: what it has learned during the training run. memory: its state within the current episode
    of each column; () without one. returns: statistics for the normalisation; None without it.
    """

    model: Any
    memory: Any
    returns: ReturnStats | None


@pytree
class Bonus(RewardModel):
    """Base class of exploration bonuses: `rl.Rewarded(rl.ppo(), rl.exploration.RND())`.

    The algorithm learns from reward_weight * reward + weight * bonus. With a `channel`, the reward
    remains the environment's, and weight * bonus is a signal of that name, as in
    `rl.RewardSignals`.

    normalize: divide bonuses by the running standard deviation of their discounted sum over time
    (Burda et al., 2019), which continues across episode ends. discount: of that sum.

    A subclass defines `start`, `bonus` and `learn`. If the bonus depends on the episode so far,
    `episodic` is True and the subclass defines `start_memory`. Class attribute learns_first: True
    if a batch is learned before its bonuses are computed, as with counts.
    """

    weight: float = leaf(1.0, "[0, inf)")
    reward_weight: float = leaf(1.0, "[0, inf)")
    discount: float = leaf(0.99, "[0, 1)")
    normalize: bool = static(default=True)
    channel: str = static(default="")

    learns_first = False

    def start(self, key: jax.Array, env: Env, width: int) -> Any:
        """Return the initial model of the bonus. width: number of columns of a batch."""
        raise not_defined(self, Bonus.start)

    def start_memory(self, env: Env, width: int) -> Any:
        """Return the memory at the start of `width` episodes, leaves [width, ...]."""
        return ()

    def bonus(
        self, key: jax.Array, model: Any, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        """Return the memory after a batch, and its bonuses [T, B].

        batch: a rollout [T, B] or, unless the bonus is episodic, replayed sequences [N, L].
        """
        raise not_defined(self, Bonus.bonus)

    def learn(self, key: jax.Array, model: Any, batch: Transition) -> tuple[Any, Metrics]:
        """Return the model after learning from a rollout [T, B], and metrics."""
        raise not_defined(self, Bonus.learn)

    def observe(
        self, key: jax.Array, model: Any, memory: Any, batch: Transition
    ) -> tuple[Any, Any, jax.Array, Metrics]:
        """Return model and memory after a rollout [T, B], its bonuses [T, B], and metrics."""
        key_bonus, key_learn = jax.random.split(key)
        learned, metrics = self.learn(key_learn, model, batch)
        seen = learned if self.learns_first else model
        memory, bonus = self.bonus(key_bonus, seen, memory, batch)
        return learned, memory, bonus, metrics

    def init(self, key: jax.Array, env: Env, width: int) -> State:
        returns = normalize.init_returns(self.normalize, (width,))
        return State(self.start(key, env, width), self.start_memory(env, width), returns)

    def __call__(
        self, key: jax.Array, carry: State, batch: Transition
    ) -> tuple[State, jax.Array, Metrics]:
        model, memory, bonus, metrics = self.observe(key, carry.model, carry.memory, batch)
        bonus = _counted(batch, bonus)
        never = jnp.zeros(batch.done.shape, bool)
        returns = normalize.update_returns(carry.returns, bonus, never, self.discount)
        carry = State(model, memory, returns)
        return carry, self._reward(carry, batch, bonus), metrics | {"bonus": bonus.mean()}

    def relabel(self, key: jax.Array, carry: State, batch: Transition) -> jax.Array:
        _, bonus = self.bonus(key, carry.model, carry.memory, batch)
        return self._reward(carry, batch, _counted(batch, bonus))

    def _reward(self, carry: State, batch: Transition, bonus: jax.Array) -> jax.Array:
        scaled = self.weight * normalize.reward_scale(carry.returns, True) * bonus
        return scaled if self.channel else self.reward_weight * batch.reward + scaled


def _counted(batch: Transition, bonus: jax.Array) -> jax.Array:
    """Bonuses as constants, 0 at steps that do not count. float32, as `bonus`."""
    return jax.lax.stop_gradient(jnp.where(is_active(batch), bonus, 0.0)).astype(jnp.float32)


def is_active(batch: Transition) -> jax.Array:
    """False where an agent of a team terminated before the step. bool, shaped as `batch.reward`."""
    if isinstance(batch.active, tuple):
        return jnp.ones(batch.reward.shape, bool)
    return batch.active


def example(key: jax.Array, env: Env) -> tuple[Any, Any]:
    """An observation and an action of one agent."""
    key_obs, key_action = jax.random.split(key)
    obs, action = env.reset(key_obs)[1], env.action_space.sample(key_action)
    if env.num_agents is not None:
        obs = jax.tree.map(lambda x: x[0], obs)
    return visible(obs), action


def example_vector(key: jax.Array, env: Env, user: Any) -> jax.Array:
    """An observation of one agent as the vector that a network reads. [D].

    Raises:
      TypeError: the observation is a state index; `user` is the bonus that reads it.
    """
    obs = example(key, env)[0]
    if jnp.ndim(obs) == 0 and not jnp.issubdtype(obs.dtype, jnp.floating):
        raise TypeError(
            f"{type(user).__name__} reads observations as vectors of floats, and one of "
            f"{type(env).__name__} is a state index: use "
            "rl.exploration.Counts(num_cells=...), or an environment with one-hot observations."
        )
    return flat(obs, 0)


def flat(obs: Any, leading: int) -> jax.Array:
    """Observations as vectors of floats, without masks. [..., D] with `leading` leading axes."""
    return tree.flat(visible(obs), leading)
