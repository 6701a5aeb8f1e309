"""Equal keys are one replicate, and a diverged run never wins."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from searches import CUBE, SPACE, TRAINING, TUNERS

import jaxrl as rl
from jaxrl import stats, tuning
from jaxrl.cli import main
from jaxrl.runs import catalogue
from jaxrl.sweep import results as sweep_results
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.record import make_record
from jaxrl.tuning.history import History
from jaxrl.tuning.study import Study, final

rng = np.random.default_rng(0)
KEYS = jax.vmap(jax.random.key)(jnp.arange(8))
REFUSED = r"seed 1 occurs 10 times: equal keys are one replicate, and 10 labels have 1 keys"


def results(seeds=8, settings=(), **variables):
    """Results of scores of the settings and seeds; more variables are (dims, values)."""
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    axes = ("lr", "seed") if settings else ("seed",)
    shape = [*[len(settings)] * bool(settings), len(seeds)]
    scores = {"return": ((*axes, "step"), rng.normal(size=(*shape, 2)))}
    labels = {"seed": seeds, "step": [1, 2]} | ({"lr": list(settings)} if settings else {})
    return xr.Dataset(scores | variables, labels)


# ------------------------------------------------------------------------------- equal replicates


@pytest.mark.parametrize(
    "use",
    [
        lambda data: stats.compare(data, results(10)),
        lambda data: stats.compare(results(10), data),
        lambda data: stats.compare(data["return"], results(10)["return"]),
        stats.obstacles,
        stats.table,
        stats.summary,
        stats.estimate,
        stats.profile,
        stats.power,
        rl.importance,
        catalogue.best_setting,
        rl.plot.curve,
        lambda data: stats.interval(data["return"].isel(step=-1)),
        lambda data: stats.difference(data["return"].isel(step=-1), np.zeros(10)),
        lambda data: stats.improvement(data["return"].isel(step=-1), np.zeros(10)),
        lambda data: stats.paired_difference(data["return"].isel(step=-1), np.zeros(10)),
    ],
)
def test_equal_seeds_are_refused_on_every_way_into_statistics(use):
    data = results([1] * 10)
    call = use if use is not stats.obstacles else lambda data: stats.obstacles(data, data)
    with pytest.raises(ValueError, match=REFUSED):
        call(data)


@pytest.mark.parametrize(
    ("over", "shown"),
    [
        ({"seed": [1] * 10}, "axis 'seed' has 1 10 times"),
        ({"seed": KEYS[jnp.array([0, 1, 1])]}, "axis 'seed' has value 1 2 times"),
        ({"seed": [0, 1], "lr": [1e-3, 1e-2, 1e-3]}, "axis 'lr' has 0.001 2 times"),
        (
            {"both": rl.zipped(seed=[0, 1, 0], lr=[1.0, 1.0, 1.0])},
            "axis 'both' has value 0 2 times",
        ),
    ],
)
def test_a_value_twice_on_an_axis_is_refused(over, shown):
    with pytest.raises(ValueError, match=f"{shown}: equal values are one run"):
        rl.sweep(TRAINING, over)
    with pytest.raises(ValueError, match=shown):
        rl.plan(TRAINING, over)


def test_zipped_values_may_repeat_where_their_combinations_do_not():
    assert Grid({"both": rl.zipped(lr=[1.0, 1.0], noise=[0.1, 0.2]), "seed": [0]}).members == 2


# ------------------------------------------------------------------------------- pairs are by key


def keyed(keys, shift=0.0):
    """Results as of a sweep over keys."""
    coordinates = Grid({"seed": keys}).coordinates
    return (results(len(keys)) + shift).assign_coords(coordinates)


def test_keys_have_a_coordinate_that_says_which_they_are():
    np.testing.assert_array_equal(keyed(KEYS)["seed_key"], np.arange(8))
    raw = jax.vmap(jax.random.key_data)(KEYS)
    np.testing.assert_array_equal(keyed(raw)["seed_key"], np.arange(8))
    split = jax.random.split(jax.random.key(0), 8)
    assert len(set(keyed(split)["seed_key"].values.tolist())) == 8
    assert Grid({"seed": np.arange(3)}).coordinates == {}
    zipped = Grid({"both": rl.zipped(seed=KEYS, lr=jnp.arange(8.0))}).coordinates
    assert (zipped["seed_key"][0], sorted(zipped)) == ("both", ["lr", "seed_key"])


def test_the_keys_of_an_older_record_are_those_of_a_new_one():
    record = make_record(TRAINING, Grid({"seed": KEYS}), with_program=False)
    record = json.loads(json.dumps(record))
    new = sweep_results.coordinates_of(record)["seed_key"]
    old = sweep_results.coordinates_of(record | {"coordinates": {}})["seed_key"]
    assert (old[0], new[0]) == ("seed", "seed")
    np.testing.assert_array_equal(old[1], np.arange(8))
    np.testing.assert_array_equal(new[1], np.arange(8))


def test_only_equal_keys_are_paired():
    first, second = keyed(KEYS), keyed(jax.random.split(jax.random.key(1), 8))
    made = stats.compare(first, second, resamples=50)
    assert not made.paired
    assert "8 and 8 seeds, unpaired" in str(made)
    with pytest.raises(ValueError, match="0 seeds in common"):
        stats.compare(first, second, paired=True)
    turned = first.isel(seed=slice(None, None, -1)).assign_coords(seed=np.arange(8))
    made = stats.compare(first, turned, resamples=50)
    assert "paired over 8 common seeds" in str(made)
    np.testing.assert_allclose(made.difference, 0.0, atol=1e-6)  # each with itself
    x, y = (side["return"].isel(step=-1) for side in (first, second))
    with pytest.raises(ValueError, match="different keys under the same labels"):
        stats.paired_difference(x, y)
    with pytest.raises(ValueError, match="different keys under the same labels"):
        stats.difference(x, y, paired=True)
    plain = results(8)  # seeds 0 to 7 are the keys of these numbers
    assert stats.compare(first, plain, resamples=50).paired


# --------------------------------------------------------- keys that depend on others in the batch


BATCH_DEPENDENT = ("rbg", "unsafe_rbg")


@pytest.mark.parametrize("name", BATCH_DEPENDENT)
def test_keys_that_depend_on_the_chunk_are_refused_before_anything_runs(name):
    seeds = jax.vmap(lambda i: jax.random.key(i, impl=name))(jnp.arange(6))
    match = f"generator '{name}' depend on the other .* impl='threefry2x32'"
    for call in (
        lambda: rl.sweep(TRAINING, {"seed": seeds}, chunk=3),
        lambda: rl.plan(TRAINING, {"seed": seeds}),
        lambda: rl.sweep(lambda key: {"x": jax.random.normal(key)}, {"key": seeds}),
        lambda: rl.sweep(TRAINING, {"both": rl.zipped(seed=seeds, lr=jnp.arange(6.0))}),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.warns(UserWarning, match=match):
        jax.eval_shape(TRAINING, seeds[0])


def test_the_default_generator_counts_for_whole_numbers(monkeypatch):
    monkeypatch.setattr(rl, "use_all_cores", lambda **_: None)  # jax runs already, here
    match = r"config.update.'jax_default_prng_impl', 'threefry2x32'"
    with jax.default_prng_impl("rbg"):
        for call in (
            lambda: rl.sweep(TRAINING, {"seed": np.arange(6)}),
            lambda: rl.tune(TRAINING, SPACE, budget=1e5),
        ):
            with pytest.raises(ValueError, match=match):
                call()
        with pytest.raises(SystemExit, match=match):
            main(["train", "reinforce", "Catch", "--steps", "10000", "--seeds", "2"])
        with pytest.warns(UserWarning, match=match):
            bind(lambda seed: {"x": seed}, Grid({"seed": np.arange(2)}))
        keys = jax.vmap(lambda i: jax.random.key(i, impl="threefry2x32"))(jnp.arange(2))
        bind(TRAINING, Grid({"seed": keys}))


# ------------------------------------------------------------------------------ diverged runs lose


def one_lost(**more):
    """Two settings of 8 seeds, the second of which diverged and has the higher return."""
    data = results(8, settings=(1e-4, 1e30))
    data["return"] = data["return"] + xr.DataArray([0.0, 9.0], dims="lr")
    lost = np.broadcast_to(np.array([False, True])[:, None, None], (2, 8, 2))
    return data.assign(diverged=(("lr", "seed", "step"), lost), **more)


def test_a_diverged_run_is_not_the_best_unless_asked():
    data = one_lost()
    assert rl.best(data)["lr"] == 1e-4
    assert rl.best(data, "return")["lr"] == 1e-4
    assert rl.best(data, diverged=True)["lr"] == 1e30
    assert catalogue.best_setting(data)[1]["lr"] == 1e-4
    with pytest.raises(ValueError, match="all diverged"):
        rl.best(data.sel(lr=[1e30]))


def test_a_step_without_a_value_is_no_divergence():
    data = one_lost()
    flags = data["diverged"].astype(float)
    flags[0, :, 1] = np.nan
    data = data.assign(diverged=flags)
    assert stats.num_diverged(data, "seed", ("lr",)).values.tolist() == [0, 8]
    assert rl.best(data)["lr"] == 1e-4


def test_the_best_is_that_of_the_evaluation_where_there_is_one():
    data = one_lost()
    score = -data["return"]
    assert rl.best(data.assign(evaluation=score)) == rl.best(
        data.assign(evaluation=score), "evaluation"
    )
    assert rl.best(data.assign(evaluation=score)) != rl.best(data, "return")
    assert rl.best(data.assign(evaluation=score * np.nan)) == rl.best(data, "return")
    of_lost = score.where(data.lr > 1)  # only diverged runs have one
    assert rl.best(data.assign(evaluation=of_lost)) == rl.best(data, "return")


def test_a_comparison_of_diverged_runs_is_refused_unless_asked():
    data = one_lost()
    sound, lost = data.sel(lr=1e-4), data.sel(lr=1e30)
    with pytest.raises(ValueError, match=r"diverged: 8 of the second's 8 diverged .*\n.*allow="):
        stats.compare(sound, lost)
    made = stats.compare(sound, lost, allow=("diverged",), resamples=50)
    assert made.verdict == "the second is higher"
    with pytest.raises(ValueError, match=r"allow=.'diverged',."):
        rl.compare(data, data, lr=1e30)


def test_importance_counts_diverged_runs_as_the_lowest():
    data = one_lost()
    mean = rl.importance(data).marginals["lr"]["mean"]
    assert mean[1e-4] > mean[1e30]
    assert mean[1e30] == pytest.approx(float(data["return"].isel(step=-1).sel(lr=1e-4).min()))
    mean = rl.importance(data, diverged=True).marginals["lr"]["mean"]
    assert mean[1e-4] < mean[1e30]
    unknown = one_lost()
    unknown["return"] = unknown["return"].where(unknown.seed > 1)
    assert rl.importance(unknown).marginals["lr"]["mean"].notnull().all()


def test_the_highest_evaluation_of_a_diverged_agent_is_not_kept():
    from jaxrl.sweep.program import _better

    best = {"score": jnp.array([-jnp.inf, 1.0]), "row": jnp.zeros(2, int), "agent": [jnp.zeros(2)]}
    found = _better(
        best, [jnp.array([jnp.nan, 5.0])], jnp.full(2, 9.0), jnp.array([False, True]), jnp.int32(3)
    )
    np.testing.assert_array_equal(found["score"], [-np.inf, 9.0])
    np.testing.assert_array_equal(found["agent"][0], [0.0, 5.0])


def test_the_best_of_a_discovery_is_not_a_run_without_a_score():
    from experiments import _discovery

    assert _discovery.argbest([0.5, np.nan, 1.0, -np.inf]) == 2
    score = lambda setting, seed: np.array([np.nan if setting["lr"] > 1 else setting["lr"]])
    assert _discovery.tuned(score, [{"lr": 0.1}, {"lr": 9.0}, {"lr": 0.3}])["lr"] == 0.3


def outcome(study, request):
    """The curves of a batch, without training: a rate above 0.1 diverges with a high return."""
    lr = np.array([study.ranges.setting(point)["lr"] for point in request.points])
    lost = (lr > 0.1)[:, None, None]
    sound = np.log10(lr)[:, None, None] + 0.01 * request.seeds[..., None]
    curve = np.where(lost, 9.0, sound) + np.zeros(study.training.evals)
    diverged = np.broadcast_to(lost, curve.shape).astype(float)
    return {"return": curve, "diverged": diverged}, [[np.zeros(1)]] * request.seeds.size


@pytest.mark.parametrize("name", TUNERS)
def test_no_tuner_chooses_a_setting_that_diverged_unless_asked(name):
    if name == "Optuna":
        pytest.importorskip("optuna")
    arguments = dict(tuner=TUNERS[name], seeds=4, test_seeds=4, metric="return", measure=final)
    arguments |= dict(statistic=stats.iqm, seed=0, chunk=None, repetitions=1, budget=16 * 180 * 4)
    for asked in (False, True):
        study = Study(TRAINING, {"lr": tuning.log(1e-4, 1e3)}, diverged=asked, **arguments)
        search = study.search(0)
        while search.batch is not None:
            search.tell(*outcome(study, search.request()))
        (point, _) = search.stages()[-1]
        lost = study.ranges.setting(point)["lr"] > 0.1
        assert lost == asked
        assert np.isneginf(search.history.scores).any() != asked


def test_a_curve_of_a_diverged_run_is_the_lowest_of_all():
    history = History(CUBE, np.arange(4), 100.0)
    curves = np.array([[[1.0, 2.0, 3.0]], [[4.0, 9.0, 9.0]]])
    lost = np.array([[[0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]])
    history.curves, history.end_row = {"return": curves, "diverged": lost}, np.full(2, 3)
    np.testing.assert_array_equal(history.mean_curves(), [[1, 2, 3], [4, 1, 1]])
    history.diverged = True
    np.testing.assert_array_equal(history.mean_curves(), curves[:, 0])
