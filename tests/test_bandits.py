"""Bandits: the greedy oracles and the learners, beside slow definitions in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from envs import bandits

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
GROUPS = (0, 0, 0, 1, 1, 1)
TOPICS = np.random.default_rng(0).random((6, 4)) < 0.4
SETS = {
    "sets": bandits.Sets(3),
    "trees": bandits.SpanningTrees(EDGES),
    "flows": bandits.Flows(
        4.0, jnp.array([2.5, 3.0]), jnp.array([1.0, 2.0, 0.5, 1.5, 1.0, 2.0]), GROUPS
    ),
    "coverage": bandits.Coverage(jnp.array(TOPICS)),
}
LEARNERS = {
    "ucb": rl.bandits.UCB(),
    "thompson": rl.bandits.Thompson(),
    "epsilon": rl.bandits.EpsilonGreedy(),
    "exp3": rl.bandits.Exp3(),
    "tsallis": rl.bandits.TsallisINF(),
    "hedge": rl.bandits.Hedge(),
}


def is_tree(arms):
    """Three edges that connect all four nodes, by walking along them."""
    reached = {0}
    for _ in arms:
        reached |= {node for arm in arms for node in EDGES[arm] if set(EDGES[arm]) & reached}
    return len(arms) == 3 and len(reached) == 4


def rank(name, arms):
    """The rank of a set of arms, by its meaning."""
    if name == "sets":
        return min(len(arms), 3)
    if name == "trees":
        return max(n for n in range(4) for some in itertools.combinations(arms, n) if forest(some))
    if name == "flows":
        inside = [
            sum(SETS["flows"].arm_capacity[a] for a in arms if GROUPS[a] == g) for g in (0, 1)
        ]
        return min(4.0, min(2.5, inside[0]) + min(3.0, inside[1]))
    return TOPICS[list(arms)].any(0).sum() if arms else 0


def forest(arms):
    """True without a cycle: each edge joins two parts."""
    part = list(range(4))
    for a, b in (EDGES[arm] for arm in arms):
        if part[a] == part[b]:
            return False
        part = [part[a] if x == part[b] else x for x in part]
    return True


def vertices(name):
    """All that greedy orders of the arms give, by their meaning."""
    found = set()
    for order in itertools.permutations(range(6)):
        action = np.zeros(6)
        for i, arm in enumerate(order):
            action[arm] = rank(name, order[: i + 1]) - rank(name, order[:i])
        found.add(tuple(np.round(action, 6)))
    return np.array(sorted(found))


@pytest.mark.parametrize("name", SETS)
def test_an_oracle_finds_the_best_of_all_vertices(name):
    weights = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)
    actions = np.asarray(jax.jit(jax.vmap(SETS[name]))(weights))
    every = vertices(name)
    for weight, action in zip(weights, actions, strict=True):
        assert np.abs(every - action).max(1).min() < 1e-5
        np.testing.assert_allclose(action @ weight, (every @ weight).max(), rtol=1e-5)


@pytest.mark.parametrize("name", ["sets", "trees"])
def test_exchanges_are_the_bases_that_differ_in_one_arm(name):
    is_basis = is_tree if name == "trees" else lambda arms: len(arms) == 3
    action = np.array([1, 1, 1, 0, 0, 0], np.float32)
    found = np.asarray(jax.jit(SETS[name].exchanges)(action))
    for i, j in itertools.product(range(6), range(6)):
        other = sorted(({0, 1, 2} - {i}) | {j})
        assert found[i, j] == (i < 3 <= j and is_basis(other))


def test_probabilities_of_tsallis_entropy_solve_their_equation():
    """p = 4 / (rate (loss - x))^2 sums to 1, with x by bisection."""
    learner = LEARNERS["tsallis"]
    for losses, t in (([0.0, 3.0, 40.0], 9.0), ([5.0] * 64, 1.0), ([0.0, 1e4], 1e4)):
        losses = np.array(losses)
        rate, low, high = 2.0 / np.sqrt(t), losses.min() - 1e6, losses.min()
        for _ in range(200):
            x = (low + high) / 2
            low, high = (x, high) if (4 / (rate * (losses - x)) ** 2).sum() < 1 else (low, x)
        p = np.asarray(learner.probabilities(jnp.asarray(losses, jnp.float32), jnp.float32(t)))
        np.testing.assert_allclose(p, 4 / (rate * (losses - x)) ** 2, rtol=1e-3, atol=1e-7)


def regrets():
    """Of each learner in each set that it can play, on 32 seeds, in one program. {: [32, 10]}."""
    means = jnp.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.9])

    def run(key):
        single = bandits.Bernoulli(means)
        trees = bandits.Gaussian(means, 0.2, SETS["trees"])
        found = {name: rl.bandits.play(key, single, x, 1000, 10) for name, x in LEARNERS.items()}
        return found | {"trees": rl.bandits.play(key, trees, LEARNERS["ucb"], 1000, 10)}

    return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 32))


def test_every_learner_has_less_regret_than_a_random_choice_and_learns():
    found = {name: np.asarray(x) for name, x in regrets().items()}
    random = {name: 1000 * (0.9 - 0.2 - 0.28333) for name in LEARNERS}
    best, mean = 0.9 + 0.6 + 0.4, 3 * 0.48333  # a tree of the last edges but for a cycle
    for name, regret in found.items():
        limit = random.get(name, 1000 * (best - mean))
        assert (np.diff(regret) >= -1e-3).all()
        assert regret[:, -1].mean() < 0.6 * limit, name
        assert (regret[:, -1] - regret[:, -2]).mean() < (regret[:, 0]).mean(), name
    assert found["hedge"][:, -1].mean() < found["exp3"][:, -1].mean()


def test_ucb_plays_what_its_definition_says():
    """Slowly, on rewards that are known beforehand."""
    rewards = np.random.default_rng(2).random((40, 4)).astype(np.float32)
    state, count, total = rl.bandits.UCB().init(4), np.zeros(4), np.zeros(4)
    step = jax.jit(
        lambda state, t: rl.bandits.UCB().pull(jax.random.key(0), state, t, bandits.Sets())
    )
    for t in range(1, 41):
        index = [
            total[k] / count[k] + np.sqrt(2 * np.log(t) / count[k]) if count[k] else np.inf
            for k in range(4)
        ]
        action = np.asarray(step(state, jnp.float32(t)))
        assert action.sum() == 1
        assert action.argmax() == np.argmax(index)
        state = rl.bandits.UCB().update(state, t, action, rewards[t - 1] * action)
        count += action
        total += rewards[t - 1] * action


def test_the_optimum_of_a_knapsack_is_that_of_its_linear_program():
    from scipy.optimize import linprog

    rng = np.random.default_rng(3)
    for _ in range(20):
        reward, use, rate = rng.random(5), rng.uniform(-1, 1, 5), rng.uniform(0, 0.3)
        limits = {"A_ub": use[None], "b_ub": [rate], "A_eq": np.ones((1, 5)), "b_eq": [1.0]}
        slow = linprog(-reward, **limits)
        with jax.disable_jit():
            fast = bandits.Knapsack(jnp.array(reward), jnp.array(use), rate).optimum()
        np.testing.assert_allclose(fast, -slow.fun, rtol=1e-4)


def test_no_player_gains_by_leaving_an_equilibrium():
    means = np.random.default_rng(4).random((20, 5)).astype(np.float32)
    counts = np.asarray(jax.jit(jax.vmap(lambda x: bandits.equilibrium(x, 4)))(means))
    assert (counts.sum(1) == 4).all()
    for mean, count in zip(means, counts, strict=True):
        for here, there in itertools.permutations(range(5), 2):
            assert count[here] == 0 or mean[here] / count[here] >= mean[there] / (count[there] + 1)


def test_rounds_that_points_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="write 100"):
        rl.bandits.play(None, None, None, 150, 100)  # type: ignore[arg-type]


def test_an_arm_of_probability_zero_leaves_finite_losses():
    """Exp3's probabilities underflow for an arm that loses often."""
    losses = jnp.array([0.0, 1e6])
    learner = rl.bandits.Exp3(lr=10.0)
    assert learner.probabilities(losses, jnp.float32(1))[1] == 0
    after = learner.update(losses, jnp.float32(1), jnp.array([1.0, 0.0]), jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(after, [0.5, 1e6])
