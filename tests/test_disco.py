"""DiscoRL's rule against outputs of its authors' network.

`data/disco_fixture.npz` holds the outputs of the published wiring, built of Haiku's layers, for the
inputs below: with random weights, and with the published ones, which are not part of the kit.
DISCO_103=path/to/disco_103.npz tests these too.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import transitions
from probes import Aim, Choice

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms.disco import ActionModel, ClippedAdam
from jaxrl.rules.disco import BINS, CATEGORIES, Disco, q_values
from jaxrl.rules.disco_network import weight_shapes

FIXTURE = np.load(pathlib.Path(__file__).parent / "data" / "disco_fixture.npz")
PUBLISHED = os.environ.get("DISCO_103", "")
STEPS, BATCH, ACTIONS = 6, 2, 3
TERMINATED = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0], [0, 0]], bool)


def experience():
    """Heads of the learner and of the target network at T observations and at the next ones, and
    the rollout: the inputs of the fixture.
    """
    random = np.random.RandomState(0)
    real = lambda *shape: random.normal(size=shape).astype(np.float32)
    sizes = {
        "logits": (ACTIONS,),
        "y": (CATEGORIES,),
        "z": (ACTIONS, CATEGORIES),
        "q": (ACTIONS, BINS),
    }
    heads, target = (
        {head: real(STEPS + 1, BATCH, *size) for head, size in sizes.items()} for _ in range(2)
    )
    action, reward = random.randint(0, ACTIONS, (STEPS, BATCH)), 3.0 * real(STEPS, BATCH)
    flat = lambda x: {head: jnp.asarray(x.reshape(*x.shape[:2], -1)) for head, x in x.items()}
    outputs = flat(heads) | {"target": flat(target)}
    out = jax.tree.map(lambda x: x[:-1], outputs)
    next_out = jax.tree.map(lambda x: x[1:], outputs)
    batch = transitions(jnp.asarray(action), jnp.asarray(reward), jnp.asarray(TERMINATED))
    return out, next_out, batch


def random_weights():
    random, sizes = np.random.RandomState(1), weight_shapes()
    scale = lambda shape: shape[-2] ** -0.5 if len(shape) > 1 else 0.1
    return {
        name: jnp.asarray(random.normal(size=sizes[name]) * scale(sizes[name]), jnp.float32)
        for name in sorted(sizes)
    }


def targets_of(rule):
    random = np.random.RandomState(2)
    state = tuple(jnp.asarray(random.normal(size=128) * 0.5, jnp.float32) for _ in range(2))
    rule_state = tree.replace(rule.init(jax.random.key(0), {}), meta_state=state)
    return jax.jit(rule.targets)(rule_state, *experience(), rl.Clock(0, 10.0))


@pytest.mark.parametrize("weights", ["random", "published"])
def test_targets_are_those_of_the_published_network(weights):
    if weights == "published" and not PUBLISHED:
        pytest.skip(
            "the published weights are no part of the kit: DISCO_103=path/to/disco_103.npz "
            "tests them"
        )
    rule_state, targets = targets_of(
        Disco.load(PUBLISHED) if weights == "published" else Disco(random_weights())
    )
    close = lambda found, name: np.testing.assert_allclose(
        found, FIXTURE[f"{weights}/{name}"], rtol=2e-3, atol=2e-4
    )
    # returns of hundreds, through a steep inverse
    np.testing.assert_allclose(targets.q, FIXTURE["q"], rtol=2e-3, atol=0.5)
    close(targets.logits, "logits")
    close(targets.y[..., :8], "y")
    close(targets.z[..., :8], "z")
    close(jnp.mean(targets.y**2, -1), "y_mean_square")
    close(jnp.mean(targets.z**2, -1), "z_mean_square")
    close(rule_state.meta_state[0][:32], "hidden")
    close(rule_state.meta_state[1][:32], "cell")


def test_an_action_value_is_the_mean_of_its_bins_on_the_scale_of_signed_root():
    q = jnp.log(jnp.zeros(BINS).at[301].set(0.25).at[300].set(0.75) + 1e-20)
    scaled = lambda x: np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x
    assert scaled(float(q_values({"q": q, "logits": jnp.zeros(1)})[0])) == pytest.approx(
        0.25, rel=1e-3
    )


def test_the_loss_is_the_sum_of_its_divergences_and_has_a_meta_gradient():
    rule = Disco(random_weights())
    out, next_out, batch = experience()
    out |= {"aux_pi": jnp.tile(out["logits"], 3)}
    _, targets = targets_of(rule)
    loss, metrics = jax.jit(rule.loss)(out, batch, targets, rl.Clock(0, 10.0))
    p = lambda x: (
        np.exp(x - x.max(-1, keepdims=True))
        / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    )
    kl = lambda a, b: (p(a) * (np.log(p(a)) - np.log(p(b)))).sum(-1)
    host = lambda x: np.asarray(x, np.float64)
    pick = lambda x: np.take_along_axis(
        host(x).reshape(6, 2, 3, -1), np.asarray(batch.action)[..., None, None], 2
    )[:, :, 0]
    scaled = np.sign(targets.q) * (np.sqrt(np.abs(targets.q) + 1) - 1) + 1e-3 * host(targets.q)
    low = np.floor(scaled).astype(int)
    log_q = np.log(p(pick(out["q"])))
    at = lambda index: np.take_along_axis(log_q, (index + 300)[..., None], -1)[..., 0]
    cross = -((low + 1 - scaled) * at(low) + (scaled - low) * at(low + 1))
    expected = kl(host(targets.logits), host(out["logits"])) + kl(host(targets.y), host(out["y"]))
    expected += kl(host(targets.z), pick(out["z"])) + 0.2 * cross
    expected += kl(host(next_out["logits"]), pick(out["aux_pi"])) * (1 - TERMINATED)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-3)
    assert metrics["value_loss"] == pytest.approx(cross.mean(), rel=1e-3)

    def loss_of(weights):
        rule_state = rule.init(jax.random.key(0), {})
        _, targets = Disco(weights).targets(rule_state, *experience(), rl.Clock(0, 10.0))
        return rule.loss(out, batch, targets, rl.Clock(0, 10.0))[0]

    grads = jax.jit(jax.grad(loss_of))(rule.weights)
    # the meta-RNN's state is zeros in the first update: only its gate's bias has a gradient then
    meta_rnn = {"lstm/linear/w", "lstm/linear_1/w", "lstm/linear_1/b"}
    meta_rnn |= {name for name in grads if name.startswith("lstm/~/")}
    for name, grad in grads.items():
        assert np.all(np.isfinite(grad)), name
        assert np.any(grad != 0.0) == (name not in meta_rnn), name


def test_an_agent_is_trained_and_the_target_network_lags_by_an_update():
    rule, network = Disco(random_weights()), ActionModel((8,), 8)
    algo = rl.OnPolicy(
        rule=rule,
        lr=1e-3,
        optimizer=ClippedAdam(),
        network=network,
        num_envs=2,
        num_steps=4,
        minibatches=1,
    )
    state = algo.init(jax.random.key(1), Choice(), 10)
    first = state.params
    state, metrics = jax.jit(algo.update)(jax.random.key(2), Choice(), state)
    # as in the authors' code: it moves to the parameters at the start of the update
    jax.tree.map(np.testing.assert_array_equal, state.rule_state.target_params, first)
    jax.tree.map(np.testing.assert_array_equal, state.rule_state.latest, state.params)
    assert all(np.isfinite(x) for name, x in metrics.items() if name not in ("return", "length"))
    assert np.any(state.rule_state.meta_state[0] != 0.0)


def test_no_update_is_larger_than_the_learning_rate():
    optimizer = ClippedAdam()(0.5)
    params = jnp.zeros(3)
    state = optimizer.init(params)
    for grads in (
        jnp.array([1e-3, -1.0, 100.0]),
        jnp.array([5.0, -1.0, 0.0]),
        jnp.array([100.0, -1.0, 0.0]),
    ):
        changes, state = optimizer.update(grads, state, params)
        assert np.all(np.abs(changes) <= 0.5)
    np.testing.assert_allclose(changes[1], 0.5, rtol=1e-4)


def test_a_missing_or_wrong_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="not part of jaxrl: download"):
        rl.disco103(tmp_path / "disco_103.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"is not a Disco103: lstm/.* is None there"):
        rl.disco103(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ValueError, match="holds no plain arrays"):
        rl.disco103(tmp_path / "text.npz")


def test_continuous_actions_are_refused():
    with pytest.raises(TypeError, match="Disco takes actions of Discrete"):
        rl.train(0, rl.OnPolicy(rule=Disco(random_weights())), Aim(), steps=10_000)
