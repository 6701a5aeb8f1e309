"""Each function against the paper's sum, written as a slow loop over futures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl import returns

GAMMA = 0.9
gae, lambda_returns, vtrace = map(jax.jit, (returns.gae, returns.lambda_returns, returns.vtrace))
n_step = jax.jit(returns.n_step, static_argnames="n")


def trajectory(seed, length=12):
    rng = np.random.default_rng(seed)
    terminated = rng.random(length) < 0.15
    truncated = (rng.random(length) < 0.15) & ~terminated
    value = rng.normal(size=length)
    next_value = np.append(value[1:], rng.normal())
    next_value = np.where(
        truncated | terminated, rng.normal(size=length), next_value
    )  # the true successor's value
    ratio = np.exp(rng.normal(size=length))
    fields = dict(reward=rng.normal(size=length), value=value, next_value=next_value, ratio=ratio)
    masks = dict(terminated=terminated, done=terminated | truncated)
    return {name: x.astype(np.float32) for name, x in fields.items()} | masks


def pick(batch, *names):
    return [batch[name] for name in names]


def slow_gae(reward, value, next_value, terminated, done, gamma, lam):
    """Sum over l of (gamma lam)^l delta[t + l], up to the end of the episode (Schulman et al.,
    2016, equation 16).
    """
    delta = reward + gamma * (1 - terminated) * next_value - value
    advantage = np.zeros(len(reward))
    for t in range(len(reward)):
        for k in range(t, len(reward)):
            advantage[t] += (gamma * lam) ** (k - t) * delta[k]
            if done[k]:
                break
    return advantage


def slow_n_step(reward, next_value, terminated, done, gamma, n):
    target = np.zeros(len(reward))
    for t in range(len(reward)):
        for k in range(n):
            target[t] += gamma**k * reward[t + k]
            if done[t + k] or k == n - 1 or t + k == len(reward) - 1:
                target[t] += gamma ** (k + 1) * (1 - terminated[t + k]) * next_value[t + k]
                break
    return target


def slow_lambda_return(reward, next_value, terminated, done, gamma, lam):
    """(1 - lam) sum of lam^(n - 1) G[t : t + n], the rest of the weight on the last one (Sutton and
    Barto, 12.2, 12.3).
    """
    target = np.zeros(len(reward))
    for t in range(len(reward)):
        left = next(k for k in range(t, len(reward)) if done[k] or k == len(reward) - 1) - t + 1
        g = [
            slow_n_step(reward, next_value, terminated, done, gamma, n)[t]
            for n in range(1, left + 1)
        ]
        target[t] = (
            sum((1 - lam) * lam ** (n - 1) * g[n - 1] for n in range(1, left))
            + lam ** (left - 1) * g[-1]
        )
    return target


def slow_vtrace(reward, value, next_value, terminated, done, ratio, gamma, max_rho, max_c):
    """Espeholt et al., 2018, equation 1, and the advantage above equation 4."""
    rho, c = np.minimum(ratio, max_rho), np.minimum(ratio, max_c)
    delta = rho * (reward + gamma * (1 - terminated) * next_value - value)
    target = np.array(value, float)
    for t in range(len(reward)):
        weight = 1.0
        for k in range(t, len(reward)):
            target[t] += weight * delta[k]
            if done[k]:
                break
            weight *= gamma * c[k]
    follows = [
        next_value[t] if done[t] or t == len(reward) - 1 else target[t + 1]
        for t in range(len(reward))
    ]
    return target, rho * (reward + gamma * (1 - terminated) * np.array(follows) - value)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), lam=st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_gae(seed, lam):
    args = pick(trajectory(seed), "reward", "value", "next_value", "terminated", "done")
    expected = slow_gae(*map(np.asarray, args), GAMMA, lam)
    np.testing.assert_allclose(gae(*args, GAMMA, lam), expected, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), lam=st.sampled_from([0.0, 0.5, 1.0]))
def test_lambda_returns(seed, lam):
    args = pick(trajectory(seed), "reward", "next_value", "terminated", "done")
    expected = slow_lambda_return(*map(np.asarray, args), GAMMA, lam)
    np.testing.assert_allclose(lambda_returns(*args, GAMMA, lam), expected, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.sampled_from([1, 2, 3, 12, 20]))
def test_n_step(seed, n):
    args = pick(trajectory(seed), "reward", "next_value", "terminated", "done")
    expected = slow_n_step(*map(np.asarray, args), GAMMA, n)
    np.testing.assert_allclose(n_step(*args, GAMMA, n=n), expected, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), clip=st.sampled_from([(1.0, 1.0), (2.0, 0.7)]))
def test_vtrace(seed, clip):
    args = pick(trajectory(seed), "reward", "value", "next_value", "terminated", "done", "ratio")
    expected = slow_vtrace(*map(np.asarray, args), GAMMA, *clip)
    found = vtrace(*args, GAMMA, max_rho=clip[0], max_c=clip[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4)


def test_vtrace_on_policy_is_the_lambda_return():
    batch = trajectory(3)
    ones = jnp.ones_like(batch["reward"])
    args = pick(batch, "reward", "value", "next_value", "terminated", "done")
    target, _ = vtrace(*args, ones, GAMMA)
    np.testing.assert_allclose(target, gae(*args, GAMMA, 1.0) + batch["value"], atol=1e-5)


def test_truncation_bootstraps_and_termination_does_not():
    one = jnp.ones(1)
    args = dict(
        reward=one, value=0 * one, next_value=10 * one, done=jnp.array([True]), gamma=0.5, lam=0.9
    )
    assert gae(terminated=jnp.array([False]), **args)[0] == pytest.approx(6.0)
    assert gae(terminated=jnp.array([True]), **args)[0] == pytest.approx(1.0)


def test_batched_equals_vmap_over_columns_bit_for_bit():
    columns = [trajectory(seed) for seed in range(3)]
    batch = {name: jnp.stack([column[name] for column in columns], 1) for name in columns[0]}
    args = pick(batch, "reward", "value", "next_value", "terminated", "done")
    by_vmap = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
    expected = by_vmap(*args, GAMMA, jnp.float32(0.9))
    found = returns.batched(returns.gae)(*args, GAMMA, jnp.float32(0.9))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        returns.batched(returns.gae, num_arrays=5)(*args, GAMMA, jnp.float32(0.9)), expected
    )


def test_batched_shares_vectors_and_maps_trees_of_outputs():
    reward = jnp.arange(8.0).reshape(4, 2)
    decay = jnp.full(4, GAMMA)
    found = returns.batched(returns.accumulate)(reward, decay)
    assert found.shape == (4, 2)
    np.testing.assert_array_equal(found[:, 1], returns.accumulate(reward[:, 1], decay))
    pair = returns.batched(lambda x, scale: (x, {"scaled": x * scale}))(reward, 2.0)
    np.testing.assert_array_equal(pair[1]["scaled"], 2.0 * reward)
