"""Intervals against rliable's (tests/data/make_rliable_golden.py made its numbers) and against slow
loops.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl import stats
from jaxrl.stats import corrected, draws

GOLDEN = json.loads((pathlib.Path(__file__).parent / "data" / "rliable.json").read_text())
X, Y, CURVES = (np.array(GOLDEN[name]) for name in ("x", "y", "curves"))
AGGREGATES = {"iqm": stats.iqm, "mean": stats.mean, "optimality_gap": stats.optimality_gap}
# between two bootstraps of so many resamples: a twentieth of the narrowest interval below
NOISE = 0.015
OPTIONS = {"axis": 0, "tasks": 1, "resamples": 4000}


def same(made, golden, noise=NOISE):
    np.testing.assert_allclose(np.ravel(made.estimate), golden["estimate"], atol=1e-6)
    np.testing.assert_allclose(np.ravel(made.low), golden["low"], atol=noise)
    np.testing.assert_allclose(np.ravel(made.high), golden["high"], atol=noise)


@pytest.mark.parametrize("kind", ["percentile", "basic"])
@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_are_rliables(name, kind):
    same(stats.interval(X, AGGREGATES[name], kind=kind, **OPTIONS), GOLDEN[kind][name])


def test_the_median_of_task_means_is_rliables():
    median = lambda x: stats.median(stats.mean(x, axis=0))
    same(stats.interval_of(median, X, resamples=4000), GOLDEN["percentile"]["median"], 0.02)


def test_the_probability_of_improvement_is_rliables():
    same(stats.improvement(X, Y, resamples=4000), GOLDEN["improvement"])


def test_sample_efficiency_curves_are_rliables():
    """At each frame; rliable draws other seeds at each, here they are the same."""
    same(
        stats.interval(np.moveaxis(CURVES, 2, 0), axis=1, tasks=2, resamples=4000),
        GOLDEN["sample_efficiency"],
        0.03,
    )


def test_profiles_are_rliables():
    above = X[..., None] > np.array(GOLDEN["thresholds"])
    same(
        stats.interval(np.moveaxis(above, 2, 0), stats.mean, axis=1, tasks=2, resamples=4000),
        GOLDEN["profile"],
    )
    np.testing.assert_allclose(
        stats.performance_profile(X, GOLDEN["thresholds"]), GOLDEN["profile"]["estimate"], atol=1e-6
    )


# ------------------------------------------------------------------------------- against slow loops


def test_improvement_by_counts_is_that_of_the_scores_written_out():
    x, y, key, resamples = X[:5, :2].copy(), np.sort(Y[:4, :2], axis=0), jax.random.key(3), 20
    x[1, 0] = np.nan
    slow = []
    for one in jax.random.split(key, resamples):
        keys = jax.random.split(one)
        drawn = [
            np.asarray(stats.draw_counts(k, 2, len(z))) for k, z in zip(keys, (x, y), strict=True)
        ]
        tasks = [[np.repeat(z[:, t], drawn[i][t]) for i, z in enumerate((x, y))] for t in range(2)]
        known = [(a[~np.isnan(a)], b) for a, b in tasks]
        slow.append(
            np.mean([np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)) for a, b in known])
        )
    made = stats.improvement(x, y, key=jax.random.clone(key), resamples=resamples)
    np.testing.assert_allclose(
        [made.low, made.high], np.nanquantile(slow, [0.025, 0.975]), atol=1e-6
    )


def test_a_basic_interval_is_the_percentile_one_mirrored():
    one, other = (
        stats.interval(X[:, 0], kind=kind, resamples=200) for kind in ("percentile", "basic")
    )
    np.testing.assert_allclose(other.low + one.high, 2 * one.estimate, atol=1e-6)
    np.testing.assert_allclose(other.high + one.low, 2 * one.estimate, atol=1e-6)


def test_any_number_of_task_axes():
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 5)).astype(np.float32)
    flat = x.transpose(3, 0, 1, 2).reshape(5, 6, 8)
    made = stats.interval(x, axis=2, tasks=(0, 1), resamples=100)
    np.testing.assert_allclose(
        jnp.stack(made), jnp.stack(stats.interval(flat, tasks=1, resamples=100)), atol=1e-6
    )


def test_whole_seeds_are_drawn_where_tasks_are_correlated():
    """One seed's scores of all tasks are alike: strata pretend that they are independent."""
    x = np.random.default_rng(1).normal(size=(20, 1)) + np.zeros((20, 8))
    wide, narrow = (stats.interval(x, stats.mean, **OPTIONS, stratified=s) for s in (False, True))
    alone = stats.interval(x[:, 0], stats.mean, resamples=4000)
    np.testing.assert_allclose(wide.high - wide.low, alone.high - alone.low, rtol=0.05)
    np.testing.assert_allclose(
        (wide.high - wide.low) / (narrow.high - narrow.low), np.sqrt(8), rtol=0.1
    )


def test_a_paired_difference_of_statistics():
    shared = 10 * np.random.default_rng(1).normal(size=30)
    x, y = shared + 1, shared + 0.1 * np.random.default_rng(2).normal(size=30)
    paired, apart = (
        stats.difference(x, y, stats.mean, paired=paired, resamples=500) for paired in (True, False)
    )
    np.testing.assert_allclose(paired, stats.paired_difference(x, y, resamples=500), atol=1e-4)
    assert apart.high - apart.low > 20 * (paired.high - paired.low)
    np.testing.assert_allclose(
        stats.difference(x, y).estimate, stats.iqm(x) - stats.iqm(y), atol=1e-5
    )
    with pytest.raises(ValueError, match="shapes"):
        stats.difference(x, y[:-1], paired=True)
    with pytest.raises(ValueError, match='kind="basic"'):
        stats.interval(x, kind="normal")
    with pytest.raises(ValueError, match="interval of one sample"):
        stats.difference(x, y, kind="bca")


# ------------------------------------------------------------------ bias, skewness, standard errors


def test_bca_is_scipys():
    x = np.random.default_rng(0).lognormal(size=20)
    golden = scipy.stats.bootstrap((x,), np.mean, n_resamples=40_000, method="BCa", rng=0)
    made = stats.interval(x, stats.mean, kind="bca", resamples=40_000)
    np.testing.assert_allclose(made[1:], golden.confidence_interval, atol=NOISE * x.std())


def test_the_influences_of_bca_are_a_jackknifes():
    """Of the mean, where both are exact, over tasks; a median has that of the jackknife alone."""
    x = np.random.default_rng(0).lognormal(size=20)
    own = lambda x: jax.numpy.mean(x)
    made, slow = (stats.interval(x, f, kind="bca", resamples=500) for f in (stats.mean, own))
    np.testing.assert_allclose(made, slow, rtol=1e-3)
    assert np.isfinite(stats.interval(x, stats.median, kind="bca", resamples=500)).all()


def test_a_studentised_interval_is_that_of_a_slow_loop():
    x = np.random.default_rng(0).lognormal(size=20)
    drawn = np.random.default_rng(1).choice(x, (40_000, 20))
    made = stats.interval(x, stats.mean, kind="studentised", resamples=40_000)
    t = (drawn.mean(1) - x.mean()) / (drawn.std(1, ddof=1) / 20**0.5)
    low, high = x.mean() - np.quantile(t, [0.975, 0.025]) * x.std(ddof=1) / 20**0.5
    np.testing.assert_allclose(made, [x.mean(), low, high], atol=0.03 * (high - low))


def test_the_error_of_a_trimmed_mean_is_that_of_winsorised_scores():
    """scipy's trimmed_stde, of each task; tasks are independent, or a seed's scores are one."""
    x = np.random.default_rng(0).lognormal(size=(2, 20)).astype(np.float32)
    ones, order = np.ones((1, 20), int), np.argsort(x, axis=-1)
    for row, sort in zip(x, order, strict=True):
        influence, kept = corrected.winsorised(jax.numpy.asarray(row[None]), ones, sort, 0.25)
        made = corrected.squared_error(influence, ones, kept, True) ** 0.5
        golden = scipy.stats.mstats.trimmed_stde(row, (0.25, 0.25))
        np.testing.assert_allclose(made, golden, rtol=1e-5)
    same = np.stack([x[0], x[0]])
    apart, whole = (
        stats.interval(same, stats.mean, tasks=0, kind="studentised", stratified=each)
        for each in (True, False)
    )
    np.testing.assert_allclose(
        (whole.high - whole.low) / (apart.high - apart.low), np.sqrt(2), rtol=0.2
    )


def test_corrected_intervals_of_what_is_constant_or_unknown():
    x = np.full((2, 8), 3.0)
    x[1, 1:] = np.nan
    for kind in ("bca", "studentised"):
        made = stats.interval(x, kind=kind, resamples=200)
        np.testing.assert_allclose([made.low[0], made.high[0]], 3.0)
        assert np.isnan([made.low[1], made.high[1]]).all()
    with pytest.raises(ValueError, match='kind="bca"'):
        stats.interval(x, stats.median, kind="studentised")


def test_the_draws_are_even_and_know_nothing_of_each_other():
    """Chi-squared over places, over neighbours in a resample, and over the same place of
    neighbouring resamples.
    """
    draw = jax.vmap(lambda key: draws.draw(key, (64,), 8))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 512)))
    pairs = {
        "place": (drawn * 64 + np.arange(64)),
        "next": drawn[:, 1:] * 8 + drawn[:, :-1],
        "key": drawn[1:] * 8 + drawn[:-1],
    }
    for name, cells in pairs.items():
        counts = np.bincount(cells.ravel(), minlength=512 if name == "place" else 64)
        degrees = len(counts) - 1
        chi = np.sum((counts - counts.mean()) ** 2) / counts.mean()
        assert abs(chi - degrees) < 4 * np.sqrt(2 * degrees), name
