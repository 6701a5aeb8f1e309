"""Pictures of evidence show what they are given."""

import numpy as np
import xarray as xr

from jaxrl import plot, stats

rng = np.random.default_rng(0)
RETURN = rng.normal(np.array([[0.0], [0.5]]), size=(2, 40))
RESULTS = xr.Dataset(
    {"return": (("lr", "seed"), RETURN)}, {"lr": [1e-3, 1e-2], "seed": np.arange(40)}
)


def test_a_profile_has_a_line_and_a_band_for_each():
    made = stats.profile(RESULTS, thresholds=[-1.0, 0.0, 1.0], resamples=50)
    (ax,) = plot.profile(made, by="lr").axes
    np.testing.assert_allclose(ax.lines[1].get_ydata(), made.share.isel(lr=1))
    assert len(ax.collections) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1e-3", "0.01"]


def test_power_has_both_shares_of_a_pair():
    made = stats.power(RESULTS, by="lr", seeds=(3, 5), studies=20, resamples=50)
    (ax,) = plot.power(made).axes
    np.testing.assert_allclose(ax.lines[1].get_ydata(), made.wrong.sel(better=1e-2, worse=1e-3))


def test_a_law_goes_beyond_what_was_measured():
    x = np.array([0.5, 1.0, 2.0, 4.0])
    y = (100 + 50 / x)[:, None] * np.exp(0.05 * rng.normal(size=(4, 8)))
    fit = stats.fit_power_law(x, y, resamples=20)
    (ax,) = plot.law({"-200": (fit, y)}, beyond=2.0).axes
    assert ax.lines[0].get_xdata().max() == 8.0
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.median(y, axis=1))
