"""Pytest plugin: what each test file costs, and the limit of programs that each may compile.

Per file: seconds tracing, lowering, compiling and running, and the number of programs. The numbers
come from `jax.monitoring`; xdist's workers send theirs to the controller, which prints the most
expensive files and fails the session where a file compiled more programs than `costs.csv` allows
and more than 60.

A program is one request to XLA for an executable, found in the persistent cache or not, so that the
number is the same cold and warm. Single operations that are dispatched outside of `jit` are left
out: in which file they are first met depends on the order of the files.

`--programs` writes `costs.csv` anew from the files of this session; run it with `--all`.
"""

import collections
import csv
import math
import os
import pathlib
import time

import jax
import jax.nn
import jax.numpy as jnp
import pytest

TABLE = pathlib.Path(__file__).parent / "costs.csv"
KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}
HIT = "/jax/compilation_cache/cache_hits"
COLLECTION = "(imports and collection)"
SLACK = 1.15, 10  # a limit is the number measured times the first, plus the second
FREE = 60  # programs that any file may compile, as the worker that compiles a shared one varies
SHOWN = 10

OPERATIONS = {
    name.lstrip("_")
    for module in (jnp, jnp.linalg, jax.lax, jax.random, jax.nn)
    for name in dir(module)
} | {"threefry_seed", "threefry_split", "threefry_fold_in", "threefry_random_bits"}


def is_operation(fun_name: str) -> bool:
    """True for the program of one operation of jax, such as `jit(add)` or `jit__where`."""
    name = fun_name.removeprefix("jit").strip("_()")
    return name in OPERATIONS


def length_of_union(intervals) -> float:
    """Total length of overlapping intervals [(start, end)]: events nest."""
    total, last_end = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, last_end))
        last_end = max(last_end, end)
    return total


class Costs:
    """Listens to jax, and adds up per file what it hears."""

    def __init__(self):
        self.file: str | None = None
        self.intervals = collections.defaultdict(list)
        self.totals = collections.defaultdict(collections.Counter)

    def on_duration(self, event, duration, fun_name="", **_):
        if self.file is None or event not in KINDS:
            return
        now = time.perf_counter()
        kind = KINDS[event]
        self.intervals[kind].append((now - duration, now))
        if kind == "compile":
            self.totals[self.file]["operations" if is_operation(fun_name) else "programs"] += 1

    def on_event(self, event, **_):
        if self.file is not None and event == HIT:
            self.totals[self.file]["hits"] += 1

    def measure(self, file):
        """Generator that wraps a hook: all of jax until it ends counts for this file."""
        outer, self.file, self.intervals = self.file, file, collections.defaultdict(list)
        start, busy = time.perf_counter(), time.process_time()
        try:
            return (yield)
        finally:
            row = self.totals[file]
            row["wall"] += time.perf_counter() - start
            row["cpu"] += time.process_time() - busy
            for kind in KINDS.values():
                row[kind] += length_of_union(self.intervals[kind])
            row["jax"] += length_of_union(x for part in self.intervals.values() for x in part)
            self.file = outer

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        if self.file is not None:
            return (yield)
        return (yield from self.measure(COLLECTION))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.totals[item.path.name]["tests"] += 1
        return (yield from self.measure(item.path.name))

    def pytest_sessionfinish(self, session):
        worker = getattr(session.config, "workeroutput", None)
        if worker is not None:
            worker["costs"] = {file: dict(row) for file, row in self.totals.items()}
        elif offenders(self.totals, session.config) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter, config):
        if not self.totals:
            return
        terminalreporter.section("costs")
        for line in table(self.totals):
            terminalreporter.write_line(line)
        for file, number, limit in offenders(self.totals, config):
            terminalreporter.write_line(
                f"ERROR {file} compiled {number} programs; it may compile {limit}. Let its "
                "tests share programs (same sizes, one jit), or, if each is needed, raise its "
                "number in tests/costs.csv (`make costs` writes the table anew).",
                red=True,
            )
        if config.getoption("programs"):
            write(self.totals)
            terminalreporter.write_line(f"wrote {TABLE}")


class FromWorkers:
    """Adds up the costs that xdist's workers send when they end."""

    def __init__(self, costs):
        self.costs = costs

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        for file, row in getattr(node, "workeroutput", {}).get("costs", {}).items():
            self.costs.totals[file].update(row)


def read() -> dict[str, tuple[int, float]]:
    """{file: (limit of programs, seconds)} of the table."""
    with TABLE.open() as lines:
        rows = csv.DictReader(lines)
        return {row["file"]: (int(row["programs"]), float(row["seconds"])) for row in rows}


def write(totals) -> None:
    """Rewrite the rows of the files that ran; those of the others stay."""
    rows = read() | {
        file: (math.ceil(SLACK[0] * row["programs"]) + SLACK[1], round(row["wall"], 1))
        for file, row in totals.items()
        if file != COLLECTION
    }
    here = {path.name for path in TABLE.parent.glob("test_*.py")}
    with TABLE.open("w", newline="") as lines:
        out = csv.writer(lines, lineterminator="\n")
        out.writerow(["file", "programs", "seconds"])
        out.writerows([file, *rows[file]] for file in sorted(here & set(rows)))


def offenders(totals, config) -> list[tuple[str, int, int]]:
    """(file, programs, limit) of the files that compiled more than they may.

    Of whole runs (`--dist loadgroup`): a file alone also compiles what others had for it.
    """
    if config.getoption("programs") or config.getoption("dist", "no") != "loadgroup":
        return []
    limits = {file: max(limit, FREE) for file, (limit, _) in read().items()}
    numbers = {file: row["programs"] for file, row in totals.items() if file in limits}
    return [(file, n, limits[file]) for file, n in sorted(numbers.items()) if n > limits[file]]


def table(totals):
    """Lines: the most expensive files and the total, in seconds of this machine's processes."""
    seconds = "wall", "cpu", "trace", "lower", "compile", "run"
    counts = "programs", "operations", "hits", "tests"
    rows = {file: collections.Counter(row) for file, row in totals.items()}
    for row in rows.values():
        row["run"] = row["wall"] - row["jax"]
    total = collections.Counter()
    for row in rows.values():
        total.update(row)
    by_cost = sorted(rows, key=lambda file: -rows[file]["wall"])
    shown = by_cost[:SHOWN] if not os.environ.get("JAXRL_TEST_COSTS") else by_cost
    yield f"{'file':32s}" + "".join(f"{name:>11s}" for name in seconds + counts)
    for name, row in [*((file, rows[file]) for file in shown), (f"all {len(rows)}", total)]:
        cells = [f"{row[c]:10.1f}" for c in seconds] + [f"{row[c]:10d}" for c in counts]
        yield f"{name:32s}" + "".join(cells)


def pytest_addoption(parser):
    parser.addoption(
        "--programs",
        action="store_true",
        help="write tests/costs.csv anew: programs and seconds of each file that ran",
    )


def pytest_configure(config):
    costs = Costs()
    jax.monitoring.register_event_duration_secs_listener(costs.on_duration)
    jax.monitoring.register_event_listener(costs.on_event)
    config.pluginmanager.register(costs, "costs-of-files")
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(FromWorkers(costs), "costs-from-workers")
