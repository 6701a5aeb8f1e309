"""The evidence for what a search found, on arrays: scales, counts, and the settings of the arms."""

import json

import jax.numpy as jnp
import numpy as np

from experiments import discovered_ppo

RNG = np.random.default_rng(0)


def around(*means, seeds=64):
    return np.stack([mean + 0.1 * RNG.normal(size=seeds) for mean in means])


def test_scores_are_from_the_random_policy_to_tuned_ppo():
    tests = {"tuned PPO": around(2.0, 3.0), "PPO": around(1.0, 2.0), "found": around(2.0, 3.5)}
    tests["found"][0, :3] = np.nan
    record = discovered_ppo.summary(tests, low=1.0)
    assert abs(record["unit"] - 2.0) < 0.1
    assert record["without a score"] == {"tuned PPO": 0, "PPO": 0, "found": 3}
    arms = record["arms"]
    np.testing.assert_allclose(arms["found"]["all"][0], (0.5 + 1.25) / 2, atol=0.05)
    np.testing.assert_allclose(arms["PPO"]["each"][1][0], 0.5, atol=0.05)
    assert arms["PPO"]["over PPO"] == [0.0, 0.0, 0.0]


def test_an_environment_that_tuned_ppo_does_not_learn_has_no_scale():
    for other in (around(1.0, 1.0), np.full((2, 64), np.nan)):
        record = discovered_ppo.summary({"tuned PPO": other, "PPO": around(1.0, 1.0)}, low=1.0)
        assert record["arms"] == {}


def test_counts_need_the_whole_interval():
    row = lambda ppo, tuned: {"over PPO": ppo, "over tuned PPO": tuned}
    record = {
        "a": {"arms": {"found": row([0.2, 0.1, 0.3], [0.0, -0.04, 0.1])}},
        "b": {"arms": {"found": row([0.1, -0.1, 0.3], [-0.2, -0.3, 0.0])}},
        "c": {"arms": {"found": row([-0.2, -0.3, -0.1], [-0.2, -0.3, -0.1])}},
        "d": {"arms": {}},
    }
    assert discovered_ppo.counts(record)["found"] == {
        "ahead of PPO": 1,
        "behind PPO": 1,
        "ahead of tuned PPO": 0,
        "behind tuned PPO": 1,
        "at most 0.05 behind tuned PPO": 1,
        "of": 3,
    }


def test_parameters_are_read_and_the_best_is_no_nan(tmp_path):
    weights = np.arange(12.0).reshape(2, 6)
    found = [{"controller.weights": weights.tolist()}] * 3
    text = json.dumps({"best_evaluation": [float("nan"), 0.1, 0.3], "found": found})
    (tmp_path / "schedule.json").write_text(text)
    params, best = discovered_ppo.found("schedule", tmp_path)
    assert best == 2
    np.testing.assert_array_equal(params[0]["controller.weights"], weights)


def test_ablations_and_constants_keep_what_they_name():
    weights = jnp.ones((2, 6))
    kept = {name: x[0].tolist() for name, x in discovered_ppo.ablations(weights).items()}
    assert kept == {
        "schedule without time": [1, 0, 0, 1, 1, 1],
        "schedule without measurements": [1, 1, 1, 0, 0, 0],
        "constants of the schedule": [1, 0, 0, 0, 0, 0],
    }
    assert discovered_ppo.constants({"x": weights})["x"].sum() == 2
