"""Evolving what learners are made of: a meta-learner is an algorithm whose environment is a
distribution of tasks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.env import Tasks, check_tasks
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import ES, Strategy
from jaxrl.rules.base import Metrics
from jaxrl.tree import check_counts, pytree, static


@pytree
class Evolution:
    """Evolves fields of a learner by how well it does at the end of whole lives on fresh tasks.

    `rl.Training(rl.Evolution(rl.InnerLoop(...), rl.ES(...)), tasks, steps=150)` lives 150 generations:
    a step is one of them. `rl.sweep` of it has a member for each meta-seed, checkpoints, and with
    keep_best what did best on the selection tasks.

    strategy: an `ES`, or another that asks and tells. num_tasks: of each member in each generation;
    those that share their luck, as the two of a pair, live on the same ones.
    """

    lives: InnerLoop = InnerLoop()
    strategy: Strategy = ES()
    num_tasks: int = static(default=1)

    steps_per_update = 1

    def __post_init__(self) -> None:
        check_counts(self, "num_tasks")

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> Any:
        check_tasks(env, self)
        return self.strategy.init(self.lives.tuned, num_updates)

    def update(self, key: jax.Array, env: Tasks, state: Any) -> tuple[Any, Metrics]:
        """One generation.

        `return` is its mean score, `length` its mean lifetime, `episodes` the number of its lives.
        """
        state, metrics, _ = self.generation(key, env, state)
        return state, metrics

    def generation(
        self, key: jax.Array, env: Tasks, state: Any, levels: Any = None
    ) -> tuple[Any, Metrics, jax.Array]:
        """The same, also on `levels` [num_levels]; and the scores of those that lived on each.
        [members, num_levels].
        """
        key_ask, key_live = jax.random.split(key)
        ask, luck = lambda member: self.strategy.ask(key_ask, state, member), self.strategy.luck
        scores, metrics = self.lives.live(key_live, env, ask, luck, self.num_tasks, levels)
        state, told = self.strategy.tell(key_ask, state, scores)
        together = np.argsort(luck, kind="stable").reshape(
            luck.max() + 1, -1
        )  # as many share each luck
        by_level = jnp.moveaxis(scores[together], 0, -1).reshape(together.shape[1], -1)
        return state, {"return": told.pop("fitness")} | metrics | told, by_level

    @property
    def num_levels(self) -> int:
        """How many a generation lives on."""
        return self.num_tasks * int(self.strategy.luck.max() + 1)

    def judge(self, key: jax.Array, env: Tasks, state: Any, episodes: int) -> jax.Array:
        """The mean score of what has evolved, on `episodes` selection tasks. []."""
        return self.lives.judge(env, state.params, episodes)
