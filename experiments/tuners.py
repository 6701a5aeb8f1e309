"""Each tuner beside random search and the usual defaults, at equal budgets: `python -m experiments.tuners`.

PPO's learning rate, discount, lambda, entropy bonus and epochs are tuned on three tasks. Every tuner gets the same budget of
environment steps and is repeated ten times with luck and tuning seeds of its own; what it found is judged on test seeds that
are the same for all and that no search saw. A score is the mean of the final returns, on either kind of seeds. Intervals are
over the repetitions. A search is kept in `runs`: the same command goes on from there. Writes results/tuners.json, .png and
the table in README.md.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl
from experiments.ppo_classic import README, RESULTS, fill
from jaxrl import tuning
from jaxrl.sweep import card

TUNERS: dict[str, tuning.Tuner] = {
    "random": tuning.Random(64),
    "sobol": tuning.Sobol(64),
    "halving": tuning.SuccessiveHalving(),
    "hyperband": tuning.Hyperband(),
    "foresight": tuning.Foresight(),
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
ROWS = 9  # of a life, at which tuners may decide


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment, and how PPO plays it: environments, steps in each before an update, updates of a life."""

    num_envs: int
    num_steps: int
    updates: int


TASKS = {"CartPole-v1": Task(8, 32, 27), "Acrobot-v1": Task(8, 64, 18), "Catch": Task(8, 16, 36)}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few of everything."""

    tasks: tuple[str, ...] = tuple(TASKS)
    tuners: tuple[str, ...] = tuple(TUNERS)
    repetitions: int = 10
    lives: int = 16
    """of a setting, that each search has: its budget"""
    seeds: int = 4
    """of each setting while it is tuned"""
    test_seeds: int = 32
    updates: int = 0
    """of a life (0: the task's own)"""
    runs: pathlib.Path = pathlib.Path("runs/tuners")
    folder: pathlib.Path = RESULTS


def training_of(name: str, config: Config) -> rl.Training:
    """PPO as the kit ships it, with a small network."""
    task = TASKS[name]
    updates = config.updates or task.updates
    algo = rl.ppo(num_envs=task.num_envs, num_steps=task.num_steps, network=rl.MLP((32, 32)))
    return rl.Training(algo, envs.make(name), updates * algo.steps_per_update, ROWS, episodes=0)


def search(name: str, tuner: str, config: Config) -> dict[str, Any]:
    """All repetitions of one tuner on one task: what each found, as numbers."""
    training = training_of(name, config)
    found = tuning.repeat(
        training,
        SPACE,
        tuner=TUNERS[tuner],
        repetitions=config.repetitions,
        budget=config.lives * config.seeds * training.steps,
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


def defaults(name: str, config: Config) -> dict[str, Any]:
    """The defaults on the very test seeds of the searches."""
    keys = tuning.held_out(0, config.test_seeds)
    curve = rl.sweep(training_of(name, config), {"seed": keys}, progress=False)["return"].values
    score = rl.stats.interval(tuning.final(curve, None), rl.stats.mean)
    return {part: float(getattr(score, part)) for part in ("estimate", "low", "high")}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Means over the repetitions with intervals: on the test seeds, against random search pair by pair, and the gap."""
    made = {}
    for tuner, found in record["tuners"].items():
        test, tuned = np.array(found["test"]), np.array(found["tuning"])
        made[tuner] = {"test": _told(test), "gap": _told(tuned - test)}
        if "random" in record["tuners"]:
            made[tuner]["over_random"] = _told(test - np.array(record["tuners"]["random"]["test"]))
    return made


def _told(values: np.ndarray) -> list[float]:
    """The mean, and the ends of its 95 % bootstrap interval."""
    return [round(float(x), 3) for x in rl.stats.interval(jnp.asarray(values), rl.stats.mean)]


def table(records: dict[str, Any]) -> str:
    rows = [
        "| task | tuner | return on test seeds [95 % interval] | more than random search | gap: tuning - test | settings |",
        "|---|---|---|---|---|---:|",
    ]
    told = lambda x: f"{x[0]:.4g} [{x[1]:.4g}, {x[2]:.4g}]"
    for name, record in records.items():
        if "defaults" in record:
            usual = [record["defaults"][part] for part in ("estimate", "low", "high")]
            rows.append(f"| {name} | defaults | {told(usual)} (over seeds) | | | |")
        for tuner, each in record["summary"].items():
            over = told(each["over_random"]) if tuner != "random" and "over_random" in each else ""
            settings = np.mean(record["tuners"][tuner]["settings"])
            rows.append(f"| {name} | {tuner} | {told(each['test'])} | {over} | {told(each['gap'])} | {settings:.0f} |")
    return "\n".join(rows)


def figure(records: dict[str, Any]) -> Any:
    """A panel for each task: what each tuner found, on test seeds with its interval, and what its tuning seeds promised."""
    picture = rl.plot.Picture(figsize=(4.2 * len(records), 3.4), layout="constrained")
    axes = np.atleast_1d(picture.subplots(1, len(records)))
    for ax, (name, record) in zip(axes, records.items(), strict=True):
        tuners = list(record["summary"])
        test = np.array([record["summary"][tuner]["test"] for tuner in tuners])
        promised = [np.mean(record["tuners"][tuner]["tuning"]) for tuner in tuners]
        at = np.arange(len(tuners))
        ax.hlines(at, test[:, 1], test[:, 2], lw=2, color="C0")
        ax.plot(test[:, 0], at, "o", color="C0", label="on test seeds")
        ax.plot(promised, at, "|", ms=10, color="C1", label="on tuning seeds")
        ax.axvline(record["defaults"]["estimate"], color="grey", ls=":", label="defaults")
        ax.set_yticks(at, tuners)
        ax.invert_yaxis()
        ax.set_title(name)
        ax.set_xlabel("final return")
    axes[-1].legend(fontsize=7)
    return picture


def main(config: Config) -> None:
    rl.use_all_cores()
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / "tuners.json"
    asked = {k: v for k, v in dataclasses.asdict(config).items() if isinstance(v, int)}
    records = json.loads(path.read_text()) if path.exists() else {}
    if others := [name for name, record in records.items() if record["config"] != asked]:
        raise SystemExit(f"{path} holds {', '.join(others)} at other settings: write another --folder, or remove it.")
    for name in config.tasks:
        record = records.setdefault(name, {"tuners": {}, "config": asked})
        record["defaults"] = defaults(name, config)
        print(f"{name}: defaults {record['defaults']['estimate']:.4g}", flush=True)
        for tuner in config.tuners:
            record["tuners"][tuner] = search(name, tuner, config)
            record["summary"] = summary(record)
            record["card"] = {"versions": card.versions(), "machine": card.machine(), "commit": card.commit()}
            path.write_text(json.dumps(records, indent=1))
            print(f"  {tuner}: {record['summary'][tuner]}", flush=True)
    figure(records).savefig(config.folder / "tuners.png", dpi=110)
    print(table(records))
    if config.folder == RESULTS:
        fill(README, "tuners", table(records))


if __name__ == "__main__":
    main(tyro.cli(Config))
