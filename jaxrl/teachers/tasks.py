"""Teachers of a finite set of tasks, with probabilities computed from the results on each task."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.errors import not_defined
from jaxrl.teachers.base import Notes, Report, Teacher
from jaxrl.teachers.scores import Deficit, Learnability, Score
from jaxrl.tree import leaf, pytree, replace


@pytree
class TaskState:
    """The running report of each of L tasks, and anything else that a teacher stores, else ().

    running: `episodes` is the total so far and `best_return` the highest so far; the rest are
    running means. 0 and -inf before the first episode. [L].
    """

    running: Report
    carry: Any = ()


class TaskTeacher(Teacher):
    """Base class of teachers that draw the tasks of a finite set, such as `rl.envs.LevelSet`.

    uniform: the weight of the uniform distribution in a mixture with probabilities proportional to
    `weights`. rate: step size of the running means, the weight of the latest update.

    Notes are the indices of the tasks.
    """

    uniform: Any
    rate: Any

    def init_carry(self, num_tasks: int) -> Any:
        """Return what the teacher stores besides the running reports; () if nothing."""
        return ()

    def weights(self, state: TaskState, tasks: Tasks) -> jax.Array:
        """Unnormalised weights of the tasks; all 0 is uniform. [L]."""
        raise not_defined(self, TaskTeacher.weights)

    def post_update(self, carry: Any, running: Report, known: jax.Array) -> Any:
        """Return `carry` after an update. known: True for tasks with an episode in it. [L]."""
        return carry

    def check(self, tasks: Tasks, scouts: int) -> None:
        if tasks.num_levels is None:
            raise TypeError(
                f"{type(self).__name__} has a probability for each of a finite number of tasks, "
                f"and {type(tasks).__name__} has no num_levels: use "
                "rl.envs.LevelSet(rl.envs.family([env, ...])), or a teacher such as "
                "rl.teachers.PLR(), which keeps a buffer of samples."
            )

    def init(self, key: jax.Array, tasks: Tasks) -> TaskState:
        zeros = jnp.zeros(tasks.num_levels)
        running = Report(zeros.astype(jnp.int32), zeros, zeros - jnp.inf, *[zeros] * 4)
        return TaskState(running, self.init_carry(tasks.num_levels))

    def probabilities(self, state: TaskState, tasks: Tasks) -> jax.Array:
        """The probability of each task. [L]."""
        weights = self.weights(state, tasks)
        total = weights.sum()
        even = jnp.full(len(weights), 1.0 / len(weights))
        share = jnp.where(total > 0.0, weights / jnp.where(total > 0.0, total, 1.0), even)
        return self.uniform * even + (1.0 - self.uniform) * share

    def draw(self, key: jax.Array, state: TaskState, tasks: Tasks, num: int) -> tuple[Env, Notes]:
        logits = jnp.log(self.probabilities(state, tasks))
        number = jax.random.categorical(key, logits, shape=(num,)).astype(jnp.int32)
        return jax.vmap(tasks.numbered)(number), number

    def tell(
        self,
        key: jax.Array,
        state: TaskState,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[TaskState, Notes]:
        new, old = by_task(notes, report, tasks.num_levels), state.running
        rate = jnp.where(old.known, self.rate, 1.0)
        mean = lambda before, now: jnp.where(new.known, before + rate * (now - before), before)
        running = replace(
            jax.tree.map(mean, old, new),
            episodes=old.episodes + new.episodes,
            best_return=jnp.maximum(old.best_return, new.best_return),
        )
        return TaskState(running, self.post_update(state.carry, running, new.known)), notes

    def metrics(self, state: TaskState) -> Metrics:
        return {
            "task_return": state.running.episode_return.mean(),
            "worst_task_return": state.running.episode_return.min(),
        }


def by_task(number: jax.Array, report: Report, num_tasks: int) -> Report:
    """The report of each task [L], from that of levels [N]. number: the task of each level [N]."""
    total = lambda x: jax.ops.segment_sum(x, number, num_tasks)
    episodes = total(report.episodes)

    def mean(x: jax.Array) -> jax.Array:
        known = jnp.where(report.known, x * report.episodes, 0.0)
        return total(known) / jnp.maximum(episodes, 1)

    return replace(
        jax.tree.map(mean, report),
        episodes=episodes,
        best_return=jax.ops.segment_max(report.best_return, number, num_tasks),
    )


class ScoredTasks(TaskTeacher):
    """Base class of teachers with probabilities from a score of the running reports."""

    score: Any

    @property
    def reads_values(self) -> bool:
        return self.score.reads_values

    @property
    def success_return(self) -> jax.Array | float | None:  # type: ignore[override]
        return self.score.success_return

    def check(self, tasks: Tasks, scouts: int) -> None:
        super().check(tasks, scouts)
        self.score.check(tasks)

    def scores(self, state: TaskState, tasks: Tasks) -> jax.Array:
        """The score of each task; a task without an episode has the highest of the others. [L]."""
        note = lambda number: self.score.note(tasks, tasks.numbered(number))
        notes = jax.vmap(note)(jnp.arange(tasks.num_levels))
        found = self.score(state.running, state.running.best_return, notes)
        known = state.running.known
        highest = jnp.max(jnp.where(known, found, -jnp.inf))
        return jnp.where(known, found, jnp.where(known.any(), highest, 1.0))


@pytree
class TaskSoftmax(ScoredTasks):
    """Tasks in proportion to exp(score / temperature), as domains in RuleReasoner (Liu et al.,
    2025). The default score is 1 minus the mean return.
    """

    score: Score = Deficit(1.0)
    temperature: float = leaf(0.5, "(0, inf)")
    uniform: float = leaf(0.1, "[0, 1]")
    rate: float = leaf(0.3, "(0, 1]")

    def weights(self, state: TaskState, tasks: Tasks) -> jax.Array:
        return jax.nn.softmax(self.scores(state, tasks) / self.temperature)


@pytree
class TaskProportion(ScoredTasks):
    """Tasks in proportion to a score, by default p (1 - p), the variance of success, as in
    variance-aware sampling (MMR1, Leng et al., 2025). Negative scores count as 0.
    """

    score: Score = Learnability()
    uniform: float = leaf(0.2, "[0, 1]")
    rate: float = leaf(0.3, "(0, 1]")

    def weights(self, state: TaskState, tasks: Tasks) -> jax.Array:
        return jnp.maximum(self.scores(state, tasks), 0.0)


@pytree
class TaskMultipliers(TaskTeacher):
    """Tasks in proportion to Lagrange multipliers of the constraints that the return of each task
    is at least `target`, by dual ascent (Feasible Learning, Ramirez et al., 2025).

    If tasks are drawn in proportion to their multipliers, the expected gradient is, up to a factor,
    that of the sum of losses weighted by the multipliers. They start at 1. After an update with an
    episode of the task, `step` * (target - return - relaxation * multiplier) is added to its
    multiplier, which is then clipped to at least 0.

    relaxation: bounds the multipliers of infeasible constraints, 1 / alpha in the paper; 0: none.
    """

    target: float = leaf(0.0, "(-inf, inf)")
    step: float = leaf(0.1, "(0, inf)")
    relaxation: float = leaf(0.0, "[0, inf)")
    uniform: float = leaf(0.1, "[0, 1]")
    rate: float = leaf(1.0, "(0, 1]")

    def init_carry(self, num_tasks: int) -> jax.Array:
        """The multiplier of each task. [L]."""
        return jnp.ones(num_tasks)

    def weights(self, state: TaskState, tasks: Tasks) -> jax.Array:
        return state.carry

    def post_update(self, carry: jax.Array, running: Report, known: jax.Array) -> jax.Array:
        violation = self.target - running.episode_return - self.relaxation * carry
        return jnp.where(known, jnp.maximum(carry + self.step * violation, 0.0), carry)
