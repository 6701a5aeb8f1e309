"""Self-play against the latest version, a pool of versions, and a prioritised pool, on rock, paper,
scissors in which scissors against rock counts twice: `python -m experiments.self_play`.

Policies are tables of logits (networks without hidden layers). For each seed, the exploitability
(exact, `rl.games.exploitability`) of the learner at the end, of the average of its versions, and
its mean over the versions. Each arm takes the learning rate and the entropy weight with the least
exploitable average over a few tuning seeds, from the same settings, and is run with other seeds.
"""

import dataclasses
import itertools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxrl as rl
from envs import matrix_game
from jaxrl.spaces import visible
from jaxrl.tree import replace

FIRST_TUNING_SEED = 10_000
PATH = pathlib.Path(__file__).parent / "results" / "self_play.json"
ARMS = {
    "latest": rl.teachers.SelfPlay(latest=1.0),
    "fictitious": rl.teachers.SelfPlay(latest=0.0),
    "pool": rl.teachers.SelfPlay(latest=0.5),
    "prioritised pool": rl.teachers.SelfPlay(latest=0.5, power=2.0),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    seeds: int = 64
    tuning_seeds: int = 8
    updates: int = 1200
    save_every: int = 4
    num_levels: int = 16
    rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    entropy_weights: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)
    path: pathlib.Path = PATH


def learner(lr: Any, entropy_weight: Any) -> rl.OnPolicy:
    """PPO with a table of logits."""
    sizes: dict[str, Any] = {"num_envs": 64, "num_steps": 4, "network": rl.MLP(())}
    return rl.ppo(lr=lr, entropy_weight=entropy_weight, schedule=rl.Constant(), **sizes)


def probabilities(game: Any, algo: rl.OnPolicy, agent: Any) -> jax.Array:
    """The policy of each seat in a one-shot game. [A, n]."""
    obs = visible(game.reset(jax.random.key(0))[1])

    def one(obs: jax.Array) -> jax.Array:
        out = algo.forward(game, agent, (), obs)[1]
        return jax.nn.softmax(out["policy"].logits)

    return jax.vmap(one)(obs)


def run(arm: str, config: Config, seeds: jax.Array, settings: jax.Array) -> dict[str, jax.Array]:
    """Exploitabilities for each setting, (lr, entropy_weight) [K, 2], and each seed. [K, seeds]."""
    game = matrix_game.skewed_rock_paper_scissors()
    capacity = config.updates // config.save_every + 1
    teacher = replace(ARMS[arm], save_every=float(config.save_every), capacity=capacity)
    exact = rl.games.NormalForm(game.payoff)

    def one(setting: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        algo = learner(*setting)
        taught, tasks = (
            rl.Taught(algo, teacher, num_levels=config.num_levels),
            rl.Opponents(game, algo),
        )
        key_init, key_updates = jax.random.split(key)
        state = taught.init(key_init, tasks, config.updates)
        state, _ = jax.lax.scan(
            lambda state, key: (taught.update(key, tasks, state)[0], None),
            state,
            jax.random.split(key_updates, config.updates),
        )
        play = lambda agent: probabilities(game, algo, agent)
        policies = jax.vmap(play)(state.teacher.agents)
        is_stored = state.teacher.is_stored
        average = jnp.mean(policies, 0, where=is_stored[:, None, None])
        gap = lambda probs: rl.games.exploitability(exact, list(probs))
        return {
            "learner": gap(play(taught.agent(state))),
            "average": gap(average),
            "versions": jnp.mean(jax.vmap(gap)(policies), where=is_stored),
        }

    keys = jax.vmap(jax.random.key)(seeds)
    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(settings, keys)


def main(config: Config) -> None:
    rl.use_all_cores()
    grid = jnp.array(list(itertools.product(config.rates, config.entropy_weights)))
    tuning = FIRST_TUNING_SEED + jnp.arange(config.tuning_seeds)
    record: dict[str, Any] = {"config": settings(config), "arms": {}}
    for arm in ARMS:
        means = np.asarray(run(arm, config, tuning, grid)["average"].mean(1))
        best = int(np.argmin(np.nan_to_num(means, nan=np.inf)))
        found = run(arm, config, jnp.arange(config.seeds), grid[best : best + 1])
        lr, entropy_weight = (round(float(x), 6) for x in grid[best])
        record["arms"][arm] = {"lr": lr, "entropy_weight": entropy_weight} | {
            name: [round(float(x), 4) for x in rl.stats.interval(values[0])]
            for name, values in found.items()
        }
        print(arm, record["arms"][arm])
    config.path.write_text(json.dumps(record, indent=1) + "\n")


def settings(config: Config) -> dict[str, Any]:
    """The settings of the record."""
    return {name: value for name, value in vars(config).items() if name != "path"}


if __name__ == "__main__":
    main(tyro.cli(Config))
