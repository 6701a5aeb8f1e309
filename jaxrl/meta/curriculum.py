"""Curricula of a meta-learner's levels: new ones, and earlier ones of high regret again."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Clock, Metrics
from jaxrl.env import Tasks, check_tasks
from jaxrl.meta.base import InnerProblem, MetaLearner
from jaxrl.meta.evolution import Evolution
from jaxrl.teachers.replay import LevelBuffer, LevelReplay
from jaxrl.tree import pytree


@pytree
class State:
    """The state of the evolution, and the buffer of levels."""

    search: Any
    buffer: LevelBuffer

    @property
    def params(self) -> Any:
        """The meta-parameters."""
        return self.search.params

    @property
    def clock(self) -> Clock:
        """Generations."""
        return self.search.clock


@pytree
class Curriculum(MetaLearner):
    """Evolution on levels drawn by regret, as GROOVE's (Jackson et al., 2023).

    `rl.Training(Curriculum(rl.Evolution(...)), tasks, steps=150)`. The regret of a level is 1 less
    the mean score on it: where a score is the return as a share of the exact optimum, (optimum -
    return) / optimum, GROOVE's algorithmic regret with the optimum in place of a trained
    antagonist. As levels are ranked, any other score serves too, so far as it is comparable between
    levels. A level without a finite score has the lowest regret, -inf.

    It is evaluated on levels as the tasks sample them.
    """

    evolution: Evolution = Evolution()
    levels: LevelReplay = LevelReplay()

    @property
    def inner(self) -> InnerProblem:
        """The inner problem of the evolution."""
        return self.evolution.inner

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        if not isinstance(self.evolution, Evolution):
            kind = type(self.evolution).__name__
            raise TypeError(
                f"Curriculum chooses the levels of an rl.Evolution, and {kind} samples levels "
                "itself: write rl.Curriculum(rl.Evolution(...))."
            )
        return State(self.evolution.init(key, env, num_updates), self.levels.init(env))

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one generation, and the evolution's metrics, with `replayed`, the
        share of its levels that are old, and `regret`, the mean over the buffer.
        """
        key_draw, key_run = jax.random.split(key)
        levels, slot = self.levels.draw(key_draw, state.buffer, env, self.evolution.num_levels)
        search, metrics, scores = self.evolution.generation(key_run, env, state.search, levels)
        finite = jnp.isfinite(scores)
        mean = jnp.sum(jnp.where(finite, scores, 0.0), 0) / jnp.maximum(finite.sum(0), 1)
        regret = jnp.where(finite.any(0), 1.0 - mean, -jnp.inf)
        buffer, _ = self.levels.tell(state.buffer, levels, slot, regret)
        known = buffer.filled & jnp.isfinite(buffer.regret)
        return State(search, buffer), metrics | {
            "replayed": jnp.mean(slot < self.levels.capacity),
            "regret": jnp.mean(buffer.regret, where=known),
        }
