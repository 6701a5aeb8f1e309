"""Teachers that replay levels: PLR, ACCEL and sampling for learnability."""

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks, can
from jaxrl.teachers.base import Notes, Report, Teacher, TeacherState
from jaxrl.teachers.fingerprints import fingerprints
from jaxrl.teachers.replay import LevelBuffer, LevelReplay
from jaxrl.teachers.scores import Learnability, MaxMC, Score
from jaxrl.tree import leaf, pytree, static


@pytree
class Replayed:
    """The level buffer, and the highest return so far on each of its levels. [C]."""

    buffer: LevelBuffer
    best: jax.Array


@pytree
class PLR(Teacher):
    """Prioritised level replay (PLR, Jiang et al., 2021a): new levels, and earlier levels replayed
    by their scores.

    score: of a level, recomputed after each update in which an episode on it ended. replay: the
    settings of the buffer and of sampling from it. robust: train only on levels of the buffer, once
    it holds `num_levels` (robust PLR, Jiang et al., 2021b); new levels are only played by scouts,
    which are not trained on, and `replay.replay` is not used. edited: the probability that a level
    for a scout is an edited level of the buffer; the others are new samples. No two levels of the
    buffer are equal.
    """

    score: Score = MaxMC()
    replay: LevelReplay = LevelReplay(capacity=4000)
    edited: float = leaf(0.0, "[0, 1]")
    robust: bool = static(default=False)

    @property
    def reads_values(self) -> bool:
        return self.score.reads_values

    @property
    def success_return(self) -> jax.Array | float | None:  # type: ignore[override]
        return self.score.success_return

    def check(self, tasks: Tasks, scouts: int) -> None:
        name = type(self).__name__
        self.score.check(tasks)
        if self.robust and not scouts:
            raise ValueError(
                f"A robust {name} trains on replayed levels alone, so that new ones need "
                "environments of their own: write rl.Taught(..., scouts=16), or robust=False."
            )
        edits = not (isinstance(self.edited, int | float) and self.edited == 0)
        if edits and not can(tasks, Tasks.mutate):
            raise TypeError(
                f"{name} edits levels, and {type(tasks).__name__} has no mutate(key, env): write "
                "that method, or use rl.teachers.PLR()."
            )
        if edits and not scouts:
            raise ValueError(
                f"{name} plays edited levels before it trains on them, in environments of their "
                "own: write rl.Taught(..., scouts=16)."
            )

    def init(self, key: jax.Array, tasks: Tasks) -> Replayed:
        return Replayed(self.replay.init(tasks), jnp.full(self.replay.capacity, -jnp.inf))

    def draw(
        self, key: jax.Array, state: TeacherState, tasks: Tasks, num: int
    ) -> tuple[Env, Notes]:
        replay = tree.replace(self.replay, replay=1.0) if self.robust else self.replay
        levels = replay.draw(key, state.buffer, tasks, num)[0]
        return levels, self._notes(tasks, levels)

    def _notes(self, tasks: Tasks, levels: Env) -> Notes:
        return jax.vmap(lambda env: self.score.note(tasks, env))(levels)

    def scout(
        self, key: jax.Array, state: TeacherState, tasks: Tasks, num: int
    ) -> tuple[Env, Notes]:
        key_old, key_edit, key_edited, key_new = jax.random.split(key, 4)
        new = jax.vmap(tasks.sample)(jax.random.split(key_new, num))
        if not can(tasks, Tasks.mutate):
            return new, self._notes(tasks, new)
        replay = tree.replace(self.replay, replay=1.0)
        old, slot = replay.draw(key_old, state.buffer, tasks, num)
        children = jax.vmap(tasks.mutate)(jax.random.split(key_edit, num), old)
        edited = jax.random.bernoulli(key_edited, self.edited, (num,))
        levels = tree.where(edited & (slot < self.replay.capacity), children, new)
        return levels, self._notes(tasks, levels)

    def tell(
        self,
        key: jax.Array,
        state: TeacherState,
        tasks: Tasks,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[Replayed, Notes]:
        capacity = self.replay.capacity
        slot = state.buffer.find(levels)
        before = jnp.where(slot < capacity, state.best[jnp.minimum(slot, capacity - 1)], -jnp.inf)
        prints = fingerprints(levels)
        same = (prints[:, None] == prints[None]).all(-1)
        best = jnp.maximum(before, jnp.max(jnp.where(same, report.best_return[None], -jnp.inf), 1))
        score = self.score(report, best, notes)
        # of rows with equal levels, only the last one with an episode is used
        later = same & report.known[None] & jnp.triu(jnp.ones(same.shape, bool), 1)
        known = report.known & jnp.isfinite(score) & ~later.any(1)
        buffer, slots = self.replay.tell(state.buffer, levels, slot, score, known)
        best = state.best.at[jnp.where(known, slots, capacity)].set(best, mode="drop")
        return Replayed(buffer, best), notes

    def metrics(self, state: TeacherState) -> Metrics:
        filled = state.buffer.filled
        total = jnp.sum(state.buffer.regret, where=filled)
        return {"levels_kept": filled.sum(), "level_score": total / jnp.maximum(filled.sum(), 1)}


@pytree
class ACCEL(PLR):
    """Robust PLR with edits of earlier levels, so that levels evolve (ACCEL, Parker-Holder et al.,
    2022).

    Tasks should sample simple levels, such as empty mazes.
    """

    replay: LevelReplay = LevelReplay(staleness=0.5, capacity=4000)
    edited: float = 0.8
    robust: bool = static(default=True)


@pytree
class SFL(PLR):
    """Sampling for learnability (SFL, Rutherford et al., 2024): half of the levels are drawn from
    those with the highest learnability p (1 - p), where p is the success rate. Scouts find them.

    The published method evaluates thousands of new levels every 50 or 100 updates; here scouts play
    some in each update, and the training levels are scored again. A success rate needs several
    episodes per level in an update: write `num_levels` below `num_envs`, and `scout_levels` below
    `scouts`.
    """

    score: Score = Learnability()
    replay: LevelReplay = LevelReplay(temperature=1e6, staleness=0.0, min_regret=0.0, capacity=1000)
