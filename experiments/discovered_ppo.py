"""What the search for a better PPO found, on environments that it never saw:
`python -m experiments.discovered_ppo`.

Seven environments (three of other suites), three lifetimes of which the longest is beyond those of
the search, a wider network, 64 seeds. Arms: the mean of the parameters over the meta-seeds of each
search, each meta-seed of the first search by itself (16 seeds), the schedule as a formula of a few
numbers (`distill_ppo`), PPO with its one robust setting, PPO with a learning rate by the KL, and
PPO tuned for each environment and lifetime over the robust and other settings with 4 training runs
each. Ablations: the schedule without the elapsed time, without what it measures, and with the
fraction of another moment. On MinAtar there is one lifetime, of 1e6 steps; of the searches only the
first is tested there, and PPO is tuned over fewer settings.
A run without a finite score counts as the random policy; each record has their number.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl
from experiments import _discovered_pages as pages
from experiments import _discovery as lab
from experiments import _ppo_worlds as worlds
from experiments import headroom
from experiments.discover_ppo import Arm, found_by, learner
from jaxrl.tree import pytree, replace

LIFETIMES = (40, 120, 300)  # updates; the search had 20 to 200
MINATAR_LIFETIMES = (488,)  # updates of 2,048 steps: 1e6
# hidden units of both layers, environments and steps of a rollout
SIZES = {
    "Reacher-misc": (64, 8, 32),
    "PointRobot-misc": (64, 16, 32),
    "FourRooms-misc": (64, 16, 32),
    "MountainCar-v0": (64, 16, 32),
    "MDP-FrozenLake": (64, 8, 32),
    "brax:inverted_pendulum": (64, 8, 32),
    "Breakout-MinAtar": (64, 64, 32),
}
NAMES = tuple(SIZES)
# records of `discover_ppo`; the first is the one that is distilled, and that has ablations
SEARCHES = ("schedule_2", "schedule_1", "constants_1", "drift_1", "both_1", "random_fitness_1")
TARGETS = (0.003, 0.01, 0.03, 0.1)  # of the KL; the best on the families of the search is tested
WEIGHTS = "controller.weights"
TIME, MEASURED = slice(1, 3), slice(3, 6)  # columns of LogLinear's weights


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    names: tuple[str, ...] = NAMES
    searches: tuple[str, ...] = SEARCHES
    seeds: int = 64
    few_seeds: int = 16
    """of each meta-seed of the first search by itself"""
    settings: int = 15
    """settings beside the robust one that PPO is tuned over for each environment and lifetime"""
    tuning_seeds: int = 4
    """training runs with each of them"""
    large_settings: int = 7
    large_tuning_seeds: int = 2
    """the same for MinAtar"""
    long_tuning: tuple[str, ...] = ("FourRooms-misc",)
    """environments on which PPO is also tuned with about as many updates as a meta-seed took"""
    long_settings: int = 255
    lifetimes: tuple[int, ...] = LIFETIMES
    families: tuple[str, ...] = worlds.FAMILIES
    """on which the target of the KL is chosen"""
    search_lifetimes: tuple[int, ...] = worlds.LIFETIMES
    selection: int = 128
    runs: pathlib.Path = pathlib.Path("runs/discovered_ppo")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = worlds.RESULTS


@pytree
class Shuffled(rl.LogLinear):
    """A controller that sees the elapsed fraction of another, random moment."""

    def features(self, clock: rl.Clock, state: Any) -> jax.Array:
        fraction = jax.random.uniform(jax.random.fold_in(jax.random.key(0), clock.n))
        return super().features(clock, state).at[1].set(fraction)


def is_large(name: str) -> bool:
    """True for MinAtar, where the meta-seeds are not tested by themselves."""
    return name.endswith("MinAtar")


def sized(algo: rl.OnPolicy, name: str) -> rl.OnPolicy:
    """The agent with the network and the rollout of an environment."""
    return worlds.sized(algo, *SIZES[name])


def lifetimes(name: str, config: Config) -> tuple[int, ...]:
    """Updates of each training run; one of 1e6 steps on MinAtar."""
    is_whole = config.lifetimes == LIFETIMES
    return MINATAR_LIFETIMES if is_large(name) and is_whole else config.lifetimes


def mean(params: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the parameters over meta-seeds."""
    return jax.tree.map(lambda *x: jnp.stack(x).mean(0), *params)


def ablations(weights: jax.Array) -> dict[str, jax.Array]:
    """A schedule without the time, without what it measures, and with constants alone."""
    without = lambda columns: weights.at[:, columns].set(0.0)
    return {
        "schedule without time": without(TIME),
        "schedule without measurements": without(MEASURED),
        "constants of the schedule": only_constants(weights),
    }


def only_constants(weights: jax.Array) -> jax.Array:
    """The weights of the first feature, the constant, and zero for the others."""
    return weights.at[:, 1:].set(0.0)


def scores(
    algo: Any,
    params: dict[str, dict[str, Any]],
    name: str,
    part: str,
    config: Config,
    seeds: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Areas under the learning curve by the name of parameters of `algo`, one program for all.
    [lifetimes, seeds].
    """
    each = lifetimes(name, config)
    points = [(lifetime, arm) for lifetime in each for arm in params]
    values = of_points(algo, params, points, name, part, config, seeds)
    values = values.reshape(len(each), len(params), -1)
    return {key: values[:, i] for i, key in enumerate(params)}


def of_points(
    algo: Any,
    params: dict[str, dict[str, Any]],
    points: list[tuple[int, str]],
    name: str,
    part: str,
    config: Config,
    seeds: np.ndarray | None = None,
) -> np.ndarray:
    """The areas of pairs of a lifetime and a name of parameters. [points, seeds]."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *map(dict, params.values()))
    run = worlds.area(algo, lab.Always(envs.make(name)))

    def one(arm: jax.Array, lifetime: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        return run(lifetime, seed, **jax.tree.map(lambda x: x[arm], stacked))

    numbers = {key: i for i, key in enumerate(params)}
    point = rl.zipped(
        lifetime=jnp.array([lifetime for lifetime, _ in points]),
        arm=jnp.array([numbers[arm] for _, arm in points]),
    )
    seeds = worlds.TESTS + np.arange(config.seeds) if seeds is None else seeds
    folder = config.runs / name.replace(":", "_") / part
    over = {"point": point, "seed": jnp.asarray(seeds)}
    return rl.sweep(one, over, folder=folder, chunk=worlds.CHUNK)["score"].values


def tuned(
    name: str, config: Config, num_settings: int, part: str
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Test scores of the best setting for each lifetime, of the robust one and some random ones,
    and these settings.
    """
    algo, settings = sized(worlds.agent(), name), headroom.random_settings(num_settings)
    named: dict[str, dict[str, Any]] = {"robust": worlds.robust_setting()}
    named |= {str(i): headroom.at(settings, i) for i in range(num_settings)}
    seeds = np.arange(config.large_tuning_seeds if is_large(name) else config.tuning_seeds)
    search = scores(algo, named, name, f"{part}-search", config, seeds=seeds)
    means = np.nan_to_num(np.stack([x.mean(1) for x in search.values()]), nan=-np.inf)
    each = lifetimes(name, config)
    best = [(n, list(named)[int(np.argmax(means[:, i]))]) for i, n in enumerate(each)]
    chosen = [headroom.plain_setting(named[setting]) for _, setting in best]
    return of_points(algo, named, best, name, part, config), chosen


def adaptive(config: Config) -> dict[str, float]:
    """The target of the KL with the best mean score on 16 environments of each family of the
    search, none of which is tested.
    """
    found, scaled = [], worlds.scaled()
    for family in config.families:
        run = worlds.area(worlds.sized(by_kl({}), *worlds.SIZES[family]), scaled[family])
        over = {
            "lifetime": jnp.array(config.search_lifetimes),
            "target_kl": jnp.array(TARGETS),
            "seed": jnp.arange(config.selection // len(config.families)),
        }
        folder = config.runs / "selection" / family
        found.append(rl.sweep(run, over, folder=folder, chunk=worlds.CHUNK)["score"].values)
    return {"target_kl": TARGETS[lab.argbest(np.mean(found, (0, 1, 3)))]}


def by_kl(target: dict[str, float]) -> rl.OnPolicy:
    """PPO of the robust setting with a learning rate by the KL alone."""
    return replace(worlds.robust(), controller=rl.AdaptiveRate(**target), schedule=rl.Constant())


def of_search(name: str, config: Config) -> tuple[Arm, list[dict[str, Any]]]:
    """What a search changes, and the parameters that each meta-seed found; constants without the
    other weights, which the search moved by noise alone.
    """
    arm: Any = name.rpartition("_")[0].replace("_", " ")
    each = found_by(config.folder / f"{name}.json")
    if arm == "constants":
        each = [{WEIGHTS: only_constants(one[WEIGHTS])} for one in each]
    return arm, each


def formula(config: Config) -> dict[str, jax.Array]:
    """The weights of the formula that `distill_ppo` wrote, if it has."""
    path = config.folder / "formula.json"
    if not path.exists():
        return {}
    return {"formula": jnp.array(json.loads(path.read_text())["weights"], jnp.float32)}


def schedules(config: Config, is_large: bool) -> dict[str, dict[str, Any]]:
    """The parameters of PPO, the main schedule, its formula and its ablations."""
    zero = jnp.zeros((len(worlds.CONTROLLED), len(rl.LogLinear.FEATURES)))
    main = mean(of_search(config.searches[0], config)[1])[WEIGHTS]
    arms = {"PPO": zero, config.searches[0]: main} | formula(config)
    arms |= {} if is_large else ablations(main)
    return {name: {WEIGHTS: weights} for name, weights in arms.items()}


def measure(name: str, target: dict[str, float], config: Config) -> dict[str, Any]:
    """Scores of all arms on an environment, and the settings of the tuned one."""
    algo, large = sized(learner("schedule")[0], name), is_large(name)
    first, *others = config.searches
    tests = scores(algo, schedules(config, large), name, first, config)
    if not large:
        other = replace(algo, controller=Shuffled.zero(*worlds.CONTROLLED))
        params = {"schedule, shuffled clock": mean(of_search(first, config)[1])}
        tests |= scores(other, params, name, "shuffled", config)
    few = worlds.TESTS + np.arange(config.few_seeds)
    for search in config.searches:
        arm, params = of_search(search, config)
        own = sized(learner(arm)[0], name)
        if search in others and not large:
            tests |= scores(own, {search: mean(params)}, name, search, config)
        if search == first and not large:
            each = {f"{search} {i}": one for i, one in enumerate(params)}
            tests |= scores(own, each, name, f"{search}-each", config, seeds=few)
    if not large:
        tests |= scores(sized(by_kl(target), name), {"rate by KL": {}}, name, "adaptive", config)
    num_settings = config.large_settings if large else config.settings
    tests["tuned PPO"], chosen = tuned(name, config, num_settings, "tuned")
    if name in config.long_tuning:
        tests["PPO tuned for long"], _ = tuned(name, config, config.long_settings, "long")
    low = worlds.random_return(lab.Always(envs.make(name)))
    return {"tests": tests, "low": low, "tuned": chosen}


def summary(tests: dict[str, np.ndarray], low: float) -> dict[str, Any]:
    """Scores from 0, a random policy, to 1, tuned PPO at the longest lifetime: interquartile means
    over seeds with intervals, of each lifetime and of all, and differences to PPO and tuned PPO.

    tests: [lifetimes, seeds] of each arm, of which some have only the first seeds. Where tuned PPO
    is not better than the random policy by three standard errors there is no scale, and `arms` is
    empty.
    """
    missing = {key: int((~np.isfinite(x)).sum()) for key, x in tests.items()}
    known = {key: np.where(np.isfinite(x), x, low) for key, x in tests.items()}
    longest = known["tuned PPO"][-1]
    unit = float(longest.mean()) - low
    record = {"random": round(low, 4), "unit": round(unit, 4), "without a score": missing}
    if not unit > 3.0 * longest.std(ddof=1) / len(longest) ** 0.5:
        return record | {"arms": {}}
    scaled = {key: (x - low) / unit for key, x in known.items()}
    rounded = lambda interval: [round(float(x), 4) for x in interval]

    def over(x: np.ndarray, other: str) -> list[float]:
        same_seeds = scaled[other][:, : x.shape[1]]
        return rounded(rl.stats.difference(x.mean(0), same_seeds.mean(0), paired=True))

    arms = {
        key: {
            "all": rounded(rl.stats.interval(x.mean(0))),
            "each": [rounded(rl.stats.interval(row)) for row in x],
            "over PPO": over(x, "PPO"),
            "over tuned PPO": over(x, "tuned PPO"),
        }
        for key, x in scaled.items()
    }
    return record | {"arms": arms}


def counts(record: dict[str, Any]) -> dict[str, dict[str, int]]:
    """For each arm the number of environments, of those that have it, on which the whole 95 %
    interval of the difference is on one side. They are not corrected for their number.
    """
    arms = {arm: None for world in record.values() for arm in world["arms"]}
    found = {}
    for arm in arms:
        rows = [world["arms"][arm] for world in record.values() if arm in world["arms"]]
        ppo, tuned_ppo = ([row[f"over {name}"] for row in rows] for name in ("PPO", "tuned PPO"))
        found[arm] = {
            "ahead of PPO": sum(low > 0 for _, low, _ in ppo),
            "behind PPO": sum(high < 0 for _, _, high in ppo),
            "ahead of tuned PPO": sum(low > 0 for _, low, _ in tuned_ppo),
            "behind tuned PPO": sum(high < 0 for _, _, high in tuned_ppo),
            pages.NEARLY: sum(low >= -pages.MARGIN for _, low, _ in tuned_ppo),
            "of": len(rows),
        }
    return found


def main(config: Config) -> None:
    rl.use_all_cores()
    same = {"seeds": config.seeds, "searches": list(config.searches)}
    path = config.folder / "discovered.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    measured = kept["environments"] if kept.get("config") == same else {}
    whole, target = {}, adaptive(config)
    for name in config.names:
        found = measure(name, target, config)
        measured[name] = summary(found["tests"], found["low"]) | {
            "lifetimes": lifetimes(name, config),
            "tuned": found["tuned"],
        }
        whole = {
            "counts": counts(measured),
            "rate by KL": target,
            "environments": measured,
            "config": same,
        }
        path.write_text(json.dumps(whole, indent=1) + "\n")
    each = [one[WEIGHTS] for one in of_search(config.searches[0], config)[1]]
    drawn = formula(config) | {"mean": jnp.stack(each).mean(0)}
    drawn |= {str(i): weights for i, weights in enumerate(each)}
    pages.figure(whole, drawn, config.lifetimes).savefig(path.with_suffix(".png"), dpi=110)
    path.with_suffix(".md").write_text(pages.table(whole))
    for arm, row in counts(measured).items():
        print(f"{arm:32}", row)


if __name__ == "__main__":
    main(tyro.cli(Config))
