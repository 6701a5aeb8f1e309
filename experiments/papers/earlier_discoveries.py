"""Verdicts from records of earlier studies of meta-learning."""

from typing import Any

import jaxrl as rl
from experiments._larger_budgets import score, with_larger_budgets
from experiments.claims import Check, Claim
from experiments.papers.earlier_studies import kept

PROCESSES = "discover_symbolic_from_nothing_on_processes.json"
BROKEN = "discover_symbolic.json"
ENTROPY = "bootstrapped_entropy.json"


def apart(file: str, place: str, first: str, second: str) -> Any:
    """Difference of two means, with the widest interval that theirs allow."""

    def measure(results: Any) -> rl.stats.Interval:
        x, y = (results[file][place][name]["mean"] for name in (first, second))
        return kept((x[0] - y[0], x[1] - y[2], x[2] - y[1]))

    return measure


def cost(name: str) -> Any:
    """What a small learned optimizer costs, divided by that of a recurrent one (OPEN)."""
    of = lambda results, kind: results["learned_optimizer.json"]["cost"][kind][name]
    return lambda results: of(results, "small_fc") / of(results, "open")


def claims(scale: float = 1.0) -> list[Claim]:
    return with_larger_budgets(first_claims())


def first_claims() -> list[Claim]:
    """The claims on what was measured first."""
    lpg, lpo = "discover_ta_lpg.json", "discover_ta_lpo.json"
    tried = lambda results: sum(results[PROCESSES]["programs_tried"])
    return [
        Claim(
            row=70,
            statement="Beyond their training horizons, drifts evolved with time as an input are "
            "better than those without, and than PPO.",
            records=(lpo, lpg),
            accept=[
                Check(
                    "score of TA-LPO less LPO's, 64 updates",
                    score(lpo, "scores", "64", "gain_by_clock"),
                    "> 0",
                ),
                Check(
                    "score of TA-LPO less tuned PPO's, 64 updates",
                    score(lpo, "scores", "64", "more_than_tuned_PPO"),
                    "> 0",
                ),
                Check(
                    "score of TA-LPG less tuned A2C's, 120 updates",
                    score(lpg, "scores", "120", "less_than_A2C"),
                    "> 0",
                ),
                Check(
                    "score of TA-LPO lost by a random time, 64 updates",
                    score(lpo, "scores", "64", "loss_by_shuffling"),
                    "> 0",
                ),
                Check(
                    "score of TA-LPG lost by a random time, 120 updates",
                    score(lpg, "scores", "120", "loss_by_shuffling"),
                    "> 0",
                ),
            ],
            worlds=("random gridworlds",),
            unmatched="Trained for lifetimes of at most 32 (LPO) and 60 (LPG) updates; no "
            "meta-gradients beside evolution.",
        ),
        Claim(
            row=199,
            statement="Losses evolved from nothing beat DQN's on the family of their search and on "
            "another.",
            records=(PROCESSES, BROKEN),
            accept=[
                Check(
                    "score less DQN's on random processes, from nothing",
                    score(PROCESSES, "more_than", "DQN"),
                    "> 0",
                ),
                Check(
                    "score less tuned DQN's on random processes, from nothing",
                    score(PROCESSES, "more_than", "DQN, tuned"),
                    "> 0",
                ),
                Check(
                    "score less DQN's on gridworlds, not seen in the search",
                    apart(PROCESSES, "scores_elsewhere", "found", "DQN"),
                    "> 0",
                ),
                Check(
                    "score less DQN's on gridworlds, searched from a wrong loss",
                    score(BROKEN, "more_than", "DQN"),
                    "> 0",
                ),
                Check("programs tried", tried, ">= 20000", control=True),
            ],
            worlds=("random processes", "gridworlds"),
            unmatched="No search was started from DQN's loss.",
        ),
        Claim(
            row=243,
            statement="Matching a bootstrapped target lowers the regret below that of the plain "
            "meta-gradient.",
            records=(ENTROPY,),
            accept=[
                Check(
                    "regret per step of meta-gradient less that with the target",
                    score(ENTROPY, "scores", "meta-gradient", "more_than_bootstrapped"),
                    "> 0",
                )
            ],
            changed="After a first measurement: fixed weights are no longer compared.",
            worlds=("two colours that change their signs",),
            unmatched="16 seeds, one length of the target, no learned epsilon.",
        ),
        Claim(
            row=326,
            statement="A small learned optimizer is cheaper than a recurrent one and better than "
            "tuned Adam.",
            records=("learned_optimizer.json",),
            accept=[
                Check(
                    "score less tuned Adam's",
                    score("learned_optimizer.json", "less_than_tuned_Adam"),
                    "> 0",
                ),
                Check(
                    "microseconds of a step / of the recurrent optimizer's",
                    cost("microseconds"),
                    "< 1",
                ),
                Check("bytes / of the recurrent optimizer's", cost("bytes"), "< 1"),
            ],
            worlds=("random gridworlds",),
            changed="After a first measurement, in which it was 0.037 behind: 600 generations in "
            "place of 20, four meta-seeds, 120 settings of Adam and 256 test levels.",
            unmatched="The quality of the recurrent optimizer was not measured beside it. Adam's "
            "setting is chosen on the selection levels; its default, a learning rate of 0.1, is "
            "0.011 better on the test levels, and 0.005 behind the learned optimizer. The "
            "interval is over levels, not meta-seeds.",
        ),
    ]
