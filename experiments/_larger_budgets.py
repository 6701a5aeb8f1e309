"""Claims on three earlier studies, from records of larger budgets where these are there."""

import dataclasses
import json
from typing import Any

import jaxrl as rl
from experiments.claims import Check, Claim
from experiments.claims.running import RECORDS
from experiments.papers.earlier_studies import kept

CLOCK, LPG, DQN = "discover_clock.json", "discover_ta_lpg.json", "discover_dqn.json"
NETWORKS = "learned_optimizer_networks.json"


def is_there(file: str) -> bool:
    """True if an earlier run has left this record."""
    return (RECORDS / file).exists()


def score(file: str, *path: str) -> Any:
    """An interval of a record."""

    def measure(results: Any) -> rl.stats.Interval:
        found = results[file]
        for name in path:
            found = found[name]
        return kept(found)

    return measure


def longest(name: str) -> Any:
    """A difference at the longest lifetime, the mean over worlds where a schedule has room."""

    def measure(results: Any) -> Any:
        each = results[CLOCK]["all"]
        return kept(each[max(each, key=int)][name])

    return measure


HAS_ROOM = Check(
    "number of worlds, of four, on which a linear decay is better than a constant",
    lambda results: float(results[CLOCK]["num_with_room"]),
    ">= 1",
    control=True,
)


def without_room(claim: Claim) -> Claim:
    """Row 70, if the search for worlds on which a schedule has room has found none."""
    return dataclasses.replace(
        claim,
        records=(*claim.records, CLOCK),
        accept=[*claim.accept, HAS_ROOM],
        worlds=(*claim.worlds, "two colours", "noisy chains", "mazes"),
        unmatched="Trained for lifetimes of at most 32 (LPO) and 60 (LPG) updates; no "
        "meta-gradients beside evolution. Drifts that begin at PPO were to be searched where a "
        "linear decay helps PPO, which it does on none of four worlds.",
    )


def temporal_awareness() -> Claim:
    """Row 70, on worlds on which a schedule has room."""
    where = "longest lifetime, worlds with room"
    return Claim(
        row=70,
        statement="Where a schedule helps PPO, drifts evolved from PPO with time as an input are, "
        "beyond their training horizons, better than those without, and than PPO.",
        records=(CLOCK, LPG),
        accept=[
            Check(f"score less the unaware's, {where}", longest("gain_by_clock"), "> 0"),
            Check(f"score less tuned PPO's, {where}", longest("more_than_PPO"), "> 0"),
            Check(
                "score of TA-LPG less tuned A2C's, 120 updates on grids",
                score(LPG, "scores", "120", "less_than_A2C"),
                "> 0",
            ),
            Check(f"score lost by a random time, {where}", longest("loss_by_shuffling"), "> 0"),
            Check(
                "score of TA-LPG lost by a random time, 120 updates on grids",
                score(LPG, "scores", "120", "loss_by_shuffling"),
                "> 0",
            ),
            HAS_ROOM,
        ],
        worlds=("two colours", "noisy chains", "random gridworlds", "mazes"),
        unmatched="Trained for lifetimes of at most 60 updates; no MinAtar, no meta-gradients "
        "beside evolution; the intervals are over five meta-seeds and the levels.",
        changed="After a first measurement on grids without room for a schedule: worlds chosen by "
        "the gain of a linear decay, a search that begins at PPO, twice the generations.",
    )


def best_of_new(results: Any) -> rl.stats.Interval:
    """The difference to Adam, tuned there, on the new family where its lower end is highest. The
    intervals have the coverage of as many comparisons as there are new families.
    """
    new = [each for each in results[NETWORKS]["families"].values() if each["is_new"]]
    return kept(max((each["less_than_tuned_Adam"] for each in new), key=lambda found: found[1]))


def small_optimizer(claim: Claim) -> Claim:
    """Row 326, also with an optimizer evolved on networks."""
    check = Check(
        "score less tuned Adam's, best of three families not in the search", best_of_new, "> 0"
    )
    return dataclasses.replace(
        claim,
        records=(*claim.records, NETWORKS),
        accept=[check, *claim.accept],
        worlds=(*claim.worlds, "CartPole", "Catch", "random processes", "delayed chains"),
        changed=claim.changed + " Then also evolved on networks.",
    )


def from_dqn(claim: Claim) -> Claim:
    """Row 199, also with searches that begin at DQN's loss."""
    unseen = [
        Check(
            f"score less {name}'s, four environments not in the search, from DQN's loss",
            score(DQN, "pooled", "unseen", "found", f"less {name}"),
            "> 0",
        )
        for name in ("DQN", "double DQN")
    ]
    searched = Check(
        "score less DQN's, the three environments of the search, from DQN's loss",
        score(DQN, "pooled", "searched", "found", "less DQN"),
        "> 0",
        control=True,
    )
    return dataclasses.replace(
        claim,
        statement="Losses evolved from nothing beat DQN's on the family of their search and on "
        "another; losses evolved from DQN's own beat it on environments not in the search.",
        records=(*claim.records, DQN),
        accept=[*unseen, *claim.accept, searched],
        worlds=(
            *claim.worlds,
            "CartPole, Catch, FourRooms; Acrobot, GridWorld, FrozenLake and RiverSwim",
        ),
        changed="After a first measurement: also searches that begin at DQN's loss.",
        unmatched="2,300 programs for each of six searches from DQN's loss, with small networks.",
    )


def with_larger_budgets(claims: list[Claim]) -> list[Claim]:
    """The claims, but rows 70, 199 and 326 from records of larger budgets where they are there."""

    def larger(claim: Claim) -> Claim:
        if claim.row == 70 and is_there(CLOCK):
            found = json.loads((RECORDS / CLOCK).read_text())
            return temporal_awareness() if found["num_with_room"] else without_room(claim)
        if claim.row == 199 and is_there(DQN):
            return from_dqn(claim)
        if claim.row == 326 and is_there(NETWORKS):
            return small_optimizer(claim)
        return claim

    return [larger(claim) for claim in claims]
