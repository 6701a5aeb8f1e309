"""Several levels as one environment."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, State, Step, Tasks
from jaxrl.rollout import Action
from jaxrl.spaces import Space
from jaxrl.tree import pytree, replace, static

LEVEL = "level"  # the channel with the number of the level


@pytree
class OnLevel:
    """The index of a level, int32 [], and the state of the environment."""

    number: jax.Array
    state: State


@pytree
class LevelPool(Env):
    """Levels as one environment: each new episode is on a random level with an index of at least
    `first`.

    levels: an environment with a leading axis [P] of its leaves; those before `first` are only used
    by episodes in progress. The index of the level is part of the state, and of `info` as the
    channel "level". tasks: the distribution that a teacher chooses them from; None without one.
    """

    levels: Env
    first: int = static(default=0)
    tasks: Tasks | None = None

    @property
    def max_steps(self) -> int:
        return self.levels.max_steps

    @property
    def action_space(self) -> Space:
        return self.at(0).action_space  # its bounds may be leaves

    @property
    def num_agents(self) -> int | None:  # type: ignore[override]
        return self.levels.num_agents

    @property
    def shared_reward(self) -> bool:  # type: ignore[override]
        return self.levels.shared_reward

    @property
    def roles(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.levels.roles

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.levels.channels, LEVEL)

    @property
    def num_levels(self) -> int:
        """P."""
        return jax.tree.leaves(self.levels)[0].shape[0]

    def reset(self, key: jax.Array) -> tuple[OnLevel, Any]:
        key_number, key_reset = jax.random.split(key)
        number = jax.random.randint(key_number, (), self.first, self.num_levels)
        state, obs = self.at(number).reset(key_reset)
        return OnLevel(number, state), obs

    def step(self, key: jax.Array, state: OnLevel, action: Action) -> tuple[OnLevel, Step]:
        after, step = self.at(state.number).step(key, state.state, action)
        number = state.number.astype(jnp.float32)
        if self.num_agents is not None:
            number = jnp.full(self.num_agents, number)
        return OnLevel(state.number, after), replace(step, info=step.info | {LEVEL: number})

    def at(self, number: jax.Array | int) -> Env:
        """The level with this number."""
        return jax.tree.map(lambda x: jnp.asarray(x)[number], self.levels)
