"""What every test runs under, which tests run, and in what order.

- One compilation cache for all processes of a session, kept between sessions. `JAXRL_TEST_CACHE`
  names the folder (default: `~/.cache/jaxrl-tests/<jaxlib>-<processor>`); `none` is a fresh one.
- One set of flags of XLA, so that equal programs are equal entries of the cache.
- Mistakes of rank are errors everywhere, reuse of keys in the files of `KEYS_CHECKED`.
- Tests marked `rotate` run in one session of eight, those marked `rotate(n)` in one of n, by the
  number of commits (`JAXRL_TEST_RUN` sets another number); `--all` runs all, and so does asking by
  name (`::`, `-k` or `-m`). Tests marked `nightly` need `--nightly`.
- With `--dist loadgroup` the tests of a file stay on one worker, the longest files first.
"""

import functools
import gc
import hashlib
import os
import pathlib
import platform
import re
import subprocess
import tempfile
import time
import zlib
from importlib.metadata import version

# Before jax is imported. Programs here run once or twice, so that compiling takes most of the time:
# XLA's older emitters save a third of it (SAC: 7.5 s, then 4.6 s), level 1 a fifth of LLVM's part.
# Level 0 would halve it, but XLA then makes NaNs of some programs under vmap (DSAC-T).
# A jaxlib aborts at a flag that it does not know, as 0.11 does at the emitters'.
os.environ["XLA_FLAGS"] = " ".join(
    dict.fromkeys(
        [
            *os.environ.get("XLA_FLAGS", "").split(),
            "--xla_backend_optimization_level=1",
            *["--xla_cpu_use_fusion_emitters=false"] * version("jaxlib").startswith("0.10."),
        ]
    )
)

# lets the compiler for CUDA start without CUDA's libraries
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")

import jax
import pytest

pytest_plugins = ["costs"]

ROOT = pathlib.Path(__file__).parent.parent
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
KEYS_CHECKED = {
    "test_algorithms.py",
    "test_exploration.py",
    "test_off_policy.py",
    "test_rollout.py",
    "test_rules.py",
}
BY_ALGORITHM = {"test_capabilities.py", "test_algorithms.py"}  # too long for one worker
PARTS = 8
KEPT_DAYS = 30


def processor() -> str:
    """Name of the processor that compiled code is for: model and features, as a short digest."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        said = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        said = [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(repr(said).encode()).hexdigest()[:8]}"


def cache_folder() -> pathlib.Path:
    """The folder of compiled programs. What was not written for 30 days is deleted."""
    asked = os.environ.get("JAXRL_TEST_CACHE", "")
    if asked == "none":
        global FRESH  # deleted when the session ends
        FRESH = tempfile.TemporaryDirectory(prefix="jaxrl-tests-", ignore_cleanup_errors=True)
        return pathlib.Path(FRESH.name)
    home = pathlib.Path(asked or os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = (home if asked else home / "jaxrl-tests") / f"{version('jaxlib')}-{processor()}"
    folder.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for path in folder.iterdir():
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
    return folder


# A worker, and a process that a test starts, uses the folder of the session that started it.
if not IS_WORKER:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder())
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes many small objects, few of them garbage: by default a fifth of its time is for
# Python's collector.
gc.set_threshold(20_000, 50, 100)


@pytest.fixture(autouse=True, scope="module")
def key_reuse(request):
    """Reuse of keys is an error where keys are split; it walks each jaxpr a second time."""
    jax.config.update("jax_debug_key_reuse", request.path.name in KEYS_CHECKED)
    yield
    jax.config.update("jax_debug_key_reuse", False)


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    """A folder to work in, for programs that otherwise have a process: experiments and notebooks.

    They ask for all cores, which jax grants before it has started only; and what they leave behind
    (figures, the working directory, jax's configuration) is put back.
    """
    import matplotlib.pyplot as plt

    import jaxrl as rl

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rl, "use_all_cores", lambda *_, **__: jax.local_device_count())
    before = dict(jax.config.values)
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with jax.numpy_rank_promotion("allow"):
            yield tmp_path
    finally:
        plt.close("all")
        plt.switch_backend(backend)
        for name, value in jax.config.values.items():
            if value is not before[name]:
                jax.config.update(name, before[name])


# ---------------------------------------------------------------------------------- what runs, when


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run all tests marked rotate")
    parser.addoption("--nightly", action="store_true", help="run the tests marked nightly, too")


def run_number() -> int:
    """Which part of the rotating tests this session runs; workers are handed the controller's."""
    if "JAXRL_TEST_RUN" not in os.environ:
        words = ["git", "rev-list", "--count", "HEAD"]
        count = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
        os.environ["JAXRL_TEST_RUN"] = count.strip() or "0"
    return int(os.environ["JAXRL_TEST_RUN"])


def pytest_report_header(config):
    which = "all" if config.getoption("--all") else f"{run_number() % PARTS + 1} of {PARTS}"
    return [
        f"rotating tests: {which} (JAXRL_TEST_RUN={run_number()})",
        f"compiled programs: {os.environ['JAX_COMPILATION_CACHE_DIR']}",
    ]


def pytest_terminal_summary(terminalreporter):
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(
            f"The same choice of rotating tests: JAXRL_TEST_RUN={run_number()} make test", red=True
        )


@functools.cache
def rotating_names() -> tuple[str, ...]:
    """The lines of tests/rotating.txt."""
    lines = (pathlib.Path(__file__).parent / "rotating.txt").read_text().splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


@functools.cache
def rotating() -> re.Pattern:
    """The tests that tests/rotating.txt names, as "file::test[case]"."""
    names = rotating_names()
    parts = "|".join(re.escape(name).replace(r"\*", "[^[]*") for name in names)
    return re.compile(rf"({parts})(::.*|\[.*)?")


def is_taken(item, config, by_name) -> bool:
    if item.get_closest_marker("nightly"):
        return config.getoption("--nightly")
    rotates = item.get_closest_marker("rotate")
    if not rotates or config.getoption("--all") or by_name:
        return True
    (parts,) = rotates.args or (PARTS,)
    return zlib.crc32(turn_of(item).encode()) % parts == run_number() % parts


def turn_of(item) -> str:
    """Tests that share their programs take turns together: a whole file, or one algorithm."""
    file = item.nodeid.partition("::")[0].rpartition("/")[2]
    if file in rotating_names():
        return file
    group = group_of(item) if file in BY_ALGORITHM else file
    return item.nodeid if group == file else group


def group_of(item) -> str:
    """Tests of one group run on one worker, in order: they share modules' fixtures and caches."""
    file = item.path.name
    if file in BY_ALGORITHM and hasattr(item, "callspec"):
        from members import MEMBERS

        name = item.callspec.params.get("name")
        return f"{file}:{name}" if name in MEMBERS else file
    return file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    import costs

    for item in items:
        if rotating().fullmatch(f"{item.path.name}::{item.nodeid.split('::', 1)[1]}"):
            item.add_marker(pytest.mark.rotate)
    asked = any("::" in word for word in config.args)
    by_name = asked or config.option.keyword or config.option.markexpr
    left_out = [item for item in items if not is_taken(item, config, by_name)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if is_taken(item, config, by_name)]
    if config.getoption("dist", "no") != "loadgroup" and not IS_WORKER:
        return
    seconds = {file: cost for file, (_, cost) in costs.read().items()}
    groups = {item: group_of(item) for item in items}
    num_groups: dict[str, set[str]] = {}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
        num_groups.setdefault(item.path.name, set()).add(group)
    cost = lambda item: seconds.get(item.path.name, 1e3) / len(num_groups[item.path.name])
    items.sort(key=lambda item: (-cost(item), groups[item]))
