"""The policy-optimisation family: its mathematics against sums written slowly."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import quick
from probes import Matching

import jaxrl as rl
from jaxrl import rollout, rules
from jaxrl.algorithms.trust_region import TrustRegion, conjugate_gradients, natural_step
from jaxrl.distributions import Categorical
from jaxrl.env import Env, Step
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock
from jaxrl.tree import pytree, static

SMALL = dict(network=rl.MLP(()), num_envs=8, num_steps=1)
NAMES = [
    "a2c",
    "dpo",
    "grpo",
    "impala",
    "mdpo",
    "ppo",
    "ppo_penalty",
    "reinforce",
    "remax",
    "rloo",
    "spo",
    "trpo",
]


# --------------------------------------------------------------------------------------- the makers


@pytest.mark.parametrize("name", NAMES)
def test_every_float_of_a_maker_is_a_field_of_that_name(name):
    """So that a sweep and the command line find it."""
    algo = rl.ALGORITHMS[name]()
    for key, value in inspect.signature(rl.ALGORITHMS[name]).parameters.items():
        if value.kind is value.KEYWORD_ONLY:
            path = rl.tree.find(algo, key).split(".")
            assert functools.reduce(getattr, path, algo) == value.default
            changed = rl.ALGORITHMS[name](
                **{key: 0.25 if isinstance(value.default, float) else value.default}
            )
            assert (
                isinstance(value.default, int) or functools.reduce(getattr, path, changed) == 0.25
            )


# ---------------------------------------------------------------------------- objectives, penalties


def drift(ratio, advantage, alpha, beta):
    """DPO's (Lu et al., 2022), as the paper writes it."""
    x = (ratio - 1) * advantage if advantage >= 0 else np.log(ratio) * advantage
    scale = alpha if advantage >= 0 else beta
    return max(0.0, x - scale * np.tanh(x / scale))


@pytest.mark.parametrize("advantage", [-2.0, -0.3, 0.0, 0.7, 3.0])
def test_objectives_are_the_papers_equations(advantage):
    ratio = np.array([0.2, 0.7, 1.0, 1.3, 4.0])
    at = jnp.asarray(ratio, jnp.float32), jnp.full(5, advantage)
    expected = [r * advantage - drift(r, advantage, 2.0, 0.6) for r in ratio]
    np.testing.assert_allclose(rl.DPO()(*at), expected, rtol=1e-5, atol=1e-6)
    expected = [r * advantage - abs(advantage) / (2 * 0.2) * (r - 1) ** 2 for r in ratio]
    np.testing.assert_allclose(rl.SPO(0.2)(*at), expected, rtol=1e-5, atol=1e-6)
    for objective in (rl.DPO(), rl.SPO(), rl.Clip(), rl.PolicyGradient()):
        assert float(
            jax.grad(objective)(jnp.float32(1.0), jnp.float32(advantage))
        ) == pytest.approx(advantage)
    top = 1.0 + 0.2 * np.sign(advantage)  # where SPO is flat
    assert float(jax.grad(rl.SPO(0.2))(jnp.float32(top), jnp.float32(advantage))) == pytest.approx(
        0.0, abs=1e-5
    )


def test_dpo_is_finite_where_a_chance_has_vanished():
    value, slope = jax.value_and_grad(rl.DPO())(jnp.float32(0.0), jnp.float32(-1.0))
    assert np.isfinite(value)
    assert np.isfinite(slope)


def test_the_step_size_of_mirror_descent_goes_to_nothing_in_a_life():
    weights = [float(rules.MirrorDescent(0.5).weigh((), Clock(n, 10.0))) for n in (0, 5, 9, 10)]
    np.testing.assert_allclose(weights, [2.0, 4.0, 20.0, 200.0], rtol=1e-4)
    assert float(rules.MirrorDescent(0.5).weigh((), Clock(7, float("inf")))) == 2.0


def test_beta_follows_the_distance():
    penalty = rules.AdaptivePenalty(beta=3.0, target_kl=0.01)
    beta = penalty.init()
    for distance, factor in ((0.0066, 0.5), (0.0068, 1.0), (0.0149, 1.0), (0.0151, 2.0)):
        assert float(penalty.settle(beta, jnp.float32(distance))) == pytest.approx(3.0 * factor)


@pytest.mark.parametrize(
    ("penalty", "forward"), [(rules.AdaptivePenalty(2.0), True), (rules.MirrorDescent(0.5), False)]
)
def test_a_penalty_is_its_exact_kl(penalty, forward):
    """KL(old || new) for PPO, KL(new || old) for mirror descent, at weight 2."""
    old, new = np.array([[0.2, 0.5, 0.3]] * 2), np.array([[0.4, 0.4, 0.2], [0.2, 0.5, 0.3]])
    a, b = (old, new) if forward else (new, old)
    expected = 2.0 * (a * np.log(a / b)).sum(-1).mean()
    rule = rl.Surrogate(rl.PolicyGradient(), normalize_advantage=False, penalty=penalty)
    none, zeros = jnp.zeros((2, 1), bool), jnp.zeros((2, 1))
    batch = Transition(zeros, jnp.zeros((2, 1), int), zeros, zeros, none, none, zeros, zeros, ())
    out = {
        "value": zeros[..., None],
        "policy": Categorical(jnp.log(jnp.asarray(old, jnp.float32))[:, None]),
    }
    _, targets = rule.targets(penalty.init(), out, out, batch, Clock(0, 10.0))
    moved = out | {"policy": Categorical(jnp.log(jnp.asarray(new, jnp.float32))[:, None])}
    loss, _, metrics = rule.policy_loss(moved, batch, targets, Clock(0, 10.0))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert float(metrics["penalty_weight"]) == 2.0
    if forward:
        settled = rule.settle(penalty.init(), {}, lambda: moved, targets)
        np.testing.assert_allclose(settled, 4.0 if expected / 2.0 > 0.015 else 2.0)


def test_without_a_baseline_an_advantage_is_what_is_left_of_the_return():
    rule = rl.Surrogate(rl.PolicyGradient(), gamma=0.9, lam=1.0, baseline=False)
    reward = np.arange(1.0, 7.0)
    terminated = np.array([0, 0, 1, 0, 0, 0], bool)
    expected = [
        sum(0.9**k * reward[t + k] for k in range((3 if t < 3 else 6) - t)) for t in range(6)
    ]
    column = lambda x: jnp.asarray(x)[:, None]
    zeros = jnp.zeros((6, 1))
    batch = Transition(
        zeros,
        jnp.zeros((6, 1), int),
        column(reward),
        zeros,
        column(terminated),
        jnp.zeros((6, 1), bool),
        zeros,
        zeros,
        (),
    )
    out = {"value": jnp.full((6, 1, 1), 7.0), "policy": Categorical(jnp.zeros((6, 1, 2)))}
    _, targets = rule.targets((), out, out, batch, Clock(0, 1.0))
    np.testing.assert_allclose(targets.advantage[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(targets.value_target[:, 0], expected, rtol=1e-5)


# --------------------------------------------------------------------------------------------- TRPO


def positive(n, seed=0):
    root = np.random.default_rng(seed).normal(size=(n, n))
    return root @ root.T / n + 0.5 * np.eye(n)


def test_conjugate_gradients_solve_as_the_inverse_does():
    matrix, b = positive(6), np.random.default_rng(1).normal(size=6)
    a, b32 = jnp.asarray(matrix, jnp.float32), jnp.asarray(b, jnp.float32)
    x, product = conjugate_gradients(lambda v: a @ v, b32, 10)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(product, b, rtol=1e-3, atol=1e-4)
    assert not np.any(conjugate_gradients(lambda v: a @ v, jnp.zeros(6), 10)[0])


def test_the_natural_step_is_the_quadratic_model_s():
    """A linear worth and a quadratic distance, solved by hand; then one that bends down, so that it
    must be halved.
    """
    matrix, gradient = positive(5), np.random.default_rng(1).normal(size=5)
    h, g = jnp.asarray(matrix, jnp.float32), jnp.asarray(gradient, jnp.float32)
    distance = lambda x: 0.5 * (x - 1.0) @ h @ (x - 1.0)
    direction = np.linalg.solve(matrix + 0.1 * np.eye(5), gradient)
    expected = direction * np.sqrt(2 * 0.01 / (direction @ (matrix + 0.1 * np.eye(5)) @ direction))

    def take(bend):
        worth = lambda x: g @ x - bend * jnp.sum((x - 1.0) ** 2)
        return natural_step(worth, distance, jnp.ones(5), 0.01, 0.1)

    moved, metrics = quick(take)(0.0)
    np.testing.assert_allclose(moved - 1.0, expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["improvement"], gradient @ expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["kl"], 0.5 * expected @ matrix @ expected, rtol=1e-3)
    assert metrics["kl"] <= 0.01
    bend = (
        3.0 * (gradient @ expected) / (expected @ expected)
    )  # at full length it is worse by twice the slope's gain
    scales = [
        s
        for s in 0.5 ** np.arange(10)
        if s * gradient @ expected > bend * s**2 * expected @ expected
    ]
    moved, metrics = quick(take)(jnp.float32(bend))
    assert float(metrics["step_scale"]) == scales[0] == 0.25
    np.testing.assert_allclose(moved - 1.0, 0.25 * expected, rtol=1e-3)
    still, metrics = quick(take)(jnp.float32(1e6))
    np.testing.assert_array_equal(still, jnp.ones(5))
    assert (
        float(metrics["kl"]) == float(metrics["improvement"]) == float(metrics["step_scale"]) == 0.0
    )


def test_trpo_meets_its_constraint_and_the_value_function_is_fitted_beside_it():
    """The exact KL of the whole update is that of the step, even if policy and value share a tower;
    so is the gain.
    """
    algo = rl.trpo(network=rl.MLP((8,), shared=True), num_envs=4, num_steps=8, max_kl=0.02, lr=1e-2)
    env = Luck()

    @quick
    def update(key):
        key_init, key = jax.random.split(key)
        state = algo.init(key_init, env)
        policy = lambda key, memory, obs: algo.explore(key, env, state, memory, obs)
        _, batch = rollout.rollout(jax.random.split(key)[0], env, policy, state.episodes, 8)
        look = lambda state: jax.vmap(jax.vmap(lambda obs: algo.look(env, state, (), obs)[1]))(
            batch.obs
        )
        learnt, metrics = algo.update(key, env, state)
        before, after = look(state), look(learnt)
        _, (_, _, targets, _) = algo._prepare(env, state, batch)
        gain = (
            jnp.exp(
                after["policy"].log_prob(batch.action) - before["policy"].log_prob(batch.action)
            )
            - 1.0
        )
        advantage = targets.advantage.reshape(8, 4)
        gain = (gain * (advantage - advantage.mean()) / advantage.std()).mean()
        error = lambda out: jnp.mean(
            (out["value"][..., 0] - targets.value_target.reshape(8, 4)) ** 2
        )
        return (
            metrics,
            before["policy"].kl(after["policy"]).mean(),
            gain,
            error(before),
            error(after),
        )

    with jax.debug_key_reuse(
        False
    ):  # the rollout is played twice with one key, to see what the update saw
        metrics, kl, gain, before, after = update(jax.random.key(0))
    assert 0.0 < float(metrics["kl"]) <= 0.02
    assert float(metrics["improvement"]) > 0.0
    np.testing.assert_allclose(kl, metrics["kl"], rtol=1e-3)
    np.testing.assert_allclose(gain, metrics["improvement"], rtol=1e-2, atol=1e-5)
    assert after < before


# ------------------------------------------------------------------------------------------- IMPALA


def test_v_trace_is_the_paper_s_sums():
    """Targets and advantages of trajectories that end in every way, from the learner's own values
    and ratios.
    """
    num, steps, gamma, lam, max_rho, max_c = 3, 6, 0.9, 0.8, 1.2, 0.9
    random = np.random.default_rng(0)
    reward, value, late = (random.normal(size=(num, steps)) for _ in range(3))
    ratio = np.exp(random.normal(size=(num, steps)))
    terminated, truncated = np.zeros((2, num, steps), bool)
    terminated[0, 2] = truncated[1, 3] = terminated[2, 5] = True
    done = terminated | truncated
    expected_target, expected_advantage = np.zeros((2, num, steps))
    for i in range(num):
        for t in reversed(range(steps)):
            last = done[i, t] or t == steps - 1
            follows = late[i, t] if last else value[i, t + 1]
            rho, c = min(ratio[i, t], max_rho), lam * min(ratio[i, t], max_c)
            delta = rho * (reward[i, t] + gamma * (not terminated[i, t]) * follows - value[i, t])
            more = 0.0 if last else expected_target[i, t + 1] - value[i, t + 1]
            expected_target[i, t] = value[i, t] + delta + gamma * c * more
            then = late[i, t] if last else expected_target[i, t + 1]
            expected_advantage[i, t] = rho * (
                reward[i, t] + gamma * (not terminated[i, t]) * then - value[i, t]
            )
    real = lambda x: jnp.asarray(x, jnp.float32)
    zeros, action = jnp.zeros((num, steps)), jnp.asarray(random.integers(0, 3, (num, steps)))
    batch = Transition(
        zeros,
        action,
        real(reward),
        zeros,
        jnp.asarray(terminated),
        jnp.asarray(truncated),
        zeros,
        zeros,
        (),
    )
    policy = Categorical(real(random.normal(size=(num, steps, 3))))
    rule = rules.VTrace(gamma, lam, max_rho, max_c, entropy_weight=0.0, value_weight=2.0)
    behaviour = rules.vtrace.Behaviour(policy.log_prob(action) - jnp.log(real(ratio)), real(late))

    def loss(logits, value):
        return rule.loss(
            {"policy": Categorical(logits), "value": value[..., None]},
            batch,
            behaviour,
            Clock(0, 1.0),
        )

    grads, metrics = jax.grad(loss, (0, 1), has_aux=True)(policy.logits, real(value))
    error = expected_target - value
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(grads[1], -2.0 * error / error.size, rtol=1e-3, atol=1e-5)
    score = np.eye(3)[np.asarray(action)] - np.asarray(jax.nn.softmax(policy.logits))
    np.testing.assert_allclose(
        grads[0], -expected_advantage[..., None] * score / error.size, rtol=1e-3, atol=1e-5
    )


# ------------------------------------------------------------------------------------------- groups


@pytree
class Luck(Env):
    """A random start, noisy rewards, and an end that comes by chance or after `max_steps`."""

    max_steps: int = static(default=6)
    action_space = rl.Discrete(2)

    def reset(self, key):
        x = jax.random.normal(key, (1,))
        return x, x

    def step(self, key, state, action):
        key_reward, key_end = jax.random.split(key)
        state = state + action
        reward = state[0] + jax.random.normal(key_reward)
        return state, Step(state, reward, jax.random.bernoulli(key_end, 0.3), {})


def by_hand(name, returns):
    """Advantages of one group's returns, as a loop."""
    found = []
    for i, ret in enumerate(returns):
        others = [r for j, r in enumerate(returns) if j != i]
        if name == "rloo":
            found.append(ret - sum(others) / len(others))
        elif name == "grpo":
            found.append((ret - np.mean(returns)) / np.std(returns))
        else:
            found.append(ret - returns[-1])
    return found


@pytest.mark.parametrize(
    ("name", "num_steps"), [("rloo", 6), ("grpo", 3), ("remax", 6), ("remax", 3)]
)
def test_a_group_begins_alike_and_is_judged_by_its_siblings(name, num_steps):
    algo = rl.ALGORITHMS[name](
        num_envs=8,
        num_steps=num_steps,
        group_size=4,
        gamma=0.9,
        network=rl.MLP((4,)),
        normalize_reward=True,
    )
    env, sampled = Luck(), np.arange(8) % 4 < (3 if name == "remax" else 4)

    @quick
    def play(key):
        key_init, key_play = jax.random.split(key)
        state = algo.init(key_init, env)
        how = [
            lambda key, memory, obs, act=act: act(key, env, state, memory, obs)
            for act in (algo.explore, algo.act)
        ]
        begun, _, batch = algo.rule.play(key_play, env, *how, state.episodes, num_steps)
        greedy = jax.vmap(jax.vmap(lambda obs: algo.act(key_play, env, state, (), obs)[1]))(
            batch.obs
        )
        _, (_, _, targets, _) = algo._prepare(env, rl.tree.replace(state, episodes=begun), batch)
        return (
            begun,
            batch,
            greedy,
            jax.tree.map(lambda x: x.reshape(num_steps, 8, *x.shape[1:]), targets),
        )

    with jax.debug_key_reuse(False):  # the greedy action's key is not used
        begun, batch, greedy, targets = play(jax.random.key(0))
    np.testing.assert_array_equal(begun.state, np.repeat(begun.state[::4], 4, axis=0))
    assert begun.state[0] != begun.state[4]
    np.testing.assert_array_equal(batch.obs[0], begun.obs)
    assert len(np.unique(batch.reward[0])) == 8  # each member has luck of its own
    np.testing.assert_array_equal(batch.action[:, ~sampled], greedy[:, ~sampled])
    batch = jax.tree.map(np.asarray, batch)
    first = (
        batch.length == np.arange(1, num_steps + 1)[:, None]
    )  # later episodes are younger than the rollout
    assert (batch.done.sum(0) <= 1).all()
    assert not batch.done[:, ~sampled].any()
    over = np.vstack([np.zeros((1, 8), bool), batch.done[:-1]]).cumsum(0) > 0
    np.testing.assert_array_equal(~first[:, sampled], over[:, sampled])
    returns = np.zeros(8)
    for i in range(8):
        for t in range(first[:, i].sum()):
            returns[i] += 0.9**t * float(batch.reward[t, i])
        np.testing.assert_allclose(
            np.sum(batch.reward[:, i]), batch.ret[first[:, i].sum() - 1, i], rtol=1e-4, atol=1e-5
        )
    expected = np.concatenate([by_hand(name, returns[:4]), by_hand(name, returns[4:])])
    np.testing.assert_allclose(
        targets.advantage, np.broadcast_to(expected, (num_steps, 8)), rtol=1e-3, atol=1e-4
    )
    counts = first * sampled
    weight = counts / (first.sum(0) * sampled.sum()) if name == "grpo" else counts / counts.sum()
    np.testing.assert_allclose(targets.weight, weight * counts.size, rtol=1e-5)


def test_a_greedy_episode_is_a_step_of_experience_and_no_return():
    algo = rl.remax(**SMALL)
    assert algo.steps_per_update == 8
    update = quick(
        lambda key: algo.update(key, Matching(), algo.init(jax.random.key(0), Matching()))
    )
    assert int(update(jax.random.key(1))[1]["episodes"]) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.rloo(group_size=1), "among two episodes or more"),
        (
            lambda: rl.train(0, rl.rloo(group_size=3), Luck(), steps=2048, evals=1),
            "not divide.*16",
        ),
        (lambda: rl.impala(num_envs=6), "whole trajectories"),
    ],
)
def test_counts_that_do_not_fit_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_step_of_its_own_is_a_value():
    algo = rl.OnPolicy(
        rule=rl.Surrogate(rl.PolicyGradient()), policy_step=TrustRegion(0.05), epochs=2
    )
    assert rl.tree.find(algo, "max_kl") == "policy_step.max_kl"
