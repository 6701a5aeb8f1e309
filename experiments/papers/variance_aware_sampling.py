"""Variance-aware sampling of MMR1 (Leng et al., 2025): levels by the variance of their success.

A group of episodes with equal returns has a gradient of 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.maze_tasks import maze_tasks
from experiments.claims import Arm, Check, Claim
from jaxrl import teachers

LEVELS, SIDE, GROUP, LONGEST = 32, 9, 8, 40
EVALS = 20


@rl.pytree
class Measured(teachers.TaskProportion):
    """A teacher with a metric: the variance of success, averaged over the groups of an update."""

    def init(self, key, tasks) -> Any:
        return super().init(key, tasks), jnp.float32(0.0)

    def draw(self, key, state: Any, tasks, num):
        return super().draw(key, state[0], tasks, num)

    def tell(self, key, state: Any, tasks, levels, notes, report) -> Any:
        inner, notes = super().tell(key, state[0], tasks, levels, notes, report)
        variance = report.success * (1.0 - report.success) * report.episodes
        return (inner, variance.sum() / jnp.maximum(report.episodes.sum(), 1)), notes

    def metrics(self, state: Any):
        return {"variance": state[1]}


def arm(teacher: teachers.Teacher, steps: int, evals: int) -> Arm:
    def run(seed, lr):
        key_tasks, key_train = jax.random.split(jax.random.key(seed))
        tasks = maze_tasks(key_tasks, LEVELS, SIDE, max_steps=LONGEST)
        sizes: Any = {"num_envs": 8 * GROUP, "num_steps": LONGEST, "group_size": GROUP}
        student = rl.rloo(lr=lr, network=rl.Table(LEVELS * SIDE**2), **sizes)
        algo = teachers.Taught(student, teacher, num_levels=32)
        training = rl.Training(algo, tasks, steps, evals=evals, episodes=64, eval_share=9.0)
        metrics = training(key_train)[1]
        names = ("variance", "grad_norm", "evaluation")
        return {name: metrics[name] for name in names} | {"auc": metrics["evaluation"].mean()}

    return Arm(run, steps, {"lr": [0.01, 0.03, 0.1]})


def better(metric: str, statement: str) -> Check:
    def measure(results):
        x, y = (results[name][metric].values for name in ("variance-aware", "uniform"))
        return rl.stats.difference(*(z.reshape(len(z), -1).mean(1) for z in (x, y)))

    return Check(f"{statement}, variance-aware less uniform", measure, "> 0")


def correlation(results):
    """Over the rows of a run with uniform draws. [seeds]."""
    ranks = lambda name: results["uniform"][name].values.argsort(1).argsort(1)
    pairs = zip(ranks("variance"), ranks("grad_norm"), strict=True)
    return np.array([np.corrcoef(*pair)[0, 1] for pair in pairs])


def bound(results):
    """The smallest ratio of gradient norm to variance over the rows of both arms, as a fraction of
    the median ratio. [seeds].
    """
    of = lambda name: np.concatenate([results[arm][name].values for arm in results], 1)
    quotient = of("grad_norm") / np.maximum(of("variance"), 1e-6)
    return quotient.min(1) / np.median(quotient, 1)


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(512_000 * scale), 20_480)
    evals = min(EVALS, steps // (8 * GROUP * LONGEST))
    kinds = {"variance-aware": Measured(), "uniform": Measured(uniform=1.0)}
    return [
        Claim(
            row=123,
            statement="On 32 mazes, drawing levels by the variance of their success raises the "
            "variance within groups, the norm of the gradient, and the success over the whole "
            "training above those of uniform draws; the norm stays above a multiple of the "
            "variance.",
            arms={name: arm(teacher, steps, evals) for name, teacher in kinds.items()},
            accept=[
                better("auc", "mean success over the training"),
                better("variance", "variance of success in a group"),
                better("grad_norm", "norm of the gradient"),
                Check("rank correlation of norm and variance, uniform", correlation, ">= 0.5"),
                Check("least norm / variance over its median", bound, ">= 0.2"),
            ],
            worlds=[f"{LEVELS} perfect mazes of {SIDE} by {SIDE}, drawn for each seed"],
            metric="auc",
            unmatched="Without the diversity of trajectories, the second part of the score.",
        )
    ]
