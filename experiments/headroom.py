"""How much PPO gains by other hyperparameters: `python -m experiments.headroom`.

256 random settings of PPO (learning rate and its decay, clip, entropy bonus, lambda, gamma, epochs)
train on the families of `_ppo_worlds`, for 20, 60 and 200 updates. The one that is the best on
average is the robust setting. On held-out environments it is compared with the best setting for
each lifetime, and for each family and lifetime. What a rule that adapts could win is about the
latter.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from experiments import _discovery as lab
from experiments import _ppo_worlds as worlds


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    settings: int = 256
    tasks: int = 4
    """environments that each setting is first tried on"""
    finalists: int = 12
    """settings of each family and lifetime that are tried again"""
    final_tasks: int = 16
    """environments that these are tried on"""
    test_tasks: int = 64
    lifetimes: tuple[int, ...] = worlds.LIFETIMES
    families: tuple[str, ...] = worlds.FAMILIES
    runs: pathlib.Path = pathlib.Path("runs/headroom")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = worlds.RESULTS


def random_settings(num: int) -> dict[str, np.ndarray]:
    """Hyperparameters, log-uniform but for the epochs and the final learning rate. [num] each."""
    rng = np.random.default_rng(0)
    between = lambda low, high: np.exp(rng.uniform(np.log(low), np.log(high), num))
    return {
        "lr": between(1e-4, 3e-2),
        "clip": between(0.05, 0.6),
        "entropy_weight": between(1e-4, 0.1),
        "lam": 1.0 - between(0.01, 0.4),
        "gamma": 1.0 - between(0.002, 0.1),
        "epoch_limit": rng.choice([1.0, 2.0, 4.0, 8.0], num),
        "end": rng.choice([0.0, 0.3, 1.0], num),
    }


def scores(
    name: str, points: dict[str, np.ndarray], seeds: np.ndarray, folder: pathlib.Path
) -> np.ndarray:
    """Scores of points (settings with a `lifetime`) on environments of a family. [points, seeds].

    Points of one lifetime should follow each other: of the runs side by side the longest counts.
    """
    kind = lambda key: jnp.int32 if key == "lifetime" else jnp.float32
    over = {
        "point": rl.zipped(**{key: jnp.asarray(x, kind(key)) for key, x in points.items()}),
        "seed": jnp.asarray(seeds),
    }
    algo = worlds.sized(worlds.agent(), *worlds.SIZES[name])
    run = worlds.area(algo, worlds.families()[name])
    return rl.sweep(run, over, folder=folder / name, chunk=worlds.CHUNK)["score"].values


def at(settings: dict[str, np.ndarray], index: Any) -> dict[str, np.ndarray]:
    """The settings of an index, or of several."""
    return {name: values[index] for name, values in settings.items()}


def points(
    settings: dict[str, np.ndarray], lifetimes: tuple[int, ...], indices: list[Any]
) -> dict[str, np.ndarray]:
    """The settings of each lifetime, by their indices, as points."""
    repeated = np.repeat(lifetimes, [len(index) for index in indices])
    return at(settings, np.concatenate(indices)) | {"lifetime": repeated}


def run(config: Config) -> dict[str, Any]:
    """The record: robust setting, scales of scores, and gains of better settings."""
    names, settings, lifetimes = config.families, random_settings(config.settings), config.lifetimes
    low = {name: worlds.random_return(worlds.families()[name]) for name in names}
    every = [np.arange(config.settings)] * len(lifetimes)
    found, best, tests = {}, {}, {}
    for name in names:
        searched = points(settings, lifetimes, every)
        each = scores(name, searched, np.arange(config.tasks), config.runs / "search")
        rows = np.nan_to_num(each.mean(1), nan=-np.inf).reshape(len(lifetimes), -1)
        found |= {(name, n): rows[i] for i, n in enumerate(lifetimes)}
        finalists = [np.argsort(-row, kind="stable")[: config.finalists] for row in rows]
        seeds = config.tasks + np.arange(config.final_tasks)
        again = points(settings, lifetimes, finalists)
        finals = scores(name, again, seeds, config.runs / "finals").mean(1)
        for i, final in enumerate(finals.reshape(len(lifetimes), -1)):
            best[name, lifetimes[i]] = int(finalists[i][lab.argbest(final)])
    # share of the best setting's gain over a random policy
    share = {cell: (x - low[cell[0]]) / (x.max() - low[cell[0]]) for cell, x in found.items()}
    mean = lambda cells: int(np.argmax(np.mean([share[cell] for cell in cells], 0)))
    robust = mean(list(share))
    by_lifetime = {n: mean([cell for cell in share if cell[1] == n]) for n in lifetimes}
    seeds = worlds.TESTS + np.arange(config.test_tasks)
    for name in names:
        chosen = [[robust, by_lifetime[n], best[name, n]] for n in lifetimes]
        each = [np.unique(indices) for indices in chosen]  # two of them may be the same
        test = scores(name, points(settings, lifetimes, each), seeds, config.runs / "test")
        for i, part in enumerate(np.split(test, np.cumsum([len(one) for one in each])[:-1])):
            tests[name, lifetimes[i]] = part[np.searchsorted(each[i], chosen[i])]
    middle = min(config.lifetimes, key=lambda n: abs(n - worlds.MIDDLE))
    scales = {name: (low[name], float(tests[name, middle][2].mean())) for name in names}
    # the robust setting's test scores: those of a random policy are 0, of the best setting 1
    gains = {}
    for (name, lifetime), test in tests.items():
        scaled = (test - low[name]) / (test[2].mean() - low[name])
        gains[f"{name}, {lifetime} updates"] = {
            "robust": [round(float(x), 4) for x in rl.stats.interval(scaled[0], rl.stats.mean)],
            "gain of the best for the lifetime": lab.compare(scaled[1:2], scaled[:1]),
            "gain of the best for family and lifetime": lab.compare(scaled[2:], scaled[:1]),
            "setting": plain_setting(at(settings, best[name, lifetime])),
        }
    unit = {cell: test[2].mean() - low[cell[0]] for cell, test in tests.items()}

    def mean_gain(names: list[str]) -> dict[str, list[float]]:
        gain = lambda i, cell: (tests[cell][i] - tests[cell][0]) / unit[cell]
        return {
            kind: compare_means([gain(i, cell) for cell in tests if cell[0] in names])
            for i, kind in ((1, "best for the lifetime"), (2, "best for family and lifetime"))
        }

    without = {
        f"without {left_out}": mean_gain([name for name in names if name != left_out])
        for left_out in (names if len(names) > 1 else ())
    }
    return {
        "robust": plain_setting(at(settings, robust)),
        "by_lifetime": {str(n): plain_setting(at(settings, i)) for n, i in by_lifetime.items()},
        "scales": scales,
        "mean_gain": {"all": mean_gain(list(names))} | without,
        "cells": gains,
        "config": {
            key: value
            for key, value in dataclasses.asdict(config).items()
            if key not in ("runs", "folder")
        },
    }


def plain_setting(setting: Mapping[str, Any]) -> dict[str, float]:
    """A setting as rounded numbers."""
    return {name: round(float(value), 5) for name, value in setting.items()}


def compare_means(differences: list[np.ndarray]) -> list[float]:
    """The mean over cells of the mean difference, with its 95 % interval over environments."""
    found = rl.stats.interval(np.mean(differences, 0), rl.stats.mean)
    return [round(float(x), 4) for x in found]


def main(config: Config) -> None:
    rl.use_all_cores()
    record = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "headroom.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
