"""SAMPLR: transitions with aleatoric parameters from their true distribution, under a curriculum.

A teacher prefers some levels, and so shifts the distribution of their hidden random (aleatoric)
parameters, such as a coin that is flipped before the episode. A policy trained on these levels as
they are is optimised for the shifted distribution (curriculum-induced covariate shift).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms.around import Around
from jaxrl.algorithms.base import Algorithm, Relabel
from jaxrl.clock import Metrics
from jaxrl.env import Env, State, Step, Tasks, can
from jaxrl.rollout import Action, Experience, Transition
from jaxrl.rules.base import check_field
from jaxrl.spaces import Space
from jaxrl.teachers.pool import LevelPool
from jaxrl.tree import flat, pytree, replace

REDRAWN = "redrawn"  # the channel with the reward and the observation of the redrawn step


@pytree
class Redrawn(Env):
    """A pool of levels that also takes each step on a redrawn level, from the same state.

    The channel "redrawn" contains the reward of that step, followed by its observation. [1 + size].
    """

    pool: LevelPool

    @property
    def max_steps(self) -> int:  # type: ignore[override]
        return self.pool.max_steps

    @property
    def action_space(self) -> Space:  # type: ignore[override]
        return self.pool.action_space

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.pool.channels, REDRAWN)

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        return self.pool.reset(key)

    def step(self, key: jax.Array, state: Any, action: Action) -> tuple[State, Step]:
        key_step, key_redraw, key_other = jax.random.split(key, 3)
        after, step = self.pool.step(key_step, state, action)
        tasks: Any = self.pool.tasks
        level = tasks.redraw(key_redraw, self.pool.at(state.number), state.state)
        other = level.step(key_other, state.state, action)[1]
        found = flat((other.reward, other.obs))
        return after, replace(step, info=step.info | {REDRAWN: found})


@pytree
class SAMPLR(Around):
    """An algorithm that learns from redrawn transitions, for use inside `rl.Taught` (sample-matched
    PLR, Jiang et al., 2022):

        rl.Taught(rl.teachers.SAMPLR(rl.ppo()), rl.teachers.PLR())

    At each step the hidden random part of the level is resampled from its posterior given the
    episode so far (`Tasks.redraw`), and the action is also taken there (the fictitious transition
    of the paper). The algorithm learns from the reward and the next observation of that step, which
    have the distribution of the tasks for any choice of levels by the teacher. The values for
    scores are computed from them too. Episodes continue, end and report returns as on the level
    itself: the redrawn part may change rewards and observations, but not when episodes end.
    """

    algo: Algorithm

    prefix = "samplr"

    def __post_init__(self) -> None:
        check_field(self, "algo", Algorithm, "rl.ppo()")
        if self.algo.replays:
            raise TypeError(
                f"SAMPLR redraws new rollouts, and {type(self.algo).__name__} learns from a replay "
                "buffer: use rl.ppo() or another on-policy algorithm."
            )

    def inner(self, state: Any) -> Any:
        return state

    def init(self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")) -> Any:
        return self.algo.init(key, self._redrawn(env), num_updates)

    def _redrawn(self, env: Env) -> Redrawn:
        if not isinstance(env, LevelPool) or env.tasks is None:
            raise TypeError(
                f"SAMPLR learns on the levels of a teacher, and got {type(env).__name__}: write "
                "rl.Taught(rl.teachers.SAMPLR(rl.ppo()), rl.teachers.PLR())."
            )
        if not can(env.tasks, Tasks.redraw):
            raise TypeError(
                f"SAMPLR redraws the hidden part of levels, and {type(env.tasks).__name__} has no "
                "redraw(key, env, state): write that method; return env if nothing is hidden."
            )
        if env.num_agents is not None:
            raise TypeError(
                f"SAMPLR is single-agent, and {type(env.tasks).__name__} has {env.num_agents} "
                "agents: leave SAMPLR out."
            )
        return Redrawn(env)

    def collect(self, key: jax.Array, env: Env, state: Any) -> tuple[Any, Experience]:
        state, experience = self.algo.collect(key, self._redrawn(env), state)
        batch = _as_redrawn(experience.transitions)
        return state, replace(experience, transitions=batch)

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: Any,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[Any, Metrics]:
        return self.algo.learn(key, env, state, experience, relabel)

    def freeze(self, active: jax.Array, new_state: Any, state: Any) -> Any:
        return self.algo.freeze(active, new_state, state)


def _as_redrawn(batch: Transition) -> Transition:
    """Transitions [T, B] with the rewards and next observations of the redrawn steps."""
    reward, next_obs = _unflat(batch.info[REDRAWN], (batch.reward, batch.next_obs))
    without = lambda info: {name: x for name, x in info.items() if name != REDRAWN}
    return replace(
        batch,
        reward=reward,
        next_obs=next_obs,
        info=without(batch.info),
        episode_info=without(batch.episode_info),
    )


def _unflat(vector: jax.Array, like: Any) -> Any:
    """The inverse of `flat`: pytrees of vectors [T, B, size], with the shapes and types of `like`,
    leaves [T, B, ...].
    """
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([x[0, 0].size for x in leaves])[:-1]
    parts = zip(jnp.split(vector, ends, axis=-1), leaves, strict=True)
    return structure.unflatten([part.reshape(x.shape).astype(x.dtype) for part, x in parts])
