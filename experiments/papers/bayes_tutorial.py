"""A tutorial on Bayesian optimisation (Frazier, 2018): a Gaussian process and expected improvement.

`rl.tuning.Bayes` against random search on Branin and Hartmann's function of three variables. A
round is a batch of settings, run side by side. The first, random settings of the single evaluations
depend on no result, so that they are one round too.
"""

import numpy as np

from experiments.claims import Arm, Check, Claim
from jaxrl import tuning
from jaxrl.tuning.history import History

EVALUATIONS, WIDE, FIRST = 48, 16, 8
A = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
P = np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) / 1e4
WEIGHT = np.array([1.0, 1.2, 3.0, 3.2])


def branin(setting: dict[str, float]) -> float:
    """Minus Branin's function."""
    x, y = setting["x"], setting["y"]
    bend = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return -(bend**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def hartmann(setting: dict[str, float]) -> float:
    """Minus Hartmann's function of three variables."""
    x = np.array([setting[name] for name in "xyz"])
    return float(WEIGHT @ np.exp(-(A * (x - P) ** 2).sum(1)))


PROBLEMS = {  # name: (function, its maximum, its space)
    "branin": (branin, -0.397887, {"x": tuning.uniform(-5, 10), "y": tuning.uniform(0, 15)}),
    "hartmann": (hartmann, 3.86278, {name: tuning.uniform(0, 1) for name in "xyz"}),
}


def regrets(history: History, best: float) -> np.ndarray:
    """Log10 of the simple regret after each evaluation. [evaluations]."""
    return np.log10(np.maximum(best - np.maximum.accumulate(history.scores), 1e-6))


def arm(tuner: tuning.Tuner, evaluations: int) -> Arm:
    def run(seed):
        return {
            name: regrets(tuning.maximize(function, space, tuner, evaluations, seed=seed), best)
            for name, (function, best, space) in PROBLEMS.items()
        }

    return Arm(run, budget=evaluations, on_host=True)


def gap(name: str) -> Check:
    final = lambda results, arm: results[arm][name].values[:, -1]
    measure = lambda results: final(results, "one at a time") - final(results, "random")
    return Check(f"log10 of simple regret less that of random search, {name}", measure, "< 0")


def fewer_rounds(name: str) -> Check:
    """Rounds that single evaluations take to the final regret of batches, per their rounds: one for
    the random settings, and one for each setting after them.
    """

    def measure(results):
        single, wide = (results[arm][name].values for arm in ("one at a time", "16 at once"))
        reached = single <= wide[:, -1:]
        last = np.where(reached.any(1), reached.argmax(1), single.shape[1] - 1)
        return (1 + np.maximum(last - FIRST + 1, 0)) / (single.shape[1] / WIDE)

    return Check(f"times fewer rounds with 16 at once, {name}", measure, ">= 4")


def claims(scale: float = 1.0) -> list[Claim]:
    evaluations = max(int(3 * scale), 2) * WIDE
    tuners = {
        "random": tuning.Random(),
        "one at a time": tuning.Bayes(batch=1, first=FIRST),
        "16 at once": tuning.Bayes(batch=WIDE, first=WIDE),
    }
    return [
        Claim(
            row=99,
            statement=f"With {EVALUATIONS} evaluations, expected improvement has a lower simple "
            "regret than random search on Branin and Hartmann 3, and 16 evaluations at once reach "
            "their regret in at most a quarter of the rounds that single ones take.",
            arms={name: arm(tuner, evaluations) for name, tuner in tuners.items()},
            accept=[*map(gap, PROBLEMS), *map(fewer_rounds, PROBLEMS)],
            worlds=["Branin", "Hartmann 3"],
            seeds=100,
            unmatched="Knowledge gradient and entropy search are left out; no training is tuned. "
            "Where single evaluations never reach the regret of the batches, all rounds count.",
            changed="After a measurement in which the random settings of the single evaluations "
            "were a round each: they are one.",
        )
    ]
