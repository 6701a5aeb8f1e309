"""An optimiser evolved from zero in place of Adam, on small grids or on several families of small
networks: `python -m experiments.learned_optimizer`.

Evolution tunes the weights of small_fc_lopt or of OPEN, which initially make updates of zero. Test
levels were used neither by evolution nor to select a checkpoint. Adam runs the same code; its
learning rate, momentum, second decay and schedule are tuned with as many training runs as a
meta-seed of the evolution took. The cost of a step, in time and memory, is compared with Adam's on
a network of two hidden layers.

Worlds: `grids`, tables of logits on grids, scored by the policy that a training run ends with; or
`networks`, two layers of 16 or 32 units on CartPole, Catch, random processes and grids, scored by
the area under the learning curve. That optimiser is also tested on families that evolution did not
use: delayed chains, processes with few rewards, and the tables.
"""

import dataclasses
import itertools
import json
import pathlib
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
import xarray as xr

import envs
import jaxrl as rl
from experiments import _discovery as lab
from experiments import _ppo_worlds
from jaxrl.meta.base import SELECTION
from jaxrl.optimizers import OPEN, SmallFC

RESULTS = pathlib.Path(__file__).parent / "results"
ADAM = rl.Optimizer(optax.adam, {"b1": 0.9, "b2": 0.999, "eps": 1e-5, "eps_root": 1e-16})
KINDS: dict[str, Any] = {"small_fc": SmallFC, "open": OPEN}
EPISODES = 16  # of the evaluation at the end of a training run
# of Adam: learning rate, both decays, and the factor on the learning rate at the end
TUNED: tuple[str, ...] = ("lr", "optimizer.options.b1", "optimizer.options.b2", "schedule.end")
GRID: tuple[dict[str, Any], ...] = tuple(
    dict(zip(TUNED, setting, strict=True))
    for setting in itertools.product(
        np.geomspace(1e-3, 1.0, 10).round(5).tolist(), (0.9, 0.5, 0.0), (0.999, 0.9), (1.0, 0.0)
    )
)
DEFAULT = dict(zip(TUNED, (0.1, 0.9, 0.999, 1.0), strict=True))


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    kind: Literal["small_fc", "open"] = "small_fc"
    worlds: Literal["grids", "networks"] = "grids"
    families: tuple[str, ...] = ("CartPole", "Catch", "processes", "grids")
    """of the search, if `worlds` is networks"""
    new: tuple[str, ...] = ("chains", "sparse_processes", "tables")
    """families that are tested alone, if `worlds` is networks"""
    generations: int = 600
    evals: int = 12
    """number of evaluations on the selection levels"""
    seeds: int = 4
    """number of meta-seeds; all of them are reported"""
    population: int = 64
    updates: int = 20
    """updates per training run"""
    sigma: float = 0.1
    lr: float = 0.03
    lr_decay: float = 0.997
    """factor on `lr` after each generation"""
    step: float = 0.1
    """learning rate of the learned optimiser, which scales its steps"""
    selection_levels: int = 64
    test_levels: int = 256
    settings: int = len(GRID)
    """settings of Adam in its grid: 10 learning rates, 3 momenta, 2 decays of the square, with and
    without a linear decay of the learning rate
    """
    first_seed: int = 0
    width: int = 64
    """hidden units of the network on which costs are measured"""
    runs: pathlib.Path = pathlib.Path("runs/learned_optimizer")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS

    @property
    def num_lifetimes(self) -> int:
        """Number of training runs of a meta-seed: of generations, and to select a checkpoint."""
        return self.generations * self.population + self.evals * self.selection_levels

    @property
    def name(self) -> str:
        """Of the record, and of the folder of the training runs."""
        words = [word for word in (self.kind, self.worlds) if word not in ("small_fc", "grids")]
        return "_".join(["learned_optimizer", *words])


@dataclasses.dataclass(frozen=True)
class World:
    """A family of environments, the network on it, and the size of a rollout.

    is_new: True if evolution does not use it.
    """

    tasks: rl.Tasks
    network: Any
    num_envs: int
    num_steps: int
    is_new: bool = False


def worlds(config: Config) -> dict[str, World]:
    """The families by name."""
    tables = World(lab.mini(), rl.Table(lab.mini().levels.num_states), 16, 20)
    if config.worlds == "grids":
        return {"tables": tables}
    tasks, sizes = _ppo_worlds.families(), _ppo_worlds.SIZES
    tasks |= {
        "CartPole": _ppo_worlds.Scaled(tasks["CartPole"], 0.0, 500.0),
        "chains": envs.distribution("DelayedChain-short"),
        "sparse_processes": _ppo_worlds.Processes(density=0.1),
    }
    sizes = sizes | {"chains": sizes["grids"], "sparse_processes": sizes["processes"]}

    def world(name: str) -> World:
        if name == "tables":
            return dataclasses.replace(tables, tasks=lab.mini(-1.0))
        width, num_envs, num_steps = sizes[name]
        return World(tasks[name], rl.MLP((width, width)), num_envs, num_steps)

    new = {name: dataclasses.replace(world(name), is_new=True) for name in config.new}
    return {name: world(name) for name in config.families} | new


def inner_loop(
    config: Config, world: World, optimizer: Any, lr: float, *meta_params: str
) -> rl.InnerLoop:
    learner = rl.OnPolicy(
        lr=lr,
        schedule=rl.Linear(1.0),
        num_envs=world.num_envs,
        num_steps=world.num_steps,
        epochs=4,
        minibatches=2,
        max_grad_norm=float("inf"),
        network=world.network,
        optimizer=optimizer,
    )
    return rl.InnerLoop(
        learner,
        meta_params,
        (config.updates, config.updates),
        EPISODES,
        by_area=config.worlds == "networks",
        chunk=16,
    )


def cost(optimizer: Any, params: Any, steps: int = 200) -> dict[str, float]:
    """Cost of one step on these parameters: microseconds, the minimum of five measurements, and
    bytes of the optimiser's state.
    """
    transformation = optax.with_extra_args_support(optimizer(1e-3))

    @jax.jit
    def run(params: Any) -> Any:
        def step(n: Any, now: Any) -> Any:
            params, state = now
            changes, state = transformation.update(
                params, state, params, key=jax.random.fold_in(jax.random.key(0), n)
            )
            return optax.apply_updates(params, changes), state

        return jax.lax.fori_loop(0, steps, step, (params, transformation.init(params)))

    def seconds() -> float:
        begun = time.perf_counter()
        jax.block_until_ready(run(params))
        return time.perf_counter() - begun

    seconds()
    kept = jax.tree.leaves(jax.eval_shape(transformation.init, params))
    return {
        "microseconds": round(1e6 * min(seconds() for _ in range(5)) / steps, 2),
        "bytes": sum(x.size * x.dtype.itemsize for x in kept),
    }


def costs(width: int) -> dict[str, Any]:
    """Costs of Adam and of the learned optimisers, also as multiples of Adam's."""
    network = rl.MLP((width, width))({"logits": 4, "value": 1})
    params = network.init(jax.random.key(0), jnp.zeros(8))
    each = {"adam": ADAM} | {name: kind.random(jax.random.key(1)) for name, kind in KINDS.items()}
    found = {name: cost(optimizer, params) for name, optimizer in each.items()}
    for now in found.values():
        now["time"] = round(now["microseconds"] / found["adam"]["microseconds"], 2)
        now["memory"] = round(now["bytes"] / found["adam"]["bytes"], 2)
    return found | {"parameters": {"count": sum(x.size for x in jax.tree.leaves(params))}}


def learned_loops(config: Config, places: dict[str, World]) -> dict[str, rl.InnerLoop]:
    """The inner loop of each family, with a learned optimiser that changes nothing."""
    learned = KINDS[config.kind].random(jax.random.key(1), zero=True)
    return {
        name: inner_loop(config, world, learned, config.step, "optimizer.weights")
        for name, world in places.items()
    }


def evolution(
    config: Config, places: dict[str, World], loops: dict[str, rl.InnerLoop]
) -> tuple[rl.Evolution, rl.Tasks]:
    """The search, and the families that it runs on."""
    seen = [name for name, world in places.items() if not world.is_new]
    tasks: rl.Tasks = places[seen[0]].tasks
    if len(seen) > 1:
        tasks = rl.Families(
            tuple(places[name].tasks for name in seen), tuple(loops[name].learner for name in seen)
        )
    strategy = rl.ES(
        lr=config.lr, sigma=config.sigma, lr_decay=config.lr_decay, population=config.population
    )
    return rl.Evolution(loops[seen[0]], strategy), tasks


def tune(config: Config, places: dict[str, World]) -> dict[str, Any]:
    """Adam tuned: for each family with as many training runs as a meta-seed took on one, and on
    the families of the search together.
    """
    settings: list[dict[str, Any]] = list(GRID[: config.settings])
    seen = [name for name, world in places.items() if not world.is_new]
    each = max(config.num_lifetimes // len(seen) // len(settings), 1)
    folder = config.runs / f"{config.name}_adam"
    means = {
        name: lab.sweep_scores(
            inner_loop(config, world, ADAM, 0.1, *TUNED),
            world.tasks,
            settings,
            each,
            (config.updates,),
            SELECTION,
            folder / name,
        ).mean((1, 2))
        for name, world in places.items()
    }
    best = {name: lab.argbest(x) for name, x in means.items()}
    overall = lab.argbest(np.mean([means[name] for name in seen], 0))
    return {
        "there": {
            name: settings[i] | {"selection": round(float(means[name][i]), 4)}
            for name, i in best.items()
        },
        "of_all": settings[overall],
        "runs": each * len(settings) * len(seen),
    }


def tested(
    config: Config,
    world: World,
    loop: rl.InnerLoop,
    found: list[Any],
    adam: dict[str, Any],
    of_all: dict[str, Any],
    level: float,
) -> dict[str, Any]:
    """Scores on the test levels of one family, and the differences to Adam with their intervals.

    A run that diverged counts as one that learned nothing. level: coverage of the intervals of the
    differences.
    """
    test = lambda loop, params: lab.sweep_scores(
        loop, world.tasks, params, config.test_levels, (config.updates,)
    )[:, 0]
    learned = test(loop, [*found, loop.tuned])
    setting = {name: adam[name] for name in TUNED}
    by_hand = test(inner_loop(config, world, ADAM, 0.1, *TUNED), [setting, of_all, DEFAULT])
    idle = learned[-1:]
    diverged = {"learned": learned[:-1], "Adam, tuned": by_hand[:1]}
    diverged = {name: int((~np.isfinite(x)).sum()) for name, x in diverged.items()}
    learned, by_hand = (np.where(np.isfinite(x), x, idle) for x in (learned, by_hand))
    every = {
        "learned": learned[:-1],
        "Adam, tuned": by_hand[:1],
        "Adam, one setting": by_hand[1:2],
        "Adam, lr 0.1": by_hand[2:],
        "no learning": idle,
    }

    def less(other: str) -> list[float]:
        x, y = every["learned"].mean(0), every[other].mean(0)
        return [round(float(end), 4) for end in rl.stats.paired_difference(x, y, level=level)]

    return {
        "scores": {name: lab.summary(x) for name, x in every.items()},
        "less_than_tuned_Adam": less("Adam, tuned"),
        "less_than_one_Adam": less("Adam, one setting"),
        "diverged": diverged,
    }


def run(config: Config) -> tuple[dict[str, Any], xr.Dataset]:
    """Record and curves."""
    places = worlds(config)
    loops = learned_loops(config, places)
    search, tasks = evolution(config, places, loops)
    results, found = lab.discover(search, config, config.name, tasks)
    adam = tune(config, places)
    num_new = sum(world.is_new for world in places.values())
    families = {}
    for name, world in places.items():
        level = 1.0 - 0.05 / num_new if world.is_new else 0.95  # as one of the new ones is enough
        families[name] = {"is_new": world.is_new, "level": round(level, 4)} | tested(
            config, world, loops[name], found, adam["there"][name], adam["of_all"], level
        )
    first = next(iter(families.values()))
    record = {
        "scores": first["scores"],
        "less_than_tuned_Adam": first["less_than_tuned_Adam"],
        "families": families,
        "tuned": adam["there"],
        "tuned_on_all": adam["of_all"],
        "lives": {"a_meta_seed": config.num_lifetimes, "tuning_Adam": adam["runs"]},
        "env_steps_of_a_life": {
            name: loop.learner.steps_per_update * config.updates for name, loop in loops.items()
        },
        "cost": costs(config.width),
        "config": {
            name: x
            for name, x in dataclasses.asdict(config).items()
            if name not in ("runs", "folder", "width")
        },
        "curves": {
            name: np.round(results[name].values, 4).tolist()
            for name in ("return", "evaluation", "ties")
        },
        "step": results["step"].values.tolist(),
    }
    return record | lab.card(results), results


def figure(record: dict[str, Any], results: xr.Dataset) -> Any:
    """Curves on the selection levels, test scores or their differences, and costs of a step."""
    panels = rl.plot.Picture(figsize=(13.5, 3.8), layout="constrained")
    left, middle, right = panels.subplots(1, 3)
    for curve in results["evaluation"].values:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    left.set(
        xlabel="generation", ylabel="score, selection levels", title="each line is a meta-seed"
    )
    families = record["families"]
    if len(families) == 1:
        left.axhline(
            record["scores"]["Adam, tuned"]["mean"][0],
            color="0.3",
            linestyle="--",
            label="Adam, tuned: test levels",
        )
        left.legend(frameon=False)
        lab.bars(middle, record["scores"])
    else:
        names = [f"{name} (new)" if each["is_new"] else name for name, each in families.items()]
        found = np.array([each["less_than_tuned_Adam"] for each in families.values()])
        mean, low, high = found.T
        middle.errorbar(mean, names, xerr=[mean - low, high - mean], fmt="o", capsize=3)
        middle.axvline(0.0, color="0.3", linestyle="--")
        middle.invert_yaxis()
        middle.set(xlabel="score less that of Adam, tuned on the family", title="test levels")
    kinds = ["adam", *KINDS]
    for shift, part in ((-0.2, "time"), (0.2, "memory")):
        right.barh(
            np.arange(3) + shift, [record["cost"][name][part] for name in kinds], 0.4, label=part
        )
    right.set_yticks(range(3), kinds)
    right.set(
        xscale="log",
        xlabel="multiple of Adam's",
        title=f"step on {record['cost']['parameters']['count']} parameters",
    )
    right.invert_yaxis()
    right.legend(frameon=False)
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    record, results = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / f"{config.name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(record, results).savefig(config.folder / f"{config.name}.png", dpi=110)
    for family, found in record["families"].items():
        for name, row in found["scores"].items():
            print(
                f"{family:16} {name:17} {row['mean'][0]:.3f} [{row['mean'][1]:.3f}, "
                f"{row['mean'][2]:.3f}]  each {row['each_mean']}"
            )
        print(f"{family:16} learned minus tuned Adam: {found['less_than_tuned_Adam']}")
    print(json.dumps(record["cost"]))


if __name__ == "__main__":
    main(tyro.cli(Config))
