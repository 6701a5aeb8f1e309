"""Variance-dependent regret (MVP): a bonus from empirical variances stops costing regret in a
deterministic process, and is as good as others in a stochastic one.
"""

import jax
import numpy as np

import jaxrl as rl
from envs import processes
from envs.tabular import TabularMDP
from experiments.papers import Arm, Check, Claim
from jaxrl import tabular

S, A, H = 6, 3, 6
SCALES = (0.03, 0.1, 0.3, 1.0)


def process_of(key, stochastic) -> TabularMDP:
    """A random process: deterministic, or with three random next states."""
    fixed, free = (processes.bounded(key, S, A, branching) for branching in (1, 3))
    return jax.tree.map(lambda x, y: jax.numpy.where(stochastic, y, x), fixed, free)


def arm(bonus, episodes: int) -> Arm:
    def run(seed, stochastic, scale):
        key_process, key_play = jax.random.split(jax.random.key(seed))
        learner = tabular.Optimist(bonus(scale=scale))
        process = process_of(key_process, stochastic)
        found = tabular.play_episodes(key_play, process, learner, H, episodes)
        return found | {"total": found["regret"][-1]}

    return Arm(run, budget=episodes * H, tune={"scale": SCALES})


def regret(results, name: str, stochastic: int) -> tuple[np.ndarray, np.ndarray]:
    """Episodes, [points], and regret, [seeds, points]."""
    found = results[name].sel(stochastic=stochastic)
    return found["episode"].values[0], found["regret"].transpose("seed", ...).values


def late(results, name: str) -> np.ndarray:
    """Share of the regret in a deterministic process that falls in the second half. [seeds]."""
    _, y = regret(results, name, 0)
    return 1 - y[:, y.shape[1] // 2 - 1] / np.maximum(y[:, -1], 1e-6)


def slope(results) -> np.ndarray:
    t, y = regret(results, "MVP", 1)
    return rl.stats.slope(t, np.maximum(y, 1e-6), (t[-1] / 10, t[-1]))


def draw(results, axes):
    for name in results:
        for stochastic, style in ((0, "-"), (1, "--")):
            t, y = regret(results, name, stochastic)
            label = f"{name}, {'stochastic' if stochastic else 'deterministic'}"
            axes.loglog(t, y.mean(0), style, label=label)
    axes.set(xlabel="episode", ylabel="cumulative regret")
    axes.legend()


def claims(scale: float = 1.0) -> list[Claim]:
    episodes = 100 * max(1, round(200 * scale))
    return [
        Claim(
            row=181,
            statement="With a bonus from variances the regret in deterministic processes reaches a "
            "constant, while in stochastic ones it grows as the square root of the episodes.",
            arms={
                "MVP": arm(tabular.Monotone, episodes),
                "UCBVI-CH": arm(tabular.Hoeffding, episodes),
            },
            accept=[
                Check(
                    "share of MVP's regret in the second half, deterministic",
                    lambda results: late(results, "MVP"),
                    "<= 0.05",
                    rl.stats.mean,
                ),
                Check(
                    "the same share for a bonus without variances, less that of MVP",
                    lambda results: late(results, "UCBVI-CH") - late(results, "MVP"),
                    "> 0",
                    rl.stats.mean,
                ),
                Check(
                    "log-log slope of MVP's regret, stochastic, last decade",
                    slope,
                    ">= 0.4, <= 0.6",
                ),
            ],
            worlds=[f"random processes, S={S}, A={A}, H={H}"],
            axes={"stochastic": (0, 1)},
            metric="total",
            minimize=True,
            unmatched="The scale of each bonus is tuned; model-free variants are left out.",
            draw=draw,
        )
    ]
