"""Tuners: properties that all have, on known scores; and searches of a learner of a few numbers."""

import contextlib
import dataclasses
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrl as rl
from jaxrl import tuning
from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Clock
from jaxrl.env import Env
from jaxrl.rollout import Policy
from jaxrl.tuning.evolution import mutants
from jaxrl.tuning.history import Batch, History
from jaxrl.tuning.space import Space, space_of
from jaxrl.tuning.study import Study
from jaxrl.tuning.trial_runner import TrialRunner

TUNERS: dict[str, Any] = {
    "Random": tuning.Random(4),
    "Sobol": tuning.Sobol(4),
    "SuccessiveHalving": tuning.SuccessiveHalving(),
    "Hyperband": tuning.Hyperband(),
    "CurveStopping": tuning.CurveStopping(),
    "PBT": tuning.PBT(),
    "DE": tuning.DE(6),
    "DEHB": tuning.DEHB(),
    "Optuna": tuning.Optuna(batch=4),
}
BETTER = (
    "SuccessiveHalving",
    "Hyperband",
    "CurveStopping",
    "PBT",
    "DE",
    "DEHB",
    "Optuna",
)  # than random search on an easy function
CUBE = Space(
    {"x": tuning.uniform(0, 1), "y": tuning.uniform(0, 1), "kind": tuning.choice(0.1, 0.7, 0.9)}
)


def bowl(setting):
    return -((setting["x"] - 0.3) ** 2) - (setting["y"] - 0.6) ** 2 - (setting["kind"] - 0.7) ** 2


def play(tuner, score=bowl, budget=20 * 9, seed=0, rows=9, space=CUBE, each=None):
    """The history of a whole search whose scores are known beforehand."""
    history = History(space, np.arange(rows + 1), budget, (seed,))
    while (batch := tuner.ask(history)) is not None:
        if each is not None:
            each(history, batch)
        history.check(batch)
        assert len(batch.points) > 0
        scores = np.array([score(space.setting(point)) for point in batch.points])
        history.tell(
            batch,
            {"return": np.broadcast_to(scores[:, None, None], (len(scores), 1, rows))},
            scores,
        )
    return history


# ----------------------------------------------------------------------------------- the properties


@pytest.mark.parametrize("name", TUNERS)
@settings(max_examples=8, deadline=None)
@given(runs=st.integers(4, 30), rows=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_tuner_stays_in_the_space_and_uses_its_budget(name, runs, rows, seed):
    history = play(
        TUNERS[name], budget=runs * rows, rows=rows, seed=seed
    )  # `check` refuses what is outside
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


@rl.pytree
class NoEnv(Env):
    action_space: Any = rl.static(default=rl.Discrete(2))
    max_steps: int = rl.static(default=1)


@rl.pytree
class State:
    params: jax.Array
    clock: Clock


@rl.pytree
class Walk(Algorithm):
    """A learner of `size` numbers: each step goes `lr` of the way to 1, with noise; its return is
    minus the squared distance.
    """

    lr: float = 0.1
    noise: float = 0.1
    unused: Any = ()
    size: int = rl.static(default=2)
    steps_per_update = 10

    def init(self, key, env, num_updates=float("inf")):
        return State(
            jax.random.normal(key, (self.size,)), Clock(jnp.int32(0), jnp.float32(num_updates))
        )

    def update(self, key, env, state):
        params = (
            state.params
            + self.lr * (1.0 - state.params)
            + self.noise * jax.random.normal(key, (self.size,))
        )
        metrics = {
            "return": -jnp.mean((params - 1.0) ** 2),
            "length": jnp.float32(1.0),
            "episodes": jnp.int32(1),
        }
        return State(params, state.clock.tick()), metrics

    def agent(self, state):
        return state.params

    def policy(self, env, agent, greedy):
        return Policy(lambda key, episode: ((), agent, ()))


TRAINING = rl.Training(Walk(), NoEnv(), steps=180, evals=9, episodes=0)
SPACE = {"lr": tuning.log(1e-3, 1.0), "noise": tuning.uniform(0.0, 0.3)}
SMALL = {"seeds": 2, "test_seeds": 3, "progress": False}


def search(tuner=TUNERS["Random"], space=SPACE, training=TRAINING, runs=8, **options):
    options = SMALL | options
    return rl.tune(training, space, tuner=tuner, budget=runs * 180 * options["seeds"], **options)


@pytest.mark.parametrize(
    ("error", "space", "match"),
    [
        (ValueError, {}, "tunes nothing"),
        (ValueError, {"lr": 0.1}, "no range"),
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
        (lambda: search(measure="final"), "measure='final' is no function"),
        (lambda: search(statistic="iqm"), "statistic='iqm' is no function"),
        (lambda: search("random"), "no tuner"),
        (lambda: search(tuning.Random), "no tuner"),
        (lambda: search(training=TRAINING.algo), "Walk is no rl.Training"),
        (lambda: search(seeds=2.5), "seeds=2.5 is a count"),
        (lambda: search(chunk=0), "chunk=0"),
        (lambda: search(runs=float("nan")), "budget=nan"),
        (lambda: search(runs=0.9), "pay for no batch"),
        (lambda: search(TUNERS["Hyperband"], runs=0.2), "pay for no batch"),
        (lambda: search(seeds=1), "seeds=1"),
        (lambda: search(test_seeds=1), "test_seeds=1"),
        (lambda: search(metric="evaluation"), "afford"),
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


# --------------------------------------------------------------------------------- real searches


class StopError(Exception):
    pass


def stop_after(reports):
    """A report function that ends a search."""
    count = iter(range(10_000))

    def show(report):
        assert 0 <= report.fraction <= 1
        if next(count) == reports:
            raise StopError

    return show


KILLED = ("Random", "SuccessiveHalving", "PBT")  # one of each kind: whole runs, rungs, a population


@pytest.mark.parametrize(
    "name",
    [name if name in KILLED else pytest.param(name, marks=pytest.mark.rotate) for name in TUNERS],
)
def test_a_killed_search_goes_on_to_the_same_result(name, tmp_path):
    whole = search(TUNERS[name], chunk=8)
    for reports in (3, 14):
        with pytest.raises(StopError) as caught:
            search(TUNERS[name], chunk=8, folder=tmp_path / "a", progress=stop_after(reports))
        assert "the same call goes on" in caught.value.__notes__[0]
    resumed = search(TUNERS[name], chunk=8, folder=tmp_path / "a")
    assert whole.results.identical(resumed.results)
    assert whole.test.identical(resumed.test)
    assert whole.best == resumed.best
    assert whole.test_score == resumed.test_score
    assert not list((tmp_path / "a").glob("**/*.state.npz"))
    for found in (whole, resumed):
        assert found.spent == found.results["spent"].sum() <= 8 * 180 * 2
        assert len(found.table) == found.results.sizes["setting"]
        assert "test seeds" in str(found)
        assert "too few seeds for an interval (2)" in str(found)
        assert "[" not in str(found)


def test_a_folder_of_another_search_is_refused_and_a_damaged_file_is_written_again(tmp_path):
    whole = search(folder=tmp_path / "a")
    with pytest.raises(ValueError, match="seeds: 2 there, 3 here"):
        search(folder=tmp_path / "a", seeds=3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no search"):
        search(folder=tmp_path / "b")
    path = sorted((tmp_path / "a").glob("*/*/*.npz"))[0]
    path.write_bytes(path.read_bytes()[:-40])
    assert search(folder=tmp_path / "a").results.identical(whole.results)


def test_chunks_of_other_settings_are_refused(tmp_path):
    """A sampler is code, which no record identifies; the points that it asked for do."""

    @dataclasses.dataclass(frozen=True)
    class Asks(tuning.Tuner):
        def ask(self, history):
            if len(history.points):
                return None
            return Batch(np.full((2, history.space.dims), where), history.rows)

    where = 0.2
    search(Asks(), folder=tmp_path / "a")
    where = 0.7
    with pytest.raises(ValueError, match="runs of other settings"):
        search(Asks(), folder=tmp_path / "a")
    where = 0.2
    assert search(Asks(), folder=tmp_path / "a").results.sizes["setting"] == 2


def test_a_diverged_run_has_the_lowest_score():
    study = types.SimpleNamespace(metric="return", measure=tuning.final, steps=np.arange(3))
    curves = {"return": np.array([[5.0, 6.0, np.nan], [5.0, np.nan, np.nan], [5.0, np.nan, 1.0]])}
    curves["diverged"] = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    np.testing.assert_array_equal(Study.scores(study, curves, 3), [-np.inf, 5.0, 1.0])
    np.testing.assert_array_equal(Study.scores(study, curves, 2), [6.0, 5.0, -np.inf])


@pytest.mark.parametrize("name", ["SuccessiveHalving", "DEHB"])
def test_rungs_of_one_row_have_an_area(name):
    found = search(TUNERS[name], measure=rl.stats.auc)
    assert np.isfinite(found.results["score"]).all()


def test_a_diverged_member_is_never_the_leader():
    @rl.pytree
    class Fragile(Walk):
        def update(self, key, env, state):
            state, metrics = Walk.update(self, key, env, state)
            lost = self.lr > 0.5
            is_late = lost & (state.clock.n > 1)
            score = jnp.where(is_late, jnp.nan, jnp.where(lost, 9.0, metrics["return"]))
            params = jnp.where(is_late, jnp.nan, state.params)
            return State(params, state.clock), metrics | {"return": score}

    pbt = tuning.population(Fragile(), {"lr": tuning.uniform(0.0, 1.0)}, size=8, interval=1)
    state = pbt.init(jax.random.key(0), NoEnv())
    for i in range(3):
        state, metrics = jax.jit(pbt.update)(jax.random.key(i), NoEnv(), state)
    assert metrics["setting.lr"] < 0.5
    assert np.isfinite(pbt.agent(state).agent).all()


def test_mutants_are_of_others_and_stay_in_the_cube():
    """With a factor of 0 a mutant is the first of its three, which is never the target itself."""
    rng = np.random.default_rng(0)
    pool = rng.random((5, 3))
    made = np.array([mutants(rng, pool, pool, 0.0, 1.0, apart=True) for _ in range(50)])
    assert not (made == pool).all(-1).any()
    far = mutants(rng, pool, pool, 7.0, 1.0, apart=True)
    assert ((far >= 0) & (far <= 1)).all()


def test_kept_settings_continue_and_do_not_restart():
    found = search(TUNERS["SuccessiveHalving"], runs=6)
    last = int(found.table.index[0])
    alone = rl.sweep(
        found.tuned,
        {"seed": jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(2))},
        progress=False,
    )
    np.testing.assert_allclose(found.results["return"][last], alone["return"], rtol=1e-5)
    assert (found.results["until"] < 180).any()


def test_a_schedule_is_tested_as_it_was_trained():
    found = search(TUNERS["PBT"], runs=8)
    assert len(np.unique(found.schedule["lr"])) > 1
    key = tuning.fresh_seeds(0, 2)[1]
    state = TRAINING.init(key)
    for row in range(9):
        setting = {name: np.float32(values[row]) for name, values in found.schedule.items()}
        state, metrics = rl.tree.put(TRAINING, setting).run_row(key, state, row)
    np.testing.assert_allclose(metrics["return"], found.test["return"][1, -1], rtol=1e-4)


@rl.pytree
class Chance(Walk):
    """All settings are equally good, each with its own random numbers."""

    phase: float = 0.0

    def update(self, key, env, state):
        return Walk.update(self, jax.random.fold_in(key, jnp.int32(self.phase * 1e6)), env, state)


def test_the_best_of_noise_scores_higher_on_its_tuning_seeds(monkeypatch):
    """The gap is the bias of choosing, which the test does not have: no seed is in both."""
    run, seen = TrialRunner.run, {True: set(), False: set()}

    def watched(self, name, requests):
        seen[name.startswith("test")] |= {
            int(seed) for request in requests for seed in request.seeds.ravel()
        }
        return run(self, name, requests)

    monkeypatch.setattr(TrialRunner, "run", watched)
    training = rl.Training(Chance(lr=1.0, noise=0.5), NoEnv(), steps=180, evals=9, episodes=0)
    found = tuning.repeat(
        training,
        {"phase": tuning.uniform(0, 1)},
        repetitions=4,
        tuner=tuning.Random(16),
        budget=16 * 180 * 2,
        statistic=rl.stats.mean,
        **SMALL | {"test_seeds": 16},
    )
    assert len(seen[True]) == 16
    assert not seen[True] & seen[False]
    assert min(each.gap for each in found) > 0.05  # the best of 16 means of two, against their mean
    assert len({each.best["phase"] for each in found}) == 4
    for each in found[1:]:
        assert each.tuning_score.estimate != found[0].tuning_score.estimate


@contextlib.contextmanager
def programs():
    """The names of the programs that XLA compiles in this context."""
    names = []

    def listen(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_static_fields_are_grouped_and_others_share_a_program():
    space = {
        "algo": {"size": tuning.choice(1, 3)},
        "unused": tuning.choice((), {"a": 1.0}),
        "lr": tuning.uniform(0.1, 0.5),
    }
    assert space_of(TRAINING, space).grouped == ("algo.size", "unused")
    with programs() as compiled:
        found = search(space=space, runs=8, tuner=tuning.Random(8), chunk=1)  # of one width
    settings = [found.results[name].values.tolist() for name in ("algo.size", "unused", "lr")]
    groups = {*zip(*settings[:2], strict=True)}
    assert len({*settings[2]}) == 8 > len(groups)
    assert sum("members" in name for name in compiled) == 2 * len(
        groups
    )  # init and a row, for any lr
    assert set(found.results["algo.size"].values) == {1, 3}
    assert set(found.results["unused"].values) <= {"()", "{'a': 1.0}"}
    assert found.best["algo.size"] in (1, 3)
    assert np.isfinite(found.results["score"]).all()


def test_the_score_is_the_statistic_of_the_measure():
    found = search(measure=rl.stats.auc, statistic=rl.stats.median, seeds=3)
    curves = found.results["return"].values
    np.testing.assert_allclose(
        found.results["score"],
        np.median(rl.stats.auc(curves, found.results["step"].values), -1),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(
        tuning.final(np.array([[1.0, 2.0, np.nan], [np.nan] * 3]), None), [2.0, np.nan]
    )


# ------------------------------------------------------------------ a population inside one program


def test_a_population_is_an_algorithm_that_is_swept_and_finds_a_good_setting(tmp_path):
    pbt = tuning.population(Walk(noise=0.0), {"lr": tuning.log(1e-4, 0.5)}, size=8, interval=2)
    training = rl.Training(pbt, NoEnv(), steps=8 * 2 * 10 * 12, evals=3, episodes=0)
    results = rl.sweep(training, {"seed": np.arange(3)}, folder=tmp_path / "a", progress=False)
    alone = rl.Training(Walk(noise=0.0), NoEnv(), steps=2 * 10 * 12, evals=3, episodes=0)
    rates = rl.sweep(
        alone, {"lr": np.geomspace(1e-4, 0.5, 9), "seed": np.arange(3)}, progress=False
    )
    assert (
        results["return"][:, -1].mean() > rates["return"].isel(step=-1).mean("seed")
    ).sum() >= 7  # a drawn rate: most lose
    assert (results["setting.lr"][:, -1] > 0.01).all()


def test_the_exchange_copies_the_best_over_the_worst_and_moves_only_those():
    pbt = tuning.population(
        Walk(), {"lr": tuning.log(1e-3, 1.0), "noise": tuning.uniform(0.0, 0.3)}, size=8
    )
    state = jax.jit(pbt.init)(jax.random.key(0), NoEnv())
    ranked = jnp.array([3, 1, 2, 0, 4, 5, 7, 6])
    np.testing.assert_array_equal(
        pbt.policy(NoEnv(), pbt.agent(state), greedy=True)(jax.random.key(2), None)[1],
        state.members.params[0],
    )
    state = rl.tree.replace(state, scores=jnp.arange(8.0), leader=ranked[0])
    after = jax.jit(pbt._exchange)(jax.random.key(1), state, ranked)
    stay = np.array([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(after.points[stay], state.points[stay])
    np.testing.assert_array_equal(after.members.params[stay], state.members.params[stay])
    for loser in (6, 7):
        assert any(
            (after.members.params[loser] == state.members.params[best]).all() for best in (1, 3)
        )
        assert not any((after.points[loser] == state.points[other]).all() for other in range(8))
    assert ((after.points >= 0) & (after.points <= 1)).all()


@pytest.mark.parametrize(
    ("error", "make", "match"),
    [
        (
            TypeError,
            lambda: tuning.population(Walk(), {"size": tuning.integer(1, 3)}),
            "shapes the program",
        ),
        (
            TypeError,
            lambda: tuning.population(Walk(), {"unused": tuning.choice("a", "b")}),
            "shapes the program",
        ),
        (ValueError, lambda: tuning.population(Walk(), {"lr": 0.1}), "no range"),
        (ValueError, lambda: tuning.population(Walk(), {"rate": tuning.uniform(0, 1)}), "no field"),
        (ValueError, lambda: tuning.population(Walk(), SPACE, size=1), "size=1"),
    ],
)
def test_an_invalid_population_is_refused(error, make, match):
    with pytest.raises(error, match=match):
        make()
