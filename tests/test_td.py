"""Values fitted to a slow copy: the losses are their papers' formulas, the slow copy is slow, and
it learns.
"""

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


def slowly(name, q, reward, gamma, end, slow):
    best = max(slow)
    target = reward + gamma * (1 - end) * best
    if name == "dqn":
        return (q - target) ** 2
    if name == "dqn_reg":
        return 0.1 * q + (q - target) ** 2
    return max(q, (q - target) ** 2 + target) + max(q - target, 0.0 if end else gamma * best**2)


@every
def test_a_loss_is_the_paper_s_formula(name):
    rng = np.random.default_rng(0)
    values, slow, reward = rng.normal(size=(50, 3)), rng.normal(size=(50, 3)), rng.normal(size=50)
    action, end = rng.integers(0, 3, 50), rng.random(50) < 0.3
    floats = [jnp.asarray(x, jnp.float32) for x in (values, reward, 0.9 * (1 - end), slow)]
    prediction = Prediction(floats[0], jnp.asarray(action), *floats[1:], jnp.float32(0.0))
    rows = zip(values, action, reward, end, slow, strict=True)
    expected = [slowly(name, q[a], r, 0.9, float(d), following) for q, a, r, d, following in rows]
    np.testing.assert_allclose(CRITERIA[name](prediction), expected, rtol=1e-4, atol=1e-5)


@every
def test_it_learns_to_look_for_any_rate_of_the_slow_copy(name):
    def run(slow_rate, seed):
        rule = rl.TD(
            CRITERIA[name], slow_rate=slow_rate, exploration=rl.EpsilonGreedy(1.0, 0.05, 0.5)
        )
        return rl.train(
            seed, rl.OnPolicy(rule=rule, lr=1e-2, **SHAPE), Matching(), steps=5120, evals=2
        )[1]["evaluation"][-1]

    rates, seeds = jnp.array([0.1, 1.0]), jax.random.split(jax.random.key(0), 8)
    returns = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rates, seeds)
    assert np.all(np.median(returns, 1) == 1.0)


def test_a_target_is_of_the_slow_copy_which_follows_at_its_rate():
    env, algo = TimedOut(), rl.OnPolicy(rule=rl.TD(slow_rate=0.25), **SHAPE)
    state = algo.init(jax.random.key(0), env, 10)
    old = state.carry
    moved = rl.tree.replace(state, params=jax.tree.map(lambda x: x + 1.0, state.params))
    after, metrics = jax.jit(algo.update)(jax.random.key(1), env, moved)
    jax.tree.map(
        lambda slow, was, fast: np.testing.assert_allclose(
            slow, was + 0.25 * (fast - was), atol=1e-6
        ),
        after.carry,
        old,
        after.params,
    )
    assert np.isfinite(metrics["loss"])


def test_a_time_out_is_no_death():
    """Reward 1 for ever, cut off after 4 steps: 1 / (1 - 0.5), not less."""
    algo = rl.OnPolicy(rule=rl.TD(gamma=0.5), lr=1e-2, **SHAPE)
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, TimedOut(), steps=7680, evals=2, episodes=0)
    )(jax.random.key(0))
    assert metrics["value"][-1] == pytest.approx(2.0, abs=0.1)


def test_real_actions_are_refused():
    with pytest.raises(TypeError, match="TD takes actions of Discrete"):
        rl.train(0, rl.OnPolicy(rule=rl.TD()), Aim(), steps=10_000)


def test_a_loss_of_your_own_sees_the_life_go_by_and_a_memory_works_too():
    @rl.pytree
    class Careful:
        """The squared error, and for the first half of the life a price on high values."""

        price: float = 0.1

        def __call__(self, prediction):
            early = jnp.where(prediction.fraction < 0.5, self.price, 0.0)
            return prediction.error**2 + early * prediction.value

    algo = rl.OnPolicy(rule=rl.TD(Careful()), lr=1e-2, memory=rl.GRU(8), **SHAPE)
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, Matching(), steps=1280, evals=2, episodes=0)
    )(jax.random.key(0))
    assert np.all(np.isfinite(metrics["loss"]))
