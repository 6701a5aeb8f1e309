"""Ratings and win rates of players against slow definitions, and the matrix that shows them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.special import expit

from jaxrl import plot, stats

RATINGS = np.array([1000.0, 1150.0, 1200.0, 1500.0, 2000.0])
SCALE = 400 / np.log(10)


def play(ratings, num, seed):
    """Wins in `num` games of each pair. [P, P]."""
    rng = np.random.default_rng(seed)
    wins = np.zeros((len(ratings), len(ratings)))
    for i, j in zip(*np.triu_indices(len(ratings), 1), strict=True):
        wins[i, j] = rng.binomial(num, 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
        wins[j, i] = num - wins[i, j]
    return wins


def slow_elo(wins, prior):
    """Ratings with mean 1200, by the iteration of Hunter (2004)."""
    num = len(wins)
    wins = np.pad(wins, (0, 1), constant_values=prior / 2)  # the last player is the average one
    wins[num, num] = 0.0
    strength = np.ones(num + 1)
    for _ in range(20_000):
        pairs = (wins + wins.T) / (strength[:, None] + strength)
        strength = wins.sum(1) / pairs.sum(1)
        strength /= np.exp(np.log(strength).mean())
    rating = SCALE * np.log(strength[:num])
    return 1200 + rating - rating.mean()


def few_games():
    """Wins of players in a row, each of which met its neighbours; with draws, and none in half of
    the pairs.
    """
    wins = np.zeros((5, 5))
    for i in range(4):
        wins[i, i + 1], wins[i + 1, i] = 7 + 0.5 * i, 1.5 * (i % 2)
    return wins


# one shape and one number of resamples, so that all tests run one program
elo = lambda *results, **options: stats.elo(*results, resamples=200, **options)


def test_ratings_of_simulated_players_are_near_the_true_ones():
    made = elo(play(RATINGS, 4000, seed=0)).estimate
    true = RATINGS - RATINGS.mean() + 1200
    assert np.abs(made - true).max() < 30
    assert np.abs(made - true).max() > 0.1  # they were not copied
    np.testing.assert_allclose(made.mean(), 1200, rtol=1e-6)


@pytest.mark.parametrize("prior", [1.0, 0.1])
@pytest.mark.parametrize("wins", [few_games(), play(RATINGS, 50, seed=1)], ids=["row", "all"])
def test_ratings_are_the_maximum_of_the_likelihood(wins, prior):
    made = elo(wins, prior=prior)
    np.testing.assert_allclose(made.estimate, slow_elo(wins, prior), atol=0.05)


def test_ratings_do_not_depend_on_the_order_of_the_players():
    wins, order = play(RATINGS, 100, seed=2), np.array([3, 0, 4, 2, 1])
    made = elo(wins).estimate
    np.testing.assert_allclose(elo(wins[np.ix_(order, order)]).estimate, made[order], atol=0.02)


def test_the_anchor_has_its_rating_and_differences_are_the_same():
    wins = play(RATINGS, 100, seed=2)
    free, fixed = elo(wins).estimate, elo(wins, anchor=1, rating=1000.0)
    np.testing.assert_allclose(fixed.estimate - fixed.estimate[1], free - free[1], atol=0.02)
    np.testing.assert_allclose([x[1] for x in fixed], 1000.0)


def test_a_player_that_never_lost_has_a_finite_rating():
    wins = np.array([[0.0, 10.0], [0.0, 0.0]])
    made = stats.elo(wins, resamples=50, anchor=1, rating=0.0)
    # x above the average player: 10 wins and half a draw have the gradient 0
    x = scipy.optimize.brentq(lambda x: 10 * expit(-2 * x) + 0.5 - expit(x), 0.0, 9.0)
    np.testing.assert_allclose(made.estimate[0], 2 * x * SCALE, rtol=1e-4)
    assert 0 < made.low[0] < made.estimate[0] < 600


def test_intervals_are_those_of_the_information_matrix():
    """Of many games: a normal distribution with the inverse of the information as covariance."""
    made = elo(play(RATINGS, 2000, seed=3), level=0.68)
    p = expit((RATINGS[:, None] - RATINGS) / SCALE)
    weight = 2000 * p * (1 - p) * (1 - np.eye(5))
    covariance = np.linalg.pinv(np.diag(weight.sum(1)) - weight) * SCALE**2
    np.testing.assert_allclose(
        made.high - made.low, 2 * 0.9945 * np.sqrt(np.diag(covariance)), rtol=0.3
    )
    # another level and the basic interval are of the same draws
    wide = elo(play(RATINGS, 2000, seed=3))
    basic = elo(play(RATINGS, 2000, seed=3), kind="basic")
    assert ((wide.high - wide.low) > 1.5 * (made.high - made.low)).all()
    np.testing.assert_allclose(basic.low, 2 * wide.estimate - wide.high, rtol=1e-5)


def test_intervals_have_their_coverage():
    """95 % of the intervals of 200 tournaments of 20 games for each pair."""
    all_wins = jnp.array([play(RATINGS, 20, seed) for seed in range(200)], float)
    made = jax.jit(lambda all_wins: jax.lax.map(elo, all_wins))(all_wins)
    true = (RATINGS - RATINGS.mean() + 1200)[None]
    assert 0.9 < ((made.low <= true) & (true <= made.high)).mean() < 0.98


def test_results_that_have_no_ratings_are_refused():
    wins = few_games()
    with pytest.raises(ValueError, match=r"wins of shape \(5, 4\) are not \[P, P\]"):
        stats.elo(wins[:, :4])
    with pytest.raises(ValueError, match=r"wins\[0, 1\] = -7 is not a count"):
        stats.elo(-wins)
    with pytest.raises(ValueError, match=r"Players 3, 4 played no games"):
        stats.elo(np.pad(wins[:3, :3], (0, 2)))
    apart = np.zeros((5, 5))
    apart[0, 2] = apart[4, 2] = apart[1, 3] = 3.0
    with pytest.raises(ValueError, match=r"Players 0, 2, 4 and Players 1, 3 never met"):
        stats.elo(apart)
    with pytest.raises(
        ValueError, match=r"games\[0, 1\] = 10, and wins\[0, 1\] \+ wins\[1, 0\] = 7"
    ):
        stats.elo(wins, np.full((5, 5), 10.0))
    with pytest.raises(ValueError, match="anchor=5 is not the index"):
        stats.elo(wins, anchor=5)
    with pytest.raises(ValueError, match=r"prior=0\.0 leaves the rating"):
        stats.elo(wins, prior=0.0)


def test_games_in_two_seats_are_added():
    """scores[i, j] are games with i in the first seat, and [j, i] others."""
    rng = np.random.default_rng(4)
    scores = rng.choice([0.0, 0.5, 1.0], (5, 5, 6))
    wins, games = scores.sum(-1), np.full((5, 5), 6.0)
    both = wins + (games - wins).T
    np.testing.assert_allclose(
        elo(both, games + games.T).estimate, slow_elo(both * (1 - np.eye(5)), 1.0), atol=0.05
    )
    with pytest.raises(ValueError, match=r"write elo\(wins \+ \(games - wins\)\.T\)"):
        elo(wins, games)


def test_one_game_moves_a_rating_by_k_times_the_surprise():
    np.testing.assert_allclose(stats.expected_score(1600.0, 1200.0), 10 / 11, rtol=1e-6)
    made = stats.elo_update(jnp.array([1200.0, 1600.0]), jnp.array([1200.0, 1200.0]), 0.5, k=22.0)
    np.testing.assert_allclose(made, [1200.0, 1600.0 + 22 * (0.5 - 10 / 11)], rtol=1e-6)


# ---------------------------------------------------------------------------------------- win rates


def test_win_rates_and_their_wilson_intervals():
    rng = np.random.default_rng(5)
    scores = rng.choice([0.0, 0.5, 1.0], (3, 3, 8))
    scores[0, 1, 3:] = np.nan
    scores[2, 2] = np.nan
    scores[1, 2] = 1.0
    made = jax.jit(stats.win_rates)(scores)
    for at in np.ndindex(3, 3):
        known = scores[at][~np.isnan(scores[at])]
        if not len(known):
            assert np.isnan([x[at] for x in made]).all()
            continue
        rate, z = known.mean(), 1.959964
        np.testing.assert_allclose(made.estimate[at], rate, rtol=1e-6)
        for end in (made.low[at], made.high[at]):  # the roots of Wilson's equation
            np.testing.assert_allclose(
                (end - rate) ** 2, z**2 * end * (1 - end) / len(known), atol=1e-6
            )
        assert made.low[at] <= rate <= made.high[at]
    assert made.low[1, 2] < 0.7 < made.high[1, 2] == pytest.approx(1.0)
    with pytest.raises(
        ValueError, match=r"scores from -1 to 1: .* \(1 \+ jnp\.sign\(scores\)\) / 2"
    ):
        stats.win_rates(2 * scores - 1)


def test_the_matrix_shows_values_intervals_and_labels():
    scores = np.random.default_rng(6).choice([0.0, 0.5, 1.0], (2, 2, 9))
    scores[1, 1] = np.nan
    made = stats.win_rates(scores)
    ax, bar = plot.matrix(made, ["first", "second"], limits=(0, 1)).axes
    np.testing.assert_allclose(ax.images[0].get_array().filled(np.nan), made.estimate)
    assert ax.images[0].get_clim() == (0, 1)
    low, high = made.low[0, 1], made.high[0, 1]
    expected = f"{plot.number(float(made.estimate[0, 1]))}\n{low:.2g} to {high:.2g}"
    assert ax.texts[1].get_text() == expected
    assert ax.texts[3].get_text() == "none"
    assert ax.yaxis_inverted()  # the first row is at the top
    for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["first", "second"]
    assert bar.get_ylabel() == "win rate of the row"
    (plain, _) = plot.matrix(np.arange(6.0).reshape(2, 3), columns="xyz", label="payoff").axes
    assert [text.get_text() for text in plain.texts] == ["0", "1", "2", "3", "4", "5"]
    assert [tick.get_text() for tick in plain.get_xticklabels()] == ["x", "y", "z"]
    assert plot.matrix(np.eye(2), ax=plain) is plain.figure
    with pytest.raises(ValueError, match=r"3 labels .* do not fit 2 rows"):
        plot.matrix(np.eye(2), "abc")
    with pytest.raises(ValueError, match=r"the values have shape \(2, 2, 9\)"):
        plot.matrix(scores)
