"""Snapshot reinforcement learning (Zhao et al., 2024): at first a student starts in states of a
teacher's episodes, which are stored; the share of such starts falls to 0.

S3RL divides the states into classes, and chooses a class before a state of it.
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
from jaxrl.rollout import Policy
from jaxrl.stats import difference
from jaxrl.tree import replace

MAP = """
#############
#S    #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #     #
#           #
#     #    G#
#############
"""
ENV = GridWorld(map=MAP, max_steps=60)
EPISODES, EVALS = 4, 20
KINDS = Grid(jnp.full(2, 0.5), jnp.full(2, 11.5), (4, 4))  # classes of positions
NOISE = 0.4  # share of the teacher's actions that are random


def shortest() -> np.ndarray:
    """The action along a shortest path to the goal from each cell. int [rows, columns]."""
    cells = np.array([list(line) for line in MAP.strip().split("\n")])
    steps = np.where(cells == "G", 0.0, np.inf)
    ahead = lambda: np.stack([np.roll(steps, (-row, -column), (0, 1)) for row, column in MOVES])
    for _ in range(cells.size):
        steps = np.where(cells == "#", np.inf, np.minimum(steps, ahead().min(0) + 1))
    return ahead().argmin(0)


def noisy(best: jax.Array) -> Policy:
    """The teacher."""

    def act(key, episode):
        key_noise, key_action = jax.random.split(key)
        row, column = episode.state
        random = jax.random.bernoulli(key_noise, NOISE)
        action = jnp.where(random, jax.random.randint(key_action, (), 0, 4), best[row, column])
        return (), action, ()

    return Policy(act)


@rl.pytree
class Starts(rl.Tasks):
    """The environment, and stored states of it [K]: the class of each, int [K], and False for what
    is no state of an episode, bool [K].
    """

    env: GridWorld
    states: Any
    obs: Any
    kind: jax.Array
    used: jax.Array

    channels = ("success",)

    @classmethod
    def recorded(cls, key: jax.Array) -> "Starts":
        """Episodes of the teacher."""
        policy = noisy(jnp.array(shortest()))
        play = lambda key: teachers.demonstrate(key, ENV, policy)
        seen = jax.vmap(play)(jax.random.split(key, EPISODES))
        used = (jnp.arange(ENV.max_steps + 1) < seen.length[:, None]).ravel()
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        states, obs = flat(seen.states), flat(seen.obs)
        return cls(ENV, states, obs, KINDS(states.astype(jnp.float32)), used)

    def sample(self, key: jax.Array) -> teachers.From:
        state, obs = self.env.reset(key)
        return teachers.From(self.env, state, obs, 0.5, True)


@rl.pytree
class Snapshots(teachers.Teacher):
    """Starts in stored states, with a probability that falls from 1 to 0 in `updates`."""

    updates: float

    def init(self, key: jax.Array, tasks: Starts) -> jax.Array:
        return jnp.float32(0.0)

    def draw(self, key, state, tasks, num):
        key_used, key_kind, key_state, key_reset = jax.random.split(key, 4)
        at_reset = jax.random.uniform(key_used, (num,)) < state / self.updates
        filled = jax.ops.segment_max(tasks.used, tasks.kind, KINDS.num_cells)
        kind = jax.random.categorical(key_kind, jnp.log(filled + 1e-9), shape=(num, 1))
        logits = jnp.where(tasks.used & (tasks.kind == kind), 0.0, -jnp.inf)
        place = jax.random.categorical(key_state, logits)
        levels = jax.vmap(tasks.sample)(jax.random.split(key_reset, num))
        pick = lambda x: x[place]
        stored = {"state": pick(tasks.states), "obs": pick(tasks.obs), "at_reset": at_reset}
        return replace(levels, **stored), ()

    def tell(self, key, state, tasks, levels, notes, report):
        return state + 1.0, notes


ALGORITHMS = {
    "PPO": functools.partial(rl.ppo, num_envs=8, num_steps=32, network=rl.MLP((32,))),
    "DQN": functools.partial(
        rl.dqn, num_envs=8, updates=2, batch_size=32, capacity=5000, network=rl.MLP((32,))
    ),
}


def arm(name: str, snapshots: bool, steps: int) -> Arm:
    def run(seed, lr):
        key_teacher, key_train = jax.random.split(jax.random.key(seed))
        tasks = Starts.recorded(key_teacher)
        algo = ALGORITHMS[name](lr=lr)
        half = steps / algo.steps_per_update / 2
        taught = rl.Taught(algo, Snapshots(half) if snapshots else teachers.Uniform())
        training = rl.Training(taught, tasks, steps, EVALS, episodes=1, eval_share=1.0)
        solved = training(key_train)[1]["evaluation"] > 0.5
        first = jnp.where(solved.any(), solved.argmax(), EVALS) / EVALS
        return {"first": first, "solved": solved.mean()}

    return Arm(run, budget=steps, tune={"lr": (1e-3, 3e-3)})


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(20 * scale), 1) * 256 * EVALS // 4
    arms = {
        f"{name}{kind}": arm(name, bool(kind), steps)
        for name in ALGORITHMS
        for kind in ("", " with snapshots")
    }

    def earlier(name: str) -> Check:
        measure = lambda results: difference(
            *(results[f"{name}{kind}"]["first"].values for kind in ("", " with snapshots"))
        )
        statement = f"share of the steps by which {name} with snapshots is earlier at the goal"
        return Check(statement, measure, "> 0")

    return [
        Claim(
            row=42,
            statement="In four rooms with a sparse reward, PPO and DQN reach the goal from the "
            "start in fewer steps if they begin episodes in states of a teacher's episodes.",
            arms=arms,
            metric="solved",
            accept=[earlier(name) for name in ALGORITHMS],
            worlds=["GridWorld of four rooms"],
            unmatched="The teacher is a noisy shortest path, of which four episodes are stored and "
            "not counted; classes are cells of a grid, and episodes are not cut short. DQN is in "
            "place of SAC and TD3.",
        )
    ]
