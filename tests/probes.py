"""One-lesson environments: what an algorithm that fails one of them has not learnt is its name."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Editor, Env, Step, Tasks
from jaxrl.spaces import Box, Discrete
from jaxrl.tree import pytree, static


def obs_of(x):
    return jnp.asarray(x, jnp.float32).reshape(1)


@pytree
class Value(Env):
    """One state, one step, reward 1: the value is 1."""

    max_steps: int = static(default=8)
    action_space = Discrete(2)

    def reset(self, key):
        return (), obs_of(0)

    def step(self, key, state, action):
        return (), Step(obs_of(0), jnp.float32(1), jnp.bool_(True), {})


@pytree
class Seen(Env):
    """A random observation, -1 or 1, is the reward: the value depends on what is seen."""

    max_steps: int = static(default=8)
    action_space = Discrete(2)

    def reset(self, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        return sign, obs_of(sign)

    def step(self, key, state, action):
        return state, Step(obs_of(state), state, jnp.bool_(True), {})


@pytree
class Discounted(Env):
    """Two steps, reward 1 at the end: the first value is gamma."""

    max_steps: int = static(default=8)
    action_space = Discrete(2)

    def reset(self, key):
        return jnp.int32(0), obs_of(0)

    def step(self, key, state, action):
        last = state == 1
        return state + 1, Step(obs_of(1), last.astype(jnp.float32), last, {})


@pytree
class TimedOut(Env):
    """Reward 1 at every step, cut off after 4: the value is 1 / (1 - gamma), unless the time-out is
    taken for a termination.
    """

    max_steps: int = static(default=4)
    action_space = Discrete(2)

    def reset(self, key):
        return (), obs_of(0)

    def step(self, key, state, action):
        return (), Step(obs_of(0), jnp.float32(1), jnp.bool_(False), {})


@pytree
class Choice(Env):
    """Action 1 pays 1, action 0 pays -1: the policy must choose."""

    max_steps: int = static(default=8)
    action_space = Discrete(2)

    def reset(self, key):
        return (), obs_of(0)

    def step(self, key, state, action):
        return (), Step(obs_of(0), 2.0 * action - 1.0, jnp.bool_(True), {})


@pytree
class Matching(Env):
    """The action that the observation names pays 1, the other -1: the policy must look."""

    max_steps: int = static(default=8)
    action_space = Discrete(2)

    def reset(self, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        return sign, obs_of(sign)

    def step(self, key, state, action):
        return state, Step(obs_of(state), state * (2.0 * action - 1.0), jnp.bool_(True), {})


@pytree
class Aim(Env):
    """A real action is paid by how near it comes to the observed target, half of -1 or 1."""

    max_steps: int = static(default=8)
    action_space = Box(-1.0, 1.0, (1,))

    def reset(self, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        return sign, obs_of(sign)

    def step(self, key, state, action):
        return state, Step(obs_of(state), -((action[0] - 0.5 * state) ** 2), jnp.bool_(True), {})


@pytree
class Choices(Tasks):
    """`Choice` as a distribution of tasks, scored by the share of good choices."""

    def sample(self, key):
        return Choice()

    def score(self, env, episode_return):
        return 0.5 + episode_return / 2.0


@pytree
class Prize(Env):
    """A level: action 1 pays `value`, which is seen, action 0 nothing; episodes have two steps."""

    value: Any = 1.0
    max_steps: int = static(default=4)
    action_space = Discrete(2)
    channels = ("success",)

    def reset(self, key):
        return jnp.int32(0), obs_of(self.value)

    def step(self, key, state, action):
        success = {"success": (action * state).astype(jnp.float32)}
        return state + 1, Step(obs_of(self.value), self.value * action, state == 1, success)


@pytree
class Prizes(Tasks):
    """`Prize` with values between 0 and 1, with all that teachers may use."""

    channels = Prize.channels

    def sample(self, key):
        return Prize(jax.random.uniform(key))

    def describe(self, env):
        return {"value": env.value}

    def optimum(self, env):
        return 2.0 * env.value

    def mutate(self, key, env):
        return Prize(env.value + 0.1)

    def redraw(self, key, env, state):
        return self.sample(key)

    def editor(self):
        return PrizeEditor()


@pytree
class PrizeEditor(Editor):
    """The value is the mean of two actions, each 0, 1 or 2."""

    max_steps: int = static(default=2)
    action_space = Discrete(3)

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, key, state, action):
        total, age = state
        new = jnp.stack([total + action, age + 1.0])
        return new, Step(new, jnp.float32(0.0), new[1] == 2.0, {})

    def level(self, state):
        return Prize(state[0] / 2.0)
