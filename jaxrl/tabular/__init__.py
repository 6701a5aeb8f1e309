"""Count-based learners for finite Markov decision processes, with exact values and regret.

    process = rl.envs.processes.bounded(0, num_states=10, num_actions=3)
    found = rl.tabular.play_episodes(0, process, rl.tabular.Optimist(), horizon=10, episodes=5000)
    found["regret"]  # cumulative and exact, at 100 points

Everything is pure JAX: `jax.vmap` over keys, processes and the leaves of a learner.
"""

from jaxrl.tabular.counts import Bernstein, Bonus, Counts, Episode, Hoeffding, Monotone
from jaxrl.tabular.exact import (
    Process,
    backward,
    expected_reward,
    gain_and_bias,
    occupancies,
    optimal_value,
    value,
)
from jaxrl.tabular.learners import Learner, Optimist, Plan, play_episodes, sample

__all__ = [
    "Bernstein",
    "Bonus",
    "Counts",
    "Episode",
    "Hoeffding",
    "Learner",
    "Monotone",
    "Optimist",
    "Plan",
    "Process",
    "backward",
    "expected_reward",
    "gain_and_bias",
    "occupancies",
    "optimal_value",
    "play_episodes",
    "sample",
    "value",
]
