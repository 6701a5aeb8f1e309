"""PQN: its returns against a loop, its schedule, its policy, its optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import transitions
from probes import Aim, Matching

import envs
import jaxrl as rl
from jaxrl import rollout
from jaxrl.clock import Clock
from jaxrl.optimizer import RAdam
from jaxrl.q_values import q_policy
from jaxrl.sweep import serialize

GAMMA = 0.9
NETWORK = rl.MLP((16,), jax.nn.relu, shared=True, layer_norm=True)
SMALL = dict(
    network=NETWORK,
    gamma=GAMMA,
    lr=1e-2,
    num_envs=8,
    num_steps=16,
    minibatches=4,
    schedule=rl.Constant(),
)


def make(**changes):
    return rl.pqn(**SMALL | changes)


def trained(algo, env, steps=128 * 60):
    return jax.jit(lambda key: rl.train(key, algo, env, steps=steps, evals=2, episodes=0))(
        jax.random.key(0)
    )


# ---------------------------------------------------------------------------------------- the parts


def test_targets_are_those_of_a_loop():
    T, B, n, lam, scale = 7, 3, 4, 0.6, 0.5
    rng = np.random.default_rng(0)
    q, next_q = rng.normal(size=(2, T, B, n)).astype(np.float32)
    reward, terminated = rng.normal(size=(T, B)).astype(np.float32), rng.random((T, B)) < 0.2
    truncated = (rng.random((T, B)) < 0.2) & ~terminated
    rule = rl.QLambda(GAMMA, lam, reward_scale=scale)
    clock = Clock(3, 10.0)
    mask = jnp.asarray(rng.random((T, B, n)) < 0.7).at[..., 0].set(True)
    outputs = lambda q, **more: {
        "q": q,
        "policy": rule.policy(rl.Discrete(n), {"q": q, **more}, clock),
    }
    batch = transitions(
        jnp.zeros((T, B), int), jnp.asarray(reward), terminated, jnp.asarray(truncated)
    )
    next_out = outputs(jnp.asarray(next_q), mask=mask)
    _, target = rule.targets((), outputs(jnp.asarray(q)), next_out, batch, clock)
    for b in range(B):
        following = None
        for t in reversed(range(T)):
            best = max(next_q[t, b, a] for a in range(n) if mask[t, b, a])
            if terminated[t, b]:
                value = 0.0
            elif truncated[t, b] or t == T - 1:
                value = best
            else:
                value = (1 - lam) * best + lam * following
            following = scale * reward[t, b] + GAMMA * value
            np.testing.assert_allclose(target[t, b], following, rtol=1e-5, atol=1e-6)


def test_the_loss_has_a_gradient_at_the_action_taken_only():
    rule, clock = rl.QLambda(), Clock(0, 1.0)
    batch = transitions(jnp.array([1, 0]), jnp.zeros(2), jnp.zeros(2))

    def loss(q):
        out = {"q": q, "policy": rule.policy(rl.Discrete(3), {"q": q}, clock)}
        return rule.loss(out, batch, jnp.array([2.0, -1.0]), clock)[0]

    value, grad = jax.value_and_grad(loss)(jnp.zeros((2, 3)))
    assert float(value) == pytest.approx(0.5 * (4.0 + 1.0) / 2)
    np.testing.assert_allclose(grad, [[0, -1, 0], [0.5, 0, 0]], atol=1e-6)


def test_epsilon_falls_to_its_end_over_a_fraction_of_the_training_run():
    schedule = rl.EpsilonGreedy(1.0, 0.1, 0.5)
    values = [float(schedule.epsilon(Clock(n, 10.0))) for n in (0, 1, 5, 9)]
    np.testing.assert_allclose(values, [1.0, 0.82, 0.1, 0.1], rtol=1e-6)
    assert float(schedule.epsilon(Clock(7, float("inf")))) == 1.0
    assert float(rl.EpsilonGreedy(0.3, 0.2, 0.0).epsilon(Clock(1, 10.0))) == pytest.approx(0.2)


def test_the_policy_is_epsilon_greedy():
    """Probabilities, entropy and samples against the definition; -inf is never sampled."""
    q = jnp.array([[1.0, 3.0, -jnp.inf, 2.0], [0.0, -jnp.inf, -jnp.inf, -1.0]])
    policy = q_policy(q, None, jnp.array([0.3, 1.0]))
    p = np.array([[0.1, 0.8, 0.0, 0.1], [0.5, 0.0, 0.0, 0.5]])
    for a in range(4):
        np.testing.assert_allclose(jnp.exp(policy.log_prob(jnp.full(2, a))), p[:, a], atol=1e-6)
    np.testing.assert_allclose(
        policy.entropy(), -np.sum(p * np.log(np.where(p > 0, p, 1)), -1), rtol=1e-5
    )
    np.testing.assert_array_equal(policy.mode(), [1, 0])
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 4000))
    shares = np.stack([(draws == a).mean(0) for a in range(4)], -1)
    np.testing.assert_allclose(shares, p, atol=0.03)
    assert (shares[p == 0] == 0).all()
    assert not jnp.isnan(
        jax.grad(lambda q: q_policy(q, None, 0.0).log_prob(jnp.array(1)))(jnp.arange(3.0))
    ).any()


def test_a_masked_action_is_neither_taken_nor_bootstrapped_from():
    rule, q = rl.QLambda(exploration=rl.EpsilonGreedy(1.0, 1.0)), jnp.array([5.0, 1.0, 2.0])
    policy = rule.policy(
        rl.Discrete(3), {"q": q, "mask": jnp.array([False, True, True])}, Clock(0, 1.0)
    )
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 500))
    assert set(np.unique(draws)) == {1, 2}
    assert int(policy.mode()) == 2
    assert float(policy.values.max()) == 2.0


def test_radam_equals_optax_s_and_has_a_gradient():
    """The same steps; and a meta-gradient through the first of them, where optax's is NaN."""
    grads = jax.random.normal(jax.random.key(0), (8, 3))

    def walk(optimizer, scale):
        params, state = jnp.ones(3), optimizer.init(jnp.ones(3))
        for grad in grads:
            changes, state = optimizer.update(scale * grad, state, params)
            params = optax.apply_updates(params, changes)
        return params

    np.testing.assert_allclose(walk(RAdam()(0.1), 1.0), walk(optax.radam(0.1), 1.0), rtol=1e-5)
    slope = jax.grad(lambda scale: walk(RAdam()(0.1), scale).sum())(1.0)
    assert np.isfinite(slope)
    assert slope != 0.0


# ---------------------------------------------------------------------------------------- it learns


@pytest.mark.parametrize("memory", [None, rl.GRU(8)], ids=["feedforward", "gru"])
def test_actions_depend_on_the_observation(memory):
    algo, env = make(memory=memory), Matching()
    state, metrics = trained(algo, env)
    policy = algo.policy(env, algo.agent(state), greedy=True)

    def greedy(obs):
        episode = rollout.reset(jax.random.key(0), env, policy.rnn_state)
        episode = rl.tree.replace(episode, obs=jnp.full(1, obs))
        return int(policy(jax.random.key(0), episode)[1])

    assert [greedy(obs) for obs in (-1.0, 1.0)] == [0, 1]
    assert metrics["return"][-1] > 0.7  # with exploration
    assert metrics["epsilon"][-1] == pytest.approx(0.05)


# ------------------------------------------------------------------ the contract of all algorithms


def test_it_can_be_stored_in_a_record():
    assert serialize.decode(serialize.encode(rl.pqn(gamma=0.5))) == rl.pqn(gamma=0.5)


def test_continuous_actions_are_refused():
    with pytest.raises(TypeError, match=r"QLambda takes actions of Discrete.*Box action space"):
        rl.pqn().init(jax.random.key(0), Aim())


@pytest.mark.rotate
def test_it_learns_cartpole():
    algo = rl.pqn(
        lr=1e-3, lam=0.95, reward_scale=0.1, num_envs=16, minibatches=8, epochs=4, network=NETWORK
    )
    train = lambda key: rl.train(
        key, algo, envs.make("CartPole-v1"), steps=100_000, evals=5, episodes=4
    )[1]
    metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 4))
    assert jnp.median(metrics["evaluation"][:, -1]) > 400
