"""Missing values and diverged runs: no NaN inside programs, NaN in the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms.loop import Row

# one row without an end of an episode, and one evaluation in two rows
LONG = tree.replace(TINY, evals=4, episodes=1, eval_share=0.2)


@pytest.fixture
def debug_nans():
    with jax.debug_nans(True):
        yield


def test_a_row_marks_what_has_no_value():
    known = {"return": jnp.array([True, False]), "cost": jnp.array([True, False])}
    values = {
        "return": jnp.array([1.0, 2.0]),
        "cost": jnp.ones((2, 3)),
        "loss": jnp.array([3.0, 4.0]),
    }
    row = Row(values, known)
    for metrics in (row.metrics(), row.on_host()):
        np.testing.assert_array_equal(metrics["return"], [1.0, np.nan])
        np.testing.assert_array_equal(metrics["cost"], [[1.0] * 3, [np.nan] * 3])
        np.testing.assert_array_equal(metrics["loss"], [3.0, 4.0])


def test_a_sweep_runs_under_debug_nans_and_is_the_same(debug_nans):
    over = {"seed": [0, 1]}
    results = rl.sweep(LONG, over, progress=False, keep_best=True)
    with jax.debug_nans(False):
        expected = rl.sweep(LONG, over, progress=False, keep_best=True)
    assert 0 < np.isnan(results["evaluation"]).mean() < 1
    for name in expected:
        np.testing.assert_array_equal(results[name], expected[name], err_msg=name)


def test_a_training_runs_outside_of_programs_alone(debug_nans):
    _, metrics = LONG(0)
    assert np.isnan(metrics["evaluation"]).any()
    with pytest.raises(ValueError, match=r"jax_debug_nans stops at NaN.*rl\.sweep"):
        jax.jit(LONG).trace(jax.random.key(0))


def test_nan_that_is_no_mark_is_found(debug_nans):
    with pytest.raises(FloatingPointError, match="after evaluation point"):
        rl.sweep(tree.put(LONG, {"lr": 3e38}), {"seed": [0]}, progress=False)


def test_the_evaluation_of_a_diverged_run_is_nan():
    """A policy of NaN plays its first action throughout, which may be the best one."""
    training = tree.replace(TINY, episodes=1, eval_share=1.0)
    _, metrics = jax.jit(tree.put(training, {"lr": 3e38}))(jax.random.key(0))
    assert metrics["diverged"].any()
    np.testing.assert_array_equal(np.isnan(metrics["evaluation"]), metrics["diverged"])
