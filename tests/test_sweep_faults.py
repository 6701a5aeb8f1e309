"""Faults: edited code, closed-over keys, odd axes, stopped callbacks."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import envs
import jaxrl as rl
from jaxrl.env import Env, Step

SMALL = dict(network=rl.MLP((4,)), num_envs=2, num_steps=4, minibatches=1, epochs=1)
SEEDS = {"seed": jnp.arange(2)}


def paying(prize):
    @rl.pytree
    class World(Env):
        max_steps: int = rl.static(default=4)
        action_space = rl.Discrete(2)

        def reset(self, key):
            return (), jnp.zeros(1)

        def step(self, key, state, action):
            return (), Step(jnp.zeros(1), jnp.float32(prize), jnp.bool_(True), {})

    return World()


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


def test_an_edited_environment_is_another_sweep(tmp_path):
    train = lambda prize: rl.Training(rl.ppo(**SMALL), paying(prize), 16, evals=1)
    quiet(train(1.0), SEEDS, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"run\.program"):
        quiet(train(5.0), SEEDS, folder=tmp_path / "x")


def test_other_versions_open_finished_results_and_nothing_else(tmp_path, capsys):
    import json

    training = rl.Training(rl.ppo(**SMALL), paying(1.0), 16, evals=1)
    first = quiet(training, SEEDS, folder=tmp_path / "x")
    record = json.loads((tmp_path / "x" / "sweep.json").read_text())
    record["versions"]["jax"] = "0.1"
    record["run"]["program"] = "as jax 0.1 wrote it"
    (tmp_path / "x" / "sweep.json").write_text(json.dumps(record))
    again = quiet(training, SEEDS, folder=tmp_path / "x")
    np.testing.assert_array_equal(first["loss"], again["loss"])
    assert "versions.jax: 0.1 there" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"run\.algo\.rule\.lam"):
        quiet(
            rl.Training(rl.ppo(lam=0.1, **SMALL), paying(1.0), 16, evals=1),
            SEEDS,
            folder=tmp_path / "x",
        )
    (tmp_path / "x" / "results.nc").unlink()
    with pytest.raises(ValueError, match=r"versions\.jax"):
        quiet(training, SEEDS, folder=tmp_path / "x")


def test_a_card_lists_installed_packages_and_one_installed_since_changes_nothing(tmp_path):
    import json

    from jaxrl.sweep import provenance

    run, axes = lambda a: {"y": a}, {"a": jnp.arange(2.0)}
    quiet(run, axes, folder=tmp_path / "x")
    record = json.loads((tmp_path / "x" / "sweep.json").read_text())
    assert record["versions"].pop("scipy") == importlib.metadata.version("scipy")
    assert {"mujoco", "optuna"} <= {*provenance.PACKAGES}
    assert "not installed" not in record["versions"].values()
    (tmp_path / "x" / "sweep.json").write_text(json.dumps(record))
    (tmp_path / "x" / "results.nc").unlink()
    quiet(run, axes, folder=tmp_path / "x")
    assert provenance.differences({"versions": {"a": "1", "b": "1"}}, {"versions": {"a": "2"}}) == [
        "versions.a: 1 there, 2 here"
    ]


def test_a_closed_over_key_belongs_to_the_program(tmp_path):
    def noisy(seed):
        key = jax.random.key(seed)
        return lambda a: {"y": a + jax.random.normal(key)}

    axes = {"a": jnp.arange(2.0)}
    quiet(noisy(0), axes, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"run\.program"):
        quiet(noisy(1), axes, folder=tmp_path / "x")


def test_a_folder_without_results_takes_another_sweep(tmp_path):
    def stop(report):
        raise KeyboardInterrupt

    training = TINY
    with pytest.raises(KeyboardInterrupt):
        rl.sweep(training, SEEDS, folder=tmp_path / "x", progress=stop)
    other = rl.tree.put(training, {"gamma": 0.5})
    for file in (tmp_path / "x" / "members").iterdir():
        file.unlink()  # the chunk that was kept before the stop
    quiet(other, SEEDS, folder=tmp_path / "x")


def test_an_exception_in_a_report_leaves_the_process_sound():
    run = lambda seed: TINY(seed)[1]

    def broken(report):
        raise RuntimeError("my own report fails")

    with pytest.raises(RuntimeError, match="my own report fails"):
        rl.sweep(run, SEEDS, progress=broken)
    assert np.isfinite(quiet(run, SEEDS)["loss"]).all()


def test_reports_only_go_forward():
    run = lambda seed: TINY(seed)[1]
    shares = []
    rl.sweep(run, SEEDS, progress=lambda report: shares.append(report.fraction))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"seed": np.array([2**32, 0])}, "beyond int32"),
        ({"seed": ["one", "two"]}, "not a number"),
    ],
)
def test_axes_that_would_lose_their_values_are_refused(over, message):
    with pytest.raises(ValueError, match=message):
        quiet(TINY, over)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda a: {"y": jax.random.key(0)}, "an array of numbers"),
        (lambda a: {"y": jnp.bfloat16(a)}, "an array of numbers"),
        (lambda a: {"x/y": a}, "slash"),
    ],
)
def test_results_that_no_file_can_hold_are_refused_before_anything_runs(run, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        quiet(run, {"a": jnp.arange(2.0)}, folder=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_metric_with_the_name_of_an_axis_is_refused_before_anything_runs(tmp_path):
    training = TINY
    with pytest.raises(ValueError, match="returns 'loss', which is also a swept name"):
        quiet(
            training,
            {"loss": rl.zipped(lr=[1e-3, 1e-2], gamma=[0.9, 0.99])} | SEEDS,
            folder=tmp_path / "x",
        )
    assert not (tmp_path / "x").exists()


def test_a_pytree_axis_and_a_nan_are_kept_and_resumed(tmp_path):
    axes = {
        "pair": {"a": jnp.arange(2.0), "b": (jnp.ones((2, 3)),)},
        "c": jnp.array([1.0, jnp.nan]),
    }
    run = lambda pair, c: {"y": pair["a"] + pair["b"][0].sum() + c}
    first = quiet(run, axes, folder=tmp_path / "x")
    assert first["y"].sel(pair=1).isel(c=0) == 5.0
    assert quiet(run, axes, folder=tmp_path / "x").equals(first)


def test_a_policy_needs_the_training_that_made_it(tmp_path):
    training = rl.Training(rl.ppo(**SMALL), envs.make("GridWorld"), 16, evals=1)
    goals = jnp.array([[1, 1], [2, 2]])
    quiet(
        training, {"goal": goals, "seed": jnp.array([1_000_000, 1_000_001])}, folder=tmp_path / "x"
    )
    policy = rl.policy(tmp_path / "x", training, goal=1, seed=1_000_001)
    np.testing.assert_array_equal(policy.training.env.goal, [2, 2])
    last = rl.policy(tmp_path / "x", training, goal=1, seed=1_000_000)
    assert not np.array_equal(
        jax.tree.leaves(policy.agent.params)[1], jax.tree.leaves(last.agent.params)[1]
    )
    other = rl.Training(
        rl.ppo(**SMALL | dict(network=rl.MLP((8,)))), envs.make("GridWorld"), 16, evals=1
    )
    with pytest.raises(ValueError, match=r"another training.*\n.*hidden"):
        rl.policy(tmp_path / "x", other, goal=1, seed=1_000_000)
    quiet(lambda a: {"y": a}, {"a": jnp.arange(2)}, folder=tmp_path / "f")
    with pytest.raises(ValueError, match="keeps no policies"):
        rl.policy(tmp_path / "f", training, a=1)


def test_the_best_member_is_one_that_did_not_diverge():
    training = TINY
    results = quiet(training, {"lr": jnp.array([1e-3, 3e38]), "seed": jnp.arange(2)})
    assert rl.best(results)["lr"] == 1e-3
    with pytest.raises(ValueError, match="diverged"):
        rl.best(results.sel(lr=[3e38]))


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    quiet(lambda a: {"y": a + 1.0}, {"a": jnp.arange(2)}, folder="~/x")
    assert rl.load("~/x")["y"].values.tolist() == [1.0, 2.0]
    assert (tmp_path / "x" / "results.nc").exists()


def test_a_gradient_through_learning_is_finite_where_weights_have_no_gradient():
    """One-hot observations leave weights at a gradient of exactly zero, where Adam's square root
    has no slope.
    """
    env = envs.make("GridWorld")
    worth = lambda lr: rl.train(0, rl.ppo(lr=lr, **SMALL), env, steps=16, evals=1, episodes=0)[1][
        "loss"
    ][-1]
    slope = jax.jit(jax.grad(worth))(1e-3)
    assert np.isfinite(slope)
    assert slope != 0.0
