"""Schedules learnt by evolution and by meta-gradients: `python -m experiments.schedules`.

Jackson et al. (2024) found that what evolution discovers changes over an agent's lifetime and that
what truncated meta-gradients discover does not. Here that is asked of the smallest thing that can
know its age: the learning rate and the entropy weight of a tabular PPO, each its base times the
exponential of a weighted sum of five functions of n / N and log N. Evolution sees the ends of whole
lives, meta-gradients `num_updates` updates at a time; both take as many environment steps, with
five meta-seeds. Then test levels at lifetimes seen and unseen, beside the best constants and the
best rates that fall linearly to 0, which are points of the same family, chosen by as many lives as
one meta-seed takes; and beside what evolution found, told random ages.
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
    """What to run. Smoke settings for tests: few of everything."""

    generations: int = 25
    evals: int = 1
    """times that the selection levels are asked"""
    seeds: int = 5
    """meta-seeds, all of them reported"""
    population: int = 32
    sigma: float = 0.3
    lr: float = 0.15
    meta_lrs: tuple[float, ...] = (0.03,)
    """of the meta-gradient's Adam; of several the selection levels choose"""
    num_agents: int = 16
    num_updates: int = 5
    """that a meta-gradient goes back through"""
    lifetime: tuple[int, int] = (8, 32)
    """updates, log-uniform between these"""
    test_lifetimes: tuple[int, ...] = (2, 8, 16, 32, 128)
    selection_levels: int = 64
    test_levels: int = 64
    settings: int = 12
    """of constants, and of linear schedules, that are tried: 4 learning rates and 3 entropy
    weights
    """
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/schedules")
    """keeps the lives: the same command goes on from there"""
    folder: pathlib.Path = RESULTS


@pytree
class Schedule:
    """A factor: the exponential of a weighted sum of 1, n / N, log(1 - n / N), log N and their
    product. weights: [5].

    shuffled: above 0 it is told a random age at each update.
    """

    weights: jax.Array
    shuffled: float = 0.0

    def __call__(self, clock: rl.Clock) -> jax.Array:
        another = (
            jnp.floor(
                jax.random.uniform(jax.random.fold_in(jax.random.key(0), clock.n)) * clock.total
            )
            / clock.total
        )
        age = jnp.where(self.shuffled > 0.0, another, clock.fraction)
        length = clock.log_total - jnp.log(16.0)
        told = jnp.stack(
            [jnp.ones_like(age), age, jnp.log(jnp.maximum(1.0 - age, 1e-3)), length, age * length]
        )
        return jnp.exp(told @ self.weights)


@pytree
class Scheduled(lab.Wrapped):
    """An actor-critic whose entropy weight is multiplied by a schedule."""

    schedule: Any
    rule: Any = rl.Surrogate()

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        now = replace(self.rule, entropy_weight=self.rule.entropy_weight * self.schedule(clock))
        return now.loss(out, batch, targets, clock)


def lives(config: Config) -> rl.InnerLoop:
    network, constant = rl.Table(lab.mini().levels.num_states), Schedule(jnp.array(CONSTANT))
    agent = rl.OnPolicy(
        Scheduled(constant),
        lr=0.3,
        schedule=constant,
        num_envs=8,
        num_steps=20,
        epochs=4,
        minibatches=1,
        network=network,
        optimizer=rl.Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-16}),
    )
    return rl.InnerLoop(agent, meta_params=TUNES, lifetime=config.lifetime, chunk=8)


def searches(config: Config) -> dict[str, Any]:
    """Each way to learn the schedules, and how many meta-updates take equally many environment
    steps.
    """
    life = lives(config)
    shortest, longest = config.lifetime
    updates = (longest - shortest) / np.log(longest / shortest)
    steps = (
        config.generations * config.population * updates
    )  # of a learner; the ends that judge lives are not counted
    strategy = rl.ES(lr=config.lr, sigma=config.sigma, population=config.population)
    critic = rl.OuterCritic(network=life.learner.network)
    gradient = lambda lr: rl.MetaGradient(
        life,
        critic,
        lr=lr,
        regularisers={},
        num_agents=config.num_agents,
        num_updates=config.num_updates,
    )
    meta_steps = max(config.evals, round(steps / config.num_agents / (config.num_updates + 1)))
    return {"evolved": (rl.Evolution(life, strategy), config.generations)} | {
        f"meta-gradient {lr:g}": (gradient(lr), meta_steps) for lr in config.meta_lrs
    }


def by_hand(config: Config, falls: np.ndarray) -> list[dict[str, Any]]:
    """Learning rates and entropy weights to try, constant or falling."""
    scaled = lambda factor: falls + np.array([np.log(factor), 0.0, 0.0, 0.0, 0.0], np.float32)
    settings: list[dict[str, Any]] = [
        dict(zip(TUNES, (scaled(lr), scaled(entropy)), strict=True))
        for lr in (0.2, 0.5, 1.0, 2.0)
        for entropy in (0.1, 1.0, 10.0)
    ]
    return settings[: config.settings]


def run(config: Config) -> tuple[dict[str, Any], dict[str, xr.Dataset], dict[str, list[Any]]]:
    """The record, the curves, and the weights found, by name."""
    tasks, life = lab.mini(), lives(config)
    curves, found = {}, {}
    for name, (search, generations) in searches(config).items():
        own = dataclasses.replace(config, generations=generations)
        curves[name], found[name] = lab.discover(search, own, name.replace(" ", "_"), tasks)
    liked = lambda name: float(curves[name]["best_evaluation"].mean())
    found = {"evolved": found["evolved"], "meta-gradient": found[max(list(curves)[1:], key=liked)]}
    choose = lab.scorer(life, tasks, config.selection_levels)
    for name, falls in (("best constant", CONSTANT), ("best linear", LINEAR)):
        settings = by_hand(config, falls)
        found[name] = [
            settings[int(np.argmax([choose(one, lab.SELECTION).mean() for one in settings]))]
        ]
    flags = tuple(name.replace("weights", "shuffled") for name in TUNES)
    test = lab.by_lifetime(
        replace(life, meta_params=TUNES + flags), tasks, config.test_levels, config.test_lifetimes
    )
    told = lambda params, shuffled: params | dict.fromkeys(flags, jnp.float32(shuffled))
    scores = {
        name: np.stack([test(told(one, 0.0)) for one in each]) for name, each in found.items()
    }
    scores[CONTROL] = np.stack([test(told(one, 1.0)) for one in found["evolved"]])
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
        xlabel=f"lifetime, updates ({shortest} to {longest} were trained on)",
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
        print(lifetime, {name: told["mean"] for name, told in scores.items()})
    print("loss by shuffling", record["loss_by_shuffling"])


if __name__ == "__main__":
    main(tyro.cli(Config))
