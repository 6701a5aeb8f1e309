"""The clock, the reset and the return, against a loop that does one thing at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Discounted, TimedOut

import envs
from jaxrl import normalize, rollout
from jaxrl.rollout import Policy


def uniform(env):
    return Policy(lambda key, episode: ((), env.action_space.sample(key), ()))


def test_a_rollout_is_one_step_at_a_time():
    env = envs.make("CartPole-v1", max_steps=15)
    start = lambda: jax.vmap(lambda key: rollout.reset(key, env))(
        jax.random.split(jax.random.key(0), 2)
    )
    last, batch = rollout.rollout(jax.random.key(1), env, uniform(env), start(), 40)
    step = jax.jit(rollout.step)
    for b in range(2):
        episode = jax.tree.map(lambda x, b=b: x[b], start())
        for t in range(40):
            key_act, key_step, key_reset = jax.random.split(jax.random.key(1), (40, 2, 3))[t, b]
            episode, transition = step(key_step, env, episode, env.action_space.sample(key_act))
            np.testing.assert_allclose(batch.next_obs[t, b], transition.next_obs, atol=1e-5)
            assert batch.length[t, b] == transition.length
            if transition.done:
                episode = rollout.reset(key_reset, env)
    assert batch.truncated.any()
    np.testing.assert_allclose(last.obs[1], episode.obs, atol=1e-5)


def test_step_autoreset_is_a_step_and_a_reset_where_it_ends():
    env = envs.make("CartPole-v1", max_steps=2)
    episode = rollout.reset(jax.random.key(0), env)
    for ends in (False, True):
        after, transition = rollout.step_autoreset(jax.random.key(1), env, episode, 1)
        key_step, key_reset = jax.random.split(jax.random.key(1))
        assert transition.done == ends
        followed = (
            rollout.reset(key_reset, env) if ends else rollout.step(key_step, env, episode, 1)[0]
        )
        np.testing.assert_allclose(after.obs, followed.obs, atol=1e-6)
        assert after.length == followed.length == (0 if ends else 1)
        episode = after


def test_inside_an_episode_the_successor_is_the_next_observation():
    env = envs.make("CartPole-v1", max_steps=15)
    episodes = jax.vmap(lambda key: rollout.reset(key, env))(jax.random.split(jax.random.key(0), 3))
    _, batch = rollout.rollout(jax.random.key(1), env, uniform(env), episodes, 60)
    inside = ~np.asarray(batch.done[:-1])
    # to the last bit but one: XLA may compute the two copies of one number in two fusions
    np.testing.assert_allclose(
        np.asarray(batch.next_obs[:-1])[inside],
        np.asarray(batch.obs[1:])[inside],
        rtol=1e-6,
        atol=1e-7,
    )
    assert not (batch.terminated & batch.truncated).any()
    assert (np.asarray(batch.length)[np.asarray(batch.truncated)] == 15).all()
    total = np.zeros(3)
    for t in range(60):
        total += np.asarray(batch.reward[t])
        np.testing.assert_allclose(batch.episode_return[t], total, rtol=1e-6)
        total = np.where(batch.done[t], 0, total)


def test_the_recurrent_state_resets_with_the_episode():
    count = Policy(lambda key, episode: (episode.rnn_state + 1, jnp.int32(0), ()), jnp.int32(0))
    env = TimedOut()
    episodes = jax.vmap(lambda key: rollout.reset(key, env, jnp.int32(0)))(
        jax.random.split(jax.random.key(0), 1)
    )
    _, batch = rollout.rollout(jax.random.key(1), env, count, episodes, 9)
    np.testing.assert_array_equal(batch.rnn_state[:, 0], [1, 2, 3, 4, 1, 2, 3, 4, 1])


def test_evaluate_counts_each_first_episode_once():
    for env, expected in ((TimedOut(), 4.0), (Discounted(), 1.0)):
        evaluate = jax.jit(lambda key, env=env: rollout.evaluate(key, env, uniform(env), 3))
        assert evaluate(jax.random.key(0)).tolist() == [expected] * 3


def test_evaluate_can_be_differentiated():
    env = envs.make("Pendulum-v1", max_steps=5)

    @jax.jit
    def mean_return(gain):
        policy = lambda key, episode: ((), gain * episode.obs[2:], ())
        return rollout.evaluate(jax.random.key(0), env, policy, 2).mean()

    slope = jax.grad(mean_return)(0.1)
    around = (mean_return(0.1 + 1e-2) - mean_return(0.1 - 1e-2)) / 2e-2
    np.testing.assert_allclose(slope, around, rtol=0.05)


def test_running_statistics_are_those_of_all_the_data():
    rng = np.random.default_rng(0)
    parts = [
        {"a": rng.normal(3, 2, (n, 4)).astype("f"), "b": rng.normal(-1, 0.1, (n,)).astype("f")}
        for n in (5, 1, 30)
    ]
    running = normalize.init_running({"a": jnp.zeros(4), "b": jnp.zeros(())})
    for part in parts:
        running = normalize.update(running, jax.tree.map(jnp.asarray, part))
    for name in ("a", "b"):
        together = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(running.mean[name], together.mean(0), rtol=1e-3)
        np.testing.assert_allclose(running.variance[name], together.var(0), rtol=1e-3)


def test_a_policy_that_returns_no_triple_is_explained():
    policy = lambda key, episode: jnp.int32(0)
    with pytest.raises(TypeError, match=r"A policy is a function \(key, episode\) -> "):
        rollout.evaluate(jax.random.key(0), TimedOut(), policy, 1)
