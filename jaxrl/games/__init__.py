"""Exact evaluation and solution of small games, as arrays: values, best responses, equilibria.

    game = rl.games.zero_sum([[0, -1, 2], [1, 0, -1], [-2, 1, 0]])
    found = rl.games.no_regret(game, 1000)
    rl.games.exploitability(game, found.policies)  # 0 in a Nash equilibrium

`exploitability` and `nash_gaps` take games in normal form (`NormalForm`), in extensive form
(`Extensive`, as `kuhn()`), and Markov games (`FiniteHorizon`). Everything is pure JAX: `jax.jit`,
and `jax.vmap` over the arrays of games and over policies.
"""

from jaxrl.games.extensive import Chance, Decision, Extensive, Outcome, enumerated
from jaxrl.games.game import Game, exploitability, nash_gaps
from jaxrl.games.markov import FiniteHorizon, MarkovGame
from jaxrl.games.no_regret import Averages, Solution, cfr, no_regret
from jaxrl.games.normal_form import (
    NormalForm,
    cce_gaps,
    ce_gaps,
    marginals,
    product,
    zero_sum,
)
from jaxrl.games.poker import kuhn, kuhn_rules
from jaxrl.games.regret import Hedge, RegretMatching, RegretMinimizer

__all__ = [
    "Averages",
    "Chance",
    "Decision",
    "Extensive",
    "FiniteHorizon",
    "Game",
    "Hedge",
    "MarkovGame",
    "NormalForm",
    "Outcome",
    "RegretMatching",
    "RegretMinimizer",
    "Solution",
    "cce_gaps",
    "ce_gaps",
    "cfr",
    "enumerated",
    "exploitability",
    "kuhn",
    "kuhn_rules",
    "marginals",
    "nash_gaps",
    "no_regret",
    "product",
    "zero_sum",
]
