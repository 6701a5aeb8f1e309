"""MAMEX (Xiong et al., 2024): equilibria of a game of pure policies, by one objective each.

Before each episode, the payoff of a player for a joint policy is the largest value, less eta times
the loss, of any model: max over f of V_f(policy) - eta * loss_f(data). A joint policy is drawn from
a coarse correlated equilibrium of this game in normal form, and played. Its marginals have a small
Nash gap if rewards sum to 0, as the sum of the optimistic payoffs bounds it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

import jaxrl as rl
from envs.markov_game import garnet
from experiments.claims import Arm, Check, Claim, ratio
from experiments.claims.claim import Results
from jaxrl import games
from jaxrl.tree import replace

SIZES, HORIZON = (2, 2), 3  # two states, and two actions of each player
GRID = (jnp.arange(40) + 0.5) / 40  # probabilities of state 1 in the models
PURE = 2**5  # policies of a player: an action in state 0 at first, then in both states, twice
ACTIONS = np.indices((2,) * 5).reshape(5, PURE).T[:, [0, 0, 1, 2, 3, 4]].reshape(PURE, HORIZON, 2)
KINDS = {"NE": -1.0, "CCE": 0.0}  # correlation of the rewards of the two players


def payoffs(reward: jax.Array, loss: jax.Array) -> jax.Array:
    """The largest value less loss of a model, for each joint pure policy. [PURE, PURE].

    reward: of one player in a state for a pair of actions, [2, 4]. loss: at the first and the
    second step, in a state for a pair, if state 1 has a probability of GRID, [2, 2, 4, G].
    """
    at = lambda x, *axes: jnp.expand_dims(x, axes)
    # of the last step, for a pair in each of the two states: [4, 4, G]
    last = (1.0 - GRID) * at(reward[0], 1, 2) + GRID * at(reward[1], 1)

    def second(state: int, prob: jax.Array) -> jax.Array:
        """Of the second step in a state of probability [G]. [pair, last pairs.., G]."""
        value = at(reward[state], 1, 2, 3, 4) + at(last, 0, 3)
        return (prob[:, None] * value - at(loss[1, state], 1, 2, 3)).max(-1)

    first = at(reward[0][:, None] - loss[0, 0], 1, 2, 3, 4)
    after = at(second(0, 1.0 - GRID), 0, 2) + at(second(1, GRID), 0, 1)
    best = (first + after).max(-1).reshape(SIZES * 5)
    return best.transpose(*range(0, 10, 2), *range(1, 10, 2)).reshape(PURE, PURE)


def equilibrium(game: games.NormalForm, steps: int) -> jax.Array:
    """The mean joint distribution over the second half of self-play. [PURE, PURE]."""
    rule = games.RegretMatching(plus=True)
    half, whole = (games.no_regret(game, num, rule).joint for num in (steps // 2, steps))
    joint = jnp.maximum(2.0 * whole - half, 0.0)
    return joint / joint.sum()


def run(seed: jax.Array, correlation: jax.Array, eta: jax.Array, episodes: int, steps: int) -> dict:
    """The gaps, summed over players, of the equilibrium of each episode in the true game, and that
    of the oracle in the optimistic one. [episodes].
    """
    key_game, key = jax.random.split(jax.random.key(seed))
    game = garnet(key_game, 2, SIZES, 2, correlation)
    prob = GRID[jnp.abs(game.transition[..., 1, None] - GRID).argmin(-1)]
    game = replace(game, transition=jnp.stack([1.0 - prob, prob], -1), start=jnp.array([1.0, 0.0]))
    pure = jax.nn.one_hot(ACTIONS, 2)
    value = lambda *policies: games.FiniteHorizon(game, HORIZON).values(policies)
    values = jax.vmap(lambda x: jax.vmap(functools.partial(value, x))(pure))(pure)
    true = games.NormalForm(jnp.moveaxis(values, -1, 0))

    def episode(arrived: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        k, key = inputs
        key_policy, key_moves = jax.random.split(key)
        zeros, ones = (arrived[..., new, None] for new in range(2))  # [2, 2, 4, 1]
        loss = -xlogy(zeros, 1.0 - GRID) - xlogy(ones, GRID)
        loss = eta / jnp.sqrt(k) * (loss - loss.min(-1, keepdims=True))
        both = jax.vmap(payoffs, (0, None))(game.reward.reshape(2, 2, 4), loss)
        joint = equilibrium(games.NormalForm(both), steps)
        drawn = jax.random.categorical(key_policy, jnp.log(joint.ravel()))
        policies = jnp.asarray(ACTIONS)[jnp.stack(jnp.divmod(drawn, PURE))]  # [2, HORIZON, 2]

        def move(state: jax.Array, inputs: tuple) -> tuple[jax.Array, tuple]:
            one, other = inputs[0][:, state]  # of actions [2 players, 2 states]
            new = jax.random.bernoulli(inputs[1], prob[state, one, other]).astype(int)
            return new, (state, 2 * one + other, new)

        moves = jnp.moveaxis(policies, 1, 0)[:-1], jax.random.split(key_moves, HORIZON - 1)
        path = jax.lax.scan(move, jnp.int32(0), moves)[1]
        gaps = {
            "NE": games.nash_gaps(true, games.marginals(joint)).sum(),
            "CCE": games.cce_gaps(true, joint).sum(),
            "oracle": games.cce_gaps(games.NormalForm(both), joint).sum(),
        }
        return arrived.at[(jnp.arange(HORIZON - 1), *path)].add(1.0), gaps

    rounds = jnp.arange(1.0, episodes + 1), jax.random.split(key, episodes)
    return jax.lax.scan(episode, jnp.zeros((HORIZON - 1, 2, 4, 2)), rounds)[1]


def regret(results: Results, kind: str, gap: str) -> np.ndarray:
    """The mean gap of the first K episodes at each K, in the games of a kind. [seeds, episodes]."""
    found = results["MAMEX"][gap].sel(correlation=KINDS[kind]).transpose("seed", ...).values
    return np.cumsum(found, -1) / np.arange(1, found.shape[-1] + 1)


def exponent(kind: str) -> Check:
    """A check of the exponent of the mean gap, also over seeds, in the last six doublings."""

    def measure(results: Results) -> rl.stats.Interval:
        y = regret(results, kind, kind)
        t = np.unique(np.geomspace(max(y.shape[1] // 64, 1), y.shape[1], 17).astype(int))
        slope = lambda y: jnp.polyfit(jnp.log(t), jnp.log(y.mean(0)), 1)[0]
        return rl.stats.interval(y[:, t - 1], slope, axis=0, tasks=1, stratified=False)

    return Check(f"exponent of the mean {kind} gap over episodes", measure, "<= -0.45")


def of_oracle(kind: str) -> Check:
    def measure(results: Results) -> rl.stats.Interval:
        own, true = (regret(results, kind, gap)[:, -1] for gap in ("oracle", kind))
        return ratio(own, true, rl.stats.mean, rl.stats.mean)

    about = f"gap of the oracle in the optimistic game / {kind} gap in the true one, means"
    return Check(about, measure, "<= 0.5", control=True)


def claims(scale: float = 1.0) -> list[Claim]:
    episodes, steps = max(int(1024 * scale), 16), max(int(1600 * scale), 20)
    played = functools.partial(run, episodes=episodes, steps=steps)
    return [
        Claim(
            row=248,
            statement="In random Markov games of two players, the mean gap of the equilibria that "
            "are played falls about as 1 / sqrt(episodes), or faster: the Nash gap if rewards sum "
            "to 0, the gap to a coarse correlated equilibrium if they are independent.",
            arms={"MAMEX": Arm(played, episodes * HORIZON, {"eta": (1.0, 3.0, 10.0, 30.0)})},
            accept=[*map(exponent, KINDS), *map(of_oracle, KINDS)],
            worlds=["garnets of two states, two actions of each player and three steps"],
            axes={"correlation": list(KINDS.values())},
            metric="CCE",
            minimize=True,
            unmatched="Models are tables of probabilities on a grid, to which the true ones are "
            "rounded, of transitions alone; eta "
            "falls as 1 / sqrt(k) with the episode, in place of one for all, and its scale is "
            "tuned. The oracle is regret matching, and correlated equilibria are left out. "
            "Deviations are pure policies of state and step.",
        )
    ]
