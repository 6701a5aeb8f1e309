"""Rankings and tournaments against their definitions, written slowly."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl import stats

RNG = np.random.default_rng(0)
SCORES = RNG.integers(0, 5, (6, 7)).astype(float)  # with ties
SPARSE = np.where(RNG.random(SCORES.shape) < 0.3, np.nan, SCORES)
RULES = ("mean", "borda", "plurality", "copeland", "minimax")


def points(scores, how):
    """The points of each rule, by loops over agents, tasks and pairs."""
    agents, tasks = scores.shape
    known = ~np.isnan(scores)
    made = np.full(agents, np.nan)
    for i in range(agents):
        if not known[i].any():
            continue
        others = [j for j in range(agents) if j != i]
        shares, firsts, duels, worst = [], [], 0, []
        for t in range(tasks):
            if not known[i, t]:
                continue
            rivals = [j for j in others if known[j, t]]
            beat = [(scores[i, t] > scores[j, t]) + 0.5 * (scores[i, t] == scores[j, t])
                    for j in rivals]  # fmt: skip
            shares += [np.mean(beat)] * bool(rivals)
            best = np.nanmax(scores[:, t])
            firsts.append((scores[i, t] == best) / np.sum(scores[:, t] == best))
        for j in others:
            common = known[i] & known[j]
            if not common.any():
                continue
            won = np.sum(scores[i, common] > scores[j, common])
            lost = np.sum(scores[i, common] < scores[j, common])
            duels += np.sign(won - lost)
            worst.append((won - lost + common.sum()) / (2 * common.sum()))
        made[i] = {
            "mean": np.nanmean(scores[i]),
            "borda": np.mean(shares) if shares else 1.0,
            "plurality": np.mean(firsts),
            "copeland": duels,
            "minimax": min(worst, default=1.0),
        }[how]
    return made


def places(points):
    return np.array([np.nan if np.isnan(x) else np.sum(points > x) + (1 + np.sum(points == x)) / 2
                     for x in points])  # fmt: skip


@pytest.mark.parametrize("how", RULES)
def test_rules_are_their_definitions(how):
    for scores in (SCORES, SPARSE):
        made = stats.rank(scores, how)
        expected = points(scores, how)
        np.testing.assert_allclose(made.points, expected, rtol=1e-6)
        np.testing.assert_allclose(made.rank, places(np.round(expected, 5)))


@pytest.mark.parametrize("how", ["plurality", "borda"])
def test_an_iterated_rule_removes_the_winners(how):
    left, expected, placed = SPARSE.copy(), np.full(len(SPARSE), np.nan), 0
    while not np.isnan(left).all():
        with warnings.catch_warnings(action="ignore"):
            value = np.round(points(left, how), 5)
        first = value == np.nanmax(value)
        expected[first] = placed + (1 + first.sum()) / 2
        placed += first.sum()
        left[first] = np.nan
    np.testing.assert_allclose(stats.rank(SPARSE, how, iterated=True).rank, expected)


def test_votes_do_not_depend_on_the_scale_of_a_task_and_the_mean_does():
    stretched = SCORES.copy()
    stretched[:, 0] = np.exp(2 * stretched[:, 0])
    same = {how: np.array_equal(*(stats.rank(x, how).rank for x in (SCORES, stretched)))
            for how in RULES}  # fmt: skip
    assert same == {how: how != "mean" for how in RULES}


def test_an_unknown_rule_and_wrong_shapes():
    with pytest.raises(ValueError, match="the nearest are borda"):
        stats.rank(SCORES, "bordo")
    with pytest.raises(ValueError, match=r"\[agents, tasks\]"):
        stats.rank(SCORES[0])


def test_kendalls_tau_is_scipys():
    x, y = SCORES[:, 0], SCORES[:, 1] + SCORES[:, 0]
    expected = scipy.stats.kendalltau(x, y).statistic
    np.testing.assert_allclose(stats.kendall(x, y), expected, rtol=1e-6)
    with_nan = stats.kendall(np.append(x, np.nan), np.append(y, 3.0))
    np.testing.assert_allclose(with_nan, expected, rtol=1e-6)


# ------------------------------------------------------------------------------------- tournaments


def slow_swiss(rng, scores, eliminated):
    """One tournament, by a sorted list."""
    points, is_in = np.zeros(len(scores)), list(range(len(scores)))
    for task in scores.T:
        rng.shuffle(is_in)
        order = sorted(is_in, key=lambda i: -points[i])
        for i, j in zip(order[::2], order[1::2], strict=False):
            won = 0.5 if task[i] == task[j] else float(task[i] > task[j])
            points[i] += won
            points[j] += 1 - won
        if len(order) % 2:
            points[order[-1]] += 1
        rng.shuffle(is_in)
        is_in = sorted(is_in, key=lambda i: -points[i])[: len(is_in) - eliminated]
    return points


@pytest.mark.parametrize("eliminated", [0, 1])
def test_expected_points_are_those_of_slow_tournaments(eliminated):
    scores = SCORES[:5, :4]
    made = stats.swiss(0, scores, eliminated=eliminated, repeats=4000)
    rng = np.random.default_rng(1)
    slow = np.array([slow_swiss(rng, scores, eliminated) for _ in range(4000)])
    np.testing.assert_allclose(made.estimate, slow.mean(0), atol=0.06)
    np.testing.assert_allclose(made.high - made.low, 3.92 * slow.std(0) / 4000**0.5, atol=0.01)


def test_a_tournament_without_agents_is_refused():
    with pytest.raises(ValueError, match="leaves none of 6 agents"):
        stats.swiss(0, SCORES, eliminated=1)


@pytest.mark.parametrize("num", [1, 2, 5, 8])
def test_a_knockout_with_exact_comparisons_ends_with_the_best(num):
    value = jnp.asarray(RNG.permutation(num))
    compare = lambda key, i, j: value[i] > value[j]
    assert value[stats.knockout(jax.random.key(0), compare, num)] == num - 1


def test_failures_of_a_knockout_are_below_the_bound():
    good = jnp.arange(4) == 2
    right = 0.8

    def fails(key):
        compare = lambda key, i, j: jax.random.bernoulli(key, right) == good[i]
        return ~good[stats.knockout(key, compare, 4, 5)]

    share = jax.jit(jax.vmap(fails))(jax.random.split(jax.random.key(0), 2000)).mean()
    # the good one is in two rounds, and wins one with 3 of 5 comparisons or more
    wins = scipy.stats.binom.sf(2, 5, right)
    np.testing.assert_allclose(share, 1 - wins**2, atol=0.03)
    bound = stats.knockout_bound(4, 5, 1.0, right)
    assert share < bound == pytest.approx(2 * np.exp(-2 * 5 * 0.3**2))


def slow_active_ranking(means, noise, delta, rounds):
    """Evaluations of each agent on each task, where each has its mean as the score."""
    num_agents, num_tasks = means.shape
    pulls = np.zeros(means.shape, int)

    def half(i, task):
        if not pulls[i, task]:
            return np.inf
        n = pulls[i, task]
        bound = np.log(np.pi**2 * num_agents * num_tasks * n**2 / (3 * delta))
        return noise * np.sqrt(2 * bound / n)

    def is_apart(i, j):
        widths = [half(i, task) + half(j, task) for task in range(num_tasks)]
        return (np.abs(means[i] - means[j]) > widths).any()

    for _ in range(rounds):
        chosen = []
        for i in range(num_agents):
            others = [j for j in range(num_agents) if j != i and not is_apart(i, j)]
            gaps = [
                max(abs(means[i, k] - means[j, k]) + half(i, k) + half(j, k) for j in others)
                for k in range(num_tasks)
                if others
            ]
            chosen += [(i, int(np.argmax(gaps)))] if others else []
        for at in chosen:
            pulls[at] += 1
    return pulls


def test_an_active_ranking_evaluates_where_the_optimistic_gap_is_largest():
    """Scores without noise; agent 0 is apart early, so that numbers of evaluations differ."""
    means = np.array([[3.0, 0.0, 0.3], [0.0, 0.6, 0.0], [0.0, 0.0, 0.5]])
    pull = lambda key, agent, task: jnp.asarray(means)[agent, task]
    made = stats.active_rank(jax.random.key(0), pull, 3, 3, noise=0.3, max_rounds=150)
    slow = slow_active_ranking(means, 0.3, 0.05, 150)
    assert len(set(slow.sum(1))) > 1
    np.testing.assert_array_equal(made.pulls, slow)


def test_an_active_ranking_is_right_and_spares_evaluations():
    means = jnp.asarray([[1.0, 0.0], [3.0, 0.0], [3.0, 0.8]])

    def pull(key, agent, task):
        return means[agent, task] + 0.3 * jax.random.normal(key)

    def run(key, adaptive):
        return stats.active_rank(key, pull, 3, 2, noise=0.3, adaptive=adaptive)

    keys = jax.random.split(jax.random.key(0), 50)
    active, uniform = (jax.jit(jax.vmap(lambda k, a=a: run(k, a)))(keys) for a in (True, False))
    for made in (active, uniform):
        assert made.is_certain.all()
        np.testing.assert_array_equal(made.rank, np.tile([2, 1, 0], (50, 1)))
    assert active.pulls.sum() < 0.8 * uniform.pulls.sum()
    assert (active.pulls[:, 0].sum(-1) < active.pulls[:, 1].sum(-1)).all()
