"""Traced counts: fewer epochs, shorter runs, normalisation on or off, all in one program; each is
equal to the program that is compiled for it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import envs
import jaxrl as rl

SMALL = dict(network=rl.MLP((8,)), num_envs=2, num_steps=8, minibatches=2, lr=1e-2)
SEEDS = {"seed": jnp.arange(2)}


def train(env, steps=16 * 8, evals=4, **fields):
    return rl.Training(
        rl.ppo(**SMALL | {"epochs": 4} | fields),
        env,
        steps,
        evals=evals,
        episodes=0,
    )


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


def test_a_limit_of_epochs_is_as_many_epochs():
    limited = quiet(
        train(Choice()), {"epoch_limit": np.array([1.0, 2.0, 4.0, np.inf], np.float32)} | SEEDS
    )
    for epochs in (1, 2, 4):
        alone = quiet(train(Choice(), epochs=epochs), SEEDS)
        for name in ("loss", "kl", "grad_norm", "entropy"):
            np.testing.assert_allclose(
                limited[name].sel(epoch_limit=epochs),
                alone[name],
                rtol=2e-3,
                atol=1e-5,
                err_msg=name,
            )
    np.testing.assert_array_equal(
        limited["loss"].sel(epoch_limit=4), limited["loss"].isel(epoch_limit=3)
    )
    assert not np.allclose(limited["loss"].sel(epoch_limit=1), limited["loss"].sel(epoch_limit=2))


def test_a_member_that_stops_equals_a_shorter_run():
    runs = quiet(
        train(Choice()), {"stop_after": np.array([64.0, 70.0, 128.0, np.inf], np.float32)} | SEEDS
    )
    short = quiet(train(Choice(), steps=64, evals=2), SEEDS)
    for stop in (64, 70):  # an update that would end later is not begun
        same = runs.sel(stop_after=stop).isel(step=slice(2))
        for name in ("loss", "entropy", "return", "episodes"):
            np.testing.assert_allclose(same[name], short[name], rtol=2e-3, atol=1e-5, err_msg=name)
        assert runs["loss"].sel(stop_after=stop).isel(step=slice(2, None)).isnull().all()
        assert (runs["episodes"].sel(stop_after=stop).isel(step=slice(2, None)) == 0).all()
    whole = quiet(train(Choice()), SEEDS)
    for stop in (128, np.inf):
        np.testing.assert_allclose(
            runs["loss"].isel(stop_after=-1 if stop > 128 else 2), whole["loss"], rtol=2e-3
        )


def test_a_stopped_member_does_not_change(tmp_path):
    training = train(Choice())
    stops = {"stop_after": np.array([64.0, 128.0], np.float32)}
    quiet(training, stops | {"seed": np.arange(1)}, folder=tmp_path / "x")
    short = quiet(
        train(Choice(), steps=64, evals=2), {"seed": np.arange(1)}, folder=tmp_path / "short"
    )
    assert short["loss"].notnull().all()
    stopped = rl.policy(tmp_path / "x", training, stop_after=64).agent.params
    other = rl.policy(tmp_path / "x", training, stop_after=128).agent.params
    alone = rl.policy(tmp_path / "short", train(Choice(), steps=64, evals=2)).agent.params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), stopped, alone
    )
    assert (
        max(
            float(abs(a - b).max())
            for a, b in zip(*map(jax.tree.leaves, (stopped, other)), strict=True)
        )
        > 1e-2
    )


def test_normalisation_on_and_off_is_an_axis():
    env = envs.make("CartPole-v1")
    axes = {"normalize_obs": np.array([False, True]), "normalize_reward": np.array([False, True])}
    both = quiet(train(env, epochs=1), axes | SEEDS)
    for obs in (False, True):
        for reward in (False, True):
            alone = quiet(train(env, epochs=1, normalize_obs=obs, normalize_reward=reward), SEEDS)
            at = both.sel(normalize_obs=obs, normalize_reward=reward)
            np.testing.assert_allclose(at["loss"], alone["loss"], rtol=5e-3, atol=1e-4)
    assert not np.allclose(
        both["loss"].isel(normalize_obs=0), both["loss"].isel(normalize_obs=1), rtol=1e-2
    )
    assert not np.allclose(
        both["loss"].isel(normalize_reward=0), both["loss"].isel(normalize_reward=1), rtol=1e-2
    )


def test_the_plan_states_the_padding():
    axes = {
        "epoch_limit": np.array([1.0, 4.0], np.float32),
        "stop_after": np.array([32.0, 128.0], np.float32),
    }
    plan = rl.plan(train(Choice()), axes | SEEDS, probe=False)
    assert plan.padding == (
        "38% of the learning, by epoch_limit below 4; 38% of the learning, by stop_after below 128"
    )
    assert plan.padding in str(plan)
    assert rl.plan(train(Choice()), SEEDS, probe=False).padding == ""
    short = rl.plan(dataclasses.replace(train(Choice()), stop_after=96.0), SEEDS, probe=False)
    assert short.padding == "25% of the learning, by stop_after below 128"


def test_a_run_without_an_update_is_nan():
    runs = quiet(train(Choice()), {"stop_after": np.array([1.0, 128.0], np.float32)} | SEEDS)
    assert runs["loss"].isel(stop_after=0).isnull().all()
    assert not runs["diverged"].any()
    assert pytest.approx(0.0) == float(runs["episodes"].isel(stop_after=0).sum())


def test_the_best_member_may_be_one_that_stopped_early():
    runs = quiet(
        train(Choice(), lr=0.1), {"stop_after": np.array([64.0, 80.0], np.float32)} | SEEDS
    )
    assert runs["return"].isel(step=-1).isnull().all()
    known = rl.best(runs)
    assert known["stop_after"] in (64.0, 80.0)
    with pytest.raises(ValueError, match="no run has a final"):
        rl.best(quiet(train(Choice()), {"stop_after": np.array([1.0], np.float32)} | SEEDS))


def test_images_of_bytes_are_not_normalised_by_halves():
    @rl.pytree
    class Bytes(Choice):
        def reset(self, key):
            state, obs = super().reset(key)
            return state, obs.astype(jnp.uint8)

        def step(self, key, state, action):
            state, result = super().step(key, state, action)
            return state, rl.tree.replace(result, obs=result.obs.astype(jnp.uint8))

    with pytest.raises(TypeError, match=r"uint8.*static="):
        quiet(train(Bytes()), {"normalize_obs": np.array([False, True])} | SEEDS)
