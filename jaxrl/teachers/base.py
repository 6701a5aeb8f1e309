"""The base class of teachers, and the report of an update on each level."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.errors import not_defined
from jaxrl.rollout import Transition, Values
from jaxrl.tree import pytree

TeacherState = Any
Notes = Any  # what a teacher stores for each level in play: a pytree of arrays [N, ...]
SUCCESS = "success"  # the channel with 1 for a successful episode


@pytree
class Report:
    """Statistics of a batch for each of N levels. [N].

    episodes: number of episodes that ended; over these, `episode_return` and `success` are means
    and `best_return` is the highest return. `success` is the channel of that name or, without it,
    1 for episodes with a return of at least the teacher's `success_return`; NaN without both.
    value, value_error, positive_value_error: means over steps of the value estimate, of the
    absolute advantage, and of the positive part of the advantage; 0 if the teacher does not read
    them. Without an episode, means are 0 and `best_return` is -inf.
    """

    episodes: jax.Array
    episode_return: jax.Array
    best_return: jax.Array
    success: jax.Array
    value: jax.Array
    value_error: jax.Array
    positive_value_error: jax.Array

    @property
    def known(self) -> jax.Array:
        """True for levels on which an episode ended. bool [N]."""
        return self.episodes > 0


class Teacher:
    """Base class of teachers, which choose the level of each episode: a pytree of settings.

    reads_values: True for a teacher that reads the learner's values in its reports.
    success_return: the lowest return that counts as a success, on levels without a channel
    "success"; None: no threshold. Class attributes or properties.
    """

    reads_values: Any = False
    success_return: Any = None

    def init(self, key: jax.Array, tasks: Tasks) -> TeacherState:
        """Return the state before the first update; () without one."""
        return ()

    def check(self, tasks: Tasks, scouts: int) -> None:
        """Raise an error if the teacher can't choose among these levels.

        scouts: number of environments that are used for scores and not for training.
        """

    def check_algo(self, tasks: Tasks, algo: Algorithm) -> None:
        """Raise an error if the teacher can't teach this learner."""

    def draw(
        self, key: jax.Array, state: TeacherState, tasks: Tasks, num: int
    ) -> tuple[Env, Notes]:
        """Return levels to train on [num], and a note for each."""
        raise not_defined(self, Teacher.draw)

    def scout(
        self, key: jax.Array, state: TeacherState, tasks: Tasks, num: int
    ) -> tuple[Env, Notes]:
        """Return levels to play without training on them; by default, as `draw`."""
        return self.draw(key, state, tasks, num)

    def tell(
        self,
        key: jax.Array,
        state: TeacherState,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[TeacherState, Notes]:
        """Return the state after an update on these levels [N], and their new notes.

        A level that is still in play is passed again, with its note, after the next update. Several
        of the levels may be equal.
        """
        return state, notes

    def post_learn(self, state: TeacherState, agent: Any) -> TeacherState:
        """Return the state after the learner's update. agent: `algo.agent(state)` after it."""
        return state

    def metrics(self, state: TeacherState) -> Metrics:
        """The metrics of the teacher in a training run. []."""
        return {}


def report(
    batch: Transition,
    level: jax.Array,
    num_levels: int,
    values: Values | None = None,
    success_return: jax.Array | float | None = None,
) -> Report:
    """The report of a batch [T, B]. level: the index of the level at each step. [T, B]."""
    level = level.ravel()

    def total(x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(jnp.ravel(x).astype(jnp.float32), level, num_levels)

    ended = batch.done & (batch.length > 0)  # counts each agent of a team once
    episodes = total(ended)
    mean = lambda x: total(jnp.where(ended, x, 0.0)) / jnp.maximum(episodes, 1.0)
    highest = jnp.where(ended, batch.episode_return, -jnp.inf)
    success = jnp.full(num_levels, jnp.nan)
    if SUCCESS in batch.episode_info:
        success = mean(batch.episode_info[SUCCESS])
    elif success_return is not None:
        success = mean(batch.episode_return >= success_return)
    zeros = jnp.zeros(num_levels)
    of_values = {"value": zeros, "value_error": zeros, "positive_value_error": zeros}
    if values is not None:
        steps = jnp.maximum(total(jnp.ones(level.shape)), 1.0)
        of_values = {
            "value": total(values.value) / steps,
            "value_error": total(jnp.abs(values.advantage)) / steps,
            "positive_value_error": total(jnp.maximum(values.advantage, 0.0)) / steps,
        }
    return Report(
        episodes=episodes.astype(jnp.int32),
        episode_return=mean(batch.episode_return),
        best_return=jax.ops.segment_max(highest.ravel(), level, num_levels),
        success=success,
        **of_values,
    )
