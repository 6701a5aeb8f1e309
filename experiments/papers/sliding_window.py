"""A sliding window against restarts in a drifting process: optimistic planning with the counts of
the latest episodes, or with counts that are reset at intervals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs import processes
from experiments.claims import Arm, Check, Claim
from jaxrl import tabular

S, A, H = 5, 3, 5
LENGTHS = (1.0, 2.0, 4.0, 8.0)  # times (number of episodes) ** (2 / 3)
CHANGE = (0.3, 1.0)  # small and large variation
SCALE = 0.1


def played(seed, change, episodes: int, learner: tabular.Optimist) -> jax.Array:
    """Dynamic regret of a run. [points]."""
    key_process, key_play = jax.random.split(jax.random.key(seed))
    drift = processes.drifting(key_process, S, A, change=change)
    return tabular.play_episodes(key_play, drift, learner, H, episodes)["regret"]


def arm(learner, grid: dict, episodes: int) -> Arm:
    """learner: a function of the number of episodes and of the setting."""

    def run(seed, change, **setting):
        short = played(seed, change, episodes // 4, learner(episodes // 4, **setting))
        full = played(seed, change, episodes, learner(episodes, **setting))
        return {"short": short[-1], "total": full[-1], "regret": full}

    return Arm(run, budget=(episodes + episodes // 4) * H, tune=grid)


def window(episodes: int, length) -> tabular.Optimist:
    most = round(max(LENGTHS) * episodes ** (2 / 3)) + 1
    length = jnp.round(length * episodes ** (2 / 3)).astype(jnp.int32)
    return tabular.Optimist(tabular.Hoeffding(SCALE), window=length, memory=most)


def restart(episodes: int, length) -> tabular.Optimist:
    every = jnp.round(length * episodes ** (2 / 3)).astype(jnp.int32)
    return tabular.Optimist(tabular.Hoeffding(SCALE), restart_every=every)


def stationary(episodes: int, scale) -> tabular.Optimist:
    return tabular.Optimist(tabular.Hoeffding(scale))


def total(results, name: str, change: float) -> np.ndarray:
    return results[name]["total"].sel(change=change).values


def less(first: str, second: str, change: float):
    """Share of the second arm's regret that the first one saves. [seeds]."""
    return lambda results: 1 - total(results, first, change) / total(results, second, change)


def growth(results) -> np.ndarray:
    """Log-log slope of the window's regret over the number of episodes of a run. [seeds]."""
    found = results["window"].sel(change=CHANGE[0])
    return np.log(found["total"].values / found["short"].values) / np.log(4)


def draw(results, axes):
    for name, found in results.items():
        y = found["regret"].sel(change=CHANGE[0]).transpose("seed", ...).values.mean(0)
        axes.plot(np.linspace(0, 1, len(y)), y, label=name)
    axes.set(xlabel="share of the episodes", ylabel="dynamic regret, small variation")
    axes.legend()


def claims(scale: float = 1.0) -> list[Claim]:
    episodes = 400 * max(1, round(20 * scale))
    lengths = {"length": LENGTHS}
    return [
        Claim(
            row=223,
            statement="In a slowly drifting process a sliding window of episodes has a sublinear "
            "dynamic regret, below that of restarts; in a fast one it is below that of counts of "
            "all episodes.",
            changed="After a first measurement with the same verdict: the grid of windows.",
            arms={
                "window": arm(window, lengths, episodes),
                "restarts": arm(restart, lengths, episodes),
                "all episodes": arm(stationary, {"scale": (0.03, 0.1, 0.3, 1.0)}, episodes),
            },
            accept=[
                Check(
                    "share of the regret of restarts that the window saves, small variation",
                    less("window", "restarts", CHANGE[0]),
                    "> 0",
                ),
                Check("log-log slope of the window's regret, small variation", growth, "< 1"),
                Check(
                    "share of the regret of all episodes that the window saves, large variation",
                    less("window", "all episodes", CHANGE[1]),
                    "> 0",
                ),
            ],
            worlds=[f"drifting random processes, S={S}, A={A}, H={H}"],
            axes={"change": CHANGE},
            metric="total",
            minimize=True,
            unmatched="The learner counts, in place of confidence sets of a function class; the "
            f"scale of the bonus is {SCALE} for the window and for restarts.",
            draw=draw,
        )
    ]
