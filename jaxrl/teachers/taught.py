"""An algorithm with a teacher that chooses the level of each episode."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout, tree
from jaxrl.algorithms.around import AroundState
from jaxrl.algorithms.base import Algorithm, check_channels
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks, check_tasks
from jaxrl.errors import check_counts
from jaxrl.rollout import Episode, Experience
from jaxrl.rules.base import check_field
from jaxrl.teachers.base import Notes, Report, Teacher, TeacherState, report
from jaxrl.teachers.on_tasks import OnTasks, described, taught
from jaxrl.teachers.pool import LEVEL, LevelPool, OnLevel
from jaxrl.teachers.uniform import Uniform
from jaxrl.tree import pytree, replace, static


@pytree
class InPlay:
    """The current level of each of B environments, the teacher's notes on it, and the numbers that
    describe it, {} for scouts. [B].
    """

    levels: Env
    notes: Notes
    described: Metrics


@pytree
class Scouts:
    """Episodes that are not used for training, and their levels. [S]."""

    episodes: Episode
    in_play: InPlay


@pytree
class State(AroundState):
    """The states of the algorithm and of the teacher, and the levels of episodes in progress.

    scouts: () without scouts.
    """

    algo: Any
    teacher: TeacherState
    in_play: InPlay
    scouts: Scouts | tuple[()]


@pytree
class Taught(OnTasks):
    """An algorithm that trains on levels of a distribution, chosen by a teacher.

    `rl.Training(rl.Taught(rl.ppo(), rl.teachers.PLR()), rl.envs.distribution("Maze-13"), steps)`.
    In each update the teacher draws `num_levels` levels, and each episode that starts is on a
    random one of them. Afterwards the teacher reads a `Report` on the levels. A report covers one
    update: the returns of the episodes that ended in it, and the values of its steps.

    scouts: number of additional environments. Their steps are reported to the teacher and counted
    as environment steps, but not trained on. scout_levels: number of levels drawn for them in each
    update; 0: one for each. held_out: the distribution of levels for evaluations, not used by the
    teacher; None: new samples of the tasks.
    """

    algo: Algorithm
    teacher: Teacher = Uniform()
    held_out: Tasks | None = None
    num_levels: int = static(default=32)
    scouts: int = static(default=0)
    scout_levels: int = static(default=0)

    prefix = "taught"

    def __post_init__(self) -> None:
        check_field(self, "algo", Algorithm, "rl.ppo()")
        check_field(self, "teacher", Teacher, "rl.teachers.PLR()")
        if isinstance(self.algo, Algorithm) and type(self.algo).learn is Algorithm.learn:
            raise TypeError(
                f"{type(self.algo).__name__} does not define collect() and learn(), which a "
                "teacher needs: use rl.ppo(), rl.dqn() or another algorithm that does."
            )
        check_counts(self, "num_levels")
        check_counts(self, "scouts", "scout_levels", min_value=0)

    @property
    def steps_per_update(self) -> int:
        return self.algo.steps_per_update + self.scouts * self._scout_steps

    @property
    def _scout_steps(self) -> int:
        """Steps of each scout in an update: as many as each environment takes."""
        return self.algo.steps_per_update // max(self.algo.num_envs, 1)

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        if not jax.tree.leaves(jax.eval_shape(env.sample, key)):
            raise ValueError(
                f"The samples of {type(env).__name__} have no leaves, so they are all equal: train "
                "on one without a teacher, rl.Training(algo, env, steps)."
            )
        self.teacher.check(env, self.scouts)
        self.teacher.check_algo(env, self.algo)
        key_teacher, key_draw, key_scout, key_algo = jax.random.split(key, 4)
        teacher = self.teacher.init(key_teacher, env)
        drawn = self._draw(key_draw, teacher, env)
        algo = self.algo.init(key_algo, LevelPool(drawn.levels, tasks=env), num_updates)
        scouts: Scouts | tuple[()] = ()
        if self.scouts:
            key_levels, key_reset = jax.random.split(key_scout)
            found = self.teacher.scout(key_levels, teacher, env, self._num_scout_levels)
            pool = LevelPool(found[0], tasks=env)
            policy = self.algo.policy(pool, self.algo.agent(algo), greedy=False)
            episodes = jax.vmap(lambda key: rollout.reset(key, pool, policy.rnn_state))(
                jax.random.split(key_reset, self.scouts)
            )
            scouts = Scouts(episodes, _in_play(episodes, InPlay(*found, {})))
        return State(algo, teacher, _in_play(algo, drawn), scouts)

    def _draw(self, key: jax.Array, teacher: TeacherState, env: Tasks) -> InPlay:
        """Levels to train on. [num_levels]."""
        levels, notes = self.teacher.draw(key, teacher, env, self.num_levels)
        return InPlay(levels, notes, described(env, levels))

    @property
    def _num_scout_levels(self) -> int:
        return self.scout_levels or self.scouts

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after an update of the algorithm and of the teacher, and the metrics of
        both; `taught_NAME` is the mean over the training steps of a number that describes levels
        (`Tasks.describe`).
        """
        keys = jax.random.split(key, 6)
        pool, both = _pool(env, state.in_play, self._draw(keys[0], state.teacher, env))
        before = _renumbered(state.algo)
        before, experience = self.algo.collect(keys[1], pool, before)
        metrics = rollout.episode_metrics(pool, experience.transitions)
        del metrics[LEVEL]
        seen = self._report(pool, before, experience)
        teacher, notes = self.teacher.tell(
            keys[2], state.teacher, env, both.levels, both.notes, seen
        )
        after, losses = self.algo.learn(keys[3], pool, before, experience)
        scouts = state.scouts
        if self.scouts:
            teacher, scouts = self._scout(keys[4:], env, teacher, before, state.scouts)
        teacher = self.teacher.post_learn(teacher, self.algo.agent(after))
        new_state = State(after, teacher, _in_play(after, replace(both, notes=notes)), scouts)
        others = taught(both.described, pool, experience.transitions)
        others |= self.teacher.metrics(teacher) | losses
        check_channels(pool.levels, others, self)
        return new_state, metrics | others

    def _scout(
        self, keys: jax.Array, env: Tasks, teacher: TeacherState, algo: Any, scouts: Any
    ) -> tuple[TeacherState, Scouts]:
        """The states of the teacher and of the scouts after their steps with `algo`'s policy."""
        key_draw, key_play = keys
        key_play, key_tell = jax.random.split(key_play)
        drawn = self.teacher.scout(key_draw, teacher, env, self._num_scout_levels)
        pool, both = _pool(env, scouts.in_play, InPlay(*drawn, {}))
        policy = self.algo.policy(pool, self.algo.agent(algo), greedy=False)
        start = _renumbered(scouts.episodes)
        episodes, batch = rollout.rollout(key_play, pool, policy, start, self._scout_steps)
        seen = self._report(pool, algo, jax.lax.stop_gradient(Experience(start, batch)))
        teacher, notes = self.teacher.tell(key_tell, teacher, env, both.levels, both.notes, seen)
        return teacher, Scouts(episodes, _in_play(episodes, replace(both, notes=notes)))

    def _report(self, pool: LevelPool, state: Any, experience: Experience) -> Report:
        values = None
        if self.teacher.reads_values:
            values = self.algo.values(pool, state, experience)
        batch = experience.transitions
        level = batch.info[LEVEL].astype(jnp.int32)
        return report(batch, level, pool.num_levels, values, self.teacher.success_return)

    def freeze(self, active: jax.Array, new_state: State, state: State) -> State:
        frozen = tree.where(active, replace(new_state, algo=()), replace(state, algo=()))
        return replace(frozen, algo=self.algo.freeze(active, new_state.algo, state.algo))


# --------------------------------------------------------------------------------- levels in play


def _pool(tasks: Tasks, in_play: InPlay, drawn: InPlay) -> tuple[LevelPool, InPlay]:
    """The levels in play [B] and the drawn ones [K], as an environment and with what is known of
    them. [B + K].
    """
    first = jax.tree.leaves(in_play.levels)[0].shape[0]
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), in_play, drawn)
    return LevelPool(both.levels, first, tasks), both


def _in_play(states: Any, levels: InPlay) -> InPlay:
    """The current levels of environments, from all levels indexed by number."""
    (numbers,) = [x.number for x in _nodes(states) if isinstance(x, OnLevel)]
    return jax.tree.map(lambda x: x[numbers], levels)


def _renumbered(states: Any) -> Any:
    """States of an algorithm or of episodes, renumbered so that environment i is on level i, or on
    the level of the first environment that is on the same one.
    """

    def renumber(x: Any) -> Any:
        if not isinstance(x, OnLevel):
            return x
        is_same = x.number[:, None] == x.number[None]
        return OnLevel(jnp.argmax(is_same, 1).astype(jnp.int32), x.state)

    return jax.tree.map(renumber, states, is_leaf=lambda x: isinstance(x, OnLevel))


def _nodes(states: Any) -> list[Any]:
    return jax.tree.leaves(states, is_leaf=lambda x: isinstance(x, OnLevel))
