"""Importance is the variance that a known function has: against sums written slowly, optuna's
forest, and by hand.
"""

import itertools

import numpy as np
import pytest
import xarray as xr

from jaxrl import plot
from jaxrl.importance import importance


def swept(score, noise=0.0, seeds=16, key=0, **axes):
    """A sweep with the final return score(**setting) plus the noise of each seed."""
    rng = np.random.default_rng(key)
    grid = xr.Dataset(coords=axes | {"seed": np.arange(seeds)})
    exact = xr.DataArray(score(**{name: grid[name] for name in axes})).broadcast_like(
        xr.DataArray(np.zeros(seeds), dims="seed")
    )
    exact = exact.transpose(*axes, "seed")
    return grid.assign({"return": exact + noise * rng.normal(size=exact.shape)})


def slow_shares(cells):
    """The variances of main effects and pairs as the definition has them, cell by cell.

    cells: [a, b, c].
    """
    mean, parts = cells.mean(), {}
    for order in (1, 2, 3):
        for part in itertools.combinations(range(cells.ndim), order):
            total = 0.0
            for place in np.ndindex(cells.shape):
                effect = 0.0
                for size in range(order + 1):
                    for few in itertools.combinations(part, size):
                        kept = tuple(
                            place[i] if i in few else slice(None) for i in range(cells.ndim)
                        )
                        effect += (-1) ** (order - size) * np.mean(cells[kept])
                total += effect**2
            parts[part] = total / cells.size
    assert np.isclose(sum(parts.values()), np.mean((cells - mean) ** 2))
    return parts


def test_shares_are_the_definitions():
    results = swept(
        lambda a, b, c: a * b + np.sin(c) + 0.3 * a * b * c,
        a=np.arange(3.0),
        b=np.arange(4.0),
        c=np.arange(3.0),
    )
    shares = importance(results).shares["share"]
    slow = slow_shares(results["return"].isel(seed=0).values)
    total = sum(slow.values())
    names = ["a", "b", "c", "a × b", "a × c", "b × c", "higher orders"]
    np.testing.assert_allclose(
        [shares[name] for name in names], [value / total for value in slow.values()], atol=1e-9
    )
    assert shares["seed"] == pytest.approx(0, abs=1e-12)
    assert shares.sum() == pytest.approx(1)


def test_noise_is_distinguished_from_effects():
    """Pure noise is attributed to the seed, also for few seeds; half of it, where it is half."""
    noise = [
        importance(
            swept(lambda a, b: 0 * a * b, 1.0, 4, key, a=np.arange(5), b=np.arange(4))
        ).shares
        for key in range(20)
    ]
    assert np.mean([shares["share"]["seed"] for shares in noise]) > 0.9
    half = importance(swept(lambda a: 2.0 * a, 1.0, 400, a=np.array([-0.5, 0.5]))).shares
    assert half["low"]["a"] < 0.5 < half["high"]["a"]
    assert half["high"]["a"] - half["low"]["a"] < 0.15


def test_an_additive_effect_of_the_seed_cancels():
    """score = a + effect of the seed: the effect of `a` is exact, however large the seed's."""
    results = swept(lambda a: a, 0.0, 3, a=np.array([-0.5, 0.5]))
    noise = np.array([-3.0, 0.0, 3.0])
    shares = importance(results.assign({"return": results["return"] + noise})).shares["share"]
    assert shares["a"] == pytest.approx(0.25 / (0.25 + noise.var(ddof=1)))


def test_intervals_hold_the_truth():
    """Of 100 such sweeps about 95 have the true share of the seed, 1/3 here, in its
    interval.
    """
    sweeps = (
        swept(lambda a: a, 1.0, 12, key, a=np.array([-(2**0.5), 2**0.5])) for key in range(100)
    )
    rows = [importance(results).shares.loc["seed"] for results in sweeps]
    assert 85 <= sum(row["low"] < 1 / 3 < row["high"] for row in rows) <= 100


def test_marginals_are_means_with_bands():
    found = importance(swept(lambda a, b: 10.0 * a + b, 1.0, 64, a=np.arange(3), b=np.arange(2)))
    marginal = found.marginals["a"]
    np.testing.assert_allclose(marginal["mean"], [0.5, 10.5, 20.5], atol=0.5)
    width = (marginal["high"] - marginal["low"]).mean()
    assert width == pytest.approx(2 * 1.96 / np.sqrt(2 * 64), rel=0.3)
    assert found.fit is None


def sampled(score, settings=200, seeds=4, noise=0.01):
    rng = np.random.default_rng(0)
    lr, gamma, width = (
        10 ** rng.uniform(-5, -1, settings),
        rng.uniform(0.9, 1, settings),
        rng.choice(["big", "small"], settings),
    )
    values = score(np.log10(lr), gamma, width == "big")[:, None] + noise * rng.normal(
        size=(settings, seeds)
    )
    beside = {
        "lr": ("setting", lr),
        "gamma": ("setting", gamma),
        "network": ("setting", width),
        "spent": ("setting", lr * 0),
    }
    return xr.Dataset(
        {"return": (("setting", "seed"), values)}, {"setting": np.arange(settings)} | beside
    )


def test_random_settings_are_explained_by_a_forest():
    pytest.importorskip("sklearn")
    found = importance(
        sampled(lambda lr, gamma, big: lr + 3.0 * big), names=["lr", "gamma", "network"]
    )
    spread, three = 16 / 12, 9 / 4
    share = found.shares["share"]
    assert share["network"] == pytest.approx(three / (spread + three), abs=0.08)
    assert share["lr"] == pytest.approx(spread / (spread + three), abs=0.08)
    assert share["gamma"] < 0.02 > share["seed"]
    assert found.fit > 0.9
    assert list(found.marginals["network"].index) == ["big", "small"]
    assert share.sum() == pytest.approx(1)


def test_a_forest_finds_a_pair():
    pytest.importorskip("sklearn")
    found = importance(
        sampled(lambda lr, gamma, big: (lr + 3) * np.where(big, 1.0, -1.0)), names=["lr", "network"]
    )
    assert found.shares["share"].idxmax() == "lr × network"


def test_the_forests_main_effects_are_optunas():
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("sklearn")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = sampled(lambda lr, gamma, big: lr + 40 * (gamma - 0.95) + 2.0 * big)
    space = {
        "lr": optuna.distributions.FloatDistribution(-5, -1),
        "gamma": optuna.distributions.FloatDistribution(0.9, 1),
    }
    space["network"] = optuna.distributions.CategoricalDistribution(["big", "small"])
    study = optuna.create_study(direction="maximize")
    for i in range(results.sizes["setting"]):
        row = results.isel(setting=i)
        params = {
            "lr": float(np.log10(row.lr)),
            "gamma": float(row.gamma),
            "network": str(row.network.item()),
        }
        trial = optuna.trial.create_trial(
            params=params, distributions=space, value=float(row["return"].mean())
        )
        study.add_trial(trial)
    theirs = optuna.importance.FanovaImportanceEvaluator(seed=0).evaluate(study)
    ours = importance(results, names=list(space)).shares["share"]
    for name in space:
        assert ours[name] == pytest.approx(
            theirs[name] / sum(theirs.values()) * ours[list(space)].sum(), abs=0.06
        )


def test_insufficient_data_is_refused():
    results = swept(lambda a: a, 1.0, 8, a=np.arange(3.0))
    with pytest.raises(ValueError, match="several values"):
        importance(results.isel(a=0))
    lost = results.where(results.a != 1.0)
    with pytest.raises(ValueError, match=r"\{'a': 1\.0\} has 0"):
        importance(lost)
    with pytest.raises(ValueError, match="needs 10"):
        importance(sampled(lambda lr, gamma, big: lr, settings=5))
    with pytest.raises(ValueError, match="'gama' is not a coordinate"):
        importance(sampled(lambda lr, gamma, big: lr), names=["gama"])


# ----------------------------------------------------------------------------------------- pictures


def test_bars_are_the_shares():
    found = importance(swept(lambda a, b: 3.0 * a + b, 1.0, a=np.arange(3), b=np.arange(2)))
    (ax,) = plot.importance(found).axes
    shown = dict(
        zip(
            [text.get_text() for text in ax.get_yticklabels()],
            [bar.get_width() for bar in ax.patches],
            strict=True,
        )
    )
    assert shown == pytest.approx(found.shares["share"].to_dict())
    assert [bar.get_width() for bar in ax.patches] == sorted(shown.values())


def test_parallel_draws_each_setting_through_its_values():
    results = swept(
        lambda lr, net: np.log10(lr) + 0 * net,
        lr=np.array([1e-4, 1e-3, 1e-2]),
        net=np.array([16, 32]),
    )
    (ax,) = plot.parallel(results).axes
    lines = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 3]
    assert sorted(map(tuple, np.round(lines, 6))) == sorted(
        (a / 2, b, a / 2) for a in range(3) for b in range(2)
    )
    assert {"1e-4", "0.01", "16", "32"} <= {text.get_text() for text in ax.texts}
    random = sampled(lambda lr, gamma, big: lr)
    (ax,) = plot.parallel(random, names=["lr", "network"]).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "lr",
        "network",
        "return\n(interquartile mean)",
    ]
    assert {"big", "small"} <= {text.get_text() for text in ax.texts}
    with pytest.raises(ValueError, match="no setting"):
        plot.parallel(results.where(False))


def test_the_map_shows_the_fraction_that_diverged():
    results = swept(lambda a, b: a + b, a=np.arange(3), b=np.arange(2), seeds=4)
    results["diverged"] = results["return"] > 2.5  # a = 2, b = 1
    shown = [text.get_text() for text in plot.divergence(results).axes[0].texts]
    assert shown == ["0", "0", "0", "0", "0", "1"]
    assert [text.get_text() for text in plot.divergence(results.isel(b=1)).axes[0].texts] == [
        "0",
        "0",
        "1",
    ]
    with pytest.raises(ValueError, match="no variable 'diverged'"):
        plot.divergence(results.drop_vars("diverged"))


def test_studies_stand_together():
    steps = [
        xr.concat([swept(lambda a: 1.0 * a, a=np.arange(2))] * n, "step").assign_coords(
            step=np.arange(n)
        )
        for n in (3, 5)
    ]
    figure = plot.together({"short": steps[0].isel(a=1), "long": steps[1].isel(a=0)})
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "short (n = 16)",
        "long (n = 16)",
    ]
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3, 5]
    with pytest.raises(ValueError, match="choose a value of a"):
        plot.together({"all": steps[0]})
