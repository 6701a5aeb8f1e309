"""The text of a compiled XLA program, read: computations, instructions, loops and source lines."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import re
import sysconfig
from collections.abc import Iterable

# of the text: NAME (parameters) -> result {, or since 2026 also with attributes behind
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
OPERAND = re.compile(r"%([\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
BITS = {"pred": 8, "token": 0, "opaque": 0, "tuple": 0}
ROOT = pathlib.Path(__file__).parents[2]
KIT = (ROOT / "jaxrl", ROOT / "envs")
# called from everywhere: their caller says more
HELPERS = {ROOT / "jaxrl" / "packing.py", ROOT / "jaxrl" / "tree.py"}
LIBRARIES = {"site-packages", "dist-packages"}
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
MAX_FRAMES = 100
TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of optimized HLO.

    shape: as text. operands: names of instructions of the same computation. rest: the attributes,
    as text.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @functools.cached_property
    def bytes(self) -> int:
        """Bytes of its results."""
        return num_bytes(self.shape)

    @property
    def first_bytes(self) -> int:
        """Bytes of its first result."""
        found = SHAPE.search(self.shape)
        return num_bytes(found[0]) if found else 0

    @functools.cached_property
    def elements(self) -> int:
        """Number of elements of its first result."""
        found = SHAPE.search(self.shape)
        return math.prod(_dims(found[2])) if found else 0

    @property
    def dims(self) -> list[int]:
        """Lengths of the axes of its first result."""
        found = SHAPE.search(self.shape)
        return _dims(found[2]) if found else []

    def called(self, attribute: str) -> list[str]:
        """The computations that an attribute such as `calls` names."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.rest)
        return re.findall(r"[\w.\-]+", found[1]) if found else []

    @property
    def branches(self) -> list[str]:
        """The computations that a conditional chooses from."""
        return self.called("branch_computations") or [
            *self.called("true_computation"),
            *self.called("false_computation"),
        ]

    @property
    def op_name(self) -> str:
        """The JAX operation that it was made from, with the functions around it; "" if unknown."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: its computations by name, and that in which it begins."""

    computations: dict[str, list[Instruction]]
    entry: str
    tables: dict[str, dict[int, str]]

    def body(self, name: str) -> list[Instruction]:
        return self.computations.get(name, [])

    @functools.cached_property
    def by_name(self) -> dict[str, dict[str, Instruction]]:
        """Instructions by their computation and name."""
        return {
            computation: {each.name: each for each in instructions}
            for computation, instructions in self.computations.items()
        }

    def trips(self, loop: Instruction) -> int | None:
        """The trips of a while loop; None where they depend on data.

        XLA writes them for CPUs and GPUs. For a TPU they are the limit of the condition's
        comparison, as JAX's own loops count from 0 in ones.
        """
        found = TRIPS.search(loop.rest)
        if found:
            return int(found[1])
        scope = [each for name in loop.called("condition") for each in self.body(name)]
        root = next((each for each in scope if each.is_root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return None
        limits = [
            each for each in scope if each.name == root.operands[1] and each.opcode == "constant"
        ]
        return int(limits[0].rest.partition(")")[0]) if limits else None

    def source(self, instruction: Instruction) -> str:
        """The innermost line of the kit or of the user that the instruction was traced from, as
        "file.py:12"; "" where it is not known.
        """
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        if found is None:
            return self._line_in_metadata(instruction)
        lines, frame = [], int(found[1])
        while frame in self.tables["StackFrames"] and len(lines) < MAX_FRAMES:
            location = self._number("StackFrames", frame, "file_location_id")
            file = self._number("FileLocations", location, "file_name_id")
            name = self.tables["FileNames"].get(file, "").strip('"')
            lines.append((name, self._number("FileLocations", location, "line")))
            # XLA writes 1 more than the parent's number, and 1 for none
            frame = self._number("StackFrames", frame, "parent_frame_id") - 1
        return own_line(lines)

    def _line_in_metadata(self, instruction: Instruction) -> str:
        found = re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.rest)
        return own_line([(found[1], int(found[2]))]) if found else ""

    def _number(self, table: str, row: int, field: str) -> int:
        found = re.search(rf"\b{field}=(\d+)", self.tables[table].get(row, ""))
        return int(found[1]) if found else 0


def parse(text: str) -> Module:
    """The program of `compiled.as_text()`."""
    computations: dict[str, list[Instruction]] = {}
    tables: dict[str, dict[int, str]] = {name: {} for name in TABLES}
    entry, name, table = "", "", ""
    for line in text.splitlines():
        if line in tables:
            table = line
        elif table and (row := re.match(r"(\d+) (.*)", line)):
            tables[table][int(row[1])] = row[2]
        elif not line.startswith(" ") and (head := COMPUTATION.match(line)):
            name, table = head[2], ""
            computations[name] = []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name and " = " in line:
            computations[name].append(_instruction(line.strip()))
    return Module(computations, entry, tables)


def num_bytes(shape: str) -> int:
    """Bytes of a shape as HLO writes it, such as f32[4,128]{1,0}; of a tuple, of all its parts.

    What is in another memory than the large one counts 0, as a TPU's on-chip memory, S(1).
    """
    total = 0
    for kind, dims, layout in SHAPE.findall(shape):
        if "S(" in layout:
            continue
        digits = re.search(r"\d+", kind)
        bits = BITS[kind] if kind in BITS else int(digits[0]) if digits else 0
        total += -(-math.prod(_dims(dims)) * bits // 8)
    return total


def _instruction(line: str) -> Instruction:
    left, right = line.split(" = ", 1)
    shape, right = _split_shape(right)
    opcode, _, rest = right.partition("(")
    inside, rest = _split_brackets(rest)
    return Instruction(
        name=left.removeprefix("ROOT ").strip().lstrip("%"),
        opcode=opcode.strip(),
        shape=shape,
        operands=tuple(OPERAND.findall(inside)),
        rest=rest if opcode.strip() not in ("parameter", "constant") else f"{inside}){rest}",
        is_root=left.startswith("ROOT "),
    )


def _split_shape(text: str) -> tuple[str, str]:
    """The shape at the start of a text, which may be a tuple, and the rest."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    inside, rest = _split_brackets(text[1:])
    return f"({inside})", rest.lstrip()


def _split_brackets(text: str) -> tuple[str, str]:
    """What is before the bracket that closes one opened before `text`, and what follows it."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:i], text[i + 1 :]
    return text, ""


def _dims(text: str) -> list[int]:
    return [int(x) for x in text.split(",") if x]


def own_line(lines: Iterable[tuple[str, int]]) -> str:
    """The first line that is of no other library and no helper, of files and lines from the
    innermost; "" without one.
    """
    helper = ""
    for name, line in lines:
        file = pathlib.Path(name)
        if file in HELPERS:
            helper = helper or f"{file.relative_to(ROOT)}:{line}"
        elif any(file.is_relative_to(folder) for folder in KIT):
            return f"{file.relative_to(ROOT)}:{line}"
        elif (
            name and LIBRARIES.isdisjoint(file.parts) and not file.is_relative_to(STANDARD_LIBRARY)
        ):
            return f"{file.name}:{line}"
    return helper
