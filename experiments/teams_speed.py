"""Training speed of teams in this kit and in JaxMARL: `python -m experiments.teams_speed --checkout
JaxMARL`.

IPPO, MAPPO and QMIX on simple_spread with three agents, beside the training scripts of JaxMARL's
repository at the same settings, and level-based foraging in this kit alone, as JaxMARL 0.2 has
none; then steps with random actions, beside a Python loop over mpe2 (extra `test`). Each
measurement runs in a process of its own and rounds are interleaved, as in `experiments.speed`.
Learning curves are compared after them.

JaxMARL's scripts are not in its package: git clone --depth 1 https://github.com/FLAIROx/JaxMARL,
and pip install "jaxmarl[algs]". It writes results/teams_speed.json and .md.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import tyro

from experiments import speed
from experiments._jaxmarl_scripts import SCRIPTS, scripts_of
from experiments._team_kits import Job, update_steps
from experiments._team_pages import page

PEER, LOOP = "JaxMARL", "Python loop"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: speed of training teams, and of a team's environment."""

    checkout: pathlib.Path | None = (
        pathlib.Path(os.environ["JAXMARL"]) if "JAXMARL" in os.environ else None
    )
    """a checkout of JaxMARL's repository (default: the environment variable JAXMARL)"""
    packages: tuple[pathlib.Path, ...] = ()
    """folders that JaxMARL and mpe2 are also imported from (pip install --target)"""
    algorithms: tuple[str, ...] = tuple(SCRIPTS)
    kits: tuple[str, ...] = ("jaxrl", "jaxrl on one device", PEER)
    worlds: tuple[str, ...] = ("Spread", "Foraging")
    seeds: int = 8
    """runs in one program"""
    steps: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"IPPO": 204_800, "MAPPO": 102_400, "QMIX": 41_600}
    )
    """maximum environment steps of each seed"""
    rounds: int = 5
    limit: float = 300.0
    """time limit of a measurement, in seconds"""
    curve_seeds: int = 8
    """seeds of the learning curves (0: none)"""
    curve_steps: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"IPPO": 512_000, "MAPPO": 307_200, "QMIX": 416_000}
    )
    curve_limit: float = 3600.0
    num_envs: int = 256
    """environments with random actions"""
    random_steps: int = 20_000
    """steps of each of them"""
    loop_steps: int = 20_000
    """steps of the Python loop (0: none)"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def measure(config: Config, job: Job, limit: float) -> dict[str, Any]:
    """A job and its measurements."""
    packages = config.packages if job.kit in (PEER, LOOP) else ()
    found = speed.measure(job, limit, "experiments._team_kits", packages)
    row = dataclasses.asdict(job) | found
    row.pop("checkout")  # a path of this machine
    said = found.get("failed") or f"{found['steps_per_second']:,.0f} steps/s"
    speed.say(f"{job.algorithm} on {job.world}, {job.kit}: {said}")
    return row


def jobs(config: Config) -> list[Job]:
    """The measurements of a round of training."""
    found = []
    for world in config.worlds:
        for algorithm in config.algorithms:
            each = update_steps(algorithm)
            steps = max(config.steps[algorithm] // each, 1) * each
            kits = [kit for kit in config.kits if kit != PEER or world == "Spread"]
            args = (config.seeds, steps, world, str(config.checkout))
            found += [Job(kit, algorithm, *args) for kit in kits]
    return found


def interleaved(config: Config, every: list[Job]) -> list[dict[str, Any]]:
    """Measurements of all jobs, `rounds` times. One that failed is not run again."""
    rows: list[dict[str, Any]] = []
    failed: set[Job] = set()
    for number in range(config.rounds):
        for job in every:
            if job in failed:
                continue
            rows.append({"round": number} | measure(config, job, config.limit))
            if "failed" in rows[-1]:
                failed.add(job)
    return rows


def random_jobs(config: Config) -> list[Job]:
    """The measurements of a round of random actions."""
    if not config.loop_steps:
        return []
    vectorised = ("vectorised", "vectorised on one device")
    found = [Job(kit, "random", config.num_envs, config.random_steps) for kit in vectorised]
    return [*found, Job(LOOP, "random", 1, config.loop_steps)]


def curves(config: Config) -> dict[str, Any]:
    """Learning curves of each kit and algorithm on Spread, and the difference of their means."""
    if not config.curve_seeds or PEER not in config.kits:
        return {}
    found = {}
    for algorithm in config.algorithms:
        steps, checkout = config.curve_steps[algorithm], str(config.checkout)
        rows = {
            kit: measure(
                config,
                Job(kit, algorithm, config.curve_seeds, steps, "Spread", checkout, True),
                config.curve_limit,
            )
            for kit in ("jaxrl", PEER)
        }
        found[algorithm] = compare(rows["jaxrl"], rows[PEER])
    return found


# ----------------------------------------------------------------------------------------- numbers


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Mean curves of two kits, and the difference of their means over the last nine points of ten
    (in the first, no episode of JaxMARL's log has ended yet), with a 95 % interval over seeds.
    """
    import numpy as np

    from jaxrl import stats

    if "failed" in ours | theirs:
        return {"failed": ours.get("failed", theirs.get("failed"))}
    heights = [np.array(kit["curve"]) for kit in (ours, theirs)]
    scores = [height[:, 1:].mean(-1) for height in heights]
    return {
        "steps": ours["steps"],
        "difference": _rounded(stats.difference(*scores, statistic=stats.mean)),
        "ours": np.round(heights[0].mean(0), 3).tolist(),
        "theirs": np.round(heights[1].mean(0), 3).tolist(),
    }


def ratio(
    rows: list[dict[str, Any]], kit: str, other: str, algorithm: str, world: str = "Spread"
) -> list[float] | None:
    """The mean over rounds of the ratio of steps per second of two kits in the same round, with a
    95 % interval; None without a round of both. [3].
    """
    from jaxrl import stats

    speeds = {
        (row["round"], row["kit"]): row["steps_per_second"]
        for row in rows
        if (row["algorithm"], row["world"]) == (algorithm, world) and "failed" not in row
    }
    both = [n for n, name in speeds if name == kit and (n, other) in speeds]
    if not both:
        return None
    ratios = [speeds[n, kit] / speeds[n, other] for n in both]
    if len(ratios) == 1:
        return [round(ratios[0], 3)] * 3
    return _rounded(stats.interval(ratios, stats.mean))


def _rounded(interval: Any) -> list[float]:
    return [round(float(x), 3) for x in interval]


def summary(config: Config, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The ratios: of each algorithm, the smallest of these, and that to the Python loop."""
    trained: dict[str, Any] = {}
    for algorithm in config.algorithms:
        found = {kit: ratio(rows, kit, PEER, algorithm) for kit in ("jaxrl", "jaxrl on one device")}
        if found["jaxrl"] is not None:
            trained[algorithm] = {
                "ratio": found["jaxrl"],
                "ratio_on_one_device": found["jaxrl on one device"],
            }
    smallest = min((row["ratio"] for row in trained.values()), default=None)
    jaxmarl = None if smallest is None else {"ratio": smallest, "algorithms": trained}
    loop = ratio(rows, "vectorised", LOOP, "random")
    one = ratio(rows, "vectorised on one device", LOOP, "random")
    python_loop = None if loop is None else {"ratio": loop, "ratio_on_one_device": one}
    return {"jaxmarl": jaxmarl, "python_loop": python_loop}


def versions() -> dict[str, str]:
    """Versions of this process's packages, and of JaxMARL and mpe2 where they are installed."""
    found = {"python": platform.python_version()}
    for name in ("jaxrl", "jax", "jaxlib", "flax", "optax", "jaxmarl", "mpe2", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(config: Config) -> None:
    if PEER in config.kits:
        scripts_of(config.checkout)
    rows = interleaved(config, random_jobs(config) + jobs(config))
    learned = curves(config)  # after them, as its statistics initialise jax in this process
    settings = {
        name: value
        for name, value in vars(config).items()
        if name not in ("folder", "checkout", "packages")
    }
    record = summary(config, rows) | {
        "curves": learned,
        "date": datetime.date.today().isoformat(),
        "host": f"{speed._processor()}, {len(os.sched_getaffinity(0))} cores",
        "load": [round(x, 1) for x in os.getloadavg()],
        "versions": _with_packages(config, versions()),
        "config": settings,
        "rounds": rows,
    }
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "teams_speed.json").write_text(json.dumps(record, indent=1) + "\n")
    text = page(record)
    (config.folder / "teams_speed.md").write_text(text)
    print(text)


def _with_packages(config: Config, found: dict[str, str]) -> dict[str, str]:
    """Versions, with those of the folders `packages`."""
    places = [str(path) for path in config.packages]
    for package in importlib.metadata.distributions(path=places) if places else ():
        if package.name in ("jaxmarl", "mpe2", "distrax", "flashbax"):
            found[package.name] = package.version
    return found


if __name__ == "__main__":
    main(tyro.cli(Config))
