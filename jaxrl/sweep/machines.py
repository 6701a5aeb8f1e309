"""One sweep by several processes, on one machine or many: each takes its own chunks, and they meet in a shared folder."""

from typing import Any

import jax
import numpy as np


def mine(piece: int) -> bool:
    """Whether a chunk, by its place among all chunks, is this process's."""
    return piece % jax.process_count() == jax.process_index()


def first() -> bool:
    """Whether this process speaks for all: it holds the folder and writes what is of the whole sweep."""
    return jax.process_index() == 0


def agreed(number: int) -> int:
    """The first process's number, in all of them."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def meet(where: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def check(folder: Any) -> None:
    if jax.process_count() > 1 and folder is None:
        raise ValueError(
            f"this sweep is shared by {jax.process_count()} processes, which meet in a folder that all of them see: write "
            "folder=."
        )
