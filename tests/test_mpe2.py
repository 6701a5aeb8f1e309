"""Spread and mpe2's simple_spread_v3: one step from the same states with the same actions."""

import jax
import numpy as np
import pytest

import envs
from envs.spread import Particles

NUM = 64


def test_a_step_is_that_of_mpe2():
    """Of 64 random states, from crowded to sparse. The last four numbers of mpe2's observations are
    messages, which are 0. Its episodes are truncated at max_cycles, as ours at max_steps.
    """
    simple_spread = pytest.importorskip("mpe2.simple_spread_v3")
    rng = np.random.default_rng(0)
    scale = np.linspace(0.1, 1.0, NUM)[:, None, None, None]
    places = (scale * rng.uniform(-1, 1, (NUM, 2, 3, 2))).astype(np.float32)
    velocity = rng.normal(size=(NUM, 3, 2)).astype(np.float32)
    actions = rng.integers(0, 5, (NUM, 3))
    env = envs.Spread()
    states = Particles(places[:, 0], velocity, places[:, 1])
    step = jax.vmap(lambda state, action: env.step(jax.random.key(0), state, action))
    after, ours = jax.jit(step)(states, actions)
    assert ours.info["collisions"].sum() > 20

    theirs = simple_spread.parallel_env(N=3, max_cycles=env.max_steps)
    for i in range(NUM):
        theirs.reset(seed=0)
        world = theirs.unwrapped.world
        for k, agent in enumerate(world.agents):
            agent.state.p_pos = places[i, 0, k].astype(float)
            agent.state.p_vel = velocity[i, k].astype(float)
            world.landmarks[k].state.p_pos = places[i, 1, k].astype(float)
        names = theirs.agents
        obs, reward, terminated, truncated, _ = theirs.step(
            {name: int(action) for name, action in zip(names, actions[i], strict=True)}
        )
        seen = np.stack([obs[name] for name in names])
        np.testing.assert_allclose(ours.obs[i], seen[:, :14], atol=1e-4)
        np.testing.assert_array_equal(seen[:, 14:], 0.0)
        np.testing.assert_allclose(ours.reward[i], [reward[name] for name in names], atol=1e-4)
        moved = np.stack([agent.state.p_pos for agent in world.agents])
        np.testing.assert_allclose(after.position[i], moved, atol=1e-5)
        speed = np.stack([agent.state.p_vel for agent in world.agents])
        np.testing.assert_allclose(after.velocity[i], speed, atol=1e-4)
        assert not any(terminated.values())
        assert not any(truncated.values())
    for _ in range(env.max_steps - 1):
        _, _, terminated, truncated, _ = theirs.step(dict.fromkeys(names, 0))
    assert all(truncated.values())
    assert not any(terminated.values())
