"""Games won on a map of SMAX, JaxMARL's StarCraft: `python -m experiments.smax`.

PPO with a critic of the whole team (MAPPO), and independent PPO, play against JaxMARL's scripted
enemy. The record, results/smax.json, has the share of greedy games that each wins at the end: the
interquartile mean over seeds with a 95 % interval. It needs the extra `jaxmarl`.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import tyro

import envs
import jaxrl as rl
from envs.wrappers import WithChannel

RESULTS = pathlib.Path(__file__).parent / "results"
WIN = 1.0  # the reward of the last step of a game that is won, at least


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run; tests use small values."""

    scenario: str = "3m"
    arms: tuple[str, ...] = ("MAPPO", "IPPO")
    seeds: int = 8
    steps: int = 2_000_000
    lr: float = 1e-3
    width: int = 64
    evals: int = 10
    episodes: int = 64
    runs: pathlib.Path = pathlib.Path("runs/smax")
    folder: pathlib.Path = RESULTS


def won(action: jax.Array, step: rl.Step) -> jax.Array:
    """1 for each agent at the end of a game that is won. [A]."""
    return jnp.where(step.terminated & (step.reward >= WIN), 1.0, 0.0)


def training(arm: str, config: Config) -> rl.Training:
    """The training run of an arm."""
    game = envs.make("jaxmarl:HeuristicEnemySMAX", scenario=config.scenario)
    team = WithChannel(game, "won", won)
    network: Any = rl.MLP((config.width, config.width))
    if arm == "MAPPO":
        team, network = envs.WithState(team), rl.Views(network, reads={"value": "state"})
    algo = rl.ppo(lr=config.lr, num_envs=64, num_steps=128, network=network)
    return rl.Training(algo, team, config.steps, config.evals, config.episodes, eval_share=1.0)


def main(config: Config) -> None:
    rl.use_all_cores()
    record: dict[str, Any] = {"scenario": config.scenario, "steps": config.steps}
    for arm in config.arms:
        seeds = {"seed": jnp.arange(config.seeds)}
        found = rl.sweep(training(arm, config), seeds, folder=config.runs / config.scenario / arm)
        wins = found["evaluation_won"].isel(step=-1).values
        record[arm] = [round(float(x), 4) for x in rl.stats.interval(wins)]
        print(arm, record[arm])
    record["wins"] = record[config.arms[0]]
    path = config.folder / "smax.json"
    path.write_text(json.dumps(record | {"seeds": config.seeds}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
