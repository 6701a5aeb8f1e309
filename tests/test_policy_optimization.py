"""Policy optimisation: objectives, penalties, TRPO, V-trace and groups against sums as loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import transitions
from members import quick
from probes import Matching

import jaxrl as rl
from jaxrl import rollout, rules
from jaxrl.algorithms.trust_region import TrustRegion, conjugate_gradients, natural_step
from jaxrl.clock import Clock
from jaxrl.distributions import Categorical
from jaxrl.env import Env, Step
from jaxrl.rules.vtrace import VTraceTargets
from jaxrl.tree import pytree, static

SMALL = dict(network=rl.MLP(()), num_envs=8, num_steps=1)

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


def test_dpo_is_finite_at_a_probability_of_zero():
    value, slope = jax.value_and_grad(rl.DPO())(jnp.float32(0.0), jnp.float32(-1.0))
    assert np.isfinite(value)
    assert np.isfinite(slope)


def test_the_step_size_of_mirror_descent_falls_to_zero_over_the_training_run():
    weights = [float(rules.MirrorDescent(0.5).weight((), Clock(n, 10.0))) for n in (0, 5, 9, 10)]
    np.testing.assert_allclose(weights, [2.0, 4.0, 20.0, 200.0], rtol=1e-4)
    assert float(rules.MirrorDescent(0.5).weight((), Clock(7, float("inf")))) == 2.0


def test_beta_adapts_to_the_distance():
    penalty = rules.AdaptivePenalty(beta=3.0, target_kl=0.01)
    beta = penalty.init()
    for distance, factor in ((0.0066, 0.5), (0.0068, 1.0), (0.0149, 1.0), (0.0151, 2.0)):
        new_beta = penalty.post_update(beta, jnp.float32(distance))
        assert float(new_beta) == pytest.approx(3.0 * factor)


@pytest.mark.parametrize(
    ("penalty", "forward"), [(rules.AdaptivePenalty(2.0), True), (rules.MirrorDescent(0.5), False)]
)
def test_a_penalty_is_the_exact_kl(penalty, forward):
    """KL(old || new) for PPO, KL(new || old) for mirror descent, at weight 2."""
    old, new = np.array([[0.2, 0.5, 0.3]] * 2), np.array([[0.4, 0.4, 0.2], [0.2, 0.5, 0.3]])
    a, b = (old, new) if forward else (new, old)
    expected = 2.0 * (a * np.log(a / b)).sum(-1).mean()
    rule = rl.Surrogate(rl.PolicyGradient(), normalize_advantage=False, penalty=penalty)
    zeros = jnp.zeros((2, 1))
    batch = transitions(jnp.zeros((2, 1), int), zeros, zeros)
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
        new_beta = rule.post_update(penalty.init(), {}, lambda: moved, targets)
        np.testing.assert_allclose(new_beta, 4.0 if expected / 2.0 > 0.015 else 2.0)


def test_a_penalty_without_a_state_costs_no_forward_pass():
    def forward():
        raise AssertionError("the heads after the update are not needed")

    for penalty in (rules.MirrorDescent(), rules.FixedPenalty(0.1), None):
        rule = rl.Surrogate(penalty=penalty)
        assert rule.post_update(rule.init(jax.random.key(0), {}), {}, forward, None) == ()


def test_without_a_baseline_an_advantage_is_the_return_from_there():
    rule = rl.Surrogate(rl.PolicyGradient(), gamma=0.9, lam=1.0, baseline=False)
    reward = np.arange(1.0, 7.0)
    terminated = np.array([0, 0, 1, 0, 0, 0], bool)
    expected = [
        sum(0.9**k * reward[t + k] for k in range((3 if t < 3 else 6) - t)) for t in range(6)
    ]
    column = lambda x: jnp.asarray(x)[:, None]
    batch = transitions(jnp.zeros((6, 1), int), column(reward), column(terminated))
    out = {"value": jnp.full((6, 1, 1), 7.0), "policy": Categorical(jnp.zeros((6, 1, 2)))}
    _, targets = rule.targets((), out, out, batch, Clock(0, 1.0))
    np.testing.assert_allclose(targets.advantage[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(targets.value_target[:, 0], expected, rtol=1e-5)


# --------------------------------------------------------------------------------------------- TRPO


def positive(n, seed=0):
    root = np.random.default_rng(seed).normal(size=(n, n))
    return root @ root.T / n + 0.5 * np.eye(n)


def test_conjugate_gradients_solve_a_linear_system():
    matrix, b = positive(6), np.random.default_rng(1).normal(size=6)
    a, b32 = jnp.asarray(matrix, jnp.float32), jnp.asarray(b, jnp.float32)
    x, product = conjugate_gradients(lambda v: a @ v, b32, 10)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(product, b, rtol=1e-3, atol=1e-4)
    assert not np.any(conjugate_gradients(lambda v: a @ v, jnp.zeros(6), 10)[0])


def test_the_natural_step_is_the_quadratic_model_s():
    """A linear objective and a quadratic distance, solved by hand; then an objective with a
    negative curvature, for which the step is halved.
    """
    matrix, gradient = positive(5), np.random.default_rng(1).normal(size=5)
    h, g = jnp.asarray(matrix, jnp.float32), jnp.asarray(gradient, jnp.float32)
    distance = lambda x: 0.5 * (x - 1.0) @ h @ (x - 1.0)
    direction = np.linalg.solve(matrix + 0.1 * np.eye(5), gradient)
    expected = direction * np.sqrt(2 * 0.01 / (direction @ (matrix + 0.1 * np.eye(5)) @ direction))

    def take(curvature):
        objective = lambda x: g @ x - curvature * jnp.sum((x - 1.0) ** 2)
        return natural_step(objective, distance, jnp.ones(5), 0.01, 0.1)

    moved, metrics = quick(take)(0.0)
    np.testing.assert_allclose(moved - 1.0, expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["improvement"], gradient @ expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["kl"], 0.5 * expected @ matrix @ expected, rtol=1e-3)
    assert metrics["kl"] <= 0.01
    # at full length the objective falls by twice the gain of the linear term
    curvature = 3.0 * (gradient @ expected) / (expected @ expected)
    scales = [
        s
        for s in 0.5 ** np.arange(10)
        if s * gradient @ expected > curvature * s**2 * expected @ expected
    ]
    moved, metrics = quick(take)(jnp.float32(curvature))
    assert float(metrics["step_scale"]) == scales[0] == 0.25
    np.testing.assert_allclose(moved - 1.0, 0.25 * expected, rtol=1e-3)
    still, metrics = quick(take)(jnp.float32(1e6))
    np.testing.assert_array_equal(still, jnp.ones(5))
    assert (
        float(metrics["kl"]) == float(metrics["improvement"]) == float(metrics["step_scale"]) == 0.0
    )


def test_trpo_satisfies_its_constraint_and_fits_the_value_function():
    """The exact KL and gain of the whole update are those of the policy step, also where policy and
    value share a tower.
    """
    algo = rl.trpo(network=rl.MLP((8,), shared=True), num_envs=4, num_steps=8, max_kl=0.02, lr=1e-2)
    env = Noisy()

    @quick
    def update(key):
        key_init, key = jax.random.split(key)
        state = algo.init(key_init, env)
        policy = algo.policy(env, algo.agent(state), greedy=False)
        _, batch = rollout.rollout(jax.random.split(key)[0], env, policy, state.episodes, 8)

        def outputs(state):
            forward = lambda obs: algo.forward(env, algo.agent(state), (), obs)[1]
            return jax.vmap(jax.vmap(forward))(batch.obs)

        new_state, metrics = algo.update(key, env, state)
        before, after = outputs(state), outputs(new_state)
        targets = algo._prepare(env, state, (), batch)[1].targets
        log_ratio = after["policy"].log_prob(batch.action) - before["policy"].log_prob(batch.action)
        advantage = targets.advantage.reshape(8, 4)
        scaled = (advantage - advantage.mean()) / advantage.std()
        gain = ((jnp.exp(log_ratio) - 1.0) * scaled).mean()
        value_target = targets.value_target.reshape(8, 4)
        error = lambda out: jnp.mean((out["value"][..., 0] - value_target) ** 2)
        kl = before["policy"].kl(after["policy"]).mean()
        return metrics, kl, gain, error(before), error(after)

    # the rollout is played twice with one key, for the batch of the update
    with jax.debug_key_reuse(False):
        metrics, kl, gain, before, after = update(jax.random.key(0))
    assert 0.0 < float(metrics["kl"]) <= 0.02
    assert float(metrics["improvement"]) > 0.0
    np.testing.assert_allclose(kl, metrics["kl"], rtol=1e-3)
    np.testing.assert_allclose(gain, metrics["improvement"], rtol=1e-2, atol=1e-5)
    assert after < before


# ------------------------------------------------------------------------------------------- IMPALA


def test_v_trace_is_the_paper_s_sums():
    """Targets and advantages of trajectories with all kinds of ends, from the learner's values and
    ratios.
    """
    num, steps, gamma, lam, max_rho, max_c = 3, 6, 0.9, 0.8, 1.2, 0.9
    random = np.random.default_rng(0)
    reward, value, old_next_value = (random.normal(size=(num, steps)) for _ in range(3))
    ratio = np.exp(random.normal(size=(num, steps)))
    terminated, truncated = np.zeros((2, num, steps), bool)
    terminated[0, 2] = truncated[1, 3] = terminated[2, 5] = True
    done = terminated | truncated
    expected_target, expected_advantage = np.zeros((2, num, steps))
    for i in range(num):
        for t in reversed(range(steps)):
            last = done[i, t] or t == steps - 1
            following = old_next_value[i, t] if last else value[i, t + 1]
            rho, c = min(ratio[i, t], max_rho), lam * min(ratio[i, t], max_c)
            delta = rho * (reward[i, t] + gamma * (not terminated[i, t]) * following - value[i, t])
            more = 0.0 if last else expected_target[i, t + 1] - value[i, t + 1]
            expected_target[i, t] = value[i, t] + delta + gamma * c * more
            next_target = old_next_value[i, t] if last else expected_target[i, t + 1]
            expected_advantage[i, t] = rho * (
                reward[i, t] + gamma * (not terminated[i, t]) * next_target - value[i, t]
            )
    real = lambda x: jnp.asarray(x, jnp.float32)
    action = jnp.asarray(random.integers(0, 3, (num, steps)))
    batch = transitions(action, real(reward), terminated, jnp.asarray(truncated))
    policy = Categorical(real(random.normal(size=(num, steps, 3))))
    rule = rules.VTrace(gamma, lam, max_rho, max_c, entropy_weight=0.0, value_weight=2.0)
    targets = VTraceTargets(policy.log_prob(action) - jnp.log(real(ratio)), real(old_next_value))

    def loss(logits, value):
        out = {"policy": Categorical(logits), "value": value[..., None]}
        return rule.loss(out, batch, targets, Clock(0, 1.0))

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
class Noisy(Env):
    """A random start, noisy rewards, and an end at random or after `max_steps`."""

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
    for i, episode_return in enumerate(returns):
        others = [x for j, x in enumerate(returns) if j != i]
        if name == "rloo":
            found.append(episode_return - sum(others) / len(others))
        elif name == "grpo":
            found.append((episode_return - np.mean(returns)) / np.std(returns))
        else:
            found.append(episode_return - returns[-1])
    return found


@pytest.mark.parametrize(
    ("name", "num_steps"), [("rloo", 6), ("grpo", 3), ("remax", 6), ("remax", 3)]
)
def test_a_group_shares_its_reset_and_its_baseline(name, num_steps):
    algo = rl.PRESETS[name](
        num_envs=8,
        num_steps=num_steps,
        group_size=4,
        gamma=0.9,
        network=rl.MLP((4,)),
        normalize_reward=True,
    )
    env, sampled = Noisy(), np.arange(8) % 4 < (3 if name == "remax" else 4)

    @quick
    def play(key):
        key_init, key_play = jax.random.split(key)
        state = algo.init(key_init, env)
        agent = algo.agent(state)
        explore, greedy = (algo.policy(env, agent, greedy=greedy) for greedy in (False, True))
        start, _, batch = algo.rule.play(key_play, env, explore, greedy, state.episodes, num_steps)
        mode = lambda obs: algo.forward(env, agent, (), obs)[1]["policy"].mode()
        targets = algo._prepare(env, state, (), batch)[1].targets
        targets = jax.tree.map(lambda x: x.reshape(num_steps, 8, *x.shape[1:]), targets)
        return start, batch, jax.vmap(jax.vmap(mode))(batch.obs), targets

    with jax.debug_key_reuse(False):  # the greedy action's key is not used
        start, batch, greedy, targets = play(jax.random.key(0))
    np.testing.assert_array_equal(start.state, np.repeat(start.state[::4], 4, axis=0))
    assert start.state[0] != start.state[4]
    np.testing.assert_array_equal(batch.obs[0], start.obs)
    assert len(np.unique(batch.reward[0])) == 8  # each environment has its own random numbers
    np.testing.assert_array_equal(batch.action[:, ~sampled], greedy[:, ~sampled])
    batch = jax.tree.map(np.asarray, batch)
    # the length of later episodes is less than the number of steps of the rollout
    first = batch.length == np.arange(1, num_steps + 1)[:, None]
    assert (batch.done.sum(0) <= 1).all()
    assert not batch.done[:, ~sampled].any()
    over = np.vstack([np.zeros((1, 8), bool), batch.done[:-1]]).cumsum(0) > 0
    np.testing.assert_array_equal(~first[:, sampled], over[:, sampled])
    returns = np.zeros(8)
    for i in range(8):
        for t in range(first[:, i].sum()):
            returns[i] += 0.9**t * float(batch.reward[t, i])
        np.testing.assert_allclose(
            np.sum(batch.reward[:, i]),
            batch.episode_return[first[:, i].sum() - 1, i],
            rtol=1e-4,
            atol=1e-5,
        )
    expected = np.concatenate([by_hand(name, returns[:4]), by_hand(name, returns[4:])])
    np.testing.assert_allclose(
        targets.advantage, np.broadcast_to(expected, (num_steps, 8)), rtol=1e-3, atol=1e-4
    )
    counts = first * sampled
    weight = counts / (first.sum(0) * sampled.sum()) if name == "grpo" else counts / counts.sum()
    np.testing.assert_allclose(targets.weight, weight * counts.size, rtol=1e-5)


def test_greedy_episodes_count_as_steps_and_not_as_episodes():
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
            lambda: rl.train(0, rl.rloo(group_size=3), Noisy(), steps=2048, evals=1),
            "not divide.*16",
        ),
        (lambda: rl.impala(num_envs=6), "whole trajectories"),
    ],
)
def test_counts_that_do_not_fit_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_policy_step_is_a_field():
    algo = rl.OnPolicy(
        rule=rl.Surrogate(rl.PolicyGradient()), policy_step=TrustRegion(0.05), epochs=2
    )
    assert rl.tree.find(algo, "max_kl") == "policy_step.max_kl"
