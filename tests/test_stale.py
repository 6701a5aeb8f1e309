"""Acting with old parameters: which ones, and the two objectives beside their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl.algorithms.stale import BehaviourSurrogate

LAG, UPDATES = 2, 5


@functools.cache
def played():
    """What each of some updates collected, the parameters before it, and log-probabilities by those
    of LAG updates ago, in one program.
    """
    stale, env = rl.Stale(TINY.algo, lag=LAG), TINY.env

    def one(now, key):
        state, params = now
        key_collect, key_learn = jax.random.split(key)
        old = rl.tree.replace(state.algo, params=jax.tree.map(lambda x: x[0], params))
        params = jax.tree.map(lambda x, new: jnp.append(x[1:], new[None], 0), params, state.params)
        state, experience = stale.collect(key_collect, env, state)
        batch = experience.transitions

        def log_prob(obs, action):
            return TINY.algo.forward(env, old, (), obs)[1]["policy"].log_prob(action)

        expected = jax.vmap(jax.vmap(log_prob))(batch.obs, batch.action)
        state, _ = stale.learn(key_learn, env, state, experience)
        return (state, params), (batch.extras, expected, params)

    def run(key):
        state = stale.init(key, env)
        first = jax.tree.map(lambda x: jnp.stack([x] * (LAG + 1)), state.params)
        before = jax.tree.map(lambda x: x[:LAG], first)
        keys = jax.random.split(key, UPDATES)
        return jax.lax.scan(one, (state, before), keys)[1]

    return jax.jit(run)(jax.random.key(0))


def test_actions_are_of_the_parameters_of_some_updates_ago():
    extras, expected, params = played()
    np.testing.assert_allclose(extras, expected, rtol=1e-5, atol=1e-6)
    leaf = np.asarray(jax.tree.leaves(params)[0])
    assert (leaf[1:, -1] != leaf[:-1, -1]).any(axis=tuple(range(1, leaf.ndim - 1))).all()


def test_targets_are_the_two_objectives():
    """Naive: the ratio's denominator is the policy that acted. Decoupled: that before the update,
    and each action counts by their ratio, up to the largest weight.
    """
    rng = np.random.default_rng(0)
    logits, old = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2))
    action = rng.integers(4, size=(3, 2))
    policy = rl.Discrete(4).policy({"logits": jnp.asarray(logits, jnp.float32)})
    zeros = np.zeros((3, 2), np.float32)
    batch = rl.Transition(
        obs=zeros,
        action=action,
        reward=zeros,
        next_obs=zeros,
        terminated=zeros > 0,
        truncated=zeros > 0,
        episode_return=zeros,
        length=zeros,
        rnn_state=(),
        extras=old,
        info={},
        episode_info={},
    )
    out = {"policy": policy, "value": zeros[..., None]}
    now = np.take_along_axis(
        logits - np.log(np.exp(logits).sum(-1, keepdims=True)), action[..., None], -1
    )[..., 0]
    with jax.disable_jit():
        naive, decoupled = (
            BehaviourSurrogate(decoupled=on, max_weight=2.0).targets((), out, out, batch, None)[1]
            for on in (False, True)
        )
    np.testing.assert_allclose(naive.log_prob, old, rtol=1e-5)
    np.testing.assert_allclose(naive.weight, 1.0)
    np.testing.assert_allclose(decoupled.log_prob, now, rtol=1e-5)
    np.testing.assert_allclose(decoupled.weight, np.minimum(np.exp(now - old), 2.0), rtol=1e-5)


def test_without_a_lag_it_is_the_algorithm():
    algos = (TINY.algo, rl.Stale(TINY.algo, lag=0), rl.Stale(TINY.algo, lag=0, decoupled=False))

    def run(key):
        trainings = [rl.tree.replace(TINY, algo=algo) for algo in algos]
        return [each.run_row(key, each.init(key), 0)[0].params for each in trainings]

    plain, *others = jax.jit(run)(jax.random.key(1))
    for other in others:
        for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_a_rule_without_ratios_is_refused():
    with pytest.raises(TypeError, match=r"take rl.ppo\(\)"):
        rl.Stale(rl.pqn())
    with pytest.raises(ValueError, match="lag"):
        rl.Stale(rl.ppo(), lag=-1)
