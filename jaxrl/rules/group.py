"""Advantages among episodes that start from the same reset state, without a value function.

A state is a pytree, so that a reset can be copied: the returns of a group differ by the random
numbers of the environment and the actions only.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import returns, rollout
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.rollout import Episode, Policy, Transition
from jaxrl.rules.base import Out, Rule, RuleState, check_field
from jaxrl.rules.objectives import Objective, Penalty, PolicyGradient
from jaxrl.rules.surrogate import (
    SurrogateTargets,
    penalty_post_update,
    penalty_targets,
    policy_loss,
)
from jaxrl.tree import leaf, pytree, replace, static


class Advantage:
    """Base class of the advantages of a group: a pytree that is called with its returns.

    num_greedy: the number of episodes of each group, the last ones, that the greedy policy plays.
    They are a baseline, and are not learned from.
    """

    num_greedy: int = 0

    def __call__(self, episode_return: jax.Array) -> jax.Array:
        """The advantage of each episode, from the returns of G groups of K episodes. [G, K]."""
        raise not_defined(self, Advantage.__call__)


@pytree
class LeaveOneOut(Advantage):
    """A return less the mean of the group's other returns: RLOO. [G, K].

    Kool et al. (2019); Ahmadian et al. (2024).
    """

    def __call__(self, episode_return: jax.Array) -> jax.Array:
        num = episode_return.shape[1]
        return (episode_return - episode_return.mean(1, keepdims=True)) * (num / (num - 1))


@pytree
class Standardized(Advantage):
    """A return less the group's mean, over its standard deviation: GRPO. [G, K].

    Shao et al. (2024), section 4.1.2.
    """

    def __call__(self, episode_return: jax.Array) -> jax.Array:
        centred = episode_return - episode_return.mean(1, keepdims=True)
        return centred * jax.lax.rsqrt(episode_return.var(1, keepdims=True) + 1e-8)


@pytree
class GreedyBaseline(Advantage):
    """A return less that of the greedy policy, the group's last episode: ReMax. [G, K].

    Li et al. (2024).
    """

    num_greedy = 1

    def __call__(self, episode_return: jax.Array) -> jax.Array:
        return episode_return - episode_return[:, -1:]


def fork(key: jax.Array, env: Env, episodes: Episode, group_size: int) -> Episode:
    """New episodes in place of `episodes` [B]: `group_size` neighbours share a reset state. [B]."""
    copies = np.arange(episodes.length.shape[0]) // group_size
    rnn_state = jax.tree.map(lambda x: jnp.zeros_like(x[0]), episodes.rnn_state)
    starts = jax.vmap(lambda key: rollout.reset(key, env, rnn_state))(
        jax.random.split(key, copies[-1] + 1)
    )
    return jax.tree.map(lambda x: x[copies], starts)


@pytree
class Group(Rule):
    """A policy objective with advantages among `group_size` episodes from the same reset state.

    Each update starts with new resets. The episodes of a group are neighbouring environments, with
    different random numbers. Only the first episode of each environment counts: a whole one where
    `num_steps` is at least the environment's `max_steps`; the steps after it are ignored. A smaller
    `num_steps` cuts episodes: their return is the sum so far, without a bootstrap (there is no
    value function).

    advantage: of returns [G, K]; all steps of an episode have its advantage. per_episode: True
    gives all episodes the same weight, shared by their steps (GRPO); False gives all steps the same
    weight (the policy gradient). gamma: of the return. penalty: on the distance between the old
    policy and the new one, or None.
    """

    objective: Objective = PolicyGradient()
    advantage: Advantage = LeaveOneOut()
    gamma: float = leaf(1.0, "[0, 1]")
    entropy_weight: float = leaf(0.0, "[0, inf)")
    per_episode: bool = False
    penalty: Penalty | None = None
    group_size: int = static(default=4)

    plays_groups = True

    def __post_init__(self) -> None:
        check_field(self, "objective", Objective, "rl.Clip(0.2)")
        check_field(self, "advantage", Advantage, "rl.rules.LeaveOneOut()")
        check_field(self, "penalty", Penalty, "rl.rules.FixedPenalty(0.1)")
        if not isinstance(self.group_size, int | np.integer) or self.group_size < 2:
            raise ValueError(
                f"group_size={self.group_size!r}: advantages are among two episodes or more; "
                "write 4."
            )

    def init(self, key: jax.Array, params: Any) -> RuleState:
        """Return the penalty's state; () without one."""
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
        """Episodes at the start and at the end of a rollout [B], and its transitions [T, B].

        An environment ends at most one episode, and its rewards are 0 after it. One that the greedy
        policy plays ends none, so that its return is not reported as the learner's.
        """
        key_reset, *keys = jax.random.split(key, 3)
        num_envs = episodes.length.shape[0]
        if num_envs % self.group_size:
            options = ", ".join(str(self.group_size * k) for k in (1, 2, 4))
            raise ValueError(
                f"group_size={self.group_size} does not divide num_envs={num_envs} (ReMax's greedy "
                f"episodes are counted): write num_envs={options}."
            )
        start = fork(key_reset, env, episodes, self.group_size)
        is_greedy = self._is_greedy(num_envs)
        columns = [np.flatnonzero(~is_greedy), np.flatnonzero(is_greedy)]
        played = []
        for key_play, policy, part in zip(keys, (explore, greedy), columns, strict=True):
            if len(part):
                own = jax.tree.map(lambda x, part=part: x[part], start)
                played.append(rollout.rollout(key_play, env, policy, own, num_steps))
        order = np.argsort(np.concatenate(columns))
        ends, batches = zip(*played, strict=True)
        end = jax.tree.map(lambda *x: jnp.concatenate(x)[order], *ends)
        batch = jax.tree.map(lambda *x: jnp.concatenate(x, 1)[:, order], *batches)
        in_first = _in_first_episode(batch)
        counts = in_first & ~is_greedy[None]
        batch = replace(
            batch,
            reward=jnp.where(in_first, batch.reward, 0.0),
            terminated=batch.terminated & counts,
            truncated=batch.truncated & counts,
        )
        return start, end, batch

    def _is_greedy(self, num_envs: int) -> np.ndarray:
        """True at the environments that the greedy policy plays: the last of each group. [B]."""
        place = np.arange(num_envs) % self.group_size
        return place >= self.group_size - self.advantage.num_greedy

    def targets(
        self, rule_state: RuleState, out: Out, next_out: Out, batch: Transition, clock: Clock
    ) -> tuple[RuleState, SurrogateTargets]:
        """The advantages of the first episodes at each step, and the weights of steps. [T, B]."""
        in_first = _in_first_episode(batch).astype(jnp.float32)
        discount = jnp.full(len(in_first), 1.0) * self.gamma
        episode_return = returns.batched(returns.accumulate)(batch.reward * in_first, discount)[0]
        advantage = self.advantage(episode_return.reshape(-1, self.group_size)).reshape(1, -1)
        is_sampled = (~self._is_greedy(len(episode_return))).astype(jnp.float32)
        counts = in_first * (is_sampled / is_sampled.mean())[None]
        total = jnp.where(self.per_episode, in_first.mean(0, keepdims=True), counts.mean())
        weight = counts / total
        return rule_state, SurrogateTargets(
            log_prob=out["policy"].log_prob(batch.action),
            value=None,
            advantage=jnp.broadcast_to(advantage, in_first.shape),
            value_target=None,
            weight=weight,
            **penalty_targets(self.penalty, rule_state, out["policy"], clock, in_first.shape),
        )

    def loss(
        self, out: Out, batch: Transition, targets: SurrogateTargets, clock: Clock
    ) -> tuple[jax.Array, Metrics]:
        policy, entropy, metrics = policy_loss(
            self.objective, self.penalty, out, batch, targets, targets.advantage, clock
        )
        loss = policy - self.entropy_weight * entropy
        return loss, metrics | {"loss": loss, "policy_loss": policy, "entropy": entropy}

    def post_update(
        self,
        rule_state: RuleState,
        params: Any,
        forward: Callable[[], Out],
        targets: SurrogateTargets,
    ) -> RuleState:
        return penalty_post_update(self.penalty, rule_state, forward, targets)


def _in_first_episode(batch: Transition) -> jax.Array:
    """True at the steps of each environment's first episode, its last included. [T, B]."""
    return jnp.cumsum(batch.done, axis=0) - batch.done == 0
