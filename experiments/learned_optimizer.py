"""An optimiser evolved from zero in place of Adam, on small grids: `python -m
experiments.learned_optimizer`.

Evolution tunes the weights of small_fc_lopt or of OPEN, which initially make updates of zero. Test
levels were used neither by evolution nor to select a checkpoint. Adam runs the same code, and its
learning rate, momentum and schedule are tuned with as many environment steps as a meta-seed of the
evolution took. The cost of a step, in time and memory, is compared with Adam's on a network of two
hidden layers.
"""

import dataclasses
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

import jaxrl as rl
from experiments import _discovery as lab
from jaxrl.optimizers import OPEN, SmallFC

RESULTS = pathlib.Path(__file__).parent / "results"
ADAM = rl.Optimizer(optax.adam, {"b1": 0.9, "eps": 1e-5, "eps_root": 1e-16})
KINDS: dict[str, Any] = {"small_fc": SmallFC, "open": OPEN}
EPISODES = 16  # of the evaluation at the end of a lifetime


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    kind: Literal["small_fc", "open"] = "small_fc"
    generations: int = 60
    evals: int = 6
    """number of evaluations on the selection levels"""
    seeds: int = 3
    """number of meta-seeds; all of them are reported"""
    population: int = 64
    updates: int = 20
    """updates per lifetime"""
    sigma: float = 0.1
    lr: float = 0.03
    step: float = 0.1
    """learning rate of the learned optimiser, which scales its steps"""
    selection_levels: int = 64
    test_levels: int = 256
    settings: int = 20
    """settings of Adam in its grid: 5 learning rates, 2 momenta, with and without decay"""
    first_seed: int = 0
    width: int = 64
    """hidden units of the network on which costs are measured"""
    runs: pathlib.Path = pathlib.Path("runs/learned_optimizer")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS

    @property
    def num_lifetimes(self) -> int:
        """Number of lifetimes of a meta-seed: of its generations, and to select a checkpoint."""
        return self.generations * self.population + self.evals * self.selection_levels


def inner_loop(config: Config, optimizer: Any, lr: float, *meta_params: str) -> rl.InnerLoop:
    learner = rl.OnPolicy(
        lr=lr,
        schedule=rl.Linear(1.0),
        num_envs=16,
        num_steps=20,
        epochs=4,
        minibatches=2,
        max_grad_norm=float("inf"),
        network=rl.Table(lab.mini().levels.num_states),
        optimizer=optimizer,
    )
    return rl.InnerLoop(learner, meta_params, (config.updates, config.updates), EPISODES, chunk=16)


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


def run(config: Config) -> tuple[dict[str, Any], xr.Dataset]:
    """Record and curves."""
    tasks = lab.mini()
    learned = KINDS[config.kind].random(jax.random.key(1), zero=True)
    loop = inner_loop(config, learned, config.step, "optimizer.weights")
    search = rl.Evolution(
        loop, rl.ES(lr=config.lr, sigma=config.sigma, population=config.population)
    )
    results, found = lab.discover(search, config, config.kind, tasks)
    adam = inner_loop(config, ADAM, 0.1, "lr", "optimizer.options.b1", "schedule.end")
    settings = [
        dict(zip(adam.meta_params, setting, strict=True))
        for setting in np.stack(
            np.meshgrid([0.01, 0.03, 0.1, 0.3, 1.0], [0.9, 0.5], [1.0, 0.0]), -1
        )
        .reshape(-1, 3)
        .tolist()
    ][: config.settings]
    each = max(config.num_lifetimes // len(settings), 1)
    best = lab.tuned(lab.scorer(adam, tasks, each), settings)
    score, score_adam = (lab.scorer(one, tasks, config.test_levels) for one in (loop, adam))
    default = dict(zip(adam.meta_params, (0.1, 0.9, 1.0), strict=True))
    scores = {
        "learned": np.stack([score(one) for one in found]),
        "Adam, tuned": score_adam({name: best[name] for name in adam.meta_params})[None],
        "Adam, lr 0.1": score_adam(default)[None],
        "no learning": score(loop.tuned)[None],
    }
    record = {
        "scores": {name: lab.summary(x) for name, x in scores.items()},
        "less_than_tuned_Adam": lab.compare(scores["learned"], scores["Adam, tuned"]),
        "tuned": best,
        "lives": {"a_meta_seed": config.num_lifetimes, "tuning_Adam": each * len(settings)},
        "env_steps_of_a_life": loop.learner.steps_per_update * config.updates,
        "cost": costs(config.width),
        "config": {
            name: getattr(config, name)
            for name in ("kind", "generations", "population", "updates", "sigma", "lr")
        },
        "curves": {
            name: np.round(results[name].values, 4).tolist()
            for name in ("return", "evaluation", "ties")
        },
        "step": results["step"].values.tolist(),
    }
    return record | lab.card(results), results


def figure(record: dict[str, Any], results: xr.Dataset) -> Any:
    """Curves on the selection levels, test scores, and costs of a step."""
    panels = rl.plot.Picture(figsize=(13.5, 3.8), layout="constrained")
    left, middle, right = panels.subplots(1, 3)
    for curve in results["evaluation"].values:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    left.axhline(
        record["scores"]["Adam, tuned"]["mean"][0],
        color="0.3",
        linestyle="--",
        label="Adam, tuned: test levels",
    )
    left.set(
        xlabel="generation",
        ylabel="share of the optimum,\nselection levels",
        title="each line is a meta-seed",
    )
    left.legend(frameon=False)
    names = list(record["scores"])
    mean, low, high = np.array([record["scores"][name]["mean"] for name in names]).T
    middle.barh(names, mean, xerr=[mean - low, high - mean], color="0.75")
    for i, name in enumerate(names):
        dots = record["scores"][name]["each_mean"]
        middle.plot(dots, [i] * len(dots), "k.", markersize=4)
    middle.invert_yaxis()
    middle.set(
        xlabel="share of the optimum, test levels",
        title="mean, 95 % interval over levels; one dot per meta-seed",
    )
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
    name = "learned_optimizer" if config.kind == "small_fc" else f"learned_optimizer_{config.kind}"
    (config.folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(record, results).savefig(config.folder / f"{name}.png", dpi=110)
    for name, row in record["scores"].items():
        print(
            f"{name:12} {row['mean'][0]:.3f} [{row['mean'][1]:.3f}, {row['mean'][2]:.3f}]  "
            f"each {row['each_mean']}"
        )
    print(f"learned minus tuned Adam: {record['less_than_tuned_Adam']}")
    print(json.dumps(record["cost"]))


if __name__ == "__main__":
    main(tyro.cli(Config))
