"""Symbolic search for a value loss on small environments: `python -m
experiments.discover_symbolic`.

The search repairs DQN's loss, given as a program with a wrong last operation: the minimum of the
error and itself instead of its square, which decreases the values of the selected actions without
bound. With `--begin nothing` it starts from random programs. Regularised evolution evaluates the
policy at the end of a lifetime, on a few fixed levels. Most programs are rejected before that by a
screening with shorter lifetimes, a quarter of the batch, and new levels in each generation. The
losses found by each meta-seed, DQN's, DQNReg's and the broken one are then trained in the same way
on test levels, which were used neither by the search nor to select a winner, and on environments of
the other kind.

Environments are small grids, or random processes in which one in ten pairs of state and action has
a reward. On the grids losses that are no temporal differences do as well; on the processes a loss
that uses nothing beyond the reward has two fifths of the score of DQN's.

The learner is plain gradient descent on a table, tuned for DQN's loss on the selection levels. With
Adam it hardly learns: the momentum of a rarely visited state acts long after its gradient, and adds
up to thirty times the learning rate.
"""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any, Literal

import numpy as np
import optax
import tyro
import xarray as xr

import jaxrl as rl
from experiments import _discovery as lab
from jaxrl.meta import RegularizedEvolution
from jaxrl.meta.base import SELECTION
from jaxrl.symbolic import ValueProgram, formula
from jaxrl.symbolic.rules import DQN, DQN_REG
from jaxrl.tree import replace

RESULTS = pathlib.Path(__file__).parent / "results"
ERROR = "(at(values, action) - (reward + discount * best(next_values)))"
MIN_SCORE = -1.0  # lower bound of a level's score in the search; there is none in the test
WORLDS = {"grids": lab.mini, "processes": functools.partial(lab.Processes, 0.1, 2)}
SHARE = {
    "grids": "share of the optimum",
    "processes": "share from a random policy (0) to the best (1)",
}
LR, RATES = (
    2.0,
    (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
)  # of the learner, and the grid of "DQN, tuned"
HAND_MADE = {"broken": f"min({ERROR}, {ERROR})", "DQN": DQN, "DQNReg": DQN_REG}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    begin: Literal["broken", "nothing"] = "broken"
    worlds: Literal["grids", "processes"] = "grids"
    generations: int = 16
    evals: int = 16
    """number of evaluations on the selection levels"""
    seeds: int = 5
    """number of meta-seeds; all of them are reported"""
    population: int = 32
    children: int = 8
    """per generation, after the screening"""
    candidates: int = 16
    """candidates of the screening per child"""
    levels: int = 8
    """on which a child is evaluated"""
    screening_levels: int = 2
    screening_updates: int = 12
    """updates per lifetime in the screening"""
    updates: int = 40
    """updates per lifetime"""
    lines: int = 10
    """lines of a program"""
    selection_levels: int = 32
    test_levels: int = 128
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_symbolic")
    """folder of the search; the same command resumes from there"""
    folder: pathlib.Path = RESULTS
    rule: pathlib.Path | None = None
    """file for the selected loss (see `choose`), as a rule, with its agent"""

    @property
    def name(self) -> str:
        begin = "" if self.begin == "broken" else "_from_nothing"
        return f"discover_symbolic{begin}" + (
            "" if self.worlds == "grids" else f"_on_{self.worlds}"
        )


def learner(criterion: Any, num_envs: int = 16, num_steps: int = 8) -> rl.OnPolicy:
    rule = rl.TD(criterion, exploration=rl.EpsilonGreedy(1.0, 0.3, 0.5))
    return rl.OnPolicy(
        rule,
        lr=LR,
        schedule=rl.Constant(),
        num_envs=num_envs,
        num_steps=num_steps,
        epochs=1,
        minibatches=1,
        optimizer=rl.Optimizer(optax.sgd),
        network=rl.Table(lab.mini().levels.num_states),
    )


def search(config: Config) -> RegularizedEvolution:
    criterion = ValueProgram.of(HAND_MADE["broken"], config.lines)
    inner = lambda updates, *sizes: rl.InnerLoop(
        learner(criterion, *sizes), ("criterion",), (updates, updates), episodes=8, greedy=True
    )
    return RegularizedEvolution(
        inner(config.updates),
        screening=inner(config.screening_updates, 8, 4),
        remembered=16384,
        population=config.population,
        children=config.children,
        num_candidates=config.candidates,
        num_tasks=config.levels,
        screening_tasks=config.screening_levels,
        begin_random=config.begin == "nothing",
    )


def run(config: Config) -> tuple[dict[str, Any], list[Any]]:
    """Record with the test scores of the losses found and of those by hand, and the losses."""
    # CPU time at the start and after each row; the first row includes compilation
    began, busy = time.monotonic(), [time.process_time()]
    evolution, world = search(config), WORLDS[config.worlds]
    clock = lambda report: busy.append(time.process_time())
    results, found = lab.discover(
        evolution, config, config.name, world(min_score=MIN_SCORE), chunk=1, progress=clock
    )
    spent = cost(config, busy, time.monotonic() - began)
    num_levels = max(config.test_levels, config.selection_levels)
    inner = replace(evolution.inner, meta_params=("criterion", "lr"))
    score = {name: lab.scorer(inner, one(), num_levels) for name, one in WORLDS.items()}
    selected = slice(config.selection_levels)
    selection_scores = lambda params: score[config.worlds](params, SELECTION)[selected]
    with_rate = lambda criterion, lr=LR: {"criterion": criterion, "lr": lr}
    by_name = {name: ValueProgram.of(text, config.lines) for name, text in HAND_MADE.items()}
    of_rate = lambda lr: selection_scores(with_rate(by_name["DQN"], lr)).mean()
    best = RATES[lab.argbest([of_rate(lr) for lr in RATES])]
    by_hand = {name: with_rate(one) for name, one in by_name.items()} | {
        "DQN, tuned": with_rate(by_name["DQN"], best)
    }

    def scores(where: str) -> dict[str, np.ndarray]:
        test = lambda params: score[where](params)[: config.test_levels]
        ours = np.stack([test(with_rate(**one)) for one in found])
        return {"found": ours} | {name: test(one)[None] for name, one in by_hand.items()}

    tests = {where: scores(where) for where in WORLDS}
    here, (elsewhere,) = tests.pop(config.worlds), tests.values()
    reached = float(np.maximum(selection_scores(by_hand["DQN"]), MIN_SCORE).mean())
    return {
        "formulas": [formula(one["criterion"].program) for one in found],
        "hand_made": {name: formula(one.program) for name, one in by_name.items()},
        "scores": {name: lab.summary(x) for name, x in here.items()},
        "more_than": {
            name: lab.compare(here["found"], here[name]) for name in ("DQN", "DQN, tuned")
        },
        "tuned_lr": best,
        "scores_elsewhere": {name: lab.summary(x) for name, x in elsewhere.items()},
        "DQN_on_selection_levels": round(reached, 4),
        "programs_until_as_good": until(results, config, 0.95 * reached),
        "programs_tried": tried(results)[:, -1].tolist(),
        "cost": spent,
        "step": results["step"].values.tolist(),
        "selection": np.round(results["evaluation"].values, 4).tolist(),
        "config": {
            k: v
            for k, v in dataclasses.asdict(config).items()
            if k not in ("runs", "folder", "rule")
        },
    } | lab.card(results), [one["criterion"] for one in found]


def cost(config: Config, busy: list[float], seconds: float) -> dict[str, Any]:
    """Cost of the search, from the CPU time at its start and after each row; that of the stored
    record if nothing was left to compute.
    """
    path, rows = config.folder / f"{config.name}.json", config.seeds * config.evals
    if len(busy) == 1 and path.exists():
        return json.loads(path.read_text())["cost"]
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round((busy[-1] - busy[1]) * rows / max(rows - 1, 1), 1)
        if len(busy) > 1
        else None,
        "cpu_seconds_with_compilation": round(busy[-1] - busy[0], 1),
    }


def tried(results: xr.Dataset) -> np.ndarray:
    """Number of functionally new programs evaluated until each row. [seeds, rows]."""
    per_row = np.diff(np.concatenate([[0], results["step"].values]))
    return np.cumsum(results["programs"].values * per_row, axis=1).round().astype(int)


def until(results: xr.Dataset, config: Config, enough: float) -> list[int | None]:
    """Number of programs evaluated until the best of the hall of fame first scored `enough` on the
    selection levels, for each meta-seed; None if it never did.
    """
    good, number = results["evaluation"].values >= enough, tried(results)
    return [
        int(row[one.argmax()]) if one.any() else None for one, row in zip(good, number, strict=True)
    ]


def figure(record: dict[str, Any]) -> Any:
    """Curves on the selection levels, and test scores."""
    panels = rl.plot.Picture(figsize=(15, 3.4), layout="constrained")
    left, right, last = panels.subplots(1, 3)
    for curve in record["selection"]:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    left.axhline(record["DQN_on_selection_levels"], color="0.3", linestyle="--", label="DQN's loss")
    worlds, (other,) = record["config"]["worlds"], WORLDS.keys() - {record["config"]["worlds"]}
    left.set(
        xlabel="generation", ylabel=f"selection levels ({worlds})", title="each line is a meta-seed"
    )
    left.legend(frameon=False)
    lab.bars(right, record["scores"])
    right.set(xlabel=SHARE[worlds])
    lab.bars(last, record["scores_elsewhere"])
    last.set(xlabel=SHARE[other], title=f"on {other}")
    return panels


def choose(record: dict[str, Any]) -> int:
    """Index of the meta-seed with the best score on the selection levels; of repairs that with the
    shortest program within 5 % of DQN's, if there is one.
    """
    best = np.max(record["selection"], axis=1)
    good = np.flatnonzero(
        (best >= 0.95 * record["DQN_on_selection_levels"]) & (record["config"]["begin"] == "broken")
    )
    return int(
        min(good, key=lambda i: len(record["formulas"][i])) if len(good) else lab.argbest(best)
    )


def keep(path: pathlib.Path, criterion: Any, number: int, record: dict[str, Any]) -> None:
    """Save a loss as a rule file, with the measurements of its meta-seed."""
    config, measured = record["config"], record["scores"]
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    changed = [key for key, value in config.items() if value != defaults[key]]
    words = [f"--{key.replace('_', '-')} {config[key]}" for key in changed]
    fields = {
        "license": "Apache-2.0",
        "levels": (
            f"{'LPGGrid-tiny' if config['worlds'] == 'grids' else 'Garnet'}, lifetimes of "
            f"{config['updates']} updates"
        ),
        "command": " ".join(["python -m experiments.discover_symbolic", *words]),
        "config": config,
        "seeds": [number],
        "cost": record["cost"],
        "formula": record["formulas"][number],
    }
    scores = {name: measured[name]["mean"] for name in measured} | {
        "this": measured["found"]["each_mean"][number]
    }
    scores |= {"each meta-seed": measured["found"]["each_mean"]}
    note = (
        f"On {config['test_levels']} test levels, the {SHARE[config['worlds']]}, mean and "
        "95 % interval."
    )
    agent = learner(criterion)
    rl.save_rule(
        path,
        agent.rule,
        agent=agent,
        scores=scores,
        note=note,
        versions=record["versions"],
        **fields,
    )


def main(config: Config) -> None:
    rl.use_all_cores()
    record, found = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / f"{config.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(record).savefig(config.folder / f"{config.name}.png", dpi=110)
    if config.rule is not None:
        number = choose(record)
        keep(config.rule, found[number], number, record)
    for text, first, score in zip(
        record["formulas"],
        record["programs_until_as_good"],
        record["scores"]["found"]["each_mean"],
        strict=True,
    ):
        print(f"{score:.3f}, as good as DQN's after {first} programs: {text}")
    for name, row in record["scores"].items():
        print(f"{name:10} {row['mean'][0]:.3f} [{row['mean'][1]:.3f}, {row['mean'][2]:.3f}]")
    print(record["cost"], f"for {config.seeds} meta-seeds")


if __name__ == "__main__":
    main(tyro.cli(Config))
