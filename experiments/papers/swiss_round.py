"""LLM Swiss Round (2025): expected points in simulated Swiss-system tournaments over tasks."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim

AGENTS, TASKS = 30, 10
REPEATS = 100_000
ELIMINATED = 3  # after each round


def league(seed: jax.Array) -> jax.Array:
    """Scores of a league, the tasks in random order. [agents, tasks].

    Agent 0 is good at all tasks; agent 1 is excellent on 7 and poor on 3, with the same mean.
    """
    key_scores, key_order = jax.random.split(jax.random.key(seed))
    scores = jax.random.normal(key_scores, (AGENTS, TASKS))
    generalist = jnp.full(TASKS, 1.0)
    specialist = jnp.where(jnp.arange(TASKS) < 3, -2.5, 2.5)
    scores = scores.at[:2].set(jnp.stack([generalist, specialist]))
    return jax.random.permutation(key_order, scores, axis=1)


def contest(repeats: int, eliminated: int, seed: jax.Array) -> dict[str, jax.Array]:
    """Expected points and how far the generalist is ahead."""
    key = jax.random.fold_in(jax.random.key(seed), 1)
    points = rl.stats.swiss(key, league(seed), eliminated=eliminated, repeats=repeats)
    return {"ahead": points.estimate[0] - points.estimate[1]}


def width(repeats: int, eliminated: int) -> float:
    """The widest 95 % interval of an agent's points in one league."""
    scores = league(jnp.asarray(0))
    points = rl.stats.swiss(0, scores, eliminated=eliminated, repeats=repeats)
    return float(jnp.max(points.high - points.low))


def seconds(repeats: int) -> float:
    """Seconds of one league, compiled, the median of five. []."""
    scores, took = league(jnp.asarray(0)), []
    for i in range(6):
        start = time.perf_counter()
        jax.block_until_ready(rl.stats.swiss(i, scores, eliminated=1, repeats=repeats))
        took.append(time.perf_counter() - start)
    return float(np.median(took[1:]))


def claims(scale: float = 1.0) -> list[Claim]:
    repeats = max(int(REPEATS * scale), 1000)

    def arm(eliminated: int) -> Arm:
        run = functools.partial(contest, max(repeats // 20, 500), eliminated)
        return Arm(run, budget=AGENTS * TASKS)

    def more(results: Any) -> np.ndarray:
        lead = [results[name]["ahead"].values for name in ("elimination", "no elimination")]
        return lead[0] - lead[1]

    return [
        Claim(
            row=387,
            statement=(
                "Elimination after each round of simulated Swiss tournaments separates a "
                "generalist from a specialist with the same mean score."
            ),
            changed="After trials: 256 leagues in place of 8.",
            arms={
                "elimination": arm(ELIMINATED),
                "no elimination": arm(0),
            },
            accept=[
                Check("points by which elimination moves the generalist ahead", more, "> 0"),
                Check(
                    "points of the generalist less the specialist's, with elimination",
                    lambda results: results["elimination"]["ahead"].values,
                    "> 0",
                ),
                *(
                    Check(
                        f"widest 95 % interval of an agent's points, {eliminated} eliminated",
                        lambda _, eliminated=eliminated: width(repeats, eliminated),
                        "< 0.01",
                    )
                    for eliminated in (0, ELIMINATED)
                ),
                Check(
                    f"seconds of {repeats:,} tournaments of {AGENTS} agents on this machine",
                    lambda _: seconds(repeats),
                    "< 1",
                ),
            ],
            worlds=("30 synthetic agents on 10 tasks",),
            seeds=max(int(256 * scale), 64),
            unmatched="The mean score ties the two by construction: it can't separate them.",
        )
    ]
