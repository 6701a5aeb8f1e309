"""Transfer of the shipped discovered rules to other settings: `python -m experiments.transfer`.

Each rule is compared with the hand-written rule that it replaces: at other lifetimes, learning
rates and reward scales, with a network in place of the table, on other families of levels, and on
CartPole and Breakout. Agent, levels, keys and code are the same for both. A score is the return of
the exploring policy as a share of the optimal return; with a network, the learning rate of each is
the best of four on the selection levels.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl
from experiments import _discovery as lab
from experiments import discover_lpo, discover_ta_lpg
from jaxrl.meta.base import SELECTION
from jaxrl.rules.td import SquaredError
from jaxrl.sweep import provenance
from jaxrl.tree import pytree, replace

RESULTS = pathlib.Path(__file__).parent / "results"
TD = (
    "DQN's loss",
    lambda agent: replace(agent, rule=replace(agent.rule, criterion=SquaredError())),
    40,
)
# discovered rule: name and agent of its hand-written counterpart, and updates per lifetime
BY_HAND: dict[str, tuple[str, Callable[[Any], Any], int]] = {
    "lpo": ("PPO", lambda agent: discover_lpo.learner(rl.Clip()), 30),
    "ta_lpo": ("PPO", lambda agent: discover_lpo.learner(rl.Clip()), 30),
    "ta_lpg": (
        "A2C",
        lambda agent: discover_ta_lpg.learner(
            rl.Surrogate(rl.PolicyGradient()), 0.3, discover_lpo.ADAM
        ),
        30,
    ),
    "symbolic_td": TD,
    "symbolic_from_nothing": TD,
}
AS_FOUND = {"life": 1.0, "lr": 1.0, "reward": 1.0}  # factors
CHANGES = {"as found": AS_FOUND} | {
    f"{name} x {factor:g}": AS_FOUND | {name: factor}
    for name, factors in {
        "life": (0.25, 0.5, 2.0, 4.0),
        "lr": (0.25, 4.0),
        "reward": (0.1, 10.0),
    }.items()
    for factor in factors
}
# PPO's return after a long training run; factor on the lifetime
FAR = {"CartPole-v1": (500.0, 4.0), "Breakout-MinAtar": (24.0, 6.0)}
# divisor of the number of levels, where lifetimes take long
FEWER = {"MLP128": 4, "CartPole-v1": 4, "Breakout-MinAtar": 16}
RATES = {f"lr x {factor:g}": AS_FOUND | {"lr": factor} for factor in (1.0, 0.1, 0.01, 0.001)}


@pytree
class Scaled(rl.Tasks):
    """The same levels with rewards times `scale`, and the same scores."""

    levels: Any
    scale: Any = 1.0

    def sample(self, key: jax.Array) -> Any:
        return envs.RewardScale(self.levels.sample(key), self.scale)

    def score(self, env: Any, episode_return: jax.Array) -> jax.Array:
        return self.levels.score(env.env, episode_return / self.scale)


def tasks(kind: str) -> tuple[Any, Any, dict[str, dict[str, float]]]:
    """Levels of a kind, the network (None: that of the agent), and the changes by name."""
    if kind in FAR:
        best, life = FAR[kind]
        return (
            lab.Always(envs.make(kind), best),
            rl.MLP((64, 64)),
            {name: x | {"life": life} for name, x in RATES.items()},
        )
    if kind.startswith("MLP"):
        return (
            lab.Shares(envs.distribution("LPGGrid-tiny", one_hot=True)),
            rl.MLP((int(kind[3:]),)),
            RATES,
        )
    table = {
        "grid": (lab.mini(), CHANGES),
        "delayed chain": (
            envs.distribution("DelayedChain-short", one_hot=False),
            {"as found": AS_FOUND},
        ),
        "random MDP": (lab.Processes(), {"as found": AS_FOUND}),
    }
    levels, changes = table[kind]
    return levels, None, changes


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment; tests use small values."""

    rules: tuple[str, ...] = tuple(BY_HAND)
    kinds: tuple[str, ...] = ("grid", "delayed chain", "random MDP", "MLP32", "MLP128", *FAR)
    levels: int = 128
    """number of levels of each kind, divided as in `FEWER`"""
    updates: int | None = None
    """updates per lifetime, in place of those in `BY_HAND`"""
    folder: pathlib.Path = RESULTS
    """folder of `transfer.json`, the finished scores; the same command resumes from there"""


def scorer(
    agent: rl.OnPolicy, levels: Any, updates: int, num: int
) -> Callable[[Any, dict[str, Any]], jax.Array]:
    """Function from a seed and a change to scores, with the same levels and keys for each change.
    [num].
    """

    def run(seed: Any, change: dict[str, Any]) -> jax.Array:
        key_level, key_life = jax.random.split(jax.random.key(seed))
        scaled = Scaled(levels, change["reward"])
        loop = rl.InnerLoop(replace(agent, lr=agent.lr * change["lr"]))
        lifetime = jnp.round(updates * change["life"]).astype(jnp.int32)

        def life(n: jax.Array) -> jax.Array:
            env = scaled.sample(jax.random.fold_in(key_level, n))
            return loop.run_one(
                jax.random.fold_in(key_life, n), {}, scaled, env, lifetime, lifetime
            )

        return jax.vmap(life)(jnp.arange(num))

    return run


def scores(agent: rl.OnPolicy, kind: str, updates: int, num: int) -> dict[str, np.ndarray]:
    """Scores of an agent on the test levels of a kind, for each change or for the best learning
    rate.

    Non-finite scores count as 0, the score of an idle policy.
    """
    levels, network, changes = tasks(kind)
    agent = agent if network is None else replace(agent, network=network)
    run = lab.once(scorer(agent, levels, updates, num))
    on = lambda seed, change: np.where(
        np.isfinite(x := np.asarray(run(seed, changes[change]))), x, 0.0
    )
    names = list(changes)
    if network is not None:
        names = [max(names, key=lambda change: on(SELECTION, change).mean())]
    return {change: on(lab.TEST, change) for change in names}


def row(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Mean scores with 95 % intervals over levels, and their mean difference."""
    scores = {"found": ours, "by_hand": theirs}
    means = {name: lab.summary(x[None])["mean"] for name, x in scores.items()}
    return means | {"difference": lab.compare(ours[None], theirs[None])}


def compare(name: str, kind: str, config: Config, known: dict[Any, Any]) -> dict[str, Any]:
    """Rows of a rule and its counterpart on a kind of levels; scores of the counterpart that are
    `known` are not computed again.
    """
    title, by_hand, life = BY_HAND[name]
    agent, num = rl.load_agent(name), max(config.levels // FEWER.get(kind, 1), 2)
    score = lambda agent: scores(agent, kind, config.updates or life, num)
    ours, theirs = score(agent), known.get((title, kind)) or score(by_hand(agent))
    known[title, kind] = theirs
    if kind == "grid":
        return {change: row(ours[change], theirs[change]) for change in ours}
    (at, found), (where, hand) = *ours.items(), *theirs.items()
    return {kind: row(found, hand) | {"at": [at, where]}}


def figure(found: dict[str, dict[str, Any]]) -> Any:
    """Table of the scores of each rule and its counterpart, coloured by their difference."""
    changes = list(dict.fromkeys(change for rows in found.values() for change in rows))
    panels = rl.plot.Picture(
        figsize=(1.5 + 1.9 * len(found), 0.6 + 0.34 * len(changes)), layout="constrained"
    )
    ax = panels.subplots()
    nothing = {"difference": [np.nan]}
    shade = [
        [rows.get(change, nothing)["difference"][0] for rows in found.values()]
        for change in changes
    ]
    image = ax.imshow(shade, cmap="RdBu", vmin=-0.5, vmax=0.5, aspect="auto")
    for i, rows in enumerate(found.values()):
        for j, change in enumerate(changes):
            if change in rows:
                ours, theirs = (rows[change][name][0] for name in ("found", "by_hand"))
                color = "white" if abs(rows[change]["difference"][0]) > 0.35 else "black"
                ax.text(
                    i,
                    j,
                    f"{ours:.2f} | {theirs:.2f}",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color=color,
                )
    ax.set_xticks(range(len(found)), [f"{name}\n{BY_HAND[name][0]}" for name in found])
    ax.set_yticks(range(len(changes)), changes)
    panels.colorbar(image, label="found minus by hand")
    return panels


def kept(config: Config) -> dict[str, Any]:
    """The stored record of the same settings, or a new one.

    Raises:
      SystemExit: the stored record has other settings.
    """
    path = config.folder / "transfer.json"
    settings = {"levels": config.levels, "updates": config.updates}
    if not path.exists():
        where = {
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "commit": provenance.commit(),
        }
        return {"scores": {}, "cpu_seconds": 0.0} | settings | where
    record = json.loads(path.read_text())
    if differ := [
        f"{key}={record.get(key)} (now {now})"
        for key, now in settings.items()
        if record.get(key) != now
    ]:
        raise SystemExit(
            f"{path} holds scores with {', '.join(differ)}, which can't share a table with these. "
            "Nothing was changed: write another --folder, or the same numbers."
        )
    return record


def main(config: Config) -> None:
    rl.use_all_cores(1)
    record, known, commit = kept(config), {}, provenance.commit()
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / "transfer.json"
    for kind in config.kinds:
        for name in config.rules:
            done = record["scores"].setdefault(name, {})
            if not any(change == kind or (kind == "grid" and change in CHANGES) for change in done):
                busy = time.process_time()
                rows = compare(name, kind, config, known)
                done |= {change: row | {"commit": commit} for change, row in rows.items()}
                record["cpu_seconds"] = round(record["cpu_seconds"] + time.process_time() - busy, 1)
                path.write_text(json.dumps(record, indent=1) + "\n")
                print(
                    name,
                    kind,
                    {change: list(row.values()) for change, row in done.items()},
                    flush=True,
                )
    figure(record["scores"]).savefig(config.folder / "transfer.png", dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Config))
