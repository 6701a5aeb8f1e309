"""The gain of temporal awareness where a schedule has room: `python -m experiments.discover_clock`.

The search of `discover_ta_lpo` (drifts with and without the age n / N as an input), but from PPO's
clip rather than from nothing, and on worlds on which a schedule can help. PPO has no decay: its
learning rate and clip are the best constants of a grid on the selection levels of a world.

Rule, stated before any measurement: a schedule has room on a world if, on levels used for nothing
else, the best linear decay of the learning rate to 0 scores higher than the best constant, with a
paired 95 % interval above 0. Both are the best of as many settings, on the selection levels, at
lifetimes of the search. On the other worlds nothing is searched (`--every-world` does so).

Two colours: no episode ends, so that a training run is scored by its mean reward, as a share of the
optimal rate, rather than by its last policy; the colours swap their signs in the middle of it.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

import envs
import jaxrl as rl
from experiments import _discovery as lab
from experiments.discover_lpo import learner
from experiments.discover_ta_lpo import change
from jaxrl.meta.base import SELECTION
from jaxrl.rules.lpo import LPO
from jaxrl.tree import pytree, replace, static

RESULTS = pathlib.Path(__file__).parent / "results"
HEADROOM = 0x4EAD  # the seed of the levels on which the decay and the constant are compared
ARMS: tuple[str, ...] = (
    "time-aware",
    "time-aware, age shuffled",
    "unaware",
    "PPO",
    "PPO, linear decay",
)
DIFFERENCES = {
    "gain_by_clock": ("time-aware", "unaware"),
    "loss_by_shuffling": ("time-aware", "time-aware, age shuffled"),
    "more_than_PPO": ("time-aware", "PPO"),
    "more_than_decay": ("time-aware", "PPO, linear decay"),
}
TUNED: tuple[str, ...] = ("lr", "clip", "schedule.end")
CLIPS = (0.1, 0.2, 0.4)
Name = Literal["two_colours", "noisy_chains", "grids", "mazes"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    worlds: tuple[Name, ...] = ("two_colours", "noisy_chains", "grids", "mazes")
    generations: int = 40
    evals: int = 4
    """number of evaluations on the selection levels"""
    seeds: int = 5
    """number of meta-seeds; all of them are reported"""
    population: int = 48
    lifetime: tuple[int, int] = (10, 60)
    """updates per training run, log-uniform range"""
    test_lifetimes: tuple[int, ...] = (10, 40, 160)
    sigma: float = 0.3
    lr: float = 0.05
    lr_decay: float = 0.98
    width: int = 16
    """hidden units of the drift network"""
    selection_levels: int = 64
    test_levels: int = 64
    headroom_levels: int = 256
    rates: int = 6
    """learning rates of PPO in its grid, each with three clips, with and without a decay"""
    every_world: bool = False
    """search also where a schedule has no room"""
    first_seed: int = 0
    runs: pathlib.Path = pathlib.Path("runs/discover_clock")
    """folder of the training runs; the same command resumes from there"""
    folder: pathlib.Path = RESULTS

    @property
    def num_lifetimes(self) -> int:
        """Number of training runs of a meta-seed: of generations, and to select a checkpoint."""
        return self.generations * self.population + self.evals * self.selection_levels

    @property
    def inside(self) -> tuple[int, ...]:
        """Lifetimes at which PPO is tuned: the ends of the range, and its geometric mean."""
        shortest, longest = self.lifetime
        return tuple(sorted({shortest, round((shortest * longest) ** 0.5), longest}))


# ------------------------------------------------------------------------------------------- worlds


@pytree
class Colours(rl.Tasks):
    """The two colours, which swap after `period` steps; the score of a reward rate is its share of
    the optimal one, `best`.
    """

    best: float
    side: int = static(default=3)

    def sample(self, key: jax.Array) -> Any:
        return envs.TwoColors(side=self.side, max_steps=10**9)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        return episode_return / self.best


@pytree
class RewardRate(lab.WrappedRule):
    """A rule that reports the mean reward of a rollout as its return, as if an episode had ended:
    what `InnerLoop(by_area=True)` averages where no episode ends.
    """

    rule: Any

    def loss(self, out: Any, batch: Any, targets: Any, clock: rl.Clock) -> Any:
        loss, metrics = self.rule.loss(out, batch, targets, clock)
        return loss, metrics | {"return": batch.reward.mean(), "episodes": jnp.float32(1.0)}


@pytree
class SwapInTheMiddle(rl.InnerLoop):
    """An inner loop in which the colours swap in the middle of each training run."""

    def run_one(
        self,
        key: jax.Array,
        params: dict[str, Any],
        tasks: rl.Tasks,
        env: Any,
        lifetime: jax.Array,
        bound: jax.Array,
    ) -> jax.Array:
        agent: Any = self.learner
        env = replace(env, period=jnp.maximum(lifetime * agent.num_steps // 2, 1))
        return super().run_one(key, params, tasks, env, lifetime, bound)


@dataclasses.dataclass(frozen=True)
class World:
    """A distribution of environments, a network, and the ends of PPO's learning rates."""

    tasks: rl.Tasks
    network: Any
    rates: tuple[float, float] = (0.01, 1.0)
    continues: bool = False

    def agent(self, objective: Any) -> rl.OnPolicy:
        agent = replace(learner(objective), network=self.network, schedule=rl.Linear(1.0))
        return replace(agent, rule=RewardRate(agent.rule)) if self.continues else agent

    def drift_of(self, agent: Any) -> Any:
        """The drift of an agent of the search."""
        rule = agent.rule.rule
        return (rule.rule if self.continues else rule).objective

    def inner_loop(
        self, agent: rl.OnPolicy, meta_params: tuple[str, ...], lifetime: tuple[int, int]
    ) -> rl.InnerLoop:
        kind = SwapInTheMiddle if self.continues else rl.InnerLoop
        return kind(agent, meta_params, lifetime, by_area=self.continues, chunk=16)


def world(name: Name) -> World:
    """A world by name."""
    if name == "two_colours":
        best = float(jax.jit(envs.solve.best_rate)(envs.TwoColors(side=3)))
        return World(Colours(best), rl.MLP((16,)), (0.001, 0.1), continues=True)
    if name == "noisy_chains":
        # with the noise of 1 of the paper, the score of 16 episodes would be noise
        chains: Any = envs.distribution("DelayedChain-short", noise=0.3, one_hot=False)
        return World(chains, rl.Table(2 * chains.length[1] + 1))
    levels: Any
    if name == "grids":
        levels = envs.distribution("LPGGrid-small", one_hot=False)
    else:
        levels = envs.distribution("LPGGrid-mazes", sides=(9, 9), num_objects=(2, 2), one_hot=False)
    return World(lab.Shares(levels, -1.0), rl.Table(levels.num_states))


# ----------------------------------------------------------------------------------------- headroom


def finite(scores: np.ndarray) -> np.ndarray:
    """Scores with 0 for runs that diverged."""
    return np.where(np.isfinite(scores), scores, 0.0)


def headroom(config: Config, place: World, folder: pathlib.Path) -> dict[str, Any]:
    """PPO tuned with and without a decay, and whether the decay is better."""
    loop = place.inner_loop(place.agent(rl.Clip()), TUNED, config.lifetime)
    rates = np.geomspace(*place.rates, config.rates).round(5).tolist()
    grid = [(lr, clip, end) for end in (1.0, 0.0) for lr in rates for clip in CLIPS]
    settings = [dict(zip(TUNED, one, strict=True)) for one in grid]
    each = max(2 * config.num_lifetimes // len(settings) // len(config.inside), 1)
    found = lab.sweep_scores(
        loop, place.tasks, settings, each, config.inside, SELECTION, folder / "tuning"
    )
    means = finite(found).mean((1, 2)).reshape(2, -1)
    best = [settings[i * means.shape[1] + int(row.argmax())] for i, row in enumerate(means)]
    fresh = lab.sweep_scores(
        loop,
        place.tasks,
        best,
        config.headroom_levels,
        config.inside,
        HEADROOM,
        folder / "headroom",
    )
    constant, decay = finite(fresh).mean(1)
    gain = [round(float(x), 4) for x in rl.stats.paired_difference(decay, constant)]
    return {
        "constant": best[0],
        "decay": best[1],
        "selection": means.max(1).round(4).tolist(),
        "fresh": [round(float(constant.mean()), 4), round(float(decay.mean()), 4)],
        "gain_of_decay": gain,
        "has_room": gain[1] > 0.0,
        "training_runs": each * len(config.inside) * len(settings),
    }


# ------------------------------------------------------------------------------------------- search


def evolution(config: Config, place: World, constant: dict[str, float]) -> rl.Evolution:
    """The search from PPO at the best constant setting."""
    drift = LPO.random(
        jax.random.key(1),
        config.width,
        base=rl.Clip(constant["clip"]),
        knows_time=True,
        zero=True,
    )
    agent = replace(place.agent(drift), lr=constant["lr"])
    agent = replace(agent, rule=lab.TimeConditioned(agent.rule))
    strategy = rl.ES(
        lr=config.lr, sigma=config.sigma, lr_decay=config.lr_decay, population=config.population
    )
    return rl.Evolution(place.inner_loop(agent, ("weights",), config.lifetime), strategy)


def interval(
    pairs: list[tuple[np.ndarray, np.ndarray]], resamples: int = 2000, level: float = 0.95
) -> list[float]:
    """The difference of the means of x and y, the mean over worlds of which each is a pair of them
    [meta-seeds, levels], with its interval: a resample has other meta-seeds of each, and other
    levels, the same of both.
    """
    rng = np.random.default_rng(0)

    def draw(x: np.ndarray, y: np.ndarray) -> float:
        levels = rng.integers(x.shape[1], size=x.shape[1])
        one, other = (z[rng.integers(len(z), size=len(z))][:, levels].mean() for z in (x, y))
        return one - other

    draws = [np.mean([draw(x, y) for x, y in pairs]) for _ in range(resamples)]
    low, high = np.quantile(draws, [(1.0 - level) / 2, (1.0 + level) / 2])
    middle = np.mean([x.mean() - y.mean() for x, y in pairs])
    return [round(float(x), 4) for x in (middle, low, high)]


def differences(each: list[dict[str, np.ndarray]], i: int) -> dict[str, list[float]]:
    """The differences at lifetime i, as means over worlds. each: scores of their arms [meta-seeds,
    lifetimes, levels].
    """
    return {
        name: interval([(scores[a][:, i], scores[b][:, i]) for scores in each])
        for name, (a, b) in DIFFERENCES.items()
    }


def search(
    config: Config, place: World, room: dict[str, Any], name: Name
) -> tuple[dict[str, Any], dict[str, np.ndarray], xr.Dataset]:
    """The record of a world, scores of each arm [meta-seeds, lifetimes, levels], and curves."""
    found_by = evolution(config, place, room["constant"])
    results, found = lab.discover(
        found_by,
        config,
        f"{name}/search",
        place.tasks,
        chunk=jax.local_device_count(),
        over={"age": jnp.array([1.0, 0.0])},
    )
    inner: Any = found_by.inner
    drift = replace(inner, meta_params=("weights", "age"))
    hand = place.inner_loop(place.agent(rl.Clip()), TUNED, config.lifetime)
    test = lambda loop, params: lab.sweep_scores(
        loop, place.tasks, params, config.test_levels, config.test_lifetimes, lab.TEST
    )
    aware, unaware = found[: config.seeds], found[config.seeds :]
    drifts = [one | {"age": 1.0} for one in aware]
    drifts += [one | {"age": -1.0} for one in aware]
    drifts += [one | {"age": 0.0} for one in unaware]
    of_drifts, by_hand = test(drift, drifts), test(hand, [room["constant"], room["decay"]])
    num_diverged = int((~np.isfinite(of_drifts)).sum())
    thirds = np.split(finite(of_drifts), 3)
    scores = dict(zip(ARMS, (*thirds, *np.split(finite(by_hand), 2)), strict=True))
    agents = [inner.with_params(one) for one in aware]
    record = {
        "scores": {
            str(lifetime): {arm: lab.summary(x[:, i]) for arm, x in scores.items()}
            | differences([scores], i)
            for i, lifetime in enumerate(config.test_lifetimes)
        },
        "diverged": num_diverged,
        "slope_change": [change(place.drift_of(agent)) for agent in agents],
        "curves": {
            name: np.round(results[name].values, 4).tolist()
            for name in ("return", "evaluation", "waste")
        },
        "step": results["step"].values.tolist(),
    }
    return record, scores, results


def run(config: Config) -> dict[str, Any]:
    """The record: the headroom of each world, what was found there, and under "all" the means over
    the worlds on which a schedule has room.
    """
    began, busy = time.monotonic(), time.process_time()
    found: dict[str, Any] = {}
    with_room, last = [], None
    for name in config.worlds:
        place, folder = world(name), config.runs / name
        found[name] = {"headroom": (room := headroom(config, place, folder))}
        print(name, "gain of the decay", room["gain_of_decay"], flush=True)
        if room["has_room"] or config.every_world:
            part, arms, last = search(config, place, room, name)
            found[name] |= part
            with_room += [arms] * room["has_room"]
    record = {
        "worlds": found,
        "num_with_room": len(with_room),
        "all": {
            str(lifetime): differences(with_room, i)
            for i, lifetime in enumerate(config.test_lifetimes)
            if with_room
        },
        "with_compilation": {
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - busy, 1),
        },
        "config": {
            name: x
            for name, x in dataclasses.asdict(config).items()
            if name not in ("runs", "folder")
        },
    }
    return record if last is None else record | lab.card(last)


def figure(record: dict[str, Any]) -> Any:
    """The scores of each arm by lifetime, one panel for each world with a search."""
    shown = {name: each for name, each in record["worlds"].items() if "scores" in each}
    panels = rl.plot.Picture(figsize=(4.2 * len(shown), 4.2), layout="constrained")
    axes = np.atleast_1d(panels.subplots(1, len(shown)))
    for ax, (name, each) in zip(axes, shown.items(), strict=True):
        lab.lines(ax, record | each, ARMS)
        ax.set(title=name.replace("_", " "), ylabel="score, test levels")
    axes[0].legend(frameon=False, fontsize="small")
    return panels


def main(config: Config) -> None:
    rl.use_all_cores()
    record = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "discover_clock.json").write_text(json.dumps(record, indent=1) + "\n")
    if any("scores" in each for each in record["worlds"].values()):
        figure(record).savefig(config.folder / "discover_clock.png", dpi=110)
    for lifetime, each in record["all"].items():
        print(lifetime, "updates:", each)


if __name__ == "__main__":
    main(tyro.cli(Config))
