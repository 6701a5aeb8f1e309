"""The evidence for what a search found, on arrays: scales, counts, and the settings of the arms."""

import json

import jax.numpy as jnp
import numpy as np

from experiments import _discovered_pages as pages
from experiments import discover_ppo, discovered_ppo, distill_ppo

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


def test_parameters_are_read_and_averaged_over_meta_seeds(tmp_path):
    weights = np.arange(12.0).reshape(2, 6)
    found = [{"controller.weights": (weights + i).tolist()} for i in range(3)]
    path = discover_ppo.record_of("schedule", tmp_path, 2)
    path.write_text(json.dumps({"found": found}))
    params = discover_ppo.found_by(path)
    np.testing.assert_array_equal(params[0]["controller.weights"], weights)
    np.testing.assert_array_equal(discovered_ppo.mean(params)["controller.weights"], weights + 1.0)


def test_ablations_and_constants_keep_what_they_name():
    weights = jnp.ones((2, 6))
    kept = {name: x[0].tolist() for name, x in discovered_ppo.ablations(weights).items()}
    assert kept == {
        "schedule without time": [1, 0, 0, 1, 1, 1],
        "schedule without measurements": [1, 1, 1, 0, 0, 0],
        "constants of the schedule": [1, 0, 0, 0, 0, 0],
    }
    assert discovered_ppo.only_constants(weights).sum() == 2


def test_a_formula_keeps_the_largest_weights():
    weights = np.zeros((6, 6))
    weights[0, 0], weights[0, 1], weights[4, 2], weights[2, 5] = 0.5, -1.84, 0.64, 0.01
    kept = distill_ppo.largest(weights, 3)
    assert (kept[0, 0], kept[0, 1], kept[4, 2], np.count_nonzero(kept)) == (0.5, -1.8, 0.6, 3)
    assert distill_ppo.formula(kept) == [
        "lr * exp(+0.5 -1.8 (n / N))",
        "(1 - gamma) * exp(+0.6 (log N))",
    ]
    # 1.0 * 0.5 outweighs 0.29 * 1.5
    weights[0, 1] = 1.5
    assert distill_ppo.largest(weights, 1)[0].tolist() == [0.5, 0, 0, 0, 0, 0]


def small_record():
    seeds = lambda mean: 0.1 * RNG.normal(size=(2, 64)) + mean
    tests = {
        "PPO": seeds(1.0),
        "tuned PPO": seeds(2.0),
        "formula": seeds(1.5),
        "schedule_2": seeds(1.4),
    }
    learnt = discovered_ppo.summary(tests, low=0.0)
    not_learnt = discovered_ppo.summary({"tuned PPO": seeds(0.0), "PPO": seeds(0.0)}, low=0.0)
    record = {"Pole": learnt, "Maze": not_learnt}
    return {
        "environments": record,
        "counts": discovered_ppo.counts(record),
    }


def test_the_table_has_a_row_for_each_environment():
    rows = pages.table(small_record()).splitlines()
    assert rows[0] == "| environment | PPO | formula | schedule | tuned PPO |"
    assert rows[2].startswith("| Pole | 0.50")
    assert "+0.2" in rows[2]
    assert "no scale" in rows[3]
    assert rows[4] == "| ahead of PPO | | 1 of 1 | 1 of 1 | 1 of 1 |"
    assert all(row.count("|") == rows[0].count("|") for row in rows)


def test_the_figure_shows_factors_of_the_formula():
    weights = np.zeros((6, 6))
    weights[0, 1] = -1.0
    figure = pages.figure(small_record(), {"formula": weights, "0": 0.0 * weights}, (40, 120))
    rate = figure.axes[1]
    assert rate.get_title() == "lr"
    curve = rate.get_lines()[1].get_ydata()  # after that of the other weights
    np.testing.assert_allclose(curve[[0, -1]], [1.0, np.exp(3.0 * np.tanh(-1.0 / 3.0))], rtol=1e-5)


def test_a_second_search_begins_at_what_changed_by_more_than_noise():
    start = jnp.array([1.0, -2.0])
    seeds = [start + jnp.array([0.5 + 0.1 * i, 0.3 * (-1.0) ** i]) for i in range(6)]
    found = discover_ppo.significant_mean(start, *seeds)
    np.testing.assert_allclose(found, [1.75, -2.0], rtol=1e-6)
