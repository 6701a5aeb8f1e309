"""Advantages from siblings: episodes that begin in one and the same state, without a value
function.

A state is a pytree, so that a reset can be copied: what differs between the returns of a group is
luck and actions alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import returns, rollout
from jaxrl.env import Env
from jaxrl.rollout import Episode, Policy, Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.objectives import PolicyGradient
from jaxrl.rules.surrogate import Targets, kept, policy_loss, settle
from jaxrl.tree import pytree, replace, static


@pytree
class LeaveOneOut:
    """A return less the mean of the others' (RLOO; Kool et al., 2019; Ahmadian et al., 2024). [G,
    K].
    """

    def __call__(self, ret: jax.Array) -> jax.Array:
        num = ret.shape[1]
        return (ret - ret.mean(1, keepdims=True)) * (num / (num - 1))


@pytree
class Standardized:
    """A return less the group's mean, over its standard deviation (GRPO; Shao et al., 2024, section
    4.1.2). [G, K].
    """

    def __call__(self, ret: jax.Array) -> jax.Array:
        return (ret - ret.mean(1, keepdims=True)) * jax.lax.rsqrt(ret.var(1, keepdims=True) + 1e-8)


@pytree
class GreedyBaseline:
    """A return less that of the greedy policy, the group's last episode (ReMax; Li et al., 2024).
    [G, K].
    """

    num_greedy = 1

    def __call__(self, ret: jax.Array) -> jax.Array:
        return ret - ret[:, -1:]


def fork(key: jax.Array, env: Env, episodes: Episode, group_size: int) -> Episode:
    """New episodes in place of `episodes` [B]: `group_size` neighbours share a reset state."""
    copies = np.arange(episodes.length.shape[0]) // group_size
    rest = jax.tree.map(lambda x: jnp.zeros_like(x[0]), episodes.memory)
    fresh = jax.vmap(lambda key: rollout.begin(key, env, rest))(
        jax.random.split(key, copies[-1] + 1)
    )
    return jax.tree.map(lambda x: x[copies], fresh)


@pytree
class Group:
    """The policy gradient, or another objective, with advantages among `group_size` episodes from
    the same reset state.

    Each update plays from new resets, a group's members side by side, each with random numbers of
    its own. Only the first episode of each environment counts: whole ones where `num_steps` is at
    least the environment's `max_steps`, and the steps after it are thrown away. A smaller
    `num_steps` cuts episodes: their return is what they had until then, as if nothing followed
    (there is no value function to say what does).

    advantage: of returns [G, K]; all steps of an episode share its. per_episode: each episode
    counts the same, its steps a share of it (as GRPO's); else each step counts the same (as the
    policy gradient's). gamma: of the return. penalty: of how far the policy moves from that which
    played; None for none.
    """

    objective: Any = PolicyGradient()
    advantage: Any = LeaveOneOut()
    gamma: float = 1.0
    entropy_weight: float = 0.0
    per_episode: bool = False
    penalty: Any = None
    group_size: int = static(default=4)

    def __post_init__(self) -> None:
        if not isinstance(self.group_size, int | np.integer) or self.group_size < 2:
            raise ValueError(
                f"group_size={self.group_size!r}: advantages are among two episodes or more; "
                "write, say, 4."
            )

    @property
    def heads(self) -> dict[str, int]:
        return {}

    def init(self, key: jax.Array, params: Any) -> Any:
        return () if self.penalty is None else self.penalty.init()

    def play(
        self,
        key: jax.Array,
        env: Env,
        explore: Policy,
        greedy: Policy,
        episodes: Episode,
        num_steps: int,
    ) -> tuple[Episode, Episode, Transition]:
        """Episodes as they begin and as they end [B], and the transitions [T, B].

        Each environment is done once at most, and rewarded no more after it; a greedy one never is,
        so that its return is not taken for the learner's.
        """
        key_reset, *keys = jax.random.split(key, 3)
        num = episodes.length.shape[0]
        if num % self.group_size:
            options = ", ".join(str(self.group_size * k) for k in (1, 2, 4))
            raise ValueError(
                f"group_size={self.group_size} does not divide num_envs={num} (ReMax's greedy "
                "ones are counted): write, "
                f"say, num_envs={options}."
            )
        begun = fork(key_reset, env, episodes, self.group_size)
        judged = self._greedy(num)
        parts = [np.flatnonzero(~judged), np.flatnonzero(judged)]
        played = [
            rollout.rollout(
                key, env, policy, jax.tree.map(lambda x, part=part: x[part], begun), num_steps
            )
            for key, policy, part in zip(keys, (explore, greedy), parts, strict=True)
            if len(part)
        ]
        order = np.argsort(np.concatenate(parts))
        ended = jax.tree.map(
            lambda *x: jnp.concatenate(x)[order], *(episodes for episodes, _ in played)
        )
        batch = jax.tree.map(
            lambda *x: jnp.concatenate(x, 1)[:, order], *(batch for _, batch in played)
        )
        alive = _alive(batch)
        done = {
            name: getattr(batch, name) & alive & ~judged[None]
            for name in ("terminated", "truncated")
        }
        return begun, ended, replace(batch, reward=jnp.where(alive, batch.reward, 0.0), **done)

    def _greedy(self, num: int) -> np.ndarray:
        """Which environments the greedy policy plays: the last of each group, if any. [B]."""
        return np.arange(num) % self.group_size >= self.group_size - getattr(
            self.advantage, "num_greedy", 0
        )

    def targets(
        self, carry: Any, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[Any, Targets]:
        """Advantages of the episodes that began with the rollout, at each of its steps, and what
        counts. [T, B].
        """
        alive = _alive(batch).astype(jnp.float32)
        discount = jnp.full(len(alive), 1.0) * self.gamma
        ret = jax.vmap(returns.accumulate, in_axes=(1, None))(batch.reward * alive, discount)[:, 0]
        advantage = self.advantage(ret.reshape(-1, self.group_size)).reshape(1, -1)
        chosen = (~self._greedy(len(ret))).astype(jnp.float32)
        sampled = alive * (chosen / chosen.mean())[None]
        weight = sampled / jnp.where(self.per_episode, alive.mean(0, keepdims=True), sampled.mean())
        old = kept(self.penalty, carry, out["policy"], clock, alive.shape)
        log_prob = out["policy"].log_prob(batch.action)
        return carry, Targets(
            log_prob, (), jnp.broadcast_to(advantage, alive.shape), (), weight=weight, **old
        )

    def loss(
        self, out: Out, batch: Transition, targets: Targets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a minibatch, any leading shape, and what describes the update. []."""
        what = out, batch, targets, targets.advantage, clock
        policy, entropy, metrics = policy_loss(self.objective, self.penalty, *what)
        loss = policy - self.entropy_weight * entropy
        return loss, metrics | {"loss": loss, "policy_loss": policy, "entropy": entropy}

    def settle(self, carry: Any, params: Any, read: Callable[[], Out], targets: Targets) -> Any:
        return settle(self.penalty, carry, read, targets)


def _alive(batch: Transition) -> jax.Array:
    """The steps of each environment's first episode, its last included. [T, B]."""
    return jnp.cumsum(batch.done, axis=0) - batch.done == 0
