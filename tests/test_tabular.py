"""Exact values, counts and optimistic learners against definitions that are written out in NumPy,
and the makers of processes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import processes
from envs import tabular as mdps
from jaxrl import stats, tabular

S, A, H = 4, 2, 3


@pytest.fixture(scope="module")
def process():
    return jax.jit(processes.bounded, static_argnums=(1, 2))(0, S, A)


def random_policy(seed):
    probs = np.random.default_rng(seed).uniform(size=(H, S, A))
    return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


def slow_backward(transition, reward, horizon, policy=None, bonus=0.0, bounds=(-np.inf, np.inf)):
    """Q(h, s, a) by recursion over the steps."""
    value, steps = np.zeros(len(reward)), []
    for left in range(1, horizon + 1):
        q = np.zeros(reward.shape)
        for s, a in np.ndindex(q.shape):
            q[s, a] = reward[s, a] + transition[s, a] @ value + bonus * left
            q[s, a] = min(max(q[s, a], left * bounds[0]), left * bounds[1])
        value = q.max(1) if policy is None else (policy[horizon - left] * q).sum(1)
        steps.append(q)
    return np.array(steps[::-1])


def test_backward_induction(process):
    transition, reward = np.array(process.transition), np.array(process.reward)[..., 0]
    policy = random_policy(0)
    bounds = (0.0, 0.3)

    @jax.jit
    def fast(policy):
        best = tabular.backward(transition, reward, H)
        bonus = lambda value, left: 0.1 * left * jnp.ones((S, A))
        own = tabular.backward(transition, reward, H, policy=policy, bonus=bonus, bounds=bounds)
        occupancy = tabular.occupancies(transition, process.start, policy)
        actions = best.argmax(-1)
        values = tabular.value(process, policy), tabular.value(process, actions)
        return best, own, occupancy, values, tabular.optimal_value(process, H)

    best, own, occupancy, (value, greedy), optimum = fast(policy)
    np.testing.assert_allclose(best, slow_backward(transition, reward, H), rtol=1e-5)
    slow = slow_backward(transition, reward, H, policy, 0.1, bounds)
    np.testing.assert_allclose(own, slow, rtol=1e-5)
    assert np.isclose(slow[0], H * 0.3).any()  # the bounds matter
    np.testing.assert_allclose(occupancy.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(value, (np.array(occupancy) * reward).sum(), rtol=1e-5)
    q = slow_backward(transition, reward, H, policy)
    np.testing.assert_allclose(value, (policy[0, 0] * q[0, 0]).sum(), rtol=1e-5)
    assert float(greedy) == float(optimum) > float(value)  # equal, so that regret is exactly 0


def test_gain_and_bias():
    swim = mdps.river_swim()
    reward = np.array(tabular.expected_reward(swim))
    gain, bias = tabular.gain_and_bias(swim.transition, reward, num_iterations=3000)
    q = reward + np.array(swim.transition) @ np.array(bias)
    np.testing.assert_allclose(q.max(1) - bias, gain, atol=1e-4)  # the optimality equation
    move = np.array(swim.transition)[np.arange(6), q.argmax(1)]
    stationary = np.linalg.matrix_power(move.astype(float), 4096)[0]
    np.testing.assert_allclose(gain, stationary @ reward[np.arange(6), q.argmax(1)], atol=1e-4)
    left = jnp.eye(2)[jnp.zeros(6, int)]
    own, _ = tabular.gain_and_bias(swim.transition, reward, policy=left, num_iterations=200)
    np.testing.assert_allclose(own, 0.0005, atol=1e-6)


# ------------------------------------------------------------------------------- counts and bonuses


def episode(seed):
    rng = np.random.default_rng(seed)
    part = rng.integers(0, S, H + 1), rng.integers(0, A, H), rng.uniform(size=H)
    return tabular.Episode(*(jnp.asarray(x) for x in part))


def slow_counts(seeds):
    arrived, earned = np.zeros((S, A, S)), np.zeros((S, A, S))
    for each in map(episode, seeds):
        for h in range(H):
            at = int(each.state[h]), int(each.action[h]), int(each.state[h + 1])
            arrived[at] += 1
            earned[at] += each.reward[h]
    return arrived, earned


@pytest.mark.parametrize(
    ("learner", "counted"),
    [
        (tabular.Optimist(), range(7)),
        (tabular.Optimist(window=3, memory=5), range(4, 7)),
        (tabular.Optimist(restart_every=5.0), range(5, 7)),
    ],
)
def test_which_episodes_are_counted(learner, counted):
    state = learner.init(S, A, H)
    for seed in range(7):
        state = learner.update(state, episode(seed))
    arrived, earned = slow_counts(counted)
    np.testing.assert_allclose(state.counts.arrived, arrived)
    np.testing.assert_allclose(state.counts.earned, earned, atol=1e-5)
    visits = arrived.sum(-1)
    model = np.where(visits[..., None] > 0, arrived / np.maximum(visits, 1)[..., None], 0)
    np.testing.assert_allclose(state.counts.transition, model, rtol=1e-6)
    np.testing.assert_allclose(state.counts.visits, visits)


def test_bonuses():
    arrived, earned = slow_counts(range(150))
    arrived[0, 0] = earned[0, 0] = 0
    counts = tabular.Counts(jnp.asarray(arrived), jnp.asarray(earned))
    value, largest = np.array([0.1, 0.9, 0.4, 0.0]), 0.5
    bonuses = tabular.Hoeffding(), tabular.Bernstein(), tabular.Monotone(), tabular.Monotone(0.1)
    found = [np.array(bonus(counts, value, largest)) for bonus in bonuses]
    assert all(x[0, 0] == largest for x in found)  # nothing was observed
    branches = set()
    for s, a in list(np.ndindex(S, A))[1:]:
        n = arrived[s, a].sum()
        ratio = math.log(2 * S * A * n * (n + 1) / 0.05) / n
        means = earned[s, a] / np.maximum(arrived[s, a], 1)
        times = arrived[s, a].astype(int)
        root = math.sqrt(2 * np.repeat(means + value, times).var() * ratio)
        lower = 2 * largest * ratio
        branches.add(root > lower)
        slow = largest * math.sqrt(ratio / 2), root + 7 / 6 * lower, max(root, lower)
        for x, expected in zip(found, (*slow, 0.1 * slow[2]), strict=True):
            assert x[s, a] == pytest.approx(min(expected, largest), rel=1e-4)
    assert branches == {True, False}


# ------------------------------------------------------------------------------------------ playing


@pytest.fixture(scope="module")
def played(process):
    """64 runs of 40 episodes: one program."""

    @jax.jit
    @jax.vmap
    def play(seed):
        learner = tabular.Optimist(tabular.Hoeffding(scale=0.1))
        options = {"floor": tabular.optimal_value(process, H) - 1e-5, "points": 40}
        return tabular.play_episodes(seed, process, learner, H, 40, **options)

    return jax.device_get(play(jnp.arange(64)))


def test_regret_is_the_sum_of_the_losses(played, process):
    best = float(tabular.optimal_value(process, H))
    losses = np.maximum(best - played["value"], 0)
    np.testing.assert_allclose(played["regret"], losses.cumsum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(played["violations"], (losses > 1e-5).cumsum(1))
    np.testing.assert_allclose(played["episode"][0], np.arange(1, 41))
    assert losses[:, -10:].mean() < losses[:, :10].mean() / 2  # it learns


def test_episodes_follow_the_plan(process):
    policies = jnp.stack([jnp.asarray(random_policy(seed)) for seed in (1, 2)])
    plan = tabular.Plan(policies, jnp.array([0.25, 0.75]))
    keys = jax.random.split(jax.random.key(0), 20_000)
    found = jax.jit(jax.vmap(lambda key: tabular.sample(key, process, plan)))(keys)
    rates = np.zeros((H, S, A))
    np.add.at(rates, (np.arange(H), found.state[:, :-1], found.action), 1 / len(keys))
    both = [tabular.occupancies(process.transition, process.start, each) for each in policies]
    np.testing.assert_allclose(rates, 0.25 * both[0] + 0.75 * both[1], atol=0.02)
    reward = np.array(process.reward)[found.state[:, :-1], found.action, 0]
    np.testing.assert_allclose(found.reward, reward)


def test_regret_is_dynamic_in_a_drifting_process():
    drift = processes.drifting(0, S, A, num_points=2)

    @jax.jit
    def play():
        found = tabular.play_episodes(0, drift, tabular.Optimist(), H, 4, points=4)
        values = [tabular.optimal_value(drift(k / 4), H) for k in range(4)]
        return found, jnp.stack(values)

    found, values = play()
    np.testing.assert_allclose(found["regret"], np.cumsum(values - found["value"]), rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match=r"points=100 does not divide episodes=150"):
        tabular.play_episodes(0, mdps.river_swim(), tabular.Optimist(), 5, 150)
    with pytest.raises(ValueError, match=r"memory=0: write Optimist\(window=8, memory=8\)"):
        tabular.Optimist(window=8)
    with pytest.raises(ValueError, match=r"num_states=7 or more"):
        processes.lock(0, depth=5, num_states=6)


# ---------------------------------------------------------------------------------------- processes


def test_processes_are_processes():
    drift = processes.drifting(0, S, A, num_points=3, change=0.5)
    made = [
        processes.bounded(0, S, A, branching=1),
        processes.latent_groups(0, S, num_actions=6, num_groups=2, spread=0.0),
        processes.lock(0, depth=3, slip=0.1),
        drift(0.0),
        drift(0.3),
        drift(1.0),
    ]
    for each in made:
        mdps.check(each)
        np.testing.assert_allclose(np.array(each.transition).sum(-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(each.reward, np.clip(each.reward, 0, 1))
    fixed, groups, lock, first, middle, last = made
    assert np.isin(fixed.transition, [0, 1]).all()
    np.testing.assert_allclose(groups.transition[:, 0], groups.transition[:, 2])
    assert not np.allclose(groups.transition[:, 0], groups.transition[:, 1])
    np.testing.assert_allclose(tabular.optimal_value(lock, 3), 0.9**3, rtol=1e-5)
    np.testing.assert_allclose(tabular.optimal_value(lock, 2), 0)
    second = drift(0.5)
    blend = 0.4 * first.transition + 0.6 * second.transition
    np.testing.assert_allclose(middle.transition, blend, atol=1e-6)
    assert not np.allclose(last.reward, first.reward)


# ------------------------------------------------------------------------------------------- slopes


def test_slope():
    t = np.arange(1, 101)
    y = np.stack([t**0.5, 3 * t**-1.0])
    np.testing.assert_allclose(stats.slope(t, y, (10, 100)), [0.5, -1])
    bent = np.where(t < 50, t, 50.0)
    np.testing.assert_allclose(stats.slope(t, bent, (50, 100)), 0, atol=1e-12)
    with pytest.raises(ValueError, match="0 values of t and 1 of y"):
        stats.slope(t, np.where(t == 20, 0.0, t), (10, 100))
    with pytest.raises(ValueError, match="2 of the 100 points"):
        stats.slope(t, y, (99, 100))
    with pytest.raises(ValueError, match="move the axis of points"):
        stats.slope(t, y.T)


def test_a_window_and_restarts_together_are_refused():
    with pytest.raises(ValueError, match="together would subtract"):
        tabular.Optimist(window=4.0, memory=4, restart_every=8.0)


def test_a_policy_without_steps_is_refused():
    process = mdps.chain(3)
    with pytest.raises(ValueError, match="neither actions"):
        tabular.value(process, jnp.full((3, 2), 0.5))
