"""A search for a better PPO that begins at PPO: `python -m experiments.discover_ppo`.

Evolution strategies change a controller of PPO's hyperparameters (`rl.LogLinear`), a learned drift
that is added to that of its clip (`rl.LPO`), or both. All weights are zero at first, which is PPO
with the robust setting of `headroom` (up to 1e-4 in the drift). It takes 4 of the 8 epochs that are
computed, so that a controller can take at most twice as many. Fitness is the area under the
learning curve on seven families of environments, each with a network and a rollout of its own,
after 20 to 200 updates. Of the difference within a pair the sign counts (`--shaping sign`): the
families then weigh alike, and a rare failure weighs little, as in the interquartile mean of the
test. By its size (`--shaping size`), two families with much room outweigh the others. Controls:
constants alone (each hyperparameter times a number, by the same search), and random fitness.

`--ladder` compares strategies in short searches. All arms are searched for as long, and the best
goes on: `--second` begins at the parameters that its first search changed by more than their noise.
`discovered_ppo` tests what is found: the mean of the parameters over meta-seeds, as each follows
its own noise.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

import jaxrl as rl
from experiments import _discovery as lab
from experiments import _ppo_worlds as worlds
from jaxrl.meta import PES, PairSign, PersistentEvolution, RegularizedEvolution, ZScore
from jaxrl.meta.base import MetaLearner
from jaxrl.symbolic import DriftProgram, formula
from jaxrl.tree import pytree, replace

Arm = Literal["schedule", "drift", "both", "constants", "random fitness"]


@pytree
class Constants(rl.LogLinear):
    """A controller of the first feature alone, the constant 1."""

    def features(self, clock: rl.Clock, state: Any) -> Any:
        return super().features(clock, state) * np.eye(len(self.FEATURES))[0]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the search; tests use small values."""

    arms: tuple[Arm, ...] = ("schedule", "constants", "drift", "both", "random fitness")
    generations: int = 50
    evals: int = 5
    """number of evaluations on the selection environments"""
    seeds: int = 6
    """number of meta-seeds, an even share for each of two cores; all of them are reported"""
    population: int = 70
    """training runs of a generation, as many of each family; half as many pairs"""
    lifetime: tuple[int, int] = (20, 200)
    """updates of a training run, log-uniform range"""
    shaping: Literal["sign", "size"] = "sign"
    """what counts of the difference within a pair"""
    sigma: float = 0.3
    lr: float = 0.05
    lr_decay: float = 0.97
    width: int = 16
    """hidden units of the drift"""
    selection_levels: int = 70
    """number of environments that searches are evaluated on"""
    second: bool = False
    """begin at what the first search found: the mean over its meta-seeds of each parameter that
    changed by at least two standard errors, and the others as they were"""
    ladder: bool = False
    """only compare strategies, standard deviations of their noise, and programs, in short
    searches"""
    rung_steps: int = 15
    rung_seeds: int = 2
    rung_sigmas: tuple[float, ...] = (0.15, 0.3, 0.6)
    first_seed: int = 0
    """of the first search; a second one has the next"""
    families: tuple[str, ...] = worlds.FAMILIES
    runs: pathlib.Path = pathlib.Path("runs/discover_ppo")
    """folder of the searches; the same command resumes from there"""
    folder: pathlib.Path = worlds.RESULTS


def learner(arm: Arm, width: int = 16) -> tuple[rl.OnPolicy, tuple[str, ...]]:
    """PPO with the parts that an arm searches, all zero, and their names."""
    agent, names = worlds.robust(), ()
    if arm in ("drift", "both"):
        base: Any = rl.tree.get(agent, "rule.objective")
        key = jax.random.key(1)
        drift = rl.LPO.random(key, width, base=base, knows_time=True, zero=True)
        agent = rl.tree.put(agent, {"objective": drift})
        names += ("objective.weights",)
    if arm != "drift":
        kind = Constants if arm == "constants" else rl.LogLinear
        agent = replace(agent, controller=kind.zero(*worlds.CONTROLLED))
        names += ("controller.weights",)
    return agent, names


def record_of(arm: Arm, folder: pathlib.Path, stage: int) -> pathlib.Path:
    """The file that the first or second search writes."""
    return folder / f"{arm.replace(' ', '_')}_{stage}.json"


def found_by(path: pathlib.Path) -> list[dict[str, Any]]:
    """The parameters that each meta-seed of a search found."""

    def arrays(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: arrays(x) for name, x in tree.items()}
        return jnp.array(tree, jnp.float32)

    return [arrays(one) for one in json.loads(path.read_text())["found"]]


def significant_mean(start: jax.Array, *found: jax.Array) -> jax.Array:
    """The mean over meta-seeds of a search from `start`, and `start` where it has changed by less
    than two standard errors.
    """
    change = jnp.stack([x - start for x in found])
    error = change.std(0, ddof=1) / len(found) ** 0.5
    return start + jnp.where(jnp.abs(change.mean(0)) >= 2.0 * error, change.mean(0), 0.0)


def inner_loop(arm: Arm, config: Config) -> rl.InnerLoop:
    """Training runs of the learner of an arm, from what a first search found if it is a second."""
    agent, names = learner(arm, config.width)
    inner = rl.InnerLoop(agent, names, config.lifetime, by_area=True, chunk=4)
    if config.second:
        first = found_by(record_of(arm, config.folder, 1))
        start = jax.tree.map(significant_mean, inner.tuned, *first)
        inner = replace(inner, learner=inner.with_params(start))
    return inner


def distribution(agent: Any, config: Config) -> rl.Families:
    """The families of environments, with the agent in the size of each."""
    scaled = worlds.scaled()
    return rl.Families(
        tuple(scaled[name] for name in config.families),
        tuple(worlds.sized(agent, *worlds.SIZES[name]) for name in config.families),
    )


def evolution_strategy(config: Config) -> rl.ES:
    """Evolution strategy of the searches."""
    return rl.ES(
        lr=config.lr,
        sigma=config.sigma,
        lr_decay=config.lr_decay,
        shaping=PairSign() if config.shaping == "sign" else ZScore(),
        population=config.population,
    )


def strategies(config: Config) -> dict[str, tuple[MetaLearner, int]]:
    """The searches that the ladder compares, and their numbers of steps, for about as many updates
    of PPO.
    """
    inner, count, steps = inner_loop("schedule", config), len(config.families), config.rung_steps
    population, sigma = config.population, config.sigma
    es = rl.Evolution(inner, evolution_strategy(config))
    by_size = replace(es, strategy=replace(es.strategy, shaping=ZScore()))
    members = max(population // count, 2)  # of SNES: each is tried on all families
    snes = rl.Evolution(inner, rl.SNES(sigma=sigma, population=members), num_tasks=count)
    low, high = config.lifetime
    pieces = max(round((high - low) / math.log(high / low) / low), 1)  # of a mean training run
    pes = PersistentEvolution(
        replace(inner, by_area=False, episodes=4),
        PES(lr=config.lr / 2, sigma=sigma, population=population),
        unroll=low,
    )
    return {
        "ES": (es, steps),
        "ES by size": (by_size, steps),
        "SNES": (snes, steps),
        "PES": (pes, pieces * steps),
    }


def programs(config: Config) -> tuple[RegularizedEvolution, rl.InnerLoop]:
    """A search of a drift as a program that begins at PPO's, and its training runs."""
    text = f"max(advantage * (ratio - 1), {worlds.robust_setting()['clip']} * abs(advantage))"
    agent = rl.tree.put(worlds.robust(), {"objective": DriftProgram.of(text, lines=10)})
    inner = rl.InnerLoop(agent, ("objective",), config.lifetime, by_area=True, chunk=4)
    shortest = (config.lifetime[0], config.lifetime[0])
    count = len(config.families)
    # a child has two training runs on each family, and candidates of its screening one
    children = max(config.population // (3 * count), 1)
    evolution = RegularizedEvolution(
        inner,
        screening=replace(inner, lifetime=shortest),
        population=8 * children,
        children=children,
        num_tasks=2 * count,
        screening_tasks=count,
    )
    return evolution, inner


def ladder(config: Config) -> dict[str, Any]:
    """Short searches: of a schedule by each strategy and noise, and of a drift as a program, and
    what each gains over PPO on other environments.
    """
    inner = inner_loop("schedule", config)
    tasks = distribution(inner.learner, config)
    score = lab.scorer(inner, tasks, config.selection_levels)
    ppo, record = score(inner.tuned), {}

    def gains(scores: np.ndarray) -> dict[str, Any]:
        return {
            "gain over PPO": lab.compare(scores, ppo[None]),
            "each meta-seed": plain((scores - ppo).mean(1)),
        }

    short = dataclasses.replace(config, evals=1, seeds=config.rung_seeds)
    for name, (learner, steps) in strategies(config).items():
        each = dataclasses.replace(short, generations=steps)
        over = {"sigma": jnp.array(config.rung_sigmas)}
        results, found = lab.discover(learner, each, f"ladder_{name}", tasks, over, "final")
        scores = np.stack([score(one) for one in found])
        scores = scores.reshape(len(config.rung_sigmas), -1, len(ppo))
        record[name] = lab.card(results) | {
            f"sigma {sigma:g}": gains(rows)
            for sigma, rows in zip(config.rung_sigmas, scores, strict=True)
        }
    evolution, inner = programs(config)
    each = dataclasses.replace(short, generations=config.rung_steps)
    of_programs = distribution(inner.learner, config)
    results, found = lab.discover(evolution, each, "ladder_programs", of_programs, kept="final")
    score = lab.scorer(inner, of_programs, config.selection_levels)
    record["programs"] = lab.card(results) | gains(np.stack([score(one) for one in found]))
    record["programs"]["formulas"] = [formula(one["objective"].program) for one in found]
    return record


def search(arm: Arm, config: Config) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """Curves, and what each meta-seed found: its final parameters, as the selection environments
    are too few to tell checkpoints apart.
    """
    inner = inner_loop(arm, config)
    evolution: Any = rl.Evolution(inner, evolution_strategy(config))
    if arm == "random fitness":
        evolution = lab.Blind(evolution)
    tasks = distribution(inner.learner, config)
    config = dataclasses.replace(config, first_seed=config.first_seed + config.second)
    name = record_of(arm, config.folder, 1 + config.second).stem
    return lab.discover(evolution, config, name, tasks, kept="final")


def plain(tree: Any) -> Any:
    """Arrays as lists of numbers."""
    if isinstance(tree, dict):
        return {name: plain(value) for name, value in tree.items()}
    return np.round(np.asarray(tree, np.float64), 5).tolist()


def run(arm: Arm, config: Config) -> dict[str, Any]:
    """The record of an arm: the score of each meta-seed on the selection tasks, its curve, and the
    parameters that it found.
    """
    results, found = search(arm, config)
    shown = {
        name: x
        for name, x in dataclasses.asdict(config).items()
        if name not in ("runs", "folder", "arms", "ladder") and "rung" not in name
    }
    return {
        "evaluation": plain(results["evaluation"]),
        "return": plain(results["return"]),
        "step": results["step"].values.tolist(),
        "found": [plain(one) for one in found],
        "config": shown,
    } | lab.card(results)


def main(config: Config) -> None:
    rl.use_all_cores()
    config.folder.mkdir(parents=True, exist_ok=True)
    if config.ladder:
        text = json.dumps(ladder(config), indent=1)
        (config.folder / "ladder.json").write_text(text + "\n")
        print(text)
        return
    for arm in config.arms:
        record = run(arm, config)
        path = record_of(arm, config.folder, 1 + config.second)
        path.write_text(json.dumps(record, indent=1) + "\n")
        last = [curve[-1] for curve in record["evaluation"]]
        print(arm, "scores of the meta-seeds on the selection environments:", last)


if __name__ == "__main__":
    main(tyro.cli(Config))
