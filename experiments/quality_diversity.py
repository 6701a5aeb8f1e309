"""Repertoires and archives with published settings: `python -m experiments.quality_diversity`.

MAP-Elites on the arm task and CMA-ME on the sphere, as QDax 0.5 measures them; Go-Explore on
DeepSea; and its robustification phase, PPO with the backward algorithm from a demonstration,
compared with PPO from the start. Each part is stored when it ends, and a later call continues with
the next one.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import envs
import jaxrl as rl
from envs import arm as arm_env
from jaxrl import archives, teachers
from jaxrl.archives import Grid, IsoLine, OneHot, Ranked
from jaxrl.meta.cma import FullCMA

END = 5.12  # half the side of the sphere's box
# mean and standard deviation of QDax 0.5.0: 5 seeds on the arm, 3 on the sphere
QDAX = {
    "arm": {"coverage": (0.8096, 0.01), "qd_score": (805.3, 9.1), "best_fitness": (-0.001, 0.0)},
    "sphere": {
        "coverage": (0.723, 0.021),
        "qd_score": (146_157.0, 3_795.0),
        "best_fitness": (99.93, 0.0),
    },
}
# evaluations per second of QDax's MAP-Elites on the arm task, one seed
PEER = """
import functools, sys, time, jax
from qdax.core.containers.mapelites_repertoire import compute_euclidean_centroids
from qdax.core.emitters.mutation_operators import isoline_variation
from qdax.core.emitters.standard_emitters import MixingEmitter
from qdax.core.map_elites import MAPElites
from qdax.tasks.arm import arm_scoring_function
from qdax.utils.metrics import default_qd_metrics

iterations, batch = int(sys.argv[1]), 256
sigmas = {"iso_sigma": 0.005, "line_sigma": 0.05}
vary = functools.partial(isoline_variation, minval=0.0, maxval=1.0, **sigmas)
emitter = MixingEmitter(lambda x, y: (x, y), vary, 1.0, batch)
metrics = functools.partial(default_qd_metrics, qd_offset=1.0)
search = MAPElites(arm_scoring_function, emitter, metrics)
centroids = compute_euclidean_centroids(grid_shape=(32, 32), minval=0.0, maxval=1.0)
key = jax.random.key(0)
start = search.init(jax.random.uniform(key, (batch, 8)), centroids, key)
carry = (start[0], start[1], key)
run = jax.jit(lambda carry: jax.lax.scan(search.scan_update, carry, (), length=iterations))
run = run.lower(carry).compile()
begun = time.monotonic()
jax.block_until_ready(run(carry))
print(batch * iterations / (time.monotonic() - begun))
"""
LIMITS = {10: 2_000, 20: 20_000, 30: 50_000}  # steps within which DeepSea should be solved


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: repertoires and archives at published settings."""

    seeds: int = 8
    arm_iterations: int = 1000
    sphere_iterations: int = 2000
    sizes: tuple[int, ...] = (10, 20, 30)
    """of DeepSea, for Go-Explore"""
    demonstrated_size: int = 20
    """of DeepSea, for the backward algorithm"""
    ppo_steps: int = 200_000
    qdax: str = "none"
    """Python interpreter with qdax, for evaluations per second; "none" skips it"""
    rounds: int = 5
    """of measurements of evaluations per second in both, interleaved"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


def sphere(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fitness, from 0 to 100, and descriptor of the linear projection task (Fontaine et al., 2020),
    as in QDax. x: [20].
    """
    worst = x.size * (1.4 * END) ** 2
    fitness = 100.0 * (1.0 - jnp.sum((x - 0.4 * END) ** 2) / worst)
    inside = jnp.abs(x) <= END
    clipped = jnp.where(inside, x, END / jnp.where(inside, 1.0, x))
    return fitness, clipped.reshape(2, -1).sum(1)


def repertoire(config: Config, algo: rl.MapElites, task: Any, iterations: int) -> dict[str, Any]:
    """Metrics of the archive of each seed, evaluations per second, and the first repertoire."""
    training = rl.Training(algo, task, steps=iterations, evals=1, episodes=1)
    program = jax.jit(jax.vmap(training))
    keys = jax.random.split(jax.random.key(0), config.seeds)
    program = program.lower(keys).compile()
    begun = time.monotonic()
    archive = jax.block_until_ready(program(keys))[0].archive
    seconds = time.monotonic() - begun
    fitness = np.asarray(archive.fitness, float)  # at the end: metrics are means over a row
    filled = np.isfinite(fitness)
    score = np.where(filled, fitness - algo.offset, 0.0).sum(1)
    return {
        "coverage": filled.mean(1).tolist(),
        "qd_score": score.tolist(),
        "best_fitness": fitness.max(1).tolist(),
        "evaluations_per_second": config.seeds * algo.emitter.batch * iterations / seconds,
        "fitness": [round(x, 4) if np.isfinite(x) else None for x in fitness[0].tolist()],
    }


def arm_cells() -> Grid:
    return Grid.unit(32, 32)


def sphere_cells() -> Grid:
    return Grid.between(-10 * END, 10 * END, (50, 50))


def arm(config: Config) -> dict[str, Any]:
    algo = rl.MapElites(arm_cells(), IsoLine(low=0.0, high=1.0, batch=256), offset=-1.0)
    task = archives.Function(function=arm_env.evaluate, dims=8)
    return repertoire(config, algo, task, config.arm_iterations)


def speed(config: Config) -> dict[str, Any]:
    """Evaluations per second of one seed of the arm task, here and in QDax, by round."""
    one = dataclasses.replace(config, seeds=1)
    words = [config.qdax, "-c", PEER, str(config.arm_iterations)]
    found: dict[str, list[float]] = {"jaxrl": [], "qdax": []}
    for _ in range(config.rounds):
        found["jaxrl"].append(arm(one)["evaluations_per_second"])
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found["qdax"].append(float(done.stdout))
    return found | {"where": where()}


def cma_me(config: Config) -> dict[str, Any]:
    emitter = Ranked(FullCMA(sigma=0.5, population=36), size=3)
    task = archives.Function(low=0.0, high=0.0, function=sphere, dims=20)
    algo = rl.MapElites(sphere_cells(), emitter)
    return repertoire(config, algo, task, config.sphere_iterations)


def explorer(size: int) -> rl.GoExplore:
    return rl.GoExplore(OneHot(size**2), walkers=8, num_steps=size // 2, repeat=0.0)


def go_explore(config: Config) -> dict[str, Any]:
    """Environment steps to the first episode that ends at the treasure, by size and seed."""
    found = {}
    for size in config.sizes:
        env, algo = envs.make("DeepSea-bsuite", size=size), explorer(size)
        updates = -(-2 * LIMITS.get(size, 50_000) // algo.steps_per_update)

        def run(key: jax.Array, env: Any = env, algo: Any = algo, updates: int = updates) -> Any:
            key_init, key_run = jax.random.split(key)

            def update(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
                state, metrics = algo.update(key, env, state)
                return state, metrics["best_return"]

            keys = jax.random.split(key_run, updates)
            return jax.lax.scan(update, algo.init(key_init, env), keys)[1]

        best = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), config.seeds))
        solved = np.asarray(best) > 0.5
        steps = (1 + solved.argmax(1)) * algo.steps_per_update
        found[str(size)] = np.where(solved.any(1), steps, -1).tolist()
    return found


def backward(config: Config) -> dict[str, Any]:
    """Greedy returns of PPO from the start, with and without the backward algorithm, by seed."""
    size = config.demonstrated_size
    env, algo = envs.make("DeepSea-bsuite", size=size), explorer(size)
    steps = 2 * LIMITS.get(size, 50_000)
    state, _ = jax.jit(rl.Training(algo, env, steps=steps, evals=1, episodes=1))(jax.random.key(0))
    policy = algo.policy(env, algo.agent(state), greedy=True)
    demonstration = teachers.demonstrate(0, env, policy)
    starts = teachers.Starts(env, demonstration)
    student = rl.ppo(num_envs=32, num_steps=32, lr=3e-3, network=rl.MLP((64,)))
    found: dict[str, Any] = {"demonstration": float(demonstration.rest[0])}
    for teacher in (teachers.Backward(move=1 / size, window=2 / size), teachers.Uniform()):
        taught = rl.Taught(student, teacher, num_levels=32)
        training = rl.Training(taught, starts, steps=config.ppo_steps, evals=1, episodes=4)
        keys = jax.random.split(jax.random.key(1), config.seeds)
        _, metrics = jax.jit(jax.vmap(training))(keys)
        name = type(teacher).__name__.lower()
        found[name] = np.asarray(metrics["evaluation"][:, -1], float).tolist()
    return found


PARTS: dict[str, Callable[[Config], dict[str, Any]]] = {
    "arm": arm,
    "sphere": cma_me,
    "go_explore": go_explore,
    "backward": backward,
    "speed": speed,
}


def where() -> str:
    """The machine, and its load now."""
    load = f"{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.1f}"
    return f"{jax.devices()[0].device_kind}, {load}, jax {jax.__version__}"


def measure(config: Config) -> dict[str, Any]:
    """The measurements of all parts; parts stored with the same settings are read from disk."""
    path = config.folder / "quality_diversity.json"
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    settings = {name: x for name, x in settings.items() if name not in ("folder", "qdax", "rounds")}
    stored = json.loads(path.read_text()) if path.exists() else {}
    if stored.get("settings") != settings:
        stored = {"settings": settings, "where": where()}
    config.folder.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        if name not in stored and (name != "speed" or config.qdax != "none"):
            stored[name] = part(config)
            path.write_text(json.dumps(stored) + "\n")
            print(name, "is measured", flush=True)
    return stored


def page(found: dict[str, Any]) -> str:
    """Markdown of the measurements."""
    lines = ["| task | metric | here | QDax 0.5.0 |", "|---|---|---|---|"]
    for name in ("arm", "sphere"):
        for metric, (mean, deviation) in QDAX[name].items():
            here = np.array(found[name][metric])
            other = f"{mean:,.6g}" + (f" ± {deviation:,.4g}" if deviation else "")
            lines.append(
                f"| {name} | {metric} | {here.mean():,.6g} ± {here.std(ddof=1):,.4g} | {other} |"
            )
        speed = found[name]["evaluations_per_second"]
        lines.append(f"| {name} | evaluations per second, all seeds | {speed:,.0f} | |")
    lines += ["", "| DeepSea | steps to the treasure, by seed | limit | within it |"]
    lines += ["|---|---|---|---|"]
    for size, steps in found["go_explore"].items():
        limit = LIMITS.get(int(size), 50_000)
        within = sum(0 < x <= limit for x in steps)
        each = ", ".join(f"{x:,}" if x > 0 else "not found" for x in sorted(steps))
        lines.append(f"| {size} | {each} | {limit:,} | {within} of {len(steps)} |")
    if "speed" in found:
        ratio = np.array(found["speed"]["jaxrl"]) / np.array(found["speed"]["qdax"])
        lines += [
            "",
            f"MAP-Elites on the arm does {np.median(ratio):.3g} times as many evaluations",
        ]
        lines[-1] += f" per second as QDax, one seed ({ratio.min():.3g} to {ratio.max():.3g} in"
        lines[-1] += f" {len(ratio)} interleaved rounds; {found['speed']['where']})."
    later, settings = found["backward"], found["settings"]
    solved = {name: sum(x > 0.5 for x in later[name]) for name in ("backward", "uniform")}
    return (
        f"# Repertoires and archives\n\n{found['where']}. {settings['seeds']} seeds, mean ± "
        f"standard deviation. Arm: MAP-Elites, {settings['arm_iterations']:,} iterations of 256; "
        f"sphere: CMA-ME with three strategies, {settings['sphere_iterations']:,} iterations of "
        "36. QDax has 5 and 3 seeds. Under a load above the number of cores, evaluations per "
        f"second are lower bounds.\n\n{chr(10).join(lines)}\n\nPPO on DeepSea "
        f"{settings['demonstrated_size']} in {settings['ppo_steps']:,} steps finds the treasure "
        f"from the start in {solved['backward']} of {settings['seeds']} seeds with the backward "
        f"algorithm, from a demonstration of Go-Explore, and in {solved['uniform']} without it.\n\n"
        "![heat maps of the first seeds](quality_diversity.png)\n"
    )


def picture(found: dict[str, Any]) -> Any:
    """Heat maps of the first seed's repertoires."""
    figure = rl.plot.Picture(figsize=(10.8, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    cells = {"arm": arm_cells(), "sphere": sphere_cells()}
    for ax, (name, divided) in zip(axes, cells.items(), strict=True):
        fitness = jnp.array([-jnp.inf if x is None else x for x in found[name]["fitness"]])
        rl.plot.repertoire(archives.Archive((), fitness), divided, ax=ax)
        ax.set_title(f"{name}: {ax.get_title()}")
    return figure


def main(config: Config) -> None:
    found = measure(config)
    (config.folder / "quality_diversity.md").write_text(page(found))
    picture(found).savefig(config.folder / "quality_diversity.png", dpi=110)
    print(page(found))


if __name__ == "__main__":
    main(tyro.cli(Config))
