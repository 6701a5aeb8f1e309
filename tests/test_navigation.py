"""Navigation against a slow definition, and that its filters prevent collisions."""

import itertools

import jax
import numpy as np
import pytest
import scipy.optimize

import envs
from envs import navigation
from envs.navigation import Navigation

ACTIONS = np.random.default_rng(2).integers(0, 5, (64, 100, 4, 2)).astype(np.int32)
ACTIONS[::2] = 4  # the largest rates, with which robots come closest


@jax.jit
def played(env, keys):
    """First observations [N], states before [N, T], states after, and steps of ACTIONS."""

    def episode(key, actions):
        state, obs = env.reset(key)

        def go(state, action):
            new, step = env.step(key, state, action)
            return new, (state, new, step)

        return obs, *jax.lax.scan(go, state, actions)[1]

    return jax.vmap(episode)(keys, ACTIONS)


def play(env):
    return jax.device_get(played(env, jax.random.split(jax.random.key(0), len(ACTIONS))))


def slow_velocity(wanted, constraints):
    """The nearest velocity with normal @ velocity >= -bound for each (normal, bound), as a least
    distance problem (Lawson & Hanson, 1974, chapter 23).
    """
    normal, bound = map(np.array, zip(*constraints, strict=True))
    least = -bound - normal @ wanted
    if (least <= 0).all():
        return wanted
    matrix = np.vstack([normal.T, least])
    found = matrix @ scipy.optimize.nnls(matrix, np.array([0.0, 0.0, 1.0]))[0] - [0, 0, 1]
    return wanted - found[:2] / found[2]


def slow_step(env, position, goal, actions):
    """Positions after a step of the definition."""
    new = []
    for i, (robots, walls) in enumerate(0.01 * 100 ** (actions / 4.0) / env.dt):
        place, constraints = position[i], []
        for j in set(range(len(position))) - {i}:
            barrier = ((place - position[j]) ** 2).sum() - (2 * env.radius + env.margin) ** 2
            constraints.append((2 * (place - position[j]), robots / 2 * max(barrier, 0.0)))
        for y in (max(place[1], env.gap), min(place[1], -env.gap)):
            off = place - [min(max(place[0], -env.half_wall), env.half_wall), y]
            barrier = (off**2).sum() - (env.radius + env.margin) ** 2
            constraints.append((2 * off, walls * max(barrier, 0.0)))
        ahead = goal[i] - place
        wanted = ahead / max(np.hypot(*ahead) / env.speed, env.dt)
        new.append(place + env.dt * slow_velocity(wanted, constraints))
    return np.array(new)


@pytest.mark.parametrize("leaves", [{}, {"gap": 9.0, "speed": 1.5, "noise": 0.2}])
def test_robots_move_and_are_paid_by_the_definition(leaves):
    env = Navigation(**leaves)
    obs, before, after, steps = play(env)
    np.testing.assert_array_equal(before.goal, -before.position[:, :1].repeat(100, 1))
    np.testing.assert_array_equal(np.sign(obs[..., 2]), np.tile([-1, -1, 1, 1], (64, 1)))
    for n, t in itertools.product(range(0, 64, 7), range(0, 100, 5)):
        start, goal = before.position[n, t].astype(float), before.goal[n, t].astype(float)
        position = slow_step(env, start, goal, ACTIONS[n, t])
        np.testing.assert_allclose(after.position[n, t], position, atol=1e-4)
        progress = np.hypot(*(goal - start).T).mean() - np.hypot(*(goal - position).T).mean()
        np.testing.assert_allclose(steps.reward[n, t], progress, atol=1e-4)
        for i in range(4):
            others = [position[j] - position[i] for j in range(4) if j != i]
            seen = np.concatenate([goal[i] - position[i], position[i], *others])
            np.testing.assert_allclose(steps.obs[n, t, i], seen, atol=3e-4)
    there = np.linalg.norm(after.goal - after.position, axis=-1) < env.radius
    arrived = np.maximum.accumulate(there, 1)
    np.testing.assert_array_equal(after.arrived, arrived)
    success = np.all(arrived, -1, keepdims=True)
    np.testing.assert_array_equal(steps.terminated, success[..., 0])
    np.testing.assert_array_equal(steps.info["success"], success.repeat(4, -1))
    np.testing.assert_allclose(steps.info["delay"], env.dt * ~arrived, rtol=1e-6)
    assert success.any() == bool(leaves)  # in the narrow gap they block each other


def test_filters_prevent_collisions():
    """Robots come as close as the margin, and no closer."""
    env = Navigation()
    _, _, after, steps = play(env)
    assert not steps.info["collisions"].any()
    off = after.position[:, :, :, None] - after.position[:, :, None]
    distance = np.linalg.norm(off, axis=-1) + 9.0 * np.eye(4)
    assert 0.2049 < distance.min() < 0.206


def test_overlaps_are_counted():
    """Two robots that overlap, the second also with the upper part of the wall."""
    env = Navigation()
    places = np.array([(0, 0), (0, 0.15), (-1, 0), (1, 0)], np.float32)
    overlaps = jax.jit(env.overlaps)(places)
    np.testing.assert_array_equal(overlaps.sum(-1), [1, 2, 0, 0])


def test_robots_are_on_two_sides():
    with pytest.raises(ValueError, match="num_agents=3 of Navigation"):
        envs.make("Navigation", num_agents=3)


def test_a_robot_inside_the_wall_keeps_its_other_constraints():
    """Its offset from the wall is 0, which constrains nothing."""
    wanted, normal = np.array([-1.0, 0.5], np.float32), np.array([[0, 0], [1, 0]], np.float32)
    found = jax.jit(navigation.nearest)(wanted, normal, np.zeros(2, np.float32))
    np.testing.assert_allclose(found, [0.0, 0.5], atol=1e-6)
