"""One sweep by several processes, on one machine or many: each takes its own chunks, and they meet
in a shared folder.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def whose(piece: int, processes: int) -> int:
    """The process that a chunk belongs to, by its place among all chunks."""
    return piece % processes


def mine(piece: int) -> bool:
    """Whether a chunk is this process's."""
    return whose(piece, jax.process_count()) == jax.process_index()


def first() -> bool:
    """Whether this process speaks for all: it holds the folder and writes what is of the whole
    sweep.
    """
    return jax.process_index() == 0


def agreed(number: int) -> int:
    """The first process's number, in all of them."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def together(what: str, call: Callable[[], T]) -> T:
    """The result of a call that every process makes, once none has failed: where one fails, all
    stop rather than wait.
    """
    if jax.process_count() == 1:
        return call()
    from jax.experimental import multihost_utils

    result, error = None, None
    try:
        result = call()
    except Exception as found:
        error = found
    failed = np.flatnonzero(multihost_utils.process_allgather(np.int32(error is not None)))
    if error is not None:
        raise error
    if len(failed):
        raise RuntimeError(
            f"{what} failed in process {', '.join(map(str, failed))}, whose own message says "
            "why. This one stops with it; "
            "every finished chunk is kept, and the same job goes on from there."
        )
    return result  # type: ignore[return-value]


def meet(where: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def check(folder: Any) -> None:
    if jax.process_count() > 1 and folder is None:
        raise ValueError(
            f"this sweep is shared by {jax.process_count()} processes, which meet in a folder "
            "that all of them see: write "
            "folder=."
        )
    here, there = jax.local_device_count(), agreed(jax.local_device_count())
    wrong = (
        f"this process has {here} devices and the first has {there}: give each as many, or "
        "a chunk is not the same in all."
    )
    together("counting devices", lambda: _require(here == there, wrong))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
