"""A rule is a file: it comes back as it was, a damaged one is an error, and it runs no code."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import Aim, Choice
from test_rules import RULES

import jaxrl as rl
from jaxrl import rule_file
from jaxrl.rules.objectives import Objective

LPG = rl.LPG.random(jax.random.key(0), 8, categories=4, knows_time=True)
SMALL = {
    "num_envs": 4,
    "num_steps": 4,
    "epochs": 1,
    "minibatches": 1,
    "network": rl.MLP((), shared=True),
}
AGENT = rl.OnPolicy(
    rule=LPG, lr=4.0, optimizer=rl.Optimizer(optax.sgd), schedule=rl.Constant(), **SMALL
)


@pytest.fixture
def saved(tmp_path):
    return rl.save_rule(
        tmp_path / "lpg", LPG, agent=AGENT, license="Apache-2.0", scores={"return": [0.7, 0.6, 0.8]}
    )


def edit(folder, change):
    record = json.loads((folder / "rule.json").read_text())
    change(record)
    (folder / "rule.json").write_text(json.dumps(record))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_comes_back_as_it_was(rule, tmp_path):
    same(rl.load_rule(rl.save_rule(tmp_path / "rule", rule)), rule)


def test_it_trains_as_before_with_the_agent_it_was_made_for(saved):
    same(rl.load_agent(saved), AGENT)
    curve = lambda algo: jax.jit(
        lambda key: rl.train(key, algo, Choice(), steps=64, evals=2, episodes=0)[1]["loss"]
    )
    np.testing.assert_array_equal(
        curve(rl.load_agent(saved))(jax.random.key(0)), curve(AGENT)(jax.random.key(0))
    )


def test_a_card_says_where_it_is_from(saved):
    assert rl.rule_card(saved) == {"license": "Apache-2.0", "scores": {"return": [0.7, 0.6, 0.8]}}
    assert json.loads((saved / "rule.json").read_text())["heads"] == {"y": 4}


def test_without_an_agent_there_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"without an agent: write rl\.OnPolicy"):
        rl.load_agent(rl.save_rule(tmp_path, LPG))


def test_what_is_not_there_and_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing holds no rule.*or a rule of the kit: "):
        rl.load_rule("nothing")
    with pytest.raises(FileNotFoundError, match=r"no rule\.json"):
        rl.load_rule(tmp_path)


def test_a_shipped_rule_is_found_by_its_name(saved, monkeypatch):
    monkeypatch.setattr(rule_file, "SHIPPED", saved.parent)
    same(rl.load_rule("lpg"), LPG)
    assert rule_file.shipped() == ["lpg"]


@pytest.mark.parametrize("name", rule_file.shipped())
def test_every_shipped_rule_loads_and_has_a_card(name):
    assert {"license", "command", "scores"} <= set(rl.rule_card(name))
    rl.load_agent(name)


def test_the_preset_is_the_shipped_formula():
    """But for the name, the network and the sizes of a rollout."""
    found = rl.load_agent("ppo_formula")
    sizes = {name: vars(found)[name] for name in ("name", "network", "num_envs", "num_steps")}
    preset = rl.tree.replace(rl.ppo_scheduled(), **sizes)
    assert rl.tree.paths(preset) == rl.tree.paths(found)
    for path in rl.tree.paths(found):
        ours, theirs = rl.tree.get(preset, path), rl.tree.get(found, path)
        if isinstance(theirs, float | jax.Array):
            np.testing.assert_allclose(ours, theirs, err_msg=path)
        elif isinstance(theirs, int | str | tuple):
            assert ours == theirs, path
        else:
            assert type(ours) is type(theirs), path


def test_an_agent_with_a_controller_comes_back(tmp_path):
    controller = rl.LogLinear(jnp.arange(12.0).reshape(2, 6), controlled=("lr", "clip"))
    agent = rl.ppo(controller=controller)
    rl.save_rule(tmp_path / "mine", agent.rule, agent=agent, license="MIT")
    found = rl.load_agent(tmp_path / "mine").controller
    assert found.controlled == ("lr", "clip")
    np.testing.assert_array_equal(found.weights, controller.weights)
    with pytest.raises(ValueError, match=r"without the controller: write rl\.load_agent"):
        rl.load_rule(tmp_path / "mine")


def test_another_format(saved):
    edit(saved, lambda record: record.update(format=2))
    with pytest.raises(ValueError, match="format 2, and this jaxrl reads 1"):
        rl.load_rule(saved)


def test_damaged_files(saved):
    whole = (saved / "rule.npz").read_bytes()
    (saved / "rule.npz").write_bytes(whole[:-10] + b"0123456789")
    with pytest.raises(ValueError, match=r"rule\.npz is damaged"):
        rl.load_rule(saved)
    (saved / "rule.npz").unlink()
    with pytest.raises(ValueError, match=r"without its rule\.npz"):
        rl.load_rule(saved)
    (saved / "rule.json").write_text("{")
    with pytest.raises(ValueError, match=r"rule\.json is damaged"):
        rl.load_rule(saved)


def rewritten(folder, save, change=lambda x: x):
    """Change arrays and save them in another way, with a digest that fits."""
    with np.load(folder / "rule.npz") as file:
        save(folder / "rule.npz", **{name: change(file[name]) for name in file.files})
    raw = (folder / "rule.npz").read_bytes()
    edit(folder, lambda record: record.update(sha256=rule_file.hashlib.sha256(raw).hexdigest()))


def test_a_file_that_unpacks_to_a_large_one_is_not_read(saved):
    rewritten(saved, np.savez_compressed)
    with pytest.raises(ValueError, match="it is compressed"):
        rl.load_rule(saved)


def test_weights_that_are_no_numbers(saved):
    rewritten(saved, np.savez, lambda x: np.full_like(x, np.nan))
    with pytest.raises(ValueError, match=r"NaN.*had diverged"):
        rl.load_rule(saved)


def test_json_that_is_too_deep(saved):
    (saved / "rule.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"rule\.json is damaged"):
        rl.load_rule(saved)


def test_arrays_that_do_not_fit(tmp_path):
    wrong = LPG.weights | {"prediction": {"kernel": jnp.zeros((8, 5)), "bias": jnp.zeros(5)}}
    folder = rl.save_rule(tmp_path, rl.tree.replace(LPG, weights=wrong))
    with pytest.raises(ValueError, match="numbers that do not fit its rule"):
        rl.load_rule(folder)


def test_a_class_that_is_not_the_kit_s_is_neither_saved_nor_loaded(saved, tmp_path):
    @rl.pytree
    class Own(Objective):
        def __call__(self, ratio, advantage):
            return ratio * advantage

    with pytest.raises(
        ValueError, match=r"rule\.objective is test_rule_file.*A rule's file holds no code"
    ):
        rl.save_rule(tmp_path, rl.Surrogate(Own()))
    edit(
        saved,
        lambda record: record.update(
            rule={"type": "subprocess.Popen", "fields": {"args": ["true"]}}
        ),
    )
    with pytest.raises(ValueError, match=r"rule is subprocess\.Popen.*A rule's file holds no code"):
        rl.load_rule(saved)


def test_a_pickle_is_not_opened(saved, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    np.savez(saved / "rule.npz", **{"rule.weights": np.array([Bomb()], dtype=object)})
    raw = (saved / "rule.npz").read_bytes()
    edit(saved, lambda record: record.update(sha256=rule_file.hashlib.sha256(raw).hexdigest()))
    with pytest.raises(ValueError, match="holds no plain arrays"):
        rl.load_rule(saved)
    (saved / "rule.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="is damaged"):
        rl.load_rule(saved)


def test_what_can_t_be_saved(tmp_path):
    lpo = rl.LPO.random(jax.random.key(0), 8)
    with pytest.raises(TypeError, match=r"LPO is not an update rule.*rl\.Surrogate\(LPO"):
        rl.save_rule(tmp_path, lpo)
    half = rl.Surrogate(
        rl.tree.replace(lpo, weights=jax.tree.map(lambda x: x.astype(jnp.bfloat16), lpo.weights))
    )
    with pytest.raises(
        TypeError, match=r"rule\.objective\.weights\.hidden is an array of bfloat16"
    ):
        rl.save_rule(tmp_path, half)
    with pytest.raises(TypeError, match="levels= of a rule's card is not JSON"):
        rl.save_rule(tmp_path, rl.Surrogate(lpo), levels=Choice())
    with pytest.raises(TypeError, match=r"agent= is the rl\.OnPolicy.*got OffPolicy"):
        rl.save_rule(tmp_path, rl.Surrogate(lpo), agent=rl.dqn())
    with pytest.raises(ValueError, match=r"weights\.hidden holds NaN"):
        rl.save_rule(
            tmp_path,
            rl.Surrogate(
                rl.tree.replace(lpo, weights=jax.tree.map(lambda x: x * jnp.nan, lpo.weights))
            ),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "rule", [rl.LPO.random(jax.random.key(0), 8), "lpo"], ids=["objective", "name"]
)
def test_what_is_no_rule_does_not_train(rule):
    with pytest.raises(TypeError, match=r"is not an update rule.*rl\.Surrogate.*rl\.load_rule"):
        rl.train(0, rl.OnPolicy(rule=rule), Choice(), steps=10_000)


def test_a_discrete_rule_from_a_file_refuses_real_actions(saved):
    with pytest.raises(TypeError, match="LPG takes actions of Discrete"):
        rl.train(0, rl.load_agent(saved), Aim(), steps=10_000)
