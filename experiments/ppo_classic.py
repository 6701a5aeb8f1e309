"""PPO on five classic tasks, next to published scores: tuned on seeds 0 to 7, tested on seeds 1000
to 1031.

`python -m experiments.ppo_classic --tune` sweeps the grid of each task on the tuning seeds; without
`--tune` it trains the chosen settings on the test seeds, and writes results/ppo_classic.json, .png
and the table in README.md.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl

RESULTS = pathlib.Path(__file__).parent / "results"
README = pathlib.Path(__file__).parent / "README.md"
TUNING_SEEDS, TEST_SEEDS = range(8), range(1000, 1032)


@dataclasses.dataclass(frozen=True)
class Task:
    """An environment, the number of steps, the chosen setting, and the grid of candidates."""

    env: str
    steps: int
    setting: dict[str, Any]
    grid: dict[str, tuple[float, ...]]
    published: str
    target: float | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    tuning_steps: int | None = None

    def training(self, steps: int, share: float = 0.5) -> rl.Training:
        """Return the training run, with evaluations of 10 greedy episodes, which may take more
        environment steps than by default: at most `share` of those of training.
        """
        return rl.Training(
            rl.ppo(**self.setting), envs.make(self.env, **self.params), steps, 10, 10, share
        )


TASKS = {
    "CartPole-v1": Task(
        env="CartPole-v1",
        steps=100_000,
        setting=dict(
            lr=1e-3,
            gamma=0.98,
            lam=0.8,
            entropy_weight=0.0,
            num_envs=8,
            num_steps=32,
            epochs=20,
            minibatches=1,
        ),
        grid=dict(lr=(5e-4, 1e-3, 2e-3, 4e-3), gamma=(0.98, 0.99), lam=(0.8, 0.95)),
        published="500 ± 0 (rl-zoo, 100k)",
        target=500,
    ),
    "Acrobot-v1": Task(
        env="Acrobot-v1",
        steps=500_000,
        setting=dict(
            lr=2e-3,
            gamma=0.99,
            lam=0.94,
            entropy_weight=0.0,
            num_envs=16,
            num_steps=128,
            epochs=4,
            minibatches=8,
            normalize_obs=True,
        ),
        grid=dict(lr=(5e-4, 1e-3, 2e-3), entropy_weight=(0.0, 0.01)),
        published="none at 500k; our target was -85",
        target=-85,
    ),
    "Pendulum-v1": Task(
        env="Pendulum-v1",
        steps=150_000,
        setting=dict(
            lr=1e-3,
            gamma=0.95,
            lam=0.95,
            entropy_weight=0.0,
            num_envs=16,
            num_steps=64,
            epochs=10,
            minibatches=8,
            normalize_obs=True,
            normalize_reward=True,
        ),
        grid=dict(lr=(5e-4, 1e-3, 2e-3), gamma=(0.9, 0.95, 0.98)),
        published="-172 ± 104 (rl-zoo, 100k)",
        target=-175,
    ),
    "Breakout-MinAtar": Task(
        env="Breakout-MinAtar",
        steps=1_000_000,
        setting=dict(
            lr=4e-3,
            gamma=0.99,
            lam=0.95,
            entropy_weight=0.01,
            num_envs=64,
            num_steps=64,
            epochs=4,
            minibatches=8,
            network=rl.MLP((64, 64), activation=jax.nn.relu),
        ),
        grid=dict(lr=(1e-3, 2e-3, 4e-3)),
        published="28 to 44 at 1e7 (gymnax-blines, PureJaxRL); none at 1e6",
        tuning_steps=500_000,
    ),
    "brax:inverted_pendulum": Task(
        env="brax:inverted_pendulum",
        params={"backend": "spring"},
        steps=500_000,
        setting=dict(
            lr=1e-3,
            gamma=0.99,
            lam=0.95,
            entropy_weight=0.0,
            num_envs=16,
            num_steps=64,
            epochs=4,
            minibatches=8,
            normalize_obs=True,
        ),
        grid=dict(lr=(3e-4, 1e-3, 3e-3)),
        published="none for this backend; 1000 is the most there is",
        target=1000,
        tuning_steps=200_000,
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run. Smoke settings for tests: few `seeds`, a small `scale`, another `folder`."""

    tasks: tuple[str, ...] = tuple(TASKS)
    tune: bool = False
    """sweep the grid on the tuning seeds instead"""
    seeds: int = 0
    """how many of the seeds (0: all)"""
    scale: float = 1.0
    """of the steps"""
    folder: pathlib.Path = RESULTS


def run(task: Task, config: Config) -> Any:
    """Sweep of a task: its grid on the tuning seeds, or its setting on the test seeds."""
    seeds = np.array(TUNING_SEEDS if config.tune else TEST_SEEDS)[: config.seeds or None]
    axes = {name: jnp.array(values) for name, values in task.grid.items()} if config.tune else {}
    steps = task.tuning_steps if config.tune and task.tuning_steps else task.steps
    return rl.sweep(
        task.training(max(int(steps * config.scale), 10_240)), axes | {"seed": jnp.asarray(seeds)}
    )


def score(results: Any) -> dict[str, Any]:
    """Final greedy evaluation and final training return: interquartile means and intervals over
    seeds.
    """
    scores = {}
    for name in ("evaluation", "return"):
        last = rl.stats.summary(results.isel(step=-1), name)
        parts = {part: round(float(last[part]), 3) for part in ("iqm", "low", "high", "mean")}
        scores[f"{name}_score"] = parts | {
            "std": round(float(results[name].isel(step=-1).std()), 3)
        }
    card = {key: json.loads(results.attrs[key]) for key in ("run", "versions", "machine")}
    times = {
        key: results.attrs[key] for key in ("compile_seconds", "run_seconds", "commit", "started")
    }
    curves = {name: np.round(results[name].values, 2).tolist() for name in ("evaluation", "return")}
    steps = results["step"].values.tolist()
    diverged = int(results["diverged"].isel(step=-1).sum())
    return (
        scores
        | {"step": steps, "seed": results["seed"].values.tolist(), "diverged": diverged}
        | times
        | curves
        | card
    )


def best_of_grid(results: Any) -> dict[str, Any]:
    """Scores of all settings on the tuning seeds (mean of the last two evaluations), best first.

    Diverged runs count as the lowest.
    """
    ranked = rl.stats.final_of_sound(results, "evaluation", "seed", last=2)
    ranked = ranked.transpose(..., "seed")
    means = ranked.isel(seed=0, drop=True).copy(data=np.asarray(rl.stats.iqm(ranked.values)))
    rows = means.to_dataframe(name="iqm").reset_index()
    return {"rows": rows.sort_values("iqm", ascending=False).round(5).to_dict("records")}


def figure(records: dict[str, Any]) -> Any:
    """Learning curves, one panel per task."""
    import xarray as xr

    panels = rl.plot.Picture(figsize=(4.6 * len(records), 3.6), layout="constrained")
    axes = np.atleast_1d(panels.subplots(1, len(records)))
    for ax, (name, record) in zip(axes, records.items(), strict=True):
        data = {key: (("seed", "step"), np.array(record[key])) for key in ("evaluation",)}
        curve = xr.Dataset(data, {"seed": record["seed"], "step": record["step"]})
        rl.plot.curve(curve, "evaluation", ax=ax)
        ax.set_title(name)
    return panels


def table(records: dict[str, Any]) -> str:
    """Markdown table of the records."""
    rows = [
        "| task | steps | greedy return, IQM [95 % interval] | mean ± std | published | run on |",
        "|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        e, machine, versions = record["evaluation_score"], record["machine"], record["versions"]
        rows.append(
            f"| {name} | {record['step'][-1]:,} | {e['iqm']:.5g} [{e['low']:.5g}, "
            f"{e['high']:.5g}] | "
            f"{e['mean']:.5g} ± {e['std']:.3g} | {TASKS[name].published} | "
            f"{machine['device']}, jax {versions['jax']} |"
        )
    return "\n".join(rows)


def main(config: Config) -> None:
    rl.use_all_cores()
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / ("ppo_classic_tuning.json" if config.tune else "ppo_classic.json")
    records = json.loads(path.read_text()) if path.exists() else {}
    for name in config.tasks:
        print(f"{name}, {'tuning' if config.tune else 'test'} seeds", flush=True)
        started = time.monotonic()
        results = run(TASKS[name], config)
        records[name] = best_of_grid(results) if config.tune else score(results)
        path.write_text(json.dumps(records, indent=1))
        shown = records[name]["rows"][:4] if config.tune else records[name]["evaluation_score"]
        print(f"{shown}, {time.monotonic() - started:.0f} s", flush=True)
    if not config.tune:
        records = {name: records[name] for name in TASKS if name in records}
        figure(records).savefig(config.folder / "ppo_classic.png", dpi=110)
        print(table(records))
        if config.folder == RESULTS:
            fill(README, "ppo_classic", table(records))


def fill(path: pathlib.Path, name: str, text: str) -> None:
    """Replace the text between the two marks of `name` in a page."""
    page = path.read_text()
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, after = page.split(start)[0], page.split(end)[1]
    path.write_text(f"{before}{start}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main(tyro.cli(Config))
