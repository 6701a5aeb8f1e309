"""`rl.accelerator` without its compilers: targets and their errors, bounds of the time, and what
the CPU's own programs launch.
"""

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import accelerator, devices
from jaxrl.accelerator import targets
from jaxrl.accelerator.compile import callbacks, shapes_on
from jaxrl.accelerator.launches import Kernel, Launches, Loop
from jaxrl.accelerator.roofline import bracket
from jaxrl.accelerator.tables import Table, format_bytes, format_seconds
from jaxrl.sweep.estimate import _calls

HERE = pathlib.Path(__file__).name
H100 = accelerator.target("h100")


# ----------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("name", accelerator.target_names())
def test_every_target_is_complete(name):
    one = accelerator.target(name)
    assert one.name == name
    assert one.kind
    assert len(one.source) > 50
    assert one.graph_seconds < one.launch_seconds < 1e-4
    assert 1e9 < one.memory < 1e12
    assert 1e11 < one.bandwidth < 1e14
    assert 1e13 < one.flops < 1e16
    if one.platform == "cuda":  # what the compiler reads is what the estimates use
        assert f"memory_bandwidth: {round(one.bandwidth)}" in one.description
        assert f"device_memory_size: {one.memory}" in one.description
        assert f'device_description_str: "{one.kind}"' in one.description


def test_an_unknown_target_leads_to_the_nearest():
    with pytest.raises(ValueError, match=r"unknown target 'h10'.*h100"):
        accelerator.target("h10")
    with pytest.raises(ValueError, match=r"'mine\.toml'; there is no such file"):
        accelerator.target("mine.toml")


@pytest.mark.parametrize("name", [3, None, b"h100"])
def test_a_target_is_a_name(name):
    with pytest.raises(TypeError, match=f"target={name!r} is not a name: write a text"):
        accelerator.target(name)


def test_the_arguments_are_a_tuple():
    with pytest.raises(TypeError, match=r"for a single one, write \(x,\)"):
        accelerator.compile_for(jnp.sin, np.ones(3), "h100")


def test_a_target_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    text = (targets.FOLDER / "h100.toml").read_text()
    file.write_text(text.replace("memory = 84942979072", "memory = 1000"))
    mine = accelerator.target(file)
    assert mine == dataclasses.replace(H100, name="mine", memory=1000)
    assert accelerator.target(str(file)) == accelerator.target(mine) == mine


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("flops =", "# flops =", "does not say flops"),
        ("flops =", "flop = 1.0\nflops =", "a target has no 'flop'.*flops"),
        ("flops =", "flops", "not a TOML file that can be read"),
        ("memory = 8", "memory = -8", "memory=-8.* is not a positive number"),
        ("flops = 6.69e13", 'flops = "fast"', "flops='fast' is not a positive number"),
        ('platform = "cuda"', 'platform = "rocm"', "platform='rocm' is neither of cuda, tpu"),
        ('kind = "NVIDIA H100 80GB HBM3"', "kind = 100", "kind=100 is not a text"),
        ("memory = 8", "memory = true # ", "memory=True is not a positive number"),
        ("memory = 8", f"memory = {10**400} # ", "is not a positive number"),
        ("memory = 8", f"memory = {'9' * 5000} # ", "not a TOML file that can be read"),
        ("flops =", f"flops = {'[' * 10**5}", "not a TOML file that can be read"),
        ("flops =", f"# {'x' * targets.MAX_BYTES}", "larger than 1,048,576 bytes"),
    ],
    ids=itertools.count(),
)
def test_a_bad_file_of_a_target(tmp_path, old, new, message):
    text = (targets.FOLDER / "h100.toml").read_text()
    assert text.count(f"\n{old}") == 1
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(f"\n{old}", f"\n{new}"))
    with pytest.raises(ValueError, match=message):
        accelerator.target(file)


# ----------------------------------------------------------------------------------- the compilers


@pytest.mark.parametrize("name", targets.DIVISORS)
@pytest.mark.parametrize("value", ["0", ""])
def test_a_description_that_would_end_the_process(installed, monkeypatch, name, value):
    installed(CUDA | {"nvidia.cudnn"})
    line = f"{name}: {value}" if value else ""
    text = re.sub(rf"{name}: \d+", line, H100.description)
    one = dataclasses.replace(ABSENT["h100"], description=text)
    with pytest.raises(ValueError, match=f"its description has no positive {name}"):
        one.device  # noqa: B018


def test_a_cpu_of_another_kind():
    one = dataclasses.replace(H100, platform="cpu", kind="abacus")
    with pytest.raises(accelerator.CompilerMissingError, match=r"kind='abacus'.*write kind='cpu'"):
        one.device  # noqa: B018


@pytest.fixture
def installed(monkeypatch):
    """Pretends that some modules, and versions of packages, are installed."""

    def pretend(modules, **versions):
        find = lambda name: object() if name in modules else None
        monkeypatch.setattr(importlib.util, "find_spec", find)
        version = lambda name: versions.get(name.replace("-", "_"), "0.10.2")
        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


CUDA = {"jax_plugins.xla_cuda13", "jax_cuda13_plugin"}
ABSENT = {
    name: dataclasses.replace(accelerator.target(name), kind="of no machine")
    for name in ("h100", "tpu-v5e")
}


@pytest.mark.parametrize("modules", [set(), {"jax_plugins.xla_cuda13"}])
def test_a_compiler_that_is_not_installed(installed, modules):
    installed(modules)
    said = accelerator.missing_compiler(ABSENT["h100"])
    assert 'extra cuda13, pip install -e ".[cuda13]"' in said
    assert 'pip install -e ".[compile]", with the environment variable' in said
    said = accelerator.missing_compiler(ABSENT["tpu-v5e"])
    assert 'extra tpu, pip install -e ".[tpu]"' in said
    assert "environment" not in said
    with pytest.raises(accelerator.CompilerMissingError, match="for h100 is not installed"):
        ABSENT["h100"].device  # noqa: B018


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_compiler_that_can_not_be_installed(installed, monkeypatch, platform):
    installed(set())
    monkeypatch.setattr("sys.platform", platform)
    assert "h100 runs on Linux only" in accelerator.missing_compiler(ABSENT["h100"])


@pytest.mark.parametrize("package", ["jax_cuda13_plugin", "jax_cuda13_pjrt"])
def test_a_compiler_of_another_version(installed, package):
    installed(CUDA, jaxlib="0.10.2", **{package: "0.9.0"})
    said = accelerator.missing_compiler(ABSENT["h100"])
    name = package.replace("_", "-")
    assert f"{name} 0.9.0 is of another version than jaxlib 0.10.2" in said
    assert '"jax-cuda13-plugin==0.10.2" "jax-cuda13-pjrt==0.10.2"' in said


def test_a_compiler_that_looks_for_cudnn(installed, monkeypatch):
    installed(CUDA)
    monkeypatch.setenv(targets.NO_CUDNN, "0")
    said = accelerator.missing_compiler(ABSENT["h100"])
    assert f"set the environment variable {targets.NO_CUDNN}=1 before Python starts" in said
    monkeypatch.setenv(targets.NO_CUDNN, "1")
    assert accelerator.missing_compiler(ABSENT["h100"]) == ""
    monkeypatch.delenv(targets.NO_CUDNN)
    installed(CUDA | {"nvidia.cudnn"})
    assert accelerator.missing_compiler(ABSENT["h100"]) == ""


# ------------------------------------------------------------------- bounds of the time, and tables

KERNEL = Kernel("k", "fusion loop", "jit(f)/mul", "a.py:1", bytes=10**6, flops=10**6)
SLOW = dataclasses.replace(
    H100, bandwidth=1e12, flops=1e12, launch_seconds=4e-6, graph_seconds=1.5e-6
)


def test_bounds_of_the_time():
    """Outside loops two short kernels; in 10 trips one that moves 1 MB, 1 us, and one of 9 MFLOP,
    so that operations take 10 us, bytes 2 us and launches 3 or 8 us.
    """
    small = dataclasses.replace(KERNEL, bytes=8, flops=2)
    busy = dataclasses.replace(KERNEL, flops=9 * 10**6)
    program = Launches((Loop((), "", "", (small, small)), Loop((10,), "", "", (KERNEL, busy))))
    found = accelerator.roofline(program, SLOW)
    assert found.fastest == pytest.approx(3e-6 + 10 * 10e-6)
    assert found.slowest == pytest.approx(8e-6 + 10 * 10e-6)
    roofs = found.roofs(program.loops[1], SLOW.launch_seconds)
    assert roofs == pytest.approx({"launches": 8e-6, "bytes": 2e-6, "operations": 10e-6})
    assert str(found) == ("103 us (1.5 us a launch, in CUDA graphs) to 108 us (4 us, without them)")
    (table,) = found.tables
    assert table.rows[0][-3:-1] == ("10 us", "operations")


def test_a_bracket_of_a_tpu_names_no_graphs():
    said = bracket(accelerator.target("tpu-v5e"), 0.5, 90.0)
    assert said == "500 ms (0.2 us an instruction) to 1:30 (1 us)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3e-6, "3 us"), (0.0042, "4.2 ms"), (42.0, "42 s"), (65.0, "1:05"), (7265.0, "2:01:05")],
)
def test_seconds_as_text(seconds, text):
    assert format_seconds(seconds) == text


def test_bytes_as_text():
    assert [format_bytes(x) for x in (12, 4200, 8.49e10)] == ["12 bytes", "4.2 kB", "84.9 GB"]


def test_a_table():
    table = Table("a <title>", ("number", "name"), [("10", "a"), ("1,000", "b & c")])
    assert str(table) == "a <title>\nnumber  name\n    10  a\n 1,000  b & c"
    assert table.html == (
        "<table><caption>a &lt;title&gt;</caption><tr><th>number</th><th>name</th></tr>"
        "<tr><td>10</td><td>a</td></tr><tr><td>1,000</td><td>b &amp; c</td></tr></table>"
    )


def test_the_most_frequent_lines():
    other = dataclasses.replace(KERNEL, source="b.py:2", op_name="jit(f)/while/body/closed_call")
    program = Launches(
        (Loop((), "", "", (KERNEL, other)), Loop((3, None), "", "", (KERNEL, KERNEL)))
    )
    found = [(count, each.label, each.source) for count, each in program.most_frequent()]
    assert found == [(7, "mul", "a.py:1"), (1, "fusion loop", "b.py:2")]
    assert len(program.most_frequent(1)) == 1
    assert "8 launches" in str(program)
    assert "3 x ?" in str(program)
    assert program._repr_html_().count("<table>") == 3


# ------------------------------------------------------------------------ programs of this process


def test_launches_of_a_program_of_this_cpu():
    """A sort in each of 3 x 5 trips, in a loop that XLA can't unroll."""

    @jax.jit
    def program(x):
        inner = lambda x, _: (jnp.sort(x)[::-1] + 1.0, None)
        outer = lambda x, _: (jnp.sin(jax.lax.scan(inner, x, length=5)[0]), x[0])
        return jax.lax.scan(outer, x, length=3)

    found = accelerator.launches(program.lower(jnp.ones(4)).compile())
    assert found.by_kind["sort"] == 15
    assert {(), (3,), (3, 5)} == {each.path for each in found.loops}
    assert found.total == sum(each.trips * len(each.kernels) for each in found.loops)
    (lines,) = {one.source for loop in found.loops for one in loop.kernels if "sort" in one.opcode}
    assert lines.startswith(HERE)


@dataclasses.dataclass(frozen=True)
class Absent:
    """What programs are compiled for, of no machine."""

    platform: str
    memory: int = 1000
    device: object = "a device"
    local_devices: tuple = ()


def test_the_platform_is_that_which_is_compiled_for():
    assert (devices.place(), devices.platform()) == (None, jax.default_backend())
    assert devices.local_devices() == jax.local_devices()
    with devices.compiling_for(Absent("cuda")):
        assert devices.platform() == "gpu"
        assert devices.local_devices() == ["a device"]
        with devices.compiling_for(Absent("tpu")):
            assert devices.platform() == "tpu"
        assert devices.platform() == "gpu"
    assert devices.place() is None
    x = np.ones(3)
    assert shapes_on(x) is x


def test_what_is_traced_for_one_platform_is_not_taken_for_another():
    traced = []

    @jax.jit
    def double(x):
        traced.append(devices.platform())
        return 2.0 * x

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    for _ in range(2):
        double.trace(shape)
        with devices.compiling_for(Absent("cuda")):
            double.trace(shape)
            with devices.compiling_for(Absent("tpu")):
                double.trace(shape)
    assert traced == [jax.default_backend(), "gpu", "tpu"]


@pytest.mark.parametrize("memory", [rl.LRU(4), rl.FFM(4)])
def test_a_memory_takes_the_parallel_scan_on_an_accelerator(memory):
    """A sequential scan is a loop, which launches its kernels at every step."""
    params = jax.eval_shape(memory.init, jax.random.key(0))
    inputs = jax.eval_shape(lambda: (memory.start(), jnp.ones((8, 4)), jnp.zeros(8, bool)))

    def has_loop():
        program = jax.make_jaxpr(lambda *case: memory.apply(*case))(params, *inputs)
        return " scan[" in str(program)

    assert has_loop()
    with devices.compiling_for(Absent("cuda")):
        assert not has_loop()


def test_calls_of_the_host_are_found_with_their_lines():
    def identity(x):
        return x

    def debug(x):
        jax.debug.print("{}", x)
        return x

    def pure(x):
        return jax.pure_callback(identity, x, x)

    def looped(x):
        return jax.lax.scan(lambda x, _: (debug(x), None), x, length=2)[0]

    def chosen(x):
        return jax.lax.cond(x[0] > 0.0, pure, lambda x: x, x)

    def mapped(x):
        return jax.vmap(debug)(x)

    def inner(x):
        return jax.jit(pure)(x)

    start = identity.__code__.co_firstlineno
    lines = {"debug": start + 4, "pure": start + 8}
    expected = {debug: "debug", looped: "debug", mapped: "debug", pure: "pure", chosen: "pure"}
    expected[inner] = "pure"
    for function, name in expected.items():
        (found,) = callbacks(jax.jit(function).trace(jnp.ones(3)))
        assert name in found
        assert found.endswith(f" at {HERE}:{lines[name]}"), found
    assert callbacks(jax.jit(jnp.sin).trace(1.0)) == []


def test_calls_of_what_is_conditional():
    """The evaluation is in a branch of a row's program; a branch of `init` is there once."""
    episode = TINY.env.max_steps
    training = dataclasses.replace(
        TINY, steps=64 * episode, evals=8, episodes=1, eval_share=2.5 / 64.0
    )
    calls = _calls(training)
    assert training.eval_rows[0].sum() == 2
    assert [calls("row", False), calls("row", True)] == [8, 2]
    assert [calls("init", False), calls("init", True)] == [1, 1]
    assert _calls(None)("run", True) == 1.0
