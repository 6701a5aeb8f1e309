"""MaxInfo: a second bonus and a second temperature, each beside its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import CLOCK, initial
from members import LESSONS, SOFT, quick

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms.actors import Softmax
from jaxrl.algorithms.learner import apply_network

SMALL = rl.MLP((8,), activation=jax.nn.relu, shared=True)
FIELDS = {name: SOFT[name] for name in ("gamma", "lr", "temperature", "temperature_lr")}
LEARNER = rl.MaxInfo(
    **FIELDS, network=SMALL, model_network=SMALL, num_models=3, info_temperature=0.5
)
ALGO = rl.OffPolicy(learner=LEARNER)


def test_the_gain_is_the_ensemble_s_disagreement_in_nats():
    """The mean over dimensions of log(1 + variance / noise^2), standardized; model by model."""
    _, state, batch = initial(ALGO)
    state, metrics = quick(LEARNER.model_step)(state, batch, CLOCK)
    statistics = state.target_params["models"]
    proposal = rl.algorithms.actors.Proposal(
        batch.action, jnp.ones((6, 1, 1)), jnp.zeros((6, 1, 1))
    )
    found = quick(LEARNER.gain)(state, batch.obs, proposal)
    inputs = np.concatenate([batch.obs[:, 0], batch.action[:, 0]], -1)
    np.testing.assert_allclose(statistics.inputs.mean, inputs.mean(0), rtol=1e-3, atol=1e-3)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    apply = LEARNER._models(batch.obs[0, 0]).apply
    model = lambda i: jax.tree.map(lambda x: x[i], state.params["models"])
    guess = np.array([[apply(model(i), x)["change"] for x in inputs] for i in range(3)])
    raw = np.log1p(guess.var(0) / LEARNER.noise**2).mean(-1)
    assert float(metrics["information_gain"]) == pytest.approx(raw.mean(), rel=1e-3)
    np.testing.assert_allclose(found[:, 0], (raw - raw.mean()) / raw.std(), atol=2e-2)


def test_values_have_the_gain_as_they_have_the_entropy():
    """At an information temperature of 0 it is SAC; else targets and the policy's gain have it."""
    env, state, batch = initial(ALGO)
    space, key = env.action_space, jax.random.key(0)
    out = {name: jnp.zeros((6, 1, 1)) for name in LEARNER.actor.heads(space)}
    proposal = LEARNER.actor.propose(key, out)

    def both(state):
        _, next_out = LEARNER.apply_critics(
            key, space, state, state.params["critic"], batch, proposal
        )
        return next_out["q"], LEARNER.policy_gain(space, state, batch, out, proposal)

    def plain(state):
        with_zero = state.params | {"log_info_temperature": -jnp.inf}
        return both(tree.replace(state, params=with_zero))

    q, gain = quick(both)(state)
    plain_q, plain_gain = quick(plain)(state)
    at_next = LEARNER.gain(state, batch.next_obs, proposal)
    here = LEARNER.gain(state, batch.obs, proposal)
    np.testing.assert_allclose(
        q - plain_q, np.tile(0.5 * at_next[None, ..., None], (2, 1, 1, 1)), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(gain - plain_gain, 0.5 * here, rtol=1e-3, atol=1e-5)
    assert np.abs(here).max() > 0.1


def test_the_second_temperature_falls_where_the_policy_gains_more_than_the_slow_actor():
    """Adam's first step is the learning rate, against the sign of the difference."""
    env, state, batch = initial(ALGO)
    other = initial(ALGO, seed=1)[1].params["actor"]
    state, _ = quick(LEARNER.model_step)(state, batch, CLOCK)  # with statistics of the gain
    state = tree.replace(state, target_params=state.target_params | {"slow_actor": other})
    space = env.action_space

    def step(state, key):
        new = LEARNER.policy_step(key, space, state, batch, CLOCK)
        _, key_gain, key_slow = jax.random.split(key, 3)
        gains = []
        for key, actor in ((key_gain, state.params["actor"]), (key_slow, other)):
            out = apply_network(LEARNER._actor(space), actor, batch)
            gains.append(LEARNER.gain(state, batch.obs, LEARNER.actor.propose(key, out)).mean())
        change = new.params["log_info_temperature"] - state.params["log_info_temperature"]
        return gains[0] - gains[1], change

    excess, change = quick(jax.vmap(step, in_axes=(None, 0)))(
        state, jax.random.split(jax.random.key(3), 16)
    )
    np.testing.assert_allclose(change, -LEARNER.lr * np.sign(excess), rtol=0.2)
    assert (excess > 0).any()
    assert (excess < 0).any()


def test_it_trains_with_a_slow_actor_behind():
    """The best action is learned, models predict, and the slow actor is an average."""
    algo = rl.OffPolicy(
        learner=tree.replace(LEARNER, info_temperature=0.01, slow_tau=0.5),
        **{name: SOFT[name] for name in ("num_envs", "batch_size", "capacity", "warmup")},
    )
    training = rl.Training(algo, LESSONS["choice"], 8 * 600, evals=3, episodes=4)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert float(metrics["evaluation"][-1].mean()) > -0.02
    assert {"information_gain", "info_temperature", "model_loss"} <= set(metrics)
    assert not metrics["diverged"].any()
    actors = state.params["actor"], state.learner.target_params["slow_actor"]
    gap = max(
        float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, actors), strict=True)
    )
    assert 0.0 < gap < 0.1


def test_what_the_models_cannot_read_is_an_error():
    with pytest.raises(TypeError, match=r"read real actions, and a Softmax actor has none"):
        rl.MaxInfo(actor=Softmax())
    with pytest.raises(ValueError, match=r"with n_step=3 a batch has a later one: write n_step=1"):
        rl.MaxInfo(n_step=3)
