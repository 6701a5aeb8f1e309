"""The schedule that a search found as a formula of a few numbers:
`python -m experiments.distill_ppo`.

The weights, means over meta-seeds, are rounded and all but the largest set to zero. On further
environments of the families of the search each is compared with the schedule itself. The formula is
the one with the fewest weights that is not worse by more than a margin: the interval of the
difference is above it. `discovered_ppo` tests it beside the schedule.
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
MEAN = "mean of the meta-seeds"
# about the standard deviation of each feature of rl.LogLinear in training runs
SPREAD = np.array([1.0, 0.29, 0.3, 0.4, 0.4, 0.4])
SEED = 0xF0  # of the environments that choose the formula


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    sizes: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 18, 36)
    """numbers of weights that are kept"""
    levels: int = 768
    margin: float = 0.03
    """of the score, by which a formula may be worse than the schedule"""
    lifetime: tuple[int, int] = (20, 200)
    search: str = "schedule_1"
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


def run(config: Config) -> dict[str, Any]:
    """The record: scores of all candidates, the formula and its weights."""
    path = config.folder / f"{config.search}.json"
    found = [np.array(one[NAME]) for one in discover_ppo.found_by(path)]
    mean = np.mean(found, 0)
    candidates = {f"{size} weights": largest(mean, size) for size in config.sizes}
    candidates |= {MEAN: mean} | {f"meta-seed {i}": x for i, x in enumerate(found)}
    search = discover_ppo.Config(lifetime=config.lifetime, families=config.families)
    inner = discover_ppo.inner_loop("schedule", search)
    tasks = discover_ppo.distribution(inner.learner, search)
    score = lab.scorer(inner, tasks, config.levels)
    scores = {
        key: score({NAME: jnp.asarray(weights, jnp.float32)}, SEED)
        for key, weights in candidates.items()
    }
    ppo = score(inner.tuned, SEED)
    minus = lambda x, other: lab.compare(x[None], other[None])
    difference = {key: minus(x, scores[MEAN]) for key, x in scores.items()}
    sizes = [size for size in config.sizes if difference[f"{size} weights"][1] >= -config.margin]
    chosen = f"{min(sizes)} weights" if sizes else MEAN
    return {
        "formula": formula(candidates[chosen]),
        "weights": candidates[chosen].round(5).tolist(),
        "chosen": chosen,
        "search": config.search,
        "candidates": {
            key: {"gain over PPO": minus(x, ppo), "difference to the schedule": difference[key]}
            for key, x in scores.items()
        },
    }


def main(config: Config) -> None:
    rl.use_all_cores()
    record = run(config)
    (config.folder / "formula.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
