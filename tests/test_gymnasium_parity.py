"""Step by step from forced states: the classic environments are gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs

NUM_STEPS = 1000

# name: the fields of gymnax's state in the order of gymnasium's, and the corners of the box to
# force states in
STATES = {
    "CartPole-v1": (("x", "x_dot", "theta", "theta_dot"), [2.4, 3.0, 0.21, 3.0]),
    "Acrobot-v1": (
        ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
        [np.pi, np.pi, 12.0, 28.0],
    ),
    "MountainCar-v0": (("position", "velocity"), [(-1.2, 0.5), 0.07]),
    "MountainCarContinuous-v0": (("position", "velocity"), [(-1.2, 0.6), 0.07]),
    "Pendulum-v1": (("theta", "theta_dot"), [2 * np.pi, 8.0]),
}


@pytest.mark.parametrize("name", STATES)
def test_parity(name):
    names, ends = STATES[name]
    ends = [end if isinstance(end, tuple) else (-end, end) for end in ends]
    low, high = (np.array(x) for x in zip(*ends, strict=True))
    random = np.random.default_rng(0)
    forced = random.uniform(low, high, (NUM_STEPS, len(names))).astype(np.float32)
    # some on the walls, where the rules of an environment show
    walls = random.random(forced.shape) < 0.1
    forced = np.where(walls, np.where(random.random(forced.shape) < 0.5, low, high), forced).astype(
        np.float32
    )

    env = envs.make(name)
    keys = jax.random.split(jax.random.key(0), NUM_STEPS)
    actions = jax.vmap(env.action_space.sample)(keys)
    state, _ = env.reset(jax.random.key(1))

    def one(values, action):
        fields = dict(zip(names, values, strict=True))
        return env.step(jax.random.key(2), state.replace(**fields), action)[1]

    ours = jax.device_get(jax.jit(jax.vmap(one))(jnp.asarray(forced), actions))

    theirs = gymnasium.make(name).unwrapped
    theirs.reset(seed=0)
    for i, (values, action) in enumerate(zip(forced, np.asarray(actions), strict=True)):
        theirs.state = values.copy()
        if name == "CartPole-v1":
            theirs.steps_beyond_terminated = None
            x, _, theta, _ = values
            if abs(x) > 2.4 or abs(theta) > 12 * 2 * np.pi / 360:
                continue  # no life after death: gymnasium's answer depends on how it got there
        obs, reward, terminated, _, _ = theirs.step(action)
        where = f"{name}, step {i}: state {values}, action {action}"
        np.testing.assert_allclose(ours.obs[i], obs, atol=1e-4, rtol=1e-4, err_msg=where)
        np.testing.assert_allclose(ours.reward[i], reward, atol=1e-4, rtol=1e-4, err_msg=where)
        assert bool(ours.terminated[i]) == terminated, where
    assert env.max_steps == gymnasium.spec(name).max_episode_steps
