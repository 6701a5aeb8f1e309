"""The base classes of meta-learning: the inner problem, and the meta-learner that works on it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl.algorithms.base import Agent, Algorithm, State
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.errors import not_defined
from jaxrl.rollout import Evaluation, Policy

SELECTION = 0x5E1EC7  # the seed of the tasks that choose a checkpoint, the same at each evaluation


class InnerProblem:
    """Base class of what gives meta-parameters a score: a pytree.

    meta_params: the fields that are meta-learned, by name: trees of floats.
    """

    meta_params: tuple[str, ...]  # static

    @property
    def tuned(self) -> dict[str, Any]:
        """The initial meta-parameters, {name: value}."""
        raise not_defined(self, InnerProblem.tuned)

    def with_params(self, params: dict[str, Any]) -> Any:
        """The learner (or model) with these meta-parameters."""
        raise not_defined(self, InnerProblem.with_params)

    def run(
        self,
        key: jax.Array,
        tasks: Tasks,
        ask: Callable[[Any], Any],
        crn_group: np.ndarray,
        num_tasks: int,
        levels: Any = None,
    ) -> tuple[jax.Array, Metrics]:
        """The score of each of M members on each of its K tasks [M, K], and metrics.

        ask: the meta-parameters of a member, by its number. crn_group: members of the same number
        use common random numbers: the same tasks, keys and lifetimes. [M]. levels: environments to
        use in place of samples of the tasks, task by task, for each group. [K * groups].
        """
        raise not_defined(self, InnerProblem.run)

    def scores(
        self, key: jax.Array, tasks: Tasks, params: dict[str, Any], num_tasks: int
    ) -> jax.Array:
        """The score of these meta-parameters on each of `num_tasks` sampled tasks. [num_tasks]."""
        return self.run(key, tasks, lambda member: params, np.zeros(1, int), num_tasks)[0][0]

    def evaluate(self, tasks: Tasks, params: dict[str, Any], num_tasks: int) -> jax.Array:
        """The scores on the selection tasks, which are the same at each call. [num_tasks]."""
        return self.scores(jax.random.key(SELECTION), tasks, params, num_tasks)


class MetaLearner(Algorithm):
    """Base class of algorithms that learn meta-parameters, on a distribution of environments.

    The `env` of its methods is a `Tasks`. A state's `params` are the meta-parameters and its
    `clock` counts meta-updates, each of which is one step of a `Training`. An evaluation takes no
    steps: it is done at each row, and `eval_step` counts its tasks.
    """

    inner: Any  # the InnerProblem; a field, or a property

    @property
    def steps_per_update(self) -> int:
        return 1

    def agent(self, state: State) -> Agent:
        """The meta-parameters, {name: value}: what a folder keeps."""
        return state.params

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        raise TypeError(
            f"{type(self).__name__} learns parameters of a learner and has no policy: write "
            "algo.inner.with_params(algo.agent(state)) for the learner, and train that."
        )

    def evaluate(self, key: jax.Array, env: Tasks, state: State, num_episodes: int) -> Evaluation:
        """The score of the meta-parameters on each of `num_episodes` selection tasks."""
        return Evaluation(self.inner.evaluate(env, state.params, num_episodes), {})

    def evaluation_steps(self, env: Tasks, num_episodes: int) -> int:
        return 0
