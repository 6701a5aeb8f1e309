"""The actors of actor-critics: units, clipping, noise, images and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from actor_critics import CLOCK, Sum, env_of, forward, initial, rows
from members import LESSONS, SLOW, SOFT, start_at

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms import actors, critics
from jaxrl.algorithms.actors import Deterministic, Squashed


def test_actions_are_in_the_box_s_units():
    box = rl.Box(jnp.array([-2.0, 0.0]), jnp.array([2.0, 10.0]), (2,))
    np.testing.assert_allclose(actors.from_unit(box, jnp.array([-1.0, 0.5])), [-2.0, 7.5])
    np.testing.assert_allclose(
        actors.to_unit(box, jnp.array([[1.0, 5.0], [9.0, -1.0]])), [[0.5, 0.0], [1.0, -1.0]]
    )
    out = {"loc": jnp.array([0.3, -0.2]), "spread": jnp.zeros(2)}
    for actor in (Squashed(), Deterministic(noise=5.0)):
        assert actor.mode(box, out) == pytest.approx(actors.from_unit(box, jnp.tanh(out["loc"])))
        drawn = jax.vmap(
            lambda key, actor=actor: actor.explore(actor.sample_noise(key, out), box, out)
        )(jax.random.split(jax.random.key(0), 200))
        assert ((drawn >= box.low[None]) & (drawn <= box.high[None])).all()
        assert (drawn.std(0) > jnp.array([0.5, 1.0])).all()


def test_a_clipped_log_std_has_a_gradient_inwards_only():
    """The gradient of a plain clip is 0 outside its range: a policy too wide would stay so."""
    apply_gradients = lambda x, aim: (
        x - 0.5 * jax.grad(lambda x: (actors.clip_keep_inward_gradient(x, -2.0, 0.5) - aim) ** 2)(x)
    )
    for x, aim, expected in (
        (0.0, 9.0, 9.0),
        (3.0, 0.0, 2.5),
        (3.0, 9.0, 3.0),
        (-4.0, 0.5, -1.5),
        (-4.0, -9.0, -4.0),
    ):
        assert float(apply_gradients(x, aim)) == expected
    clipped = lambda low, high: actors.clip_keep_inward_gradient(
        jnp.array([-4.0, 0.0, 3.0, 5.0]), low, high
    )
    np.testing.assert_array_equal(clipped(-2.0, 0.5), [-2.0, 0.0, 0.5, 0.5])
    assert jax.grad(lambda ends: clipped(*ends).sum())((-2.0, 0.5)) == (1.0, 2.0)


def test_the_initial_standard_deviation_is_the_same_everywhere():
    learner, env = rl.sac(**SOFT).learner, LESSONS["aim"]
    params = learner.init(jax.random.key(0), env.action_space, jnp.zeros(1)).params
    for obs in (-3.0, 3.0):
        assert float(forward(learner, env, params, obs)["spread"][0, 0, 0]) == pytest.approx(
            0.0, abs=0.2
        )


def test_correlated_noise_has_variance_1():
    """An autoregressive process, which restarts with each episode; evaluation is without noise."""
    noise_correlation, num = 0.8, 4000
    algo = rl.td3(**SLOW, noise_correlation=noise_correlation, noise=0.05)
    env, state, _ = initial(algo)
    learner, obs = algo.learner, jnp.zeros(1)
    first = learner.initial_rnn_state(env.action_space)

    def run(key):
        def step(rnn_state, i):
            rnn_state, action, _ = learner.explore(
                jax.random.fold_in(key, i), env, state.params, start_at(obs, rnn_state), CLOCK
            )
            return rnn_state, action[0]

        return jax.lax.scan(step, first, jnp.arange(num))[1]

    noise = np.asarray(jax.jit(run)(jax.random.key(0)))[50:] / 0.05
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(noise_correlation, abs=0.03)
    far = {"rnn_state": (), "noise": jnp.full(1, 9.0)}
    np.testing.assert_array_equal(
        *(
            learner.act(jax.random.key(0), env, state.params, start_at(obs, x))[1]
            for x in (first, far)
        )
    )
    recurrent = rl.sac(
        **SOFT, memory=Sum(), burn_in=1, sequence=2, noise_correlation=noise_correlation
    )
    state = recurrent.init(jax.random.key(0), env)
    jax.eval_shape(lambda key: recurrent.update(key, env, state), jax.random.key(1))
    with pytest.raises(ValueError, match="noise_correlation is of the noise on real actions"):
        rl.sac_discrete(noise_correlation=0.5).init(jax.random.key(0), env_of(rl.sac_discrete()))


def test_target_noise_is_clipped_twice():
    out = {"loc": jnp.full((4000, 1), 1.0)}
    action = (
        Deterministic(target_noise=0.2, target_noise_clip=0.3)
        .propose_next(jax.random.key(0), out)
        .action
    )
    noise = np.asarray(action - jnp.tanh(1.0))
    assert noise.min() == pytest.approx(-0.3, abs=1e-6)
    assert action.max() == 1.0
    assert np.mean(noise < -0.2) == pytest.approx(0.159, abs=0.02)  # below one standard deviation
    np.testing.assert_array_equal(
        Deterministic().propose(jax.random.key(0), out).action, jnp.tanh(out["loc"])
    )


def test_images_and_masks_are_read():
    """A convolution reads the image alone and the action joins it; a mask is the policy's
    business.
    """
    critic = critics.build(rl.CNN(features=(2,), hidden=(4,)), None, {"q": 1}, reads_action=True)
    params = jax.jit(lambda key: critics.init(key, critic, 2, jnp.ones((6, 6, 1)), jnp.zeros(3)))(
        jax.random.key(0)
    )
    batch = tree.replace(
        rows(LESSONS["aim"], 2), obs=jax.random.normal(jax.random.key(1), (2, 1, 6, 6, 1))
    )
    near, far = (
        critics.q_values(critic, params, batch, x * jnp.ones((2, 1, 3)))["q"] for x in (0.0, 1.0)
    )
    assert near.shape == (2, 2, 1, 1)
    assert not jnp.allclose(near, far)
    masked = rl.Masked(jnp.ones(3), jnp.array([False, True]))
    learner, env = rl.sac_discrete(**SOFT).learner, env_of(rl.sac_discrete())
    params = learner.init(jax.random.key(0), env.action_space, masked).params
    draw = lambda key: learner.explore(key, env, params, start_at(masked, ()), CLOCK)[1]
    assert (jax.vmap(draw)(jax.random.split(jax.random.key(0), 50)) == 1).all()
