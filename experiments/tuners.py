"""Comparison of all tuners with random search and hand-tuned settings, at equal budgets: `python -m
experiments.tuners`.

PPO's learning rate, discount, lambda, entropy weight and epochs are tuned on three tasks. Each
tuner has the same budget of environment steps, and is repeated ten times with other seeds; the
configurations that it finds are evaluated on test seeds that are the same for all and were used by
no search. A score is the mean of the final returns, on tuning or test seeds. Intervals are over the
repetitions. Searches are stored in `runs`; the same command resumes from there. Writes
results/tuners.json, .png and the table in README.md. `--tuners` without names only updates the
settings that need no search; `--grid` shows the grid of the hand-tuned settings.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

import envs
import jaxrl as rl
from experiments.ppo_classic import README, RESULTS, fill
from jaxrl import tuning
from jaxrl.sweep import provenance

TUNERS: dict[str, tuning.Tuner] = {
    "random": tuning.Random(64),
    "sobol": tuning.Sobol(64),
    "halving": tuning.SuccessiveHalving(),
    "hyperband": tuning.Hyperband(),
    "curve_stopping": tuning.CurveStopping(),
    "pbt": tuning.PBT(),
    "de": tuning.DE(4),
    "dehb": tuning.DEHB(),
    "tpe": tuning.Optuna(batch=4),
}
SPACE = {
    "lr": tuning.log(1e-4, 1e-1),
    "gamma": tuning.uniform(0.9, 0.999),
    "lam": tuning.uniform(0.5, 1.0),
    "entropy_weight": tuning.log(1e-4, 1e-1),
    "epoch_limit": tuning.integer(1, 4),
}
ROWS = 9  # of a training run, at which tuners may decide
# of the hand-tuned settings: as many training runs as the budget of a search
GRID = {"lr": (1e-3, 3e-3, 1e-2, 3e-2), "epoch_limit": (1, 2, 3, 4)}


@dataclasses.dataclass(frozen=True)
class Task:
    """Settings of PPO on an environment: number of environments, steps in each per update, updates.

    by_hand: the best of `GRID` on four seeds other than the test seeds (see `--grid`).
    """

    num_envs: int
    num_steps: int
    updates: int
    by_hand: dict[str, float]


TASKS = {
    "CartPole-v1": Task(8, 32, 27, {"lr": 3e-2, "epoch_limit": 4}),
    "Acrobot-v1": Task(8, 64, 18, {"lr": 3e-2, "epoch_limit": 4}),
    "Catch": Task(8, 16, 36, {"lr": 3e-2, "epoch_limit": 3}),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    tasks: tuple[str, ...] = tuple(TASKS)
    tuners: tuple[str, ...] = tuple(TUNERS)
    repetitions: int = 10
    num_runs: int = 16
    """budget of each search, in complete training runs of `seeds` seeds"""
    seeds: int = 4
    """tuning seeds per configuration"""
    test_seeds: int = 32
    updates: int = 0
    """updates per training run (0: those of the task)"""
    grid: bool = False
    """show the grid of the hand-tuned settings, and exit"""
    runs: pathlib.Path = pathlib.Path("runs/tuners")
    folder: pathlib.Path = RESULTS


def training_of(name: str, config: Config, **setting: Any) -> rl.Training:
    """Return PPO with the defaults of the kit and a small network, and changes by `setting`."""
    task = TASKS[name]
    updates = config.updates or task.updates
    algo = rl.ppo(
        num_envs=task.num_envs, num_steps=task.num_steps, network=rl.MLP((32, 32)), **setting
    )
    return rl.Training(algo, envs.make(name), updates * algo.steps_per_update, ROWS, episodes=0)


def search(name: str, tuner: str, config: Config) -> dict[str, Any]:
    """Results of all repetitions of one tuner on one task."""
    training = training_of(name, config)
    found = tuning.repeat(
        training,
        SPACE,
        tuner=TUNERS[tuner],
        repetitions=config.repetitions,
        budget=config.num_runs * config.seeds * training.steps,
        seeds=config.seeds,
        test_seeds=config.test_seeds,
        statistic=rl.stats.mean,
        folder=config.runs / name / tuner,
        progress=False,
    )
    plain = lambda best: {name: round(float(value), 6) for name, value in best.items()}
    return {
        "test": [float(each.test_score.estimate) for each in found],
        "tuning": [float(each.tuning_score.estimate) for each in found],
        "spent": [each.spent for each in found],
        "settings": [each.results.sizes["setting"] for each in found],
        "best": [plain(each.best) for each in found],
    }


def fixed(name: str, setting: dict[str, float], config: Config) -> dict[str, Any]:
    """Score of a setting on the test seeds of the searches."""
    keys = tuning.fresh_seeds(0, config.test_seeds)
    curve = rl.sweep(training_of(name, config, **setting), {"seed": keys}, progress=False)[
        "return"
    ].values
    score = rl.stats.interval(tuning.final(curve, None), rl.stats.mean)
    parts = {part: float(getattr(score, part)) for part in ("estimate", "low", "high")}
    return {"setting": setting, "commit": provenance.commit()} | parts


def grid(name: str, config: Config) -> pd.DataFrame:
    """Mean final returns of `GRID` on seeds other than the test seeds."""
    axes = {axis: jnp.array(values, jnp.float32) for axis, values in GRID.items()}
    keys = jax.random.split(jax.random.key(1), config.seeds)
    curves = rl.sweep(training_of(name, config), axes | {"seed": keys}, progress=False)["return"]
    scores = np.asarray(rl.stats.mean(jnp.asarray(tuning.final(curves.values, None))))
    index, columns = (pd.Index(values, name=axis) for axis, values in GRID.items())
    return pd.DataFrame(scores, index, columns)


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Means over the repetitions with intervals: scores on the test seeds, differences between
    tuning and test seeds, and differences to the hand-tuned setting and, paired, to random search.
    """
    rows, by_hand = {}, record["fixed"]["hand-tuned"]["estimate"]
    for tuner, found in record["tuners"].items():
        test, tuned = np.array(found["test"]), np.array(found["tuning"])
        rows[tuner] = {
            "test": _mean(test),
            "gap": _mean(tuned - test),
            "over_hand": _mean(test - by_hand),
        }
        if "random" in record["tuners"]:
            rows[tuner]["over_random"] = _mean(test - np.array(record["tuners"]["random"]["test"]))
    return rows


def _mean(values: np.ndarray) -> list[float]:
    """Mean, and the ends of its 95 % bootstrap interval."""
    return [round(float(x), 3) for x in rl.stats.interval(jnp.asarray(values), rl.stats.mean)]


def table(records: dict[str, Any]) -> str:
    """Markdown table of the records."""
    rows = [
        "| task | tuner | return on test seeds [95 % interval] | more than random search | "
        "more than hand-tuned | "
        "gap: tuning - test | settings |",
        "|---|---|---|---|---|---|---:|",
    ]
    show = lambda x: f"{x[0]:.4g} [{x[1]:.4g}, {x[2]:.4g}]"
    for name, record in records.items():
        for word, each in record["fixed"].items():
            tried = math.prod(map(len, GRID.values())) if each["setting"] else ""
            score = show([each[part] for part in ("estimate", "low", "high")])
            rows.append(f"| {name} | {word} | {score} (over seeds) | | | | {tried} |")
        for tuner, each in record["summary"].items():
            over = show(each["over_random"]) if tuner != "random" and "over_random" in each else ""
            settings = np.mean(record["tuners"][tuner]["settings"])
            cells = (
                show(each["test"]),
                over,
                show(each["over_hand"]),
                show(each["gap"]),
                f"{settings:.0f}",
            )
            rows.append(f"| {name} | {tuner} | {' | '.join(cells)} |")
    return "\n".join(rows)


def figure(records: dict[str, Any]) -> Any:
    """Panels per task: score of each tuner on test seeds with its interval, and on tuning seeds."""
    picture = rl.plot.Picture(figsize=(4.2 * len(records), 3.4), layout="constrained")
    axes = np.atleast_1d(picture.subplots(1, len(records)))
    for ax, (name, record) in zip(axes, records.items(), strict=True):
        tuners = list(record["summary"])
        test = np.array([record["summary"][tuner]["test"] for tuner in tuners]).reshape(-1, 3)
        tuning_scores = [np.mean(record["tuners"][tuner]["tuning"]) for tuner in tuners]
        at = np.arange(len(tuners))
        ax.hlines(at, test[:, 1], test[:, 2], lw=2, color="C0")
        ax.plot(test[:, 0], at, "o", color="C0", label="on test seeds")
        ax.plot(tuning_scores, at, "|", ms=10, color="C1", label="on tuning seeds")
        for (word, each), style in zip(record["fixed"].items(), (":", "--"), strict=True):
            ax.axvline(each["estimate"], color="grey", ls=style, label=word)
        ax.set_yticks(at, tuners)
        ax.invert_yaxis()
        ax.set_title(name)
        ax.set_xlabel("final return")
    axes[-1].legend(fontsize=7)
    return picture


def kept(config: Config) -> dict[str, Any]:
    """The stored records of the same settings.

    Raises:
      SystemExit: they have other settings.
    """
    path = config.folder / "tuners.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    for name, record in records.items():
        settings = _numbers(config)
        if differ := [
            f"{key}={value} (now {settings[key]})"
            for key, value in record["config"].items()
            if value != settings[key]
        ]:
            raise SystemExit(
                f"{path} holds {name} with {', '.join(differ)}, which can't share a table with "
                "these. Nothing was changed: write another --folder and --runs, or the same "
                "numbers."
            )
    return records


def _numbers(config: Config) -> dict[str, int]:
    return {
        "repetitions": config.repetitions,
        "lives": config.num_runs,  # as in the stored records
        "seeds": config.seeds,
        "test_seeds": config.test_seeds,
        "updates": config.updates,
    }


def main(config: Config) -> None:
    rl.use_all_cores()
    if config.grid:
        for name in config.tasks:
            print(f"{name}\n{grid(name, config)}\n", flush=True)
        return
    records = kept(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    for name in config.tasks:
        record = records.setdefault(name, {"tuners": {}, "config": _numbers(config)})
        settings = {"kit's defaults": {}, "hand-tuned": TASKS[name].by_hand}
        record["fixed"] = {word: fixed(name, setting, config) for word, setting in settings.items()}
        print(
            name,
            *(f"{word} {each['estimate']:.4g}" for word, each in record["fixed"].items()),
            sep="\n  ",
            flush=True,
        )
        for tuner in config.tuners:
            try:
                record["tuners"][tuner] = search(name, tuner, config)
            except ValueError as error:
                error.add_note(
                    f"The folder of a search is in --runs ({config.runs}): write another one, or "
                    "the same numbers."
                )
                raise
            record["card"] = {
                "versions": provenance.versions(),
                "machine": provenance.machine(),
                "commit": provenance.commit(),
            }
            print(f"  {tuner}: {summary(record)[tuner]}", flush=True)
            (config.folder / "tuners.json").write_text(json.dumps(records, indent=1))
        record["summary"] = summary(record)
        (config.folder / "tuners.json").write_text(json.dumps(records, indent=1))
    figure(records).savefig(config.folder / "tuners.png", dpi=110)
    print(table(records))
    if config.folder == RESULTS:
        fill(README, "tuners", table(records))


if __name__ == "__main__":
    main(tyro.cli(Config))
