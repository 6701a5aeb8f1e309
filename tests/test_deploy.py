"""Policies outside the kit: jitted and vmapped, and as NumPy arrays with a reader without jax."""

import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY, lecun, quick

import envs
import jaxrl as rl
from jaxrl import rollout
from jaxrl.cli import main
from jaxrl.env import Env, Step
from jaxrl.networks import MLP
from jaxrl.runs.deploy import arrays_of, read
from jaxrl.runs.numpy_policy import Policy
from jaxrl.runs.policy import MemberPolicy, _make

SMALL = MLP((5, 4), init=lecun)
ROLLOUT = dict(num_envs=2, num_steps=4, minibatches=1, normalize_obs=True)
REPLAY = dict(num_envs=2, capacity=64, batch_size=8, normalize_obs=True)
NORMED = MLP((5, 4), activation=jax.nn.relu, shared=True, init=lecun, batch_norm=True)
LAYERS = MLP((5, 4), activation=jax.nn.silu, layer_norm=True, init=lecun)


@rl.pytree
class Field(Env):
    """Observations of random numbers [2, 3], with a mask for actions of a finite number."""

    action_space: Any = rl.Discrete(3)
    max_steps: int = rl.static(default=5)
    masked: bool = rl.static(default=False)

    def reset(self, key):
        obs = jax.random.normal(key, (2, 3))
        return obs, self._observe(obs)

    def step(self, key, state, action):
        return state, Step(self._observe(state), jnp.float32(0.0), jnp.bool_(False), {})

    def _observe(self, obs):
        if not self.masked:
            return obs
        return rl.Masked(obs, jnp.ones(sum(self.action_space.heads.values()), bool))


BOX = Field(rl.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32), (2,)))
FREE = Field(rl.Box(-np.inf, np.inf, (1,)))
CASES = {
    "masks": (rl.ppo(network=SMALL, **ROLLOUT), Field(masked=True)),
    "several actions": (
        rl.ppo(network=LAYERS, memory=rl.GRU(4), **ROLLOUT),
        Field(rl.MultiDiscrete((2, 3)), masked=True),
    ),
    "box": (rl.ppo(network=SMALL, memory=rl.LSTM(4), **ROLLOUT), BOX),
    "squashed": (rl.crossq(network=NORMED, critic_network=NORMED, **REPLAY), BOX),
    "quantiles": (
        rl.qr_dqn(network=SMALL, dueling=True, noisy=True, quantiles=3, **REPLAY),
        Field(),
    ),
    "no bounds": (rl.a2c(network=MLP((4,), jax.nn.elu, init=lecun), **ROLLOUT), FREE),
    "stream": (rl.stream_q(network=MLP((4,), norm_weights=False, layer_norm=True)), Field()),
}
ROTATED = ("no bounds", "stream", "quantiles")


def policy_of(algo, env):
    """A policy with random parameters and statistics, for which nothing was trained."""
    training = rl.Training(algo, env, 64, evals=1, episodes=0)
    agent = jax.tree.map(np.asarray, quick(lambda key: algo.agent(training.init(key)))(key()))
    random = np.random.default_rng(0)

    def changed(path, x):
        if x.dtype.kind != "f":
            return x
        x = x + random.uniform(-0.6, 0.6, x.shape).astype(x.dtype)
        return np.abs(x) + 0.1 if "var" in jax.tree_util.keystr(path) else x

    return _make(training, jax.tree_util.tree_map_with_path(changed, agent))


def key(seed=0):
    return jax.random.key(seed)


def untrained(algo, env):
    """A policy of zeros, for which nothing is compiled."""
    training = rl.Training(algo, env, 64, evals=1, episodes=0)
    agent = jax.eval_shape(lambda key: algo.agent(training.init(key)), key())
    return _make(training, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), agent))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.rotate) if name in ROTATED else name for name in CASES],
)
def test_numpy_has_the_actions_of_jax(name, tmp_path):
    policy = policy_of(*CASES[name])
    assert rl.export(policy, tmp_path / "p", to="numpy") == tmp_path / "p"
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["policy.npz", "policy.py"]
    written, act, random = read(tmp_path / "p"), jax.jit(policy.act), np.random.default_rng(1)
    masked, seen = policy.env.masked, []
    for _ in range(3):  # episodes
        written.reset()
        rnn_state = None
        for _ in range(20):
            obs = (3.0 * random.normal(size=(2, 3))).astype(np.float32)
            mask = random.random(sum(policy.env.action_space.heads.values())) < 0.5
            whole = rl.Masked(obs, mask) if masked else obs
            action, rnn_state = act(whole, policy.rnn_state if rnn_state is None else rnn_state)
            found = written(obs, mask) if masked else written(obs)
            assert np.shape(found) == np.shape(action)
            np.testing.assert_allclose(found, action, rtol=1e-5, atol=1e-5)
            seen.append(np.asarray(found, float).ravel())
    assert np.ptp(seen, axis=0).all()  # they depend on the observation


@pytest.mark.parametrize(
    ("algo", "env", "message"),
    [
        (rl.ppo(network=rl.CNN((2,), 2, hidden=(4,)), **ROLLOUT), Field(), "the network CNN"),
        (rl.ppo(network=SMALL, memory=rl.LRU(4), **ROLLOUT), Field(), "the memory LRU"),
        (rl.c51(network=SMALL, atoms=3, **REPLAY), Field(), "the head Categorical"),
        (
            rl.ppo(network=MLP((4,), jnp.sin, init=lecun), **ROLLOUT),
            Field(),
            "the activation .*none of tanh, relu, elu, silu",
        ),
    ],
)
def test_other_policies_are_refused_in_one_sentence(algo, env, message, tmp_path):
    with pytest.raises(ValueError, match=rf"and this one has {message}.*rl\.policy\(FOLDER"):
        rl.export(untrained(algo, env), tmp_path / "p", to="numpy")
    assert not (tmp_path / "p").exists()


def test_an_altered_policy_is_not_written(tmp_path, monkeypatch):
    """What the reader has no form of is found by comparing actions."""
    policy = policy_of(*CASES["box"])
    other = MemberPolicy(
        lambda key, episode: (episode.rnn_state, jnp.full(2, 0.75), ()),
        policy.rnn_state,
        training=policy.training,
        agent=policy.agent,
    )
    with pytest.raises(ValueError, match="the actions in NumPy differ from the policy's"):
        rl.export(other, tmp_path / "p", to="numpy")
    assert not list((tmp_path / "p").iterdir())


@pytest.mark.parametrize(
    ("shape", "instead"),
    [
        ((8, 2, 3), r"for a batch, write jax\.vmap\(policy\.act\)\(obs\)\."),
        ((4,), r"write policy\.act\(obs\) with an observation of Field\."),
    ],
)
def test_an_observation_of_another_shape_is_one_sentence(shape, instead, tmp_path):
    algo, env = CASES["masks"]
    policy = untrained(algo, env)
    obs = np.zeros(shape)
    wrong = r"takes one observation of shape \[2, 3\], and got "
    message = f"{wrong}{re.escape(str(list(shape)))}: {instead}"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(policy.act, obs)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(policy.act, rl.Masked(obs, np.ones(3, bool)))
    jax.eval_shape(jax.vmap(policy.act), np.zeros((8, 2, 3)))
    np.savez(tmp_path / "policy.npz", **arrays_of(policy))
    with pytest.raises(ValueError, match=wrong):
        Policy(tmp_path / "policy.npz")(obs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("deployed") / "x"
    rl.sweep(TINY, {"seed": np.arange(2)}, folder=path, progress=False)
    return path


def test_a_policy_jits_and_vmaps(folder):
    policies = [rl.policy(folder, seed=seed) for seed in (0, 1)]
    episode = start(policies[0])
    action = policies[0](key(), episode)[1]
    assert jax.jit(policies[0])(key(), episode)[1] == action
    as_argument = jax.jit(lambda policy, episode: policy(key(), episode)[1])
    assert as_argument(policies[0], episode) == action
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *policies)
    each = jax.vmap(lambda policy: policy.act(episode.obs)[0])(stacked)
    assert each.tolist() == [int(policy.act(episode.obs)[0]) for policy in policies]
    many = jax.tree.map(lambda x: jnp.stack([x, x]), episode)
    assert jax.vmap(policies[0], (None, 0))(key(), many)[1].tolist() == [action, action]
    leaves, structure = jax.tree.flatten(policies[1])
    again = jax.tree.unflatten(structure, leaves)
    assert again.act(episode.obs)[0] == policies[1].act(episode.obs)[0]
    assert again.env == policies[1].env
    plain = TINY.algo.policy(TINY.env, policies[0].agent, greedy=False)
    assert jax.jit(plain)(key(), episode)[1].shape == ()


def start(policy):
    return rollout.reset(key(), policy.env, policy.rnn_state)


def test_the_reader_needs_numpy_alone(folder, tmp_path, capsys):
    main(["export", str(folder), "--to", "numpy", "--where", "seed=1"])
    assert f"wrote {folder / 'policy'}" in capsys.readouterr().out
    obs = np.asarray(start(rl.policy(folder, seed=1)).obs)
    np.save(tmp_path / "obs.npy", obs)
    code = (
        "import sys, numpy as np; from policy import Policy; "
        f"print(Policy()(np.load({str(tmp_path / 'obs.npy')!r})), 'jax' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder / "policy",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert shown == [str(rl.policy(folder, seed=1).act(obs)[0]), "False"]
    best = rl.export(folder, tmp_path / "best", to="numpy")  # without labels
    assert read(best)(obs) == rl.policy(folder, **rl.best(rl.load(folder))).act(obs)[0]
    for results, options, message in (
        (folder, dict(to="csv", seed=1), r"seed selects a run.*write to='numpy'"),
        (rl.load(folder), dict(to="numpy"), "a dataset holds no policies"),
        (rl.policy(folder, seed=1), dict(to="numpy"), "add a path"),
        (rl.policy(folder, seed=1), dict(to="csv"), "selects a run"),
    ):
        with pytest.raises(ValueError, match=message):
            rl.export(results, **options)


def test_a_policy_plays_in_gymnasium(tmp_path):
    """The example of `rl.export`'s docstring, and `act` beside it."""
    gymnasium = pytest.importorskip("gymnasium")
    policy = policy_of(rl.ppo(network=SMALL, **ROLLOUT), envs.make("CartPole-v1"))
    written, act = read(rl.export(policy, tmp_path / "p", to="numpy")), jax.jit(policy.act)
    env = gymnasium.make("CartPole-v1")
    obs, done, length = env.reset(seed=0)[0], False, 0
    written.reset()
    rnn_state = policy.rnn_state
    while not done:
        expected, rnn_state = act(obs, rnn_state)
        action = written(obs)
        assert action == int(expected)
        obs, _, terminated, truncated, _ = env.step(action)
        done, length = terminated or truncated, length + 1
    assert 5 <= length <= 500
