"""Go-Explore's second phase: demonstrations, levels along them, the backward algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import rollout, teachers
from jaxrl.env import Tasks
from jaxrl.rollout import Policy

DEEP = rl.envs.make("DeepSea-bsuite", size=8)


def right(state):
    """The action to the right, which differs from cell to cell."""
    return state.action_mapping[state.row, state.column]


RIGHT = Policy(lambda key, episode: ((), right(episode.state), ()))
STARTS = teachers.Starts(DEEP, jax.jit(lambda: teachers.demonstrate(0, DEEP, RIGHT))())


def test_a_demonstration_has_the_states_of_an_episode():
    known = STARTS.demonstration
    length = int(known.length)
    state, obs = DEEP.reset(jax.random.key(0))
    rewards = []
    step = jax.jit(lambda state: DEEP.step(jax.random.key(0), state, right(state)))
    for t in range(length):
        np.testing.assert_array_equal(known.obs[t], obs)
        jax.tree.map(lambda x, y, t=t: np.testing.assert_array_equal(x[t], y), known.states, state)
        state, result = step(state)
        obs = result.obs
        rewards.append(float(result.reward))
        assert bool(result.terminated) == (t == length - 1)
    np.testing.assert_allclose(known.rest[:length], np.cumsum(rewards[::-1])[::-1], atol=1e-6)
    np.testing.assert_array_equal(known.rest[length:], 0.0)


def test_levels_start_along_a_demonstration_and_report_its_return_as_success():
    def play(place, to_right):
        level = STARTS.at(place[None])
        action = lambda state: jnp.where(to_right, right(state), 1 - right(state))
        policy = Policy(lambda key, episode: ((), action(episode.state.inner), ()))
        first = rollout.reset(jax.random.key(1), level)
        return first.obs, rollout.play_episodes(jax.random.key(0), level, policy, 1)

    places = jnp.array([0.0, 0.3, 0.99, 1.0])
    both = jax.jit(jax.vmap(jax.vmap(play, in_axes=(0, None)), in_axes=(None, 0)))
    obs, found = both(places, jnp.array([True, False]))
    known, steps = STARTS.demonstration, [0, 2, 7, 7]
    np.testing.assert_array_equal(obs[0], known.obs[jnp.array(steps)])
    returns = found.episode_return[..., 0]
    np.testing.assert_allclose(returns[0], known.rest[jnp.array(steps)], atol=1e-6)
    assert known.rest[0] > 0.98 > 0.0 >= returns[1].max()
    np.testing.assert_array_equal(found.info["success"][..., 0], [[1.0] * 4, [0.0] * 4])


@rl.pytree
class Pay(rl.Env):
    """Rewards of 1, then of -1."""

    max_steps: int = rl.static(default=2)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        reward = jnp.where(state == 0, 1.0, -1.0)
        return state + 1, rl.Step(jnp.zeros(1), reward, jnp.bool_(False), {})


@pytest.mark.parametrize(("target", "success"), [(0.5, 0.0), (0.0, 1.0), (-3.0, 1.0)])
def test_success_is_of_the_return_at_the_end(target, success):
    level = teachers.FromState(Pay(), jnp.int32(0), jnp.zeros(1), target)
    policy = Policy(lambda key, episode: ((), jnp.int32(0), ()))
    played = rollout.play_episodes(jax.random.key(0), level, policy, 1)
    assert played.info["success"].tolist() == [success]


def report(episodes, success):
    none = jnp.zeros(len(episodes))
    return teachers.Report(jnp.array(episodes), none, none, jnp.array(success), none, none, none)


def test_the_front_moves_back_where_enough_episodes_succeed():
    teacher = teachers.Backward(success=0.5, move=0.25, window=0.1, min_episodes=4)
    state = teacher.init(jax.random.key(0), STARTS)
    levels, notes = teacher.draw(jax.random.key(0), state, STARTS, 64)
    assert 0.9 <= notes.min() < 0.92 < 0.98 < notes.max() <= 1.0
    tell = jax.jit(
        lambda state, notes, seen: teacher.tell(
            jax.random.key(0), state, STARTS, levels, notes, seen
        )[0]
    )
    notes = jnp.array([0.95, 0.9, 0.99])
    fronts = []
    for episodes, success in [
        ([2, 1, 0], [1.0, 0.0, jnp.nan]),  # 3 episodes are too few
        ([0, 1, 0], [0.0, 0.0, 0.0]),  # 2 of 4
        ([4, 4, 4], [1.0, 1.0, 1.0]),  # levels after the front
    ]:
        state = tell(state, notes, report(episodes, success))
        fronts.append(float(state.place))
    assert fronts == [1.0, 0.75, 0.75]
    assert (float(state.episodes), float(state.successes)) == (0.0, 0.0)
    notes = jnp.array([0.7, 0.7, 0.7])
    for success in (0.25, 1.0, 1.0, 1.0, 1.0):  # of 4, and then to the start, where it stays
        state = tell(state, notes * float(state.place), report([4, 0, 0], [success, 0.0, 0.0]))
        fronts.append(float(state.place))
    assert fronts[3:] == [0.75, 0.5, 0.25, 0.0, 0.0]
    _, notes = teacher.draw(jax.random.key(0), state, STARTS, 64)
    np.testing.assert_array_equal(notes, 0.0)


def test_backward_needs_places_and_successes():
    class Many(Tasks):
        dimensions = 2
        channels = ("success",)

        def at(self, place):
            return DEEP

    for tasks, match in [
        (rl.envs.distribution("LPGGrid-tiny"), r"has no at\(place\): write rl\.teachers\.Starts"),
        (Many(), "has 2: write"),
        (rl.envs.Family(rl.envs.make("CartPole-v1"), length=(0.25, 2.0)), 'channel "success"'),
    ]:
        with pytest.raises(TypeError, match=match):
            teachers.Backward().check(tasks, 0)


def test_backward_solves_a_deep_sea_from_its_start():
    algo = rl.ppo(num_envs=16, num_steps=16, lr=3e-3, network=rl.MLP((32,)))
    taught = rl.Taught(algo, teachers.Backward(move=0.125, window=0.125), num_levels=16)
    training = rl.Training(taught, STARTS, steps=30_000, evals=3, episodes=4)
    _, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["front"][-1] == 0.0
    assert metrics["evaluation"][-1] > 0.9
