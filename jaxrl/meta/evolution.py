"""Evolution of a learner's parts: a meta-learner, one update of which is a generation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.clock import Metrics
from jaxrl.env import Tasks, check_tasks
from jaxrl.errors import check_counts
from jaxrl.meta.base import InnerProblem, MetaLearner
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import ES, Strategy
from jaxrl.tree import pytree, static


@pytree
class Evolution(MetaLearner):
    """Evolution of meta-parameters by the scores of whole training runs on fresh tasks.

    `rl.Training(rl.Evolution(rl.InnerLoop(...), rl.ES(...)), tasks, steps=150)` runs 150
    generations: a step is one of them. `rl.sweep` of it has a member for each meta-seed,
    checkpoints, and with keep_best the meta-parameters of the best score on the selection tasks.

    inner: what gives scores. strategy: an `ES`, or another `Strategy`. num_tasks: of each member in
    each generation; members of one group of common random numbers, as the two of an antithetic
    pair, get the same ones.
    """

    inner: InnerProblem = InnerLoop()
    strategy: Strategy = ES()
    num_tasks: int = static(default=1)

    def __post_init__(self) -> None:
        check_counts(self, "num_tasks")

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> Any:
        check_tasks(env, self)
        return self.strategy.init(self.inner.tuned, num_updates)

    def update(self, key: jax.Array, env: Tasks, state: Any) -> tuple[Any, Metrics]:
        """Return the state after one generation, and metrics; `return` is the mean score."""
        state, metrics, _ = self.generation(key, env, state)
        return state, metrics

    def generation(
        self, key: jax.Array, env: Tasks, state: Any, levels: Any = None
    ) -> tuple[Any, Metrics, jax.Array]:
        """As `update`, also with the scores of the members that ran on each level.
        [members, num_levels].

        levels: environments [num_levels], in place of samples of `env`.
        """
        key_ask, key_run = jax.random.split(key)
        crn_group = self.strategy.crn_group
        scores, metrics = self.inner.run(
            key_run,
            env,
            lambda member: self.strategy.ask(key_ask, state, member),
            crn_group,
            self.num_tasks,
            levels,
        )
        state, reported = self.strategy.tell(key_ask, state, scores)
        members = np.argsort(crn_group, kind="stable").reshape(crn_group.max() + 1, -1)
        by_level = jnp.moveaxis(scores[members], 0, -1).reshape(members.shape[1], -1)
        return state, {"return": reported.pop("fitness")} | metrics | reported, by_level

    @property
    def num_levels(self) -> int:
        """The number of levels that a generation runs on."""
        return self.num_tasks * int(self.strategy.crn_group.max() + 1)
