"""How many seeds are enough, against studies drawn one by one and the formula for normal scores."""

import jax
import numpy as np
import pytest
import xarray as xr

from jaxrl import stats

rng = np.random.default_rng(0)
GOOD, BAD = rng.normal(0.5, 1.0, 600), rng.normal(0.0, 1.0, 600)
RESULTS = xr.Dataset(
    {"return": (("lr", "seed"), np.stack([BAD, GOOD]))},
    {"lr": [1e-3, 1e-2], "seed": np.arange(600)},
)
MADE = stats.power(
    RESULTS, seeds=(3, 10, 64), by="lr", statistic=stats.mean, studies=300, resamples=200
)
PAIR = MADE.sel(better=1e-2, worse=1e-3)


def test_results_have_the_labels_of_the_sweep():
    assert MADE.width.dims == ("seeds", "lr")
    assert MADE.wrong.dims == ("seeds", "better", "worse")
    assert np.isnan(MADE.wrong.sel(better=1e-3)).all()  # it is the worse


@pytest.mark.parametrize("k", [3, 10, 64])
def test_rankings_are_those_of_studies_drawn_one_by_one(k):
    local = np.random.default_rng(k)
    slow = np.mean(
        [local.choice(GOOD, k).mean() < local.choice(BAD, k).mean() for _ in range(4000)]
    )
    np.testing.assert_allclose(PAIR.wrong.sel(seeds=k), slow, atol=0.06)


def test_intervals_of_few_seeds_hold_the_truth_too_rarely_and_narrow_with_the_root():
    coverage, width = MADE.coverage.sel(lr=1e-2), MADE.width.sel(lr=1e-2)
    assert 0.65 < coverage.sel(seeds=3) < 0.85
    assert 0.9 < coverage.sel(seeds=64) < 0.99
    np.testing.assert_allclose(width.sel(seeds=64), 2 * 1.96 * GOOD.std() / 8, rtol=0.06)
    assert (width.diff("seeds") < 0).all()


def test_needed_seeds_are_those_of_the_normal_formula_and_of_the_studies():
    apart = GOOD.mean() - BAD.mean()
    formula = (1.96 + 0.8416) ** 2 * (GOOD.var() + BAD.var()) / apart**2
    np.testing.assert_allclose(PAIR.needed_seeds, formula, rtol=0.1)
    assert abs(formula - 64) < 20
    assert 0.6 < PAIR.separated.sel(seeds=64) < 0.95
    assert PAIR.misled.sel(seeds=64) < 0.01
    assert (PAIR.separated.diff("seeds") > 0).all()


def test_needed_seeds_at_a_ceiling_are_those_that_studies_need():
    """Where most seeds are at the ceiling the normal formula asks for more than it takes."""
    rng = np.random.default_rng(3)
    at_best = lambda share: np.where(rng.random(400) < share, 500.0, rng.uniform(0, 500, 400))
    results = xr.Dataset({"return": (("lr", "seed"), np.stack([at_best(0.85), at_best(0.5)]))})
    made = stats.power(results, by="lr", seeds=(10, 20, 40, 80), studies=400, resamples=200)
    needed = int(made.needed_seeds.sel(better=made.better[0], worse=made.better[1]))
    again = stats.power(
        results, by="lr", seeds=(needed,), studies=400, resamples=200, key=jax.random.key(1)
    )
    assert 10 < needed < 80
    assert 0.72 < again.separated.sel(better=made.better[0], worse=made.better[1]).item() < 0.9
    few = stats.power(results, by="lr", seeds=(3, 5), studies=50, resamples=50)
    assert few.needed_seeds.max() > 5


def test_equal_settings_are_not_separated():
    twins = RESULTS.isel(lr=[0, 0]).assign_coords(lr=[1, 2])
    made = stats.power(twins, seeds=(5,), by="lr", studies=20, resamples=50)
    assert np.isnan(made.needed_seeds).all()


def test_any_statistic_of_the_seeds_will_do():
    made = stats.power(
        RESULTS, seeds=(3, 8), by="lr", statistic=lambda x: x.max(), studies=200, resamples=50
    )
    pair = made.sel(better=made.better[np.argmax(RESULTS["return"].max("seed").values)]).dropna(
        "worse"
    )
    rng = np.random.default_rng(1)
    best, worst = (GOOD, BAD) if GOOD.max() > BAD.max() else (BAD, GOOD)
    for k in (3, 8):
        slow = np.mean(
            [rng.choice(best, k).max() < rng.choice(worst, k).max() for _ in range(4000)]
        )
        np.testing.assert_allclose(pair.wrong.sel(seeds=k).item(), slow, atol=0.12)
    gap = stats.power(
        RESULTS, seeds=(3,), by="lr", statistic=stats.optimality_gap, studies=20, resamples=20
    )
    assert np.isfinite(gap.width).all()


def test_one_setting_has_widths_alone():
    made = stats.power(
        RESULTS.isel(lr=0), seeds=(4,), studies=20, resamples=50, key=jax.random.key(1)
    )
    assert set(made.data_vars) == {"width", "coverage"}
    assert made.width.dims == ("seeds",)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"by": "rate"}, "no axis 'rate'"),
        ({"seeds": ()}, "sizes of studies"),
        ({"seeds": 5}, "sizes of studies"),
        ({"seeds": (3.5, 5)}, "sizes of studies"),
        ({"needed": 80}, "needed=80 is not between 0 and 1"),
        ({"level": 95}, r"write level=0\.95"),
        ({"studies": 0}, "1 or more, better hundreds, of each"),
    ],
)
def test_invalid_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        stats.power(RESULTS, **{"by": "lr"} | arguments)


def test_uninformative_results_are_refused():
    with pytest.raises(ValueError, match="by='lr'"):
        stats.power(RESULTS)
    with pytest.raises(ValueError, match="sweep 30 or more"):
        stats.power(RESULTS.isel(seed=slice(20)), by="lr")
    with pytest.raises(ValueError, match="1 of 1200 runs have no value"):
        stats.power(RESULTS.where(RESULTS.seed + RESULTS.lr != 5 + 1e-3), by="lr")
    with pytest.raises(ValueError, match="start from 2"):
        stats.power(RESULTS, by="lr", seeds=(1,))
