"""`rl.accelerator` without its compilers: HLO texts read against numbers worked out by hand, the
targets and their errors, bounds of the time, and what the CPU's own programs launch.
"""

import dataclasses
import importlib.metadata
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import accelerator, devices
from jaxrl.accelerator import hlo, targets
from jaxrl.accelerator.buffers import Buffers
from jaxrl.accelerator.compile import callbacks, shapes_on
from jaxrl.accelerator.launches import Kernel, Launches, Loop, launches_of
from jaxrl.accelerator.roofline import bracket
from jaxrl.accelerator.tables import Table, format_bytes, format_seconds

ROOT = pathlib.Path(__file__).parent.parent
HERE = pathlib.Path(__file__).name
H100 = accelerator.target("h100")


# --------------------------------------------------------------------------------- loops of an HLO

# of a loop over an integer and 8 floats: 3 integers and 16 floats are read and written in a trip
INNER = """
%inner (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %c = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %x = f32[8]{0} get-tuple-element(%c), index=1
  %y = f32[8]{0} exponential(%x), metadata={op_name="jit(f)/while/body/exp"}
  %j = s32[] add(%i, %i)
  ROOT %t = (s32[], f32[8]{0}) tuple(%j, %y)
}
"""
BELOW = """
%below (d: (s32[], f32[8])) -> pred[] {
  %d = (s32[], f32[8]{0}) parameter(0)
  %k = s32[] get-tuple-element(%d), index=0
  %limit = s32[] constant(128)
  ROOT %lt = pred[] compare(%k, %limit), direction=LT
}
"""
UNTIL = """
%until (e: (s32[], f32[8])) -> pred[] {
  %e = (s32[], f32[8]{0}) parameter(0)
  %m = s32[] get-tuple-element(%e), index=0
  ROOT %gt = pred[] compare(%m, %m), direction=GT
}
"""
TRIPS = 'backend_config={"known_trip_count":{"n":"7"}}'


def module(*computations, entry):
    """A program: computations, and the lines of the first one."""
    lines = "\n".join(f"  {line}" for line in entry)
    head = "HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}"
    return hlo.parse(
        "\n".join([head, *computations, f"ENTRY %main (a: f32[8]) -> f32[8] {{\n{lines}\n}}"])
    )


def loop(condition, attributes=""):
    """The first computation around one loop over INNER."""
    return [
        "%a = f32[8]{0} parameter(0)",
        "%b = f32[8]{0} copy(%a)",
        "%zero = s32[] constant(0)",
        "%start = (s32[], f32[8]{0}) tuple(%zero, %b)",
        f"%w = (s32[], f32[8]{{0}}) while(%start), condition=%{condition}, body=%inner{attributes}",
        "ROOT %r = f32[8]{0} get-tuple-element(%w), index=1",
    ]


def shape_of(found):
    return [(each.path, len(each.kernels)) for each in found.loops]


def test_a_loop_counts_its_trips():
    found = launches_of(module(INNER, UNTIL, entry=loop("until", f", {TRIPS}")))
    assert shape_of(found) == [((), 1), ((7,), 2)]
    assert found.total == 1 + 7 * 2
    assert found.by_kind == {"exponential": 7, "add": 7, "copy": 1}
    assert found.bytes == 64 + 7 * (64 + 12)
    assert found.flops == 7 * (8 + 1)  # a copy has none


def test_a_loop_of_a_tpu_has_its_trips_in_its_condition():
    found = launches_of(module(INNER, BELOW, entry=loop("below")))
    assert shape_of(found) == [((), 1), ((128,), 2)]


def test_a_loop_with_trips_that_depend_on_data_counts_once_with_its_condition():
    found = launches_of(module(INNER, UNTIL, entry=loop("until")))
    assert shape_of(found) == [((), 1), ((None,), 3)]
    assert found.loops[1].label == "?"
    assert found.total == 4


OUTER = """
%outer (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %c = (s32[], f32[8]{0}) parameter(0)
  %w = (s32[], f32[8]{0}) while(%c), condition=%below, body=%inner
  %i = s32[] get-tuple-element(%w), index=0
  %x = f32[8]{0} get-tuple-element(%w), index=1
  %n = f32[8]{0} negate(%x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %n)
}
"""


def test_loops_inside_loops_multiply():
    entry = [line.replace("%inner", "%outer") for line in loop("until", f", {TRIPS}")]
    found = launches_of(module(INNER, BELOW, UNTIL, OUTER, entry=entry))
    assert sorted(shape_of(found)) == [((), 1), ((7,), 1), ((7, 128), 2)]
    assert found.total == 1 + 7 + 7 * 128 * 2
    assert {each.label for each in found.loops} == {"none", "7", "7 x 128"}


BRANCHES = """
%short (s: f32[8]) -> f32[8] {
  ROOT %s = f32[8]{0} parameter(0)
}

%long (l: f32[8]) -> f32[8] {
  %l = f32[8]{0} parameter(0)
  %l1 = f32[8]{0} negate(%l)
  ROOT %l2 = f32[8]{0} negate(%l1)
}
"""
NAMES = "branch_computations={%short, %long}"
TRUE_AND_FALSE = "true_computation=%long, false_computation=%short"


@pytest.mark.parametrize("names", [NAMES, TRUE_AND_FALSE])
def test_of_a_conditional_the_longest_branch_counts(names):
    entry = [
        "%a = f32[8]{0} parameter(0)",
        "%p = pred[] constant(true)",
        f"ROOT %q = f32[8]{{0}} conditional(%p, %a, %a), {names}",
    ]
    found = launches_of(module(BRANCHES, entry=entry))
    assert shape_of(found) == [((), 0), ((), 2)]
    assert [each.conditional for each in found.loops] == [False, True]
    assert found.loops[1].label == "none (in a branch)"


def test_a_conditional_in_a_loop_is_part_of_the_loop():
    body = INNER.replace(
        "exponential(%x)", "conditional(%i, %x, %x), branch_computations={%short, %long}"
    )
    found = launches_of(module(BRANCHES, body, BELOW, entry=loop("below")))
    assert shape_of(found) == [((), 1), ((128,), 3)]
    assert not any(each.conditional for each in found.loops)


# ------------------------------------------------------------------------ bytes, operations, lines

FUSED = """
%fused (p0: f32[100,8], p1: s32[], p2: f32[100,8], p3: f32[8]) -> f32[100,8] {
  %p0 = f32[100,8]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %part = f32[1,8]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,8}
  %row = f32[8]{0} bitcast(%part)
  %p3 = f32[8]{0} parameter(3)
  %sum = f32[8]{0} add(%row, %p3)
  %again = f32[1,8]{1,0} bitcast(%sum)
  %p2 = f32[100,8]{1,0} parameter(2)
  ROOT %put = f32[100,8]{1,0} dynamic-update-slice(%p2, %again, %p1, %zero)
}
"""


def kernel(line, *computations, operands=()):
    """The kernel of one instruction."""
    found = launches_of(module(*computations, entry=[*operands, line]))
    (one,) = found.loops[0].kernels
    return one


def test_of_slices_only_the_part_is_read_and_written():
    """A row of one array is read, 8 floats are added, and a row of another is written in place."""
    operands = [
        "%t = f32[100,8]{1,0} parameter(0)",
        "%n = s32[] parameter(1)",
        "%u = f32[100,8]{1,0} parameter(2)",
        "%v = f32[8]{0} parameter(3)",
    ]
    line = "ROOT %f = f32[100,8]{1,0} fusion(%t, %n, %u, %v), kind=kLoop, calls=%fused"
    one = kernel(line, FUSED, operands=operands)
    assert one.opcode == "fusion loop"
    assert one.bytes == 32 + 4 + 32 + 32  # a row, the index, 8 floats; a row is written
    assert one.flops == 8 + 800  # the addition, and the update counts as its result


@pytest.mark.parametrize(
    ("line", "num_bytes", "flops"),
    [
        ("%k = f32[1,8]{1,0} dynamic-slice(%x, %n, %n), dynamic_slice_sizes={1,8}", 64, 0),
        ("%k = f32[64,8]{1,0} dynamic-update-slice(%x, %v, %n, %n)", 2 * 32, 512),
        ("%k = f32[64,64]{1,0} transpose(%y), dimensions={1,0}", 2 * 16384, 0),
        # 64 x 64 sums of 64 products
        (
            "%k = f32[64,64]{1,0} dot(%y, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
            3 * 16384,
            2 * 64**3,
        ),
        (
            "%k = (f32[64,64]{1,0}, s8[4194304]{0}) custom-call(%y, %y), "
            'custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":'
            '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
            '"rhs_contracting_dimensions":["0"]}}}',
            3 * 16384 + 4194304,
            2 * 64**3,
        ),
        # 2 x 5 x 5 results of 4 channels, each of 3 x 3 x 6 products
        (
            "%k = f32[2,5,5,4]{3,2,1,0} convolution(%image, %weights), window={size=3x3}, "
            "dim_labels=b01f_01io->b01f",
            4 * (2 * 7 * 7 * 6 + 3 * 3 * 6 * 4 + 2 * 5 * 5 * 4),
            2 * 2 * 5 * 5 * 4 * 3 * 3 * 6,
        ),
        ("%k = f32[8]{0} reduce(%x, %n), dimensions={0}, to_apply=%s", 2048 + 4 + 32, 512),
        # on-chip memory of a TPU is S(1): nothing of it passes the large memory
        ("%k = f32[64,64]{1,0:T(8,128)S(1)} negate(%chip)", 0, 4096),
        (
            "%k = (f32[64,64]{1,0}, f32[64,64]{1,0}, u32[]{:S(2)}) copy-start(%y)",
            2 * 16384,
            4096,
        ),
    ],
)
def test_bytes_and_operations(line, num_bytes, flops):
    operands = [
        "%x = f32[64,8]{1,0} parameter(0)",
        "%y = f32[64,64]{1,0} parameter(1)",
        "%n = s32[] parameter(2)",
        "%v = f32[1,8]{1,0} parameter(3)",
        "%image = f32[2,7,7,6]{3,2,1,0} parameter(4)",
        "%weights = f32[3,3,6,4]{3,2,1,0} parameter(5)",
        "%chip = f32[64,64]{1,0:T(8,128)S(1)} parameter(6)",
    ]
    one = kernel(line, operands=operands)
    assert (one.bytes, one.flops) == (num_bytes, flops)


def test_a_copy_in_two_parts_is_one_launch():
    entry = [
        "%a = f32[8]{0} parameter(0)",
        "%s = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%a)",
        "ROOT %d = f32[8]{0} copy-done(%s)",
    ]
    found = launches_of(module(entry=entry))
    assert found.by_kind == {"copy-start": 1}
    assert found.bytes == 64


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[4,128]{1,0:T(4,128)}", 2048),
        ("bf16[3]{0}", 6),
        ("pred[10]{0}", 10),
        ("s4[3]{0}", 2),
        ("f32[]", 4),
        ("f8e4m3fn[16]{0}", 16),
        ("(s32[], (f32[2,3]{1,0}, u8[5]{0}), /*index=2*/c64[2])", 4 + 24 + 5 + 16),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_shape(shape, size):
    assert hlo.num_bytes(shape) == size


def test_a_tuple_of_tuples_is_one_instruction():
    line = "%w = ((s32[], f32[2]{0:T(128)}), /*index=1*/f32[3]) while(%x), condition=%c, body=%b"
    (one,) = module(entry=[line]).body("main")
    assert (one.name, one.opcode, one.operands) == ("w", "while", ("x",))
    assert (one.called("body"), one.called("condition")) == (["b"], ["c"])
    assert one.bytes == 4 + 8 + 12


FRAMES = f"""
FileNames
1 "{ROOT}/jaxrl/losses.py"
2 "/usr/lib/python3/site-packages/jax/_src/numpy/reductions.py"
3 "/home/someone/my_rule.py"

FunctionNames
1 "huber"
2 "<lambda>"

FileLocations
1 {{file_name_id=2 function_name_id=2 line=5 end_line=5 column=1 end_column=9}}
2 {{file_name_id=1 function_name_id=1 line=12 end_line=12 column=1 end_column=9}}
3 {{file_name_id=3 function_name_id=1 line=7 end_line=7 column=1 end_column=9}}

StackFrames
1 {{file_location_id=3 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=2}}
3 {{file_location_id=1 parent_frame_id=3}}
4 {{file_location_id=1 parent_frame_id=2}}
5 {{file_location_id=1 parent_frame_id=1}}

"""


@pytest.mark.parametrize(
    ("frame", "source"),
    [
        (3, "jaxrl/losses.py:12"),  # of jax, called by the kit, called by the user
        (2, "jaxrl/losses.py:12"),
        (4, "my_rule.py:7"),  # of jax, called by the user
        (5, ""),  # of jax alone
        (9, ""),
    ],
)
def test_the_line_of_an_instruction_is_the_innermost_of_kit_or_user(frame, source):
    text = f'%k = f32[8] negate(%a), metadata={{op_name="neg" stack_frame_id={frame}}}'
    found = module(FRAMES, entry=[text])
    assert found.source(found.body("main")[0]) == source


def test_the_line_of_an_instruction_with_its_file():
    text = f'%k = f32[8] negate(%a), metadata={{source_file="{ROOT}/envs/catch.py" source_line=9}}'
    found = module(entry=[text])
    assert found.source(found.body("main")[0]) == "envs/catch.py:9"


# ----------------------------------------------------------------------------------------- buffers

DUMP = """
BufferAssignment:
allocation 0: size 32, parameter 0, shape |f32[8]| at ShapeIndex {}, maybe-live-out:
 value: <1 a @0> (size=32,offset=0): f32[8]{0}
allocation 1: size 4, thread-local:
 value: <2 add @0> (size=4,offset=0): f32[]
allocation 2: size 4, constant:
 value: <3 zero @0> (size=4,offset=0): s32[]
allocation 3: size 96, preallocated-temp:
 value: <4 w{1} (phi) @0> (size=64,offset=0): f32[16]{0}
 value: <5 y @0> (size=64,offset=0): f32[16]{0}
 value: <6 b @0> (size=32,offset=64): f32[8]{0}
"""


def test_the_arrays_of_a_program():
    entry = [
        "%a = f32[8]{0} parameter(0)",
        '%y = f32[16]{0} concatenate(%a, %a), metadata={op_name="jit(f)/concatenate"}',
    ]
    found = Buffers.parse(DUMP, module(entry=entry))
    assert found.total == 32 + 96
    assert [(each.bytes, each.use, each.shape, each.arrays) for each in found.arrays] == [
        (64, "work space", "f32[16]", 2),
        (32, "argument", "f32[8]", 1),
        (32, "work space", "f32[8]", 1),
    ]
    assert found.arrays[0].op_name == "jit(f)/concatenate"
    assert "128 bytes: the 3 largest of 3 arrays" in str(found)
    assert found.largest.startswith("f32[16] of 64 bytes (work space)")


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
    ],
)
def test_a_bad_file_of_a_target(tmp_path, old, new, message):
    text = (targets.FOLDER / "h100.toml").read_text()
    assert text.count(f"\n{old}") == 1
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(f"\n{old}", f"\n{new}"))
    with pytest.raises(ValueError, match=message):
        accelerator.target(file)


# ----------------------------------------------------------------------------------- the compilers


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
    assert table.rows[0][-3:-1] == ("10 to 10", "operations")


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
