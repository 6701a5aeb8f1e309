"""PQN: its returns against a loop, its schedule, its distribution, its optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import Choice, Matching

import envs
import jaxrl as rl
from jaxrl.algorithms.pqn import RAdam
from jaxrl.distributions import EpsilonGreedy
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock
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


def live(algo, env, steps=128 * 60):
    return jax.jit(lambda key: rl.train(key, algo, env, steps=steps, evals=2, episodes=0))(
        jax.random.key(0)
    )


def values(algo, env, state, obs):
    _, out = algo.look(env, state, algo.start(env), jnp.full(1, obs, jnp.float32))
    return np.asarray(out["q"])


# ---------------------------------------------------------------------------------------- the parts


def test_the_targets_are_those_of_a_loop():
    T, B, n, lam, scale = 7, 3, 4, 0.6, 0.5
    rng = np.random.default_rng(0)
    q, next_q = rng.normal(size=(2, T, B, n)).astype(np.float32)
    reward, terminated = rng.normal(size=(T, B)).astype(np.float32), rng.random((T, B)) < 0.2
    truncated = (rng.random((T, B)) < 0.2) & ~terminated
    rule = rl.QLambda(GAMMA, lam, reward_scale=scale)
    clock, zeros = Clock(3, 10.0), jnp.zeros((T, B))
    mask = jnp.asarray(rng.random((T, B, n)) < 0.7).at[..., 0].set(True)
    read = lambda q, **more: {
        "q": q,
        "policy": rule.policy(rl.Discrete(n), {"q": q, **more}, clock),
    }
    batch = Transition(
        zeros, jnp.zeros((T, B), int), reward, zeros, terminated, truncated, zeros, zeros, ()
    )
    batch = jax.tree.map(jnp.asarray, batch)
    _, target = rule.targets(
        (), read(jnp.asarray(q)), read(jnp.asarray(next_q), mask=mask), batch, clock
    )
    for b in range(B):
        follows = None
        for t in reversed(range(T)):
            best = max(next_q[t, b, a] for a in range(n) if mask[t, b, a])
            if terminated[t, b]:
                value = 0.0
            elif truncated[t, b] or t == T - 1:
                value = best
            else:
                value = (1 - lam) * best + lam * follows
            follows = scale * reward[t, b] + GAMMA * value
            np.testing.assert_allclose(target[t, b], follows, rtol=1e-5, atol=1e-6)


def test_the_loss_moves_the_chosen_action_s_value_alone():
    rule, clock, zeros = rl.QLambda(), Clock(0, 1.0), jnp.zeros(2)
    batch = Transition(zeros, jnp.array([1, 0]), zeros, zeros, zeros, zeros, zeros, zeros, ())

    def loss(q):
        out = {"q": q, "policy": rule.policy(rl.Discrete(3), {"q": q}, clock)}
        return rule.loss(out, batch, jnp.array([2.0, -1.0]), clock)[0]

    value, grad = jax.value_and_grad(loss)(jnp.zeros((2, 3)))
    assert float(value) == pytest.approx(0.5 * (4.0 + 1.0) / 2)
    np.testing.assert_allclose(grad, [[0, -1, 0], [0.5, 0, 0]], atol=1e-6)


def test_epsilon_falls_to_its_end_over_a_fraction_of_the_life():
    schedule = rl.EpsilonGreedy(1.0, 0.1, 0.5)
    told = [float(schedule.epsilon(Clock(n, 10.0))) for n in (0, 1, 5, 9)]
    np.testing.assert_allclose(told, [1.0, 0.82, 0.1, 0.1], rtol=1e-6)
    assert float(schedule.epsilon(Clock(7, float("inf")))) == 1.0
    assert float(rl.EpsilonGreedy(0.3, 0.2, 0.0).epsilon(Clock(1, 10.0))) == pytest.approx(0.2)


def test_epsilon_greedy_is_what_it_says():
    """Chances, entropy and draws against the definition; what is worth -inf is never drawn."""
    q = jnp.array([[1.0, 3.0, -jnp.inf, 2.0], [0.0, -jnp.inf, -jnp.inf, -1.0]])
    policy = EpsilonGreedy(q, jnp.array([0.3, 1.0]))
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
        jax.grad(lambda q: EpsilonGreedy(q, 0.0).log_prob(jnp.array(1)))(jnp.arange(3.0))
    ).any()


def test_a_masked_action_is_neither_played_nor_hoped_for():
    rule, q = rl.QLambda(exploration=rl.EpsilonGreedy(1.0, 1.0)), jnp.array([5.0, 1.0, 2.0])
    policy = rule.policy(
        rl.Discrete(3), {"q": q, "mask": jnp.array([False, True, True])}, Clock(0, 1.0)
    )
    draws = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 500))
    assert set(np.unique(draws)) == {1, 2}
    assert int(policy.mode()) == 2
    assert float(policy.values.max()) == 2.0


def test_radam_is_optax_s_and_has_a_gradient():
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
def test_actions_are_chosen_by_what_is_seen(memory):
    algo, env = make(memory=memory), Matching()
    state, metrics = live(algo, env)
    look = lambda obs: algo.act(jax.random.key(0), env, state, algo.start(env), jnp.full(1, obs))[1]
    assert [int(look(obs)) for obs in (-1.0, 1.0)] == [0, 1]
    assert metrics["return"][-1] > 0.7  # but for what it explores
    assert metrics["epsilon"][-1] == pytest.approx(0.05)


# -------------------------------------------------------------------- what every algorithm promises


def test_a_policy_without_a_clock_acts():
    """What a sweep's folder keeps of a state is its parameters."""
    algo, env = make(), Choice()
    state = algo.init(jax.random.key(0), env)
    bare = rl.tree.replace(jax.eval_shape(lambda: state), params=state.params)
    assert (
        algo.act(jax.random.key(1), env, bare, (), jnp.zeros(1))[1]
        == algo.act(jax.random.key(1), env, state, (), jnp.zeros(1))[1]
    )


def test_a_folder_alone_names_it():
    assert serialize.decode(serialize.encode(rl.pqn(gamma=0.5))) == rl.pqn(gamma=0.5)


def test_real_actions_are_refused():
    from probes import Aim

    with pytest.raises(TypeError, match=r"QLambda takes actions of Discrete.*Box action space"):
        rl.pqn().init(jax.random.key(0), Aim())


@pytest.mark.rotate
def test_cartpole_is_learnt():
    algo = rl.pqn(
        lr=1e-3, lam=0.95, reward_scale=0.1, num_envs=16, minibatches=8, epochs=4, network=NETWORK
    )
    train = lambda key: rl.train(
        key, algo, envs.make("CartPole-v1"), steps=100_000, evals=5, episodes=4
    )[1]
    metrics = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 4))
    assert jnp.median(metrics["evaluation"][:, -1]) > 400
