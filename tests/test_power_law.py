"""Power laws and learning curves against laws that are known and sums written slowly."""

import jax
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl import stats
from jaxrl.stats.power_law import nearest_law

RATIOS = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
nearest = jax.jit(nearest_law, static_argnums=3)


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 1e4), st.floats(0.1, 3.0), st.floats(0.0, 1e4))
def test_a_law_without_noise_is_found(scale, exponent, offset):
    y = offset + scale * RATIOS**-exponent
    law = nearest(RATIOS.astype(np.float32), y.astype(np.float32), np.ones(6, np.float32), True)
    np.testing.assert_allclose(law(RATIOS), y, rtol=2e-3)


def test_with_noise_it_is_the_least_squares():
    """scipy's curve_fit of relative errors, from the law's own place."""
    rng = np.random.default_rng(0)
    y = (3000 + 2000 * RATIOS**-0.7) * np.exp(0.1 * rng.normal(size=6))
    law = nearest(RATIOS.astype(np.float32), y.astype(np.float32), np.ones(6, np.float32), True)
    shape = lambda x, scale, exponent, offset: offset + scale * x**-exponent
    start = [float(law.scale), float(law.exponent), float(law.offset)]
    best, _ = scipy.optimize.curve_fit(shape, RATIOS, y, start, sigma=y, bounds=(0, np.inf))
    miss = lambda *p: np.sum((shape(RATIOS, *p) / y - 1) ** 2)
    assert miss(*start) <= miss(*best) * 1.001


def test_a_law_may_rise_to_its_offset():
    y = 10.0 - 5.0 * RATIOS**-0.5
    law = nearest(RATIOS.astype(np.float32), y.astype(np.float32), np.ones(6, np.float32), False)
    np.testing.assert_allclose([law.scale, law.exponent, law.offset], [-5.0, 0.5, 10.0], rtol=0.02)


def data(seeds=40, noise=0.2):
    rng = np.random.default_rng(1)
    return (2000 + 3000 * RATIOS**-0.8)[:, None] * np.exp(noise * rng.normal(size=(6, seeds)))


def test_unseen_points_are_predicted():
    y = data()
    y[0, :5] = np.inf  # these seeds never arrived
    fit = stats.fit_power_law(RATIOS[:-1], y[:-1], resamples=200)
    law = fit.predict(RATIOS[-1])
    assert law.low < 2000 + 3000 * 8**-0.8 < law.high
    assert fit.error.shape == (5,)
    beyond, within = fit.predict(64.0), fit.predict(1.0)
    assert beyond.high - beyond.low > within.high - within.low
    assert fit.parameters()["exponent"].low < 0.8 < fit.parameters()["exponent"].high


def test_the_left_out_error_is_that_of_a_law_of_all_others():
    y = np.median(data(), axis=1)
    fit = stats.fit_power_law(RATIOS, y, resamples=50)
    others = np.arange(6) != 2
    alone = stats.fit_power_law(RATIOS[others], y[others], resamples=50).predict(RATIOS[2]).estimate
    np.testing.assert_allclose(fit.error[2], abs(alone / y[2] - 1), rtol=0.05, atol=1e-3)
    assert fit.predict(1.0).low < fit.predict(1.0).estimate < fit.predict(1.0).high


def test_resamples_without_a_law_are_counted():
    y = data()
    assert stats.fit_power_law(RATIOS, y).lost == 0
    y[0, :13] = np.inf  # of 40: half of a resample's are lost now and then
    fit = stats.fit_power_law(RATIOS, y, resamples=1000)
    assert 0 < fit.lost <= 100
    assert f"lost={fit.lost}" in repr(fit)
    assert fit.draws.scale.shape == (1000 - fit.lost,)
    y[0, :19] = np.inf
    with pytest.warns(
        UserWarning, match=r"of 1,000 resamples have no y, most often at x = 0\.25: .* too narrow"
    ):
        assert stats.fit_power_law(RATIOS, y, resamples=1000).lost > 100
    with pytest.raises(ValueError, match="there is no interval"):
        stats.fit_power_law(RATIOS, y, resamples=1, key=jax.random.key(1))


def test_uninformative_data_is_refused():
    for y, options in ((np.ones(3), {}), (np.ones((5, 4)), {}), (np.ones(4), {"resamples": 0})):
        with pytest.raises(ValueError, match="the 4 points of x"):
            stats.fit_power_law(np.arange(1.0, 5.0), y, **options)
    with pytest.raises(ValueError, match="needs a step for each point"):
        stats.steps_to(np.zeros((3, 4)), np.arange(3), 1.0)
    with pytest.raises(ValueError, match="three parameters"):
        stats.fit_power_law([1, 2, 4], [3, 2, 1])
    for x, y in (
        ([0, 1, 2, 4], [4, 3, 2, 1]),
        ([1, 2, 4, 8], [4, 3, np.inf, 1]),
        ([1, 2, 4, 8], [4, 3, 2, -1]),
    ):
        with pytest.raises(ValueError, match="positive"):
            stats.fit_power_law(x, y)


def test_no_point_is_better_than_one_of_the_pareto_frontier():
    data, compute = [5, 3, 2, 2, 4, 3], [1, 2, 5, 6, 4, 2]
    slow = [
        not any(
            (a <= x and b <= y) and (a < x or b < y) for a, b in zip(data, compute, strict=True)
        )
        for x, y in zip(data, compute, strict=True)
    ]
    assert stats.pareto([1.0, 2.0, np.nan], [2.0, 1.0, 0.0]).tolist() == [
        True,
        True,
        True,
    ]  # the cheapest in the other
    assert stats.pareto([1.0, 2.0, np.nan], [2.0, 1.0, 1.0]).tolist() == [True, True, False]
    assert stats.pareto(data, compute).tolist() == slow == [True, True, True, False, False, True]


# ------------------------------------------------------------------------------------------- curves


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=12))
def test_isotonic_is_pooled_neighbours(values):
    pools = []
    for value in values:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    slow = np.repeat([value for value, _ in pools], [n for _, n in pools])
    np.testing.assert_allclose(stats.isotonic(values), slow, atol=1e-12)


def test_steps_to_a_score():
    curves, steps = np.array([[0.0, 10, 20], [5, 5, 5], [20, 30, 40]]), np.array([100, 200, 300])
    np.testing.assert_allclose(stats.steps_to(curves, steps, 15.0), [250.0, np.inf, 100.0])
    np.testing.assert_allclose(
        stats.steps_to([0.0, 10.0, 4.0], steps, 6.0), 100 + 100 * 6 / 7
    )  # its end is 7 and 7
    with pytest.raises(ValueError, match="without a value"):
        stats.steps_to([np.nan, 20.0, 30.0], steps, 15.0)


STEPS = np.arange(1, 21) * 100.0
PREDICTORS = {
    "last_value": stats.last_value,
    "last_quantile": stats.last_quantile,
    "by_power_law": stats.by_power_law,
    "by_regression": stats.by_regression,
}


def learning_curves(n=40, noise=0.0):
    """Curves that rise to a score by a power law, better ones no faster."""
    rng = np.random.default_rng(2)
    end = rng.uniform(0, 100, (n, 1))
    return end - 2 * end * STEPS**-0.3 + noise * rng.normal(size=(n, 20))


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_says_where_a_curve_ends(name):
    curves = learning_curves()
    foretold = PREDICTORS[name](curves[:10, :8], STEPS, curves)
    assert foretold.shape == (10,)
    off = np.abs(foretold - curves[:10, -1]).max()
    assert off < 2.0 if name != "last_value" else 2.0 < off < 40.0
    assert np.isfinite(PREDICTORS[name](curves[:3, :1], STEPS, curves[10:])).all()


def test_stopping_saves_steps_and_its_cost_is_counted():
    curves = learning_curves(noise=1.0)
    perfect = lambda begun, steps, finished: curves[
        np.abs(curves[:, : begun.shape[1]] - begun).sum(1) == 0
    ][:, -1]
    made = stats.stopping_cost(curves, STEPS, perfect, first=4, quantile=1.0, orders=10)
    assert float(made.regret.estimate) == 0.0
    assert 0.3 < float(made.saved.low) < float(made.saved.high) < 0.75
    blind = stats.stopping_cost(curves, STEPS, lambda *_: np.array([-np.inf]), first=4, orders=10)
    np.testing.assert_allclose(
        blind.saved.estimate, 0.9 * 0.75, atol=1e-6
    )  # all but the first stop after a quarter
    assert float(blind.regret.low) > 0
    never = stats.stopping_cost(curves, STEPS, lambda *_: np.array([np.inf]), first=4, orders=10)
    assert (
        float(never.saved.estimate)
        == float(never.regret.estimate)
        == float(never.missed.estimate)
        == 0.0
    )
    with pytest.raises(ValueError, match="more than first=8"):
        stats.stopping_cost(curves[:8], STEPS)
    with pytest.raises(ValueError, match=r"steps \(2,\)"):
        stats.stopping_cost(curves, STEPS[:2])
    with pytest.raises(ValueError, match=r"checks=\(2\.0,\)"):
        stats.stopping_cost(curves, STEPS, checks=(2.0,))
