"""Verdicts from records of the zoo: what a rerun needs, memory, discrete actor-critics."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Check, Claim
from experiments.claims.running import RECORDS

ZOO = tuple(
    f"zoo/{path.name}"
    for path in sorted((RECORDS / "zoo").glob("*.json"))
    if not path.name.startswith("tuning-")
)
RERUN = ("recipe", "axes", "versions", "commit", "kinds", "chunk")  # what a rerun needs
SYSTEM = ("machine", "compile_seconds", "run_seconds")


def kept(three: Any) -> rl.stats.Interval:
    """An interval of a record, [estimate, low, high]."""
    return rl.stats.Interval(*(jnp.asarray(x) for x in three))


def final(record: dict) -> np.ndarray:
    """Last evaluations of a record of the zoo. [seeds]."""
    return np.asarray(record["curves"]["evaluation"]["values"], float)[:, -1]


def share_with(names: tuple[str, ...]) -> Any:
    """Share of records that have all fields."""
    return lambda results: float(np.mean([set(names) <= set(each) for each in results.values()]))


def is_exact(record: dict) -> bool:
    """True if returns are kept with more than two decimals."""
    values = np.asarray(record["curves"]["return"]["values"], float)
    values = values[np.isfinite(values)]
    return bool(np.any(np.abs(values * 100 - np.round(values * 100)) > 1e-3))


def less(first: str, second: str) -> Any:
    """Difference of the interquartile means of two records of the zoo."""
    of = lambda results, name: final(results[f"zoo/{name}.json"])
    return lambda results: rl.stats.difference(of(results, first), of(results, second))


def overlap(first: str, second: str) -> Any:
    """How far the intervals of two records overlap; below 0 is the distance between them."""

    def measure(results: Any) -> float:
        one, two = (rl.stats.interval(final(results[f"zoo/{x}.json"])) for x in (first, second))
        return float(min(one.high, two.high) - max(one.low, two.low))

    return measure


def claims(scale: float = 1.0) -> list[Claim]:
    tasks = ("CartPole-v1", "Acrobot-v1")
    pendulum = ("sac-Pendulum-P", "td3-Pendulum-P", "ddpg-Pendulum-P", "sac-Pendulum-v1")
    discrete = [f"{x}-{env}" for x in ("sac_discrete", "dqn") for env in tasks]
    zoo = lambda names: tuple(f"zoo/{name}.json" for name in names)
    exact = lambda results: float(np.mean([is_exact(each) for each in results.values()]))
    return [
        Claim(
            row=0,
            statement="Each record of the zoo has what a rerun needs, and its curves in full.",
            records=ZOO,
            accept=[
                Check("share of records with returns of more than two decimals", exact, ">= 1"),
                Check("share with recipe, seeds, versions and commit", share_with(RERUN), ">= 1"),
                Check(
                    "share with machine, seconds of compiling and running",
                    share_with(SYSTEM),
                    ">= 1",
                ),
            ],
            unmatched="That a rerun gives the same bits is tested elsewhere, for tiny trainings.",
        ),
        Claim(
            row=207,
            statement="Recurrent SAC without velocities nearly reaches SAC with them.",
            records=zoo(pendulum),
            accept=[
                Check(
                    "return of RSAC without velocity less that of SAC with it",
                    less(pendulum[0], pendulum[3]),
                    ">= -100",
                ),
                *(
                    Check(
                        f"return of RSAC less that of {name}",
                        less(pendulum[0], file),
                        "> 0",
                        control=True,
                    )
                    for name, file in zip(("RTD3", "RDPG"), pendulum[1:3], strict=True)
                ),
            ],
            worlds=("Pendulum without velocity, 20,000 steps",),
            unmatched="SAC without memory was not run; one task.",
        ),
        Claim(
            row=244,
            statement="SAC for discrete actions is on a par with DQN after 100,000 steps.",
            records=zoo(discrete),
            accept=[
                Check(
                    f"overlap of the intervals of the return, {env}",
                    overlap(f"sac_discrete-{env}", f"dqn-{env}"),
                    ">= 0",
                )
                for env in tasks
            ],
            worlds=tasks,
        ),
    ]
