"""A study that goes on: more steps, seeds and values, equal to having asked for all at once."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import tuning
from jaxrl.cli import main
from jaxrl.clock import Clock
from jaxrl.dependence import depends
from jaxrl.sweep import store, swap
from jaxrl.sweep.extend import Study, _converted
from jaxrl.sweep.extended import Extended, extended, what_depends
from jaxrl.tree import put

CONSTANT = put(TINY, {"algo.schedule": rl.Constant(), "episodes": 2, "eval_share": 20.0})
LONGER = put(CONSTANT, {"steps": 64, "evals": 4})
OVER = {"lr": jnp.array([1e-3, 1e-2]), "seed": jnp.arange(3)}


def swept(training, over, folder, **options):
    return rl.sweep(training, over, folder=folder, chunk=2, progress=False, **options)


def assert_equal(one, other):
    assert dict(one.sizes) == dict(other.sizes)
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of six runs, and its results."""
    folder = tmp_path_factory.mktemp("extend") / "x"
    return folder, swept(CONSTANT, OVER, folder, keep_best=True)


@pytest.fixture
def folder(study, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(study[0], tmp_path / "x")


# ------------------------------------------------------------------------------------------ values


def test_more_steps_seeds_and_values_are_those_of_a_larger_study(folder, study, tmp_path):
    results = rl.extend(
        folder, steps=64, over={"lr": [1e-2, 3e-2], "seed": range(4)}, progress=False
    )
    whole = {"lr": jnp.array([1e-3, 1e-2, 3e-2]), "seed": jnp.arange(4)}
    at_once = swept(LONGER, whole, tmp_path / "at_once", keep_best=True)
    assert_equal(results, at_once)
    assert_equal(rl.load(folder), at_once)
    for kept in ("final", "best"):
        one, other = (
            jax.tree.leaves(rl.agent(home, lr=1e-2, seed=3, kept=kept))
            for home in (folder, tmp_path / "at_once")
        )
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert rl.rerun(folder, 1, progress=False).equal
    assert_equal(rl.load(folder / "before" / "001"), study[1])
    assert list(rl.runs(folder).folder) == [folder]  # without those in before/


def test_what_is_there_is_not_computed_again(folder):
    (folder / "members" / "00000000-00000006.npz").write_bytes(b"damaged")  # all are in others too
    reports = []
    rl.extend(folder, over={"seed": [1, 2, 3]}, progress=reports.append)
    assert reports[0].done == 6 or reports[0].fraction >= 6 / 8
    assert reports[-1].done_now == pytest.approx(2 / 8)
    reports.clear()
    rl.extend(folder, over={"seed": [3]}, progress=reports.append)
    assert not reports


@pytest.mark.parametrize("schedule", ["stretch", "restart"])
def test_schedules_are_stretched_or_begin_again(tmp_path, schedule):
    training = put(CONSTANT, {"algo.schedule": rl.Linear()})
    over = {"seed": jnp.arange(2)}
    swept(training, over, tmp_path / "x")
    with pytest.raises(ValueError, match=r"schedule=Linear.*schedule='stretch'.*0\.5.*'restart'"):
        rl.extend(tmp_path / "x", steps=64)
    results = rl.extend(tmp_path / "x", steps=64, schedule=schedule, progress=False)
    longer = extended(training, 64, schedule)
    assert isinstance(longer, Extended)
    assert_equal(results, swept(longer, over, tmp_path / "at_once"))
    assert rl.rerun(tmp_path / "x", 0, progress=False).equal
    clock = rl.agent(tmp_path / "x", seed=0).clock
    assert float(clock.fraction) == 1.0
    assert (clock.start is None) == (schedule == "stretch")


@pytest.mark.parametrize(
    ("schedule", "fractions"),
    [("stretch", [0.5, 1.0, 0.75, 1.0]), ("restart", [0.5, 1.0, 0.5, 1.0])],
)
def test_the_clock_of_an_extended_run(schedule, fractions):
    training = extended(put(CONSTANT, {"algo.schedule": rl.Linear()}), 64, schedule)
    key = jax.random.key(0)
    state, run_row = jax.jit(training.init)(key), jax.jit(training.run_row)
    found = []
    for row in range(4):
        state, _ = run_row(key, state, row)
        found.append(float(state.clock.fraction))
    assert found == fractions


def test_a_clock_counts_from_its_start():
    assert float(Clock(6, 10.0, 2).fraction) == 0.5
    assert float(Clock(6, 10.0, 2).log_total) == pytest.approx(np.log(8.0))
    assert Clock(6, 10.0, 2).tick() == Clock(7, 10.0, 2)
    assert float(Clock(6, 10.0).fraction) == pytest.approx(0.6)


def test_static_axes_go_on_too(tmp_path, in_process):
    training = put(CONSTANT, {"episodes": 0})
    seeds = {"seed": jnp.arange(2)}
    static = {"num_steps": (4, 8)}
    swept(training, seeds, tmp_path / "x", static={"num_steps": (4,)})
    main(["extend", str(tmp_path / "x"), "--num-steps", "8"])  # a whole number, not 8.0
    results = rl.extend(tmp_path / "x", steps=64, over={"seed": [0, 1, 2]}, progress=False)
    at_once = swept(
        put(training, {"steps": 64, "evals": 4}),
        {"seed": jnp.arange(3)},
        tmp_path / "at_once",
        static=static,
    )
    assert_equal(results, at_once)


def test_static_values_are_compared_by_value_and_not_by_label():
    deep = [rl.MLP((64,) * layers) for layers in (16, 17, 18)]  # their labels are cut alike
    study = Study(CONSTANT, OVER, {"network": {"MLP": deep[0]}}, keep_best=False)
    labels = lambda added: study.with_values({"network": added}).static["network"]
    found = labels((deep[0], deep[1], deep[1], deep[2]))
    assert list(found.values()) == deep
    assert len(set(found)) == 3
    assert list(labels((deep[1],)).values()) == deep[:2]
    assert labels({"deeper": deep[1]}) == {"MLP": deep[0], "deeper": deep[1]}
    assert labels({"again": deep[0]}) == {"MLP": deep[0]}
    with pytest.raises(ValueError, match=r"has the label 'MLP' for MLP\(.*write another label"):
        labels({"MLP": deep[1]})


# ------------------------------------------------------------------------------------------- stops


def test_a_stop_while_files_are_put_in_place_is_made_good(folder, study, monkeypatch):
    renamed = []

    def rename(source, target):
        if len(renamed) == 4:
            raise KeyboardInterrupt
        renamed.append(source)
        source.rename(target)

    monkeypatch.setattr(swap.os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        rl.extend(folder, over={"seed": [3]}, progress=False)
    monkeypatch.undo()
    assert swap.is_open(folder)
    with pytest.raises(ValueError, match=r"is being extended.*call rl\.extend on it again"):
        rl.load(folder)
    rl.extend(folder, progress=False)  # finishes what was begun, and continues
    assert not swap.is_open(folder)
    assert_equal(rl.load(folder / "before" / "001"), study[1])
    assert int(rl.load(folder)["return"].notnull().any("step").sum()) == 8


def test_an_extension_that_is_stopped_goes_on(folder, tmp_path):
    def stop(report):
        if report.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rl.extend(folder, steps=64, progress=stop)
    assert list(folder.glob("open/*"))
    results = rl.extend(folder, steps=64, progress=False)
    assert_equal(results, swept(LONGER, OVER, tmp_path / "at_once", keep_best=True))


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 16}, "steps=16 is the total length of the extended run.*is 32"),
        ({"steps": 56}, "steps=56 ends between two evaluation points.*Write steps=48 or steps=64"),
        ({"steps": 64.0}, "not a whole number"),
        ({"over": {"gama": [0.9]}}, "'gama' is not an axis of this study"),
        ({"over": {"seed": jax.random.split(jax.random.key(0), 2)}}, "write int32"),
        ({"over": {"seed": [0.5]}}, "holds int32"),
        ({"over": {"lr": [-1.0]}}, r"lr is a number in \[0, inf\)"),
        ({"steps": 64, "schedule": "strech"}, "neither 'stretch' nor 'restart'"),
    ],
)
def test_what_can_not_go_on_is_refused_and_nothing_touched(study, arguments, message):
    folder, results = study
    with pytest.raises(ValueError, match=message):
        rl.extend(folder, progress=False, **arguments)
    assert not (folder / "before").exists()
    assert_equal(rl.load(folder), results)


def test_several_processes_are_refused(study, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="must run in one process, but this job has 2"):
        rl.extend(study[0], steps=64, progress=False)


def test_states_that_were_not_kept_are_missed(tmp_path):
    swept(CONSTANT, {"seed": jnp.arange(2)}, tmp_path / "x", keep_state=False)
    assert not any(name.startswith("final_state.") for name in store.names_in(tmp_path / "x", 0, 2))
    with pytest.raises(ValueError, match="keep_state=True"):
        rl.extend(tmp_path / "x", steps=64, progress=False)
    rl.extend(tmp_path / "x", over={"seed": [5]}, progress=False)  # needs none


def test_an_extended_run_can_be_jitted_with_leaves_that_are_arrays():
    training = put(TINY, {"lr": jnp.float32(1e-3)})
    assert isinstance(hash(extended(training, 64, "stretch")), int)


def test_stop_after_and_functions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="stop_after"):
        extended(put(CONSTANT, {"stop_after": 16.0}), 64, None)
    swept_too = Study(CONSTANT, {"stop_after": jnp.array([16.0]), "seed": jnp.arange(2)}, {}, False)
    with pytest.raises(ValueError, match="stop_after is an axis"):
        swept_too.with_steps(64, None)
    rl.sweep(lambda seed: {"x": seed}, {"seed": jnp.arange(2)}, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match="the sweep was of a function"):
        rl.extend(tmp_path, over={"seed": [3]})


# -------------------------------------------------------------------------------------- dependence


def test_dependence_through_loops_branches_and_calls():
    def function(x, y):
        def body(carry, _):
            a, b, c = carry
            return (a + 1.0, a * b, c), None  # b depends on a from the second step on

        (a, b, c), _ = jax.lax.scan(body, (x, y, y), None, length=3)
        branch = jax.lax.cond(y > 0.0, lambda: y, lambda: y + 1.0)
        stopped = jax.lax.while_loop(lambda v: v < x, lambda v: v + 1.0, y)
        called = jax.jit(lambda p, q: (p, q))(x, y)
        return a, b, c, branch, stopped, called, jnp.ones_like(x)

    marks, _ = depends(function, (jnp.float32(1.0), jnp.float32(2.0)), [True, False])
    assert marks == [True, True, False, False, True, True, False, False]


def test_what_depends_on_the_length_of_a_run():
    assert what_depends(CONSTANT) == ""
    assert what_depends(TINY) == "schedule=Linear"
    population = tuning.population(CONSTANT.algo, {"lr": tuning.log(1e-4, 1e-2)}, size=2)
    assert what_depends(put(CONSTANT, {"algo": population})) == ""
    anneals = put(CONSTANT, {"algo.rule": rl.mdpo().rule})  # its step size is annealed
    assert what_depends(anneals) == "OnPolicy"


# --------------------------------------------------------------------------------- the command line


def test_the_command_line_adds_seeds_and_values(folder, in_process, capfd):
    main(["extend", str(folder), "--seeds", "4", "--lr", "1e-2", "3e-2"])
    shown = capfd.readouterr().out
    assert "0.03" in shown
    assert dict(rl.load(folder).sizes) == {"lr": 3, "seed": 4, "step": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "2"], r"--seeds 2: the study has the seeds \[0, 1, 2\]"),
        (["--gama", "0.9"], "'gama' is not an axis of this study"),
        (["--add", "lr"], "--add 'lr' is not name=value"),
    ],
)
def test_the_command_line_refuses(study, in_process, words, message):
    with pytest.raises(SystemExit, match=message):
        main(["extend", str(study[0]), *words])
    assert not (study[0] / "before").exists()


def test_states_of_another_kind_of_device_are_refused():
    with pytest.raises(ValueError, match=r"1 arrays, .* kept on another kind of device"):
        _converted([np.zeros(2)], TINY, LONGER, lambda run, state: state)
