"""Vote'n'Rank (Rofin et al., 2023): social choice in place of a mean over tasks."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim
from experiments.claims.running import RECORDS

AGENTS, TASKS = 12, 20
MISSING = 0.3
RULES = {
    "mean": ("mean", False),
    "Borda": ("borda", False),
    "Copeland": ("copeland", False),
    "minimax": ("minimax", False),
    "plurality": ("plurality", False),
    "plurality, iterated": ("plurality", True),
}
VOTES = [name for name in RULES if name != "mean"]
WORLDS = ("synthetic", "zoo")


@functools.cache
def league() -> np.ndarray:
    """Final evaluations of the zoo: algorithms with a record on four tasks. [agents, tasks, seeds].

    On Acrobot, CartPole, MountainCarContinuous and Pendulum.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted((RECORDS / "zoo").glob("*-v[01].json")):
        record = json.loads(path.read_text())
        if "evaluation" in record.get("curves", ()):  # the others are of tuning
            algorithm, env = record["row"].split()[:2]
            values = np.array(record["curves"]["evaluation"]["values"], float)
            found.setdefault(algorithm, {})[env] = values[:, -1]
    tasks = ("Acrobot-v1", "CartPole-v1", "MountainCarContinuous-v0", "Pendulum-v1")
    full = [row for row in found.values() if set(tasks) <= set(row)]
    return np.array([[row[task] for task in tasks] for row in full])


def synthetic(key: jax.Array) -> jax.Array:
    """Scores of agents with a skill and a strength on each task, of half its variance."""
    key_skill, key_task = jax.random.split(key)
    skill = jax.random.normal(key_skill, (AGENTS, 1))
    return skill + 0.7 * jax.random.normal(key_task, (AGENTS, TASKS))


def of_zoo(key: jax.Array) -> jax.Array:
    """The zoo's scores, of one training run drawn for each algorithm and task."""
    scores = jnp.asarray(league(), float)
    index = jax.random.randint(key, scores.shape[:2], 0, scores.shape[2])
    return jnp.take_along_axis(scores, index[..., None], 2)[..., 0]


def rescaled(key: jax.Array, scores: jax.Array) -> jax.Array:
    """Scores with one task stretched by an increasing function: it doubles from agent to agent."""
    task = jax.random.randint(key, (), 0, scores.shape[1])
    x = scores[:, task]
    return scores.at[:, task].set(jnp.exp2((x[None] < x[:, None]).sum(1)))


def agreement(how: str, iterated: bool, seed: jax.Array) -> dict[str, jax.Array]:
    """Kendall's tau between rankings of full scores, and of rescaled or missing ones."""
    keys = jax.random.split(jax.random.key(seed), 3)
    rank = lambda scores: rl.stats.rank(scores, how, iterated=iterated).rank
    out = {}
    for world, draw in (("synthetic", synthetic), ("zoo", of_zoo)):
        scores = draw(keys[0])
        gone = jax.random.uniform(keys[1], scores.shape) < MISSING
        full, other = rank(scores), rank(rescaled(keys[2], scores))
        out[f"{world}_missing"] = rl.stats.kendall(full, rank(jnp.where(gone, jnp.nan, scores)))
        out[f"{world}_rescaled"] = rl.stats.kendall(full, other)
        out[f"{world}_same"] = (full == other).all().astype(float)
    return out


def tau(rule: str, name: str, accept: str) -> Check:
    """The mean of tau over instances."""
    world, what = name.split("_")
    words = {
        "missing": "with 30 % of the scores missing",
        "rescaled": "after one task is rescaled",
    }
    text = f"Kendall's tau {words[what]}, {rule}, {world} league"
    return Check(text, lambda results: results[rule][name].values, accept, rl.stats.mean)


def claims(scale: float = 1.0) -> list[Claim]:
    def invariant(results: Any) -> float:
        return min(float(results[rule][f"{w}_same"].min()) for rule in VOTES for w in WORLDS)

    return [
        Claim(
            row=368,
            statement=(
                "Rankings by votes do not change when a task is rescaled, and change little when "
                "30 % of the scores are missing."
            ),
            changed="After trials: the map that rescales a task, which had made ties by rounding.",
            arms={
                name: Arm(functools.partial(agreement, *rule), budget=AGENTS * TASKS)
                for name, rule in RULES.items()
            },
            accept=[
                tau("Copeland", "synthetic_missing", ">= 0.8"),
                tau("Borda", "synthetic_missing", ">= 0.8"),
                tau("minimax", "synthetic_missing", ">= 0.8"),
                tau("plurality", "synthetic_missing", ">= 0.8"),
                tau("plurality, iterated", "synthetic_missing", ">= 0.8"),
                tau("Copeland", "zoo_missing", ">= 0.8"),
                Check(
                    "least share of equal rankings after one task is rescaled, by votes",
                    invariant,
                    ">= 1",
                ),
                tau("mean", "synthetic_rescaled", "< 1"),
                tau("mean", "zoo_rescaled", "< 1"),
            ],
            worlds=("12 synthetic agents on 20 tasks", "the zoo's algorithms on 4 tasks"),
            seeds=max(int(1000 * scale), 2),
            why_fewer="" if scale >= 1 else "a trial",
        )
    ]
