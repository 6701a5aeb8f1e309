"""Each statistic against its definition, written slowly in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrl import stats

rng = np.random.default_rng(0)
START = rng.bit_generator.state


@pytest.fixture(autouse=True)
def _same_scores_whichever_tests_ran_before():
    rng.bit_generator.state = START


def scores(*shape):
    return rng.normal(size=shape).astype(np.float32)


def slow_trim(x, trim):
    """The mean of the values that are not NaN without floor(trim * n) at each end."""
    x = sorted(value for value in x if not np.isnan(value))
    cut = min(int(trim * len(x)), (len(x) - 1) // 2)
    return np.mean(x[cut : len(x) - cut]) if x else np.nan


# --------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 100])
def test_point_estimates_are_scipys(n):
    x = scores(6, n)
    np.testing.assert_allclose(stats.iqm(x), scipy.stats.trim_mean(x, 0.25, axis=-1), atol=1e-6)
    np.testing.assert_allclose(stats.median(x), np.median(x, axis=-1), atol=1e-6)
    np.testing.assert_allclose(stats.mean(x), np.mean(x, axis=-1), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 1), None])
def test_iqm_along_any_axes(axis):
    x = scores(5, 6, 7)
    axes = range(3) if axis is None else np.atleast_1d(axis) % 3
    rest = [i for i in range(3) if i not in axes]
    pooled = x.transpose(*rest, *axes).reshape(*(x.shape[i] for i in rest), -1)
    np.testing.assert_allclose(
        stats.iqm(x, axis), scipy.stats.trim_mean(pooled, 0.25, axis=-1), atol=1e-6
    )


def test_aggregates_are_rliables():
    """rliable.metrics on runs x tasks, in its own words."""
    x = scores(10, 6)
    np.testing.assert_allclose(
        stats.iqm(x, None), scipy.stats.trim_mean(x, proportiontocut=0.25, axis=None), atol=1e-6
    )
    np.testing.assert_allclose(
        stats.optimality_gap(x, 0.5), 0.5 - np.mean(np.minimum(x, 0.5)), atol=1e-6
    )
    np.testing.assert_allclose(
        stats.median(stats.mean(x, axis=0)), np.median(np.mean(x, axis=0)), atol=1e-6
    )
    profile = [np.mean(x > tau) for tau in (-1.0, 0.0, float(x[0, 0]))]
    np.testing.assert_allclose(
        stats.performance_profile(x, [-1.0, 0.0, x[0, 0]]), profile, atol=1e-6
    )


def test_probability_of_improvement_counts_pairs():
    x, y = rng.integers(0, 4, (7, 3)).astype(float), rng.integers(0, 4, (5, 3)).astype(float)
    slow = np.mean(
        [(a > b) + 0.5 * (a == b) for task in range(3) for a in x[:, task] for b in y[:, task]]
    )
    np.testing.assert_allclose(stats.probability_of_improvement(x, y), slow, atol=1e-6)
    both = stats.probability_of_improvement(x, y) + stats.probability_of_improvement(y, x)
    np.testing.assert_allclose(both, 1.0, atol=1e-6)


def test_nan_is_no_score():
    x, y = np.array([0.3, np.nan, 2.0, 5.0]), np.array([1.0, np.nan, 2.0])
    x_known, y_known = x[~np.isnan(x)], y[~np.isnan(y)]
    for statistic in (stats.iqm, stats.mean, stats.median, stats.optimality_gap):
        np.testing.assert_allclose(statistic(x), statistic(x_known), atol=1e-6)
        assert np.isnan(statistic(np.full(3, np.nan)))
    np.testing.assert_allclose(stats.performance_profile(x, [0.0, 2.0]), [1.0, 1 / 3], atol=1e-6)
    improvement = stats.probability_of_improvement
    np.testing.assert_allclose(improvement(x, y), improvement(x_known, y_known), atol=1e-6)


def test_auc_is_the_mean_height():
    curve, steps = scores(3, 5), np.array([0, 10, 20, 50, 60])
    np.testing.assert_allclose(stats.auc(curve, steps), np.trapezoid(curve, steps) / 60, atol=1e-6)
    np.testing.assert_allclose(
        stats.auc(curve.T, steps, axis=0), stats.auc(curve, steps), atol=1e-6
    )
    np.testing.assert_allclose(stats.auc([np.nan, 2.0, 4.0], [0, 10, 20]), 3.0)
    np.testing.assert_allclose(
        stats.auc([[3.0], [np.nan]], [10]), [3.0, np.nan]
    )  # one row: its height


values = st.floats(-1e3, 1e3, width=32) | st.just(np.nan)
samples = hnp.arrays(np.float32, st.sampled_from([4, 7, 12]), elements=values).filter(
    lambda x: not np.isnan(x).all()
)


@settings(max_examples=60, deadline=None)
@given(x=samples, seed=st.integers(0, 99), shift=st.integers(-9, 9), scale=st.integers(1, 9))
def test_iqm_properties(x, seed, shift, scale):
    iqm, known = float(stats.iqm(x)), x[~np.isnan(x)]
    close = {"atol": 1e-5 * (1 + np.abs(known).max()) * 9}
    np.testing.assert_allclose(iqm, slow_trim(x, 0.25), **close)
    low, high = np.sort(known)[[len(known) // 4, -1 - len(known) // 4]]
    assert low - close["atol"] <= iqm <= high + close["atol"]
    assert stats.iqm(np.random.default_rng(seed).permutation(x)) == iqm
    np.testing.assert_allclose(stats.iqm(scale * x + shift), scale * iqm + shift, **close)


# ---------------------------------------------------------------------------------------- intervals


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), trim=st.sampled_from([0.0, 0.25, 0.5]))
def test_counting_is_resampling(seed, trim):
    """A mean of scores with counts equals that of the repeated scores."""
    local = np.random.default_rng(seed)
    x, counts = np.sort(local.normal(size=11)), local.multinomial(11, np.full(11, 1 / 11))
    fast = stats.trimmed_mean(jnp.asarray(x), jnp.asarray(counts), trim)
    np.testing.assert_allclose(fast, slow_trim(np.repeat(x, counts), trim), atol=1e-6)


@pytest.mark.parametrize(
    ("statistic", "trim"), [(stats.iqm, 0.25), (stats.mean, 0.0), (stats.median, 0.5)]
)
def test_interval_is_the_slow_stratified_bootstrap(statistic, trim):
    """The same seeds drawn, each resample written out and sorted."""
    x, resamples = scores(3, 9), 50
    x[1, 4] = np.nan
    slow = []
    for one in jax.random.split(jax.random.key(1), resamples):
        counts = np.asarray(stats.draw_counts(one, 3, 9))
        slow.append(
            slow_trim(np.concatenate([np.repeat(x[task], counts[task]) for task in range(3)]), trim)
        )
    result = stats.interval(x, statistic, key=jax.random.key(1), resamples=resamples, tasks=0)
    np.testing.assert_allclose(result.estimate, slow_trim(x.ravel(), trim), atol=1e-6)
    np.testing.assert_allclose(
        [result.low, result.high], np.quantile(slow, [0.025, 0.975]), atol=1e-5
    )


def test_draws_are_stratified_and_even():
    counts = jax.vmap(lambda key: stats.draw_counts(key, 4, 8))(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert (counts.sum(-1) == 8).all()
    np.testing.assert_allclose(counts.mean(0), 1.0, atol=0.06)
    np.testing.assert_allclose(counts.var(0), 1 - 1 / 8, atol=0.1)


def test_a_grid_at_once_equals_its_points_one_by_one(monkeypatch):
    x = scores(2, 3, 12)
    whole = stats.interval(x, resamples=100)
    for i, j in np.ndindex(2, 3):
        alone = stats.interval(x[i, j], resamples=100)
        np.testing.assert_allclose(
            jnp.stack(alone), jnp.stack([end[i, j] for end in whole]), atol=1e-6
        )
    np.testing.assert_allclose(
        stats.interval(x.T, resamples=100, axis=0).low.T, whole.low, atol=1e-6
    )
    jax.clear_caches()
    monkeypatch.setitem(stats.intervals.BATCH_VALUES, "cpu", 500)  # 6 resamples at once
    np.testing.assert_allclose(stats.interval(x, resamples=100).high, whole.high, atol=1e-6)


def test_any_statistic_agrees_with_the_fast_path():
    """Other draws, the same distribution: the ends agree to the noise of 4,000 resamples."""
    x = scores(2, 30)
    fast, slow = (
        stats.interval(x, resamples=4000),
        stats.interval(x, lambda s: stats.iqm(s), resamples=4000),
    )
    np.testing.assert_allclose(fast.estimate, slow.estimate, atol=1e-6)
    np.testing.assert_allclose(fast.low, slow.low, atol=0.05)
    np.testing.assert_allclose(fast.high, slow.high, atol=0.05)
    tasks = stats.interval(x.T, lambda s: stats.iqm(s, None), axis=0, tasks=1, resamples=4000)
    np.testing.assert_allclose(
        jnp.stack(tasks), jnp.stack(stats.interval(x, tasks=0, resamples=4000)), atol=0.05
    )


@pytest.mark.parametrize("statistic", [stats.iqm, stats.mean])
def test_coverage(statistic):
    """Of 1,000 intervals from 50 normal scores, 95 % hold the truth; the percentile interval is
    known to give 92 to 95.
    """
    x = np.random.default_rng(3).normal(size=(1000, 50))
    result = stats.interval(x, statistic, resamples=1000)
    covered = float(jnp.mean((result.low <= 0) & (result.high >= 0)))
    assert 0.91 < covered < 0.97


def test_intervals_are_deterministic_and_widen_with_the_level():
    x = scores(20)
    assert stats.interval(x) == stats.interval(x)
    wide, narrow = stats.interval(x, level=0.99), stats.interval(x, level=0.5)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    assert stats.interval(x, key=jax.random.key(1)).low != stats.interval(x).low


def test_pairs_cancel_the_effect_of_a_seed():
    shared = 10 * scores(30)
    result = stats.paired_difference(shared + 1, shared + 0.1 * scores(30))
    assert 0.9 < result.low < result.high < 1.1
    with pytest.raises(ValueError, match="common seeds"):
        stats.paired_difference(shared, shared[:-1])


@pytest.mark.parametrize("statistic", [stats.iqm, stats.median, stats.mean])
def test_statistics_take_what_holds_numbers(statistic):
    x = [1.0, 2.0, 3.0, 10.0]
    for held in (x, pd.Series(x), xr.DataArray(x, dims="seed")):
        assert float(statistic(held)) == float(statistic(np.array(x)))
    assert statistic([10**10, 2 * 10**10]) == 1.5e10
    assert np.isnan(statistic([]))


def test_improvement_has_an_interval():
    x, y = scores(30) + 2, scores(20)
    draws = stats.bootstrap(
        jax.random.key(0), stats.probability_of_improvement, x, y, resamples=300
    )
    low, high = stats.percentile(draws)
    assert draws.shape == (300,)
    assert 0.5 < low < stats.probability_of_improvement(x, y) < high < 1


def test_intervals_refuse_what_says_nothing():
    with pytest.raises(ValueError, match="at least 2"):
        stats.interval(np.ones((5, 1)))
    with pytest.raises(ValueError, match="no axis 1 of seeds"):
        stats.interval(np.arange(4.0), axis=1)
    with pytest.raises(ValueError, match="resamples=0"):
        stats.interval(np.arange(4.0), resamples=0)
    for improvement in (stats.improvement, stats.probability_of_improvement):
        with pytest.raises(ValueError, match=r"x has \(2,\), y \(3,\)"):
            improvement(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="at least 2"):
        stats.interval_of(jnp.mean, np.ones(1))
    with pytest.raises(ValueError, match=r"a curve of 3 points.*\(2,\)"):
        stats.auc(np.ones((4, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"level=0\.95"):
        stats.interval(np.ones(5), level=95)
    lonely = stats.interval(np.array([[1.0, np.nan, np.nan], [1.0, 2.0, np.nan]]))
    assert np.isnan(lonely.low).tolist() == [True, False]


# ------------------------------------------------------------------------------------------ a sweep


@pytest.fixture
def results():
    returns = scores(2, 6, 3) + np.array([0.0, 10.0])[:, None, None]
    returns[0, 0, 0], returns[1, 2, 2], diverged = np.nan, np.inf, np.zeros((2, 6), bool)
    diverged[1, 2] = True
    data = {"return": (("lr", "seed", "step"), returns), "diverged": (("lr", "seed"), diverged)}
    return xr.Dataset(data, {"lr": [1e-3, 1e-2], "seed": np.arange(6), "step": [100, 200, 300]})


def test_summary_names_what_it_knows(results):
    made = stats.summary(results, resamples=100)
    assert made.iqm.dims == ("lr", "step")
    assert made["count"].values.tolist() == [[5, 6, 6], [6, 6, 5]]
    point = results["return"].sel(lr=1e-2, step=300).values
    np.testing.assert_allclose(
        made.iqm.sel(lr=1e-2, step=300), slow_trim(point[np.isfinite(point)], 0.25), atol=1e-5
    )
    assert (made.low < made.iqm).all()
    assert (made.iqm < made.high).all()
    xr.testing.assert_equal(made, stats.summary(results["return"], resamples=100))
    xr.testing.assert_allclose(
        made,
        stats.summary(results.transpose("step", "seed", "lr"), resamples=100).transpose(
            "lr", "step"
        ),
    )


def test_summary_pools_tasks(results):
    made = stats.summary(results.fillna(0), tasks="lr", resamples=100)
    assert made.iqm.dims == ("step",)
    pooled = results["return"].fillna(0).isel(step=1).values
    np.testing.assert_allclose(made.iqm[1], slow_trim(pooled.ravel(), 0.25), atol=1e-5)


def test_one_seed_has_no_interval(results):
    made = stats.summary(results.isel(seed=[1]))
    assert made.low.isnull().all()
    np.testing.assert_allclose(made.iqm, results["return"].isel(seed=1), rtol=1e-6)


def test_table_has_one_row_per_point(results):
    frame = stats.table(results, resamples=100)
    assert frame.columns.tolist() == ["iqm", "low", "high", "seeds", "diverged"]
    assert frame.index.tolist() == [1e-3, 1e-2]
    assert frame.seeds.tolist() == [6, 5]
    assert frame.diverged.tolist() == [0, 1]
    averaged = results["return"].sel(lr=1e-3).isel(step=slice(-2, None)).mean("step").values
    np.testing.assert_allclose(
        stats.table(results, last=2).iqm[1e-3], slow_trim(averaged, 0.25), atol=1e-5
    )
    assert len(stats.table(results.isel(lr=0))) == 1


def test_table_without_a_finished_seed(results):
    assert stats.table(results.where(False)[["return"]], resamples=10).iqm.isnull().all()


def test_errors_name_what_is_there(results):
    with pytest.raises(ValueError, match="the nearest are return"):
        stats.summary(results, "retrun")
    with pytest.raises(ValueError, match="the nearest are seed"):
        stats.summary(results, over="sed")
    with pytest.raises(ValueError, match="last=0"):
        stats.table(results, last=0)
    with pytest.raises(ValueError, match="no finite final score"):
        stats.profile(results.where(False))
    with pytest.raises(TypeError, match=r"xr\.DataArray\(x"):
        stats.summary(np.zeros((2, 9)))
