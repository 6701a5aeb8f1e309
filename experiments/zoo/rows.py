"""The rows of the zoo: data. What each was chosen from is its `grid`; seeds 0 to 7 chose, seeds 1000 to 1031 are the score."""

from typing import Any

import jax

import jaxrl as rl
from experiments import ppo_classic
from experiments.zoo import Row

RELU: Any = rl.MLP((64, 64), activation=jax.nn.relu)
LR = (3e-4, 1e-3, 3e-3)


def classic(env: str) -> Row:
    """PPO's rows are those of `experiments.ppo_classic`."""
    task = ppo_classic.TASKS[env]
    return Row("ppo", env, task.steps, task.setting, task.grid, task.published, task.target, task.params)


DQN = dict(
    lr=1e-3, gamma=0.99, num_envs=8, updates=2, batch_size=64, warmup=1_000, target_period=200.0, epsilon_fraction=0.3,
    network=RELU,
)  # fmt: skip

ROWS: list[Row] = [
    classic("CartPole-v1"),
    classic("Acrobot-v1"),
    classic("Pendulum-v1"),
    classic("Breakout-MinAtar"),
    Row("dqn", "CartPole-v1", 100_000, DQN, dict(lr=LR), "500 ± 0 (rl-zoo, 50k)", 500),
    Row("dqn", "Acrobot-v1", 100_000, DQN, dict(lr=LR), "none at 100k", -85),
    Row("dqn", "MountainCar-v0", 120_000, DQN, dict(lr=LR), "-101 ± 10 (rl-zoo, 120k)"),
]
