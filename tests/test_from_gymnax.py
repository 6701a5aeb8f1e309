"""Environments of other libraries in gymnax's form: time limits that look like the end, parameters
without one.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

from envs import from_gymnax
from jaxrl.env_check import check_contract


@flax.struct.dataclass
class State:
    time: int
    place: float


@flax.struct.dataclass
class Limited:
    max_steps_in_episode: int = 6
    speed: float = 1.0


@flax.struct.dataclass
class Unlimited:
    speed: float = 1.0


class Old(environment.Environment):
    """A walk, with `done` as in gymnax 0.x: at the end of the way, or of the time."""

    def __init__(self, params=None, limit=None, values=5):
        self.params, self.limit, self.values = params or Limited(), limit, values

    @property
    def default_params(self):
        return self.params

    def reset_env(self, key, params):
        return jnp.zeros(1), State(jnp.int32(0), jnp.float32(0.0))

    def step_env(self, key, state, action, params):
        state = State(state.time + 1, state.place + params.speed * action)
        limit = self.limit or params.max_steps_in_episode
        done = (state.place >= 3.0) | (state.time >= limit)
        results = (state.place[None], state, 1.0, done, {"discount": 1.0 - done}, None)
        return results[: self.values]

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Box(-10.0, 10.0, (1,))


@functools.partial(jax.jit, static_argnums=1)
def walk(env, action):
    """`terminated` of ten steps with one action. [10]."""
    state, _ = env.reset(jax.random.key(0))
    step = lambda state, _: env.step(jax.random.key(1), state, jnp.int32(action))
    return jax.lax.scan(step, state, None, 10)[1].terminated


def test_a_time_limit_in_done_truncates_and_does_not_terminate(recwarn):
    env = from_gymnax.wrap(Old())
    assert env.max_steps == 6
    np.testing.assert_array_equal(walk(env, 0), np.zeros(10, bool))
    np.testing.assert_array_equal(walk(env, 1), np.arange(1, 11) >= 3)
    assert from_gymnax.wrap(Old(), max_steps=9).max_steps == 9
    assert not recwarn.list
    check_contract(env)


def test_a_time_limit_that_no_parameter_sets_is_warned_of():
    with pytest.warns(UserWarning, match=r"`done` of Old\.step_env.*max_steps=500"):
        env = from_gymnax.wrap(Old(limit=4), max_steps=5)
    np.testing.assert_array_equal(walk(env, 0), np.arange(1, 11) >= 4)


def test_parameters_without_a_time_limit():
    with pytest.raises(ValueError, match=r"Unlimited of Old has no max_steps_in_episode.*max_ste"):
        from_gymnax.wrap(Old(Unlimited(), limit=2**40))
    env = from_gymnax.wrap(Old(Unlimited(), limit=2**30), max_steps=5)
    assert env.max_steps == 5
    assert env.params == Unlimited()
    np.testing.assert_array_equal(walk(env, 1), np.arange(1, 11) >= 3)


@pytest.mark.parametrize(
    ("game", "words"),
    [
        ("CartPole-v1", r"got 'CartPole-v1'.*envs\.make\(name\)"),
        ((Old(), Limited()), r"of type tuple.*wrap\(game, params\)"),
        (Old, "Environment object"),
        (Old(values=6), r"Old\.step_env returned 6 values: return \(obs, state, reward, done"),
    ],
    ids=["text", "tuple", "class", "six"],
)
def test_what_can_not_be_wrapped_is_refused(game, words):
    with pytest.raises(TypeError, match=words):
        from_gymnax.wrap(game)
