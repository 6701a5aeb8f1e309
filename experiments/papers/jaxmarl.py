"""JaxMARL (Rutherford et al., 2024): teams train many times faster if environments, learning and
seeds are one program, and win in a simplified StarCraft.

Speeds are of `python -m experiments.teams_speed`, games of `python -m experiments.smax`.
"""

from typing import Any

from experiments.claims import Check, Claim
from experiments.papers.earlier_studies import kept

SPEEDS, GAMES = "teams_speed.json", "smax.json"


def of(file: str, *names: str) -> Any:
    """A function of an interval that a record holds under these names."""

    def measure(results: Any) -> Any:
        found = results[file]
        for name in names:
            found = found[name]
        return kept(found)

    return measure


def claims(scale: float = 1.0) -> list[Claim]:
    return [
        Claim(
            row=77,
            statement="Training a team on Spread for many seeds at once takes at least 1,000 times "
            "as many steps in a second as a loop in Python over an environment on a CPU does.",
            records=(SPEEDS,),
            accept=[
                Check(
                    "steps in a second, over those of a Python loop",
                    of(SPEEDS, "python_loop", "ratio"),
                    ">= 1000",
                ),
                Check(
                    "the same, over those of JaxMARL on the same machine",
                    of(SPEEDS, "jaxmarl", "ratio"),
                    ">= 1",
                    control=True,
                ),
            ],
            worlds=("Spread with three agents, and simple_spread of mpe2 and of JaxMARL",),
            unmatched="Two cores of a CPU in place of a GPU.",
        ),
        Claim(
            row=77,
            statement="PPO with a critic of the whole team wins at least 90 % of games of the "
            "easy map 3m of SMAX.",
            records=(GAMES,),
            accept=[Check("share of games won at the end", of(GAMES, "wins"), ">= 0.9")],
            worlds=("jaxmarl:HeuristicEnemySMAX, 3m",),
            unmatched="One map, without a recurrent network.",
        ),
    ]
