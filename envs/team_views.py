"""Wrappers that add to what the agents of a team observe: their roles, or the whole environment."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import State, Step
from jaxrl.spaces import visible, with_visible
from jaxrl.tree import flat, pytree, replace, static

from .wrappers import Wrapper


@pytree
class WithRoles(Wrapper):
    """A team in which each observation is a vector that ends with the one-hot role of its agent.

    roles: the role of each agent, numbers from 0 up; () is a role of its own for each.
    """

    roles: tuple[int, ...] = static(default=())

    def reset(self, key: jax.Array) -> tuple[State, Any]:
        check_team(self)
        own = tuple(range(self.env.num_agents))
        given = self.roles or own
        if len(given) != len(own) or min(given) < 0:
            raise ValueError(
                f"roles={self.roles} are not the roles of {len(own)} agents: write one number from "
                f"0 up for each, such as roles={own}."
            )
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


def check_team(wrapper: Wrapper) -> None:
    """Raise a TypeError where the wrapped environment is not a team."""
    if wrapper.env.num_agents is None:
        raise TypeError(
            f"{type(wrapper).__name__} wraps a team, and {type(wrapper.env).__name__} is a single "
            "agent: leave it out, or write rl.envs.AsTeam(env, size=2) for copies of it."
        )
