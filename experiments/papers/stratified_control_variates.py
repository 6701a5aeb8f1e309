"""Stratified sparse control variates (Yang et al., 2023): one regression for each number of
critical steps.
"""

from experiments.claims import Check, Claim
from experiments.papers.sparse_control_variates import bias, common, exact_episodes, gain


def claims(scale: float = 1.0) -> list[Claim]:
    return [
        Claim(
            row=151,
            statement=(
                "One regression for each number of critical steps has less variance than one "
                "regression for all, and than importance sampling alone."
            ),
            changed="After trials: the crash rate and the drivers of the simulator.",
            accept=[
                Check("variance of one regression / of strata", gain("controls", "strata"), "> 1"),
                Check(
                    "variance of importance sampling / of strata",
                    gain("importance", "strata"),
                    "> 1",
                ),
                bias("strata", exact_episodes(scale)),
            ],
            **common(scale, "importance", "controls", "strata"),
        ),
    ]
