"""Axes beyond the product of arrays: zipped ones, static ones, and functions that are no agent."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from members import TINY

import envs
import jaxrl as rl
from jaxrl.cli import arguments
from jaxrl.sweep import grid, static_axes, store

SEEDS = {"seed": jnp.arange(2)}
PAIRS = {"lr": [1e-3, 1e-2], "gamma": [0.9, 0.99]}
quiet = functools.partial(rl.sweep, progress=False)


def area(width, height):
    return {"area": width * height, "sides": jnp.stack([width, height])}


def powers(x, num_terms, kind="even"):
    """Another shape for each static value, and a variable that one of them alone has."""
    terms = x ** jnp.arange(num_terms)
    return {"terms": terms, "count": jnp.int32(num_terms)} | (
        {"odd": jnp.int32(1)} if kind == "odd" else {}
    )


# ------------------------------------------------------------------------------------- any function


def test_any_function_is_swept():
    results = quiet(area, {"width": jnp.array([1.0, 2.0]), "height": jnp.array([3.0, 4.0, 5.0])})
    np.testing.assert_array_equal(results["area"], [[3, 4, 5], [6, 8, 10]])
    assert results["sides"].sel(width=2, height=5).values.tolist() == [2, 5]


def test_a_dictionary_and_an_environment_are_axes():
    run = lambda env, pair: {
        "goal": env.goal,
        "sum": pair["a"] + pair["b"].sum(),
        "max_steps": jnp.int32(env.max_steps),
    }
    worlds = [rl.tree.put(envs.make("GridWorld"), {"goal": jnp.array([i, i])}) for i in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *worlds)
    pairs = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((2, 3))}
    results = quiet(run, {"env": stacked, "pair": pairs})
    np.testing.assert_array_equal(results["goal"].isel(pair=0), [[i, i] for i in range(3)])
    np.testing.assert_array_equal(results["sum"].isel(env=0), [4, 5])
    assert results["env"].values.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------- zipped


def test_zipped_names_change_together(tmp_path):
    over = {"setting": rl.zipped(width=[1.0, 2.0, 3.0], height=[0.1, 0.2, 0.3]), "n": jnp.arange(2)}
    results = quiet(
        lambda width, height, n: {"y": width * 10 + height + n * 100}, over, folder=tmp_path / "x"
    )
    assert results["y"].dims == ("setting", "n")
    np.testing.assert_allclose(
        results["y"], [[10.1, 110.1], [20.2, 120.2], [30.3, 130.3]], rtol=1e-6
    )
    assert results["width"].dims == results["height"].dims == ("setting",)
    assert results["height"].values.tolist() == [0.1, 0.2, 0.3]
    assert results["setting"].values.tolist() == [0, 1, 2]
    assert set(results["y"].where(results["width"] == 2, drop=True)["setting"].values) == {1}
    xr.testing.assert_identical(results, rl.load(tmp_path / "x"))
    (tmp_path / "x" / "results.nc").unlink()
    assert rl.load(tmp_path / "x")["height"].values.tolist() == [0.1, 0.2, 0.3]
    assert rl.load(tmp_path / "x").equals(results)


def test_a_training_is_swept_along_a_zipped_axis_and_resumed(tmp_path):
    over = {"setting": rl.zipped(**PAIRS, goal_key=jax.random.split(jax.random.key(0), 2)), **SEEDS}
    with pytest.raises(ValueError, match="no field 'goal_key'"):
        quiet(TINY, over)
    over = {"setting": rl.zipped(**PAIRS), **SEEDS}
    training, _ = grid.bind(TINY, grid.Grid(over))({"lr": 0.1, "gamma": 0.2, "seed": 3}, TINY)
    assert (training.algo.lr, training.algo.rule.gamma) == (0.1, 0.2)
    results = quiet(TINY, over, folder=tmp_path / "x")
    assert results["loss"].dims == ("setting", "seed", "step")
    assert (results["loss"].isel(setting=0) != results["loss"].isel(setting=1)).any()
    record = store.read_record(tmp_path / "x")
    assert {
        name: float(x) for name, x in grid.config_from_record(record, 3, None).items()
    } == pytest.approx({"lr": 1e-2, "gamma": 0.99, "seed": 1})
    policy = rl.policy(tmp_path / "x", setting=1, seed=0)
    assert float(policy.training.algo.rule.gamma) == pytest.approx(0.99)
    with pytest.raises(ValueError, match=r"axes\.setting\.zipped\.gamma"):
        quiet(
            TINY,
            over | {"setting": rl.zipped(**PAIRS | {"gamma": [0.9, 0.5]})},
            folder=tmp_path / "x",
        )


def test_zipped_numbers_and_keys_have_coordinates():
    keys, trees = jax.random.split(jax.random.key(0), 2), {"a": jnp.ones((2, 3))}
    results = quiet(
        lambda k, t, n: {"y": t["a"].sum() + n},
        {"s": rl.zipped(k=keys, t=trees, n=np.array([1, 2]))},
    )
    assert results["y"].values.tolist() == [4, 5]
    assert set(results.coords) == {"s", "n", "k_key"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.zipped(), "holds no values"),
        (
            lambda: rl.zipped(lr=[1.0], gamma=[0.9, 0.99]),
            r"lr: 1 values, gamma: 2 values.*same number of values",
        ),
        (lambda: rl.zipped(lr=[]), "'lr' is empty"),
        (lambda: rl.zipped(lr=0.1), "single value"),
        (lambda: rl.zipped(a=rl.zipped(lr=[1.0])), "zips twice"),
        (
            lambda: {"s": rl.zipped(**PAIRS), "lr": jnp.ones(2)},
            "'lr' is zipped in axis 's' and is an axis itself",
        ),
        (lambda: {"lr": rl.zipped(**PAIRS)}, "'lr' is zipped in axis 'lr' and is an axis itself"),
        (
            lambda: {"s": rl.zipped(**PAIRS), "t": rl.zipped(lr=[1.0])},
            "'lr' is zipped in axis 't' and is zipped in axis 's'",
        ),
        (lambda: {"s": rl.zipped(gama=[1.0])}, "no field 'gama'.*gamma"),
        (lambda: {"s": rl.zipped(num_envs=[2, 4])}, r"static=\{'num_envs': \(2, 4\)\}"),
    ],
)
def test_wrong_zipped_axes_are_explained(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quiet(TINY, {**make(), **SEEDS})
    with pytest.raises(ValueError, match=r"takes no 'lr', which is swept"):
        quiet(area, {"s": rl.zipped(**PAIRS)})


# ------------------------------------------------------------------------------------------- static


def test_each_static_value_is_a_group_and_all_are_one_dataset():
    results = quiet(
        powers, {"x": jnp.array([2.0, 3.0])}, static={"num_terms": (1, 3), "kind": ("even", "odd")}
    )
    assert results["terms"].dims == ("num_terms", "kind", "x", "terms_0")
    assert results["terms"].sel(num_terms=3, kind="odd", x=3).values.tolist() == [1, 3, 9]
    np.testing.assert_array_equal(
        results["terms"].sel(num_terms=1, kind="even", x=3), [1, np.nan, np.nan]
    )
    assert results["count"].dtype.kind == "i"
    np.testing.assert_array_equal(results["count"].sel(x=2), [[1, 1], [3, 3]])
    np.testing.assert_array_equal(results["odd"].sel(num_terms=3, x=2), [np.nan, 1])


def test_a_training_has_static_axes_and_steps_of_their_own(tmp_path):
    over, axes = (
        {"lr": jnp.array([1e-3, 1e-2]), **SEEDS},
        {"num_envs": (2, 3), "network": (rl.MLP((4,)),)},
    )
    reports = []
    results = rl.sweep(TINY, over, static=axes, folder=tmp_path / "x", progress=reports.append)
    assert results["loss"].dims == ("num_envs", "network", "lr", "seed", "step")
    assert results["num_envs"].values.tolist() == [2, 3]
    assert results["network"].values.tolist() == ["MLP((4,))"]
    assert results["step"].values.tolist() == [16, 32]
    np.testing.assert_array_equal(results["step_taken"].isel(network=0), [[16, 32], [12, 24]])
    assert results["step_taken"].dims == ("num_envs", "network", "step")
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert [report.fraction for report in reports] == sorted(report.fraction for report in reports)
    assert {report.members for report in reports} == {8}
    assert reports[-1].done == 8
    assert reports[-1].fraction == pytest.approx(1.0)
    assert reports[-1].done_now == pytest.approx(1.0)
    rows = [report for report in reports if report.metrics]  # with the labels of their group
    assert [set(report.labels["num_envs"].tolist()) for report in rows] == [{2}, {2}, {3}, {3}]
    assert rows[0].labels["network"].tolist() == ["MLP((4,))"] * 4
    assert [report.step for report in rows] == [16, 32, 12, 24]
    # the folders of its groups are sweeps
    xr.testing.assert_identical(results, rl.load(tmp_path / "x"))
    group = rl.load(tmp_path / "x" / "static" / "001")
    assert json.loads(group.attrs["run"])["algo"]["num_envs"] == 3
    np.testing.assert_array_equal(
        results["loss"].sel(num_envs=3, network="MLP((4,))"), group["loss"]
    )
    best = rl.best(results, "entropy")
    assert set(best) == {"num_envs", "network", "lr", "seed"}
    policy = rl.policy(tmp_path / "x", **best)
    assert policy.training.algo.num_envs == best["num_envs"]
    assert static_axes.short(policy.training.algo.network) == best["network"]
    with pytest.raises(ValueError, match="num_envs=5 was not swept"):
        rl.policy(tmp_path / "x", **best | {"num_envs": 5})
    # which only the same call goes on with, one at a time
    held = store.Store(tmp_path / "x", store.read_record(tmp_path / "x"))
    with pytest.raises(BlockingIOError, match="in use"):
        quiet(TINY, over, static=axes, folder=tmp_path / "x")
    held.close()
    with pytest.raises(
        ValueError, match=r"another sweep.*\n  static\.num_envs: \[2, 3\] there, \[2, 4\] here"
    ):
        quiet(TINY, over, static=axes | {"num_envs": (2, 4)}, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"static\.network: .* there, absent here"):
        quiet(TINY, over, static={"num_envs": (2, 3)}, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"static: .* there, absent here"):
        quiet(TINY, over, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"axes\.lr"):
        quiet(TINY, {"lr": jnp.array([1.0, 2.0]), **SEEDS}, static=axes, folder=tmp_path / "x")
    xr.testing.assert_equal(results, quiet(TINY, over, static=axes, folder=tmp_path / "x"))


def test_a_stopped_sweep_of_groups_resumes(tmp_path):
    over, axes = {"x": jnp.arange(3.0)}, {"num_terms": (2, 1), "kind": ("odd",)}
    whole = quiet(powers, over, static=axes, chunk=2)

    def stop(report):
        if report.done >= 5:
            raise KeyboardInterrupt

    call = functools.partial(rl.sweep, powers, over, static=axes, chunk=2, folder=tmp_path / "x")
    with pytest.raises(KeyboardInterrupt) as stopped:
        call(progress=stop)
    assert [note for note in stopped.value.__notes__ if "runs" in note] == [
        f"5 of 6 runs have finished and are kept in {tmp_path / 'x'}; the same sweep, run again, "
        "resumes from there."
    ]
    partial = rl.load(tmp_path / "x")
    assert partial.equals(stopped.value.results)
    assert partial.attrs["unfinished"] == "5 of 6 runs have finished"
    assert np.isfinite(partial["terms"]).sum() == 6 + 2
    assert (tmp_path / "x" / "static" / "000" / "results.nc").exists()
    done = []
    resumed = call(progress=lambda report: done.append(report.done))
    assert min(done) >= 3
    assert done[-1] == 6
    xr.testing.assert_equal(resumed, whole)
    xr.testing.assert_equal(rl.load(tmp_path / "x"), whole)


def test_groups_that_have_not_started_are_nan_and_groups_differ_in_outputs():
    run = lambda x, n: {"y": x} if n < 2 else {"y": jnp.stack([x, x]), "only": jnp.int32(7)}

    def stop(report):
        if report.done == 2:
            raise RuntimeError("enough")

    results = quiet(
        run, {"x": jnp.arange(2.0)}, static={"n": [1, 2]}
    )  # a number here, a vector there
    np.testing.assert_array_equal(results["y"], [[[0, np.nan], [1, np.nan]], [[0, 0], [1, 1]]])
    np.testing.assert_array_equal(results["only"], [[np.nan, np.nan], [7, 7]])
    with pytest.raises(ValueError, match="'n', which is also a static axis"):
        quiet(lambda x, n: {"n": x}, {"x": jnp.arange(2.0)}, static={"n": [1, 2]})
    with pytest.raises(RuntimeError) as stopped:
        rl.sweep(lambda x, n: {"y": x}, {"x": jnp.arange(2.0)}, static={"n": [1, 2]}, progress=stop)
    np.testing.assert_array_equal(stopped.value.results["y"], [[0, 1], [np.nan, np.nan]])
    assert "2 of 4 runs" in stopped.value.__notes__[-1]


def test_curves_of_other_lengths_are_at_their_own_steps():
    run = lambda x, every: {
        "step": jnp.arange(every, 13, every),
        "y": x * jnp.arange(every, 13, every),
    }
    results = quiet(run, {"x": jnp.array([1.0, 2.0])}, static={"every": (6, 4, 3)})
    assert results["step"].values.tolist() == [3, 4, 6, 8, 9, 12]
    assert results["y"].sel(every=4, x=2).dropna("step")["step"].values.tolist() == [4, 8, 12]
    np.testing.assert_array_equal(results["y"].sel(x=2, step=12), [24, 24, 24])


def test_every_group_is_checked_before_the_first_starts(tmp_path):
    bad = {"num_envs": (2, 3), "minibatches": (1, 4)}
    with pytest.raises(ValueError, match=r"minibatches=4 does not divide") as raised:
        quiet(rl.tree.put(TINY, {"num_steps": 5}), SEEDS, static=bad, folder=tmp_path / "x")
    assert "num_envs=2, minibatches=4" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="evals"):
        quiet(TINY, SEEDS, static={"num_envs": (2, 32)}, folder=tmp_path / "x")
    with pytest.raises(ValueError, match="odd"):
        quiet(
            lambda x, n: {"y": x} if n == 1 else fail("odd"),
            {"x": jnp.ones(1)},
            static={"n": (1, 2)},
            folder=tmp_path / "x",
        )
    assert not (tmp_path / "x").exists()
    together = static_axes.replace_fields(
        rl.tree.put(TINY, {"minibatches": 4}), {"num_envs": 9, "minibatches": 3}
    )
    assert (together.algo.num_envs, together.algo.minibatches) == (9, 3)


def fail(message):
    raise ValueError(message)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"num_envs": ()}, "'num_envs' is empty"),
        ({"num_envs": 16}, r"single value, 16; an axis is a list: write \[16\]"),
        ({"network": rl.MLP((4,))}, "single value"),
        ({"num_envs": (2, 2)}, "has 2 twice"),
        ({"seed": (1, 2)}, "in over= and in static="),
        ({"num_env": (1, 2)}, "no field 'num_env'.*num_envs"),
        ({"gamma": jnp.array([0.9, 0.99])}, "sweep it in over= instead"),
        ({"gamma": [jnp.float32(0.9)]}, "sweep it in over= instead"),
        ({"episodes": (0, 1)}, "'episodes', which is also a static axis"),
        ("num_envs", "not a dictionary"),
    ],
)
def test_wrong_static_axes_are_explained(axes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        quiet(TINY, SEEDS, static=axes)


def test_a_function_s_static_names_are_its_parameters():
    with pytest.raises(
        ValueError, match=r"powers\(x, num_terms, kind\) takes no 'terms', which is a static axis"
    ):
        quiet(powers, {"x": jnp.arange(2.0)}, static={"terms": (1, 2)})
    with pytest.raises(ValueError, match="needs num_terms"):
        quiet(powers, {"x": jnp.arange(2.0)}, static={"kind": ("odd",)})
    with pytest.raises(
        TypeError,
        match=r"rl\.sweep\(training, \{'seed': \.\.\.\}, static=\{'num_envs': \(2, 4\)\}\)",
    ):
        quiet(TINY, SEEDS | {"num_envs": jnp.array([2, 4])})


def test_static_values_are_labelled_shortly():
    label = lambda *values: static_axes.label(values).tolist()
    assert label(16, 64) == [16, 64]
    assert label(1, 0.5) == [1.0, 0.5]
    assert label(True, False) == [True, False]
    assert label("a", None) == ["a", "None"]
    assert label(rl.MLP((64, 64)), rl.CNN(hidden=(8,))) == [
        "MLP((64, 64))",
        "CNN((16,), hidden=(8,))",
    ]
    assert label(jnp.tanh, jnp.tanh) == ["tanh #1", "tanh #2"]
    assert label(rl.MLP((4,), shared=True)) == ["MLP((4,), shared=True)"]
    assert len(label(envs.make("CartPole-v1"))[0]) <= static_axes.MAX_LABEL


def test_environments_of_other_shapes_are_a_static_axis_with_labels(tmp_path):
    worlds = {"small": envs.make("Catch", rows=3), "large": envs.make("Catch", rows=5)}
    run = lambda env, on, seed: {"rows": env.reset(jax.random.key(seed))[1].sum(1) * on}
    results = quiet(run, SEEDS, static={"env": worlds, "on": [True]}, folder=tmp_path / "x")
    assert results["env"].values.tolist() == ["small", "large"]
    np.testing.assert_array_equal(
        results["rows"].sel(env="small", on=True, seed=1), [1, 0, 1, np.nan, np.nan]
    )
    np.testing.assert_array_equal(
        results["rows"].sel(env="large", on=True, seed=1), [1, 0, 0, 0, 1]
    )
    assert json.loads(results.attrs["static"])["on"] == [True]
    xr.testing.assert_identical(results, rl.load(tmp_path / "x"))
    found = static_axes.combine(TINY, {"env": worlds}, grid.Grid(SEEDS))
    assert [run.env.rows for run in found.runs] == [3, 5]
    assert found.names == ["env=small", "env=large"]


def test_counts_on_the_command_line_are_static_axes():
    config = arguments.options("ppo", rl.ppo)(
        env="Catch", num_envs=(16, 64), epochs=(1,), lr=(1e-3, 1e-2), seeds=3
    )
    training, axes = arguments.training_of(config, rl.ppo)
    assert arguments.counts_of(config, rl.ppo) == {"num_envs": (16, 64)}
    assert (training.algo.num_envs, training.algo.epochs) == (16, 1)
    assert {name: len(values) for name, values in axes.items()} == {"lr": 2, "seed": 3}
    assert arguments.num_members(config) == 6
