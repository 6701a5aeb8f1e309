"""One sweep by several processes, on one machine or many: each runs its own chunks, and all share a
folder.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


def owner(chunk: int, processes: int) -> int:
    """The process that a chunk belongs to, by its place among all chunks."""
    return chunk % processes


def is_local(chunk: int) -> bool:
    """True where a chunk belongs to this process."""
    return owner(chunk, jax.process_count()) == jax.process_index()


def is_primary() -> bool:
    """True in the process that holds the folder and writes the files of the whole sweep."""
    return jax.process_index() == 0


def broadcast(number: int) -> int:
    """The first process's number, in all of them."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def all_or_raise(what: str, call: Callable[[], T]) -> T:
    """The result of a call that every process makes, once all have succeeded; where one fails, all
    raise rather than wait for it.
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
            f"{what} failed in process {', '.join(map(str, failed))}, which prints the reason. "
            "This one stops with it; every finished chunk is kept, and the same job resumes from "
            "there."
        )
    return result  # type: ignore[return-value]


def barrier(name: str) -> None:
    """Wait until every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def check(folder: Any) -> None:
    """Refuse several processes without a folder, or with different numbers of devices."""
    if jax.process_count() > 1 and folder is None:
        raise ValueError(
            f"this sweep is shared by {jax.process_count()} processes, which need a folder that "
            "all of them see: write folder=."
        )
    here, there = jax.local_device_count(), broadcast(jax.local_device_count())
    wrong = (
        f"this process has {here} devices and the first has {there}: give each as many, or their "
        "chunks differ."
    )
    all_or_raise("counting devices", lambda: _require(here == there, wrong))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
