"""Feasible Learning (Ramirez et al., 2025): a constraint on each level's loss, with a multiplier.

Levels are drawn in proportion to their multipliers, which grow while a return is below its target.
"""

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.maze_tasks import maze_tasks
from experiments.claims import Arm, Check, Claim, ratio
from jaxrl import teachers
from jaxrl.rollout import play_levels

LEVELS, SIDE, EPISODES = 40, 9, 16
WORST = 2  # the worst 5 %
TEACHERS = {
    "feasible": teachers.TaskMultipliers(target=0.9, relaxation=0.1, rate=0.3),
    "uniform": teachers.Uniform(),
}


def arm(teacher: teachers.Teacher, steps: int) -> Arm:
    def run(seed, lr):
        key_tasks, key_train, key_play = jax.random.split(jax.random.key(seed), 3)
        tasks = maze_tasks(key_tasks, LEVELS, SIDE, (2, 12))
        network = rl.Table(LEVELS * SIDE**2)
        student = rl.ppo(lr=lr, network=network, num_envs=64, num_steps=32, minibatches=2)
        algo = teachers.Taught(student, teacher, num_levels=64)
        state, _ = rl.Training(algo, tasks, steps, evals=1, episodes=0)(key_train)
        policy = algo.policy(tasks, algo.agent(state), greedy=False)
        found = play_levels(key_play, tasks.levels, policy, EPISODES)
        success = jnp.sort(found.info["success"].mean(1))
        return {"mean": success.mean(), "tail": success[:WORST].mean(), "sorted": success}

    return Arm(run, steps, {"lr": [0.01, 0.03, 0.1]})


def of(results, name: str, metric: str):
    return results[name][metric].values


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(204_800 * scale), 4096)

    def draw(results, ax):
        for name in TEACHERS:
            ax.plot(of(results, name, "sorted").mean(0), label=name)
        ax.set(xlabel="level, by its success", ylabel="success")
        ax.legend()

    return [
        Claim(
            row=374,
            statement="On 40 mazes, drawing levels in proportion to the multipliers of bounds on "
            "their returns raises the success on the worst 5 % of them above that of uniform "
            "draws, at the same number of steps, and keeps 98 % of the mean.",
            arms={name: arm(teacher, steps) for name, teacher in TEACHERS.items()},
            accept=[
                Check(
                    "success on the worst 5 % of levels, feasible less uniform",
                    lambda r: rl.stats.difference(*(of(r, name, "tail") for name in TEACHERS)),
                    "> 0",
                ),
                Check(
                    "mean success, feasible / uniform",
                    lambda r: ratio(*(of(r, name, "mean") for name in TEACHERS)),
                    ">= 0.98",
                ),
            ],
            worlds=[f"{LEVELS} perfect mazes of {SIDE} by {SIDE}, drawn for each seed"],
            metric="mean",
            changed="After trials: nearer goals, and fewer steps, so that no arm is done.",
            unmatched="Returns of levels in place of losses of samples: multipliers weight how "
            "often a level is drawn.",
            draw=draw,
        )
    ]
