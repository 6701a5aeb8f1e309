"""Speed of other packages' environments: `python -m experiments.suites_speed`.

Each installed suite is measured through its adapter: the seconds of its import in a fresh process
after jax, of the compilation of a reset and of a step, and the steps per second of 64 environments
with random legal actions in one compiled scan, including resets. A step of all agents of a team
counts once. Environments on the host are compared with a plain Python loop over the same ones.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

import envs
from envs.host import HostEnv
from jaxrl import rollout
from jaxrl.env import Env
from jaxrl.masks import mask_of
from jaxrl.rollout import Policy


class Suite(NamedTuple):
    """A package, and the names and parameters of some of its environments, for `envs.make`."""

    package: str
    rows: tuple[tuple[str, dict[str, Any]], ...]


SUITES = {
    "pgx": Suite(
        "pgx",
        (
            ("pgx:tic_tac_toe", {}),
            ("pgx:tic_tac_toe", {"num_agents": 2}),
            ("pgx:connect_four", {}),
            ("pgx:backgammon", {}),
            ("pgx:go_9x9", {}),
            ("pgx:2048", {}),
            ("pgx:minatar-breakout", {}),
        ),
    ),
    "jaxmarl": Suite(
        "jaxmarl",
        (
            ("jaxmarl:MPE_simple_spread_v3", {}),
            ("jaxmarl:MPE_simple_speaker_listener_v4", {}),
            ("jaxmarl:SMAX", {"scenario": "3m"}),
            ("jaxmarl:overcooked_v2", {}),
            ("jaxmarl:hanabi", {}),
            ("jaxmarl:coin_game", {}),
            ("jaxmarl:switch_riddle", {}),
        ),
    ),
    "playground": Suite(
        "mujoco_playground",
        (
            ("playground:CartpoleBalance", {}),
            ("playground:CheetahRun", {}),
            ("playground:HopperHop", {}),
        ),
    ),
    "xminigrid": Suite(
        "xminigrid",
        (
            ("xminigrid:MiniGrid-DoorKey-8x8", {}),
            ("xminigrid:XLand-MiniGrid-R4-13x13", {}),
        ),
    ),
    "navix": Suite(
        "navix",
        (
            ("navix:Navix-DoorKey-8x8-v0", {}),
            ("navix:Navix-Dynamic-Obstacles-8x8-v0", {}),
        ),
    ),
    "craftax": Suite(
        "craftax",
        (
            ("craftax:Craftax-Classic-Symbolic-v1", {}),
            ("craftax:Craftax-Symbolic-v1", {}),
        ),
    ),
    "jumanji": Suite(
        "jumanji",
        (
            ("jumanji:Game2048-v1", {}),
            ("jumanji:Snake-v1", {}),
            ("jumanji:TSP-v1", {}),
            ("jumanji:Connector-v3", {}),
            ("jumanji:RobotWarehouse-v0", {}),
        ),
    ),
    "gymnasium": Suite(
        "gymnasium",
        (
            ("gymnasium:CartPole-v1", {}),
            ("gymnasium:Pendulum-v1", {}),
        ),
    ),
    "envpool": Suite(
        "envpool",
        (
            ("envpool:CartPole-v1", {}),
            ("envpool:Pendulum-v1", {}),
            ("envpool:Pong-v5", {}),
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: speed of other packages' environments."""

    only: tuple[str, ...] = ()
    """suites or names to measure; all if empty"""
    num_envs: int = 64
    steps: int = 1000
    """steps of each environment per measurement"""
    repeats: int = 3
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.monotonic()
    result = jax.block_until_ready(function())
    return time.monotonic() - begun, result


def import_seconds(package: str) -> float:
    """Seconds of an import in a fresh process that has imported jax."""
    code = f"import time, jax; t = time.monotonic(); import {package}; print(time.monotonic() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def random_policy(env: Env) -> Policy:
    """The policy that draws uniformly from the legal actions."""
    return Policy(lambda key, episode: ((), env.action_space.sample(key, mask_of(episode.obs)), ()))


def measure(env: Env, config: Config) -> dict[str, Any]:
    key = jax.random.key(0)
    compiling: dict[str, float] = {}
    reset = jax.jit(env.reset)
    compiling["reset"], _ = seconds(lambda: reset.lower(key).compile() and ())
    state, _ = jax.eval_shape(env.reset, key)
    shape = () if env.num_agents is None else (env.num_agents,)
    action = jax.eval_shape(env.action_space.sample, key)
    action = jax.ShapeDtypeStruct(shape + action.shape, action.dtype)
    step = jax.jit(env.step)
    compiling["step"], _ = seconds(lambda: step.lower(key, state, action).compile() and ())

    def start(key: jax.Array) -> rollout.Episode:
        keys = jax.random.split(key, config.num_envs)
        return jax.vmap(lambda key: rollout.reset(key, env))(keys)

    def play(key: jax.Array, episodes: rollout.Episode) -> Any:
        policy = random_policy(env)
        after, batch = rollout.rollout(key, env, policy, episodes, config.steps)
        return after, batch.reward.sum(), batch.done.sum()

    episodes = jax.jit(start)(key)
    program = jax.jit(play).lower(key, episodes).compile()
    spent = []
    for i in range(config.repeats):
        second, (episodes, *_) = seconds(functools.partial(program, jax.random.key(i), episodes))
        spent.append(second)
    per_second = config.num_envs * config.steps / statistics.median(spent)
    return {"compile_reset": compiling["reset"], "compile_step": compiling["step"]} | {
        "steps_per_second": per_second,
        "agents": env.num_agents or 1,
        "loop": loop_speed(env, config) if isinstance(env, HostEnv) else None,
    }


def loop_speed(env: HostEnv, config: Config) -> float:
    """Steps per second of a plain Python loop with random actions, without JAX."""
    keys = jax.random.split(jax.random.key(0), (config.steps, config.num_envs))
    actions = np.asarray(jax.jit(jax.vmap(jax.vmap(env.action_space.sample)))(keys))
    envs_of_host = env.source.open(config.num_envs)
    spent = []
    for _ in range(config.repeats):
        envs_of_host.reset(np.arange(config.num_envs, dtype=np.uint32))
        begun = time.monotonic()
        for action in actions:
            obs, _, terminated, truncated = envs_of_host.step(action)
            if (over := terminated | truncated).any():
                envs_of_host.restart(over, obs)
        spent.append(time.monotonic() - begun)
    envs_of_host.close()
    return config.num_envs * config.steps / statistics.median(spent)


def run(config: Config) -> list[dict[str, Any]]:
    """Measurements of each row of the suites that are installed and asked for."""
    rows = []
    for name, suite in SUITES.items():
        chosen = [
            (env, params)
            for env, params in suite.rows
            if not config.only or {name, env} & set(config.only)
        ]
        if not chosen or importlib.util.find_spec(suite.package) is None:
            continue
        importing = import_seconds(suite.package)
        for env, params in chosen:
            words = {"suite": name, "env": env, "params": params, "import": importing}
            with jax.numpy_rank_promotion("allow"):
                rows.append(words | measure(envs.make(env, **params), config))
            print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table of the measurements."""
    lines = [
        "| environment | agents | import, s | compile reset, s | compile step, s | steps/s | "
        "plain loop, steps/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        params = ", ".join(f"{key}={value}" for key, value in row["params"].items())
        numbers = (f"{row[key]:.1f}" for key in ("import", "compile_reset", "compile_step"))
        speed = f"{row['steps_per_second']:,.0f}"
        loop = f"{row['loop']:,.0f}" if row.get("loop") else ""
        name = " ".join((row["env"], params)).strip()
        cells = (name, str(row["agents"]), *numbers, speed, loop)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(config: Config) -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    rows = run(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    load = f"{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.1f}"
    where = f"{jax.devices()[0].device_kind}, {load}, jax {jax.__version__}"
    page = (
        f"# Speed of other packages' environments\n\n{where}. Import after jax in a fresh process, "
        "compilation of one reset and of one step, and steps per second of "
        f"{config.num_envs} environments with random legal actions in one compiled scan of "
        f"{config.steps} steps (median of {config.repeats}), resets included. Under a load above "
        "the number of cores, seconds are upper bounds and steps per second lower bounds.\n\n"
        f"{table(rows)}\n"
    )
    (config.folder / "suites.json").write_text(
        json.dumps({"where": where, "rows": rows}, indent=1) + "\n"
    )
    (config.folder / "suites.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(tyro.cli(Config))
