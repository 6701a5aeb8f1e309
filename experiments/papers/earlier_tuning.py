"""Verdicts from records of earlier studies of tuning: tuners, scaling, early stopping."""

from typing import Any

import jaxrl as rl
from experiments.claims import Check, Claim
from experiments.papers.earlier_studies import kept

TUNER = "dehb"  # of the tuners compared, the one that the paper recommends


def tuned(task: str, name: str) -> Any:
    """What a summary of the tuners has for one task."""
    return lambda results: kept(results["tuners.json"][task]["summary"][TUNER][name])


def missed(score: str) -> Any:
    "Relative error of the predicted data at twice the UTD ratio."
    return lambda results: abs(results["scaling.json"]["found"][score]["miss"])


def stopping(predictor: str, of: Any) -> Any:
    """A function of the row of one predictor, at the quantile that saves most."""

    def measure(results: Any) -> rl.stats.Interval:
        rows = results["early_stopping.json"]["rows"]
        row = next(x for x in rows if x["predictor"] == predictor and x["quantile"] == 0.9)
        return kept(of(row))

    return measure


def claims(scale: float = 1.0) -> list[Claim]:
    factor = lambda row: [1 / (1 - x) for x in row["saved"]]
    tasks = ("CartPole-v1", "Acrobot-v1", "Catch")
    return [
        Claim(
            row=50,
            statement="DEHB finds better settings of PPO than a manual grid at the same cost.",
            records=("tuners.json",),
            accept=[
                *(
                    Check(
                        f"return on test seeds less that of the grid, {task}",
                        tuned(task, "over_hand"),
                        "> 0",
                    )
                    for task in tasks
                ),
                *(
                    Check(
                        f"return on tuning seeds less that on test seeds, {task}",
                        tuned(task, "gap"),
                        "> 0",
                    )
                    for task in tasks
                ),
            ],
            unmatched="Four tuning seeds, so how the gap falls with their number is not measured; "
            "the budget is that of the grid, not a tenth.",
        ),
        Claim(
            row=294,
            statement="A power law predicts the data that SAC needs at twice the UTD ratio.",
            records=("scaling.json",),
            accept=[
                Check(
                    f"relative error of the predicted steps to a return of {score}",
                    missed(score),
                    "<= 0.15",
                )
                for score in ("-300", "-400", "-200")
            ],
            worlds=("Pendulum-v1",),
            unmatched="One task and one held-out ratio; laws of batch size and learning rate, and "
            "the settings that they choose, are not compared.",
        ),
        Claim(
            row=339,
            statement="Predictions from partial curves find the best setting with a third of the "
            "steps.",
            records=("early_stopping.json",),
            accept=[
                Check(
                    "steps of all settings / steps taken, ridge regression",
                    stopping("ridge regression", factor),
                    ">= 3",
                ),
                Check(
                    "the same by the present score, without a prediction",
                    stopping("where it is now", factor),
                    ">= 3",
                ),
                Check(
                    "return lost by the setting that ridge regression selects",
                    stopping("ridge regression", lambda row: row["regret"]),
                    "<= 0",
                ),
            ],
            worlds=("PPO on CartPole-v1, 48 settings",),
            unmatched="48 settings, not 1,000; R2 of the predictions was not recorded.",
        ),
    ]
