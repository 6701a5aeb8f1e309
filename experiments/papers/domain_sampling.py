"""Domain-aware sampling of RuleReasoner (Liu et al., 2025): tasks by the deficits of returns."""

import time

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.maze_tasks import maze_tasks
from experiments.claims import Arm, Check, Claim
from jaxrl import teachers
from jaxrl.rollout import play_levels
from jaxrl.teachers.tasks import TaskTeacher

TASKS, SIDE, DISTANCE = 8, 9, (2, 18)
MEMBERS, ROUNDS = 64, 20  # of the measurement of time


@rl.pytree
class HandMix(TaskTeacher):
    """Weights in proportion to the number of the task: distant goals are drawn more often."""

    uniform: float = 0.0
    rate: float = 1.0

    def weights(self, state, tasks):
        return 1.0 + jnp.arange(tasks.num_levels)


TEACHERS = {
    "dynamic": teachers.TaskSoftmax(teachers.Deficit(1.0)),
    "uniform": teachers.Uniform(),
    "hand mix": HandMix(),
}


def taught(teacher: teachers.Teacher, lr) -> rl.teachers.Taught:
    network = rl.Table(TASKS * SIDE**2)
    student = rl.ppo(lr=lr, network=network, num_envs=32, num_steps=32, minibatches=2)
    return teachers.Taught(student, teacher, num_levels=32)


def arm(teacher: teachers.Teacher, steps: int) -> Arm:
    def run(seed, lr):
        key_tasks, key_train, key_play = jax.random.split(jax.random.key(seed), 3)
        tasks, algo = maze_tasks(key_tasks, TASKS, SIDE, DISTANCE), taught(teacher, lr)
        state, _ = rl.Training(algo, tasks, steps, evals=1, episodes=0)(key_train)
        policy = algo.policy(tasks, algo.agent(state), greedy=False)
        found = play_levels(key_play, tasks.levels, policy, 16)
        success = found.info["success"].mean(1)
        return {"mean": success.mean(), "worst": success.min(), "tasks": success}

    return Arm(run, steps, {"lr": [0.003, 0.01, 0.03]})


def better(metric: str, than: str) -> Check:
    return Check(
        f"{metric} success of {TASKS} tasks, dynamic less {than}",
        lambda r: rl.stats.difference(r["dynamic"][metric].values, r[than][metric].values),
        "> 0",
    )


def overhead(results) -> list[float]:
    """Time of the teacher as a share of that of an update, in interleaved rounds. [ROUNDS]."""
    algo = taught(TEACHERS["dynamic"], 0.1)
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    tasks = jax.jit(jax.vmap(lambda key: maze_tasks(key, TASKS, SIDE, DISTANCE)))(keys)
    states = jax.jit(jax.vmap(algo.init))(keys, tasks)

    def teach(key, tasks, state):
        teacher, zeros = algo.teacher, jnp.zeros(algo.num_levels)
        levels, notes = teacher.draw(key, state, tasks, algo.num_levels)
        report = teachers.Report(jnp.int32(notes), *[zeros] * 6)
        return teacher.tell(key, state, tasks, levels, notes, report)[0]

    update, teach = jax.jit(jax.vmap(algo.update)), jax.jit(jax.vmap(teach))

    def once(program, state) -> float:
        start = time.perf_counter()
        jax.block_until_ready(program(keys, tasks, state))
        return time.perf_counter() - start

    def seconds(program, state) -> float:
        return min(once(program, state) for _ in range(3))

    both = [(seconds(teach, states.teacher), seconds(update, states)) for _ in range(1 + ROUNDS)]
    return [teacher / whole for teacher, whole in both[1:]]


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(204_800 * scale), 2048)
    return [
        Claim(
            row=162,
            statement="On eight mazes from near to far goals, drawing tasks by a softmax of what "
            "their returns lack has a higher mean and worst success than uniform draws and than a "
            "mix that favours far goals, at less than 1 % of the time of an update.",
            arms={name: arm(teacher, steps) for name, teacher in TEACHERS.items()},
            accept=[
                better("worst", "uniform"),
                better("worst", "hand mix"),
                better("mean", "uniform"),
                better("mean", "hand mix"),
                Check("time of the teacher / time of an update", overhead, "< 0.01"),
            ],
            worlds=[f"{TASKS} perfect mazes of {SIDE} by {SIDE}, drawn for each seed"],
            metric="mean",
            changed="After trials: farther goals, and fewer steps, so that no arm is done.",
            unmatched="A table in place of a language model, so that tasks share nothing.",
        )
    ]
