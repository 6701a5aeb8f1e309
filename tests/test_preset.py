"""Named algorithms are data: a value, and keywords that change its fields."""

import dataclasses
import importlib
import inspect
import pkgutil
import pydoc
import re

import jax.numpy as jnp
import optax
import pytest
import xarray as xr

import envs
import jaxrl as rl
from experiments import which
from jaxrl import tree
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.field_meanings import meaning
from jaxrl.algorithms.preset import Preset
from jaxrl.cli import main
from jaxrl.ranges import Range


def test_every_preset_is_a_whole_algorithm():
    for name, preset in rl.PRESETS.items():
        assert preset.name == name
        assert isinstance(preset.value, Algorithm), name
        assert preset() == preset.value, name
        assert getattr(rl, name) is preset, name


def test_every_field_can_be_put_back_by_its_keyword():
    for name, preset in rl.PRESETS.items():
        fields = preset.fields()
        assert {"lr", "gamma"} <= set(fields), name
        for keyword, value in fields.items():
            assert preset(**{keyword: value}) == preset.value, (name, keyword)


def inside(within):
    return next(x for x in (0.125, 4.5, -0.125) if not within.outside(x).size)


def test_of_all_floats_given_at_once_none_is_dropped():
    for name, preset in rl.PRESETS.items():
        listed = rl.ranges(preset.value)
        floats = [key for key, value in preset.fields().items() if isinstance(value, float)]
        paths = {key: tree.find(preset.value, preset.aliases.get(key, (key,))[0]) for key in floats}
        given = {key: inside(Range(listed[path])) for key, path in paths.items()}
        if "v_min" in given:
            given["v_min"] = given["v_max"] - 1.0
        found = preset(**given)
        for keyword, value in given.items():
            paths = preset.aliases.get(keyword, (keyword,))
            assert all(tree.get(found, tree.find(found, path)) == value for path in paths), name


def test_a_keyword_changes_the_field_of_its_name():
    algo = rl.ppo(lr=1e-2, clip=0.1, gamma=0.5, num_envs=2, memory=rl.GRU(4), minibatches=2)
    assert (algo.lr, algo.rule.objective.clip, algo.rule.gamma) == (1e-2, 0.1, 0.5)
    assert (algo.num_envs, algo.memory) == (2, rl.GRU(4))


def test_a_part_that_is_replaced_comes_before_its_fields():
    algo = rl.ppo(alpha=3.0, objective=rl.DPO())
    assert algo.rule.objective == rl.DPO(3.0)
    for fields in (
        dict(objective=rl.DPO(), rule=rl.Surrogate(gamma=0.5)),
        dict(rule=rl.Surrogate(gamma=0.5), objective=rl.DPO()),
    ):
        rule = rl.ppo(**fields).rule
        assert (rule.objective, rule.gamma) == (rl.DPO(), 0.5)


def test_a_field_that_is_named_twice_is_refused():
    with pytest.raises(TypeError, match="priority sets priority a second time"):
        rl.dqn(prioritized=True, priority=rl.Uniform())
    with pytest.raises(ValueError, match=r"sets rule\.gamma a second time"):
        rl.ppo(**{"gamma": 0.5, "rule.gamma": 0.9})


def test_what_defines_an_algorithm_is_fixed():
    for fields in ({"rule.lam": 0.5}, {"rule": rl.Surrogate(lam=0.5)}):
        with pytest.raises(TypeError, match="reinforce is defined by its"):
            rl.reinforce(**fields)
    with pytest.raises(TypeError, match="defined by its name"):
        rl.ppo(name="dqn")
    assert len({rl.ppo, rl.dqn, rl.ppo}) == 2
    assert rl.ppo.__name__ == "ppo"


def test_counts_are_checked_when_all_of_them_are_put():
    assert rl.ppo(minibatches=3, num_envs=3, num_steps=5).minibatches == 3
    with pytest.raises(ValueError, match="minibatches=3 does not divide"):
        rl.ppo(minibatches=3)


def test_help_and_signature_show_every_field():
    for preset in rl.PRESETS.values():
        parameters = inspect.signature(preset).parameters
        assert set(parameters) == set(preset.fields())
        text = pydoc.render_doc(preset)
        assert preset.summary in text
        assert all(f"  {name} = " in text for name in parameters)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ppo", dict(clp=0.1), r"ppo has no field 'clp'; the nearest are clip"),
        ("sac", dict(target_rate=0.1), r"sac has no field 'target_rate'; it is called tau now"),
        ("reinforce", dict(lam=0.9), r"reinforce is defined by its lam: leave lam out"),
        ("stream_q", dict(memory=rl.GRU(4)), r"stream_q has no field 'memory'.*which algorithm"),
        ("crossq", dict(tau=0.1), r"crossq has no field 'tau'"),
        ("munchausen_dqn", dict(double=True), r"munchausen_dqn has no field 'double'"),
        ("dqn", dict(prioritized="yes"), r"prioritized='yes' of dqn is none of False, True"),
    ],
)
def test_what_a_preset_does_not_take_is_explained(name, fields, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rl.PRESETS[name](**fields)


# every class with a learning rate, whichever algorithm it is a part of
WITH_LR = {
    cls.__name__: cls
    for package in (rl.algorithms, rl.meta)
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    for cls in vars(importlib.import_module(info.name)).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
    if "lr" in {field.name for field in dataclasses.fields(cls)}
}


def test_classes_with_a_learning_rate_are_found():
    assert {"OnPolicy", "QLearning", "SQIRL", "ActorCritic", "CrossQ", "MDPO"} <= WITH_LR.keys()
    assert {"Stream", "ES", "PES", "MetaGradient", "OuterCritic", "SelfTuning"} <= WITH_LR.keys()


@pytest.mark.parametrize("name", WITH_LR)
def test_a_schedule_or_a_finished_optimiser_in_the_wrong_place_is_explained(name):
    cls = WITH_LR[name]
    fields = {field.name for field in dataclasses.fields(cls)}
    for rate in fields & {"lr", "actor_lr", "temperature_lr"}:
        with pytest.raises(TypeError, match=f"^{rate} is a number, and got a function; ") as error:
            cls(**{rate: optax.linear_schedule(1e-3, 0.0, 100)})
        assert ("write schedule=" in str(error.value)) == ("schedule" in fields)
    texts = dict(lr="1e-3", optimizer="adam", schedule="linear", network="mlp", memory="gru")
    for field in fields & texts.keys():
        with pytest.raises(TypeError, match=rf"{field}='\w+.*' of {name} is .*: .* {field}="):
            cls(**{field: texts[field]})
    if "optimizer" in fields:
        with pytest.raises(TypeError, match=r"finished one: write optimizer=optax\.adam and lr="):
            cls(optimizer=optax.adam(1e-3))
        # a function can't be a leaf
        assert cls(optimizer=optax.sgd).optimizer == rl.Optimizer(optax.sgd)


@pytest.mark.parametrize("name", ["dqn", "sqirl", "sac", "crossq", "mdpo_off_policy"])
def test_an_off_policy_algorithm_says_what_ppo_says(name):
    for fields in (
        dict(lr=optax.linear_schedule(1e-3, 0.0, 100)),
        dict(optimizer=optax.adam(1e-3)),
    ):
        messages = set()
        for preset in (rl.ppo, rl.PRESETS[name]):
            with pytest.raises(TypeError) as error:
                preset(**fields)
            messages.add(str(error.value))
        assert len(messages) == 1


def test_an_editor_shows_the_fields_of_the_table():
    """If not: `python -m experiments.which`."""
    assert which.STUB.read_text() == which.stub()
    assert "    *, rule: Any = ..., objective: Any = ..., clip: Float = 0.2," in which.stub()


@pytest.mark.parametrize("name", rl.PRESETS)
def test_help_has_the_value_and_the_meaning_of_every_field(name):
    preset = rl.PRESETS[name]
    shown = pydoc.render_doc(preset, renderer=pydoc.plaintext)
    for field in preset.fields():
        assert f"{field} = " in shown
        assert preset.meaning(field), f"{field} is not in a docstring nor in field_meanings.py"
    for field, words in (("gamma", "discount factor per step"), ("lr", "step size|rate")):
        assert re.search(words, preset.meaning(field), re.IGNORECASE)


def test_a_meaning_is_read_from_the_docstring_of_the_class():
    @tree.pytree
    class Rule:
        """A rule. left, right: two sides; each
        is a share. up: how far.

        down: the rest, of `up`
        """

        left: float = 0.0
        right: float = 0.0
        up: float = 0.0
        down: float = 0.0
        other: float = 0.0
        gamma: float = 0.0

    found = {name: meaning(Rule, name) for name in ("left", "right", "up", "down", "other")}
    sides = "two sides; each is a share"
    assert found == {
        "left": sides,
        "right": sides,
        "up": "how far",
        "down": "the rest, of `up`",
        "other": "",
    }
    assert meaning(Rule, "gamma") == "discount factor per step, from 0 to 1"  # of all classes


def test_an_alias_sets_several_fields_and_a_path_sets_one():
    preset = Preset(
        "two", rl.OnPolicy(), "Two", aliases={"both": ("lr", "rule.gamma")}, fixed=("lam",)
    )
    algo = preset(both=0.5)
    assert (algo.lr, algo.rule.gamma) == (0.5, 0.5)
    assert preset(**{"rule.gamma": 0.25}).rule.gamma == 0.25
    assert "lam" not in preset.fields()


def test_put_changes_all_fields_at_once_and_names_what_is_unknown():
    algo = rl.OnPolicy()
    assert tree.put(algo, {"rule.gamma": 0.5, "lr": 0.1}).rule.gamma == 0.5
    with pytest.raises(ValueError, match="has no field 'gama'"):
        tree.put(algo, {"gama": 0.5})


def test_former_names_are_errors_that_give_the_present_ones():
    with pytest.raises(AttributeError, match=r"rl\.Lives is called rl\.InnerLoop now"):
        rl.Lives  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rl.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"CurveStopping now"):
        rl.tuning.Foresight  # noqa: B018
    with pytest.raises(
        TypeError, match=r"InnerLoop has no field 'tunes'; it is called meta_params"
    ):
        rl.InnerLoop(tunes=("lr",))
    training = rl.Training(rl.sac(), envs.make("Pendulum-v1"))
    with pytest.raises(TypeError, match=r"tune takes no 'held_out'; it is called test_seeds now"):
        rl.tune(training, {}, budget=1.0, held_out=4)
    with pytest.raises(TypeError, match=r"repeat takes no 'held_out'; it is called test_seeds"):
        rl.tuning.repeat(training, {}, repetitions=2, held_out=4)
    with pytest.raises(TypeError, match=r"PBT has no field 'share'; it is called truncation now"):
        rl.tuning.PBT(share=0.5)
    with pytest.raises(TypeError, match=r"Population has no field 'share'; it is called trunc"):
        rl.tuning.population(training.algo, {"lr": rl.tuning.log(1e-4, 1e-2)}, share=0.5)
    with pytest.raises(TypeError, match=r"obstacles takes no 'fewest'; it is called min_seeds"):
        rl.stats.obstacles(None, None, fewest=3)
    with pytest.raises(ValueError, match=r"'learnt_temperature'; it is called entropy_temperature"):
        rl.stats.table(xr.Dataset({"entropy_temperature": 1.0}), "learnt_temperature")
    with pytest.raises(ValueError, match=r"'target_rate'.* it is called tau now"):
        rl.sweep(training, {"target_rate": [0.1], "seed": jnp.arange(2)})
    with pytest.raises(SystemExit, match=r"--target-rate is called --tau now"):
        main(["train", "sac", "Pendulum-v1", "--target-rate", "0.1"])
    for words in (["--tuner", "foresight"], ["--tuner=foresight"]):
        with pytest.raises(SystemExit, match="foresight is called curve_stopping now"):
            main(["tune", "sac", "Pendulum-v1", *words])
