"""HLO texts of compiled programs, read: launches, bytes, operations, lines of source and arrays
against numbers worked out by hand. Nothing compiles.
"""

import pathlib

import pytest

from jaxrl.accelerator import hlo
from jaxrl.accelerator.buffers import Buffers
from jaxrl.accelerator.launches import launches_of

ROOT = pathlib.Path(__file__).parent.parent


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
        # of a TPU: 10 products of 4 x 6 and 6 x 5, with the batch as a window
        (
            "%k = f32[10,4,5]{2,1,0} convolution(%left, %right), "
            "window={size=10 stride=9 lhs_dilate=10}, dim_labels=0bf_0io->0bf",
            4 * (10 * 4 * 6 + 10 * 6 * 5 + 10 * 4 * 5),
            2 * 10 * 4 * 5 * 6,
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
        "%left = f32[10,4,6]{2,1,0} parameter(7)",
        "%right = f32[10,6,5]{2,1,0} parameter(8)",
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
4 "{ROOT}/jaxrl/tree.py"

FunctionNames
1 "huber"
2 "<lambda>"

FileLocations
1 {{file_name_id=2 function_name_id=2 line=5 end_line=5 column=1 end_column=9}}
2 {{file_name_id=1 function_name_id=1 line=12 end_line=12 column=1 end_column=9}}
3 {{file_name_id=3 function_name_id=1 line=7 end_line=7 column=1 end_column=9}}
4 {{file_name_id=4 function_name_id=1 line=3 end_line=3 column=1 end_column=9}}

StackFrames
1 {{file_location_id=3 parent_frame_id=1}}
2 {{file_location_id=2 parent_frame_id=2}}
3 {{file_location_id=1 parent_frame_id=3}}
4 {{file_location_id=1 parent_frame_id=2}}
5 {{file_location_id=1 parent_frame_id=1}}
6 {{file_location_id=4 parent_frame_id=3}}
7 {{file_location_id=4 parent_frame_id=1}}

"""


@pytest.mark.parametrize(
    ("frame", "source"),
    [
        (3, "jaxrl/losses.py:12"),  # of jax, called by the kit, called by the user
        (2, "jaxrl/losses.py:12"),
        (4, "my_rule.py:7"),  # of jax, called by the user
        (5, ""),  # of jax alone
        (6, "jaxrl/losses.py:12"),  # of a helper, called by the kit
        (7, "jaxrl/tree.py:3"),  # of a helper alone
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
