"""Tasks of `experiments.speed`, their settings, and how a process measures itself."""

import dataclasses
import pathlib
import resource
import sys
import time
from typing import Any

UPDATE = 4 * 128  # environment steps per update of PPO: 4 environments of 128 steps
ROWS, EPISODES = 10, 16  # points of a learning curve, and greedy episodes at each point
SHAPE = {"num_envs": 4, "num_steps": 128, "num_epochs": 4, "num_minibatches": 4}
HYPER = {"gamma": 0.99, "gae_lambda": 0.95, "max_grad_norm": 0.5}


@dataclasses.dataclass(frozen=True)
class Replayed:
    """Settings of an algorithm with a replay buffer. After one step of each environment there are
    `updates` gradient steps, and one update of the target network with tau = `rate`.
    """

    num_envs: int
    updates: int
    batch_size: int
    lr: float
    max_grad_norm: float
    warmup: int
    gamma: float = 0.99
    rate: float = 0.02


DQN = Replayed(num_envs=10, updates=5, batch_size=100, lr=1e-3, max_grad_norm=10.0, warmup=1_000)
SAC = Replayed(
    num_envs=1, updates=1, batch_size=256, lr=1e-3, max_grad_norm=float("inf"), warmup=256
)


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment, the numbers of seeds, and the maximum environment steps of each seed
    (`steps`) and of all seeds of a measurement (`budget`).

    update: environment steps per update.
    """

    title: str
    env: str
    update: int
    seeds: tuple[int, ...]
    steps: int
    budget: int


TASKS = {
    "ppo": Task("PPO on CartPole", "CartPole-v1", UPDATE, (1, 8, 64, 256), 500_000, 4_000_000),
    "dqn": Task("DQN on CartPole", "CartPole-v1", DQN.num_envs, (1, 8, 64), 50_000, 400_000),
    "sac": Task("SAC on Pendulum", "Pendulum-v1", SAC.num_envs, (1, 8, 64), 10_000, 80_000),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One measurement.

    capacity: of the replay buffer. curve: also return learning curves. watch: also return the
    resident memory at each row.
    """

    kit: str
    seeds: int
    steps: int
    algorithm: str = "ppo"
    capacity: int = 10_000
    curve: bool = False
    watch: bool = False

    @property
    def task(self) -> Task:
        return TASKS[self.algorithm]


def timed(program: Any, *inputs: Any) -> tuple[dict[str, float], Any]:
    """Seconds of compilation and of one run of the compiled program, and its curves on the host."""
    import jax

    started = time.monotonic()
    compiled = program.lower(*inputs).compile()
    ready = time.monotonic()
    _, curve = jax.block_until_ready(compiled(*inputs))
    curve = jax.device_get(curve)
    return {"compile_seconds": ready - started, "run_seconds": time.monotonic() - ready}, curve


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )


def resident_mb() -> float:
    return (
        int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    )
