"""What a compiled program launches: kernels and calls of libraries, in each of its loops."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from typing import Any

import jax

from jaxrl.accelerator import hlo
from jaxrl.accelerator.tables import Table

# instructions that no kernel is launched for
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency", "domain", "get-dimension-size",
}  # fmt: skip
LAYOUT = ("bitcast", "reshape", "transpose", "copy", "convert")
PARTS = {"dynamic-slice", "slice", "gather"}  # read a part of their first operand
PRODUCTS = ("__cublas$gemm", "__cublas$lt$matmul")
SCOPES = {"closed_call", "body", "while", "cond"}  # ends of names that say where, and not what
MOST_FREQUENT = 10
Path = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction that is launched.

    opcode: of HLO; of a fusion with its kind. op_name: the JAX operation. source: file:line.
    bytes: read and written, where a slice of an array counts as the slice. flops: operations.
    """

    name: str
    opcode: str
    op_name: str
    source: str
    bytes: int
    flops: int

    @property
    def label(self) -> str:
        """The last part of the JAX operation, or of HLO where there is none."""
        name = self.op_name.rpartition("/")[2]
        return name if name and name not in SCOPES else self.opcode


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop, or the program outside loops, for which `path` is empty.

    path: the trips of each loop around it and of its own, the outermost first; None where they
    depend on data. kernels: of one trip, without those of loops inside. conditional: in a branch
    that a call may leave out as a whole, such as the evaluation in a program of one row.
    """

    path: Path
    op_name: str
    source: str
    kernels: tuple[Kernel, ...]
    conditional: bool = False

    @property
    def trips(self) -> int:
        """Trips of its body in one call of the program; an unknown number counts as 1."""
        return math.prod(trips or 1 for trips in self.path)

    @property
    def bytes(self) -> int:
        """Bytes that one trip reads and writes."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Operations of one trip."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def label(self) -> str:
        """Its trips as text: "10 x 128"."""
        trips = " x ".join("?" if trips is None else f"{trips:,}" for trips in self.path) or "none"
        return f"{trips} (in a branch)" if self.conditional else trips


@dataclasses.dataclass(frozen=True)
class Launches:
    """The launches of a program, by loop; `print` shows a table, and so does a notebook."""

    loops: tuple[Loop, ...]

    @property
    def total(self) -> int:
        """Launches of one call of the program."""
        return sum(loop.trips * len(loop.kernels) for loop in self.loops)

    @property
    def bytes(self) -> int:
        """Bytes that one call of the program reads and writes."""
        return sum(loop.trips * loop.bytes for loop in self.loops)

    @property
    def flops(self) -> int:
        """Operations of one call of the program."""
        return sum(loop.trips * loop.flops for loop in self.loops)

    @property
    def by_kind(self) -> dict[str, int]:
        """Launches of each kind of instruction, the most frequent first."""
        counts: collections.Counter[str] = collections.Counter()
        for loop in self.loops:
            for kernel in loop.kernels:
                counts[kernel.opcode] += loop.trips
        return dict(counts.most_common())

    def most_frequent(self, number: int = MOST_FREQUENT) -> list[tuple[int, Kernel]]:
        """The lines of source that are launched most often, with a kernel of each.

        Launches of one line and one operation count together.
        """
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        examples: dict[tuple[str, str], Kernel] = {}
        for loop in self.loops:
            for kernel in loop.kernels:
                key = kernel.source, kernel.label
                counts[key] += loop.trips
                examples.setdefault(key, kernel)
        return [(count, examples[key]) for key, count in counts.most_common(number)]

    @property
    def tables(self) -> list[Table]:
        loops = sorted(self.loops, key=lambda loop: -loop.trips * len(loop.kernels))
        return [
            Table(
                f"{self.total:,} launches",
                ("launches", "in one trip", "trips", "loop"),
                [
                    (
                        f"{loop.trips * len(loop.kernels):,}",
                        f"{len(loop.kernels):,}",
                        loop.label,
                        loop.source,
                    )
                    for loop in loops
                    if loop.kernels
                ],
            ),
            Table(
                "by kind",
                ("launches", "kind"),
                [(f"{count:,}", kind) for kind, count in self.by_kind.items()],
            ),
            Table(
                "most frequent",
                ("launches", "operation", "source"),
                [
                    (f"{count:,}", kernel.label, kernel.source)
                    for count, kernel in self.most_frequent()
                ],
            ),
        ]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    def _repr_html_(self) -> str:
        return "".join(table.html for table in self.tables)


def launches(compiled: jax.stages.Compiled | Any) -> Launches:
    """The launches of a compiled program: `jax.jit(f).lower(...).compile()`, or `compile_for`'s.

    A fusion, a product of matrices, a sort, a copy and a library call count one. A loop's
    condition counts only where its trips depend on data. Of a conditional the branch with most
    instructions counts.
    """
    return launches_of(hlo.parse(compiled.as_text() or ""))


def launches_of(module: hlo.Module) -> Launches:
    """The launches of a parsed program, as in `launches`."""
    loops: list[Loop] = []

    def add(names: list[str], each: hlo.Instruction, path: Path, conditional: bool) -> None:
        kernels: list[Kernel] = []
        for name in names:
            walk(name, kernels, path, conditional)
        loops.append(Loop(path, each.op_name, module.source(each), tuple(kernels), conditional))

    def walk(name: str, kernels: list[Kernel], path: Path, conditional: bool) -> None:
        for each in module.body(name):
            if each.opcode == "while":
                trips = module.trips(each)
                condition = each.called("condition") if trips is None else []
                add([*each.called("body"), *condition], each, (*path, trips), conditional)
            elif each.opcode in ("call", "async-start"):
                for computation in each.called("to_apply") or each.called("calls"):
                    walk(computation, kernels, path, conditional)
            elif each.opcode == "conditional":
                longest = max(each.branches, key=lambda branch: len(module.body(branch)))
                if path:
                    walk(longest, kernels, path, conditional)
                else:
                    add([longest], each, path, True)
            elif each.opcode not in FREE and not each.opcode.endswith("-done"):
                kernels.append(_kernel(module, name, each))

    outside: list[Kernel] = []
    walk(module.entry, outside, (), False)
    return Launches((Loop((), "", "", tuple(outside)), *loops))


def _kernel(module: hlo.Module, computation: str, each: hlo.Instruction) -> Kernel:
    kind = re.search(r"\bkind=k(\w+)", each.rest)
    called = re.search(r'custom_call_target="([^"]*)"', each.rest)
    detail = kind[1].lower() if kind else called[1] if called else ""
    return Kernel(
        name=each.name,
        opcode=f"{each.opcode} {detail}".rstrip(),
        op_name=each.op_name,
        source=module.source(each),
        bytes=_bytes(module, computation, each),
        flops=_flops(module, computation, each),
    )


# ----------------------------------------------------------------------------- bytes and operations


def _bytes(module: hlo.Module, computation: str, each: hlo.Instruction) -> int:
    """Bytes that an instruction reads and writes."""
    scope = module.by_name[computation]
    read = [scope[name].bytes if name in scope else 0 for name in each.operands]
    if each.opcode == "fusion":
        return _fusion_bytes(module, each, read)
    return _own_bytes(each, read)


def _own_bytes(each: hlo.Instruction, read: list[int]) -> int:
    if each.opcode in PARTS:
        return 2 * each.bytes
    if each.opcode == "dynamic-update-slice":
        return 2 * (read[1] if len(read) > 1 else 0)
    if each.opcode == "copy-start":  # of a copy, its source and a context
        return sum(read) + each.first_bytes
    if each.opcode == "scatter":  # in place: what is added is read, and read and written there
        return 3 * sum(read[1:])
    return sum(read) + each.bytes


def _fusion_bytes(module: hlo.Module, fusion: hlo.Instruction, read: list[int]) -> int:
    """Bytes that a fusion reads and writes; of an array that it slices, the slices count."""
    body = [each for name in fusion.called("calls") for each in module.body(name)]
    by_name = {each.name: each for each in body}
    total = 0
    for each in body:
        if each.opcode != "parameter":
            continue
        number = re.match(r"\d+", each.rest)
        whole = read[int(number[0])] if number and int(number[0]) < len(read) else each.bytes
        total += min(whole, _bytes_read(body, each, whole))
    root = next((each for each in body if each.is_root), None)
    return total + (fusion.bytes if root is None else _bytes_written(by_name, root))


def _bytes_read(body: list[hlo.Instruction], each: hlo.Instruction, whole: int) -> int:
    """Bytes of an array, `whole` in all, that a fusion reads through its value `each`."""
    total = 0
    for user in body:
        if each.name not in user.operands:
            continue
        if user.opcode in PARTS and user.operands[0] == each.name:
            total += user.bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == each.name:
            continue  # updated in place
        elif user.opcode == "bitcast":
            total += _bytes_read(body, user, whole)
        else:
            return whole
    return total


def _bytes_written(by_name: dict[str, hlo.Instruction], root: hlo.Instruction) -> int:
    if root.opcode == "tuple":
        parts = [by_name[name] for name in root.operands if name in by_name]
        return sum(_bytes_written(by_name, part) for part in parts)
    if root.opcode == "bitcast" and root.operands and root.operands[0] in by_name:
        return _bytes_written(by_name, by_name[root.operands[0]])
    if root.opcode == "dynamic-update-slice" and root.operands[1] in by_name:
        return by_name[root.operands[1]].bytes
    return root.bytes


def _flops(module: hlo.Module, computation: str, each: hlo.Instruction) -> int:
    """Operations of an instruction: two for each product that a dot adds up, else one for each
    element of its result.
    """
    if each.opcode == "fusion":
        return sum(
            _flops(module, name, inner)
            for name in each.called("calls")
            for inner in module.body(name)
        )
    if each.opcode in FREE or each.opcode in LAYOUT or each.opcode in PARTS:
        return 0
    scope = module.by_name[computation]
    read = [scope[name] for name in each.operands if name in scope]
    if each.opcode == "dot" or any(name in each.rest for name in PRODUCTS):
        return 2 * each.elements * _contracted(each, read)
    if (labels := re.search(r"dim_labels=\w+_(\w+)->", each.rest)) and len(read) > 1:
        return 2 * each.elements * read[1].dims[labels[1].index("i")] * _taps(each)
    if each.opcode in ("reduce", "reduce-window") and read:
        return read[0].elements
    return each.elements


def _taps(convolution: hlo.Instruction) -> int:
    """The positions of a window that meet an input, for one output.

    For a TPU, XLA writes the batch axes of a product of matrices as axes of a window that are
    dilated by their length: one position of each meets an input.
    """
    size, dilation = (
        [int(x) for x in found[1].split("x")] if found else []
        for found in (
            re.search(rf"\b{name}=([\dx]+)", convolution.rest) for name in ("size", "lhs_dilate")
        )
    )
    return math.prod(-(-s // d) for s, d in zip(size, dilation or [1] * len(size), strict=True))


def _contracted(each: hlo.Instruction, read: list[hlo.Instruction]) -> int:
    """The length of the axes that a product of matrices sums over."""
    found = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d",]*)[}\]]', each.rest)
    if found is None or not read:
        return 1
    axes = [int(x) for x in re.findall(r"\d+", found[1])]
    return math.prod(read[0].dims[axis] for axis in axes if axis < len(read[0].dims))
