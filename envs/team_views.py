"""Wrappers of teams: roles or the whole environment in observations, and one reward for all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import State, Step, check_roles
from jaxrl.spaces import visible, with_visible
from jaxrl.tree import flat, pytree, replace, static

from .wrappers import Wrapper, draw_inner


@pytree
class WithRoles(Wrapper):
    """A team in which each observation is a vector that ends with the one-hot role of its agent.

    roles: the role of each agent, numbers from 0 up; () is a role of its own for each.
    """

    roles: tuple[int, ...] = static(default=())  # type: ignore[override]

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        check_team(self)
        check_roles(self)
        state, obs = self.env.reset(key)
        return state, self._with_role(obs)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self._with_role(step.obs))

    def _with_role(self, obs: Any) -> Any:
        given = self.roles or tuple(range(self.env.num_agents or 0))
        role = jnp.eye(max(given) + 1, dtype=jnp.float32)[jnp.array(given)]
        seen = jnp.concatenate([flat(visible(obs), 1), role], -1)
        return with_visible(obs, seen)


@pytree
class WithState(Wrapper):
    """A team in which each observation is {"obs": its own, "state": that of the whole team}, for a
    critic or a mixer that reads the whole environment.

    "state" is a vector of the observations of all agents, in order. With `own=True` it is followed
    by the one-hot number of the agent, so that a critic can tell the agents apart (the
    agent-specific state of MAPPO; Yu et al., 2022).
    """

    own: bool = static(default=True)

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        check_team(self)
        state, obs = self.env.reset(key)
        return state, self._with_state(obs)

    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
        state, step = self.env.step(key, state, action)
        return state, replace(step, obs=self._with_state(step.obs))

    def _with_state(self, obs: Any) -> Any:
        seen, num_agents = visible(obs), self.env.num_agents
        whole = jnp.broadcast_to(flat(seen), (num_agents, flat(seen).shape[0]))
        if self.own:
            whole = jnp.concatenate([whole, jnp.eye(num_agents, dtype=jnp.float32)], -1)
        return with_visible(obs, {"obs": seen, "state": whole})


@pytree
class Shared:
    """State of the environment inside, and which agents have terminated, bool [A]."""

    inner: Any
    terminated: jax.Array


@pytree
class SharedReward(Wrapper):
    """A team in which each agent receives the mean reward of those that had not terminated before
    the step, and 0 after its own termination.

    Mixers need it where rewards differ (`rl.dqn(mixer=...)`), and so does an algorithm that is to
    maximise the return of the team rather than those of its agents. The team's return, the mean
    over its agents, is that of the wrapped environment if all agents terminate together.
    """

    shared_reward = True  # type: ignore[override]

    @property
    def draw(self) -> Callable[..., None] | None:
        return draw_inner(self)

    def reset(self, key: jax.Array) -> tuple[Shared, Any]:
        check_team(self)
        inner, obs = self.env.reset(key)
        return Shared(inner, jnp.zeros(self.env.num_agents, bool)), obs

    def step(self, key: jax.Array, state: Shared, action: jax.Array) -> tuple[Shared, Step]:
        inner, step = self.env.step(key, state.inner, action)
        active = ~state.terminated
        total = jnp.where(active, step.reward, 0.0).sum(dtype=jnp.float32)
        reward = jnp.where(active, total / jnp.maximum(active.sum(), 1), 0.0)
        return Shared(inner, state.terminated | step.terminated), replace(step, reward=reward)


def check_team(wrapper: Wrapper) -> None:
    """Raise a TypeError where the wrapped environment is not a team."""
    if wrapper.env.num_agents is None:
        raise TypeError(
            f"{type(wrapper).__name__} wraps a team, and {type(wrapper.env).__name__} is a single "
            "agent: leave it out, or write rl.envs.AsTeam(env, size=2) for copies of it."
        )
