"""Whole searches of a learner of a few numbers: resumed, tested on fresh seeds, grouped."""

import contextlib
import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from searches import SMALL, TRAINING, TUNERS, NoEnv, Walk, search

import jaxrl as rl
from jaxrl import tuning
from jaxrl.env import Env
from jaxrl.tuning.history import Batch
from jaxrl.tuning.space import space_of
from jaxrl.tuning.study import Study
from jaxrl.tuning.trial_runner import TrialRunner


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
        assert "resumes from there" in caught.value.__notes__[0]
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
    for study.diverged, last in ((False, -np.inf), (True, 1.0)):  # what it scored after it diverged
        np.testing.assert_array_equal(Study.scores(study, curves, 3), [-np.inf, 5.0, last])
        np.testing.assert_array_equal(Study.scores(study, curves, 2), [6.0, 5.0, -np.inf])


@rl.pytree
class Bandit(Env):
    """Two arms, the last of which pays: what a policy of NaN always takes."""

    action_space: Any = rl.static(default=rl.Discrete(2))
    max_steps: int = rl.static(default=1)

    def reset(self, key):
        return (), jnp.zeros(1)

    def step(self, key, state, action):
        return (), rl.Step(jnp.zeros(1), action.astype(jnp.float32), jnp.bool_(True), {})


def test_a_rate_at_which_a_bandit_diverges_is_not_the_best():
    algo = rl.reinforce(num_envs=4, num_steps=4, network=rl.MLP((2,)))
    training = rl.Training(algo, Bandit(), 64, evals=2, episodes=0)
    space = {"lr": tuning.choice(1e-4, 3e38)}
    found = rl.tune(training, space, budget=8 * 8 * 64, **SMALL | {"seeds": 8})
    assert set(found.results["lr"].values) == {1e-4, 3e38}
    lost = found.results.sel(setting=found.results["lr"] > 1)
    assert lost["diverged"].any("step").all()
    assert (lost["return"].isel(step=-1) == 1.0).all()
    assert found.best == {"lr": 1e-4}
    assert np.isfinite(found.test_score.estimate)


@pytest.mark.parametrize("name", ["Random", "SuccessiveHalving"])
def test_a_search_ends_at_all_of_its_members(name):
    reports = []
    found = search(TUNERS[name], runs=7.5, progress=reports.append)
    last = reports[-1]
    assert last.fraction == 1.0
    assert last.done == last.members == int((found.spent + found.test_spent) / 180)
    assert last.remaining == 0.0
    assert all(report.fraction < 1.0 for report in reports[:-2])


@pytest.mark.parametrize("name", ["SuccessiveHalving", "DEHB"])
def test_rungs_of_one_row_have_an_area(name):
    found = search(TUNERS[name], measure=rl.stats.auc)
    assert np.isfinite(found.results["score"]).all()


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
    # init and a row, for any lr
    assert sum("members" in name for name in compiled) == 2 * len(groups)
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


def test_a_conditional_range_is_trained_only_where_its_choice_is():
    space = {
        "size": tuning.choice(2, 3),
        **tuning.when("size", 3, {"lr": tuning.log(0.2, 1.0)}),
    }
    limited = tuning.Bayes(4, first=4, limits={"length": 2.0})
    found = search(limited, space)
    lr, size = (found.results[name].values for name in ("lr", "size"))
    assert set(size) == {2, 3}
    np.testing.assert_array_equal(np.isnan(lr), size == 2)
    assert found.tuned.algo.lr == found.best.get("lr", TRAINING.algo.lr)
    assert found.tuned.algo.size == found.best["size"]
    assert (found.results["length"] == 1.0).all()  # kept for the limit
    with pytest.raises(ValueError, match="no metric 'cost'"):
        search(tuning.Bayes(limits={"cost": 1.0}))
