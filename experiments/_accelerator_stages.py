"""Stages of `experiments.accelerator`: what each measures, and at what sizes.

A stage consists of parts. A part is a dictionary of arguments of the stage's function, which
returns its measurements: `compile_seconds`, `run_seconds`, and the columns of the stage's table.
"""

import dataclasses
import importlib.util
import math
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import envs
import jaxrl as rl
from envs.registry import OWN
from experiments import (
    _discovery,
    _kits,
    discover_symbolic,
    discover_ta_lpg,
    memory_speed,
    ppo_classic,
    stats_speed,
)
from experiments._settings import ROWS, UPDATE, Job
from experiments.zoo import Row
from experiments.zoo.rows import ROWS as ZOO
from experiments.zoo.rows import classic
from jaxrl import accelerator
from jaxrl.tree import replace

Part = dict[str, Any]
Measured = dict[str, Any]
SAVE_SECONDS = 10.0  # between two checkpoints of a training run that another call goes on with
CALLS = 10


class OutOfTimeError(Exception):
    """The minutes of this call are over."""


class NotHereError(Exception):
    """A stage can't be measured on this machine; the message says what it lacks."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What the stages need to know of the call.

    left: seconds that are left. runs: folder of the training runs that another call goes on with.
    target: description of the device, or None if there is none.
    """

    left: Callable[[], float]
    runs: pathlib.Path
    target: accelerator.Target | None


@dataclasses.dataclass(frozen=True)
class Stage:
    """Measurements of one kind.

    measure: function of the context and of the arguments of a part. full, toy: the parts at each
    size. columns: {name of a measurement: its title}. seconds: a guess of one part's time at full
    size, until one was measured. work: arguments of which the product is proportional to the time
    of a part. ascending: parts become larger, so that after one that fails, or does not fit the
    time, the rest is left out. instead: environment to use where gymnax is absent. goes_on: a part
    may be stopped anywhere, and another call goes on with it.
    """

    title: str
    measure: Callable[..., Measured]
    full: tuple[Part, ...]
    toy: tuple[Part, ...]
    columns: dict[str, str]
    seconds: float
    work: tuple[str, ...] = ()
    ascending: bool = False
    instead: str = ""
    goes_on: bool = False

    def parts(self, size: str) -> list[Part]:
        """The parts at the size "full" or "toy", in environments that are there."""
        parts = self.full if size == "full" else self.toy
        return [
            part | {"env": self.instead} if self.instead and missing(part) else part
            for part in parts
        ]

    def amount(self, part: Part) -> float:
        """The work of a part, in units of its own."""
        return math.prod(part[name] for name in self.work)


def missing(part: Part) -> str:
    """Why a part can't run here: the package of its environment that is not installed; or ""."""
    name = part.get("env", "")
    if not name or name in OWN:
        return ""
    package = "brax" if name.startswith("brax:") else "gymnax"
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"{package}, which has {name}, is not installed"


# -------------------------------------------------------------------------------- training runs


def sweep(context: Context, training: rl.Training, seeds: Any, **options: Any) -> Any:
    """Results of a sweep over seeds, which ends when the time does.

    With a folder, `run_seconds` is that of the whole run at the speed of this call.

    Raises:
      OutOfTimeError: the time is over; with a folder, another call goes on from a checkpoint.
    """

    whole: list[float] = []

    def check(report: rl.Report) -> None:
        if report.done_now > 0.0:
            whole.append(report.seconds / report.done_now)
        if context.left() < 0.0 and report.fraction < 1.0:
            raise OutOfTimeError

    results = rl.sweep(training, {"seed": seeds}, progress=check, **options)
    if whole and "folder" in options:
        results.attrs["run_seconds"] = round(whole[-1], 3)
    return results


def times(results: Any) -> Measured:
    """Seconds of compilation and of the run, from the attributes of a sweep."""
    return {name: float(results.attrs[name]) for name in ("compile_seconds", "run_seconds")}


def training_speed(
    context: Context, *, algorithm: str, env: str, seeds: int, steps: int, capacity: int = 10_000
) -> Measured:
    """Environment steps per second of all members, with the settings of `experiments.speed`.

    The members are in one program, if its memory suffices for them.
    """
    algo = _kits.algorithm(Job("jaxrl", seeds, steps, algorithm, capacity))
    training = rl.Training(algo, envs.make(env), steps, ROWS, 0)
    results = sweep(context, training, jnp.arange(seeds), chunk=seeds)
    spent = times(results)
    return spent | {
        "steps_per_second": round(seeds * steps / spent["run_seconds"]),
        "members_per_program": int(results.attrs["chunk"]),
    }


def zoo_row(context: Context, *, algorithm: str, env: str, seeds: int, scale: float) -> Measured:
    """Score of a row of the zoo, trained for `scale` times its number of steps.

    Its folder is deleted at the end: the record has the score and the curve.
    """
    row = row_of(algorithm, env)
    folder = context.runs / f"{row.file.removesuffix('.json')}-{scale:g}-{seeds}"
    results = sweep(
        context,
        row.training(scale),
        jnp.array(ppo_classic.TEST_SEEDS[:seeds]),
        folder=folder,
        save_seconds=SAVE_SECONDS,
    )
    score = ppo_classic.score(results)["evaluation_score"]
    curve = rl.stats.summary(results, "evaluation")["iqm"].values
    found = times(results) | {
        "steps": int(results["step"][-1]),
        "score": "{iqm:.4g} [{low:.4g}, {high:.4g}]".format(**score),
        "curve": [round(float(x), 2) for x in curve],
    }
    shutil.rmtree(folder)
    return found


def row_of(algorithm: str, env: str) -> Row:
    """The row of the zoo, or the task of `experiments.ppo_classic`."""
    for row in ZOO:
        if (row.algorithm, row.env) == (algorithm, env):
            return row
    return classic(env)


# ------------------------------------------------------------------------------- meta-learning


def discovery(context: Context, algo: Any, tasks: Any, generations: int, levels: int) -> Any:
    """Results of one meta-training run."""
    training = rl.Training(algo, tasks, generations, min(generations, ROWS), levels)
    return sweep(context, training, jax.random.split(jax.random.key(0), 1))


def ta_lpg(
    context: Context, *, pairs: int, generations: int, lifetime: int, size: int, chunk: int
) -> Measured:
    """Training runs per second in the search of `experiments.discover_ta_lpg`. chunk: runs side by
    side.
    """
    config = discover_ta_lpg.Config(
        population=2 * pairs, size=size, lifetime=(min(10, lifetime), lifetime)
    )
    search = discover_ta_lpg.evolution(config)
    search = replace(search, inner=replace(search.inner, chunk=chunk))
    spent = times(discovery(context, search, _discovery.mini(), generations, 16))
    per_second = generations * 2 * pairs / spent["run_seconds"]
    return spent | {"lifetimes_per_second": round(per_second, 1)}


def symbolic(
    context: Context, *, programs: int, children: int, candidates: int, updates: int
) -> Measured:
    """Programs per second in the search of `experiments.discover_symbolic` from random programs.

    programs: candidates of the screening, of all generations. candidates: per child.
    """
    config = discover_symbolic.Config(
        begin="nothing",
        worlds="processes",
        children=children,
        candidates=candidates,
        population=4 * children,
        updates=updates,
        screening_updates=min(updates, 12),
    )
    generations = max(programs // (children * candidates), 1)
    tasks = discover_symbolic.WORLDS["processes"](min_score=discover_symbolic.MIN_SCORE)
    results = discovery(context, discover_symbolic.search(config), tasks, generations, 16)
    spent = times(results)
    per_second = generations * children * candidates / spent["run_seconds"]
    return spent | {"programs_per_second": round(per_second, 1)}


# ---------------------------------------------------------------------------------- single programs


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the fastest of some calls, and of all of them."""
    jax.block_until_ready(call())
    started = time.monotonic()
    fastest = memory_speed.seconds(lambda: jax.block_until_ready(call()), CALLS)
    return fastest, time.monotonic() - started


def memory(context: Context, *, cell: str, length: int, batch: int, size: int) -> Measured:
    """Milliseconds of an update with a recurrent cell, as in `experiments.memory_speed`."""
    started = time.monotonic()
    update = memory_speed.update_of(memory_speed.CELLS[cell](size), batch, length)
    compiled = time.monotonic() - started
    fastest, all_calls = timed(update)
    return {
        "compile_seconds": compiled,
        "run_seconds": all_calls,
        "milliseconds": 1e3 * fastest,
    }


def bootstrap(context: Context, *, seeds: int, tasks: int, resamples: int) -> Measured:
    """Milliseconds per resample of an interval, as in `experiments.stats_speed`."""
    started = time.monotonic()
    spent = stats_speed.ours(stats_speed.Config(seeds=seeds, tasks=tasks, resamples=resamples))[
        "seconds"
    ]
    return {
        "compile_seconds": time.monotonic() - started - spent,
        "run_seconds": spent,
        "milliseconds": 1e3 * spent / resamples,
    }


def bound(context: Context, *, program: str, members: int, length: int, size: int) -> Measured:
    """Measured seconds of a program, and its bounds by `jaxrl.accelerator.roofline`.

    program: a recurrent cell, of which an update with `members` sequences is measured, or an
    algorithm, of which `length` environment steps of each of `members` training runs on Catch are.

    Raises:
      NotHereError: no target describes this device.
    """
    if context.target is None:
        raise NotHereError(
            f"no target describes {jax.devices()[0].device_kind}; --target NAME takes the "
            f"constants of one of {', '.join(accelerator.target_names())}, or of a TOML file"
        )
    started = time.monotonic()
    if program in memory_speed.CELLS:
        cell = memory_speed.CELLS[program](size)
        compiled, arguments = memory_speed.program_of(cell, members, length)
    else:
        algo = rl.PRESETS[program](network=rl.MLP((size, size)))
        training = rl.Training(algo, envs.make("Catch"), length, 1, 0)
        arguments = (jax.random.split(jax.random.key(0), members),)
        compiled = jax.jit(jax.vmap(training)).lower(*arguments).compile()
    seconds = time.monotonic() - started
    launches = accelerator.launches(compiled)
    roofs = accelerator.roofline(launches, context.target)
    fastest, all_calls = timed(lambda: compiled(*arguments))
    return {
        "compile_seconds": seconds,
        "run_seconds": all_calls,
        "measured_ms": 1e3 * fastest,
        "fastest_ms": 1e3 * roofs.fastest,
        "slowest_ms": 1e3 * roofs.slowest,
        "launches": launches.total,
        "target": context.target.name,
    }


# ---------------------------------------------------------------------------------------- the table

SPEED = {"steps_per_second": "steps/s", "members_per_program": "members per program"}
CELLS = ("GRU", "LRU", "FFM")
TOY_PPO, TOY_REPLAY = ROWS * UPDATE, 600


def members(algorithm: str, env: str, *sizes: tuple[int, int], **more: int) -> tuple[Part, ...]:
    """Parts of `training_speed` from (number of seeds, steps of each)."""
    fixed = {"algorithm": algorithm, "env": env}
    return tuple(fixed | {"seeds": seeds, "steps": steps} | more for seeds, steps in sizes)


def roofs(*programs: tuple[str, int, int, int]) -> tuple[Part, ...]:
    """Parts of `bound` from (program, members, length, size)."""
    names = ("program", "members", "length", "size")
    return tuple(dict(zip(names, program, strict=True)) for program in programs)


def zoo_rows(seeds: int, *rows: tuple[str, str, float]) -> tuple[Part, ...]:
    """Parts of `zoo_row` from (algorithm, environment, factor on the steps)."""
    return tuple({"algorithm": a, "env": e, "seeds": seeds, "scale": s} for a, e, s in rows)


BREAKOUT, PENDULUM = "Breakout-MinAtar", "brax:inverted_pendulum"

# in order of worth
STAGES = {
    "ppo": Stage(
        "PPO by its number of seeds",
        training_speed,
        members(
            *("ppo", "CartPole-v1"),
            *((1, 102_400), (64, 102_400), (1_024, 51_200), (4_096, 20_480), (16_384, 5_120)),
        ),
        members("ppo", "CartPole-v1", (1, TOY_PPO), (2, TOY_PPO)),
        SPEED,
        seconds=25.0,
        work=("seeds", "steps"),
        ascending=True,
        instead="Catch",
    ),
    "memories": Stage(
        "Recurrent cells on long sequences",
        memory,
        tuple(
            {"cell": cell, "length": 1_024, "batch": batch, "size": 256}
            for batch in (8, 128)
            for cell in CELLS
        ),
        tuple({"cell": cell, "length": 4, "batch": 2, "size": 4} for cell in CELLS),
        {"milliseconds": "ms per update"},
        seconds=10.0,
    ),
    "roofline": Stage(
        "Lower bounds of the time, and measured times",
        bound,
        roofs(
            *(("GRU", 8, 64, 64), ("GRU", 8, 1_024, 256), ("LRU", 128, 1_024, 256)),
            *(("FFM", 8, 1_024, 64), ("GTrXL", 8, 256, 256)),
            *(("ppo", 1, 2_560, 64), ("ppo", 1_024, 2_560, 64), ("dqn", 64, 1_280, 64)),
        ),
        # the sizes of both differ widely, so that the toy's ranks are not noise
        roofs(
            *(("GRU", 1, 2, 2), ("GRU", 4, 64, 32), ("LRU", 1, 2, 2), ("LRU", 8, 64, 32)),
            *(("FFM", 1, 2, 2), ("FFM", 8, 64, 16), ("GTrXL", 4, 16, 16), ("ppo", 1, 512, 4)),
        ),
        {
            "measured_ms": "measured, ms",
            "fastest_ms": "bound with CUDA graphs, ms",
            "slowest_ms": "bound without, ms",
            "launches": "launches",
            "target": "constants of",
        },
        seconds=15.0,
    ),
    "sac": Stage(
        "SAC with buffers of 100,000 transitions",
        training_speed,
        members(
            *("sac", "Pendulum-v1", (1, 5_120), (64, 5_120), (512, 2_560), (2_048, 1_280)),
            capacity=100_000,
        ),
        members("sac", "Pendulum-v1", (1, TOY_REPLAY), (2, TOY_REPLAY), capacity=1_000),
        SPEED,
        seconds=30.0,
        work=("seeds", "steps"),
        ascending=True,
    ),
    "bootstrap": Stage(
        "An interval of 1,000 seeds x 26 tasks",
        bootstrap,
        ({"seeds": 1_000, "tasks": 26, "resamples": 2_000},),
        ({"seeds": 8, "tasks": 2, "resamples": 20},),
        {"milliseconds": "ms per resample"},
        seconds=10.0,
    ),
    "dqn": Stage(
        "DQN by its number of seeds",
        training_speed,
        members("dqn", "CartPole-v1", (1, 50_000), (64, 50_000), (1_024, 20_000), (4_096, 10_000)),
        members("dqn", "CartPole-v1", (1, 2 * TOY_REPLAY), (2, 2 * TOY_REPLAY), capacity=1_000),
        SPEED,
        seconds=25.0,
        work=("seeds", "steps"),
        ascending=True,
        instead="Catch",
    ),
    "ta_lpg": Stage(
        "TA-LPG's search by its number of antithetic pairs",
        ta_lpg,
        tuple(
            {"pairs": pairs, "generations": 5, "lifetime": 60, "size": 32, "chunk": chunk}
            for pairs, chunk in ((512, 512), (32, 64))
        ),
        ({"pairs": 2, "generations": 1, "lifetime": 3, "size": 4, "chunk": 4},),
        {"lifetimes_per_second": "lifetimes/s"},
        seconds=50.0,
        work=("pairs", "generations"),
    ),
    "symbolic": Stage(
        "Symbolic search from random programs",
        symbolic,
        ({"programs": 20_480, "children": 64, "candidates": 16, "updates": 40},),
        ({"programs": 8, "children": 2, "candidates": 2, "updates": 2},),
        {"programs_per_second": "programs/s"},
        seconds=80.0,
    ),
    "zoo": Stage(
        "Rows of the zoo: MinAtar and brax",
        zoo_row,
        zoo_rows(
            32,
            *(("ppo", BREAKOUT, 10.0), ("pqn", BREAKOUT, 10.0)),
            *(("ppo", PENDULUM, 1.0), ("dqn", BREAKOUT, 1.0)),
        ),
        zoo_rows(2, ("ppo", "CartPole-v1", 0.05)),
        {"steps": "steps of each", "score": "greedy return, IQM [95 %]"},
        seconds=75.0,
        goes_on=True,
    ),
}
