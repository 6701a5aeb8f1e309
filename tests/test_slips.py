"""Slips of arguments: each is one sentence, before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import jaxrl as rl
from envs import from_gymnax
from jaxrl.cli.labels import label_of
from jaxrl.runs.live import Summaries

CATCH = rl.envs.make("Catch")
TRAINING = rl.Training(rl.ppo(), CATCH, steps=8192, evals=1)
CARTPOLE = rl.envs.make("CartPole-v1")
RESULTS = xr.Dataset(
    {"return": (("seed", "step"), np.ones((6, 2)))}, {"seed": range(6), "step": [1, 2]}
)


SEEDS = {"seed": np.arange(2)}


def sweep(**options):
    return rl.sweep(TRAINING, SEEDS, **options)


def start(**fields):
    """Trace the first state of PPO with these fields."""
    return jax.eval_shape(rl.Training(rl.ppo(**fields), CATCH).init, jax.random.key(0))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: TRAINING(1.5), TypeError, r"a whole number or a key, and got 1\.5"),
        (lambda: TRAINING("a"), TypeError, "a whole number or a key, and got 'a'"),
        (lambda: rl.plan(TRAINING, {"seed": [0.5, 1.5]}), ValueError, "'seed' holds float32"),
        (lambda: rl.plan(TRAINING, {"seed": [True, False]}), ValueError, "'seed' holds bool"),
        (lambda: rl.plan(TRAINING, [1, 2]), TypeError, "over is a dictionary .* got a list"),
        (lambda: rl.plan(rl.ppo(), {"seed": range(2)}), TypeError, r"write rl\.sweep\(rl\.T"),
        (lambda: start(network=64), TypeError, r"network=64 is not a builder: .* rl\.MLP"),
        (lambda: start(memory=64), TypeError, r"memory=64 is not a recurrent cell: .* rl\.GRU"),
        (lambda: start(memory=rl.GRU), TypeError, r"memory=GRU is a class: write GRU\(64\)"),
        (lambda: rl.FFM(-1), ValueError, "size=-1 of FFM"),
        (lambda: rl.c51(v_min=1.0, v_max=-1.0), ValueError, "v_min=1.0 is not below v_max=-1.0"),
        (lambda: rl.redq(num_critics=0), ValueError, "num_critics=0 of ActorCritic is not a pos"),
        (lambda: rl.ppo(lr=1j), TypeError, "lr=1j of OnPolicy is not a number"),
        (lambda: rl.Training(rl.ppo(), CATCH, steps=1e6), ValueError, "float: write steps=1000000"),
        (lambda: rl.Box((2,), 0.0, 1.0), ValueError, r"shape=1\.0 of Box"),
        (lambda: rl.envs.make(None), TypeError, "name is a text, and got None"),
        (lambda: rl.envs.Family(CARTPOLE, length=(0.2, np.inf)), ValueError, "two finite numbers"),
        (lambda: rl.envs.Family(CARTPOLE, length=("a", "b")), TypeError, "write two numbers"),
        (lambda: rl.plot.curve(RESULTS, by="seed"), ValueError, "'seed' can't be the axis of two"),
        (lambda: rl.stats.compare(RESULTS, RESULTS, allow=("seed",)), ValueError, "names 'seed'"),
        (lambda: rl.report(RESULTS), TypeError, "written from folders, and got a Dataset"),
        (lambda: Summaries("return"), TypeError, r"write metrics=\['return'\]"),
        (lambda: rl.evaluate(jax.random.key(0), CATCH, None, -1), ValueError, "num_episodes=-1"),
        (lambda: rl.evaluate(0, CATCH, None, True), ValueError, "num_episodes=True is not"),
        (lambda: rl.ppo(lr=True), TypeError, r"lr=True of OnPolicy is not a number in \[0, inf\)"),
        (lambda: rl.ppo(gamma=np.bool_(True)), TypeError, "is not a number in"),
        (
            lambda: rl.plan(TRAINING, SEEDS | {"lr": [True, False]}),
            ValueError,
            "'lr' takes True or False",
        ),
        (lambda: sweep(save_seconds=-1), ValueError, "save_seconds=-1 is not a number of seconds"),
        (lambda: sweep(save_seconds=float("nan")), ValueError, "save_seconds=nan is not"),
        (lambda: sweep(save_seconds="1"), ValueError, "save_seconds='1' is not"),
        (lambda: sweep(keep_best="no"), TypeError, "keep_best='no' is not True or False"),
        (lambda: sweep(keep_state=1), TypeError, "keep_state=1 is not True, False or None"),
        (lambda: sweep(folder=5), TypeError, r"folder=5 is not a path: write a text"),
        (lambda: rl.extend("x", save_seconds=True), ValueError, "save_seconds=True is not"),
        (lambda: rl.plan(TRAINING, SEEDS, processes=1.5), ValueError, "processes=1.5 is not"),
        (lambda: rl.load(None), TypeError, r"folder=None is not a path: write a text"),
        (lambda: rl.load(RESULTS), TypeError, "folder is a Dataset, not a path"),
        (lambda: rl.load("x", running=0), TypeError, "running=0 is not True or False"),
        (lambda: rl.policy(None, seed=0), TypeError, r"folder=None is not a path: write a text"),
        (lambda: rl.rerun(None, 0), TypeError, r"folder=None is not a path: write a text"),
        (lambda: rl.runs(5), TypeError, r"root=5 is not a path: write a text"),
        (lambda: rl.export(None), TypeError, r"folder=None is not a path: write a text"),
        (lambda: rl.export(RESULTS, 5), TypeError, r"path=5 is not a path: write a text"),
        (lambda: rl.report("x", out=5), TypeError, r"out=5 is not a path: write a text"),
        (lambda: rl.load_rule(None), TypeError, r"path=None is not a path: write a text"),
        (lambda: rl.plot.gif(CATCH, None, 5), TypeError, r"path=5 is not a path: write a text"),
        (lambda: rl.plot.gif(CATCH, None, max_frames=0), ValueError, "max_frames=0 is not"),
        (lambda: rl.plot.gif(CATCH, None, fps=-1), ValueError, "fps=-1 is not a positive number"),
        (lambda: rl.stats.interval(RESULTS["return"], resamples=2.5), ValueError, "resamples=2.5"),
        (lambda: rl.use_all_cores(-1), ValueError, "cores=-1 is not a positive whole number"),
        (lambda: Summaries(max_settings=0), ValueError, "max_settings=0 is not a positive"),
        (
            lambda: from_gymnax.wrap(object()),
            TypeError,
            "wrap takes a gymnax .* got an object of type object",
        ),
        (
            lambda: from_gymnax.wrap(None),
            TypeError,
            "wrap takes a gymnax .* got an object of type None",
        ),
        (
            lambda: rl.tune(TRAINING, {"lr": rl.tuning.log(1e-4, 1e-2)}, budget=1e6, seed=1.5),
            ValueError,
            r"seed=1\.5 is not a whole number",
        ),
    ],
)
def test_a_slip_is_one_sentence(make, error, words):
    with pytest.raises(error, match=words):
        make()


LANGUAGE = rl.symbolic.DRIFT_LANGUAGE
SCORES = np.arange(4.0)
first_action = lambda key, episode: ((), jnp.int32(0), ())


@pytest.mark.parametrize(
    "call",
    [
        TRAINING.init,
        lambda key: TRAINING.run_row(key, TRAINING.init(0), 0),
        lambda key: rl.evaluate(key, CATCH, first_action, 2),
        lambda key: rl.stats.interval(SCORES, key=key),
        lambda key: rl.stats.difference(SCORES, SCORES, key=key),
        lambda key: rl.stats.bootstrap(key, rl.stats.iqm, SCORES),
        lambda key: rl.stats.draw_counts(key, 1, 4),
        lambda key: rl.symbolic.random_program(key, LANGUAGE, 4),
        lambda key: rl.symbolic.mutate(key, rl.symbolic.random_program(0, LANGUAGE, 4)),
        lambda key: rl.symbolic.insert(key, rl.symbolic.random_program(0, LANGUAGE, 4)),
        rl.SmallFC.random,
        rl.envs.tabular.garnet,
    ],
)
def test_an_integer_seed_stands_for_its_key(call):
    def operations(make):
        equations = jax.make_jaxpr(lambda: call(make()))().eqns
        seeds = [str(each.invars[0]) for each in equations if each.primitive.name == "random_seed"]
        return sorted(each.primitive.name for each in equations), sorted(seeds)

    assert operations(lambda: 3) == operations(lambda: jax.random.key(3))
    for wrong in (1.5, "a", True):
        with pytest.raises(TypeError, match="a seed is a whole number or a key, and got"):
            jax.eval_shape(lambda wrong=wrong: call(wrong))


def test_a_family_varies_several_fields():
    family = rl.envs.Family(CARTPOLE, length=(0.2, 2.0), gravity=(5.0, 15.0))
    assert family.ranges == {"length": (0.2, 2.0), "gravity": (5.0, 15.0)}


def test_too_many_evaluation_points_are_refused_before_any_are_made():
    training = rl.Training(rl.ppo(), CATCH, steps=8192, evals=10**12)
    with pytest.raises(ValueError, match="fewer than evals"):
        assert training.clocks


def test_a_whole_number_on_the_command_line_stays_one():
    assert repr(label_of("seed=7")) == "('seed', 7)"
    assert repr(label_of("lr=1e-3")) == "('lr', 0.001)"
