"""Learning in teams: `python -m experiments.teams`.

Independent PPO and Q-learning, PPO with a critic that reads the whole environment (MAPPO), VDN and
QMIX from a replay, and VDN without one (PQN), on cooperative navigation and level-based foraging.
Each takes the learning rate with the best final return over a few tuning seeds, from the same
rates, and is then trained with other seeds. Observations and rewards are normalised in the two arms
of PPO alone. The score is the mean return of an agent over the training episodes that end in the
last tenth of the steps: PPO samples its actions, the others take 5 % random ones. Greedy
evaluations are reported as well. Interquartile means over seeds with 95 % intervals, and
differences to independent PPO.

The runs are stored in a folder, from which the same command resumes. It writes
results/teams.json and .md.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

import envs
import jaxrl as rl
from jaxrl.env import Env

RESULTS = pathlib.Path(__file__).parent / "results"
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3)
BASELINE = "IPPO"


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run; tests use small values."""

    worlds: tuple[str, ...] = ("Spread", "Foraging")
    arms: tuple[str, ...] = ("IPPO", "MAPPO", "IQL", "VDN", "QMIX", "PQN", "PQN with VDN")
    seeds: int = 64
    tuning_seeds: int = 4
    rates: tuple[float, ...] = RATES
    steps: int = 500_000
    width: int = 64
    evals: int = 10
    episodes: int = 64
    runs: pathlib.Path = pathlib.Path("runs/teams")
    folder: pathlib.Path = RESULTS


def training(world: str, arm: str, config: Config) -> rl.Training:
    """The training run of an arm, with a learning rate that is swept."""
    team: Env = envs.make(world)
    network = rl.MLP((config.width, config.width))
    on_policy: dict[str, Any] = {"num_envs": 16, "num_steps": 128}
    on_policy |= {"normalize_obs": True, "normalize_reward": True}
    off_policy: dict[str, Any] = {
        "num_envs": 8,
        "num_steps": 4,
        "updates": 1,
        "batch_size": 32,
        "capacity": 50_000,
        "warmup": 1000,
        "target_period": 200,
        "exploration": rl.EpsilonGreedy(1.0, 0.05, 0.2),
        "network": network,
    }
    normed = rl.MLP((config.width, config.width), jax.nn.relu, shared=True, layer_norm=True)
    pqn = {"num_envs": 64, "num_steps": 16, "minibatches": 8, "network": normed}
    make = {
        "IPPO": lambda: rl.ppo(network=network, **on_policy),
        "MAPPO": lambda: rl.ppo(network=rl.Views(network, reads={"value": "state"}), **on_policy),
        "IQL": lambda: rl.dqn(**off_policy),
        "VDN": lambda: rl.dqn(mixer=rl.Additive(), **off_policy),
        "QMIX": lambda: rl.dqn(mixer=rl.Monotonic(), **off_policy),
        "PQN": lambda: rl.pqn(**pqn),
        "PQN with VDN": lambda: rl.pqn(mixer=rl.Additive(), **pqn),
    }
    if arm == "MAPPO":
        team = envs.WithState(team)
    if arm in ("VDN", "QMIX", "PQN with VDN"):
        team = envs.SharedReward(team)
    return rl.Training(
        make[arm](), team, config.steps, evals=config.evals, episodes=config.episodes
    )


def measure(world: str, arm: str, config: Config) -> tuple[xr.Dataset, float]:
    """The results at the last evaluation with the best learning rate, each [seeds]; that rate."""
    run = training(world, arm, config)
    folder = config.runs / world / arm.replace(" ", "_")
    tuning = rl.sweep(
        run,
        {"lr": jnp.array(config.rates), "seed": 10_000 + jnp.arange(config.tuning_seeds)},
        folder=folder / "tuning",
    )
    means = tuning["return"].isel(step=-1).mean("seed", skipna=False).values
    lr = config.rates[int(np.argmax(np.nan_to_num(means, nan=-np.inf)))]
    axes = {"lr": jnp.array([lr]), "seed": jnp.arange(config.seeds)}
    found = rl.sweep(run, axes, folder=folder / "test")
    return found.isel(step=-1, lr=0), lr


def random_return(world: str, num: int = 4096) -> float:
    """The mean return of an agent with uniformly random actions."""
    team = envs.make(world)
    act = lambda key, episode: ((), team.action_space.sample(key), ())
    return float(rl.evaluate(0, team, act, num).mean())


def table(record: dict[str, Any]) -> str:
    """Markdown table: a row for each world and arm."""
    rows = ["| world | algorithm | lr | return | more than IPPO | greedy |", "|---" * 6 + "|"]
    for world, found in record["worlds"].items():
        rows.append(f"| {world} | random | | {found['random']:.3g} | | |")
        for arm, row in found["arms"].items():
            keys = "return", "more", "greedy"
            cells = ["{:.3g} [{:.3g}, {:.3g}]".format(*row[key]) for key in keys]
            rows.append(f"| {world} | {arm} | {row['lr']:g} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def main(config: Config) -> None:
    rl.use_all_cores()
    path = config.folder / "teams.json"
    settings = {k: v for k, v in vars(config).items() if k not in ("runs", "folder", "worlds")}
    kept = json.loads(path.read_text()) if path.exists() else {}
    record: dict[str, Any] = {"config": json.loads(json.dumps(settings)), "worlds": {}}
    if kept.get("config") == record["config"]:
        record = kept
    arms = (BASELINE, *(arm for arm in config.arms if arm != BASELINE))
    rounded = lambda interval: [round(float(x), 4) for x in interval]
    for world in config.worlds:
        scores, rows = {}, {}
        for arm in arms:
            found, lr = measure(world, arm, config)
            scores[arm] = found["return"].values
            rows[arm] = {
                "lr": lr,
                "return": rounded(rl.stats.interval(scores[arm])),
                "more": rounded(rl.stats.difference(scores[arm], scores[BASELINE])),
                "greedy": rounded(rl.stats.interval(found["evaluation"].values)),
            }
            print(world, arm, rows[arm])
        record["worlds"][world] = {"random": round(random_return(world), 4), "arms": rows}
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(table(record))


if __name__ == "__main__":
    main(tyro.cli(Config))
