"""A network that reads a rollout backward: what it reads, what it may not know, and that it learns
to teach.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import Aim, Choice

import jaxrl as rl
from jaxrl.rollout import Transition

KINDS = {
    "lpg": rl.LPG.random(jax.random.key(0), 8, categories=4),
    "ta_lpg": rl.LPG.random(jax.random.key(1), 8, categories=4, knows_time=True),
}
every = pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
STEPS, CLOCK = 7, rl.Clock(3, 20.0)


def experience(seed=0, ends=(2, 5)):
    """One trajectory that terminates at the first of `ends`, and is cut off at the second. [T,
    1].
    """
    keys = iter(jax.random.split(jax.random.key(seed), 5))
    real = lambda *more: jax.random.normal(next(keys), (STEPS, 1, *more))
    out = {"y": real(4), "policy": rl.Discrete(3).policy({"logits": real(3)})}
    next_out, reward, zeros = {"y": real(4)}, real(), jnp.zeros((STEPS, 1))
    at = lambda step: jnp.zeros((STEPS, 1), bool).at[step].set(True)
    action = jax.random.randint(next(keys), (STEPS, 1), 0, 3)
    return (
        out,
        next_out,
        Transition(zeros, action, reward, zeros, at(ends[0]), at(ends[1]), zeros, zeros, ()),
    )


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@every
def test_the_advice_is_the_paper_s_recurrence_written_slowly(rule):
    out, next_out, batch = experience()
    _, advice = jax.jit(rule.targets)((), out, next_out, batch, CLOCK)
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), rule.weights)
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]
    embed = lambda y: dense(
        w["embedding"]["output"], np.maximum(dense(w["embedding"]["hidden"], y), 0)
    )[0]
    y, next_y = (softmax(np.asarray(x["y"], np.float64)[:, 0]) for x in (out, next_out))
    chance = np.exp(np.asarray(out["policy"].log_prob(batch.action)))[:, 0]
    hidden = np.zeros(8)
    for t in reversed(range(STEPS)):
        if batch.done[t, 0]:
            hidden = np.zeros(8)
        end = float(batch.terminated[t, 0])
        x = [float(batch.reward[t, 0]), end, chance[t], embed(y[t]), embed(next_y[t]) * (1 - end)]
        x += [3 / 20, np.log(20) / np.log(250)] if rule.knows_time else []
        a, b = (
            np.split(dense(w["memory"]["input"], np.array(x)), 3),
            np.split(hidden @ w["memory"]["hidden"]["kernel"], 3),
        )
        reset, update = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        hidden = (1 - update) * np.tanh(
            a[2] + reset * (b[2] + w["memory"]["new"]["bias"])
        ) + update * hidden
        np.testing.assert_allclose(
            advice.strength[t, 0], dense(w["strength"], np.maximum(hidden, 0))[0], atol=1e-5
        )
        np.testing.assert_allclose(
            advice.prediction[t, 0], dense(w["prediction"], np.maximum(hidden, 0)), atol=1e-5
        )


@every
def test_an_episode_is_not_told_of_the_next(rule):
    """Rewards after an end change nothing before it; those before an end change all before them."""
    out, next_out, batch = experience()
    read = jax.jit(lambda batch: rule.targets((), out, next_out, batch, CLOCK)[1].strength[:, 0])
    changed = lambda t: np.flatnonzero(
        read(rl.tree.replace(batch, reward=batch.reward.at[t].add(1.0))) != read(batch)
    )
    for t, expected in {6: [6], 5: [3, 4, 5], 4: [3, 4], 2: [0, 1, 2], 0: [0]}.items():
        np.testing.assert_array_equal(changed(t), expected)


def test_it_reads_the_successor_where_an_episode_is_cut_off_and_not_where_it_terminates():
    out, next_out, batch = experience()
    rule = KINDS["lpg"]
    read = jax.jit(lambda y: rule.targets((), out, {"y": y}, batch, CLOCK)[1].strength[:, 0])
    y = next_out["y"]
    assert np.all(read(y.at[2].add(jnp.arange(4.0)[None])) == read(y))
    assert np.any(read(y.at[5].add(jnp.arange(4.0)[None])) != read(y))


def test_a_life_without_an_end_has_finite_advice():
    _, advice = KINDS["ta_lpg"].targets((), *experience(), rl.Clock(3, jnp.inf))
    assert np.all(np.isfinite(advice.strength))


def test_real_actions_are_refused_before_anything_is_compiled():
    with pytest.raises(TypeError, match="LPG takes actions of Discrete"):
        rl.train(0, rl.OnPolicy(rule=KINDS["lpg"]), Aim(), steps=10_000)


def test_it_learns_to_teach():
    """Meta-gradients through five updates find weights with which new agents learn the better of
    two actions.
    """
    env, network = Choice(), rl.MLP((), shared=True)

    def taught(weights, key, agent):
        """The chance of the better action after five updates of a new agent."""
        key, rule = (
            jax.random.fold_in(key, agent),
            rl.tree.replace(KINDS["ta_lpg"], weights=weights),
        )
        sgd = rl.Optimizer(optax.sgd)
        shape = {"num_envs": 8, "num_steps": 4, "epochs": 1, "minibatches": 1, "network": network}
        algo = rl.OnPolicy(rule=rule, lr=1.0, schedule=rl.Constant(), optimizer=sgd, **shape)
        update = lambda state, i: (algo.update(jax.random.fold_in(key, 1 + i), env, state)[0], None)
        state, _ = jax.lax.scan(
            update, algo.init(jax.random.fold_in(key, 0), env, 5), jnp.arange(5)
        )
        out = algo.look(env, state, (), jnp.zeros(1))[1]
        return jnp.exp(out["policy"].log_prob(jnp.int32(1)))

    many = jax.vmap(taught, in_axes=(None, None, 0))
    adam = optax.adam(0.03, eps_root=1e-16)
    key_train, key_test = jax.random.split(jax.random.key(3))

    def meta_step(learner, i):
        weights, memory = learner
        key = jax.random.fold_in(key_train, i)
        slope = jax.grad(lambda weights: -many(weights, key, jnp.arange(8)).mean())(weights)
        changes, memory = adam.update(slope, memory)
        return (optax.apply_updates(weights, changes), memory), None

    @jax.jit
    def life(weights):
        (learnt, _), _ = jax.lax.scan(meta_step, (weights, adam.init(weights)), jnp.arange(40))
        return [many(weights, key_test, jnp.arange(32)).mean() for weights in (weights, learnt)]

    before, after = life(KINDS["ta_lpg"].weights)
    assert before < 0.75 < 0.9 < after
