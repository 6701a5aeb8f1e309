"""Worlds and agent of the search for a better PPO: families to train on, held-out environments, and
the score of a training run on them.

A score is the area under the learning curve (mean training return), scaled for each world so that
that of a random policy is 0 and that of the best of 256 settings of PPO after 60 updates is 1.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import envs
import jaxrl as rl
from experiments import _discovery as lab
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results" / "discover_ppo"
LIFETIMES = (20, 60, 200)  # updates
MIDDLE = 60
# hidden units of both layers, environments and steps of a rollout
SIZES = {
    "CartPole": (16, 8, 32),
    "Acrobot": (32, 16, 16),
    "Pendulum": (32, 8, 64),
    "MountainCarContinuous": (16, 8, 64),
    "Catch": (16, 16, 16),
    "processes": (32, 4, 32),
    "grids": (16, 16, 32),
}
FAMILIES = tuple(SIZES)
TESTS = 100_000  # the first seed of tests
CHUNK = 64  # runs side by side; those of one lifetime are together, as the longest counts
CONTROLLED = ("lr", "clip", "entropy_weight", "lam", "gamma", "epoch_limit")


@pytree
class Scaled(rl.Tasks):
    """Tasks with scores scaled from `low` (0) and `high` (1)."""

    tasks: rl.Tasks
    low: float = 0.0
    high: float = 1.0

    def sample(self, key: jax.Array) -> Any:
        return self.tasks.sample(key)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        return (self.tasks.score(env, episode_return) - self.low) / (self.high - self.low)


@pytree
class Processes(lab.Processes):
    """As `lab.Processes`, with one-hot observations."""

    def sample(self, key: jax.Array) -> Any:
        return replace(super().sample(key), one_hot=True)


def families() -> dict[str, rl.Tasks]:
    """The distributions of the search, not scaled. Their environments differ in physics, rewards,
    transitions or maps. Left out is RiverSwim: PPO finds its far reward in under half of the runs,
    so that the standard deviation of a score was 1.2 there and 0.05 to 0.3 elsewhere.
    """
    make, vary = envs.make, envs.Family
    cart = {"gravity": (5.0, 15.0), "masscart": (0.5, 2.0), "length": (0.25, 1.0)}
    return {
        "CartPole": vary(make("CartPole-v1"), cart, force_mag=(5.0, 15.0)),
        "Acrobot": vary(make("Acrobot-v1"), link_mass_1=(0.5, 1.5), link_length_1=(0.5, 1.5)),
        "Pendulum": vary(make("Pendulum-v1"), g=(5.0, 12.0), m=(0.5, 1.2), l=(0.7, 1.2)),
        "MountainCarContinuous": vary(make("MountainCarContinuous-v0"), power=(0.002, 0.004)),
        "Catch": vary(make("Catch"), lose=(-2.0, -0.5)),
        "processes": Processes(),
        "grids": lab.Shares(envs.distribution("LPGGrid-tiny", one_hot=True), -1.0),
    }


def agent(**changes: Any) -> rl.OnPolicy:
    """PPO of a small network on rollouts of 256 steps; changes: fields by name."""
    return rl.tree.put(
        rl.ppo(
            schedule=rl.Linear(1.0),
            epoch_limit=4.0,
            normalize_obs=True,
            normalize_reward=True,
            num_envs=8,
            num_steps=32,
            epochs=8,
            network=rl.MLP((32, 32)),
        ),
        changes,
    )


def sized(algo: rl.OnPolicy, width: int, num_envs: int, num_steps: int) -> rl.OnPolicy:
    """The agent with a network of two layers and a rollout of these sizes."""
    return replace(algo, network=rl.MLP((width, width)), num_envs=num_envs, num_steps=num_steps)


def robust_setting() -> dict[str, float]:
    """The one setting that was the best over all families and lifetimes, in `headroom`."""
    return json.loads((RESULTS / "headroom.json").read_text())["robust"]


def robust() -> rl.OnPolicy:
    """PPO with the robust setting."""
    return agent(**robust_setting())


def scaled() -> dict[str, rl.Tasks]:
    """The distributions of the search, scaled by the measurements of `headroom`."""
    scales = json.loads((RESULTS / "headroom.json").read_text())["scales"]
    return {name: Scaled(tasks, *scales[name]) for name, tasks in families().items()}


def area(algo: Any, tasks: rl.Tasks) -> Callable[..., dict[str, jax.Array]]:
    """A function of fields of `algo`, a lifetime in updates and a seed, for `rl.sweep`: the score
    of a training run on the environment of that seed. Tests have seeds from `TESTS` on.
    """
    loop = rl.InnerLoop(algo, by_area=True)

    def run(lifetime: jax.Array, seed: jax.Array, **params: Any) -> dict[str, jax.Array]:
        key_env, key_run = jax.random.split(jax.random.key(seed))
        env = tasks.sample(key_env)
        return {"score": loop.run_one(key_run, params, tasks, env, lifetime, lifetime)}

    return run


def random_return(tasks: rl.Tasks, num: int = 64) -> float:
    """The mean score of a random policy (a new network) over tasks."""
    algo = agent()

    def one(key: jax.Array) -> jax.Array:
        key_env, key_init, key_play = jax.random.split(key, 3)
        env = tasks.sample(key_env)
        policy = algo.policy(env, algo.agent(algo.init(key_init, env)), greedy=False)
        return tasks.score(env, rl.evaluate(key_play, env, policy, 4).mean())

    keys = jax.random.split(jax.random.key(lab.SELECTION), num)
    return float(np.mean(jax.jit(jax.vmap(one))(keys)))
