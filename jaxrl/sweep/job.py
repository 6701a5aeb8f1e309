"""One call of `sweep`: which members are done, and the program that does the others."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxrl.progress import Report
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.program import Stepped, Whole, free_bytes
from jaxrl.sweep.results import Chunks
from jaxrl.sweep.store import Store
from jaxrl.train import Training

MEMORY_SHARE = 0.8  # of the free memory, what a chunk may take
CPU_WIDTH = 32  # members per device: on a CPU a chunk should fit the caches
ACCELERATOR_WIDTH = 4096


@dataclasses.dataclass
class Job:
    run: Any
    member: Callable[[Any], Any]
    grid: Grid
    chunks: Chunks
    store: Store | None
    show: Callable[[Report], None] | None
    chunk: int | None
    compile_seconds: float = 0.0
    seconds: float = 0.0
    fresh: float = 0.0  # members done by this call
    _started: float = 0.0
    _running: int = 0
    _share: float = 0.0
    _raised: BaseException | None = None

    def run_all(self) -> None:
        """Runs what is missing; a chunk that does not fit the memory is halved and tried again."""
        while any(self.missing()):
            try:
                self._run_chunks(*self._program())
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or self.chunk == 1:
                    raise
                tried = self.chunk or self.grid.members
                print(f"a chunk of {tried} members did not fit the memory; going on with {tried // 2}.")
                self.chunk = tried // 2

    def missing(self) -> Iterator[tuple[int, int]]:
        """The gaps between finished chunks: first member and one past the last."""
        at = 0
        for first, last in [*sorted(self.chunks), (self.grid.members, self.grid.members)]:
            if at < first:
                yield at, first
            at = max(at, last)

    @property
    def num_done(self) -> int:
        return self.grid.members - sum(last - first for first, last in self.missing())

    def _program(self) -> tuple[Whole | Stepped, int]:
        """A compiled program and its width, halved until it fits the memory (a chunk that the caller chose is kept)."""
        left = self.grid.members - self.num_done
        devices = min(jax.local_device_count(), self.grid.members, self.chunk or self.grid.members)  # none is split
        most = devices * (CPU_WIDTH if jax.default_backend() == "cpu" else ACCELERATOR_WIDTH)
        width = self.chunk or _even(left, most)
        while True:
            width = -(-width // devices) * devices
            program = self._compile(width, devices)
            if self.chunk or program.bytes_per_device <= MEMORY_SHARE * free_bytes() or width == devices:
                self.chunk = width
                return program, width
            fits = int(width * MEMORY_SHARE * free_bytes() / program.bytes_per_device)
            width = max(min(fits, width // 2), 1)

    def _compile(self, width: int, devices: int) -> Whole | Stepped:
        points = self.grid.points(np.zeros(width, int))
        if isinstance(self.run, Training):
            program = Stepped(self.member, self.run, points, devices, keep=self.store is not None)
        else:
            program = Whole(self.member, points, devices, None if self.show is None else self._row)
        self.compile_seconds += program.compile_seconds
        return program

    def _run_chunks(self, program: Whole | Stepped, width: int) -> None:
        for first, end in list(self.missing()):
            for start in range(first, end, width):
                self._run_chunk(program, width, start, min(start + width, end))

    def _run_chunk(self, program: Whole | Stepped, width: int, first: int, last: int) -> None:
        points = self.grid.points(np.minimum(np.arange(first, first + width), last - 1))  # the last member pads
        self._started, self._running, self._share = time.monotonic(), last - first, 0.0
        outputs = {name: value[: last - first] for name, value in program(points, self._part).items()}
        self.seconds += time.monotonic() - self._started
        self.fresh += last - first
        if self.store is not None:
            self.store.save(first, last, outputs)
        self.chunks[first, last] = {name: x for name, x in outputs.items() if not name.startswith("learner.")}
        self._report(0.0)
        if self._raised is not None:
            raise self._raised

    # --------------------------------------------------------------------------------------------------------- progress

    def _row(self, row: Any, rows: Any) -> None:
        """Called from inside a running program, once by each device: an exception there would spoil the whole process."""
        share = int(row) / int(rows)
        if share <= self._share or self._raised is not None:
            return
        try:
            self._share = share
            self._part(share)
        except BaseException as error:
            self._raised = error

    def _part(self, share: float) -> None:
        """A share of the running chunk is done."""
        self._report(share, time.monotonic() - self._started)

    def _report(self, share: float, running: float = 0.0) -> None:
        if self.show is None:
            return
        done, part = self.num_done, share * self._running * (running > 0)
        steps = getattr(self.run, "steps", 0) * (self.fresh + part)
        members = self.grid.members
        seconds = self.seconds + running
        self.show(Report(done, members, min((done + part) / members, 1.0), steps, seconds, (self.fresh + part) / members))


def _even(members: int, most: int) -> int:
    """A width of at most `most` that leaves the last chunk nearly full."""
    return -(-members // -(-members // most))
