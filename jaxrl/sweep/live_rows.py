"""Rows of running chunks, in FOLDER/live/FIRST-LAST-WIDTH/, for `load` and plots beside a run.

Each file holds consecutive rows of the chunk's members, `clocks.npz` the environment steps of all
rows. A chunk that starts again writes its rows anew; a finished one is in members/ instead.
"""

import concurrent.futures
import contextlib
import pathlib
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxrl.sweep import checkpoint, store
from jaxrl.sweep.checkpoint import Rows
from jaxrl.sweep.files import write
from jaxrl.sweep.results import Chunks, Outputs

ROWS_NAME = re.compile(r"(\d{8})-(\d{8})\.npz")
CLOCKS = "clocks.npz"
SHARE = 0.05  # of the time: what writing may take


@contextlib.contextmanager
def writing(
    folder: pathlib.Path, members: np.ndarray, clocks: Mapping[str, np.ndarray]
) -> Iterator[Callable[[Rows], None]]:
    """A function that takes all rows of a chunk so far, of which the new ones are written.

    members: the chunk's numbers [width]; those after the first occurrence of the last are padding.
    clocks: environment steps of all rows, by name. [evals]. At the end, also by an exception, the
    rows that are left are written.
    """
    first, last = int(members[0]), int(members[-1]) + 1
    writer = _Writer(folder / "live" / f"{first:08d}-{last:08d}-{len(members):08d}", last - first)
    checkpoint.clear_rows(folder, first, last)
    writer.start(clocks)
    try:
        yield writer.offer
    finally:
        writer.close()


class _Writer:
    """Writes rows from a thread, so that training does not wait for the disk."""

    def __init__(self, folder: pathlib.Path, members: int) -> None:
        self._folder, self._members = folder, members
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "rows")
        self._writing: concurrent.futures.Future[None] | None = None
        self._rows: Rows = []
        self._written, self._pause, self._failed = 0, 0.0, False
        self._unexpected: Exception | None = None
        self._closing = threading.Event()  # ends a pause

    def start(self, clocks: Mapping[str, np.ndarray]) -> None:
        with self._reporting_failure():
            self._folder.mkdir(parents=True, exist_ok=True)
            _save(self._folder / CLOCKS, {name: np.asarray(x) for name, x in clocks.items()})

    def offer(self, rows: Rows) -> None:
        self._rows = rows
        if not self._failed and (self._writing is None or self._writing.done()):
            self._writing = self._thread.submit(self._write_soon)

    def close(self) -> None:
        """Write what is left, end the thread, and warn of an error that no disk causes."""
        self._closing.set()
        self._thread.shutdown()
        self._write()
        if self._unexpected is not None:
            reason = f"{type(self._unexpected).__name__}: {self._unexpected}"
            warnings.warn(self._message(reason), stacklevel=2)

    def _write_soon(self) -> None:
        self._closing.wait(self._pause)
        started = time.monotonic()
        self._write()
        self._pause = (time.monotonic() - started) / SHARE

    def _write(self) -> None:
        rows, done = self._rows, len(self._rows)
        if done == self._written or self._failed:
            return
        new = rows[self._written : done]
        with self._reporting_failure():
            curves = {
                name: np.stack([row[name][: self._members] for row in new]) for name in new[0]
            }
            _save(self._folder / f"{self._written:08d}-{done:08d}.npz", curves)
            self._written = done

    @contextlib.contextmanager
    def _reporting_failure(self) -> Iterator[None]:
        """Print an error, such as of a full disk, which does not stop the run; any other one is
        for the end, as this may be the thread of its own.
        """
        try:
            yield
        except OSError as error:
            self._failed = True
            print(self._message(error))
        except Exception as error:
            self._failed, self._unexpected = True, error

    def _message(self, reason: Any) -> str:
        return (
            f"evaluation points of the running chunk can't be written to {self._folder} ({reason}):"
            " they will be in the results when the chunk has finished."
        )


def _save(path: pathlib.Path, outputs: Outputs) -> None:
    parts = store.encode(outputs)
    write(path, lambda file: np.savez(file, **parts))  # type: ignore[arg-type]


def read(folder: pathlib.Path) -> Chunks:
    """Chunks that have not finished, by their first and past-last member, the older ones first.

    Rows that are not there yet are NaN, or 0 among whole numbers; `step` is known for all rows.
    """
    found: Chunks = {}
    chunks = [path for path in folder.glob("live/*/") if checkpoint.OPEN_NAME.fullmatch(path.name)]
    for path in sorted(chunks, key=_modified):
        first, last, _ = map(int, path.name.split("-"))
        if outputs := _read_chunk(path, last - first):
            found[first, last] = outputs
    return found


def _modified(path: pathlib.Path) -> int:
    with contextlib.suppress(OSError):  # the run has removed it by now
        return path.stat().st_mtime_ns
    return 0


def _read_chunk(path: pathlib.Path, members: int) -> Outputs:
    """The rows of one chunk, without files that are damaged or that the run has removed."""
    parts: dict[tuple[int, int], Outputs] = {}
    try:
        clocks = store.read(path / CLOCKS)
    except store.DAMAGE:
        return {}
    for file in sorted(path.glob("*.npz")):
        if match := ROWS_NAME.fullmatch(file.name):
            with contextlib.suppress(*store.DAMAGE):
                parts[int(match[1]), int(match[2])] = store.read(file)
    if not parts:
        return {}
    evals, outputs = len(clocks["step"]), {}
    known = np.zeros(evals, bool)
    for (start, end), rows in parts.items():
        known[start:end] = True
        for name, values in rows.items():
            if name not in outputs:
                blank = np.nan if np.issubdtype(values.dtype, np.inexact) else 0
                outputs[name] = np.full((members, evals, *values.shape[2:]), blank, values.dtype)
            outputs[name][:, start:end] = values.swapaxes(0, 1)
    for name, clock in clocks.items():
        shown = clock if name == "step" else np.where(known, clock, np.zeros_like(clock))
        outputs[name] = np.broadcast_to(shown, (members, evals))
    return outputs
