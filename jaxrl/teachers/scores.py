"""Scores of levels: estimates of the learning potential of each, from reports."""

import math
from typing import Any

import jax

from jaxrl.env import Env, Tasks, can
from jaxrl.errors import not_defined
from jaxrl.teachers.base import SUCCESS, Report
from jaxrl.tree import leaf, pytree


class Score:
    """Base class of scores: a pytree, called with the reports of N levels.

    reads_values: True for one that reads the learner's values. success_return: as in `Teacher`.
    """

    reads_values: Any = False
    success_return: Any = None

    def check(self, tasks: Tasks) -> None:
        """Raise a TypeError if the levels lack what the score reads."""

    def note(self, tasks: Tasks, env: Env) -> Any:
        """What the score reads of a level itself, computed when it is drawn; () for nothing."""
        return ()

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        """Scores [N], higher for levels with more learning potential.

        best: the highest return so far on each level. [N]. notes: from `note`. [N, ...].
        """
        raise not_defined(self, Score.__call__)


@pytree
class Regret(Score):
    """The regret: the optimal return, which the levels compute (`optimum`), minus the mean
    return.
    """

    def check(self, tasks: Tasks) -> None:
        if not can(tasks, Tasks.optimum):
            raise TypeError(
                f"Regret needs the optimal return of a level, and {type(tasks).__name__} has no "
                "optimum(env): write that method, or use rl.teachers.MaxMC(), which reads the "
                "highest return so far."
            )

    def note(self, tasks: Tasks, env: Env) -> jax.Array:
        """The optimal return."""
        return tasks.optimum(env)

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return notes - report.episode_return


@pytree
class MaxMC(Score):
    """Maximum Monte Carlo: the highest return so far on a level minus the mean value estimate
    (Jiang et al., 2021b).
    """

    reads_values = True

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return best - report.value


@pytree
class PositiveValueLoss(Score):
    """The mean over steps of the positive part of the advantage (Jiang et al., 2021b)."""

    reads_values = True

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return report.positive_value_error


@pytree
class ValueLoss(Score):
    """The L1 value loss: the mean over steps of the absolute advantage (Jiang et al., 2021a)."""

    reads_values = True

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return report.value_error


@pytree
class Learnability(Score):
    """The learnability p (1 - p), where p is the success rate (Rutherford et al., 2024).

    p is measured in one update, and a single episode gives a score of 0: play several episodes on
    each level, with fewer levels or longer rollouts.

    threshold: the lowest return that counts as a success, on levels without a channel "success".
    """

    threshold: float = leaf(float("inf"), "(-inf, inf]")

    @property
    def success_return(self) -> jax.Array | float:  # type: ignore[override]
        return self.threshold

    def check(self, tasks: Tasks) -> None:
        is_given = not (isinstance(self.threshold, float) and math.isinf(self.threshold))
        if SUCCESS not in tasks.channels and not is_given:
            raise TypeError(
                f"Learnability needs a definition of success, and {type(tasks).__name__} has no "
                'channel "success": write Learnability(threshold=0.5), a return, or report '
                '"success" in the info of a step and name it in channels.'
            )

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return report.success * (1.0 - report.success)


@pytree
class Deficit(Score):
    """The difference `target` - mean return."""

    target: float = leaf(0.0, "(-inf, inf)")

    def __call__(self, report: Report, best: jax.Array, notes: Any) -> jax.Array:
        return self.target - report.episode_return
