"""A lower bound of a program's time on an accelerator, from its launches, bytes and operations."""

from __future__ import annotations

import dataclasses

from jaxrl.accelerator.launches import Launches, Loop
from jaxrl.accelerator.tables import Table, format_bytes, format_seconds
from jaxrl.accelerator.targets import Target


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Bounds of the time of one call of a program; `print` shows a table, and so does a notebook.

    The time of a loop's trip is at least the largest of three: its launches times the time of a
    launch, its bytes over the bandwidth, its operations over the speed of the arithmetic units
    (Williams et al., 2009, with launches as a third roof). Kernels run one after another. fastest:
    seconds if all launches are in CUDA graphs. slowest: if none is.
    """

    target: Target
    launches: Launches

    @property
    def fastest(self) -> float:
        return self._seconds(self.target.graph_seconds)

    @property
    def slowest(self) -> float:
        return self._seconds(self.target.launch_seconds)

    def _seconds(self, launch: float) -> float:
        return sum(
            loop.trips * max(self.roofs(loop, launch).values()) for loop in self.launches.loops
        )

    def roofs(self, loop: Loop, launch: float) -> dict[str, float]:
        """The three bounds of one trip in seconds. launch: seconds of a launch."""
        return {
            "launches": len(loop.kernels) * launch,
            "bytes": loop.bytes / self.target.bandwidth,
            "operations": loop.flops / self.target.flops,
        }

    @property
    def tables(self) -> list[Table]:
        rows = []
        for loop in sorted(self.launches.loops, key=lambda loop: -loop.trips * len(loop.kernels)):
            if not loop.kernels:
                continue
            graph, alone = (
                self.roofs(loop, each)
                for each in (self.target.graph_seconds, self.target.launch_seconds)
            )
            rows.append(
                (
                    loop.label,
                    f"{len(loop.kernels):,}",
                    format_bytes(loop.bytes),
                    f"{loop.flops:,}",
                    _between(max(graph.values()), max(alone.values())),
                    max(graph, key=lambda name: graph[name]),
                    loop.source,
                )
            )
        title = f"{self.target.name}: at least {self}"
        columns = ("trips", "launches", "bytes", "operations", "time of a trip", "bound by", "loop")
        return [Table(title, columns, rows)]

    def __str__(self) -> str:
        return bracket(self.target, self.fastest, self.slowest)

    def _repr_html_(self) -> str:
        return "".join(table.html for table in self.tables)


def _between(fastest: float, slowest: float) -> str:
    ends = dict.fromkeys(map(format_seconds, (fastest, slowest)))
    return " to ".join(ends)


def bracket(target: Target, fastest: float, slowest: float) -> str:
    """Two bounds in seconds, and what they assume."""
    graph, alone = (f"{1e6 * x:.3g} us" for x in (target.graph_seconds, target.launch_seconds))
    if target.platform == "cuda":
        graph, alone = f"{graph} a launch, in CUDA graphs", f"{alone}, without them"
    else:
        graph, alone = f"{graph} an instruction", alone
    return f"{format_seconds(fastest)} ({graph}) to {format_seconds(slowest)} ({alone})"


def roofline(program: Launches, target: Target) -> Roofline:
    """Bounds of a program's time on a target. program: its launches."""
    return Roofline(target, program)
