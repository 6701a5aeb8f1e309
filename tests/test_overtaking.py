"""Overtaking: importance weights are right, and crashes follow from what drivers can do."""

import jax
import numpy as np

from envs import overtaking

REFERENCE, WEAK = overtaking.Driver(), overtaking.Driver(brake=4.0)


@jax.jit
def episodes(key, boldness):
    def episode(key):
        scenario = overtaking.scenario(key, REFERENCE, boldness)
        crashes = [overtaking.drive(driver, scenario) for driver in (REFERENCE, WEAK)]
        sparse = overtaking.drive(WEAK, scenario, sparse=True)
        return *crashes, sparse, scenario.critical.sum(), scenario.log_weight

    return jax.vmap(episode)(jax.random.split(key, 40_000))


def test_weights_give_the_natural_crash_rate():
    *_, weak, sparse, critical, log_weight = episodes(jax.random.key(0), 0.0)
    np.testing.assert_array_equal(log_weight, 0.0)
    *_, bold_weak, bold_sparse, bold_critical, bold = episodes(jax.random.key(1), 0.7)
    weight = np.exp(np.asarray(bold, np.float64))
    for natural, tested in (
        (weak, bold_weak),
        (sparse, bold_sparse),
        (critical, bold_critical),
        (np.ones(40_000), np.ones(40_000)),
    ):
        weighted = np.asarray(tested) * weight
        error = np.hypot(np.std(natural), np.std(weighted)) / 200
        assert abs(np.mean(natural) - weighted.mean()) < 3 * error
    assert bold_weak.mean() > 3 * weak.mean() > 0


def test_a_driver_that_brakes_less_crashes_more():
    strong, weak, sparse, critical, _ = episodes(jax.random.key(2), 0.7)
    assert strong.mean() < weak.mean()
    assert not np.any(sparse[critical == 0])
    assert np.mean(sparse == weak) > 0.95
