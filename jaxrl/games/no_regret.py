"""Exact self-play of regret minimisers in games of normal and of extensive form."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import check_count
from jaxrl.games.extensive import Extensive
from jaxrl.games.game import nash_gaps
from jaxrl.games.normal_form import NormalForm, cce_gaps, ce_gaps, marginals, product
from jaxrl.games.regret import RegretMatching, RegretMinimizer

REGRET_MATCHING = RegretMatching()


class Averages(NamedTuple):
    """Averages of self-play in a normal-form game of A players.

    joint: the mean of the joint distributions, [n1, ..., nA].
    policies: the mean policy of each player, [n1], ..., [nA].
    last: the policies of the last step, [n1], ..., [nA].
    cce_gaps, ce_gaps: of the mean joint distribution up to each step, [steps, A].
    nash_gaps: of the mean policies up to each step, [steps, A].
    """

    joint: jax.Array
    policies: tuple[jax.Array, ...]
    last: tuple[jax.Array, ...]
    cce_gaps: jax.Array
    ce_gaps: jax.Array
    nash_gaps: jax.Array


class Solution(NamedTuple):
    """Averages of self-play in an extensive game with I information sets.

    policy: the mean behavioural policy, [I, n].
    last: that of the last step, [I, n].
    nash_gaps: of the mean policy up to each step, [steps, A].
    """

    policy: jax.Array
    last: jax.Array
    nash_gaps: jax.Array


@partial(jax.jit, static_argnames="steps")
def no_regret(
    game: NormalForm,
    steps: int,
    rule: RegretMinimizer = REGRET_MATCHING,
    first: Sequence[Any] | None = None,
) -> Averages:
    """Self-play in which each player minimises its regret, with exact expected payoffs.

    All players choose at once by their regrets so far. The mean joint distribution approaches the
    set of coarse correlated equilibria, with gaps of the order 1 / sqrt(steps); for two players
    with payoffs that sum to 0, the mean policies approach a Nash equilibrium.

    It can be vmapped over games and over the leaves of the rule.

    Args:
      game: the game.
      steps: how often it is played.
      rule: `RegretMatching()`, `RegretMatching(plus=True)`, `Hedge()` or your own.
      first: the policies of the first step, [n1], ..., [nA], by default uniform. A symmetric game
        may stay at a mixed equilibrium that is uniform.
    """
    check_count("steps", steps)
    sizes = game.sizes
    legal = [jnp.ones(size, bool) for size in sizes]
    payoff = jnp.asarray(game.payoff, jnp.float32)
    spread = [paid.max() - paid.min() for paid in payoff]

    def step(now: tuple, t: jax.Array) -> tuple[tuple, tuple]:
        totals, joint, _ = now
        policies = [
            rule.policy(total, mask, t, wide)
            for total, mask, wide in zip(totals, legal, spread, strict=True)
        ]
        if first is not None:
            policies = [
                jnp.where(t == 1, jnp.asarray(given, jnp.float32), policy)
                for given, policy in zip(first, policies, strict=True)
            ]
        values = game.action_values(policies)
        regrets = [q - jnp.sum(p * q) for p, q in zip(policies, values, strict=True)]
        totals = [rule.add(*each) for each in zip(totals, regrets, strict=True)]
        joint = joint + (product(policies) - joint) / t
        gaps = cce_gaps(game, joint), ce_gaps(game, joint), nash_gaps(game, marginals(joint))
        return (totals, joint, tuple(policies)), gaps

    zeros = [jnp.zeros(size, jnp.float32) for size in sizes]
    start = zeros, jnp.zeros(sizes, jnp.float32), tuple(zeros)
    (_, joint, last), gaps = jax.lax.scan(
        step, start, jnp.arange(1.0, steps + 1, dtype=jnp.float32)
    )
    return Averages(joint, marginals(joint), last, *gaps)


@partial(jax.jit, static_argnames="steps")
def cfr(game: Extensive, steps: int, rule: RegretMinimizer = REGRET_MATCHING) -> Solution:
    """Counterfactual regret minimisation (Zinkevich et al., 2007), with exact expected payoffs.

    Each information set has a regret minimiser, fed with the values of its actions, weighted by the
    probability that chance and the other players reach it. For two players with payoffs that sum to
    0, the mean policy approaches a Nash equilibrium. All players are updated at once, and means
    have equal weights.

    rule: as in `no_regret`.
    """
    check_count("steps", steps)
    spread = (game.payoff.max(0) - game.payoff.min(0))[game.player]

    def step(now: tuple, t: jax.Array) -> tuple[tuple, jax.Array]:
        total, plans, _ = now
        policy = rule.policy(total, game.legal, t, spread)
        value = game.action_values(policy)
        regret = value - (policy * value).sum(-1, keepdims=True)
        total = rule.add(total, jnp.where(game.legal, regret, 0.0))
        plans = plans + game.plans(policy)
        return (total, plans, policy), nash_gaps(game, game.behaviour(plans))

    zeros = jnp.zeros(game.legal.shape, jnp.float32)
    start = zeros, zeros, zeros
    times = jnp.arange(1.0, steps + 1, dtype=jnp.float32)
    (_, plans, last), gaps = jax.lax.scan(step, start, times)
    return Solution(game.behaviour(plans), last, gaps)
