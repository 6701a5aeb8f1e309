"""A sweep's folder alone is enough for the policy of a member, and for training it again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from probes import Choice

import envs
import jaxrl as rl
from jaxrl.cli import main
from jaxrl.sweep import store

SMALL = dict(network=rl.MLP((4,)), num_envs=2, num_steps=4, minibatches=1, epochs=1)
CATCH_ENV = envs.make("Catch", rows=4, columns=3)
CATCH = rl.Training(
    rl.ppo(**SMALL, normalize_obs=True), CATCH_ENV, 32, evals=2, episodes=2, eval_share=0.5
)
AXES = {
    "lr": jnp.array([1e-3, 1e-2]),
    "win": jnp.array([1.0, 0.3]),
    "seed": jnp.array([7, 1_000_000, 1_000_001]),
}


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


def trained_again(*args, **kwargs):
    return rl.rerun(*args, progress=False, **kwargs)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 members in chunks of 5, 5 and 2."""
    path = tmp_path_factory.mktemp("kept") / "x"
    quiet(CATCH, AXES, chunk=5, folder=path)
    return path


@pytest.fixture
def own(folder, tmp_path):
    """A copy that a test may damage."""
    import shutil

    return shutil.copytree(folder, tmp_path / "x")


def test_the_folder_alone_gives_the_policy_of_a_member(folder):
    where = dict(lr=1e-2, win=0.3, seed=1_000_001)
    alone, given = rl.policy(folder, **where), rl.policy(folder, CATCH, **where)
    assert_equal(alone.agent.params, given.agent.params)
    assert_equal(alone.training, given.training)
    assert alone.training.env.win == np.float32(0.3)  # with the member's config
    assert alone.training.algo.lr == np.float32(1e-2)
    other = rl.policy(folder, **where | dict(seed=1_000_000))
    assert not np.array_equal(
        jax.tree.leaves(alone.agent.params)[1], jax.tree.leaves(other.agent.params)[1]
    )
    assert np.isfinite(rl.evaluate(jax.random.key(0), alone.training.env, alone, 2)).all()
    best = rl.best(rl.load(folder), "loss")
    assert set(best) == set(AXES)
    rl.policy(folder, **best)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (dict(lr=1e-2, win=1.0), r"name one run: seed is one of \[7, 1000000, 1000001\]"),
        (dict(lr=1e-2, win=1.0, seeds=7), r"'seeds' was not swept; the nearest are seed"),
        (
            dict(lr=1e-2, win=1.0, seed=8),
            r"seed=8 was not swept; its values are \[7, 1000000, 1000001\]",
        ),
        (dict(lr=2e-2, win=1.0, seed=7), r"lr=0.02 was not swept; its values are \[0.001, 0.01\]"),
        (dict(lr="fast", win=1.0, seed=7), r"lr=fast was not swept"),
        (dict(lr=[1e-2], win=1.0, seed=7), r"was not swept"),
    ],
)
def test_labels_of_no_member_are_explained(folder, where, message):
    with pytest.raises(ValueError, match=message):
        rl.policy(folder, **where)


def test_labels_may_be_numbers_of_any_kind(folder):
    plain = rl.policy(folder, lr=1e-2, win=0.3, seed=7)
    other = rl.policy(folder, lr=np.float32(1e-2), win=jnp.float32(0.3), seed=7.0)
    assert_equal(plain.agent.params, other.agent.params)


def test_an_axis_of_one_value_need_not_be_named(tmp_path):
    rules = rl.Clip(jnp.array([0.1, 0.3]))  # a pytree as an axis
    pair = rl.zipped(lam=jnp.array([0.5]), gamma=jnp.array([0.9]))
    axes = {"objective": rules, "pair": pair, "seed": jax.random.split(jax.random.key(0), 2)}
    quiet(CATCH, axes, folder=tmp_path / "x")
    policy = rl.policy(tmp_path / "x", objective=1, seed=1)
    assert_equal(
        policy.training.algo.rule,
        rl.Surrogate(rl.Clip(np.float32(0.3)), np.float32(0.9), np.float32(0.5)),
    )
    assert trained_again(tmp_path / "x", 3).equal
    given = rl.policy(tmp_path / "x", CATCH, objective=1, seed=1)
    assert_equal((given.training, given.agent.params), (policy.training, policy.agent.params))
    record = json.loads((tmp_path / "x" / "sweep.json").read_text())
    del record["recipe"]
    (tmp_path / "x" / "sweep.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"has no recipe of a training: pass training="):
        rl.policy(tmp_path / "x", objective=1, seed=1)
    assert trained_again(tmp_path / "x", 3, CATCH).equal


def test_an_environment_outside_the_kit_must_be_given(tmp_path):
    training = rl.Training(rl.ppo(**SMALL), Choice(), 16, evals=1, episodes=0)
    quiet(training, {"seed": jnp.arange(2)}, folder=tmp_path / "x")
    with pytest.raises(
        ValueError, match=r"env is probes\.Choice, which is not part of the kit: pass training="
    ):
        rl.policy(tmp_path / "x", seed=0)
    assert rl.policy(tmp_path / "x", training, seed=0).training.env == Choice()
    assert trained_again(tmp_path / "x", 1, training).equal


def test_a_manipulated_recipe_runs_nothing(own):
    record = json.loads((own / "sweep.json").read_text())
    record["recipe"]["fields"]["env"] = {"type": "subprocess.Popen", "fields": {"args": ["true"]}}
    (own / "sweep.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"env is subprocess\.Popen.*pass training="):
        rl.policy(own, lr=1e-2, win=1.0, seed=7)


def test_of_two_chunks_the_undamaged_one_is_read(own, capsys):
    kept = rl.policy(own, lr=1e-2, win=0.3, seed=1_000_001).agent.params
    last = own / "members" / "00000010-00000012.npz"
    (own / "members" / "00000011-00000013.npz").write_bytes(b"damaged")
    assert_equal(kept, rl.policy(own, lr=1e-2, win=0.3, seed=1_000_001).agent.params)
    assert "00000011-00000013.npz is damaged" in capsys.readouterr().out
    content = bytearray(last.read_bytes())
    for place in range(0, len(content), 64):
        content[place] ^= 0xFF
    last.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*run the same sweep again"):
        rl.policy(own, lr=1e-2, win=0.3, seed=1_000_001)
    last.unlink()
    (own / "members" / "00000011-00000013.npz").unlink()
    with pytest.raises(FileNotFoundError, match="run 11 is not in"):
        rl.policy(own, lr=1e-2, win=0.3, seed=1_000_001)


@pytest.mark.parametrize("member", [6, 11])  # 11 is in a chunk that is shorter than its program
def test_a_member_is_trained_again_bit_for_bit(folder, member):
    again = trained_again(folder, member)
    assert again.equal
    assert again.width == 5
    assert [
        line for line in again.changed if not line.startswith("commit")
    ] == []  # a checkout may move meanwhile
    assert again.where == dict(
        lr=[0.001, 0.01][member // 6],
        win=[1.0, 0.3][member // 3 % 2],
        seed=AXES["seed"][member % 3],
    )
    xr.testing.assert_equal(again.curves, rl.load(folder).sel(again.where).drop_attrs())
    assert "equal bit for bit" in str(again)


def test_an_altered_curve_is_reported(own):
    results = rl.load(own)
    results["loss"][1, 0, 0, 1] += 0.25
    results["return"][1, 0, 0, 0] = np.nan
    store.write_results(own / "results.nc", results)
    again = trained_again(own, 6)
    assert not again.equal
    assert again.drift == {"loss": pytest.approx(0.25), "return": np.inf}
    assert "loss: 0.25" in str(again)
    assert any("results.nc was changed" in line for line in again.changed)
    assert trained_again(own, 7).equal


def test_differences_from_the_record_are_reported(own):
    record = json.loads((own / "sweep.json").read_text())
    record["versions"]["jax"] = "0.1"
    record["machine"]["device"] = "abacus"
    record["recipe"]["fields"]["algo"]["fields"]["rule"]["fields"]["gamma"] = 0.5
    (own / "sweep.json").write_text(json.dumps(record))
    again = trained_again(own, 0)
    assert again.drift["loss"] > 0
    assert again.drift["policy"] > 0
    shown = str(again)
    for part in (
        "not equal",
        f"versions.jax: 0.1 there, {jax.__version__} here",
        "machine.device: abacus",
        "gamma",
    ):
        assert part in shown


def test_missing_members_are_explained(folder, own):
    for member in (12, -1, 1.5, True):
        with pytest.raises(ValueError, match="they are 0 to 11"):
            trained_again(folder, member)
    (own / "members" / "00000005-00000010.npz").unlink()
    with pytest.raises(FileNotFoundError, match="has not finished"):
        trained_again(own, 6)


def test_the_command_line_plays_and_trains_again(own, capsys):
    main(["play", str(own), "--where", "lr=1e-2", "win=0.3", "seed=7", "--episodes", "3"])
    shown = capsys.readouterr().out
    assert "lr=0.01 win=0.3 seed=7" in shown
    assert "return of 3 greedy episodes: mean" in shown
    assert (own / "play.gif").read_bytes()[:3] == b"GIF"
    main(["rerun", str(own), "--member", "6"])
    shown = capsys.readouterr().out
    assert "all" in shown
    assert "equal bit for bit" in shown
    for words, message in (
        (["--where", "lr"], "is not name=value"),
        (["--best", "--where", "lr=1"], "write one of them"),
        (["--where", "lr=1e-2"], "name one run: win is one of"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(["play", str(own), *words])


def test_a_group_of_a_static_axis_has_its_training(tmp_path):
    static = {"network": (rl.MLP((4,)), rl.MLP((2, 2)))}
    quiet(CATCH, {"seed": jnp.arange(2)}, static=static, folder=tmp_path / "x", keep_best=True)
    where = dict(network="MLP((2, 2))", seed=1)
    alone, given = rl.policy(tmp_path / "x", **where), rl.policy(tmp_path / "x", CATCH, **where)
    assert alone.training.algo.network == rl.MLP((2, 2))
    assert_equal((alone.training, alone.agent.params), (given.training, given.agent.params))
    again = trained_again(tmp_path / "x", 3)
    assert again.equal
    assert again.where == where
    assert again.curves["best_step"] in (16, 32)
    best = rl.policy(tmp_path / "x", **where, kept="best")
    assert jax.tree.structure(best.agent) == jax.tree.structure(alone.agent)
    with pytest.raises(ValueError, match="network is one of"):
        rl.policy(tmp_path / "x", seed=1)
    with pytest.raises(ValueError, match="another training"):
        rl.policy(tmp_path / "x", rl.tree.put(CATCH, {"gamma": 0.5}), **where)
