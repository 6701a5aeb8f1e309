"""LPG: its recurrence against a loop, the flow of information over episode ends, meta-training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import transitions
from probes import Aim, Choice

import jaxrl as rl

KINDS = {
    "lpg": rl.LPG.random(jax.random.key(0), 8, categories=4),
    "ta_lpg": rl.LPG.random(jax.random.key(1), 8, categories=4, knows_time=True),
}
every = pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
STEPS, CLOCK = 7, rl.Clock(3, 20.0)


def experience(seed=0, ends=(2, 5)):
    """One trajectory that terminates at `ends[0]` and is truncated at `ends[1]`. [T, 1]."""
    keys = iter(jax.random.split(jax.random.key(seed), 5))
    real = lambda *more: jax.random.normal(next(keys), (STEPS, 1, *more))
    out = {"y": real(4), "policy": rl.Discrete(3).policy({"logits": real(3)})}
    next_out, reward = {"y": real(4)}, real()
    at = lambda step: jnp.zeros((STEPS, 1), bool).at[step].set(True)
    action = jax.random.randint(next(keys), (STEPS, 1), 0, 3)
    return out, next_out, transitions(action, reward, at(ends[0]), at(ends[1]))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@every
def test_targets_are_the_paper_s_recurrence_as_a_loop(rule):
    out, next_out, batch = experience()
    _, targets = jax.jit(rule.targets)((), out, next_out, batch, CLOCK)
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), rule.weights)
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]
    embed = lambda y: dense(
        w["embedding"]["output"], np.maximum(dense(w["embedding"]["hidden"], y), 0)
    )[0]
    y, next_y = (softmax(np.asarray(x["y"], np.float64)[:, 0]) for x in (out, next_out))
    probability = np.exp(np.asarray(out["policy"].log_prob(batch.action)))[:, 0]
    hidden = np.zeros(8)
    for t in reversed(range(STEPS)):
        if batch.done[t, 0]:
            hidden = np.zeros(8)
        end = float(batch.terminated[t, 0])
        x = [
            float(batch.reward[t, 0]),
            end,
            probability[t],
            embed(y[t]),
            embed(next_y[t]) * (1 - end),
        ]
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
            targets.strength[t, 0], dense(w["strength"], np.maximum(hidden, 0))[0], atol=1e-5
        )
        np.testing.assert_allclose(
            targets.prediction[t, 0], dense(w["prediction"], np.maximum(hidden, 0)), atol=1e-5
        )


@every
def test_rewards_do_not_cross_the_end_of_an_episode(rule):
    """A reward changes the targets of its step and of the earlier steps of its episode only."""
    out, next_out, batch = experience()
    strength = jax.jit(
        lambda batch: rule.targets((), out, next_out, batch, CLOCK)[1].strength[:, 0]
    )
    changed = lambda t: np.flatnonzero(
        strength(rl.tree.replace(batch, reward=batch.reward.at[t].add(1.0))) != strength(batch)
    )
    for t, expected in {6: [6], 5: [3, 4, 5], 4: [3, 4], 2: [0, 1, 2], 0: [0]}.items():
        np.testing.assert_array_equal(changed(t), expected)


def test_the_next_prediction_is_an_input_where_truncated_and_not_where_terminated():
    out, next_out, batch = experience()
    rule = KINDS["lpg"]
    strength = jax.jit(lambda y: rule.targets((), out, {"y": y}, batch, CLOCK)[1].strength[:, 0])
    y = next_out["y"]
    assert np.all(strength(y.at[2].add(jnp.arange(4.0)[None])) == strength(y))
    assert np.any(strength(y.at[5].add(jnp.arange(4.0)[None])) != strength(y))


def test_targets_are_finite_in_an_unbounded_training_run():
    _, targets = KINDS["ta_lpg"].targets((), *experience(), rl.Clock(3, jnp.inf))
    assert np.all(np.isfinite(targets.strength))


def test_continuous_actions_are_refused_before_anything_is_compiled():
    with pytest.raises(TypeError, match="LPG takes actions of Discrete"):
        rl.train(0, rl.OnPolicy(rule=KINDS["lpg"]), Aim(), steps=10_000)


def test_meta_gradients_improve_the_agents_that_it_trains():
    """Meta-gradients through five updates find weights with which new agents learn the better of
    two actions.
    """
    env, network = Choice(), rl.MLP((), shared=True)

    def trained(weights, key, number):
        """The probability of the better action after five updates of a new agent."""
        key = jax.random.fold_in(key, number)
        algo = rl.OnPolicy(
            rule=rl.tree.replace(KINDS["ta_lpg"], weights=weights),
            lr=1.0,
            schedule=rl.Constant(),
            optimizer=rl.Optimizer(optax.sgd),
            num_envs=8,
            num_steps=4,
            epochs=1,
            minibatches=1,
            network=network,
        )
        update = lambda state, i: (algo.update(jax.random.fold_in(key, 1 + i), env, state)[0], None)
        state, _ = jax.lax.scan(
            update, algo.init(jax.random.fold_in(key, 0), env, 5), jnp.arange(5)
        )
        out = algo.forward(env, algo.agent(state), (), jnp.zeros(1))[1]
        return jnp.exp(out["policy"].log_prob(jnp.int32(1)))

    many = jax.vmap(trained, in_axes=(None, None, 0))
    adam = optax.adam(0.03, eps_root=1e-16)
    key_train, key_test = jax.random.split(jax.random.key(3))

    def meta_step(carry, i):
        weights, opt_state = carry
        key = jax.random.fold_in(key_train, i)
        slope = jax.grad(lambda weights: -many(weights, key, jnp.arange(8)).mean())(weights)
        changes, opt_state = adam.update(slope, opt_state)
        return (optax.apply_updates(weights, changes), opt_state), None

    @jax.jit
    def before_and_after(weights):
        carry = weights, adam.init(weights)
        (new_weights, _), _ = jax.lax.scan(meta_step, carry, jnp.arange(40))
        return [
            many(weights, key_test, jnp.arange(32)).mean() for weights in (weights, new_weights)
        ]

    before, after = before_and_after(KINDS["ta_lpg"].weights)
    assert before < 0.75 < 0.9 < after
