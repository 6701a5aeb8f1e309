"""Verdict from the record of `discover_dqn`: losses evolved from DQN's (Co-Reyes et al., 2021)."""

from typing import Any

from experiments.papers import Check, Claim
from experiments.papers.earlier_discoveries import score

RECORD = "discover_dqn.json"


def less(other: str, arm: str = "selected", group: str = "unseen") -> Any:
    """Difference of the scores of two arms, paired by the seeds."""
    return score(RECORD, "pooled", group, arm, f"less {other}")


def claims(scale: float = 1.0) -> list[Claim]:
    unseen = "on environments that the search did not use"
    return [
        Claim(
            row=199,
            statement="A loss evolved from DQN's own on three environments beats DQN's and double "
            "DQN's on others.",
            records=(RECORD,),
            accept=[
                Check(f"score less DQN's, {unseen}", less("DQN"), "> 0"),
                Check(f"score less double DQN's, {unseen}", less("double DQN"), "> 0"),
                Check(f"score less DQNReg's, {unseen}", less("DQNReg"), "> 0"),
                Check(
                    f"score less DQN's tuned for each environment, {unseen}",
                    less("DQN, tuned"),
                    "> 0",
                ),
                Check(
                    f"score less DQN's, mean of six meta-seeds, {unseen}",
                    less("DQN", "found"),
                    "> 0",
                ),
                Check(
                    "score less DQN's, new seeds of the searched environments",
                    less("DQN", group="searched"),
                    "> 0",
                ),
                Check(
                    "training runs of candidates, 60 of 132 of a third of the length",
                    lambda results: results[RECORD]["training_runs"],
                    ">= 20000",
                    control=True,
                ),
            ],
            worlds=(
                "CartPole-v1",
                "Catch",
                "FourRooms-misc",
                "Acrobot-v1",
                "GridWorld",
                "MDP-FrozenLake",
                "RiverSwim",
            ),
            unmatched="Networks of 32 units and 19,200 steps; the screening ranks candidates, and "
            "has no threshold; DQN is tuned over its learning rate and discount; FourRooms starts "
            "anywhere, with 100 steps; of the losses of five meta-seeds that with the best "
            "score on selection seeds is tested.",
        )
    ]
