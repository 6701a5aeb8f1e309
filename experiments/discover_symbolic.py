"""Symbolic search for a value loss, on small worlds: `python -m experiments.discover_symbolic`.

It repairs: DQN's loss is given as a program whose last operation is wrong, the smaller of the error
and itself in place of its square, which drives the values of what was done down without end. Or,
with `--begin nothing`, it begins from random programs. Regularised evolution judges by the policy
that a whole life ends with, on a few levels that stay. A hurdle of shorter lives with a quarter of
the batch, on levels that are new in each generation, stops most programs before that. Then what
each meta-seed found, DQN's loss, DQNReg's and the broken one go through the same lives on test
levels, which neither the search nor the choice of a winner has seen, and on worlds of the other
kind.

Worlds are small grids, or random processes where one pair of a state and an action in ten rewards.
On the grids losses that are no temporal differences do as well; on such processes a loss that looks
no further than the reward comes to two fifths of what DQN's does.

The learner is plain gradient descent on a table, tuned for DQN's loss on the selection levels. With
Adam it hardly learns: a state that is seldom seen has momentum long after its gradient, which adds
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
from jaxrl.meta.inner_loop import SELECTION
from jaxrl.symbolic import ValueProgram, formula
from jaxrl.symbolic.rules import DQN, DQN_REG
from jaxrl.tree import replace

RESULTS = pathlib.Path(__file__).parent / "results"
ERROR = "(at(values, action) - (reward + discount * best(next_values)))"
LEAST = -1.0  # what a level's score counts for at least while searching; the test has no such bound
WORLDS = {"grids": lab.mini, "processes": functools.partial(lab.Processes, 0.1, 2)}
SHARE = {
    "grids": "share of the optimum",
    "processes": "share from a random policy (0) to the best (1)",
}
LR, RATES = (
    2.0,
    (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
)  # of the learner, and those that "DQN, tuned" chooses from
HAND_MADE = {"broken": f"min({ERROR}, {ERROR})", "DQN": DQN, "DQNReg": DQN_REG}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few of everything."""

    begin: Literal["broken", "nothing"] = "broken"
    worlds: Literal["grids", "processes"] = "grids"
    generations: int = 16
    evals: int = 16
    """times that the selection levels are asked"""
    seeds: int = 5
    """meta-seeds, all of them reported"""
    population: int = 32
    children: int = 8
    """of a generation, that pass the hurdle"""
    entrants: int = 16
    """to the hurdle, for each that passes"""
    levels: int = 8
    """that judge a child"""
    hurdle_levels: int = 2
    hurdle_updates: int = 12
    """of a life at the hurdle"""
    updates: int = 40
    """of a life"""
    lines: int = 10
    """of a program"""
    selection_levels: int = 32
    test_levels: int = 128
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_symbolic")
    """keeps the search: the same command goes on from there"""
    folder: pathlib.Path = RESULTS
    rule: pathlib.Path | None = None
    """where the loss that was chosen (`choose`) is kept as a rule, with the agent that it was
    made for
    """

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
    life = lambda updates, *play: rl.InnerLoop(
        learner(criterion, *play), ("criterion",), (updates, updates), episodes=8, greedy=True
    )
    return RegularizedEvolution(
        life(config.updates),
        hurdle=life(config.hurdle_updates, 8, 4),
        remembered=16384,
        population=config.population,
        children=config.children,
        entrants=config.entrants,
        num_tasks=config.levels,
        hurdle_tasks=config.hurdle_levels,
        begin_random=config.begin == "nothing",
    )


def run(config: Config) -> tuple[dict[str, Any], list[Any]]:
    """The record, and the losses: what was found, and how it and those made by hand do on the test
    levels.
    """
    began, busy = (
        time.monotonic(),
        [time.process_time()],
    )  # and after each row, the first of which waits for compilation
    evolution, world = search(config), WORLDS[config.worlds]
    clock = lambda report: busy.append(time.process_time())
    results, found = lab.discover(
        evolution, config, config.name, world(least=LEAST), chunk=1, progress=clock
    )
    spent = cost(config, busy, time.monotonic() - began)
    most, lives = (
        max(config.test_levels, config.selection_levels),
        replace(evolution.lives, meta_params=("criterion", "lr")),
    )
    score = {name: lab.scorer(lives, one(), most) for name, one in WORLDS.items()}
    asked = lambda params: score[config.worlds](params, SELECTION)[: config.selection_levels]
    with_rate = lambda criterion, lr=LR: {"criterion": criterion, "lr": lr}
    made = {name: ValueProgram.of(text, config.lines) for name, text in HAND_MADE.items()}
    best = max(RATES, key=lambda lr: asked(with_rate(made["DQN"], lr)).mean())
    by_hand = {name: with_rate(one) for name, one in made.items()} | {
        "DQN, tuned": with_rate(made["DQN"], best)
    }

    def scores(where: str) -> dict[str, np.ndarray]:
        test = lambda params: score[where](params)[: config.test_levels]
        ours = np.stack([test(with_rate(**one)) for one in found])
        return {"found": ours} | {name: test(one)[None] for name, one in by_hand.items()}

    tests = {where: scores(where) for where in WORLDS}
    here, (elsewhere,) = tests.pop(config.worlds), tests.values()
    reached = float(np.maximum(asked(by_hand["DQN"]), LEAST).mean())
    return {
        "formulas": [formula(one["criterion"].program) for one in found],
        "hand_made": {name: formula(one.program) for name, one in made.items()},
        "scores": {name: lab.summary(x) for name, x in here.items()},
        "more_than": {
            name: lab.compare(here["found"], here[name]) for name in ("DQN", "DQN, tuned")
        },
        "tuned_lr": best,
        "scores_elsewhere": {name: lab.summary(x) for name, x in elsewhere.items()},
        "DQN_on_selection_levels": round(reached, 4),
        "programs_until_as_good": until(results, config, 0.95 * reached),
        "programs_tried": tried(results, config)[:, -1].tolist(),
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
    """What the search took, by the processor's time at its begin and after each row; if all was
    kept, as told then.
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


def tried(results: xr.Dataset, config: Config) -> np.ndarray:
    """How many programs that do something new had lived at each row. [seeds, rows]."""
    per_row = np.diff(np.concatenate([[0], results["step"].values]))
    return np.cumsum(results["programs"].values * per_row, axis=1).round().astype(int)


def until(results: xr.Dataset, config: Config, enough: float) -> list[int | None]:
    """How many had when the selection levels first gave so much to the best of the hall, for each
    meta-seed.
    """
    good, number = results["evaluation"].values >= enough, tried(results, config)
    return [
        int(row[one.argmax()]) if one.any() else None for one, row in zip(good, number, strict=True)
    ]


def figure(record: dict[str, Any]) -> Any:
    """The selection levels' curves, and the tests."""
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
    """The meta-seed whose loss selection levels like best; of repairs the shortest within 5 % of
    DQN's there, if any is.
    """
    best = np.max(record["selection"], axis=1)
    good = np.flatnonzero(
        (best >= 0.95 * record["DQN_on_selection_levels"]) & (record["config"]["begin"] == "broken")
    )
    return int(
        min(good, key=lambda i: len(record["formulas"][i])) if len(good) else np.argmax(best)
    )


def keep(path: pathlib.Path, criterion: Any, number: int, record: dict[str, Any]) -> None:
    """A loss as a file, with what was measured of the meta-seed that it is of."""
    config, told = record["config"], record["scores"]
    usual = {field.name: field.default for field in dataclasses.fields(Config)}
    said = [
        f"--{key.replace('_', '-')} {value}" for key, value in config.items() if value != usual[key]
    ]
    made = {
        "license": "Apache-2.0",
        "levels": (
            f"{'LPGGrid-tiny' if config['worlds'] == 'grids' else 'Garnet'}, lives of "
            f"{config['updates']} updates"
        ),
        "command": " ".join(["python -m experiments.discover_symbolic", *said]),
        "config": config,
        "seeds": [number],
        "cost": record["cost"],
        "formula": record["formulas"][number],
    }
    scores = {name: told[name]["mean"] for name in told} | {
        "this": told["found"]["each_mean"][number]
    }
    scores |= {"each meta-seed": told["found"]["each_mean"]}
    note = (
        f"On {config['test_levels']} test levels, the {SHARE[config['worlds']]}, mean and "
        "95 % interval."
    )
    agent = learner(criterion)
    rl.save_rule(
        path, agent.rule, agent=agent, scores=scores, note=note, versions=record["versions"], **made
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
    for name, told in record["scores"].items():
        print(f"{name:10} {told['mean'][0]:.3f} [{told['mean'][1]:.3f}, {told['mean'][2]:.3f}]")
    print(record["cost"], f"for {config.seeds} meta-seeds")


if __name__ == "__main__":
    main(tyro.cli(Config))
