"""What may not be compared is refused, by what the records say."""

import json

import numpy as np
import pytest
import xarray as xr

import envs
import jaxrl as rl
from jaxrl import stats
from jaxrl.sweep import provenance

PLAIN = rl.Training(rl.dqn(), envs.make("CartPole-v1"), steps=20_000)


def results(
    training=PLAIN, seeds=8, steps=(10_000, 20_000), static=None, unfinished=False, **labels
):
    """What a sweep of a training would give, without training."""
    values = np.random.default_rng(0).normal(size=(seeds, len(steps)))
    record = {
        "run": provenance.describe(training),
        "versions": provenance.versions(),
        "static": provenance.describe(static or {}),
    }
    attributes = (
        {"card": json.dumps(record)}
        if unfinished
        else {part: json.dumps(it) for part, it in record.items()}
    )
    data = {name: (("seed", "step"), values) for name in ("return", "evaluation")}
    return xr.Dataset(data, {"seed": np.arange(seeds), "step": list(steps)} | labels, attributes)


def changed(**fields):
    return rl.Training(
        **{"algo": rl.dqn(), "env": envs.make("CartPole-v1"), "steps": 20_000} | fields
    )


def kinds(a, b, name="return", **options):
    return list(
        dict.fromkeys(line.split(":")[0] for line in stats.obstacles(a, b, name, **options))
    )


def test_algorithms_hyperparameters_and_numbers_of_seeds_are_no_obstacle():
    assert kinds(results(), results(changed(algo=rl.ppo()), seeds=20)) == []
    assert kinds(results(lr=1e-3), results(lr=3e-3)) == []
    stats.check_comparable(results(), results())


CASES = {
    "another environment": (results(changed(env=envs.make("Acrobot-v1"))), ["environment"]),
    "a field of it": (results(changed(env=envs.make("CartPole-v1", gravity=5.0))), ["environment"]),
    "a wrapper": (
        results(changed(env=envs.RewardScale(envs.make("CartPole-v1"), 0.1))),
        ["environment"],
    ),
    "a swept field": (results(gravity=5.0), ["environment"]),
    "by its path": (results(**{"env.params.gravity": 5.0}), ["environment"]),
    "a static environment": (
        results(
            static={"env": {"pole": envs.make("CartPole-v1"), "catch": envs.make("Catch")}},
            env="catch",
        ),
        ["environment"],
    ),
    "fewer steps": (results(steps=(5_000, 10_000)), ["budget"]),
    "an early stop": (results(stop_after=10_000.0), ["budget"]),
    "more rows": (results(changed(evals=20)), ["evaluation"]),
    "unfinished members": (results().where(np.arange(8)[:, None] != 3), ["seeds"]),
    "three seeds": (results(seeds=3), ["seeds"]),
    "several": (
        results(changed(env=envs.make("Catch")), seeds=3, steps=(5_000, 10_000)),
        ["seeds", "budget", "environment"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_misleading_differences_are_obstacles(case):
    other, expected = CASES[case]
    other = other.copy()
    assert kinds(results(), other) == kinds(other, results()) == expected
    with pytest.raises(ValueError, match="would be misleading"):
        stats.check_comparable(results(), other)
    stats.check_comparable(results(), other, allow=expected)


def test_labels_that_say_what_the_field_says_are_no_obstacle():
    static = {"env": {"pole": envs.make("CartPole-v1"), "catch": envs.make("Catch")}}
    assert kinds(results(), results(gravity=9.8)) == []
    assert kinds(results(), results(static=static, env="pole")) == []
    assert (
        kinds(results(gravity=5.0), results(changed(env=envs.make("CartPole-v1", gravity=5.0))))
        == []
    )


def test_how_it_was_evaluated_matters_to_evaluations_alone():
    other = results(changed(episodes=4))
    assert kinds(results(), other, "evaluation") == ["evaluation"]
    assert kinds(results(), other, "return") == []


def test_a_simulator_of_another_version():
    other = results()
    versions = json.loads(other.attrs["versions"]) | {"gymnax": "9.9"}
    other.attrs["versions"] = json.dumps(versions)
    assert kinds(results(), other) == ["simulator"]
    del versions["gymnax"]  # as a card that never named it
    assert kinds(results(), other.assign_attrs(versions=json.dumps(versions))) == []
    versions["gymnax"] = "9.9"
    own = results(changed(env=envs.make("Catch")))
    assert (
        kinds(own, own.assign_attrs(versions=json.dumps(versions))) == []
    )  # gymnax has no part in it


def test_a_field_that_one_record_alone_has_is_an_obstacle():
    old = results()
    run = json.loads(old.attrs["run"])
    run["env"]["sticky"] = 0.25
    assert kinds(old, old.assign_attrs(run=json.dumps(run))) == ["environment"]


def test_the_last_incomplete_update_is_no_difference():
    assert kinds(results(), results(steps=(9_900, 19_840))) == []


def test_an_unfinished_sweep_is_read_too():
    assert kinds(results(), results(changed(env=envs.make("Catch")), unfinished=True)) == [
        "environment"
    ]


def test_without_a_record_the_numbers_alone_speak():
    assert kinds(results()["return"], results(changed(env=envs.make("Catch")))["return"]) == []
    assert kinds(results()["return"], results(steps=(1, 2))["return"]) == ["budget"]
    function = results().assign_attrs(run=json.dumps({"function": "mine.run"}))
    assert kinds(function, results(changed(env=envs.make("Catch")))) == []


def test_an_obstacle_names_the_field_and_both_values():
    lines = stats.obstacles(results(), results(changed(env=envs.make("Acrobot-v1"))))
    assert "CartPole-v1" in lines[0]
    assert len(lines) == 5
    (line,) = stats.obstacles(results(), results(gravity=5.0))
    assert line == "environment: params.gravity 9.8 in the first, 5.0 in the second"
    lost = results().where(np.arange(8)[:, None] != 3)
    assert "seed 3" in stats.obstacles(results(), lost)[0]
    assert len(stats.obstacles(results(), lost, last=2)) == 1
    assert kinds(results(seeds=3), results(), min_seeds=2) == []
