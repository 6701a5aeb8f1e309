"""One call of `sweep`: which members are done, and the program that does the others."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxrl.progress import Report
from jaxrl.sweep import multihost
from jaxrl.sweep.checkpoint import Checkpoints, clear
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.memory import free_bytes, told
from jaxrl.sweep.program import Stepped, Whole
from jaxrl.sweep.results import Chunks, without_learners
from jaxrl.sweep.store import Store
from jaxrl.train import Training

COPIES = 1  # of the learners' state, that a checkpoint takes while it is written
MEMORY_SHARE = 0.8  # of the free memory, what a chunk may take
# members per device: on a CPU a chunk should fit the caches (twice as many ran a tenth slower)
CPU_WIDTH = 16
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
    memory: float | None = (
        # bytes that programs may take on all devices together; by default a share of what is free
        None
    )
    save_seconds: float = 60.0  # between checkpoints inside a chunk
    keep_best: bool = False  # also the parameters that were judged best
    why: str = ""  # what decided the chunk
    halved: str = ""  # from what to what, and why, where a chunk did not fit
    devices: int = 1
    limit: float = 0.0  # bytes that a program may take on each of them
    needed: int = 0  # bytes that it takes
    keeps: bool = False  # whether a folder keeps checkpoints
    compile_seconds: float = 0.0
    seconds: float = 0.0
    fresh: float = 0.0  # members done by this call
    _started: float = 0.0
    _running: int = 0
    _open: Checkpoints | None = None  # those of the running chunk
    _share: float = 0.0
    _score: float = float("nan")
    _raised: BaseException | None = None

    def run_all(self) -> None:
        """Runs what is missing; a chunk that does not fit the memory is halved and tried again."""
        finished = not any(self.missing())
        while not finished:
            try:
                self._run_chunks(*self.program())
                finished = True
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                self.halve_after(error)

    def halve_after(self, error: BaseException) -> None:
        """Goes on with half the chunk after a refused allocation; any other error is raised."""
        refused = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if (
            not refused or self.chunk == 1 or jax.process_count() > 1
        ):  # several processes have agreed on a width
            raise error
        tried = self.chunk or self.grid.members
        self._halve(tried, tried // 2, "out of memory")

    def _halve(self, tried: int, now: int, reason: str) -> None:
        print(f"a chunk of {tried} members did not fit the memory; going on with {now}.")
        self.halved = f"{self.halved.partition(' ')[0] or tried} to {now}: {reason}"
        self.chunk, self.why = now, f"halved, {self.halved}"
        if self.store is not None:
            clear(self.store.folder, lambda first, last, width: width == tried)

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

    def program(self) -> tuple[Whole | Stepped, int]:
        """A compiled program and its width, made smaller until it fits the memory; `why` says what
        decided.
        """
        asks = not self.chunk and jax.process_count() > 1  # the first process decides for all
        given = multihost.agreed(0) if asks and not multihost.first() else self.chunk
        left = self.grid.members - self.num_done
        devices = min(
            jax.local_device_count(), self.grid.members, given or self.grid.members
        )  # none is split
        self.devices = devices
        each = CPU_WIDTH if jax.default_backend() == "cpu" else ACCELERATOR_WIDTH
        width = given or _even(left, devices * each)
        if not given:
            gains = (
                f"on a CPU speed gains from no more ({each} a device)"
                if each == CPU_WIDTH
                else f"{each:,} a device"
            )
            self.why = "all members fit" if width == left else gains
        while True:
            width = -(-width // devices) * devices
            program = self._compile(width, devices)
            limit, needed = self._limit(given), program.bytes_per_device + self._copies(program)
            if needed <= limit or width == devices or (given and jax.process_count() > 1):
                if asks and multihost.first():
                    multihost.agreed(width)
                self.why += (
                    ""
                    if needed <= limit
                    else f"; one member a device needs {told(needed)} of {told(limit)}"
                )
                self.chunk, self.limit, self.needed = width, limit, needed
                if self.store is not None and multihost.first():
                    self.store.note_width(width)
                return program, width
            fits = int(width * min(limit, self._limit(None)) / needed)
            smaller = max(min(fits, width // 2) // devices, 1) * devices
            if given:
                self._halve(
                    width, smaller, f"{told(needed * devices)} do not fit {told(limit * devices)}"
                )
            else:
                self.why = f"as many as fit {told(limit * devices)}" + (
                    " of the free memory" if self.memory is None else ""
                )
            width = smaller

    def _limit(self, given: int | None) -> float:
        """Bytes that a program may take on each device.

        A chunk that the caller chose may take all that is free: on a CPU what is beyond would be
        killed, not refused.
        """
        if self.memory is not None:
            return self.memory / self.devices
        if given is None:
            return MEMORY_SHARE * free_bytes()
        return free_bytes() if jax.default_backend() == "cpu" else float("inf")

    def _copies(self, program: Whole | Stepped) -> int:
        """Bytes on each device beside the program: of the best so far, old and new, and, where its
        memory is the host's as a CPU's is, of a checkpoint.
        """
        if not isinstance(program, Stepped):
            return 0
        best = program.kept_bytes if self.keep_best else 0
        writes = self.keeps and jax.default_backend() == "cpu" and self.run.evals > 1
        return (2 * best + (COPIES * (program.state_bytes + best) if writes else 0)) // self.devices

    def _compile(self, width: int, devices: int) -> Whole | Stepped:
        points = self.grid.points(np.zeros(width, int))
        if isinstance(self.run, Training):
            program = Stepped(
                self.member,
                self.run,
                points,
                devices,
                keep=self.store is not None,
                best=self.keep_best,
            )
        else:
            program = Whole(self.member, points, devices, None if self.show is None else self._row)
        self.compile_seconds += program.compile_seconds
        return program

    def _run_chunks(self, program: Whole | Stepped, width: int) -> None:
        for first, end in list(self.missing()):
            for start in (
                start for start in range(first, end, width) if multihost.mine(start // width)
            ):
                self._run_chunk(program, width, start, min(start + width, end))

    def _run_chunk(self, program: Whole | Stepped, width: int, first: int, last: int) -> None:
        points = self.grid.points(
            np.minimum(np.arange(first, first + width), last - 1)
        )  # the last member pads
        self._started, self._running, self._share = time.monotonic(), last - first, 0.0
        self._open, finished = self._checkpoints(first, last, width), False
        try:
            outputs = {
                name: value[: last - first]
                for name, value in program(points, self._part, self._open).items()
            }
            self.seconds += time.monotonic() - self._started
            if self.store is not None:
                self.store.save(first, last, width, outputs)
            finished = True
        finally:
            if self._open is not None:
                self._open.close(finished)
        self.fresh += (last - first) * (1.0 - self._restored)
        self.chunks[first, last] = without_learners(outputs)
        self._report(0.0)
        if self._raised is not None:
            raise self._raised

    def _checkpoints(self, first: int, last: int, width: int) -> Checkpoints | None:
        if self.store is None or not isinstance(self.run, Training):
            return None
        return Checkpoints(self.store.folder, first, last, width, self.save_seconds)

    # ------------------------------------------------------------------------------------- progress

    def _row(self, row: Any, rows: Any) -> None:
        """Called from inside a running program, once by each device: an exception there would spoil
        the whole process.
        """
        share = int(row) / int(rows)
        if share <= self._share or self._raised is not None:
            return
        try:
            self._share = share
            self._part(share)
        except BaseException as error:
            self._raised = error

    def _part(self, share: float, score: float = float("nan")) -> None:
        """A share of the running chunk is done, and its members' returns are about `score`."""
        self._score = score
        self._report(share, time.monotonic() - self._started)

    @property
    def _restored(self) -> float:
        """The share of the running chunk that its checkpoint held."""
        return 0.0 if self._open is None else self._open.restored / self.run.evals

    def _report(self, share: float, running: float = 0.0) -> None:
        if self.show is None:
            return
        done, members = self.num_done, self.grid.members
        part = share * self._running * (running > 0)
        fresh = self.fresh + (share - self._restored) * self._running * (running > 0)
        steps, seconds = getattr(self.run, "steps", 0) * fresh, self.seconds + running
        fraction, fresh = min((done + part) / members, 1.0), fresh / members
        self.show(Report(done, members, fraction, steps, seconds, fresh, self._score))


def _even(members: int, most: int) -> int:
    """A width of at most `most` that leaves the last chunk nearly full."""
    return -(-members // -(-members // most))
