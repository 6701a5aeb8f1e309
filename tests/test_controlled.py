"""Estimates with less variance, and laws of several forms, against NumPy and scipy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from jaxrl import stats

RNG = np.random.default_rng(0)
C = RNG.normal(size=(60, 3))
Y = 2.0 + C @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=60)
ONES = np.ones((60, 1))


def least_squares(y, controls, weight=None):
    root = np.sqrt(np.ones(len(y)) if weight is None else weight)[:, None]
    design = np.concatenate([np.ones((len(y), 1)), controls], 1)
    return np.linalg.lstsq(root * design, root[:, 0] * y, rcond=None)[0]


def test_coefficients_are_those_of_least_squares():
    weight = RNG.random(60)
    np.testing.assert_allclose(stats.regress(Y, C), least_squares(Y, C)[1:], rtol=1e-4)
    np.testing.assert_allclose(
        stats.regress(Y, C, weight), least_squares(Y, C, weight)[1:], rtol=1e-4
    )


def test_a_control_that_others_determine_is_left_out():
    twice = np.concatenate([C, C[:, :1] + C[:, 1:2], ONES], 1)
    made = stats.regress(Y, twice)
    np.testing.assert_allclose(made[:3], least_squares(Y, C)[1:], rtol=1e-3)
    np.testing.assert_array_equal(made[3:], 0.0)


def test_a_controlled_mean_is_the_regression_at_the_known_means():
    means = np.array([0.1, 0.0, -0.2])
    coefficients = least_squares(Y, C)
    made = stats.controlled(Y, C, means)
    np.testing.assert_allclose(made.estimate, coefficients[0] + means @ coefficients[1:], rtol=1e-4)
    rest = Y - coefficients[0] - C @ coefficients[1:]
    half = 1.95996 * np.sqrt(rest @ rest / (60 - 4) / 60)
    np.testing.assert_allclose(made.high - made.estimate, half, rtol=1e-3)
    fixed = stats.controlled(Y, C, means, coefficients=[1.0, -2.0, 0.5])
    adjusted = Y - (C - means) @ [1.0, -2.0, 0.5]
    np.testing.assert_allclose(fixed.estimate, adjusted.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        fixed.high - fixed.low, 2 * 1.95996 * adjusted.std(ddof=1) / 60**0.5, rtol=1e-4
    )


def test_a_stratified_mean_is_a_sum_over_strata():
    stratum = np.repeat([0, 1], [20, 40])
    probability, means = np.array([0.7, 0.3]), np.array([[0.1, 0, 0], [0, 0.2, 0]])
    parts, squares = [], []
    for s in range(2):
        one = stats.controlled(Y[stratum == s], C[stratum == s], means[s])
        parts.append(float(one.estimate))
        squares.append(float(one.high - one.estimate) ** 2)
    made = stats.stratified(Y, stratum, probability, C, means)
    np.testing.assert_allclose(made.estimate, probability @ parts, rtol=1e-4)
    np.testing.assert_allclose(
        made.high - made.estimate, np.sqrt(probability**2 @ squares), rtol=1e-3
    )
    assert np.isnan(stats.stratified(Y, stratum, [0.5, 0.4, 0.1]).estimate)


def test_a_weighted_mean_is_that_under_the_target():
    """Of x^2 at N(1, 1), by a sample of N(0, 1.5^2); the weight itself is a control of mean 1."""
    x = 1.5 * RNG.normal(size=20_000)
    log_weight = scipy.stats.norm.logpdf(x, 1.0) - scipy.stats.norm.logpdf(x, 0.0, 1.5)
    plain = stats.weighted(x**2, log_weight)
    better = stats.weighted(x**2, log_weight, np.stack([np.ones_like(x), x], 1), [1.0, 1.0])
    for made in (plain, better):
        assert abs(made.estimate - 2.0) < 2 * (made.high - made.estimate)
    assert better.high - better.low < 0.7 * (plain.high - plain.low)


def test_controls_of_another_length_are_refused():
    with pytest.raises(ValueError, match="one column for each control"):
        stats.controlled(Y, C[:, 0])


# -------------------------------------------------------------------------------------------- laws

X = np.geomspace(1.0, 100.0, 10)
SHAPES = {
    "power": lambda x, scale, rate: scale * x**-rate,
    "power with offset": lambda x, scale, rate, offset: offset + scale * x**-rate,
    "exponential": lambda x, scale, rate, offset: offset + scale * np.exp(-rate * x),
    "hyperbola": lambda x, scale, rate, offset: offset + scale / (1 + rate * x),
    "logarithm": lambda x, scale, offset: offset + scale * np.log(x),
}


@pytest.mark.parametrize("form", SHAPES)
def test_a_fit_is_scipys(form):
    """Parameters, standard error of the rate and Akaike's criterion, from curve_fit."""
    z = X / 10.0  # the geometric mean is the unit
    true = {"power": (4.0, 0.7), "logarithm": (2.0, 9.0)}.get(form, (4.0, 0.7, 1.0))
    y = SHAPES[form](z, *true) * (1 + 0.02 * np.random.default_rng(1).normal(size=10))
    law = stats.fit_law(form, X, y)
    best, covariance = scipy.optimize.curve_fit(SHAPES[form], z, y, true, sigma=y)
    np.testing.assert_allclose(law(X), SHAPES[form](z, *best), rtol=2e-3)
    if form != "logarithm":
        np.testing.assert_allclose(law.rate, best[1], rtol=0.02)
        np.testing.assert_allclose(law.error, covariance[1, 1] ** 0.5, rtol=0.05)
    square, k = np.sum((SHAPES[form](z, *best) / y - 1) ** 2), len(true) + 1  # with the variance
    aic = 10 * np.log(square / 10) + 2 * np.log(y).sum() + 2 * k + 2 * k * (k + 1) / (9 - k)
    np.testing.assert_allclose(law.aic, aic, atol=0.1)


def test_the_right_form_is_preferred_and_the_checklist_warns_of_others():
    y = 2.0 + 5.0 * X**-0.6
    y = y * (1 + 0.01 * np.random.default_rng(2).normal(size=10))
    assert stats.fit_law("power with offset", X, y).aic < stats.fit_law("power", X, y).aic - 10
    text = stats.checklist(X, y, "power")
    assert "WARNING power with offset, relative: rate 0." in text
    assert "1 to 100 (2.0 decades)" in text
    assert "WARNING" not in stats.checklist(X, y)  # other rates, of fits that are far worse


def test_a_checklist_warns_of_other_extrapolations_with_equal_support():
    """Over half a decade the forms are alike, and a decade further they are not."""
    x = np.geomspace(1.0, 4.0, 10)
    law = lambda x, scale, rate: scale * x**-rate
    y = law(x, 5.0, 0.5) * (1 + 0.01 * np.random.default_rng(3).normal(size=10))
    lines = stats.checklist(x, y, "power").splitlines()
    value, low, high = map(float, re.findall(r"[\d.]+", lines[5].split(":")[1])[:3])
    best, covariance = scipy.optimize.curve_fit(law, x, y, (5.0, 0.5), sigma=y)
    slopes = scipy.optimize.approx_fprime(best, lambda p: law(40.0, *p))
    half = scipy.stats.t.ppf(0.975, 8) * np.sqrt(slopes @ covariance @ slopes)
    expected = law(40.0, *best) + np.array([0.0, -half, half])
    np.testing.assert_allclose([value, low, high], expected, rtol=1e-2)
    others = {}
    for line in lines[7:]:
        name, rest = line.split(":")
        numbers = re.findall(r"[-+\d.e]+", rest.split("value")[1])
        others[name.removeprefix("WARNING ")] = (*map(float, numbers), "WARNING" in line)
    for found, worse, is_warned in others.values():
        assert is_warned == (worse <= 2 and not low <= found <= high)
    assert others["hyperbola, relative"][2]
    assert not others["power, absolute"][2]  # alike
    assert not others["logarithm, relative"][2]  # not supported


@pytest.mark.parametrize("form", SHAPES)
def test_a_missing_point_has_no_fit(form):
    law = stats.fit_law(form, X, np.where(X < 5, np.nan, 1 / X))
    for x in (law.offset, law.scale, law.rate, law.error, law.aic):
        assert np.isnan(x) or (form == "logarithm" and x is law.error)


def test_a_checklist_of_a_missing_point_is_refused():
    with pytest.raises(ValueError, match="1 of 10 points are not finite"):
        stats.checklist(X, np.where(X < 1.5, np.inf, X))


def test_laws_of_few_points_and_unknown_forms_are_refused():
    with pytest.raises(ValueError, match="6 or more points"):
        stats.fit_law("power with offset", X[:5], X[:5])
    with pytest.raises(ValueError, match="nearest are power"):
        stats.fit_law("powerr", X, X)


def test_a_law_can_be_fitted_to_many_samples_at_once():
    y = jnp.asarray(3.0 * X**-0.5)[None] * jnp.asarray([[1.0], [2.0]])
    laws = jax.vmap(lambda y: stats.fit_law("power", X, y))(y)
    np.testing.assert_allclose(laws.rate, 0.5, rtol=0.01)


@pytest.mark.parametrize(
    ("stratum", "probability", "words"),
    [
        ([0, 1, 2], [0.5, 0.5], "1 of the values are in strata outside"),
        ([0, 1, 1], [0.5, 0.4], "sum to 0.9"),
    ],
)
def test_strata_that_are_not_those_of_the_sample(stratum, probability, words):
    with pytest.raises(ValueError, match=words):
        stats.stratified([1.0, 2.0, 3.0], jnp.array(stratum), jnp.array(probability))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="log_weight of shape"):
        stats.weighted(jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match="not a sample"):
        stats.controlled(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="one shape"):
        stats.kendall(jnp.ones(3), jnp.ones(2))
