"""Schedules learned by evolution and by meta-gradients: `python -m experiments.schedules`.

Jackson et al. (2024) found that rules discovered by evolution change over an agent's lifetime, and
that those discovered by truncated meta-gradients do not. This experiment has the smallest
temporally aware parameters: the learning rate and the entropy weight of a tabular PPO, each its
base times the exponential of a weighted sum of five functions of n / N and log N. The fitness of
evolution is the score at the end of whole lifetimes, a meta-gradient covers `num_updates` updates;
both take the same number of environment steps, with five meta-seeds. The schedules are compared on
test levels, at lifetimes inside and outside of the training range, with the best constants and the
best linear decays to 0, which are members of the same family, chosen with as many lifetimes as one
meta-seed takes; and with the evolved schedules at random ages.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
import xarray as xr

import jaxrl as rl
from experiments import _discovery as lab
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results"
TUNES = ("schedule.weights", "rule.schedule.weights")  # of the learning rate, of the entropy weight
CONSTANT, LINEAR = (np.array([0.0, 0.0, falls, 0.0, 0.0], np.float32) for falls in (0.0, 1.0))
CONTROL = "evolved, age shuffled"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    generations: int = 25
    evals: int = 1
    """number of evaluations on the selection levels"""
    seeds: int = 5
    """number of meta-seeds; all of them are reported"""
    population: int = 32
    sigma: float = 0.3
    lr: float = 0.15
    meta_lrs: tuple[float, ...] = (0.03,)
    """learning rates of the meta-gradient's Adam; several are compared on the selection levels"""
    num_agents: int = 16
    num_updates: int = 5
    """number of updates that a meta-gradient is propagated through"""
    lifetime: tuple[int, int] = (8, 32)
    """updates per lifetime, log-uniform range"""
    test_lifetimes: tuple[int, ...] = (2, 8, 16, 32, 128)
    selection_levels: int = 64
    test_levels: int = 64
    settings: int = 12
    """size of the grids of constants and linear schedules: 4 learning rates x 3 entropy weights"""
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/schedules")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS


@pytree
class Schedule:
    """A factor: the exponential of a weighted sum of 1, n / N, log(1 - n / N), log N and n / N log
    N.

    weights: [5]. shuffled: above 0, the age n / N is random at each update.
    """

    weights: jax.Array
    shuffled: float = 0.0

    def __call__(self, clock: rl.Clock) -> jax.Array:
        uniform = jax.random.uniform(jax.random.fold_in(jax.random.key(0), clock.n))
        random_age = jnp.floor(uniform * clock.total) / clock.total
        age = jnp.where(self.shuffled > 0.0, random_age, clock.fraction)
        length = clock.log_total - jnp.log(16.0)
        features = jnp.stack(
            [jnp.ones_like(age), age, jnp.log(jnp.maximum(1.0 - age, 1e-3)), length, age * length]
        )
        return jnp.exp(features @ self.weights)


@pytree
class Scheduled(lab.WrappedRule):
    """An actor-critic with an entropy weight that is multiplied by a schedule."""

    schedule: Any
    rule: Any = rl.Surrogate()

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        now = replace(self.rule, entropy_weight=self.rule.entropy_weight * self.schedule(clock))
        return now.loss(out, batch, targets, clock)


def network() -> Any:
    return rl.Table(lab.mini().levels.num_states)


def inner_loop(config: Config) -> rl.InnerLoop:
    constant = Schedule(jnp.array(CONSTANT))
    agent = rl.OnPolicy(
        Scheduled(constant),
        lr=0.3,
        schedule=constant,
        num_envs=8,
        num_steps=20,
        epochs=4,
        minibatches=1,
        network=network(),
        optimizer=rl.Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-16}),
    )
    return rl.InnerLoop(agent, meta_params=TUNES, lifetime=config.lifetime, chunk=8)


def searches(config: Config) -> dict[str, Any]:
    """Meta-learners by name, with numbers of meta-updates that take equal environment steps."""
    loop = inner_loop(config)
    shortest, longest = config.lifetime
    updates = (longest - shortest) / np.log(longest / shortest)
    # updates of learners; evaluations at the end of lifetimes are not counted
    steps = config.generations * config.population * updates
    strategy = rl.ES(lr=config.lr, sigma=config.sigma, population=config.population)
    critic = rl.OuterCritic(network=network())
    gradient = lambda lr: rl.MetaGradient(
        loop,
        critic,
        lr=lr,
        regularisers={},
        num_agents=config.num_agents,
        num_updates=config.num_updates,
    )
    meta_steps = max(config.evals, round(steps / config.num_agents / (config.num_updates + 1)))
    return {"evolved": (rl.Evolution(loop, strategy), config.generations)} | {
        f"meta-gradient {lr:g}": (gradient(lr), meta_steps) for lr in config.meta_lrs
    }


def by_hand(config: Config, falls: np.ndarray) -> list[dict[str, Any]]:
    """Grid of learning rates and entropy weights, constant or decaying."""
    scaled = lambda factor: falls + np.array([np.log(factor), 0.0, 0.0, 0.0, 0.0], np.float32)
    settings: list[dict[str, Any]] = [
        dict(zip(TUNES, (scaled(lr), scaled(entropy)), strict=True))
        for lr in (0.2, 0.5, 1.0, 2.0)
        for entropy in (0.1, 1.0, 10.0)
    ]
    return settings[: config.settings]


def run(config: Config) -> tuple[dict[str, Any], dict[str, xr.Dataset], dict[str, list[Any]]]:
    """Record, curves, and the weights found, by name."""
    tasks, loop = lab.mini(), inner_loop(config)
    curves, found = {}, {}
    for name, (search, generations) in searches(config).items():
        matched = dataclasses.replace(config, generations=generations)
        curves[name], found[name] = lab.discover(search, matched, name.replace(" ", "_"), tasks)
    selection_score = lambda name: float(curves[name]["best_evaluation"].mean())
    found = {
        "evolved": found["evolved"],
        "meta-gradient": found[max(list(curves)[1:], key=selection_score)],
    }
    choose = lab.scorer(loop, tasks, config.selection_levels)
    for name, falls in (("best constant", CONSTANT), ("best linear", LINEAR)):
        settings = by_hand(config, falls)
        found[name] = [
            settings[lab.argbest([choose(one, lab.SELECTION).mean() for one in settings])]
        ]
    flags = tuple(name.replace("weights", "shuffled") for name in TUNES)
    test = lab.by_lifetime(
        replace(loop, meta_params=TUNES + flags), tasks, config.test_levels, config.test_lifetimes
    )
    with_flags = lambda params, shuffled: params | dict.fromkeys(flags, jnp.float32(shuffled))
    scores = {
        name: np.stack([test(with_flags(one, 0.0)) for one in each]) for name, each in found.items()
    }
    scores[CONTROL] = np.stack([test(with_flags(one, 1.0)) for one in found["evolved"]])
    record: dict[str, Any] = {"scores": {}, "more_than_best_constant": {}}
    for i, lifetime in enumerate(config.test_lifetimes):
        at = {name: x[:, i] for name, x in scores.items()}
        record["scores"][str(lifetime)] = {name: lab.summary(x) for name, x in at.items()}
        constant = at.pop("best constant")
        record["more_than_best_constant"][str(lifetime)] = {
            name: lab.compare(x, constant) for name, x in at.items()
        }
    record["loss_by_shuffling"] = lab.compare(scores["evolved"].mean(1), scores[CONTROL].mean(1))
    record["weights"] = {
        name: [{field: np.round(x, 3).tolist() for field, x in one.items()} for one in each]
        for name, each in found.items()
    }
    record["selection"] = {
        name: np.round(one["evaluation"].values, 4).tolist() for name, one in curves.items()
    }
    record["config"] = {
        name: x for name, x in dataclasses.asdict(config).items() if name not in ("runs", "folder")
    }
    return record | lab.card(curves["evolved"]), curves, found


def figure(record: dict[str, Any], found: dict[str, list[Any]], config: Config) -> Any:
    """The schedules over a life of average length, and the test by lifetime."""
    panels = rl.plot.Picture(figsize=(13.5, 3.9), layout="constrained")
    *left, right = panels.subplots(1, 3)
    total = int(np.sqrt(np.prod(config.lifetime)))
    age = jnp.arange(total)
    names = [*found, CONTROL]
    for ax, field, label, base in zip(
        left, TUNES, ("learning rate", "entropy weight"), (0.3, 0.01), strict=True
    ):
        for i, name in enumerate(found):
            for one in found[name]:
                factor = jax.vmap(lambda n, w=one[field]: Schedule(w)(rl.Clock(n, float(total))))(
                    age
                )
                ax.plot(age / total, base * factor, color=f"C{i}", alpha=0.7)
        ax.set(xlabel=f"age n / N, N = {total}", ylabel=label, yscale="log")
    lifetimes = config.test_lifetimes
    for i, name in enumerate(names):
        mean, low, high = np.array([scores[name]["mean"] for scores in record["scores"].values()]).T
        right.errorbar(
            lifetimes,
            mean,
            [mean - low, high - mean],
            label=name,
            color=f"C{i}",
            marker="o",
            capsize=3,
        )
    shortest, longest = config.lifetime
    right.set(
        xscale="log",
        xlabel=f"lifetime, updates (trained on {shortest} to {longest})",
        ylabel="share of the optimum",
    )
    right.set_xticks(lifetimes, [str(lifetime) for lifetime in lifetimes])
    right.minorticks_off()
    panels.legend(loc="outside lower center", ncols=len(names), frameon=False)
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    began = time.process_time()
    record, _, found = run(config)
    record["cpu_seconds"] = round(time.process_time() - began)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "schedules.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(record, found, config).savefig(config.folder / "schedules.png", dpi=110)
    for lifetime, scores in record["scores"].items():
        print(lifetime, {name: row["mean"] for name, row in scores.items()})
    print("loss by shuffling", record["loss_by_shuffling"])


if __name__ == "__main__":
    main(tyro.cli(Config))
