"""The base class of algorithms that train another algorithm on the levels of tasks."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout
from jaxrl.algorithms.around import Around
from jaxrl.algorithms.base import Agent
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.rollout import Evaluation, Policy, Transition
from jaxrl.teachers.pool import LEVEL, LevelPool


class OnTasks(Around):
    """Base class of algorithms that train `algo` on levels of tasks, and act with its policy.

    algo: the algorithm that learns. held_out: the distribution of levels for evaluations; None:
    that of the tasks.
    """

    held_out: Any  # Tasks | None

    def policy(self, env: Env | Tasks, agent: Agent, greedy: bool) -> Policy:
        one = env.sample(jax.random.key(0)) if isinstance(env, Tasks) else env
        return self.algo.policy(one, agent, greedy)

    def evaluate(self, key: jax.Array, env: Tasks, state: Any, num_episodes: int) -> Evaluation:
        """One episode of the greedy policy on each of `num_episodes` levels."""
        key_level, key_play = jax.random.split(key)
        tasks = env if self.held_out is None else self.held_out
        policy = self.policy(tasks, self.agent(state), greedy=True)
        levels = jax.vmap(tasks.sample)(jax.random.split(key_level, num_episodes))
        found = rollout.play_levels(key_play, levels, policy, 1)
        return jax.tree.map(lambda x: x[:, 0], found)

    def evaluation_steps(self, env: Tasks, num_episodes: int) -> int:
        tasks = env if self.held_out is None else self.held_out
        level = jax.eval_shape(tasks.sample, jax.random.key(0))
        return self.algo.evaluation_steps(level, num_episodes)


def described(tasks: Tasks, levels: Env) -> Metrics:
    """The numbers that describe each of some levels. [N]."""
    return jax.vmap(tasks.describe)(levels)


def taught(numbers: Metrics, pool: LevelPool, batch: Transition) -> Metrics:
    """Means over the steps of a batch of the numbers of their levels, as `taught_NAME`. []."""
    level = batch.info[LEVEL].astype(jnp.int32).ravel()
    steps = jax.ops.segment_sum(jnp.ones(level.shape), level, pool.num_levels)
    return {f"taught_{name}": jnp.sum(x * steps) / steps.sum() for name, x in numbers.items()}
