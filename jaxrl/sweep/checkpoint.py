"""Checkpoints inside a chunk, at its evaluation points: the only module that imports orbax.

A checkpoint is the whole state of every member (parameters, optimiser, normalisers, episodes,
clocks) and the rows so far, under FOLDER/open/FIRST-LAST-WIDTH/ROW. orbax writes it whole or not at
all, as one .npz, which costs less than its zarr arrays and has checksums that detect later damage.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.sweep import npz
from jaxrl.sweep.grid import raw

OPEN = "open"  # the folder of checkpoints, below the sweep's
OPEN_NAME = re.compile(r"(\d{8})-(\d{8})-(\d{8})")
Rows = list[dict[str, np.ndarray]]  # of each row, each metric. [width, ...]
NAME = "state.npz"
MAX_KEPT = 2  # the newest, and the one before it, should the newest be damaged
SHARE = 0.05  # of the time: what saving may take unless every row is saved


def open_width(folder: pathlib.Path) -> int | None:
    """The width of the program of the open chunks: the next call goes on with the same.

    Of several widths it is that of the chunk with the most rows, which is the most work; not that
    of the newest, as a clock may have been set back.
    """
    rows = _last_rows(folder)
    left = max(rows, key=rows.__getitem__, default=None)
    return None if left is None else int(left.name.split("-")[2])


def exists(folder: pathlib.Path) -> bool:
    """True where an unfinished chunk has a checkpoint, of any combination of static values."""
    return any(map(_last_rows, (folder, *folder.glob("static/*/"))))


def _last_rows(folder: pathlib.Path) -> dict[pathlib.Path, int]:
    """The last row with a checkpoint of each open chunk that has any."""
    rows = {
        path: max((int(row.name) for row in path.iterdir() if row.name.isdigit()), default=0)
        for path in folder.glob(f"{OPEN}/*/")
        if OPEN_NAME.fullmatch(path.name)
    }
    return {path: row for path, row in rows.items() if row}


def clear(folder: pathlib.Path, stale: Callable[[int, int, int], bool]) -> None:
    """Remove the open chunks that are `stale`, by first member, past-last member and width, and
    their rows.
    """
    _remove([*folder.glob(f"{OPEN}/*/"), *folder.glob("live/*/")], stale)
    with contextlib.suppress(OSError):  # other chunks are in it, or it is not there
        (folder / "live").rmdir()


def clear_rows(folder: pathlib.Path, first: int, last: int) -> None:
    """Remove the rows of running chunks (live_rows.py) of members first to last - 1."""
    _remove(folder.glob("live/*/"), lambda a, b, _: a < last and first < b)


def _remove(paths: Iterable[pathlib.Path], stale: Callable[[int, int, int], bool]) -> None:
    for path in paths:
        if (match := OPEN_NAME.fullmatch(path.name)) and stale(*map(int, match.groups())):
            shutil.rmtree(path, ignore_errors=True)


def clear_done(folder: pathlib.Path, chunks: Iterable[tuple[int, int]]) -> None:
    """Remove the open chunks of finished members."""
    done = list(chunks)
    clear(folder, lambda first, last, _: any(a < last and first < b for a, b in done))


class Checkpoints:
    """The checkpoints of one running chunk, saved by a thread at most every `seconds`; with 0 at
    every row.

    States that take long to save, as large replays do, are saved as seldom as makes it a `SHARE` of
    the time. restored: rows that came from disk. record: a file of the folder, without which
    nothing is written there, as the folder was deleted.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        first: int,
        last: int,
        width: int,
        seconds: float,
        record: pathlib.Path | None = None,
    ) -> None:
        self._record = record
        self._folder = (folder / OPEN / f"{first:08d}-{last:08d}-{width:08d}").absolute()
        self._members = first, last
        self._seconds, self._pause, self._saved = seconds, seconds, time.monotonic()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: concurrent.futures.Future[None] | None = None
        self.restored = 0

    def newest(self, start: Any) -> tuple[Any, Rows]:
        """The newest undamaged state on disk and the rows before it, else `start` and no rows."""
        rows = sorted(
            (path for path in self._folder.glob("*/") if path.name.isdigit()), reverse=True
        )
        for path in rows:
            try:
                tree = restore(path)
            except MemoryError:
                raise
            except Exception as error:  # a damaged file may fail in any way
                print(
                    f"{path} is damaged ({_first_line(error)}): going back to the checkpoint "
                    "before it."
                )
                shutil.rmtree(path, ignore_errors=True)  # or it would count as one of the newest
                continue
            try:
                state, found = _decode(tree, start)
            except ValueError as error:
                print(
                    f"{path} is of another program ({_first_line(error)}): going back to the "
                    "checkpoint before it."
                )
                continue
            self.restored = len(found)
            return state, found
        return start, []

    def offer(self, state: Any, rows: Rows) -> None:
        """Save this state if the last was saved long enough ago and is on disk.

        It is copied now: its buffers may be donated next.
        """
        now = time.monotonic()
        if now - self._saved < self._pause or (self._writing and not self._writing.done()):
            return
        self._saved = now
        self._writing = self._thread.submit(self._write, _encode(state, rows), len(rows))

    def save_now(self, state: Any, rows: Rows) -> None:
        """Save this state, and wait until it is on disk."""
        self._thread.submit(self._write, _encode(state, rows), len(rows)).result()

    def close(self, finished: bool) -> None:
        """Wait for what is being written; of a `finished` chunk remove all."""
        self._thread.shutdown()
        if finished:
            clear_done(self._folder.parent.parent, [self._members])

    def _write(self, tree: dict[str, Any], row: int) -> None:
        try:
            if self._record is not None and not self._record.exists():
                raise FileNotFoundError(f"{self._record} was deleted")
            save(self._folder / f"{row:08d}", tree)
            kept = sorted(
                path
                for path in self._folder.glob("*/")
                if path.name.isdigit() and int(path.name) <= row
            )[-MAX_KEPT:]
            for path in set(self._folder.glob("*/")) - set(kept):
                shutil.rmtree(path, ignore_errors=True)
        except Exception as error:  # such as a full disk, which does not stop the run
            print(
                f"no checkpoint was kept in {self._folder} ({_first_line(error)}): stopping now "
                "loses the work since the last one."
            )
        if self._seconds:
            self._pause = max(self._seconds, (time.monotonic() - self._saved) / SHARE)


def _encode(state: Any, rows: Rows) -> dict[str, Any]:
    """Copies on the host, without empty leaves, which orbax can't hold."""
    leaves = {
        f"state.{i:04d}": np.array(raw(leaf)) for i, leaf in enumerate(jax.tree.leaves(state))
    }
    curves = {f"rows.{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: value for name, value in (leaves | curves).items() if value.size}


def _decode(tree: dict[str, Any], start: Any) -> tuple[Any, Rows]:
    leaves, structure = jax.tree.flatten(start)
    state = [put(tree.get(f"state.{i:04d}"), leaf) for i, leaf in enumerate(leaves)]
    curves = {
        name.removeprefix("rows."): value
        for name, value in tree.items()
        if name.startswith("rows.")
    }
    rows = [
        {name: value[i] for name, value in curves.items()}
        for i in range(len(next(iter(curves.values()))))
    ]
    return jax.tree.unflatten(structure, state), rows


def put(value: np.ndarray | None, leaf: jax.Array) -> jax.Array:
    """A saved leaf on the devices of `leaf`, as a key where that is one."""
    if value is None:
        if leaf.size:
            raise ValueError(f"it lacks a leaf of {leaf.dtype}{leaf.shape}")
        return leaf
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    like = jax.random.key_data(leaf) if is_key else leaf
    if value.dtype.kind == "V" and value.dtype.itemsize == like.dtype.itemsize:
        value = value.view(like.dtype)  # a .npz doesn't know bfloat16 and its like
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"it holds {value.dtype}{value.shape} where the program has {like.dtype}{like.shape}"
        )
    placed = jax.device_put(value, like.sharding)
    return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf)) if is_key else placed


def save(path: pathlib.Path, tree: dict[str, np.ndarray]) -> None:
    """Write these arrays whole or not at all, over what is there."""
    with _checkpointer() as (orbax, arguments):
        orbax.save(path, args=arguments(tree), force=True)


def restore(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays that were saved there; an error, of any kind, where they are damaged."""
    with _checkpointer() as (orbax, arguments):
        return orbax.restore(path, args=arguments())


@contextlib.contextmanager
def _checkpointer() -> Iterator[tuple[Any, Callable[..., Any]]]:
    """orbax's checkpointer for one process, silent: others of the same run write their own chunks
    and are not waited for.
    """
    import orbax.checkpoint as ocp  # here, as it takes a second to import

    handler, arguments = _npz()
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"p{me}"
    )
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ocp.Checkpointer(handler(), multiprocessing_options=alone) as checkpointer:
            yield checkpointer, arguments
    finally:
        logger.setLevel(level)


@functools.cache
def _npz() -> tuple[type, type]:
    """orbax's handler of a dictionary of arrays in one file, and the class of its arguments."""
    import orbax.checkpoint as ocp

    class Npz(ocp.CheckpointHandler):
        def save(self, directory: Any, args: Any) -> None:
            np.savez(pathlib.Path(directory) / NAME, **args.tree)

        def restore(self, directory: Any, args: Any = None) -> dict[str, np.ndarray]:
            return npz.read(pathlib.Path(directory) / NAME)

    @ocp.args.register_with_handler(Npz, for_save=True, for_restore=True)
    @dataclasses.dataclass
    class Tree(ocp.args.CheckpointArgs):
        tree: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    return Npz, Tree


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
