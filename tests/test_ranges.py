"""Every float field of the kit has a range, which is data, and a value outside it is refused."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
import jaxrl as rl
from jaxrl import archives, symbolic, tree, tuning
from jaxrl.errors import ELSEWHERE, INSTEAD
from jaxrl.ranges import Range, range_of
from jaxrl.rules.disco import Disco

# Results, machinery, and pairs of ends that have a check of their own.
WITHOUT = {
    "Box",
    "Clock",
    "Comparison",
    "Config",
    "EpsilonGreedyCategorical",
    "GaussianProcess",
    "History",
    "Importance",
    "Log",
    "Plan",
    "Progress",
    "Rerun",
    "Report",
    "Study",
    "TanhNormal",
    "TuningResult",
    "Uniform",
    "_Options",
}
CATCH = envs.make("Catch", rows=3, columns=3)
# Those that need arguments.
MADE = {
    "ChannelBonus": rl.exploration.ChannelBonus(name="novelty"),
    "Disco": Disco({}),
    "Extended": None,
    "Function": archives.Function(lambda x: (x[0], x), 1),
    "GoExplore": rl.GoExplore(archives.Grid.unit(2)),
    "MapElites": rl.MapElites(archives.Grid.unit(2)),
    "PolicyGradient": archives.PolicyGradient(archives.ActorTask(envs.make("Pendulum-v1"))),
    "Starts": rl.teachers.Starts(CATCH, None),
    "DriftProgram": symbolic.DriftProgram(None),
    "LPG": rl.LPG(None),
    "OffPolicy": rl.dqn(),
    "Population": tuning.Population(rl.ppo(), {"lr": tuning.log(1e-4, 1e-2)}),
    "Product": rl.exploration.Product(first=rl.exploration.RND(), second=rl.exploration.E3B()),
    "RewardSignals": rl.RewardSignals(signals={"bonus": rl.Signal()}),
    "Stale": rl.Stale(rl.ppo()),
    "LogLinear": rl.LogLinear.zero("lr"),
    "Training": rl.Training(rl.ppo(), CATCH),
    "_Evosax": None,
}


def classes():
    """The dataclasses of the kit with a field that is a float, {name: class}."""
    found = {}
    for module in pkgutil.walk_packages(rl.__path__, "jaxrl."):
        if ".cli" in module.name:
            continue
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = kind.__module__ == module.name and dataclasses.is_dataclass(kind)
            if own and any(is_float(field) for field in dataclasses.fields(kind)):
                found[f"{module.name}.{name}"] = kind
    return found


def is_float(field):
    return field.type is float or typing.get_args(field.type) == (float, type(None))


CLASSES = {name: kind for name, kind in classes().items() if kind.__name__ not in WITHOUT}


def outside(within):
    """Numbers that are not in a range."""
    numbers = np.array([np.nan, -np.inf, np.inf, -1e9, 1e9, -0.5, 0.0, 1.5])
    return within.outside(numbers).tolist()


@pytest.mark.parametrize("name", CLASSES)
def test_every_float_field_has_a_range_that_is_checked(name):
    kind = CLASSES[name]
    made = MADE[kind.__name__] if kind.__name__ in MADE else kind()
    for field in dataclasses.fields(kind):
        if not is_float(field):
            continue
        within = range_of(field)
        assert within is not None, field.name
        if made is None:
            continue
        for value in outside(within):
            for number in (value, np.float32(value)):
                with pytest.raises(ValueError, match=f"{field.name}=.* {kind.__name__}|r_max"):
                    dataclasses.replace(made, **{field.name: number})
        wrong = ("a", (0.5,)) if within.takes_none else ("a", (0.5,), None)
        for value in wrong if kind is not rl.LRU else ():
            with pytest.raises(TypeError, match=f"{field.name}=.* {kind.__name__}"):
                dataclasses.replace(made, **{field.name: value})
        assert dataclasses.replace(made, **{field.name: getattr(made, field.name)}) == made


def test_every_float_of_a_preset_has_a_range():
    for name, preset in rl.PRESETS.items():
        listed = rl.ranges(preset())
        for path, field in tree.paths(preset.value).items():
            if isinstance(tree.get(preset.value, path), float) and ".options." not in path:
                assert listed[path] == range_of(field).text, (name, path)


def test_the_ranges_of_an_algorithm_are_data():
    found = rl.ranges(rl.ppo())
    assert found["rule.gamma"] == "[0, 1]"
    assert found["rule.objective.clip"] == "[0, inf]"
    assert found["max_grad_norm"] == "(0, inf]"
    assert rl.ranges(rl.td3())["learner.targets.target_period"] == "[1, inf] or None"
    with pytest.raises(ValueError, match="is not an interval: write"):
        Range("0 to 1")


def test_the_ends_of_a_range():
    half_open = Range("[0, 1)")
    assert half_open.outside([0.0, 0.5, 0.999]).size == 0
    np.testing.assert_array_equal(half_open.outside([-0.1, 1.0, np.inf, 0.0]), [-0.1, 1.0, np.inf])
    assert np.isnan(Range("[-inf, inf]").outside([np.nan])).all()
    assert Range("(0, inf]").outside([np.inf]).size == 0
    assert rl.ppo(max_grad_norm=float("inf"), gamma=1, lam=np.float32(0.0)).rule.gamma == 1


def test_one_sentence_says_what_it_was_and_what_it_may_be():
    for make, text in (
        (
            lambda: rl.ppo(gamma=1.5),
            "gamma=1.5 of Surrogate is not a number in [0, 1]: write gamma",
        ),
        (lambda: rl.ppo(clip=-0.2), "clip=-0.2 of Clip is not a number in [0, inf]"),
        (lambda: rl.dqn(lr=-1), "lr=-1 of QLearning is not a number in [0, inf)"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            make()
    for make in (lambda: rl.ppo(lr="a"), lambda: rl.sac(gamma=None), lambda: rl.sac(lr="a")):
        with pytest.raises(TypeError, match=r"is not a number in \[0, .*: write "):
            make()


def test_arrays_of_jax_and_what_jax_rebuilds_are_not_checked():
    traced = jax.eval_shape(lambda gamma: rl.ppo(gamma=gamma), jnp.float32(1.5))
    assert traced.rule.gamma.shape == ()
    assert jax.tree.map(lambda _: None, rl.ppo()).lr is None
    assert jax.tree.map(lambda _: -1, rl.ppo()).rule.gamma == -1
    assert jax.tree.map(str, rl.OffPolicy(rl.QLearning())).learner.lr == "0.001"


def test_a_subclass_with_another_default_keeps_the_range():
    @rl.pytree
    class Faster(rl.QLearning):
        lr: float = 0.1
        extra: float = rl.leaf(0.5, "(0, 1)")

    assert rl.ranges(Faster())["lr"] == "[0, inf)"
    assert rl.ranges(Faster())["extra"] == "(0, 1)"
    with pytest.raises(ValueError, match=r"lr=-1 of Faster.*write lr=0\.1"):
        Faster(lr=-1)


TRAINING = rl.Training(rl.ppo(num_envs=2, num_steps=4), CATCH, 32, 1)


@pytest.mark.parametrize(
    "run",
    [
        lambda: rl.sweep(TRAINING, {"gamma": [0.9, 1.5], "seed": range(2)}),
        lambda: rl.sweep(TRAINING, {"rule.gamma": np.array([0.9, np.nan]), "seed": range(2)}),
        lambda: rl.sweep(TRAINING, {"s": rl.zipped(gamma=[0.9, 1.5]), "seed": range(2)}),
        lambda: rl.plan(TRAINING, {"gamma": [0.9, 1.5], "seed": range(2)}, probe=False),
        lambda: rl.tune(TRAINING, {"gamma": tuning.uniform(0.9, 1.5)}, budget=1e6),
        lambda: rl.tune(TRAINING, {"gamma": tuning.choice(0.9, 1.5)}, budget=1e6),
        lambda: tuning.population(rl.ppo(), {"gamma": tuning.uniform(0.9, 1.5)}),
    ],
)
def test_the_values_of_an_axis_are_checked_before_anything_compiles(run):
    with pytest.raises(ValueError, match=r"gamma' takes the value .*gamma is a number in \[0, 1\]"):
        run()


# ------------------------------------------------------------------------- names of other libraries


def test_names_of_other_libraries_lead_to_ours():
    for make, text in (
        (lambda: rl.ppo(learning_rate=1e-3), "ppo has no field 'learning_rate'; here it is lr"),
        (lambda: rl.OnPolicy(n_envs=4), "OnPolicy has no field 'n_envs'; here it is num_envs"),
        (lambda: rl.ppo(ent_coef=0.0), "here it is entropy_weight"),
        (lambda: rl.sac(ent_coef=0.1), "here it is temperature"),
        (lambda: rl.ppo(n_steps=8), "here it is num_steps"),
        (lambda: rl.dqn(buffer_size=8), "here it is capacity"),
        (lambda: rl.ppo(hidden_sizes=(64,)), r"write network=rl\.MLP"),
        (lambda: rl.Training(rl.ppo(), CATCH, total_timesteps=8), r"write rl\.Training\(algo, env"),
        (lambda: rl.ppo(epoch_limits=1.0), "no field 'epoch_limits'; the nearest are epoch_limit"),
    ):
        with pytest.raises(TypeError, match=text):
            make()


def test_the_table_of_names_leads_to_fields_that_exist():
    known = {name for preset in rl.PRESETS.values() for name in preset.fields()} | {"b1"}
    assert {name for names in ELSEWHERE.values() for name in names} <= known
    own = {"activation", "hidden_size", "seed"}  # of networks and memories, and an axis
    assert not (ELSEWHERE.keys() | INSTEAD.keys()) & (known - {"alpha", "batch_size"}) - own


def test_a_preset_without_brackets_is_refused():
    with pytest.raises(TypeError, match=r"write rl\.ppo\(\)"):
        rl.Training(rl.ppo, CATCH)


@rl.pytree
class Finished:
    """A module as equinox has them: its parameters are its leaves."""

    weights: typing.Any

    def __call__(self, x):
        return self.weights @ x


def test_a_finished_network_is_refused():
    with pytest.raises(TypeError, match="network of OnPolicy is a Finished that holds its param"):
        rl.ppo(network=Finished(np.ones((2, 2))))
    with pytest.raises(TypeError, match=r"network=MLP is a class: write MLP\(\.\.\.\)"):
        jax.eval_shape(rl.Training(rl.ppo(network=rl.MLP), CATCH).init, jax.random.key(0))


# ---------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("preset", [rl.ppo, rl.dqn, rl.sac, rl.crossq, rl.sqirl], ids=repr)
def test_what_is_not_a_schedule_is_refused(preset):
    for schedule, text in (
        (optax.cosine_decay_schedule(1.0, 100), r"write schedule=rl\.OptaxSchedule\(function\)"),
        (0.5, r"write schedule=rl\.Linear\(0\.1\)"),
        ("linear", r"write schedule=rl\.Linear"),
        (None, r"write schedule=rl\.Linear"),
        (rl.Linear, r"write Linear\(\)"),
    ):
        with pytest.raises(TypeError, match=text):
            preset(schedule=schedule)


def test_an_optax_schedule_is_a_function_of_the_number_of_updates():
    schedule = optax.cosine_decay_schedule(1.0, 10)
    algo = rl.ppo(schedule=rl.OptaxSchedule(schedule))
    for n in (0, 3, 10, 12):
        factor = algo.schedule(rl.Clock(jnp.int32(n), jnp.float32(100.0)))
        assert factor == np.float32(schedule(n))
