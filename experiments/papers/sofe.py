"""Stationary objectives for exploration (SOFE, Castanyer et al., 2024): the statistics that a bonus
depends on are part of the observation, so that the bonus is a function of it.

The bonus is 1 / sqrt(n), with n the number of visits to a cell in the episode. Policies with and
without the counts in the observation are compared by the number of new cells in an episode.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.gridworld import GridWorld
from envs.statistics import VisitCounts, WithStatistics
from envs.wrappers import Observe, WithChannel
from experiments.claims import Arm, Claim, beats
from jaxrl.archives import OneHot
from jaxrl.exploration import ChannelBonus
from jaxrl.rollout import play_episodes

MAP = """
#########
#S  #   #
#       #
#   #   #
## ### ##
#   #   #
#       #
#   #   #
#########
"""
SIZE = len(MAP.strip().split("\n")) ** 2
PPO = functools.partial(rl.ppo, num_envs=16, num_steps=60, gamma=0.98, network=rl.MLP((32,)))
ARMS = {"counts shown": (True, 1.0), "counts hidden": (False, 1.0), "no bonus": (False, 0.0)}


def is_new(action: jax.Array, step: rl.Step) -> jax.Array:
    """1 if the cell has been visited once, which is shown as 1 / sqrt(2). []."""
    here = step.obs[SIZE:][step.obs[:SIZE].argmax()]
    return (jnp.abs(here - 2.0**-0.5) < 1e-3).astype(jnp.float32)


def world(shown: bool) -> rl.Env:
    rooms = GridWorld(map=MAP, goal=jnp.zeros(2, jnp.int32), max_steps=60)  # never at the goal
    counted = WithStatistics(rooms, VisitCounts(OneHot(SIZE)), "novelty")
    env = WithChannel(counted, "new", is_new)
    return env if shown else Observe(env, tuple(range(SIZE)))


def run(seed, lr, kind: str, updates: int) -> dict[str, jax.Array]:
    """The number of new cells in an episode of the final policy."""
    key_train, key_test = jax.random.split(jax.random.key(seed))
    shown, weight = ARMS[kind]
    env, bonus = world(shown), ChannelBonus(weight=weight, name="novelty")
    algo = rl.Rewarded(PPO(lr=lr), bonus)
    steps = updates * algo.steps_per_update
    state, _ = rl.Training(algo, env, steps, evals=1, episodes=0)(key_train)
    policy = algo.policy(env, algo.agent(state), greedy=False)
    return {"new": play_episodes(key_test, env, policy, 32).info["new"].mean()}


def claims(scale: float = 1.0) -> list[Claim]:
    updates = max(int(150 * scale), 1)
    more = lambda other: beats("counts shown", other, "new")
    return [
        Claim(
            row=313,
            statement="In four rooms, PPO with an episodic count bonus visits more cells if the "
            "counts are in the observation.",
            arms={
                kind: Arm(
                    functools.partial(run, kind=kind, updates=updates),
                    budget=updates * 960,
                    tune={"lr": (3e-3, 1e-2, 3e-2)},
                )
                for kind in ARMS
            },
            metric="new",
            accept=[
                more("counts hidden"),
                dataclasses.replace(more("no bonus"), control=True),
            ],
            worlds=["GridWorld of four rooms"],
            changed="After a trial: longer runs, other learning rates, and no goal, which PPO "
            "reached without a bonus.",
            unmatched="Only counts are tried as statistics, and neither a sparse reward nor a "
            "policy that is decoupled from the exploring one.",
        )
    ]
