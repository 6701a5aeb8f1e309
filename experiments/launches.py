"""Launches, bytes and memory of PPO, DQN and SAC on accelerators that are not here, in this kit,
rejax and jaxnasium: `python -m experiments.launches`.

Each program is compiled for the target in a process of its own (extras `compile`, `tpu`, `bench`).
Nothing is run. `--levers` compiles this kit's programs again without each of the measures that save
launches, and with those that did not.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import tyro

from experiments._kits import algorithm
from experiments._peers import jaxnasium_program, rejax_program
from experiments._settings import TASKS, Job

STEPS = {"ppo": 102_400, "dqn": 20_000, "sac": 2_000}  # of each member
KITS = ("jaxrl", "rejax", "jaxnasium")
MEMORY = 80e9  # bytes, of the last column
RECORD, PAGE = "launches.json", "accelerator.md"


@dataclasses.dataclass(frozen=True)
class Config:
    """Launches, bytes and memory on accelerators that are not here, in several kits."""

    targets: tuple[str, ...] = ("h100", "tpu-v5e")
    algorithms: tuple[str, ...] = tuple(STEPS)
    kits: tuple[str, ...] = KITS
    members: int = 1024
    levers: bool = True
    """also this kit's programs without each measure that saves launches, for the first target"""
    folder: pathlib.Path = pathlib.Path(__file__).parent / "results"


SMOKE = Config(targets=("h100",), algorithms=("dqn",), kits=("jaxrl",), members=2, levers=False)


def program(kit: str, name: str, members: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A training of all members as a function, and its arguments. It returns the metrics, and
    whatever else the kit's own training returns.
    """
    job = Job(kit, members, STEPS[name], name)
    if kit == "rejax":
        function, keys = rejax_program(job)
        return function, (keys,)
    if kit == "jaxnasium":
        import equinox

        train, keys, arrays = jaxnasium_program(job, apart=True)
        return lambda *x: equinox.filter(train(*x), equinox.is_array), (keys, arrays)
    import envs
    import jaxrl as rl

    training = rl.Training(algorithm(job), envs.make(job.task.env), job.steps, 1, 0)
    keys = jax.random.split(jax.random.key(0), members)
    return jax.vmap(lambda key: training(key)), (keys,)


def measure(kit: str, name: str, target: str, members: int, lever: str = "") -> dict[str, Any]:
    """What one program takes. lever: a measure that is left out or added (`LEVERS`)."""
    from jaxrl import accelerator

    with LEVERS[lever][1]() if lever else contextlib.nullcontext():
        function, arguments = program(kit, name, members)
        compiled = accelerator.compile_for(function, arguments, target)
    launches, size = compiled.launches, compiled.memory_analysis()
    bounds = accelerator.roofline(launches, compiled.target)
    return {
        "kit": kit,
        "algorithm": name,
        "target": target,
        "members": members,
        "lever": lever,
        "launches": launches.total,
        "bytes_moved": launches.bytes,
        "memory": compiled.bytes,
        "work_space": size.temp_size_in_bytes,
        "compile_seconds": round(compiled.compile_seconds, 1),
        "fastest": bounds.fastest,
        "slowest": bounds.slowest,
        "loops": [
            {"path": loop.label, "launches": len(loop.kernels), "source": loop.source}
            for loop in sorted(launches.loops, key=lambda x: -x.trips * len(x.kernels))[:4]
        ],
    }


# ----------------------------------------------------------------------------------------- measures


def _without(name: str, replacement: Any) -> Callable[[], Any]:
    """A context in which a function of `jaxrl.packing` is another one."""

    def patched() -> Any:
        from jaxrl import packing

        return mock.patch.object(packing, name, replacement)

    return patched


def _without_draws() -> Any:
    import jaxrl as rl

    return mock.patch.object(rl.OffPolicy, "_draws_at_once", return_value=False)


def _without_short() -> Any:
    from jaxrl import gathers

    return mock.patch.object(gathers, "is_short", return_value=False)


@contextlib.contextmanager
def _packing_params() -> Iterator[None]:
    """A context in which the carry of gradient steps is packed."""
    from jaxrl import packing

    mean_scan = packing.mean_scan

    def packed(step: Any, carry: Any, xs: Any, counted: Any = None) -> Any:
        def stepped(now: Any, x: Any) -> tuple[Any, Any]:
            after, row = step(now.unpack(), x)
            return packing.pack(after), row

        last, means = mean_scan(stepped, packing.pack(carry), xs, counted)
        return last.unpack(), means

    with mock.patch.object(packing, "mean_scan", packed):
        yield


@contextlib.contextmanager
def _unrolled() -> Iterator[None]:
    """A context in which short scans are unrolled."""
    scan = jax.lax.scan

    def unrolled(step: Any, carry: Any, xs: Any = None, length: Any = None, **options: Any) -> Any:
        steps = len(jax.tree.leaves(xs)[0]) if length is None else length
        if steps <= 8:
            options["unroll"] = steps
        return scan(step, carry, xs, length, **options)

    with mock.patch.object(jax.lax, "scan", unrolled):
        yield


def _rows_one_by_one(tree: Any) -> Any:
    return lambda index: jax.tree.map(lambda x: x[index], tree)


def _whole(function: Any, x: Any, pieces: int) -> Any:
    return function(x)


@contextlib.contextmanager
def _without_all() -> Iterator[None]:
    from jaxrl import packing

    nothing = lambda: False
    with (
        _without_short(),
        mock.patch.object(packing, "packs", nothing),
        mock.patch.object(packing, "packs_storage", nothing),
    ):
        yield


@contextlib.contextmanager
def _masked() -> Iterator[None]:
    """A context in which a log-probability is a sum with a mask, in place of a gather."""
    import jax.numpy as jnp

    from jaxrl.distributions import Categorical

    def log_prob(self: Any, value: jax.Array) -> jax.Array:
        places = jnp.arange(self.logits.shape[-1]).reshape((1,) * value.ndim + (-1,))
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.where(value[..., None] == places, log_p, 0.0), axis=-1)

    with mock.patch.object(Categorical, "log_prob", log_prob):
        yield


EVERY, OFF = tuple(STEPS), ("dqn", "sac")
# name: (what it is, a context in which programs are traced with it, the algorithms that it changes)
LEVERS: dict[str, tuple[str, Callable[[], Any], tuple[str, ...]]] = {
    "scan": (
        "without: carried and stacked arrays of the rollout packed",
        _without("scan", jax.lax.scan),
        ("ppo",),
    ),
    "sums": (
        "without: metrics of gradient steps summed in their loop, and its scalars before it",
        _without("sums_in_loop", lambda length: False),
        ("dqn",),
    ),
    "scalars": (
        "without: what depends on scalars alone as one kernel, in both loops",
        _without("packs_scalars", lambda: False),
        ("dqn",),
    ),
    "draws": (
        "without: the batches of all gradient steps drawn at once",
        _without_draws,
        ("dqn",),
    ),
    "short": ("without: reductions over few actions written out", _without_short, ("ppo", "dqn")),
    "rows": ("without: one gather for a minibatch", _without("rows", _rows_one_by_one), ("ppo",)),
    "vectors": (
        "without: one norm over all gradients",
        _without("vectors", jax.tree.leaves),
        EVERY,
    ),
    "replay": (
        "without: a transition of the replay in one array",
        _without("packs_storage", lambda: False),
        OFF,
    ),
    "means": (
        "without: one mean over several metrics",
        _without("means", lambda arrays: {name: x.mean() for name, x in arrays.items()}),
        ("dqn",),
    ),
    "pieces": ("without: the rollout read in pieces", _without("in_pieces", _whole), ("ppo",)),
    "all": ("without all of these", _without_all, EVERY),
    "params": (
        "with: parameters and moments packed too, inside the loop of gradient steps",
        _packing_params,
        ("ppo", "dqn"),
    ),
    "masks": ("with: log-probabilities by a mask rather than a gather", _masked, ("ppo",)),
    "unroll": ("with: up to 8 gradient steps unrolled", _unrolled, ("dqn",)),
}


# ----------------------------------------------------------------------------------------- the page


def child(words: list[str]) -> dict[str, Any]:
    """A measurement in a process of its own; or `failed`, the reason why there is none."""
    code = (
        "import json, sys; from experiments.launches import measure; "
        "print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), "
        "sys.argv[5])))"
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True
    )
    keys = ("kit", "algorithm", "target", "members", "lever")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return dict(zip(keys, [*words[:3], int(words[3]), words[4]], strict=True)) | {
            "failed": reason[:300]
        }
    return json.loads(done.stdout.splitlines()[-1])


def jobs(config: Config) -> list[list[str]]:
    """The words of each measurement."""
    found = [
        [kit, name, target, str(config.members), ""]
        for target in config.targets
        for name in config.algorithms
        for kit in config.kits
    ]
    if config.levers:
        found += [
            ["jaxrl", name, config.targets[0], str(config.members), lever]
            for name in config.algorithms
            for lever, (_, _, changed) in LEVERS.items()
            if name in changed
        ]
    return found


def main(config: Config) -> None:
    path = config.folder / RECORD
    record: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for i, words in enumerate(todo := jobs(config)):
        print(f"{i + 1} of {len(todo)}: {' '.join(words)}", flush=True)
        row = child(words) | {
            "jax": importlib.metadata.version("jax"),
            "date": datetime.date.today().isoformat(),
        }
        print("   ", row.get("failed") or f"{row['launches']:,} launches", flush=True)
        same = ("kit", "algorithm", "target", "members", "lever")
        record = [old for old in record if any(old[key] != row[key] for key in same)] + [row]
        config.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        (config.folder / PAGE).write_text(page(record))


def page(record: list[dict[str, Any]]) -> str:
    """The page of all measurements."""
    order = lambda row: (list(STEPS).index(row["algorithm"]), KITS.index(row["kit"]))
    measured = sorted((row for row in record if "failed" not in row), key=order)
    plain = [row for row in measured if not row["lever"]]
    lines = [
        "# On accelerators that are not here",
        "",
        "Compiled for the target by `python -m experiments.launches`, and not run: launches and "
        "bytes of a training of "
        f"{max((row['members'] for row in plain), default=0):,} members, by "
        "[rl.accelerator](../../docs/accelerators.md). On a TPU a launch is an instruction of the "
        "program. Memory is all that XLA allots (results and work space; what one kit returns is "
        "another's work space), the time is bounded by the roofline, with and without CUDA graphs. "
        f"jax {', '.join(sorted({row['jax'] for row in record}))}; "
        f"{max((row['date'] for row in record), default='')}.",
        "",
    ]
    for target in dict.fromkeys(row["target"] for row in plain):
        lines += [
            f"## {target}",
            "",
            "| algorithm | kit | launches a step | to this kit's | bytes moved | memory "
            "| work space | members in 80 GB | seconds at least | compilation |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        rows = [row for row in plain if row["target"] == target]
        own = {row["algorithm"]: row for row in rows if row["kit"] == "jaxrl"}
        lines += [_row(row, own.get(row["algorithm"])) for row in rows]
        lines += [
            f"| {TASKS[row['algorithm']].title} | {row['kit']} | {row['failed']} |"
            for row in record
            if "failed" in row and row["target"] == target and not row["lever"]
        ]
        lines += [""]
    lines += _levers(measured)
    lines += [
        "## Loops of this kit",
        "",
        "| algorithm | target | trips | launches a trip | loop |",
        "|---|---|---|---:|---|",
    ]
    lines += [
        f"| {TASKS[row['algorithm']].title} | {row['target']} | {loop['path']} "
        f"| {loop['launches']} | `{loop['source'] or 'outside'}` |"
        for row in plain
        if row["kit"] == "jaxrl"
        for loop in row["loops"]
    ]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any], own: dict[str, Any] | None) -> str:
    ratio = "" if own in (None, row) else f"{row['launches'] / own['launches']:.2f}x"
    each = row["memory"] / row["members"]
    return (
        f"| {TASKS[row['algorithm']].title} | {row['kit']} "
        f"| {row['launches'] / STEPS[row['algorithm']]:.2f} | {ratio} "
        f"| {row['bytes_moved'] / 1e12:.2f} TB | {row['memory'] / 1e6:,.0f} MB "
        f"| {row['work_space'] / 1e6:,.0f} MB | {MEMORY / each:,.0f} "
        f"| {row['fastest']:.1f} to {row['slowest']:.1f} | {row['compile_seconds']:.0f} s |"
    )


def _levers(measured: list[dict[str, Any]]) -> list[str]:
    """The table of measures, each as a ratio to the program as it is."""
    rows = [row for row in measured if row["lever"]]
    if not rows:
        return []
    names = list(dict.fromkeys(row["algorithm"] for row in rows))
    lines = [
        "## Measures, one by one",
        "",
        "Launches (and memory) relative to the program as it is, above 1 where it has fewer. What "
        "is listed as `with` was tried and left out.",
        "",
        f"| measure | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for lever, (title, _, _) in LEVERS.items():
        cells = []
        for name in names:
            here = [row for row in rows if (row["lever"], row["algorithm"]) == (lever, name)]
            base = [
                row
                for row in measured
                if not row["lever"]
                and (row["kit"], row["algorithm"]) == ("jaxrl", name)
                and here
                and row["target"] == here[0]["target"]
            ]
            cells.append(
                f"{here[0]['launches'] / base[0]['launches']:.2f} "
                f"({here[0]['memory'] / base[0]['memory']:.2f})"
                if here and base
                else ""
            )
        lines += [f"| {title} | {' | '.join(cells)} |"]
    return [*lines, ""]


if __name__ == "__main__":
    main(tyro.cli(Config))
