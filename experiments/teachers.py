"""Teachers on mazes: `python -m experiments.teachers`.

The same PPO learns with each teacher for the same number of environment steps, including those of
scouts and of PAIRED's antagonist. Its final policy, with sampled actions, plays solvable test
levels that no teacher has seen. The scores of a seed are its success rate on all levels, and on the
tenth of them on which it is lowest. ACCEL and PAIRED begin with empty mazes.

The runs are stored in a folder, from which the same command resumes. It writes
results/teachers.json, .png and .md, or with `--levels Maze-13` results/teachers_13.
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

import jaxrl as rl
from experiments import _discovery as lab

RESULTS = pathlib.Path(__file__).parent / "results"
BASELINE = "DR"
TEST_KEY = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Config:
    """What to run; tests use small values."""

    levels: str = "Maze-7"
    teachers: tuple[str, ...] = (
        "DR",
        "PLR",
        "robust PLR",
        "SFL",
        "ACCEL",
        "PAIRED",
        "exact regret",
    )
    seeds: int = 64
    steps: int = 1_000_000
    num_envs: int = 32
    num_steps: int = 128
    """of each environment in an update; at least the `max_steps` of the levels for PAIRED"""
    scouts: int = 16
    """further environments of robust PLR, SFL and ACCEL"""
    capacity: int = 512
    """of the level buffer; the papers use 4000, with a hundred times the steps"""
    lr: float = 1e-3
    evals: int = 20
    test_levels: int = 256
    test_episodes: int = 8
    """on each test level"""
    chunk: int | None = None
    runs: pathlib.Path = pathlib.Path("runs/teachers")
    folder: pathlib.Path = RESULTS


def ppo(config: Config, **fields: Any) -> rl.OnPolicy:
    settings: dict[str, Any] = {
        "num_envs": config.num_envs,
        "num_steps": config.num_steps,
        "lr": config.lr,
        "epochs": 4,
        "minibatches": 4,
        "schedule": rl.Constant(),
    }
    return rl.ppo(**settings | fields)


def training(config: Config, name: str) -> rl.Training:
    """The training run with the teacher called `name`."""
    tasks: Any = rl.envs.distribution(config.levels)
    empty = rl.envs.distribution(config.levels, num_walls=(0, 0))
    held_out = rl.envs.distribution(config.levels, solvable=True)
    replay = lambda **fields: rl.LevelReplay(capacity=config.capacity, **fields)
    plr, sfl, accel = rl.teachers.PLR, rl.teachers.SFL, rl.teachers.ACCEL
    max_mc, regret = rl.teachers.MaxMC(), rl.teachers.Regret()
    alike = replay(temperature=1e6, staleness=0.0, min_regret=0.0)

    def taught(teacher: Any, scouts: int = 0, per_level: int = 1) -> rl.Taught:
        return rl.Taught(
            ppo(config),
            teacher,
            held_out=held_out,
            num_levels=max(config.num_envs // per_level, 1),
            scouts=scouts,
            scout_levels=scouts // per_level,
        )

    def paired() -> rl.teachers.PAIRED:
        editor, longest = tasks.editor(), tasks.max_steps
        student = ppo(config, num_steps=max(config.num_steps, longest))
        designer = ppo(config, num_steps=editor.max_steps, entropy_weight=0.05)
        return rl.teachers.PAIRED(student, designer, held_out=held_out)

    make = {
        "DR": lambda: (taught(rl.teachers.Uniform()), tasks),
        "PLR": lambda: (taught(plr(max_mc, replay())), tasks),
        "robust PLR": lambda: (taught(plr(max_mc, replay(), robust=True), config.scouts), tasks),
        # a success rate is of several episodes
        "SFL": lambda: (taught(sfl(replay=alike), config.scouts, 4), tasks),
        "ACCEL": lambda: (
            taught(accel(max_mc, replay(staleness=0.5)), config.scouts),
            empty,
        ),
        "PAIRED": lambda: (paired(), tasks),
        "exact regret": lambda: (taught(plr(regret, replay())), tasks),
    }
    algo, levels = make[name]()
    return rl.Training(algo, levels, config.steps, evals=config.evals, episodes=16, eval_share=0.5)


def test_set(config: Config) -> tuple[Any, xr.Dataset]:
    """The test levels, and the numbers that describe them."""
    tasks = rl.envs.distribution(config.levels, solvable=True)
    keys = jax.random.split(jax.random.key(TEST_KEY), config.test_levels)
    levels = jax.jit(jax.vmap(tasks.sample))(keys)
    numbers = jax.device_get(jax.jit(jax.vmap(tasks.describe))(levels))
    return levels, xr.Dataset(coords={key: ("level", x) for key, x in numbers.items()})


def run(config: Config, name: str, levels: Any) -> tuple[xr.Dataset, np.ndarray]:
    """Learning curves with a teacher, and the success rate of each final policy on each level.

    [seeds, levels].
    """
    value: Any = training(config, name)
    folder = config.runs / f"{config.levels}-{name.replace(' ', '_')}"
    axes = {"seed": jnp.arange(config.seeds)}
    curves = rl.sweep(value, axes, folder=folder, chunk=config.chunk)
    agents = [rl.agent(folder, value, seed=seed) for seed in range(config.seeds)]

    @jax.jit
    def solved(key: jax.Array, agent: Any) -> jax.Array:
        policy = value.algo.policy(value.env, agent, greedy=False)
        found = rl.play_levels(key, levels, policy, config.test_episodes)
        return found.info["success"].mean(-1)

    key = jax.random.key(TEST_KEY - 1)
    return curves, np.stack([np.asarray(solved(key, agent)) for agent in agents])


def worst_tenth(solved: np.ndarray) -> np.ndarray:
    """Mean of the lowest tenth of success rates, [seeds] of [seeds, levels]."""
    num = max(solved.shape[1] // 10, 1)
    return np.sort(solved, 1)[:, :num].mean(1)


SCORES = {"all levels": lambda solved: solved.mean(1), "worst tenth": worst_tenth}


def summary(solved: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds with intervals, and differences from domain randomisation if it was run."""
    rounded = lambda found: [round(float(x), 4) for x in found]
    record: dict[str, Any] = {name: {} for name in solved}
    for name, rates in solved.items():
        for key, score in SCORES.items():
            x = score(rates)
            found = {"mean": rounded(rl.stats.interval(x, rl.stats.mean))}
            if name != BASELINE and BASELINE in solved:
                base = score(solved[BASELINE])
                found["more than DR"] = rounded(rl.stats.difference(x, base, rl.stats.mean))
            record[name][key] = found | {"each": np.round(x, 4).tolist()}
    return record


def figure(curves: xr.Dataset, solved: xr.DataArray) -> Any:
    """Success by steps, the training levels, and success by the distance of test levels."""
    picture = rl.plot.Picture(figsize=(19.0, 4.2), layout="constrained")
    panels = picture.subplots(1, 4)
    for ax, name in zip(panels, ("evaluation", "taught_walls", "taught_distance"), strict=False):
        rl.plot.curve(curves, name, by="teacher", ax=ax)
    by_distance = rl.stats.binned(solved, "success", along="level", by="distance", bins=6)
    rl.plot.curve(by_distance, "success", by="teacher", x="distance", ax=panels[-1])
    for ax in panels[:-1]:
        ax.get_legend().remove()
    return picture


def page(record: dict[str, Any], config: Config) -> str:
    """The table as Markdown."""
    text = lambda found: "{:.3f} [{:.3f}, {:.3f}]".format(*found) if found else "-"
    rows = [
        f"# Teachers on {config.levels}",
        "",
        f"{config.seeds} seeds, {config.steps:,} environment steps each; success rates on "
        f"{config.test_levels} test levels, means over seeds with 95 % intervals, and differences "
        f"from domain randomisation (DR). jax {record['versions']['jax']}, "
        f"{record['machine']['device']}, commit {record['commit'][:9]}.",
        "",
        "| teacher | all levels | worst tenth | more than DR, all levels | worst tenth |",
        "|---|---|---|---|---|",
    ]
    for name, scores in record["success"].items():
        cells = [scores[key].get(part) for part in ("mean", "more than DR") for key in SCORES]
        rows.append(f"| {name} | {' | '.join(map(text, cells))} |")
    return "\n".join(rows) + "\n"


def main(config: Config) -> None:
    rl.use_all_cores()
    levels, described = test_set(config)
    curves, solved = {}, {}
    for name in config.teachers:
        curves[name], solved[name] = run(config, name, levels)
        worst = rl.stats.interval(worst_tenth(solved[name]), rl.stats.mean)
        print(f"{name}: {solved[name].mean():.3f}, worst tenth {worst}", flush=True)
    card = lab.card(curves[config.teachers[0]])
    names = xr.Variable("teacher", list(config.teachers))
    success = xr.DataArray(
        np.stack(list(solved.values())),
        dims=("teacher", "seed", "level"),
        coords=described.coords | {"teacher": names, "seed": np.arange(config.seeds)},
        name="success",
    )
    settings = {k: x for k, x in dataclasses.asdict(config).items() if k not in ("runs", "folder")}
    record = {"success": summary(solved), "config": settings} | card
    config.folder.mkdir(parents=True, exist_ok=True)
    stem = "teachers" + config.levels.removeprefix("Maze").replace("-7", "").replace("-", "_")
    (config.folder / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    (config.folder / f"{stem}.md").write_text(page(record, config))
    figure(joined(curves), success).savefig(config.folder / f"{stem}.png", dpi=110)
    print(page(record, config))


def joined(curves: dict[str, xr.Dataset]) -> xr.Dataset:
    """Learning curves along an axis of teachers, at the steps of the first one.

    Rows are at the same fractions of training; their steps differ slightly, because updates have
    different numbers of steps.
    """
    first, *_ = curves.values()
    names = ("evaluation", "taught_walls", "taught_distance", "diverged")
    same = [found[list(names)].assign_coords(step=first["step"]) for found in curves.values()]
    return xr.concat(same, xr.Variable("teacher", list(curves)), combine_attrs="drop")


if __name__ == "__main__":
    main(tyro.cli(Config))
