"""PAIRED: a designer learns to build levels with a large regret, the difference between the returns
of two students.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout
from jaxrl.algorithms.base import Agent, check_channels
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Editor, Env, Tasks, can, check_tasks
from jaxrl.rollout import Episode, Experience, Transition
from jaxrl.rules.base import check_field
from jaxrl.teachers.base import report
from jaxrl.teachers.on_tasks import OnTasks, described, taught
from jaxrl.teachers.pool import LEVEL, LevelPool, OnLevel
from jaxrl.tree import pytree, replace

PROTAGONIST, ANTAGONIST = range(2)


@pytree
class State:
    """The states of the protagonist, the antagonist and the designer."""

    protagonist: Any
    antagonist: Any
    designer: Any

    @property
    def params(self) -> Any:
        return self.protagonist.params, self.antagonist.params, self.designer.params

    @property
    def clock(self) -> Clock:
        return self.designer.clock


@pytree
class PAIRED(OnTasks):
    """Protagonist Antagonist Induced Regret Environment Design (Dennis et al., 2020).

    `rl.Training(rl.teachers.PAIRED(rl.ppo(num_envs=32, num_steps=256), rl.ppo(num_envs=32,
    num_steps=62)), rl.envs.distribution("Maze-13"), steps)`. In each update the designer (the
    environment adversary of the paper) builds `designer.num_envs` levels, one in each episode of
    `tasks.editor()`. Two students with the same hyperparameters, the protagonist and the
    antagonist, play on all of them: the first episode of environment i is on level i modulo the
    number of levels, later ones are on random levels. The designer's reward, at the end of an
    episode, is the regret of its level: the highest return of the antagonist minus the mean return
    of the protagonist, clipped to at least 0.

    The evaluated agent is the protagonist, and `return`, `length` and losses are its own;
    `antagonist_return` and `regret` are means over levels, and `designer_NAME` are the designer's
    losses. Steps of both students count as environment steps; those of the designer do not.

    algo: of the students; its `num_steps` is at least the levels' `max_steps`, so that each first
    episode ends. designer: its `num_steps` is the editor's `max_steps`. held_out: the distribution
    of levels for evaluations; None: that of the tasks.
    """

    algo: OnPolicy
    designer: OnPolicy
    held_out: Tasks | None = None

    prefix = "paired"

    def __post_init__(self) -> None:
        for name in ("algo", "designer"):
            check_field(self, name, OnPolicy, "rl.ppo()")
            algo = vars(self)[name]
            if isinstance(algo, OnPolicy) and algo.rule.plays_groups:
                raise TypeError(
                    f"{type(algo.rule).__name__} chooses the episodes that it plays, and so does "
                    "PAIRED: use a rule without groups, such as rl.ppo()."
                )

    @property
    def steps_per_update(self) -> int:
        return 2 * self.algo.steps_per_update

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        self._check(env)
        key_level, key_designer, *keys = jax.random.split(key, 4)
        levels = jax.vmap(env.sample)(jax.random.split(key_level, self.num_envs))
        protagonist, antagonist = (
            self.algo.init(key, LevelPool(levels), num_updates) for key in keys
        )
        designer = self.designer.init(key_designer, env.editor(), num_updates)
        return State(protagonist, antagonist, designer)

    def _check(self, env: Tasks) -> None:
        check_tasks(env, self)
        if not can(env, Tasks.editor):
            raise TypeError(
                f"PAIRED builds levels, and {type(env).__name__} has no editor(): use "
                'rl.envs.distribution("Maze-13"), or write that method and a subclass of '
                "rl.Editor."
            )
        steps = env.editor().max_steps
        if self.designer.num_steps != steps:
            raise ValueError(
                f"The designer plays num_steps={self.designer.num_steps} in an update, and a level "
                f"takes {steps} steps to build: write PAIRED(..., rl.ppo(num_steps={steps}))."
            )
        longest = jax.eval_shape(env.sample, jax.random.key(0)).max_steps
        if self.algo.num_steps < longest:
            raise ValueError(
                f"num_steps={self.algo.num_steps} is shorter than an episode, max_steps={longest}, "
                f"so that a level may have no return: write rl.ppo(num_steps={longest})."
            )
        if self.algo.num_envs % self.designer.num_envs:
            raise ValueError(
                f"{self.algo.num_envs} environments of a student do not share "
                f"{self.designer.num_envs} levels evenly: write num_envs={self.algo.num_envs} for "
                "both."
            )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after an update of both students and of the designer, and metrics."""
        key_build, key_play, key_learn, key_design = jax.random.split(key, 4)
        editor = env.editor()
        built, designed = self._build(key_build, editor, state.designer)
        shared = np.arange(self.num_envs) % self.designer.num_envs
        pool = LevelPool(jax.tree.map(lambda x: x[shared], built))
        play = lambda key, student: self._play(key, pool, student)
        students = jax.tree.map(lambda *x: jnp.stack(x), state.protagonist, state.antagonist)
        students, experience = jax.vmap(play)(jax.random.split(key_play), students)
        learn = lambda *args: self.algo.learn(args[0], pool, *args[1:])
        students, losses = jax.vmap(learn)(jax.random.split(key_learn), students, experience)
        regret, returns = regrets(experience.transitions, self.designer.num_envs)
        rewarded = replace(designed.transitions, reward=at_end(designed.transitions, regret))
        designer, of_designer = self.designer.learn(
            key_design, editor, state.designer, replace(designed, transitions=rewarded)
        )
        batch = _of(PROTAGONIST, experience.transitions)
        metrics = rollout.episode_metrics(pool, batch)
        del metrics[LEVEL]
        others = _of(PROTAGONIST, losses) | taught(described(env, pool.levels), pool, batch)
        others |= {f"designer_{name}": x for name, x in of_designer.items()}
        others |= {"regret": regret.mean(), "antagonist_return": returns[ANTAGONIST].mean()}
        check_channels(pool.levels, others, self)
        protagonist, antagonist = (_of(i, students) for i in (PROTAGONIST, ANTAGONIST))
        return State(protagonist, antagonist, designer), metrics | others

    def _build(self, key: jax.Array, editor: Editor, state: Any) -> tuple[Env, Experience]:
        """Levels [N], and the designer's episodes in which it built them."""
        policy = self.designer.policy(editor, self.designer.agent(state), greedy=False)
        key_reset, key_steps = jax.random.split(key)
        num = self.designer.num_envs
        start = jax.vmap(lambda key: rollout.reset(key, editor, policy.rnn_state))(
            jax.random.split(key_reset, num)
        )

        def step(keys: jax.Array, episode: Episode) -> tuple[Episode, Transition]:
            rnn_state, action, extras = policy(keys[0], episode)
            episode = replace(episode, rnn_state=rnn_state)
            return rollout.step(keys[1], editor, episode, action, extras)

        keys = jax.random.split(key_steps, (editor.max_steps, num, 2))
        last, transitions = jax.lax.scan(
            lambda episodes, keys: jax.vmap(step)(keys, episodes), start, keys
        )
        return jax.vmap(editor.level)(last.state), Experience(start, transitions)

    def _play(self, key: jax.Array, pool: LevelPool, state: Any) -> tuple[Any, Experience]:
        """A student's state and experience, with episodes that start on the levels in order."""
        key_reset, key_play = jax.random.split(key)
        policy = self.algo.policy(pool, self.algo.agent(state), greedy=False)

        def reset(key: jax.Array, number: jax.Array) -> Episode:
            alone = LevelPool(jax.tree.map(lambda x: x[None], pool.at(number)))
            episode = rollout.reset(key, alone, policy.rnn_state)
            return replace(episode, state=OnLevel(number, episode.state.state))

        numbers = jnp.arange(pool.num_levels, dtype=jnp.int32)
        episodes = jax.vmap(reset)(jax.random.split(key_reset, pool.num_levels), numbers)
        return self.algo.collect(key_play, pool, replace(state, episodes=episodes))

    # ------------------------------------------------------------------------------------ acting

    def agent(self, state: State) -> Agent:
        """The agent of the protagonist."""
        return self.algo.agent(state.protagonist)


def regrets(batch: Transition, num_levels: int) -> tuple[jax.Array, jax.Array]:
    """The regret of each level [N], and the mean return of both students on each [2, N].

    batch: of the protagonist and the antagonist [2, T, B], where column i starts on level i modulo
    N.
    """
    level = batch.info[LEVEL].astype(jnp.int32) % num_levels
    found = jax.vmap(lambda batch, level: report(batch, level, num_levels))(batch, level)
    regret = found.best_return[ANTAGONIST] - found.episode_return[PROTAGONIST]
    return jnp.maximum(regret, 0.0), found.episode_return


def at_end(batch: Transition, reward: jax.Array) -> jax.Array:
    """Rewards of 0 except in the last step of each column, [T, B] of [B]."""
    return jnp.zeros_like(batch.reward).at[-1].set(reward)


def _of(student: int, states: Any) -> Any:
    return jax.tree.map(lambda x: x[student], states)
