"""A search for a better loss that begins at DQN's own: `python -m experiments.discover_dqn`.

Regularised evolution changes DQN's squared error, given as a program, and trains small networks
with each child on CartPole, Catch and FourRooms (Co-Reyes et al., 2021). The learner is DQN: a
replay, a target network, epsilon-greedy exploration and Adam. Fitness is the mean training return,
for each environment scaled to 0 for a random policy and 1 for DQN at its best of 18 settings, so
that the three count alike. CartPole with shorter training runs is the screening.

Each meta-seed's loss is then trained on new seeds of these environments and on others, beside
DQN, DQNReg and double DQN, all at the robust setting, the one learning rate and discount that are
the best for DQN over the three; and beside DQN at the best setting for each environment. All arms
use common random numbers.
"""

import dataclasses
import itertools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl
from experiments import _discovery as lab
from experiments._ppo_worlds import TESTS, Scaled
from experiments.discover_symbolic import tried
from jaxrl import gathers
from jaxrl.algorithms.backups import Max
from jaxrl.algorithms.value_heads import Expected
from jaxrl.meta import RegularizedEvolution
from jaxrl.rules.td import Prediction, SquaredError, ValueLoss
from jaxrl.symbolic import Language, ValueProgram, formula, parse
from jaxrl.symbolic.program import VALUE_LANGUAGE
from jaxrl.symbolic.rules import DQN, DQN_REG
from jaxrl.tree import leaf, pytree

RESULTS = pathlib.Path(__file__).parent / "results"
SEARCHED = ("CartPole-v1", "Catch", "FourRooms-misc")  # the first one is the screening's
UNSEEN = ("Acrobot-v1", "GridWorld", "MDP-FrozenLake", "RiverSwim")
# short episodes, of which many end in a training run, from anywhere
CHANGES = {
    "FourRooms-misc": {"max_steps": 100, "resample_init_pos": True},
    "GridWorld": {"max_steps": 100},
}
RATES, DISCOUNTS = (3e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2), (0.9, 0.95, 0.99)
SETTINGS = {
    f"lr {lr:g}, gamma {gamma:g}": {"lr": lr, "gamma": gamma}
    for lr, gamma in itertools.product(RATES, DISCOUNTS)
}
BASELINES = ("DQN", "DQN, tuned", "double DQN", "DQNReg")
# the values of a program: a head is not given the elapsed fraction of the training run
LANGUAGE = Language(
    tuple(each for each in VALUE_LANGUAGE.inputs if each[0] != "fraction"),
    VALUE_LANGUAGE.operations,
    VALUE_LANGUAGE.constants,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    generations: int = 40
    evals: int = 10
    """number of evaluations on the selection seeds"""
    seeds: int = 6
    """number of meta-seeds; all of them are reported"""
    population: int = 48
    children: int = 6
    """per generation, after the screening"""
    candidates: int = 10
    """candidates of the screening per child"""
    levels: int = 12
    """training runs of a child, as many on each environment"""
    updates: int = 300
    """updates per training run, of 64 steps and 8 gradient steps"""
    screening_updates: int = 100
    lines: int = 10
    """lines of a program"""
    selection_levels: int = 48
    """training runs that choose a checkpoint, as many on each environment"""
    tuning_seeds: int = 16
    """on which each setting is tried"""
    test_seeds: int = 64
    searched: tuple[str, ...] = SEARCHED
    unseen: tuple[str, ...] = UNSEEN
    """environments of the test that the search does not use"""
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_dqn")
    """folder of the search and of the tests; the same command resumes from there"""
    folder: pathlib.Path = RESULTS


@pytree
class Fitted(Expected):
    """Action values fitted by a loss of a `Prediction`, in place of Huber's.

    double: 1 gives the loss the target network's value of the learner's own next action (van
    Hasselt et al., 2016) in place of those of all actions. It needs Max(double=True).
    """

    criterion: ValueLoss = SquaredError()
    double: float = leaf(0.0, "[0, 1]")

    def loss(
        self, prediction: Any, action: Any, target: Any, next_prediction: Any, policy: Any
    ) -> tuple[jax.Array, jax.Array]:
        reward, both = jax.lax.stop_gradient(target(jnp.array([0.0, 1.0])))
        chosen = gathers.total(policy * next_prediction)
        outcome = Prediction(
            values=prediction,
            action=action,
            reward=reward,
            discount=both - reward,
            next_values=jax.lax.stop_gradient(
                jnp.where(self.double > 0.0, chosen, next_prediction)
            ),
            fraction=jnp.float32(0.0),
        )
        return self.criterion(outcome), jnp.abs(outcome.error)


@pytree
class First(rl.InnerLoop):
    """Training runs on the first family alone."""

    def run(self, key: Any, tasks: Any, *args: Any, **options: Any) -> Any:
        return super().run(key, tasks.families[0], *args, **options)


def program(text: str, lines: int) -> ValueProgram:
    """The loss with this formula."""
    return ValueProgram(parse(text, LANGUAGE, lines))


def agent(
    criterion: ValueLoss, lr: float = 1e-3, gamma: float = 0.95, double: bool = False
) -> rl.OffPolicy:
    """DQN of a small network, on 8 environments."""
    learner = rl.QLearning(
        head=Fitted(criterion),
        backup=Max(double=double),
        exploration=rl.EpsilonGreedy(1.0, 0.05, 0.5),
        lr=lr,
        gamma=gamma,
        target_period=10.0,
        network=rl.MLP((32, 32), activation=jax.nn.relu, layer_norm=True),
    )
    return rl.OffPolicy(
        learner,
        normalize_obs=True,
        num_envs=8,
        num_steps=8,
        updates=8,
        batch_size=32,
        capacity=8192,
        warmup=256,
    )


def environment(name: str) -> Any:
    """The environment, with `CHANGES`."""
    return envs.make(name, **CHANGES.get(name, {}))


def returns(
    name: str,
    params: dict[str, dict[str, Any]],
    config: Config,
    seeds: np.ndarray,
    part: str,
) -> dict[str, np.ndarray]:
    """Mean training returns by the name of the agent's parameters, one program for all; NaN for a
    run that went non-finite or in which no episode ended. [seeds].
    """
    stacked = jax.tree.map(
        lambda *x: jnp.stack([jnp.asarray(each) for each in x]), *params.values()
    )
    algo = agent(program(DQN, config.lines), double=True)
    loop, tasks = rl.InnerLoop(algo, by_area=True), lab.Always(environment(name))
    length = jnp.int32(config.updates)

    def run(arm: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        one = jax.tree.map(lambda x: x[arm], stacked)
        return {"score": loop.run_one(jax.random.key(seed), one, tasks, tasks.env, length, length)}

    over = {"arm": jnp.arange(len(params)), "seed": jnp.asarray(seeds)}
    found = rl.sweep(run, over, folder=config.runs / part / name, chunk=16)["score"].values
    return dict(zip(params, found, strict=True))


def arm(criterion: ValueLoss, setting: dict[str, float], double: bool = False) -> dict[str, Any]:
    """The parameters of an arm."""
    return setting | {"criterion": criterion, "head.double": float(double), "epsilon_end": 0.05}


def known(scores: np.ndarray, low: float) -> np.ndarray:
    """Returns, where a run without a finite one has that of a random policy. [seeds]."""
    return np.where(np.isfinite(scores), scores, low)


def tuning(name: str, config: Config) -> dict[str, Any]:
    """Mean training returns of a random policy and of DQN at each setting; the best of them, and
    whether it is better than random by three standard errors.
    """
    dqn = program(DQN, config.lines)
    random = arm(dqn, {"lr": 0.0, "gamma": 0.9}) | {"epsilon_end": 1.0}
    arms = {"random": random} | {key: arm(dqn, setting) for key, setting in SETTINGS.items()}
    found = returns(name, arms, config, np.arange(config.tuning_seeds), "tuning")
    low = float(np.nanmean(found.pop("random")))
    found = {key: known(x, low) for key, x in found.items()}
    mean = {key: float(x.mean()) for key, x in found.items()}
    best = max(mean, key=mean.__getitem__)
    error = found[best].std(ddof=1) / config.tuning_seeds**0.5
    return {
        "random": low,
        "each": mean,
        "setting": best,
        "tuned": mean[best],
        "learns": bool(mean[best] - low > 3.0 * error),
    }


def scale(tuned: dict[str, Any]) -> tuple[float, float]:
    """The returns that are scored 0 and 1; one unit of return apart where DQN learns nothing."""
    low = tuned["random"]
    return low, tuned["tuned"] if tuned["learns"] else low + 1.0


def mean_scores(tunings: dict[str, Any]) -> dict[str, float]:
    """The mean score of DQN over these environments, by its setting."""

    def score(tuned: dict[str, Any], key: str) -> float:
        low, high = scale(tuned)
        return (tuned["each"][key] - low) / (high - low)

    mean = lambda key: float(np.mean([score(tuned, key) for tuned in tunings.values()]))
    return {key: mean(key) for key in SETTINGS}


def search(config: Config, setting: dict[str, float]) -> RegularizedEvolution:
    learner = agent(program(DQN, config.lines), setting["lr"], setting["gamma"])
    names = ("criterion",)
    first = (config.screening_updates, config.screening_updates)
    return RegularizedEvolution(
        rl.InnerLoop(learner, names, (config.updates, config.updates), by_area=True, chunk=32),
        screening=First(learner, names, first, by_area=True, chunk=32),
        remembered=16384,
        population=config.population,
        children=config.children,
        num_candidates=config.candidates,
        num_tasks=config.levels,
    )


def measure(
    name: str,
    losses: list[ValueProgram],
    setting: dict[str, float],
    tuned: dict[str, Any],
    config: Config,
) -> dict[str, Any]:
    """The scores of all arms on an environment. {arm: [seeds]}, and of the runs without one."""
    dqn, reg = (program(text, config.lines) for text in (DQN, DQN_REG))
    arms = {f"found {i}": arm(one, setting) for i, one in enumerate(losses)} | {
        "DQN": arm(dqn, setting),
        "DQN, tuned": arm(dqn, SETTINGS[tuned["setting"]]),
        "double DQN": arm(dqn, setting, double=True),
        "DQNReg": arm(reg, setting),
    }
    found = returns(name, arms, config, TESTS + np.arange(config.test_seeds), "test")
    low, high = scale(tuned)
    return {
        "scores": {key: (known(x, low) - low) / (high - low) for key, x in found.items()},
        "without a score": {key: int((~np.isfinite(x)).sum()) for key, x in found.items()},
    }


def summary(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Interquartile means over seeds with intervals, and paired differences from each baseline.

    scores: [seeds] of each arm.
    """
    rounded = lambda interval: [round(float(x), 4) for x in interval]
    over = lambda x, other: rounded(rl.stats.difference(x, scores[other], paired=True))
    return {
        name: {"iqm": rounded(rl.stats.interval(x))}
        | {f"less {other}": over(x, other) for other in BASELINES if other != name}
        for name, x in scores.items()
    }


def pooled(tests: dict[str, dict[str, np.ndarray]], selected: int) -> dict[str, np.ndarray]:
    """Means over environments of each arm, of the mean of all meta-seeds and of the selected one.
    [seeds].
    """
    arms = {
        name: np.mean([test[name] for test in tests.values()], 0)
        for name in next(iter(tests.values()))
    }
    found = [x for name, x in arms.items() if name.startswith("found ")]
    return {"selected": found[selected], "found": np.mean(found, 0)} | arms


def run(config: Config) -> dict[str, Any]:
    """The record: settings, the losses found, and their scores."""
    names = config.searched + config.unseen
    tunings = {name: tuning(name, config) for name in names}
    searched = {name: tunings[name] for name in config.searched}
    of_setting = mean_scores(searched)
    robust = max(of_setting, key=of_setting.__getitem__)
    setting = SETTINGS[robust]
    tasks = rl.Families(
        tuple(
            Scaled(lab.Always(environment(name)), *scale(tunings[name])) for name in config.searched
        )
    )
    results, found = lab.discover(search(config, setting), config, "search", tasks, chunk=1)
    losses = [one["criterion"] for one in found]
    selected = lab.argbest(results["best_evaluation"].values)
    measured = {name: measure(name, losses, setting, tunings[name], config) for name in names}
    tests = {name: one["scores"] for name, one in measured.items()}
    groups = {
        "searched": {name: tests[name] for name in config.searched},
        "unseen": {name: tests[name] for name in config.unseen if tunings[name]["learns"]},
    }
    return {
        "formulas": [formula(one.program) for one in losses],
        "DQN's": formula(program(DQN, config.lines).program),
        "selected": selected,
        "setting": robust,
        "tuning": tunings,
        "pooled": {
            group: summary(pooled(each, selected)) for group, each in groups.items() if each
        },
        "environments": {
            name: summary(test) | {"without a score": measured[name]["without a score"]}
            for name, test in tests.items()
        },
        "programs_tried": tried(results)[:, -1].tolist(),
        "training_runs": config.seeds
        * config.generations
        * config.children
        * (config.candidates + config.levels),
        "DQN_on_tuning_seeds": round(of_setting[robust], 4),
        "step": results["step"].values.tolist(),
        "selection": np.round(results["evaluation"].values, 4).tolist(),
        "config": {
            key: value
            for key, value in dataclasses.asdict(config).items()
            if key not in ("runs", "folder")
        },
    } | lab.card(results)


def figure(record: dict[str, Any]) -> Any:
    """Curves on the selection seeds, and what each arm scores more than DQN."""
    picture = rl.plot.Picture(figsize=(13, 3.6), layout="constrained")
    left, *others = picture.subplots(1, 1 + len(record["pooled"]))
    for curve in record["selection"]:
        left.plot(record["step"], curve, color="C0", alpha=0.7)
    label = "DQN's loss, on tuning seeds"
    left.axhline(record["DQN_on_tuning_seeds"], color="0.3", linestyle="--", label=label)
    left.set(xlabel="generation", ylabel="selection seeds", title="each line is a meta-seed")
    left.legend(frameon=False)
    for ax, (group, arms) in zip(others, record["pooled"].items(), strict=True):
        rows = {name: row["less DQN"] for name, row in arms.items() if "less DQN" in row}
        mean, low, high = np.array(list(rows.values())).T
        ax.errorbar(mean, list(rows), xerr=[mean - low, high - mean], fmt="o", color="C0")
        ax.axvline(0.0, color="0.3", linestyle="--")
        ax.invert_yaxis()
        ax.set(xlabel="score less DQN's, 95 % interval", title=f"{group} environments")
    return picture


def main(config: Config) -> None:
    rl.use_all_cores()
    record = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "discover_dqn.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(record).savefig(config.folder / "discover_dqn.png", dpi=110)
    for i, text in enumerate(record["formulas"]):
        print(f"meta-seed {i}{', selected' if i == record['selected'] else ''}: {text}")
    for group, arms in record["pooled"].items():
        print(f"{group} environments: score [95 % interval], and the difference from DQN")
        for name, row in arms.items():
            print(f"  {name:12}", row["iqm"], row.get("less DQN", ""))


if __name__ == "__main__":
    main(tyro.cli(Config))
