"""Snapshot reinforcement learning (Zhao et al., 2024): a student's episodes start in states of
a teacher's episodes, with a probability that falls to 0. S3RL divides the states into classes, and
draws a class, then a state of it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.gridworld import MOVES, GridWorld
from experiments.claims import Arm, Check, Claim
from jaxrl import teachers
from jaxrl.archives import Grid
from jaxrl.stats import difference
from jaxrl.tree import replace

MAP = """
###########
#S   #    #
#         #
#    #    #
#    #    #
## #### ###
#    #    #
#    #    #
#         #
#    #   G#
###########
"""
ENV = GridWorld(map=MAP, max_steps=50)
EPISODES, NOISE, EVALS = 4, 0.4, 40  # NOISE: the share of random actions of the teacher
KINDS = Grid(jnp.full(2, 0.5), jnp.full(2, 9.5), (4, 4))  # classes of positions


def shortest() -> np.ndarray:
    """The action along a shortest path to the goal from each cell. int [rows, columns]."""
    cells = np.array([list(line) for line in MAP.strip().split("\n")])
    steps = np.where(cells == "G", 0.0, np.inf)
    ahead = lambda: np.stack([np.roll(steps, (-row, -column), (0, 1)) for row, column in MOVES])
    for _ in range(cells.size):
        steps = np.where(cells == "#", np.inf, np.minimum(steps, ahead().min(0) + 1))
    return ahead().argmin(0)


BEST = shortest()


def teacher(key: jax.Array, episode: rl.Episode) -> tuple[tuple, jax.Array, tuple]:
    """An action of a shortest path, or a random one."""
    key_noise, key_action = jax.random.split(key)
    row, column = episode.state
    random = jax.random.bernoulli(key_noise, NOISE)
    best = jnp.asarray(BEST)[row, column]
    return (), jnp.where(random, jax.random.randint(key_action, (), 0, 4), best), ()


@rl.pytree
class Starts(rl.Tasks):
    """The environment, and states of the teacher's episodes [K] with their weights [K]."""

    states: Any
    obs: Any
    weight: jax.Array

    channels = ("success",)

    @classmethod
    def recorded(cls, key: jax.Array) -> "Starts":
        play = lambda key: teachers.demonstrate(key, ENV, rl.Policy(teacher))
        seen = jax.vmap(play)(jax.random.split(key, EPISODES))
        used = (jnp.arange(ENV.max_steps + 1) < seen.length[:, None]).ravel()
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        kind = KINDS(flat(seen.states).astype(jnp.float32))
        in_kind = jax.ops.segment_sum(used.astype(jnp.float32), kind, KINDS.num_cells)
        return cls(flat(seen.states), flat(seen.obs), used / jnp.maximum(in_kind[kind], 1.0))

    def sample(self, key: jax.Array) -> teachers.FromState:
        return teachers.FromState(ENV, *ENV.reset(key), target=0.5, at_reset=True)


@rl.pytree
class Snapshots(teachers.Teacher):
    """Starts in stored states, with a probability that falls from 1 to 0 in `updates` updates."""

    updates: float

    def init(self, key: jax.Array, tasks: Any) -> jax.Array:
        return jnp.float32(0.0)

    def draw(self, key, state, tasks: Any, num):
        key_used, key_place, key_reset = jax.random.split(key, 3)
        at_reset = jax.random.uniform(key_used, (num,)) < state / self.updates
        place = jax.random.categorical(key_place, jnp.log(tasks.weight), shape=(num,))
        levels = jax.vmap(tasks.sample)(jax.random.split(key_reset, num))
        state, obs = tasks.states[place], tasks.obs[place]
        return replace(levels, state=state, obs=obs, at_reset=at_reset), ()

    def tell(self, key, state, tasks, levels, notes, report):
        return state + 1.0, notes


ALGORITHMS = {
    "PPO": functools.partial(rl.ppo, num_envs=8, num_steps=32, network=rl.MLP((32,))),
    "PQN": functools.partial(rl.pqn, num_envs=8, num_steps=32, network=rl.MLP((32,))),
}


def arm(name: str, snapshots: bool, steps: int) -> Arm:
    def run(seed, lr):
        key_teacher, key_train = jax.random.split(jax.random.key(seed))
        tasks = Starts.recorded(key_teacher)
        algo = ALGORITHMS[name](lr=lr)
        stored = Snapshots(steps / algo.steps_per_update / 2)
        taught = rl.Taught(algo, stored if snapshots else teachers.Uniform())
        training = rl.Training(taught, tasks, steps, EVALS, episodes=1, eval_share=1.0)
        solved = training(key_train)[1]["evaluation"] > 0.5
        first = jnp.where(solved.any(), solved.argmax(), EVALS) / EVALS
        return {"first": first, "solved": solved.mean()}

    return Arm(run, budget=steps, tune={"lr": (1e-3, 3e-3, 1e-2)})


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(10 * scale), 1) * 256 * EVALS
    kinds = ("", " with snapshots")
    arms = {f"{name}{kind}": arm(name, bool(kind), steps) for name in ALGORITHMS for kind in kinds}

    def earlier(name: str) -> Check:
        first = lambda results, kind: results[f"{name}{kind}"]["first"].values
        measure = lambda results: difference(*(first(results, kind) for kind in kinds))
        return Check(f"share of the steps that {name} saves with snapshots", measure, "> 0")

    return [
        Claim(
            row=42,
            statement="In four rooms with a sparse reward, PPO and PQN reach the goal from the "
            "start in fewer steps if they begin episodes in states of a teacher's episodes.",
            arms=arms,
            metric="solved",
            accept=[earlier(name) for name in ALGORITHMS],
            worlds=["GridWorld of four rooms"],
            changed="After a trial: longer runs, and PQN in place of DQN.",
            unmatched="The teacher is a noisy shortest path, with four episodes that do not count; "
            "classes are cells of a grid; PQN is in place of SAC and TD3.",
        )
    ]
