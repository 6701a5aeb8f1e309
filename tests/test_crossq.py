"""CrossQ: one batch for both halves, batch normalisation without target networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from actor_critics import CLOCK, Sum, initial
from members import CROSSED, LESSONS, RELU, start_at

import jaxrl as rl


def normalised(weights, x, stats=None):
    """A network of one layer that normalises what it reads and its features, in NumPy: heads, and a
    batch's moments.
    """
    moments = {}

    def normalise(name, x):
        moments[name] = {"mean": x.mean(0), "var": x.var(0)}
        now = moments[name] if stats is None else stats[name]
        return (x - now["mean"]) / np.sqrt(now["var"] + 1e-3) * weights[name]["scale"] + weights[
            name
        ]["bias"]

    linear = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]
    x = normalise("shared_batch_norm", np.asarray(x, np.float64))
    x = normalise("shared_batch_norm_0", np.maximum(linear("shared_0", x), 0.0))
    return {
        name: linear(f"{name}_out", x) for name in ("q", "loc") if f"{name}_out" in weights
    }, moments


def test_crossq_s_critics_read_both_halves_as_one_batch():
    """Loss, running statistics and the slope of the loss, targets constant: every critic in
    NumPy.
    """
    algo = rl.crossq(**CROSSED | dict(temperature=0.3, optimizer=rl.Optimizer(optax.sgd), lr=1.0))
    env, state, batch = initial(algo)
    better, _, metrics = algo.learner.critic_step(
        jax.random.key(3), env.action_space, state, batch, CLOCK
    )
    out = algo.learner._actor(env.action_space).apply(
        state.params["actor"], (), batch.next_obs[:, 0], jnp.zeros(6, bool)
    )[1]
    key = jax.random.split(jax.random.key(3), 3)[0]
    proposal = algo.learner.actor.propose_next(key, jax.tree.map(lambda x: x[:, None], out))
    now, after = (
        np.concatenate([x[:, 0] for x in half], -1)
        for half in ((batch.action, batch.obs), (proposal.action, batch.next_obs))
    )
    both = np.concatenate([now, after])
    part = lambda state: jax.tree.map(np.asarray, state.params["critic"]["top"])
    at = lambda tree_, i: jax.tree.map(lambda x: np.asarray(x[i], np.float64), tree_)
    outputs = [normalised(at(part(state).weights, i), both) for i in range(2)]
    next_value = np.minimum(*(out["q"][6:, 0] for out, _ in outputs)) - 0.3 * np.asarray(
        proposal.log_prob[:, 0, 0]
    )
    target = np.asarray(batch.reward[:, 0] + batch.discount[:, 0] * next_value)
    weight = np.asarray(batch.weight[:, 0])
    loss_of = lambda weights: (
        0.5 * weight * (target - normalised(weights, both)[0]["q"][:6, 0]) ** 2
    ).mean()
    starts = [at(part(state).weights, i) for i in range(2)]
    assert float(metrics["loss"]) == pytest.approx(sum(map(loss_of, starts)), rel=1e-4)
    for i, start in enumerate(starts):
        step = jax.tree.map(np.subtract, at(part(better).weights, i), start)
        moved = lambda t, start=start, step=step: loss_of(
            jax.tree.map(lambda p, s: p + t * s, start, step)
        )
        far = sum((x**2).sum() for x in jax.tree.leaves(step))
        assert (moved(-1e-4) - moved(1e-4)) / 2e-4 == pytest.approx(far, rel=1e-2)
        old, new = (at(part(x).stats, i) for x in (state, better))
        expected = jax.tree.map(lambda old, seen: 0.99 * old + 0.01 * seen, old, outputs[i][1])
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), new, expected
        )


def test_an_optimiser_skips_statistics_and_acting_uses_them():
    algo = rl.crossq(**CROSSED)
    env, state, batch = initial(algo)
    assert not jax.tree.leaves(state.target_params)
    moments = jax.tree.leaves(state.opt_state["actor"])
    # Adam's two, and its count
    assert len(moments) == 2 * len(jax.tree.leaves(state.params["actor"].weights)) + 1
    learn = jax.jit(lambda key, state: algo.learner.learn_batch(key, env, state, batch, CLOCK)[0])
    same = lambda a, b: all(
        bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    for step in range(1, 4):
        before, state = state, learn(jax.random.key(step), state)
        assert same(before.params["actor"], state.params["actor"]) == (step != 3)
        assert not same(before.params["critic"]["top"].stats, state.params["critic"]["top"].stats)
    actor = jax.tree.map(np.asarray, state.params["actor"])
    assert not np.allclose(actor.stats["shared_batch_norm"]["var"], 1.0)
    obs = np.array([0.7], np.float32)
    loc = normalised(actor.weights, obs[None], actor.stats)[0]["loc"][0]
    action = algo.learner.act(jax.random.key(0), env, state.params, start_at(jnp.asarray(obs), ()))[
        1
    ]
    np.testing.assert_allclose(action, np.tanh(loc), rtol=1e-4)


def test_what_crossq_can_t_be_is_explained():
    begin = lambda algo: algo.init(jax.random.key(0), LESSONS["aim"])
    with pytest.raises(ValueError, match=r"chase its own values.*batch_norm=True"):
        begin(rl.crossq(network=RELU))
    with pytest.raises(TypeError, match=r"crossq has no field 'memory'"):
        rl.crossq(memory=Sum())
    with pytest.raises(TypeError, match=r"crossq has no field 'tau'"):
        rl.crossq(tau=0.1)
    algo = rl.ppo(network=rl.MLP((4,), batch_norm=True), num_envs=4, num_steps=4, minibatches=1)
    with pytest.raises(ValueError, match=r"batch_norm=True is for actor-critics"):
        rl.train(jax.random.key(0), algo, LESSONS["aim"], steps=16, evals=1)
