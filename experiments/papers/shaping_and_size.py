"""Shaping and the size of the model, a finding of Planner-R1 (Zhu et al., 2025).

Networks of three widths learn to fetch a key, open a door and take a treasure, with a reward at the
end, of each stage, or of each step towards the next goal.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs.gridworld import MOVES
from experiments.claims import Arm, Check, Claim

SIDE, GOALS = 6, 3
WIDTHS = (4, 8, 32)
REWARDS = {"sparse": 0, "stages": 1, "dense": 2}
EVALS = 20


@rl.pytree
class Errand(rl.Env):
    """A grid without walls, where goals are visited in order.

    reward: 0 is a reward at the last goal, 1 at each goal, 2 also for each step, by the decrease of
    the distance.
    """

    reward: jax.Array | int = 0

    max_steps = 36
    action_space = rl.Discrete(len(MOVES))
    channels = ("success",)

    def observe(self, state):
        places, stage = state
        left = jnp.arange(GOALS) >= stage
        apart = jnp.where(left[:, None], places[1:] - places[:1], 0) / SIDE
        return jnp.concatenate([places[0] / SIDE, apart.ravel(), jax.nn.one_hot(stage, GOALS)])

    def reset(self, key):
        """State: cells of the agent and the goals, [1 + GOALS, 2], and the number of visits."""
        state = jax.random.randint(key, (1 + GOALS, 2), 0, SIDE), jnp.int32(0)
        return state, self.observe(state)

    def step(self, key, state, action):
        places, stage = state
        goal = places[1 + stage]
        moved = jnp.clip(places[0] + jnp.array(MOVES)[action], 0, SIDE - 1)
        far = lambda place: jnp.abs(place - goal).sum().astype(jnp.float32)
        arrives = far(moved) == 0
        ends = arrives & (stage == GOALS - 1)
        progress = (far(places[0]) - far(moved)) / (2 * SIDE)
        rewards = jnp.cumsum(jnp.stack([jnp.float32(ends), arrives / GOALS, progress]))
        new = places.at[0].set(moved), jnp.minimum(stage + arrives, GOALS - 1)
        success = {"success": jnp.float32(ends)}
        return new, rl.Step(self.observe(new), rewards[self.reward], ends, success)


def weights(width: int) -> int:
    """Number of weights of both towers, to which the operations of a step are proportional."""
    inputs = 2 + 2 * GOALS + GOALS
    return 2 * (inputs * width + width**2) + width * (len(MOVES) + 1)


def arm(width: int, steps: int, evals: int) -> Arm:
    def run(seed, reward, lr):
        sizes: Any = {"num_envs": 16, "num_steps": 64, "epochs": 2, "minibatches": 4}
        algo = rl.ppo(lr=lr, network=rl.MLP((width, width)), schedule=rl.Constant(), **sizes)
        training = rl.Training(algo, Errand(reward), steps, evals, episodes=32, eval_share=9.0)
        curve = training(jax.random.key(seed))[1]["evaluation_success"]
        return {"success": curve[-1], "curve": curve}

    return Arm(run, steps, {"lr": [3e-3, 1e-2]})


def success(results, width: int, reward: str):
    """The final success rate. [seeds]."""
    return results[f"width {width}"]["success"].sel(reward=REWARDS[reward]).values


def gain(results, width: int):
    return success(results, width, "dense") - success(results, width, "sparse")


def compute(results):
    """Operations of the narrower network with the dense reward to reach the final success of the
    widest with the sparse one, over those that the latter needs: from mean curves of bootstrap
    samples of seeds. Infinite if the former never reaches it.
    """
    of = lambda width, reward: (
        results[f"width {width}"]["curve"].sel(reward=REWARDS[reward]).transpose("seed", ...).values
    )
    both = np.stack([of(WIDTHS[1], "dense"), of(WIDTHS[-1], "sparse")], 1)

    def quotient(both):
        narrow, wide = np.asarray(both).mean(0)
        first = lambda curve: (
            1 + np.argmax(curve >= wide[-1]) if curve.max() >= wide[-1] else np.inf
        )
        return first(narrow) * weights(WIDTHS[1]) / (first(wide) * weights(WIDTHS[-1]))

    rng = np.random.default_rng(0)
    drawn: Any = [quotient(both[rng.integers(0, len(both), len(both))]) for _ in range(2000)]
    ends = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return rl.stats.Interval(*map(jnp.asarray, (quotient(both), *ends)))


def claims(scale: float = 1.0) -> list[Claim]:
    steps = max(int(57_344 * scale), 4096)
    evals = min(EVALS, steps // 1024)
    return [
        Claim(
            row=347,
            statement="On errands of three goals, a network of width 8 with a reward for each "
            "step reaches the success of one of width 32 with a reward at the end in 1 / 3.5 of "
            "its operations, and the gain by shaping is larger at width 4 than at width 32.",
            arms={f"width {width}": arm(width, steps, evals) for width in WIDTHS},
            accept=[
                Check("operations, width 8 dense / width 32 sparse", compute, "<= 0.286"),
                Check(
                    "gain of success by the dense reward, width 4 less width 32",
                    lambda r: rl.stats.difference(gain(r, WIDTHS[0]), gain(r, WIDTHS[-1])),
                    "> 0",
                ),
                Check(
                    "success with the sparse reward, width 32",
                    lambda r: success(r, WIDTHS[-1], "sparse"),
                    ">= 0.2",
                    control=True,
                ),
            ],
            worlds=["errands on a grid of 6 by 6, drawn for each episode"],
            axes={"reward": list(REWARDS.values())},
            metric="success",
            changed="After trials: a larger grid, rewards that add up, and fewer steps, so that no "
            "network is done.",
            unmatched="Networks of up to 2,912 weights; operations are counted by the weights.",
        )
    ]
