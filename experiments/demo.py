"""A sweep at the size of a laptop: 1,000 seeds x 2 learning rates of PPO on CartPole-v1, in one
compiled program.

`make demo`, or `python -m experiments.demo`. It runs one command line:
jaxrl train ppo CartPole-v1 --seeds 1000 --lr 1e-3 4e-3 --steps 20480 ... --folder runs/demo --gif
"""

import dataclasses
import pathlib

import tyro

from jaxrl.cli import main as command_line

SETTING = (
    "--hidden 32 32 --num-envs 8 --num-steps 32 --entropy-weight 0 --gamma 0.98 --lam 0.9 --evals 5"
)


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1000
    """number of seeds per learning rate"""
    lr: tuple[float, ...] = (1e-3, 4e-3)
    """learning rates"""
    steps: int = 20_480
    """environment steps per seed"""
    folder: pathlib.Path = pathlib.Path("runs/demo")
    """folder of the results"""


def main(config: Config) -> None:
    rates = [str(lr) for lr in config.lr]
    size = ["--seeds", str(config.seeds), "--steps", str(config.steps), "--lr", *rates]
    words = [
        "train",
        "ppo",
        "CartPole-v1",
        *size,
        *SETTING.split(),
        "--folder",
        str(config.folder),
        "--gif",
    ]
    print("jaxrl " + " ".join(words))
    command_line(words)


if __name__ == "__main__":
    main(tyro.cli(Config))
