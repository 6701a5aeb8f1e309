"""The memory of a compiled program: which arrays take it."""

from __future__ import annotations

import dataclasses
import re

from jaxrl.accelerator import hlo
from jaxrl.accelerator.tables import Table, format_bytes

ALLOCATION = re.compile(r"^allocation (\d+): size (\d+)(.*):\s*$")
VALUE = re.compile(r"^ value: <\d+ (.+?) @\d+> \(size=(\d+),offset=(\d+)\): (.*)$")
USES = {"parameter": "argument", "live-out": "result"}
SHOWN = 10
NAMED = 3


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array in the memory of a program, and those of the same size that share its place.

    bytes: of each. use: "argument", "result" or "work space". shape: of the array. arrays: how many
    share the place, as they are never needed at once. op_name, source: of the operation that makes
    the first.
    """

    bytes: int
    use: str
    shape: str
    arrays: int
    op_name: str
    source: str

    @property
    def row(self) -> tuple[str, ...]:
        """Its row of the table."""
        operation = self.op_name.rpartition("/")[2]
        shared = f"{self.arrays:,}"
        return (format_bytes(self.bytes), self.shape, self.use, shared, operation, self.source)

    @property
    def text(self) -> str:
        """Its shape, size, use and source."""
        where = f" at {self.source}" if self.source else ""
        return f"{self.shape} of {format_bytes(self.bytes)} ({self.use}{where})"


@dataclasses.dataclass(frozen=True)
class Buffers:
    """The arrays of a program, the largest first; `print` shows a table, and so does a notebook.

    total: bytes of the program's memory. Arrays of different sizes may overlap in it, so `total` is
    less than their sum. No arrays are known of a program for a TPU: its compiler lists none.
    """

    total: int
    arrays: tuple[Buffer, ...]

    @property
    def largest(self) -> str:
        """The largest arrays as text; "" where none is known."""
        return ", ".join(each.text for each in self.arrays[:NAMED])

    @property
    def tables(self) -> list[Table]:
        rows = [each.row for each in self.arrays[:SHOWN]]
        title = (
            f"{format_bytes(self.total)}: the {len(rows)} largest of {len(self.arrays):,} arrays"
        )
        return [Table(title, ("size", "array", "use", "share it", "operation", "source"), rows)]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    def _repr_html_(self) -> str:
        return "".join(table.html for table in self.tables)

    @classmethod
    def parse(cls, text: str, module: hlo.Module) -> Buffers:
        """The arrays that XLA's dump of a program lists (`buffer-assignment.txt`)."""
        found: list[Buffer] = []
        named = {name: each for body in module.by_name.values() for name, each in body.items()}
        total = 0
        for size, kind, values in _allocations(text):
            if "thread-local" in kind or "constant" in kind:
                continue
            total += size
            use = next((use for word, use in USES.items() if word in kind), "work space")
            places: dict[tuple[int, int], list[Value]] = {}
            for value in values:
                places.setdefault(value[1:3], []).append(value)
            for same in places.values():
                found.append(_buffer(same, use, module, named))
        return cls(total, tuple(sorted(found, key=lambda buffer: -buffer.bytes)))


Value = tuple[str, int, int, str]  # name, size, offset, shape


def _allocations(text: str) -> list[tuple[int, str, list[Value]]]:
    found: list[tuple[int, str, list[Value]]] = []
    for line in text.splitlines():
        if head := ALLOCATION.match(line):
            found.append((int(head[2]), head[3], []))
        elif found and (value := VALUE.match(line)):
            found[-1][2].append((value[1], int(value[2]), int(value[3]), value[4]))
    return found


def _buffer(
    values: list[Value], use: str, module: hlo.Module, named: dict[str, hlo.Instruction]
) -> Buffer:
    """An array of those that share a place. values: at least one, in the order of the dump."""
    makers = [each for each in values if " (phi)" not in each[0]] or values
    name, size, _, shape = makers[0]
    maker = named.get(re.sub(r"[{ ].*", "", name))
    return Buffer(
        bytes=size,
        use=use,
        shape=re.sub(r"\{[^}]*\}", "", shape),
        arrays=len(values),
        op_name="" if maker is None else maker.op_name,
        source="" if maker is None else module.source(maker),
    )
