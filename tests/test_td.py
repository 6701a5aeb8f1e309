"""TD: its losses against their papers' formulas, its target network, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Aim, Matching, TimedOut

import jaxrl as rl
from jaxrl import rules
from jaxrl.rules.td import Prediction

CRITERIA = {
    "dqn": rules.SquaredError(),
    "dqn_reg": rules.DQNReg(),
    "dqn_clipped": rules.DQNClipped(),
}
every = pytest.mark.parametrize("name", CRITERIA)
SHAPE = {"num_envs": 8, "num_steps": 8, "minibatches": 2, "network": rl.MLP((16,))}


def by_hand(name, q, reward, gamma, end, next_values):
    best = max(next_values)
    target = reward + gamma * (1 - end) * best
    if name == "dqn":
        return (q - target) ** 2
    if name == "dqn_reg":
        return 0.1 * q + (q - target) ** 2
    return max(q, (q - target) ** 2 + target) + max(q - target, 0.0 if end else gamma * best**2)


@every
def test_a_loss_is_the_paper_s_formula(name):
    rng = np.random.default_rng(0)
    values, next_values = rng.normal(size=(2, 50, 3))
    reward = rng.normal(size=50)
    action, end = rng.integers(0, 3, 50), rng.random(50) < 0.3
    prediction = Prediction(
        values=jnp.asarray(values, jnp.float32),
        action=jnp.asarray(action),
        reward=jnp.asarray(reward, jnp.float32),
        discount=jnp.asarray(0.9 * (1 - end), jnp.float32),
        next_values=jnp.asarray(next_values, jnp.float32),
        fraction=jnp.float32(0.0),
    )
    expected = [
        by_hand(name, q[a], r, 0.9, float(d), following)
        for q, a, r, d, following in zip(values, action, reward, end, next_values, strict=True)
    ]
    np.testing.assert_allclose(CRITERIA[name](prediction), expected, rtol=1e-4, atol=1e-5)


@every
def test_it_learns_for_any_rate_of_the_target_network(name):
    def run(tau, seed):
        rule = rl.TD(CRITERIA[name], tau=tau, exploration=rl.EpsilonGreedy(1.0, 0.05, 0.5))
        return rl.train(
            seed, rl.OnPolicy(rule=rule, lr=1e-2, **SHAPE), Matching(), steps=5120, evals=2
        )[1]["evaluation"][-1]

    rates, seeds = jnp.array([0.1, 1.0]), jax.random.split(jax.random.key(0), 8)
    returns = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rates, seeds)
    assert np.all(np.median(returns, 1) == 1.0)


def test_the_target_network_moves_by_tau():
    env, algo = TimedOut(), rl.OnPolicy(rule=rl.TD(tau=0.25), **SHAPE)
    state = algo.init(jax.random.key(0), env, 10)
    old = state.rule_state
    moved = rl.tree.replace(state, params=jax.tree.map(lambda x: x + 1.0, state.params))
    after, metrics = jax.jit(algo.update)(jax.random.key(1), env, moved)
    jax.tree.map(
        lambda target, was, new: np.testing.assert_allclose(
            target, was + 0.25 * (new - was), atol=1e-6
        ),
        after.rule_state,
        old,
        after.params,
    )
    assert np.isfinite(metrics["loss"])


def test_a_time_limit_is_not_a_termination():
    """Reward 1 at every step, truncated after 4: the value is 1 / (1 - 0.5)."""
    algo = rl.OnPolicy(rule=rl.TD(gamma=0.5), lr=1e-2, **SHAPE)
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, TimedOut(), steps=7680, evals=2, episodes=0)
    )(jax.random.key(0))
    assert metrics["value"][-1] == pytest.approx(2.0, abs=0.1)


def test_continuous_actions_are_refused():
    with pytest.raises(TypeError, match="TD takes actions of Discrete"):
        rl.train(0, rl.OnPolicy(rule=rl.TD()), Aim(), steps=10_000)


def test_a_loss_of_your_own_may_depend_on_the_clock_and_a_memory_works():
    @rl.pytree
    class Careful(rules.ValueLoss):
        """The squared error, with a price on high values in the first half of the training run."""

        price: float = 0.1

        def __call__(self, prediction):
            early = jnp.where(prediction.fraction < 0.5, self.price, 0.0)
            return prediction.error**2 + early * prediction.value

    algo = rl.OnPolicy(rule=rl.TD(Careful()), lr=1e-2, memory=rl.GRU(8), **SHAPE)
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, Matching(), steps=1280, evals=2, episodes=0)
    )(jax.random.key(0))
    assert np.all(np.isfinite(metrics["loss"]))
