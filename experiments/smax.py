"""The battle of three marines against three, 3m of SMAX: `python -m experiments.smax`.

Independent PPO with shared parameters and a GRU for each agent (recurrent IPPO) against JaxMARL's
heuristic enemy, through the adapter (extra `jaxmarl`). The win rate is that of greedy episodes,
with a 95 % interval over seeds. It writes results/smax.json; with the folder of the runs, the same
command continues one that was interrupted.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import tyro

import envs
import jaxrl as rl
from jaxrl.env import Env, Step


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run; tests use small values."""

    scenario: str = "3m"
    seeds: int = 4
    steps: int = 5_000_000
    """environment steps of each seed"""
    num_envs: int = 32
    num_steps: int = 64
    width: int = 64
    """units of the layer before the GRU, and of the GRU"""
    lr: float = 1e-3
    entropy_weight: float = 0.01
    evals: int = 10
    episodes: int = 128
    runs: pathlib.Path = pathlib.Path("runs/smax")
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def won(action: jax.Array, step: Step) -> jax.Array:
    """1 at the end of a battle that is won, which pays 1; damage pays 1 in sum over an episode."""
    return (step.terminated & (step.reward >= 1.0)).astype(jnp.float32)


def battle(scenario: str) -> Env:
    """SMAX with the settings of JaxMARL's training scripts, and the channel `won`."""
    team = envs.make(
        "jaxmarl:HeuristicEnemySMAX",
        scenario=scenario,
        see_enemy_actions=True,
        walls_cause_death=True,
        attack_mode="closest",
    )
    return envs.WithChannel(team, "won", won)


def training(config: Config) -> rl.Training:
    """The training run."""
    algo = rl.ppo(
        lr=config.lr,
        entropy_weight=config.entropy_weight,
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        max_grad_norm=0.25,
        network=rl.MLP((config.width,), jax.nn.relu),
        memory=rl.GRU(config.width),
    )
    return rl.Training(
        algo, battle(config.scenario), config.steps, config.evals, config.episodes, 1.0
    )


def main(config: Config) -> None:
    rl.use_all_cores(members=config.seeds)
    with jax.numpy_rank_promotion("allow"):  # in JaxMARL
        results = rl.sweep(training(config), {"seed": jnp.arange(config.seeds)}, folder=config.runs)
    wins = results["evaluation_won"]
    rounded = lambda x: [round(float(y), 4) for y in x]
    settings = {k: v for k, v in vars(config).items() if k not in ("runs", "folder")}
    names = ("jaxrl", "jax", "jaxmarl")
    record: dict[str, Any] = {
        "wins": rounded(rl.stats.interval(wins.isel(step=-1).values, rl.stats.mean)),
        "return": rounded(
            rl.stats.interval(results["evaluation"].isel(step=-1).values, rl.stats.mean)
        ),
        "steps": int(results["step"][-1]),
        "seeds": config.seeds,
        "episodes": config.episodes,
        "curve": {
            "step": results["step"].values.tolist(),
            "wins": wins.transpose("seed", "step").values.round(4).tolist(),
        },
        "seconds": {
            name: round(float(results.attrs[f"{name}_seconds"]), 1) for name in ("compile", "run")
        },
        "date": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "config": settings,
    }
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "smax.json").write_text(json.dumps(record, indent=1) + "\n")
    print({name: record[name] for name in ("wins", "return", "steps", "seconds")})


if __name__ == "__main__":
    main(tyro.cli(Config))
