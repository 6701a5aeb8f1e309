"""Environments on the host: gymnasium's and envpool's, against plain Python loops.

One program of random play is compiled, and one of PPO; all else is NumPy or traced only.
"""

import functools
import importlib.util
import sys
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import quick

import envs
import jaxrl as rl
from envs import from_envpool, gymnasium_spaces, host
from jaxrl import rollout
from jaxrl.accelerator.compile import callbacks
from jaxrl.env_check import check_contract
from jaxrl.rollout import Policy

NUM_ENVS, NUM_STEPS, LIMIT = 2, 40, 18
needs_envpool = pytest.mark.skipif(
    importlib.util.find_spec("envpool") is None, reason="envpool is not installed"
)


@pytest.fixture(autouse=True)
def closes():
    yield
    host.close()


@functools.cache
def cart_pole(limit=LIMIT):
    return envs.make("gymnasium:CartPole-v1", max_steps=limit)


def small_ppo(**fields):
    sizes = dict(num_envs=NUM_ENVS, num_steps=8, epochs=1, minibatches=1)
    return rl.ppo(network=rl.MLP((4,)), **sizes | fields)


# ----------------------------------------------------------------------------- beside a plain loop


@functools.cache
def played():
    """Seeds and results of a rollout, an evaluation and a rollout that continues the first."""
    env = cart_pole()
    random = Policy(lambda key, episode: ((), env.action_space.sample(key), ()))
    to_the_side = Policy(lambda key, episode: ((), (episode.obs[2] > 0).astype(jnp.int32), ()))

    @quick
    def play(key):
        keys = jax.random.split(key, 4)
        first = jax.random.split(keys[0], NUM_ENVS)
        episodes = jax.vmap(lambda key: rollout.reset(key, env))(first)
        episodes, before = rollout.rollout(keys[1], env, random, episodes, NUM_STEPS)
        evaluated = rollout.play_episodes(keys[2], env, to_the_side, NUM_ENVS)
        episodes, after = rollout.rollout(keys[3], env, random, episodes, NUM_STEPS)
        batch = jax.tree.map(lambda *x: jnp.concatenate(x), before, after)
        firsts = jnp.stack([first, jax.random.split(jax.random.split(keys[2])[0], NUM_ENVS)])
        seeds = jax.vmap(jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32)))(firsts)
        return seeds, batch, evaluated.episode_return, episodes.state.step

    return jax.device_get(play(jax.random.key(0)))


def test_transitions_are_those_of_a_python_loop():
    """With the same seeds and actions: observations, true successors, ends and rewards."""
    seeds, batch, _, steps = played()
    for i, seed in enumerate(seeds[0]):
        env = gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)
        obs, _ = env.reset(seed=int(seed))
        for t in range(2 * NUM_STEPS):
            np.testing.assert_array_equal(batch.obs[t, i], obs)
            obs, reward, terminated, truncated, _ = env.step(int(batch.action[t, i]))
            np.testing.assert_array_equal(batch.next_obs[t, i], obs)
            assert batch.reward[t, i] == reward
            assert batch.terminated[t, i] == terminated
            assert batch.truncated[t, i] == truncated
            if terminated or truncated:
                obs, _ = env.reset()
    assert batch.terminated.any()
    assert batch.truncated.any()
    assert (batch.length[batch.truncated] == LIMIT).all()
    assert (steps == 2 * NUM_STEPS).all()  # one call of the host for all environments


def test_an_evaluation_has_environments_of_its_own():
    """Its returns are those of a loop, and the training before it goes on after it (above)."""
    seeds, _, returns, _ = played()
    for seed, episode_return in zip(seeds[1], returns, strict=True):
        env = gymnasium.make("CartPole-v1", max_episode_steps=LIMIT)
        obs, done, total = env.reset(seed=int(seed))[0], False, 0.0
        while not done:
            obs, reward, terminated, truncated, _ = env.step(int(obs[2] > 0))
            done, total = terminated or truncated, total + reward
        assert episode_return == total


def test_ppo_trains_and_repeats_itself():
    env = cart_pole()
    training = rl.Training(small_ppo(), env, 64, evals=2, episodes=2, eval_share=1.0)
    train = quick(training)
    state, metrics = train(jax.random.key(0))
    assert np.isfinite(metrics["loss"]).all()
    assert (metrics["evaluation"] > 1.0).all()
    assert (metrics["evaluation"] <= LIMIT).all()
    assert len(host._pools) == host.MAX_OPEN  # of the training, and an evaluation at each row
    again, same = train(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, metrics, same)
    jax.tree.map(np.testing.assert_array_equal, state.params, again.params)


# -------------------------------------------------------------------------------------- the host


class Counting(host.Vector):
    """Environment i ends after i + 1 steps; observations are (number of the episode, step)."""

    closed: ClassVar[list[int]] = []

    def __init__(self, num, truncates_at):
        self.num, self.truncates_at = num, truncates_at

    def reset(self, seed):
        self.seed = seed
        self.episode, self.time = np.zeros(self.num), np.zeros(self.num)
        return self.obs

    @property
    def obs(self):
        return np.stack([self.episode, self.time], 1).astype(np.float32)

    def step(self, action):
        self.time = self.time + 1
        ends = self.time == np.arange(self.num) + 1
        return self.obs, action, ends, self.time == self.truncates_at

    def restart(self, over, obs):
        self.episode, self.time = self.episode + over, np.where(over, 0, self.time)
        return self.obs

    def close(self):
        self.closed.append(self.num)


class Counter(host.Source):
    truncates_at = 99

    def open(self, num_envs):
        return Counting(num_envs, self.truncates_at)


def opened(num=2, source=None, max_steps=99):
    seed = np.arange(num, dtype=np.uint32)
    number, step, obs = host._reset(source or Counter(), max_steps, seed)
    np.testing.assert_array_equal(obs, np.zeros((num, 2)))
    assert number.dtype == step.dtype == np.int32
    return number, step


def test_one_call_returns_the_final_and_the_fresh_observation():
    number, step = opened()
    action = np.array([0.5, 2.0])
    step, obs, reward, terminated, fresh = host._step(number, step, action)
    np.testing.assert_array_equal(step, [1, 1])
    np.testing.assert_array_equal(obs, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(reward, action)
    np.testing.assert_array_equal(terminated, [True, False])
    np.testing.assert_array_equal(fresh, [[1, 0], [0, 1]])
    _, obs, _, terminated, fresh = host._step(number, step, action)
    np.testing.assert_array_equal(obs, [[1, 1], [0, 2]])
    assert terminated.all()
    np.testing.assert_array_equal(fresh, [[2, 0], [1, 0]])


def test_the_time_limit_of_the_kit_restarts_too():
    number, step = opened(max_steps=1)
    _, obs, _, terminated, fresh = host._step(number, step, np.zeros(2))
    np.testing.assert_array_equal(terminated, [True, False])
    np.testing.assert_array_equal(obs, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(fresh, [[1, 0], [1, 0]])


def test_episodes_of_an_evaluation_that_are_over_wait():
    number, start = opened()
    first, *_ = host._step(number, start, np.zeros(2))  # the first is over, and keeps its ticket
    second, *_ = host._step(number, first, np.zeros(2))  # the other too
    kept = np.array([first[0], second[1]])
    steps = [int(host._step(number, kept, np.zeros(2))[0][0]) for _ in range(4)]
    assert steps == [3, 3, 3, 3]  # nothing steps any more


def test_a_state_is_stepped_once():
    number, start = opened()
    host._step(number, start, np.zeros(2))
    with pytest.raises(RuntimeError, match="stepped twice, or restored"):
        host._step(number, start, np.zeros(2))


def test_pools_are_taken_from_the_one_used_longest_ago():
    Counting.closed.clear()
    states = [opened(num) for num in (2, 3, 4)]
    assert len(host._pools) == host.MAX_OPEN == 3
    host._step(*states[0], np.zeros(2))
    again = opened(3)  # of the size of the oldest, which is reset
    assert not Counting.closed
    opened(5)
    assert Counting.closed == [4]
    host._step(*again, np.zeros(3))
    for number, step in states[1:]:
        with pytest.raises(RuntimeError, match=r"no longer open.*train again"):
            host._step(number, step, np.zeros(len(step)))
    host.close()
    assert sorted(Counting.closed) == [2, 3, 4, 5]


def test_a_truncation_before_the_limit_is_refused():
    class Early(Counter):
        truncates_at = 1

    number, step = opened(source=Early())
    with pytest.raises(RuntimeError, match="after 1 steps, before max_steps=99: write"):
        host._step(number, step, np.zeros(2))


def test_a_call_without_vmap_is_of_one_environment():
    seen = []

    def double(x):
        seen.append(x.shape)
        return 2 * np.asarray(x)

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    np.testing.assert_array_equal(host.call_host(double, shape, np.ones(3, np.float32)), [2, 2, 2])
    assert seen == [(1, 3)]


# --------------------------------------------------------------------------------------- adapters


def test_spaces():
    of = functools.partial(gymnasium_spaces.action_space, "X")
    space = gymnasium.spaces
    assert of(space.Discrete(3, start=1)) == rl.Discrete(3)
    assert of(space.MultiDiscrete([2, 3])) == rl.MultiDiscrete((2, 3))
    assert of(space.MultiBinary(2)) == rl.MultiDiscrete((2, 2))
    box = of(space.Box(-2.0, 3.0, (2, 2)))
    assert box.shape == (4,)
    np.testing.assert_array_equal(box.low, np.full(4, -2.0))
    np.testing.assert_array_equal(box.high, np.full(4, 3.0))
    with pytest.raises(TypeError, match=r"X has the actions Dict.*wrappers="):
        of(space.Dict(a=space.Discrete(2)))
    as_actions = gymnasium_spaces.as_actions
    np.testing.assert_array_equal(as_actions(space.Discrete(3, start=1), np.array([0, 2])), [1, 3])
    shifted = space.MultiDiscrete([2, 3], start=[0, 5])
    np.testing.assert_array_equal(as_actions(shifted, np.array([[1, 2]])), [[1, 7]])
    given = as_actions(space.Box(-1, 1, (2, 2), np.float64), np.zeros((3, 4), np.float32))
    assert given.shape == (3, 2, 2)
    assert given.dtype == np.float64


def test_discrete_observations_are_one_hot_and_wrappers_apply():
    env = envs.make("gymnasium:FrozenLake-v1", is_slippery=False)
    assert env.max_steps == 100
    assert env.obs == jax.ShapeDtypeStruct((16,), jnp.float32)
    check_contract(env)
    vector = env.source.open(2)
    np.testing.assert_array_equal(vector.reset(np.arange(2)), np.eye(16)[[0, 0]])
    np.testing.assert_array_equal(vector.step(np.array([2, 1]))[0], np.eye(16)[[1, 4]])
    wrapper = functools.partial(gymnasium.wrappers.FrameStackObservation, stack_size=3)
    stacked = envs.make("gymnasium:CartPole-v1", wrappers=(wrapper,))
    assert stacked.obs.shape == (3, 4)


def test_processes_step_as_a_loop_does():
    """Each environment in its own process; some seconds to start."""
    played = []
    for mode in ("sync", "async"):
        env = envs.make("gymnasium:CartPole-v1", max_steps=3, vectorization_mode=mode)
        vector = env.source.open(2)
        seen = [vector.reset(np.array([7, 8]))]
        for _ in range(3):
            seen.append(vector.step(np.array([0, 1])))
        seen.append(vector.restart(np.array([True, False]), seen[-1][0]))
        vector.close()
        played.append(seen)
    jax.tree.map(np.testing.assert_array_equal, *played)
    assert played[0][3][3].all()


@needs_envpool
@pytest.mark.filterwarnings("ignore:.*precision lowered:UserWarning")
def test_envpool_restarts_those_that_are_over():
    env = envs.make("envpool:CartPole-v1", max_steps=LIMIT)
    check_contract(env)
    vector, seed = env.source.open(3), np.array([5, 6, 7], np.uint32)
    first = vector.reset(seed)
    np.testing.assert_array_equal(first, vector.reset(seed))
    assert np.ptp(first[:, 0]) > 0
    obs, ends = first, 0
    for _ in range(LIMIT):
        obs, reward, terminated, truncated = vector.step(np.ones(3, np.int32))
        assert (reward == 1).all()
        over = terminated | truncated
        if over.any():
            fresh = vector.restart(over, obs)
            assert (np.abs(fresh[over]) <= 0.05).all()
            np.testing.assert_array_equal(fresh[~over], obs[~over])
            assert (np.abs(obs[over]) > 0.05).any()  # the true successor
        ends += over.sum()
    assert ends >= 3
    vector.close()


@needs_envpool
@pytest.mark.filterwarnings("ignore:.*precision lowered:UserWarning")
def test_envpool_observations():
    pong, lake = envs.make("envpool:Pong-v5"), envs.make("envpool:FrozenLake-v1")
    assert pong.obs == jax.ShapeDtypeStruct((84, 84, 4), jnp.uint8)
    assert pong.max_steps == 27_000
    assert lake.obs == jax.ShapeDtypeStruct((16,), jnp.float32)


def test_channels_of_images_are_last():
    image = gymnasium.spaces.Box(0, 255, (4, 8, 6), np.uint8)
    obs = np.arange(2 * 4 * 8 * 6, dtype=np.uint8).reshape(2, 4, 8, 6)
    found = from_envpool.observed(image, obs)
    assert found.shape == (2, 8, 6, 4)
    np.testing.assert_array_equal(found[1, 5, 3], obs[1, :, 5, 3])


# ---------------------------------------------------------------------------------------- refusals


def test_a_vmap_over_trainings_is_refused():
    training = rl.Training(small_ppo(), cart_pole(), 64, evals=2)
    with pytest.raises(TypeError, match=r"a population of 3.*train = jax.jit\(training\)"):
        jax.eval_shape(jax.vmap(training), jax.random.split(jax.random.key(0), 3))
    learner = lambda lr: rl.Training(small_ppo(lr=lr), cart_pole(), 64, evals=2)(jax.random.key(0))
    with pytest.raises(TypeError, match="would need a pool for each of its members"):
        jax.eval_shape(jax.vmap(learner), jnp.array([1e-3, 1e-2]))


@pytest.mark.parametrize("axes", [{"seed": range(2)}, {"seed": [0], "lr": [1e-3, 1e-2]}])
@pytest.mark.parametrize("function", [rl.sweep, rl.plan])
def test_sweeps_are_refused(function, axes):
    training = rl.Training(small_ppo(), cart_pole(), 64, evals=2)
    with pytest.raises(TypeError, match=r"A sweep has .*:CartPole-v1 are on the host.*jax.jit"):
        function(training, axes)


def test_copies_of_states_are_refused():
    env, key = cart_pole(), jax.random.key(0)
    with pytest.raises(TypeError, match=r"Group copies resets.*take a rule without groups"):
        rl.grpo(num_envs=4).init(key, env)
    cells = rl.archives.Grid(jnp.full(4, -1.0), jnp.ones(4), (2, 2, 2, 2))
    with pytest.raises(TypeError, match=r"GoExplore stores states.*on the host"):
        rl.GoExplore(cells).init(key, env)
    policy = rl.rollout.Policy(lambda key, episode: ((), jnp.int32(0), ()))
    with pytest.raises(TypeError, match=r"demonstrate stores states.*own resets"):
        rl.teachers.demonstrate(key, env, policy)
    with pytest.raises(TypeError, match=r"FromState restores a state.*own resets"):
        rl.teachers.FromState(env, (), jnp.zeros(4))
    with pytest.raises(TypeError, match=r"stop_after .* smaller steps="):
        rl.Training(small_ppo(), env, 64, stop_after=32.0)
    for wrapped in (envs.FrameStack(env, 2), envs.RewardScale(env, 0.1), envs.AsTeam(env, 2)):
        with pytest.raises(TypeError, match=r"opens environments on the host.*wrappers="):
            small_ppo().init(key, wrapped)


def test_an_absent_accelerator_is_refused():
    training = rl.Training(small_ppo(), cart_pole(), 64, evals=2, episodes=0)
    found = callbacks(jax.jit(training).trace(jax.random.key(0)))  # as `compile_for` refuses
    assert "io_callback" in found[0]
    assert "host.py" in found[0]


@pytest.mark.parametrize(
    ("error", "match", "name", "settings"),
    [
        (ValueError, r"rl.ppo\(num_envs=8\)", "gymnasium:CartPole-v1", {"num_envs": 8}),
        (ValueError, "no time limit.*max_steps=1000", "gymnasium:Blackjack-v1", {}),
        (ValueError, "gymnasium:CartPol-v1 can't be made", "gymnasium:CartPol-v1", {}),
        (ValueError, "write one of .*sync", "gymnasium:CartPole-v1", {"vectorization_mode": "x"}),
        (TypeError, "is static", "gymnasium:CartPole-v1", {"max_steps": np.array(3)}),
        (ValueError, "max_steps=0", "gymnasium:CartPole-v1", {"max_steps": 0}),
        (TypeError, "not hashable", "gymnasium:Pendulum-v1", {"g": [1.0]}),
    ],
)
def test_errors(error, match, name, settings):
    with pytest.raises(error, match=match):
        envs.make(name, **settings)


def test_envpool_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'jaxrl\[envpool\]'"):
        envs.make("envpool:CartPole-v1")


def test_names():
    assert {"gymnasium:CartPole-v1", "envpool:Pong-v5"} <= set(envs.names())
    for name in envs.from_gymnasium.NAMES:
        assert name.partition(":")[2] in gymnasium.registry
