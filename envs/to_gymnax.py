"""Any jaxrl environment as a gymnax 1.x Environment, for code written for gymnax."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from jaxrl.env import Env
from jaxrl.spaces import Box, Discrete
from jaxrl.tree import pytree, replace


@pytree
class Params:
    """gymnax's `params`: the environment (its leaves are the parameters) and the time limit."""

    env: Env
    max_steps_in_episode: jax.Array | int

    def replace(self, **changes: Any) -> "Params":
        return replace(self, **changes)


@pytree
class State:
    """gymnax's `state`: that of the environment, and the step count, which gymnax truncates by."""

    inner: Any
    time: jax.Array

    def replace(self, **changes: Any) -> "State":
        return replace(self, **changes)


class ToGymnax(environment.Environment):
    """`env` with gymnax's interface: `obs, state = reset(key, params)` and `step(key, state,
    action, params)`, with auto-reset.

    The step reads the environment in `params`, so `params.replace(env=...)`, or a vmap over its
    leaves, changes the environment.
    """

    def __init__(self, env: Env, name: str | None = None):
        super().__init__()
        self.env = env
        self._name = type(env).__name__ if name is None else name

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> Any:
        return Params(self.env, self.env.max_steps)

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        inner, obs = params.env.reset(key)
        return obs, State(inner, jnp.int32(0))

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict]:
        inner, step = params.env.step(key, state.inner, action)
        return step.obs, State(inner, state.time + 1), step.reward, step.terminated, step.info

    @property
    def num_actions(self) -> int:
        space = self.env.action_space
        return space.n if isinstance(space, Discrete) else math.prod(self.action_space().shape)

    def action_space(self, params: Any = None) -> Any:
        space = self.env.action_space if params is None else params.env.action_space
        if isinstance(space, Discrete):
            return spaces.Discrete(space.n)
        if isinstance(space, Box):
            return spaces.Box(space.low, space.high, space.shape)
        raise TypeError(
            f"gymnax has no action space like {space!r}: only Discrete and Box can be adapted."
        )

    def observation_space(self, params: Any = None) -> Any:
        """Unbounded boxes of the shapes and types of an observation; a Dict for a dictionary."""
        env = self.env if params is None else params.env
        _, obs = jax.eval_shape(env.reset, jax.random.key(0))
        boxes = jax.tree.map(lambda x: spaces.Box(-jnp.inf, jnp.inf, x.shape, x.dtype), obs)
        return spaces.Dict(boxes) if isinstance(boxes, dict) else boxes
