"""Values, best responses and equilibria of small games against known values and enumerations."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import games
from jaxrl.games import Chance, Decision, Outcome

RNG = np.random.default_rng(0)
SIZES = (3, 2, 4)
PAYOFF = RNG.normal(size=(3, *SIZES))
PENNIES = [[2.0, -1.0], [-1.0, 1.0]]  # value 1/5, probabilities (2/5, 3/5) of both
SKEWED = [[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]]
RULES = {
    "matching": games.RegretMatching(),
    "plus": games.RegretMatching(plus=True),
    "hedge": games.Hedge(),
}


def distribution(*shape, axis=-1, seed=0):
    probs = np.random.default_rng(seed).exponential(size=shape)
    return probs / probs.sum(axis, keepdims=True)


POLICIES = [distribution(size, seed=size) for size in SIZES]
JOINT = distribution(*SIZES, axis=None)


# -------------------------------------------------------------------------------------- normal form


def expected(payoff, joint):
    """Expected payoff of each player, by a loop over the joint actions."""
    return np.array(
        [sum(joint[at] * paid[at] for at in np.ndindex(joint.shape)) for paid in payoff]
    )


def replaced(joint, player, swap):
    """The joint distribution in which a player plays swap[a] in place of a."""
    made = np.zeros(joint.shape)
    for at in np.ndindex(joint.shape):
        to = (*at[:player], swap[at[player]], *at[player + 1 :])
        made[to] += joint[at]
    return made


def slow_gaps(payoff, joint, swaps):
    """What each player gains by its best function from actions to actions among swaps(n)."""
    gains = []
    for i, size in enumerate(joint.shape):
        values = [expected(payoff, replaced(joint, i, swap))[i] for swap in swaps(size)]
        gains.append(max(0.0, max(values) - expected(payoff, joint)[i]))
    return np.array(gains)


constant = lambda size: [(a,) * size for a in range(size)]
every = lambda size: list(itertools.product(range(size), repeat=size))


@jax.jit
def gaps_of(payoff, policies, joint):
    game = games.NormalForm(payoff)
    return {
        "values": game.values(policies),
        "nash": games.nash_gaps(game, policies),
        "exploitability": games.exploitability(game, policies),
        "cce": games.cce_gaps(game, joint),
        "ce": games.ce_gaps(game, joint),
        "product": games.product(policies),
        "marginals": games.marginals(joint),
    }


def test_gaps_are_those_of_all_deviations():
    made = gaps_of(PAYOFF, POLICIES, JOINT)
    joint = np.einsum("a,b,c->abc", *POLICIES)
    np.testing.assert_allclose(made["product"], joint, rtol=1e-5)
    np.testing.assert_allclose(made["values"], expected(PAYOFF, joint), atol=1e-5)
    nash = slow_gaps(PAYOFF, joint, constant)
    assert (nash > 0.01).all()
    np.testing.assert_allclose(made["nash"], nash, atol=1e-5)
    np.testing.assert_allclose(made["exploitability"], nash.sum() / 3, atol=1e-5)
    cce, ce = slow_gaps(PAYOFF, JOINT, constant), slow_gaps(PAYOFF, JOINT, every)
    assert (ce > cce + 1e-3).any()
    np.testing.assert_allclose(made["cce"], cce, atol=1e-5)
    np.testing.assert_allclose(made["ce"], ce, atol=1e-5)
    np.testing.assert_allclose(made["marginals"][1], JOINT.sum((0, 2)), rtol=1e-5)


def test_equilibria_of_known_games():
    skewed = games.zero_sum(SKEWED)
    nash = np.array([0.25, 0.5, 0.25])
    np.testing.assert_allclose(games.nash_gaps(skewed, (nash, nash)), 0.0, atol=1e-6)
    np.testing.assert_allclose(skewed.values((nash, nash)), 0.0, atol=1e-6)
    rock = np.eye(3)[0]  # paper wins 1, and scissors lose 2
    np.testing.assert_allclose(games.exploitability(skewed, (rock, rock)), 1.0)
    # equal actions always: no fixed action gains, but paper does where the signal is rock
    equal = games.zero_sum([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    np.testing.assert_allclose(games.cce_gaps(equal, np.eye(3) / 3), 0.0, atol=1e-6)
    np.testing.assert_allclose(games.ce_gaps(equal, np.eye(3) / 3), 1.0, atol=1e-6)
    chicken = games.NormalForm([[[0, -1], [1, -10]], [[0, 1], [-1, -10]]])
    lights = np.array([[0, 0.5], [0.5, 0]])
    np.testing.assert_allclose(games.ce_gaps(chicken, lights), 0.0)
    assert games.exploitability(chicken, games.marginals(lights)) > 1


def test_payoffs_and_policies_that_do_not_fit_are_refused():
    game = games.NormalForm(PAYOFF)
    with pytest.raises(ValueError, match=r"shape \(2, 2\), .* write zero_sum\(payoff\)"):
        games.nash_gaps(games.NormalForm(np.eye(2)), POLICIES)
    with pytest.raises(ValueError, match="2 policies for 3 players"):
        game.values(POLICIES[:2])
    with pytest.raises(ValueError, match=r"player 0 has shape \(2,\), and this game needs \(3,\)"):
        game.values(POLICIES[1:] + POLICIES[:1])
    with pytest.raises(ValueError, match=r"no distribution: .* differs from 1 by 1"):
        game.values([2 * policy for policy in POLICIES])
    with pytest.raises(ValueError, match=r"joint has shape \(3, 2\), .* needs \(3, 2, 4\)"):
        games.cce_gaps(game, JOINT[..., 0])


# ---------------------------------------------------------------------------------------- no regret


def slow_no_regret(payoff, steps, name):
    """The mean joint distribution and the last policies, by loops over steps and players."""
    sizes = payoff.shape[1:]
    totals, mean = [np.zeros(size) for size in sizes], np.zeros(sizes)
    for t in range(1, steps + 1):
        policies = []
        for total, paid in zip(totals, payoff, strict=True):
            weight = np.maximum(total, 0.0)
            if name == "hedge":
                rate = np.sqrt(8 * np.log(len(total)) / t) / (paid.max() - paid.min())
                weight = np.exp(rate * (total - total.max()))
            uniform = np.full(len(total), 1 / len(total))
            policies.append(weight / weight.sum() if weight.sum() > 0 else uniform)
        joint = np.einsum("a,b,c->abc", *policies)
        mean += joint / steps
        for i, total in enumerate(totals):
            for a in range(len(total)):
                swapped = [np.eye(len(p))[a] if j == i else p for j, p in enumerate(policies)]
                gain = (payoff[i] * (np.einsum("a,b,c->abc", *swapped) - joint)).sum()
                total[a] = max(total[a] + gain, 0.0) if name == "plus" else total[a] + gain
    return mean, policies


@pytest.mark.parametrize("name", RULES)
def test_self_play_is_that_of_a_slow_loop(name):
    made = games.no_regret(games.NormalForm(PAYOFF), 25, RULES[name])
    joint, last = slow_no_regret(PAYOFF, 25, name)
    np.testing.assert_allclose(made.joint, joint, atol=1e-4)
    for mine, theirs in zip(made.last, last, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
    np.testing.assert_allclose(made.cce_gaps[-1], slow_gaps(PAYOFF, joint, constant), atol=1e-4)
    np.testing.assert_allclose(made.ce_gaps[-1], slow_gaps(PAYOFF, joint, every), atol=1e-4)
    own = np.einsum("a,b,c->abc", *made.policies)
    np.testing.assert_allclose(made.nash_gaps[-1], slow_gaps(PAYOFF, own, constant), atol=1e-4)
    assert made.ce_gaps.shape == (25, 3)


def payoffs_of(num):
    """Zero-sum games [num, 2, 3, 3]: random ones, and skewed rock, paper, scissors at last."""
    first = np.concatenate([np.random.default_rng(1).normal(size=(num - 1, 3, 3)), [SKEWED]])
    return np.stack([first, -first], 1).astype(np.float32)


@pytest.mark.parametrize("name", RULES)
def test_gaps_fall_with_the_root_of_the_number_of_steps(name):
    payoff, steps = payoffs_of(12), 1000
    play = lambda payoff: games.no_regret(games.NormalForm(payoff), steps, RULES[name])
    made = jax.vmap(play)(payoff)
    gap = np.array(made.cce_gaps)  # [games, steps, players]
    t = np.arange(1, steps + 1)[:, None]
    spread = np.ptp(payoff, (-1, -2))[:, None]
    bound = np.sqrt(3 / t)
    if name == "hedge":
        bound = np.sqrt(2 * np.log(3) / t) + np.sqrt(np.log(3) / 8) / t
    assert (gap <= spread * bound + 1e-5).all()
    at = np.array([100, 200, 400, 700, 1000]) - 1
    for kind in (gap, np.array(made.nash_gaps)):
        mean = kind.mean((0, 2))[at]
        slope = np.polyfit(np.log(at + 1), np.log(mean), 1)[0]
        assert -0.9 < slope < -0.4
    # the mean policies approach the equilibrium of the last game, though the first one is uniform
    for policy in made.policies:
        np.testing.assert_allclose(policy[-1], [0.25, 0.5, 0.25], atol=0.05)
    values = games.zero_sum(SKEWED).values([policy[-1] for policy in made.policies])
    np.testing.assert_allclose(values, 0.0, atol=0.02)


@pytest.mark.parametrize(
    ("payoff", "value", "probs"),
    [([[1, -1], [-1, 1]], 0.0, 0.5), (PENNIES, 0.2, 0.4)],
    ids=["matching_pennies", "biased_pennies"],
)
def test_averages_of_pennies_approach_the_value(payoff, value, probs):
    first = [np.array([0.9, 0.1]), np.array([0.2, 0.8])]
    made = games.no_regret(games.zero_sum(payoff), 2000, first=first)
    game = games.zero_sum(payoff)
    np.testing.assert_allclose(made.nash_gaps[0], games.nash_gaps(game, first), rtol=1e-5)
    np.testing.assert_allclose(game.values(made.policies), [value, -value], atol=0.02)
    np.testing.assert_allclose([p[0] for p in made.policies], probs, atol=0.05)
    assert made.nash_gaps[0].max() > 0.5


def test_learning_rates_are_swept():
    rates = jnp.array([0.01, 0.3])
    play = lambda rate: games.no_regret(games.NormalForm(PAYOFF), 25, games.Hedge(rate)).joint
    made = jax.vmap(play)(rates)
    np.testing.assert_allclose(made[1], play(rates[1]), rtol=1e-4)
    uniform = np.full(SIZES, 1 / np.prod(SIZES))
    assert np.abs(made[0] - uniform).max() < 0.01 < 0.02 < np.abs(made[1] - uniform).max()


# ---------------------------------------------------------------------------------------- extensive

KUHN = games.kuhn()


def kuhn_policy(first, second):
    """Probabilities to bet by the name of the information set, as a policy."""
    bet = np.array([(first if player == 0 else second)[info] for player, info in KUHN.names])
    return np.stack([1 - bet, bet], 1)


def equilibrium(alpha):
    """The family of equilibria (Kuhn, 1950): alpha in [0, 1/3]."""
    first = {"J": alpha, "Q": 0, "K": 3 * alpha, "Jpb": 0, "Qpb": alpha + 1 / 3, "Kpb": 1}
    second = {"Jp": 1 / 3, "Qp": 0, "Kp": 1, "Jb": 0, "Qb": 1 / 3, "Kb": 1}
    return kuhn_policy(first, second)


def slow_value(rules, names, policy, history=()):
    """Expected payoffs, by recursion over the histories."""
    now = rules(history)
    if isinstance(now, Outcome):
        return np.array(now.payoff, float)
    if isinstance(now, Chance):
        probs = now.probs
    else:
        probs = policy[names.index((now.player, now.info))][: now.num_actions]
    return sum(
        prob * slow_value(rules, names, policy, (*history, a))
        for a, prob in enumerate(probs)
        if prob
    )


@jax.jit
def evaluated(policy):
    response = KUHN.best_response(policy)
    return KUHN.values(policy), games.nash_gaps(KUHN, policy), KUHN.best_values(policy), response


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1 / 3])
def test_kuhns_equilibria_have_the_value_minus_one_eighteenth(alpha):
    value, gaps, _, _ = evaluated(equilibrium(alpha))
    np.testing.assert_allclose(value, [-1 / 18, 1 / 18], atol=1e-6)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-6)


def test_another_policy_is_no_equilibrium():
    outside = kuhn_policy(
        {"J": 0.6, "Q": 0, "K": 1, "Jpb": 0, "Qpb": 0.9, "Kpb": 1},
        {"Jp": 1 / 3, "Qp": 0, "Kp": 1, "Jb": 0, "Qb": 1 / 3, "Kb": 1},
    )
    assert evaluated(outside)[1][1] > 0.05  # the second player can call more often


@pytest.mark.parametrize("seed", [None, 0])
def test_exploitability_is_that_of_all_deterministic_strategies(seed):
    """Each of the 64 strategies of a player, against a uniform and a random policy."""
    policy = np.full((12, 2), 0.5) if seed is None else distribution(12, 2, seed=seed)
    values, gaps, best, response = evaluated(policy)
    slow = slow_value(games.kuhn_rules, KUHN.names, policy)
    np.testing.assert_allclose(values, slow, atol=1e-6)
    for player in range(2):
        rows = [i for i, (owner, _) in enumerate(KUHN.names) if owner == player]
        found = []
        for bets in itertools.product((0, 1), repeat=6):
            other = policy.copy()
            other[rows] = np.eye(2)[list(bets)]
            found.append(slow_value(games.kuhn_rules, KUHN.names, other)[player])
        np.testing.assert_allclose(best[player], max(found), atol=1e-6)
        np.testing.assert_allclose(gaps[player], max(found) - slow[player], atol=1e-6)
        other = policy.copy()
        other[rows] = np.array(response)[rows]
        reached = slow_value(games.kuhn_rules, KUHN.names, other)[player]
        np.testing.assert_allclose(reached, max(found), atol=1e-6)
    if seed is None:
        np.testing.assert_allclose(games.exploitability(KUHN, policy), 11 / 24, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_counterfactual_regret_minimisation_solves_kuhn_poker(name):
    made = games.cfr(KUHN, 500, RULES[name])
    gap = np.array(made.nash_gaps).mean(-1)
    assert gap[0] > 0.2  # the first policy is uniform
    # the rate of Hedge is for payoffs that differ by up to 4 in each information set
    limit, fraction = (0.15, 0.75) if name == "hedge" else (0.02, 0.55)
    assert gap[-1] < limit
    assert gap[-1] < fraction * gap[99]
    np.testing.assert_allclose(gap[-1], games.exploitability(KUHN, made.policy), atol=1e-6)
    np.testing.assert_allclose(KUHN.values(made.policy)[0], -1 / 18, atol=limit)


def at_once(history):
    """Three players with PAYOFF, each of which acts without a view of the others."""
    player = len(history)
    if player == 3:
        return Outcome(PAYOFF[(slice(None), *history)])
    return Decision(player, "start", SIZES[player])


def test_a_game_of_one_move_each_is_its_normal_form():
    """Numbers of actions differ, so that some are not legal in the arrays."""
    game = games.enumerated(at_once)
    policy = np.zeros((3, 4), np.float32)
    for i, probs in enumerate(POLICIES):
        policy[i, : len(probs)] = probs
    made = jax.jit(lambda x: (game.values(x), games.nash_gaps(game, x)))(policy)
    expected = gaps_of(PAYOFF, POLICIES, JOINT)
    np.testing.assert_allclose(made[0], expected["values"], atol=1e-5)
    np.testing.assert_allclose(made[1], expected["nash"], atol=1e-5)
    assert (np.array(game.uniform())[1] == [0.5, 0.5, 0, 0]).all()
    # one information set each: the counterfactual regrets are those of the normal form
    last = games.cfr(game, 25, RULES["hedge"]).last
    expected = games.no_regret(games.NormalForm(PAYOFF), 25, RULES["hedge"]).last
    for i, probs in enumerate(expected):
        np.testing.assert_allclose(last[i, : len(probs)], probs, atol=1e-4)


def test_games_are_vmapped_over_their_payoffs():
    scales = jnp.array([1.0, 3.0])
    batch = jax.vmap(lambda scale: rescaled(KUHN, scale))(scales)
    made = jax.vmap(lambda game: games.exploitability(game, game.uniform()))(batch)
    np.testing.assert_allclose(made, 11 / 24 * scales, rtol=1e-5)


def rescaled(game, scale):
    return games.Extensive(**vars(game) | {"payoff": scale * game.payoff})


def test_rules_of_no_game_are_refused():
    coin = lambda history: Chance([0.5, 0.6]) if not history else Outcome((0.0, 0.0))
    with pytest.raises(ValueError, match=r"chance \(0.5, 0.6\) are not a distribution"):
        games.enumerated(coin)

    def forgets(history):
        return Decision(0, len(history), 2) if len(history) < 2 else Outcome((0.0,))

    with pytest.raises(ValueError, match=r"After \(1,\), player 0 has reached .*perfect recall"):
        games.enumerated(forgets)

    def varies(history):
        if not history:
            return Chance([0.5, 0.5])
        return Decision(0, "x", 2 + history[0]) if len(history) == 1 else Outcome((0.0,))

    with pytest.raises(ValueError, match=r"has 3 actions after \(1,\), and 2 before"):
        games.enumerated(varies)
    with pytest.raises(ValueError, match="Player 0 acts, and the payoffs are of players 0 to -1"):
        games.enumerated(lambda history: Outcome(()) if history else Decision(0, "", 1))
    with pytest.raises(ValueError, match=r"policy has shape \(6, 2\)"):
        KUHN.values(np.full((6, 2), 0.5))


# ------------------------------------------------------------------------------------- Markov games

S, N, H = 3, (2, 3), 2


class Arrays(NamedTuple):
    transition: Any
    reward: Any
    terminal: Any
    start: Any


MARKOV = Arrays(
    distribution(S, *N, S, seed=5),
    RNG.normal(size=(2, S, *N)),
    np.array([False, False, True]),
    np.array([0.6, 0.4, 0.0]),
)


def slow_markov(policies, gamma, step=0, state=None):
    """Expected sums of rewards, by recursion over steps and states. policies: [H, S, n] each."""
    if state is None:
        return sum(p * slow_markov(policies, gamma, 0, s) for s, p in enumerate(MARKOV.start) if p)
    value = np.zeros(2)
    if step == H or MARKOV.terminal[state]:
        return value
    for actions in np.ndindex(*N):
        prob = np.prod([p[step, state, a] for p, a in zip(policies, actions, strict=True)])
        if prob:
            at = (state, *actions)
            later = [slow_markov(policies, gamma, step + 1, s) for s in range(S)]
            value = value + prob * (
                MARKOV.reward[(slice(None), *at)] + gamma * MARKOV.transition[at] @ later
            )
    return value


@jax.jit
def evaluated_markov(policies, gamma):
    game = games.FiniteHorizon(MARKOV, H, gamma)
    return game.values(policies), game.best_values(policies), games.exploitability(game, policies)


@pytest.mark.parametrize("varies", [(), (0, 1), (1,)], ids=["stationary", "steps", "mixed"])
def test_markov_games_by_enumeration(varies):
    given = [distribution(*((H,) * (i in varies)), S, n, seed=i) for i, n in enumerate(N)]
    policies = [np.broadcast_to(p, (H, S, n)) for p, n in zip(given, N, strict=True)]
    values, best, gap = evaluated_markov(given, 0.8)
    slow = slow_markov(policies, 0.8)
    np.testing.assert_allclose(values, slow, rtol=1e-5)
    for player, num in enumerate(N):
        found = []
        for actions in itertools.product(range(num), repeat=H * 2):  # the last state is final
            choice = np.pad(np.reshape(actions, (H, 2)), ((0, 0), (0, 1)))
            mixed = list(policies)
            mixed[player] = np.eye(num)[choice]
            found.append(slow_markov(mixed, 0.8)[player])
        np.testing.assert_allclose(best[player], max(found), rtol=1e-5)
    np.testing.assert_allclose(gap, (best - slow).mean(), rtol=1e-4)


def test_a_markov_game_with_one_state_is_a_repeated_normal_form_game():
    arrays = Arrays(np.ones((1, *SIZES, 1)), PAYOFF[:, None], np.array([False]), np.ones(1))
    game = games.FiniteHorizon(arrays, 4)
    made = jax.jit(lambda policies: (game.values(policies), game.best_values(policies)))(
        [policy[None] for policy in POLICIES]
    )
    expected = gaps_of(PAYOFF, POLICIES, JOINT)
    np.testing.assert_allclose(made[0], 4 * expected["values"], rtol=1e-4)
    np.testing.assert_allclose(made[1] - made[0], 4 * expected["nash"], atol=1e-4)


def test_the_best_response_of_a_player_has_action_values():
    policies = [distribution(S, n, seed=i) for i, n in enumerate(N)]
    game = games.FiniteHorizon(MARKOV, H)
    q = game.action_values(policies, 1)
    assert q.shape == (H, S, 3)
    best = [policies[0], np.eye(3)[np.array(q).argmax(-1)]]
    np.testing.assert_allclose(game.values(best)[1], game.best_values(policies)[1], rtol=1e-5)


def test_arrays_of_no_markov_game_are_refused():
    policies = [distribution(S, n) for n in N]
    wrong = MARKOV._replace(transition=MARKOV.transition[:, 0])
    with pytest.raises(ValueError, match=r"write transition \[S, n1, ..., nA, S\]"):
        games.FiniteHorizon(wrong, H).values(policies)
    game = games.FiniteHorizon(MARKOV, H)
    with pytest.raises(ValueError, match="1 policies for 2 players"):
        game.values(policies[:1])
    with pytest.raises(ValueError, match=r"player 1 has shape \(3, 2\), .* needs \(3, 3\)"):
        game.values([policies[0]] * 2)
    with pytest.raises(ValueError, match=r"needs \(2, 3, 2\)"):
        game.values([np.tile(policies[0], (3, 1, 1)), policies[1]])


def test_programs_with_64_bits_are_traced():
    with jax.enable_x64(True):
        play = lambda payoff: games.no_regret(games.NormalForm(payoff), 5, games.Hedge())
        assert jax.eval_shape(play, PAYOFF).joint.dtype == jnp.float32
        solve = lambda game: games.cfr(game, 5, games.RegretMatching(plus=True))
        assert jax.eval_shape(solve, KUHN).policy.dtype == jnp.float32
        policies = [distribution(S, n) for n in N]
        game = games.FiniteHorizon(MARKOV, H)
        assert jax.eval_shape(game.values, policies).shape == (2,)
