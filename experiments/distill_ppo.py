"""The schedule that a search found as a formula of a few numbers:
`python -m experiments.distill_ppo`.

The weights, means over meta-seeds, are rounded and all but the largest set to zero. On further
environments of the families of the search each is compared with the schedule itself, by the
interquartile mean of the differences on each family, and the mean of these. The formula is the one
with the fewest weights that is not worse by more than a margin: the interval of the difference is
above it. `discovered_ppo` tests it beside the schedule. The record also has what the schedule gains
over PPO on each family and after each lifetime.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from experiments import _discovery as lab
from experiments import _ppo_worlds as worlds
from experiments import discover_ppo

NAME = "controller.weights"
PPO, MEAN = "PPO", "mean of the meta-seeds"
# about the standard deviation of each feature of rl.LogLinear in training runs
SPREAD = np.array([1.0, 0.29, 0.3, 0.4, 0.4, 0.4])
SEED = 0xF0  # of the environments that choose the formula


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 18)
    """numbers of weights that are kept"""
    levels: int = 64
    """environments of each family"""
    margin: float = 0.01
    """of the score, by which a formula may be worse than the schedule"""
    lifetimes: tuple[int, ...] = worlds.LIFETIMES
    search: str = "schedule_2"
    """record of `discover_ppo`"""
    families: tuple[str, ...] = worlds.FAMILIES
    folder: pathlib.Path = worlds.RESULTS


def largest(weights: np.ndarray, size: int) -> np.ndarray:
    """The weights, of which all but `size` are zero, to one decimal. [fields, 6]."""
    importance = np.abs(weights * SPREAD).ravel()
    kept = np.zeros(weights.size, bool)
    kept[np.argsort(-importance, kind="stable")[:size]] = True
    return np.round(np.where(kept.reshape(weights.shape), weights, 0.0), 1)


def formula(weights: np.ndarray, fields: tuple[str, ...] = worlds.CONTROLLED) -> list[str]:
    """A line for each hyperparameter that changes."""
    lines = []
    for field, row in zip(fields, weights, strict=True):
        parts = [
            f"{weight:+.1f}" + ("" if name == "1" else f" ({name})")
            for weight, name in zip(row, rl.LogLinear.FEATURES, strict=True)
            if weight
        ]
        shown = f"(1 - {field})" if field in ("lam", "gamma") else field
        if parts:
            lines.append(f"{shown} * exp({' '.join(parts)})")
    return lines


def interval(differences: np.ndarray) -> list[float]:
    """The mean over families of interquartile means of differences, with its 95 % interval.

    differences: [families, levels].
    """
    mean = lambda x: rl.stats.iqm(x, axis=0).mean()
    return [round(float(x), 4) for x in rl.stats.interval_of(mean, differences.T)]


def by_cell(differences: np.ndarray, config: Config) -> dict[str, dict[str, Any]]:
    """The `interval` of each family and lifetime, and the share of levels with a gain.

    differences: [families, lifetimes, levels].
    """
    return {
        f"{family}, {lifetime} updates": {
            "gain": interval(differences[i, j][None]),
            "share of gains": round(float((differences[i, j] > 0.0).mean()), 3),
        }
        for i, family in enumerate(config.families)
        for j, lifetime in enumerate(config.lifetimes)
    }


def run(config: Config) -> dict[str, Any]:
    """The record: scores of all candidates, the formula and its weights."""
    path = config.folder / f"{config.search}.json"
    mean = np.mean([np.array(one[NAME]) for one in discover_ppo.found_by(path)], 0)
    candidates = {PPO: np.zeros_like(mean), MEAN: mean}
    candidates |= {f"{size} weights": largest(mean, size) for size in config.sizes}
    search = discover_ppo.Config(families=config.families)
    inner = discover_ppo.inner_loop("schedule", search)
    params = [{NAME: jnp.asarray(x, jnp.float32)} for x in candidates.values()]
    found = [
        lab.sweep_scores(loop, family, params, config.levels, config.lifetimes, SEED)
        for family, loop in discover_ppo.distribution(inner.learner, search).loops(inner)
    ]
    # a run in which no episode ended has the score of the random policy, 0
    scores = dict(zip(candidates, np.nan_to_num(np.stack(found, 1)), strict=True))
    over = lambda name, other: (scores[name] - scores[other]).mean(1)  # of lifetimes
    rows = {
        name: {
            "gain over PPO": interval(over(name, PPO)),
            "difference to the schedule": interval(over(name, MEAN)),
            "by family": {
                family: interval(row[None])
                for family, row in zip(config.families, over(name, PPO), strict=True)
            },
        }
        for name in scores
        if name != PPO
    }
    sizes = [
        size
        for size in config.sizes
        if rows[f"{size} weights"]["difference to the schedule"][1] >= -config.margin
    ]
    chosen = f"{min(sizes)} weights" if sizes else MEAN
    return {
        "formula": formula(candidates[chosen]),
        "weights": candidates[chosen].round(5).tolist(),
        "chosen": chosen,
        "search": config.search,
        "candidates": rows,
        "schedule": by_cell(scores[MEAN] - scores[PPO], config),
    }


def main(config: Config) -> None:
    rl.use_all_cores()
    record = run(config)
    (config.folder / "formula.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
