"""The executor of chunks: compiles programs, chooses their width, halves it where memory is
refused, keeps finished chunks and resumes.

A sweep has one `Work`, its grid; a search (jaxrl/tuning/trial_runner.py) has one for each kind of
run of a batch.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxrl.accelerator.tables import format_bytes
from jaxrl.devices import local_devices, place, platform
from jaxrl.progress import Report
from jaxrl.sweep import live_rows, multihost, stopping
from jaxrl.sweep.checkpoint import Checkpoints, Rows
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.memory import free_bytes
from jaxrl.sweep.program import Stepped, Whole, score_of
from jaxrl.sweep.record import check_outputs, outputs_of
from jaxrl.sweep.results import Chunks, Outputs, without_agents
from jaxrl.train import Training

MEMORY_SHARE = 0.8  # of the free memory: what a chunk may take
# members per device: on a CPU a chunk should fit the caches (twice as many ran a tenth slower)
CPU_WIDTH = 16
ACCELERATOR_WIDTH = 4096
Program = Whole | Stepped


def default_width() -> int:
    """Members of a program on each device, beyond which speed gains nothing."""
    return CPU_WIDTH if platform() == "cpu" else ACCELERATOR_WIDTH


class ChunkStore(Protocol):
    """Finished chunks on disk."""

    def done(self) -> Chunks:
        """The finished chunks by their first and past-last member."""
        ...

    def save(self, first: int, last: int, width: int, outputs: Outputs) -> None:
        """Keep a finished chunk, which a program of `width` members made."""
        ...

    def checkpoints(self, first: int, last: int, width: int, seconds: float) -> Checkpoints:
        """The checkpoints of a running chunk."""
        ...

    def note_width(self, width: int) -> None:
        """Keep the width for a resumed call."""
        ...

    def clear_open(self, width: int) -> None:
        """Remove the checkpoints of programs of this width."""
        ...


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that stay the same while an executor runs.

    chunk: members of a program, where the caller or the folder says so; None: as many as speed
    gains from and memory holds. chunk_reason: what decided it. memory_limit: bytes that programs
    may take on all devices together; None: a share of what is free. save_seconds: between
    checkpoints inside a chunk. narrow: few members get a narrower program: its width is a power
    of four times the devices, so that there are few programs.
    """

    chunk: int | None = None
    chunk_reason: str = ""
    memory_limit: float | None = None
    save_seconds: float = 60.0
    narrow: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """Members that one kind of program runs.

    size: how many. compile: the program for so many at once on so many devices. run: the outputs
    [width, ...] of the members with these numbers, given a function to report the fraction done and
    the rows so far. program_key: works with equal keys share programs. rows: that a checkpoint
    counts; 0 where there is nothing to keep inside a chunk.
    """

    size: int
    compile: Callable[[int, int], Program]
    run: Callable[[Any, np.ndarray, Callable[..., None], Checkpoints | None], Outputs]
    program_key: Hashable = None
    rows: int = 0


@dataclasses.dataclass
class Progress:
    """The progress of the members, as reports to `show`.

    done: members of finished chunks. done_now: members that this call has run. seconds: of running.
    """

    members: int
    steps: int = 0  # of each member
    show: Callable[[Report], None] | None = None
    done: int = 0
    done_now: float = 0.0
    seconds: float = 0.0
    _started: float = 0.0
    _running: int = 0  # members of the running chunk
    _restored: Callable[[], float] = lambda: 0.0  # the fraction of it that its checkpoint held
    _fraction: float = 0.0
    _score: float = float("nan")
    _raised: BaseException | None = None
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # of each axis
    row_steps: Sequence[int] = ()  # environment steps of a member up to each row
    _first: int = 0  # member of the running chunk

    def start_chunk(self, members: int, restored: Callable[[], float], first: int = 0) -> None:
        """restored: the fraction of the chunk that came from its checkpoint. first: its first
        member.
        """
        self._started, self._running, self._restored = time.monotonic(), members, restored
        self._fraction, self._first = 0.0, first

    def chunk_part(self, fraction: float, rows: Rows | None = None) -> None:
        """A fraction of the running chunk is done, with these rows so far."""
        self._score = score_of(rows or [])
        self._report(fraction, time.monotonic() - self._started, rows)

    def chunk_row(self, row: Any, rows: Any) -> None:
        """The callback of a running program, once by each device. It must not raise: an exception
        would break the process, so it is kept for `end_chunk`.
        """
        fraction = int(row) / int(rows)
        if fraction <= self._fraction or self._raised is not None:
            return
        try:
            self._fraction = fraction
            self.chunk_part(fraction)
        except BaseException as error:
            self._raised = error

    def end_run(self) -> None:
        self.seconds += time.monotonic() - self._started

    def end_chunk(self, done: int) -> None:
        """The chunk is kept; `done` runs have finished by now."""
        self.done_now += self._running * (1.0 - self._restored())
        self.done, self._running = done, 0
        self._report(0.0)
        if self._raised is not None:
            raise self._raised

    def _report(self, fraction: float, running: float = 0.0, rows: Rows | None = None) -> None:
        if self.show is None:
            return
        metrics = rows[-1] if rows else {}
        now = self.done_now + (fraction - self._restored()) * self._running
        part = fraction * self._running
        self.show(
            Report(
                done=self.done,
                members=self.members,
                fraction=min((self.done + part) / self.members, 1.0),
                steps=self.steps * now,
                seconds=self.seconds + running,
                done_now=now / self.members,
                score=self._score,
                step=self._step(len(rows or [])),
                labels=self._running_labels() if rows else {},
                metrics={name: values[: self._running] for name, values in metrics.items()},
            )
        )

    def _step(self, rows: int) -> int:
        """Environment steps of a member up to its last row; 0 where they are not known."""
        return self.row_steps[rows - 1] if 0 < rows <= len(self.row_steps) else 0

    def _running_labels(self) -> dict[str, np.ndarray]:
        """The label of each member of the running chunk, along each axis. [members]."""
        if not self.labels:
            return {}
        numbers = np.arange(self._first, self._first + self._running)
        places = np.unravel_index(numbers, [len(label) for label in self.labels.values()])
        return {
            name: np.asarray(label)[place]
            for (name, label), place in zip(self.labels.items(), places, strict=True)
        }


class Executor:
    """Runs works chunk by chunk. It keeps the programs, and what memory taught about their width.

    chunk: members of a program at most, None before the first one is chosen. downsized: from what
    to what, and why, where a chunk did not fit. limit, needed: bytes of a program on each device.
    """

    def __init__(self, config: Config, progress: Progress | None = None) -> None:
        self.config = config
        self.progress = Progress(0) if progress is None else progress
        self.chunk, self.chunk_reason = config.chunk, config.chunk_reason
        self.downsized = ""
        self.devices, self.limit, self.needed = 1, 0.0, 0
        self._width = 1  # of the last program
        self.compile_seconds = 0.0
        self._programs: dict[Any, Program] = {}

    def run(
        self, work: Work, store: ChunkStore | None = None, chunks: Chunks | None = None
    ) -> Chunks:
        """All chunks of a work: what is missing in `chunks` is run, kept and added to them.

        A chunk that is refused memory is halved and tried again.
        """
        chunks = {} if chunks is None else chunks
        finished = not any(missing(work.size, chunks))
        while not finished:
            try:
                program, width = self.program(work, num_missing(work.size, chunks), store)
                for first, last in self._local_chunks(work, chunks, width):
                    chunks[first, last] = self._run_chunk(work, store, program, width, first, last)
                    self.progress.end_chunk(work.size - num_missing(work.size, chunks))
                finished = True
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                self.downsize_after(error, store)
        return chunks

    def _local_chunks(self, work: Work, chunks: Chunks, width: int) -> list[tuple[int, int]]:
        return [
            (start, min(start + width, end))
            for first, end in missing(work.size, chunks)
            for start in range(first, end, width)
            if multihost.is_local(start // width)
        ]

    def _run_chunk(
        self,
        work: Work,
        store: ChunkStore | None,
        program: Program,
        width: int,
        first: int,
        last: int,
    ) -> Outputs:
        members = np.minimum(np.arange(first, first + width), last - 1)  # the last member pads
        checkpoints, finished = None, False
        if store is not None and work.rows:
            checkpoints = store.checkpoints(first, last, width, self.config.save_seconds)
        restored = lambda: 0.0 if checkpoints is None else checkpoints.restored / work.rows
        self.progress.start_chunk(last - first, restored, first)
        try:
            with stopping.deferred(checkpoints is not None):
                outputs = work.run(program, members, self.progress.chunk_part, checkpoints)
                outputs = {name: value[: last - first] for name, value in outputs.items()}
                self.progress.end_run()
                if store is not None:
                    store.save(first, last, width, outputs)
                finished = True
        finally:
            if checkpoints is not None:
                checkpoints.close(finished)
        return without_agents(outputs)

    # --------------------------------------------------------------------- programs and their width

    def program(
        self, work: Work, members: int, store: ChunkStore | None = None
    ) -> tuple[Program, int]:
        """A compiled program for so many members that are missing, and its width, narrowed until it
        fits the memory.
        """
        asks = not self.chunk and jax.process_count() > 1  # the first process decides for all
        given = multihost.broadcast(0) if asks and not multihost.is_primary() else self.chunk
        if given and not self.config.narrow:
            given = min(given, work.size)  # no program is wider than all members
        devices = min(len(local_devices()), work.size, given or work.size)  # none is split
        bound = given or default_width() * devices
        wanted = work.size if self.config.narrow else members  # a resumed call has the same width
        width = self._first_width(wanted, bound, devices, given)
        while True:
            width = self._width = -(-width // devices) * devices
            key = (work.program_key, width, devices)
            if key in self._programs:
                return self._programs[key], width
            program = work.compile(width, devices)
            self.compile_seconds += program.compile_seconds
            limit, needed = self._limit(given, devices), program.bytes_per_device
            if needed <= limit or width == devices or (given and jax.process_count() > 1):
                break
            fits = int(width * min(limit, self._limit(None, devices)) / needed)
            smaller = max(min(fits, width // 2) // devices, 1) * devices
            if given:
                lacking = f"{format_bytes(needed * devices)} do not fit"
                self._downsize(width, smaller, f"{lacking} {format_bytes(limit * devices)}", store)
            else:
                free = "" if self.config.memory_limit else " of the free memory"
                self.chunk_reason = f"as many as fit {format_bytes(limit * devices)}{free}"
            bound = width = smaller
        if asks and multihost.is_primary():
            multihost.broadcast(width)
        if needed > limit:
            lacking = f"one run per device needs {format_bytes(needed)} of {format_bytes(limit)}"
            self.chunk_reason += f"; {lacking}"
        self._programs[key] = program
        self.chunk = bound if self.config.narrow else width
        self.devices, self.limit, self.needed = devices, limit, needed
        if store is not None:
            store.note_width(self.chunk)
        return program, width

    def _first_width(self, members: int, bound: int, devices: int, given: int | None) -> int:
        if self.config.narrow:
            doublings = (-(-members // devices) - 1).bit_length()
            return min(bound, devices << (doublings + doublings % 2))
        if given:
            return given
        width = even_width(members, bound)
        each = default_width()
        gains = (
            f"on a CPU speed gains from no more ({each} a device)"
            if each == CPU_WIDTH
            else f"{each:,} a device"
        )
        self.chunk_reason = "all runs fit" if width == members else gains
        return width

    def downsize_after(self, error: BaseException, store: ChunkStore | None = None) -> None:
        """Go on with half the chunk after a refused allocation; raise any other error."""
        refused = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        # several processes have agreed on a width
        if not refused or self._width == 1 or jax.process_count() > 1:
            raise error
        self._programs.clear()  # they hold memory
        self._downsize(self._width, self._width // 2, "out of memory", store)

    def _downsize(self, tried: int, width: int, reason: str, store: ChunkStore | None) -> None:
        print(f"a chunk of {tried} runs did not fit in memory; continuing with {width}.")
        self.downsized = f"{self.downsized.partition(' ')[0] or tried} to {width}: {reason}"
        self.chunk, self.chunk_reason = width, f"halved, {self.downsized}"
        if store is not None:
            store.clear_open(tried)

    def _limit(self, given: int | None, devices: int) -> float:
        """Bytes that a program may take on each device.

        A given chunk may take all that is free: on a CPU a process that takes more is killed, not
        refused, and for an accelerator that is absent no allocation is tried.
        """
        if self.config.memory_limit is not None:
            return self.config.memory_limit / devices
        if given is None or self.config.narrow:
            return MEMORY_SHARE * free_bytes()
        return free_bytes() if platform() == "cpu" or place() is not None else float("inf")


def missing(size: int, chunks: Chunks) -> Iterator[tuple[int, int]]:
    """The gaps between finished chunks: first member and one past the last."""
    at = 0
    for first, last in [*sorted(chunks), (size, size)]:
        if at < first:
            yield at, first
        at = max(at, last)


def num_missing(size: int, chunks: Chunks) -> int:
    return sum(last - first for first, last in missing(size, chunks))


def even_width(members: int, max_width: int) -> int:
    """A width of at most `max_width` that leaves the last chunk nearly full."""
    return -(-members // -(-members // max_width))


# ----------------------------------------------------------------------------------- a sweep's work


def sweep_work(
    run: Any,
    grid: Grid,
    progress: Progress,
    *,
    folder: pathlib.Path | None,
    keep_best: bool = False,
    keep_state: bool | None = None,
) -> Work:
    """The members of a grid. folder: where agents, checkpoints, the rows so far, and final states
    as `keep_state` says are kept; None: states where they are small.
    """
    check = functools.partial(check_outputs, grid=grid)
    configs_of = lambda width: grid.configs(np.zeros(width, int))
    at = bind(run, grid)
    if not isinstance(run, Training):
        listener = None if progress.show is None else progress.chunk_row
        return Work(
            grid.members,
            compile=lambda width, devices: Whole(
                outputs_of(run, grid), configs_of(width), devices, listener, check
            ),
            run=lambda program, members, report, checkpoints: program(grid.configs(members)),
        )

    def run_chunk(
        program: Any, members: np.ndarray, report: Callable[..., None], checkpoints: Any
    ) -> Outputs:
        if folder is None:
            return program(grid.configs(members), report, checkpoints)
        clocks = {name: np.asarray(x) for name, x in run.clocks.items()}
        with live_rows.writing(folder, members, clocks) as write:

            def write_and_report(fraction: float, rows: Rows) -> None:
                write(rows)
                report(fraction, rows)

            return program(grid.configs(members), write_and_report, checkpoints)

    return Work(
        grid.members,
        compile=lambda width, devices: Stepped(
            at,
            run,
            configs_of(width),
            devices,
            keep=folder is not None,
            best=keep_best,
            check=lambda metrics: check(metrics | run.clocks),
            checkpoints=folder is not None,
            states=folder is not None and (grid.members if keep_state is None else keep_state),
        ),
        run=run_chunk,
        rows=run.evals,
    )
