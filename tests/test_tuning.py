"""Tuners: properties that all have, on known scores; spaces; and what is refused."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import CUBE, SMALL, SPACE, TRAINING, TUNERS, bowl, play, search

import jaxrl as rl
from jaxrl import tuning
from jaxrl.clock import Clock
from jaxrl.tuning.bayes import Density
from jaxrl.tuning.evolution import mutants
from jaxrl.tuning.history import History
from jaxrl.tuning.space import Space, space_of

# than random search on an easy function
BETTER = (
    "SuccessiveHalving",
    "Hyperband",
    "CurveStopping",
    "PBT",
    "DE",
    "DEHB",
    "Bayes",
    "BOHB",
    "Optuna",
)


# ----------------------------------------------------------------------------------- the properties


@pytest.mark.parametrize("name", TUNERS)
@settings(max_examples=8, deadline=None)
@given(runs=st.integers(4, 30), rows=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_tuner_stays_in_the_space_and_uses_its_budget(name, runs, rows, seed):
    # `check` refuses points outside the space
    history = play(TUNERS[name], budget=runs * rows, rows=rows, seed=seed)
    assert history.spent.sum() <= runs * rows
    assert history.spent.sum() >= 0.5 * runs * rows
    assert history.end_row.max() == rows


@pytest.mark.parametrize("name", TUNERS)
def test_a_tuner_is_a_pure_function_of_the_history(name):
    asks = []
    again = lambda history, batch: asks.append((batch, TUNERS[name].ask(history)))
    first, second = play(TUNERS[name], each=again), play(TUNERS[name])
    for one, other in asks:
        np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(first.points, second.points)
    assert not np.array_equal(first.points, play(TUNERS[name], seed=1).points)


@pytest.mark.parametrize("name", BETTER)
def test_a_tuner_finds_more_than_random_search_on_an_easy_function(name):
    best = lambda tuner, seed: float(play(tuner, budget=80 * 9, seed=seed).scores.max())
    random = [best(tuning.Random(), seed) for seed in range(16)]
    found = [best(TUNERS[name], seed) for seed in range(16)]
    assert np.median(found) > np.median(random)


def test_a_score_that_is_missing_is_the_worst():
    fails = lambda setting: np.nan if setting["x"] > 0.5 else bowl(setting)
    for name, tuner in TUNERS.items():
        history = play(tuner, fails)
        assert np.isfinite(history.scores[history.best]), name


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 40), seed=st.integers(0, 99))
def test_the_rungs_of_halving_are_those_of_the_definition(n, seed):
    """Slowly: exactly the best third of a rung goes on."""
    history = play(tuning.SuccessiveHalving(), budget=n * 9, seed=seed)
    for rung in range(1, history.num_batches):
        before, now = (np.flatnonzero(history.batch == i) for i in (rung - 1, rung))
        assert len(now) == max(len(history.points[history.batch == 0]) // 3**rung, 1)
        worst_kept = min(history.scores[history.parents[now]])
        assert all(history.scores[i] <= worst_kept for i in before if i not in history.parents[now])
        np.testing.assert_array_equal(history.points[now], history.points[history.parents[now]])
    assert sorted(set(history.end_row)) == [1, 3, 9][-history.num_batches :]


def test_pbt_changes_settings_but_not_the_program():
    space = Space(CUBE.ranges, ("kind",))
    history = play(tuning.PBT(), space=space)
    assert history.num_batches == 9
    assert (np.bincount(history.batch) == 20).all()
    children = np.flatnonzero(history.parents >= 0)
    moved = history.points[children] != history.points[history.parents[children]]
    assert moved[:, :2].any()
    assert not moved[:, 2].any()
    assert history.scores[history.batch == 8].mean() > history.scores[history.batch == 0].mean()


def test_curve_stopping_stops_exactly_what_is_predicted_to_end_too_low():
    history = play(tuning.CurveStopping(first=4, batch=6), budget=40 * 9)
    assert (history.end_row[:4] == 9).all()
    for child in np.flatnonzero(history.parents >= 0):
        done = history.scores[(history.end_row == 9) & (history.batch < history.batch[child])]
        assert history.scores[child] >= np.quantile(done, 0.75)
    continued = np.isin(np.arange(len(history.scores)), history.parents)
    stopped = np.flatnonzero(
        (history.end_row < 9) & ~continued & (history.batch < history.num_batches - 2)
    )
    assert len(stopped) > 10
    for each in stopped:
        done = history.scores[(history.end_row == 9) & (history.batch <= history.batch[each])]
        assert history.scores[each] < np.quantile(done, 0.75)


def test_a_mean_curve_skips_seeds_without_a_score():
    history = History(CUBE, np.arange(5), 100.0)
    curves = np.array(
        [[[np.nan, 1.0, np.nan, 5.0], [np.nan, 3.0, np.nan, np.nan]], [[np.nan, 0.5, 2.0, 2.0]] * 2]
    )
    history.tell(tuning.Batch(np.zeros((2, 3)), 4), {"return": curves}, np.zeros(2))
    np.testing.assert_array_equal(
        history.mean_curves(), [[0.5, 2.0, 2.0, 5.0], [0.5, 0.5, 2.0, 2.0]]
    )


def test_mutants_are_of_others_and_stay_in_the_cube():
    """With a factor of 0 a mutant is the first of its three, which is never the target itself."""
    rng = np.random.default_rng(0)
    pool = rng.random((5, 3))
    made = np.array([mutants(rng, pool, pool, 0.0, 1.0, apart=True) for _ in range(50)])
    assert not (made == pool).all(-1).any()
    far = mutants(rng, pool, pool, 7.0, 1.0, apart=True)
    assert ((far >= 0) & (far <= 1)).all()


# ---------------------------------------------------------------------------------------- the space


@given(u=st.floats(0, 1), v=st.floats(0, 1))
def test_ranges_are_monotonic_and_hold_their_values(u, v):
    for each in (tuning.uniform(-2, 5), tuning.log(1e-5, 1e-1), tuning.integer(2, 7)):
        a, b = each.at(min(u, v)), each.at(max(u, v))
        assert each.low - 1e-9 <= a <= b <= each.high + 1e-9
    assert tuning.choice("a", "b").at(u) == ("b" if u >= 0.5 else "a")


def test_log_is_even_in_orders_of_magnitude_and_integers_are_equally_likely():
    np.testing.assert_allclose(
        [tuning.log(1e-4, 1.0).at(u) for u in (0.0, 0.25, 1.0)], [1e-4, 1e-3, 1.0]
    )
    counts = np.bincount(
        [tuning.integer(1, 4).at(u) for u in np.linspace(0, 1, 4000, endpoint=False)]
    )
    np.testing.assert_array_equal(counts, [0, 1000, 1000, 1000, 1000])


@pytest.mark.parametrize(
    ("error", "space", "match"),
    [
        (ValueError, {}, "tunes nothing"),
        (ValueError, {"lr": 0.1}, "not a range"),
        (ValueError, {"rate": tuning.uniform(0, 1)}, "no field 'rate'"),
        (ValueError, {"lr": tuning.uniform(0, 1), "algo.lr": tuning.uniform(0, 1)}, "twice"),
        (TypeError, {"size": tuning.uniform(1, 3)}, "static"),
        (ValueError, {"size": tuning.integer(1, 1000)}, "1,000 ways"),
        (TypeError, {"size": tuning.choice(2, "three")}, "size=three"),
        (
            TypeError,
            {"lr": tuning.choice(0.1, "fast")},
            "'lr' is a number, 0.1, and can't be 'fast'",
        ),
        (ValueError, {"steps": tuning.choice(90, 180)}, "the same for all settings"),
        (ValueError, {"lrr": tuning.uniform(0, 1)}, "the nearest are lr"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(error, space, match):
    with pytest.raises(error) as caught:
        space_of(TRAINING, space)
    assert match in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


def test_a_range_of_a_field_that_only_some_choices_have_is_refused():
    training = rl.tree.put(TRAINING, {"unused": Clock(1, 0.5)})
    space = {"unused": tuning.choice(Clock(1, 0.5), ()), "total": tuning.uniform(0, 1)}
    with pytest.raises(ValueError, match="no field 'total'") as caught:
        space_of(training, space)
    assert caught.value.__notes__ == ["This is at unused=()."]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: tuning.uniform(1, 1), "empty"),
        (lambda: tuning.log(0, 1), "logarithm"),
        (lambda: tuning.integer(0.5, 2), "whole"),
        (lambda: tuning.choice("a"), "nothing to choose"),
        (lambda: tuning.uniform(0, float("nan")), "empty"),
        (lambda: tuning.Uniform(1.0, 0.0), "empty"),
        (lambda: tuning.Log(0.0, 1.0), "logarithm"),
        (lambda: tuning.log("1e-4", 1.0), "ends of a range are numbers"),
        (lambda: tuning.Random(0), "batch=0"),
        (lambda: tuning.Optuna(batch=-1), "batch=-1"),
        (lambda: tuning.Optuna("gp"), "function of a seed"),
        (lambda: tuning.PBT(rows=0), "rows=0"),
        (lambda: tuning.PBT(truncation=2.0), "truncation=2.0"),
        (lambda: tuning.CurveStopping(checks=(0.5, 2.0)), "fractions of a run"),
        (lambda: tuning.DE(population=0), "population=0"),
        (lambda: search(measure="final"), "measure='final' is not a function"),
        (lambda: search(statistic="iqm"), "statistic='iqm' is not a function"),
        (lambda: search("random"), "is not a tuner"),
        (lambda: search(tuning.Random), "is not a tuner"),
        (lambda: search(training=TRAINING.algo), "Walk is not an rl.Training"),
        (lambda: search(seeds=2.5), "seeds=2.5 is a count"),
        (lambda: search(chunk=0), "chunk=0"),
        (lambda: search(runs=float("nan")), "budget=nan"),
        (lambda: search(runs=0.9), "pay for no batch"),
        (lambda: search(TUNERS["Hyperband"], runs=0.2), "pay for no batch"),
        (lambda: search(seeds=1), "seeds=1"),
        (lambda: search(test_seeds=1), "test_seeds=1"),
        (lambda: search(metric="evaluation"), "allow no greedy"),
        (lambda: search(metric="score"), "no metric 'score'"),
        (lambda: search(tuning.SuccessiveHalving(eta=1.0)), "eta=1.0"),
        (
            lambda: tuning.repeat(TRAINING, SPACE, repetitions=0, budget=1e6, **SMALL),
            "repetitions=0",
        ),
    ],
)
def test_invalid_arguments_are_refused_before_anything_runs(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def test_optuna_is_an_extra_and_its_gaussian_process_needs_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        play(
            tuning.Optuna(tuning.gp),
            each=lambda history, batch: pytest.fail("a batch was asked for"),
        )
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"jaxrl\[optuna\]"):
        play(TUNERS["Optuna"])


# ---------------------------------------------------------------- Gaussian processes and densities


def test_a_gaussian_process_is_its_definition():
    """The posterior by solving the full system; one value more is the same as all at once."""
    rng = np.random.default_rng(0)
    x, y, new = rng.random((12, 2)), rng.normal(size=12), rng.random((5, 2))
    found = tuning.fit_gaussian_process(x, y)

    def kernel(a, b):
        d = np.sqrt(5 * (((a[:, None] - b[None]) / found.lengths) ** 2).sum(-1))
        return (1 + d + d**2 / 3) * np.exp(-d)

    system = kernel(x, x) + found.noise * np.eye(12)
    mean = found.level + kernel(new, x) @ np.linalg.solve(system, y - found.level)
    left = 1 - np.einsum("ij,ji->i", kernel(new, x), np.linalg.solve(system, kernel(x, new)))
    np.testing.assert_allclose(found(new)[0], mean, rtol=1e-5)
    np.testing.assert_allclose(found(new)[1] ** 2, found.variance * left, rtol=1e-4, atol=1e-9)
    some = tuning.GaussianProcess(
        x[:11], y[:11], found.kernel, found.lengths, found.noise, found.level, found.variance
    )
    for one, other in zip(some.given(x[11], y[11])(new), found(new), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_fit_prefers_the_lengths_that_the_values_have():
    rng = np.random.default_rng(1)
    x = rng.random((40, 2))
    long, short = tuning.fit_gaussian_process(x, np.sin(12 * x[:, 0]), tuning.rbf).lengths[::-1]
    assert long > 2 * short


def test_expected_improvement_is_the_mean_of_the_improvement():
    rng = np.random.default_rng(2)
    x, y, point = rng.random((8, 1)), rng.normal(size=8), np.array([[0.37]])
    score = tuning.fit_gaussian_process(x, y)
    mean, sd = score(point)
    drawn = np.maximum(rng.normal(mean, sd, 400_000) - 0.3, 0).mean()
    np.testing.assert_allclose(tuning.Bayes().acquisition(score, [], 0.3)(point), drawn, rtol=2e-2)


def test_limits_hold_for_the_setting_that_a_search_returns():
    """The bowl's optimum is at x = 0.3; the cost is x, and at most 0.2 is allowed."""
    cost = lambda setting: {"score": bowl(setting), "cost": setting["x"]}
    for limits, low, high in (({"cost": 0.2}, 0.1, 0.2), ({}, 0.25, 0.35)):
        tuner = tuning.Bayes(2, limits=limits, candidates=128)
        history = tuning.maximize(cost, CUBE.ranges, tuner, 40)
        assert low < CUBE.setting(history.points[tuner.best(history)])["x"] <= high


def test_a_density_sums_to_one_up_to_the_border_and_counts_options():
    rng = np.random.default_rng(3)
    points = np.stack([rng.uniform(0.4, 0.6, 30), np.full(30, 0.1)], 1)
    found = Density(points, [0, 3])
    line = np.linspace(0, 1, 2001)
    totals = [found(np.stack([line, np.full(2001, u)], 1)).mean() for u in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(totals, np.sqrt(2 * np.pi) * np.array([0.8, 0.1, 0.1]), rtol=1e-2)
    drawn = found.sample(rng, 4000)
    assert 0.8 < (drawn[:, 1] == 0.1).mean() < 0.9
    assert abs(drawn[:, 0].mean() - points[:, 0].mean()) < 0.02


def test_maximize_sees_only_the_rows_that_a_tuner_pays_for():
    rising = lambda setting: setting["x"] * np.arange(1, 10)
    history = tuning.maximize(rising, {"x": tuning.uniform(0, 1)}, tuning.Hyperband(), 90, rows=9)
    assert history.spent.sum() <= 90
    x = history.points[:, 0]
    np.testing.assert_allclose(history.scores, x * history.end_row)
    assert np.isnan(history.curves["score"][history.end_row < 9, 0, -1]).all()


# ----------------------------------------------------------------------------- conditional spaces

OBJECTIVES = rl.Training(rl.ppo(), rl.envs.Catch(), 1024, evals=1, episodes=0)
CONDITIONAL = {
    "objective": tuning.choice(rl.Clip(0.2), rl.DPO()),
    **tuning.when("objective", rl.DPO(), {"alpha": tuning.uniform(1.0, 4.0)}),
    **tuning.when("objective", rl.Clip(0.2), {"clip": tuning.uniform(0.1, 0.3)}),
}


def test_a_conditional_range_is_searched_only_where_its_choice_is():
    space = space_of(OBJECTIVES, CONDITIONAL)
    points = np.array([[0.2, 0.9, 0.5], [0.8, 0.9, 0.5]])
    np.testing.assert_array_equal(space.active(points), [[True, False, True], [True, True, False]])
    clip, dpo = map(space.setting, points)
    assert clip.keys() == {"objective", "clip"}
    assert dpo.keys() == {"objective", "alpha"}
    assert space.apply(OBJECTIVES, dpo).algo.rule.objective.alpha == dpo["alpha"]
    assert [list(space.leaves(points[[i]])) for i in (0, 1)] == [["clip"], ["alpha"]]
    assert space.static_group(points[0]) != space.static_group(points[1])
    np.testing.assert_array_equal(np.isnan(space.labels(points)["alpha"]), [True, False])
    other = points + np.array([[0, -0.4, 0], [0, 0, 0.3]])  # in what isn't searched
    np.testing.assert_array_equal(space.encode(points), space.encode(other))


def test_a_condition_needs_a_choice_before_it_that_has_the_option():
    first = dict(list(CONDITIONAL.items())[:1])
    with pytest.raises(ValueError, match="no choice of that name before it"):
        space_of(OBJECTIVES, dict(list(CONDITIONAL.items())[1:]))
    unknown = tuning.when("objective", rl.SPO(), {"alpha": tuning.uniform(1.0, 4.0)})
    with pytest.raises(ValueError, match="none of its options"):
        space_of(OBJECTIVES, first | unknown)


def test_a_limit_that_a_failed_trial_did_not_measure_counts_as_violated():
    from jaxrl.tuning.bayes import _finite

    np.testing.assert_array_equal(_finite(np.array([-1.0, np.nan, 2.0])), [-1.0, 2.0, 2.0])
    np.testing.assert_array_equal(_finite(np.array([np.nan])), [1.0])
    np.testing.assert_allclose(_finite(np.array([-1.0, np.nan, -3.0])), [-1.0, 1.0, -3.0])
