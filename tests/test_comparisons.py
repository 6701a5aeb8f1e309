"""Two results side by side, and what a sweep's results say by name."""

from functools import partial

import numpy as np
import pytest
import xarray as xr

from jaxrl import stats

rng = np.random.default_rng(0)
NOISE = rng.normal(size=(12, 2))


def results(shift=0.0, seeds=range(12), noise=0.1):
    """Two tasks; the effect of a seed is the same in every result."""
    seeds = list(seeds)
    values = NOISE[seeds] + shift + noise * rng.normal(size=(len(seeds), 2))
    values = np.stack([values - 1, values], -1)
    return xr.Dataset(
        {"return": (("seed", "task", "step"), values)},
        {"seed": seeds, "task": ["a", "b"], "step": [100, 200]},
    )


def test_a_comparison_is_its_parts():
    a, b = results(0.5), results()
    made = stats.compare(a.sel(task="a"), b.sel(task="a"), statistic=stats.mean, resamples=500)
    x, y = (side["return"].sel(task="a", step=200).values for side in (a, b))
    np.testing.assert_allclose(made.first, stats.interval(x, stats.mean, resamples=500), atol=1e-5)
    np.testing.assert_allclose(
        made.difference, stats.difference(x, y, stats.mean, paired=True, resamples=500), atol=1e-5
    )
    np.testing.assert_allclose(made.improvement, stats.improvement(x, y, resamples=500), atol=1e-5)
    assert made.paired
    assert made.verdict == "the first is higher"
    assert "paired over 12 common seeds" in str(made)


def test_other_seeds_are_not_paired_and_common_ones_can_be():
    a, b = (results(seeds=range(8)).isel(task=0), results(seeds=range(2, 12)).isel(task=0))
    apart, paired = (
        stats.compare(a, b, resamples=200),
        stats.compare(a, b, paired=True, resamples=200),
    )
    assert (apart.paired, apart.seeds) == (False, (8, 10))
    assert (paired.paired, paired.seeds) == (True, (6, 6))
    assert apart.verdict == "no difference is shown"
    with pytest.raises(ValueError, match="4 seeds in common"):
        stats.compare(a, results(seeds=range(4, 12)).isel(task=0), paired=True)
    with pytest.raises(ValueError, match="0 seeds in common"):
        stats.compare(a, a.assign_coords(seed=a.seed + 100), paired=True)


def test_tasks_are_pooled_by_their_labels():
    a, b = results(), results()
    turned = b.isel(task=[1, 0])
    one, other = (stats.compare(a, side, tasks="task", resamples=100) for side in (b, turned))
    np.testing.assert_allclose(one.difference, other.difference, atol=1e-6)
    with pytest.raises(ValueError, match="not have the same values of task"):
        stats.compare(a, b.isel(task=[0]), tasks="task")
    with pytest.raises(ValueError, match="tasks='task'"):
        stats.compare(a, b)


def test_misleading_comparisons_are_refused():
    a = results().isel(task=0)
    with pytest.raises(ValueError, match="2 of the second's 12 have no 'return'"):
        stats.compare(a, a.where(a.seed > 1))
    assert stats.compare(a, a.where(a.seed > 1), allow=("seeds",), resamples=50).seeds == (10, 10)
    with pytest.raises(ValueError, match="budget"):
        stats.compare(a, a.isel(step=[0]))
    with pytest.raises(ValueError, match="too few"):
        stats.compare(a.isel(seed=slice(3)), a)


def test_one_score_has_no_interval_and_no_verdict():
    a = results().isel(task=0)
    alone = a.where(a.seed == 3)
    made = stats.compare(alone, a, allow=("seeds",), paired=False, resamples=50)
    assert made.seeds == (1, 12)
    assert np.isnan([made.difference.low, made.difference.high]).all()
    assert made.verdict == "no difference is shown"


def test_a_profile_is_the_share_above():
    made = stats.profile(results(), thresholds=[-1.0, 0.0, 1.0], resamples=200)
    assert made.share.dims == ("task", "threshold")
    final = results()["return"]  # other noise; the shape is what counts
    assert final.dims == ("seed", "task", "step")
    x = results(noise=0.0)
    made = stats.profile(x, thresholds=[-1.0, 0.0, 1.0], tasks="task", resamples=200)
    slow = [np.mean(x["return"].isel(step=-1).values > t) for t in (-1.0, 0.0, 1.0)]
    np.testing.assert_allclose(made.share, slow, atol=1e-6)
    assert (made.low <= made.share).all()
    assert (made.share <= made.high).all()
    assert stats.profile(x).sizes["threshold"] == 51
    assert float(stats.profile(x, thresholds=0.0, tasks="task", resamples=2).share[0]) == float(
        made.share[1]
    )


def test_an_estimate_of_any_statistic_at_each_step():
    x = results(noise=0.0)
    gap = partial(stats.optimality_gap, gamma=0.5)
    made = stats.estimate(x, "return", gap, tasks="task", kind="basic", resamples=100)
    assert made.estimate.dims == ("step",)
    slow = [0.5 - np.minimum(x["return"].isel(step=i).values, 0.5).mean() for i in range(2)]
    np.testing.assert_allclose(made.estimate, slow, atol=1e-5)
    assert stats.summary(x, tasks=["task"], resamples=10).iqm.dims == ("step",)
    widest = stats.estimate(x, "return", lambda x: x.max(), resamples=50)
    np.testing.assert_allclose(widest.estimate, x["return"].max("seed"), atol=1e-6)
