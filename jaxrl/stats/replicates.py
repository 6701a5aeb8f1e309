"""Replicates: runs of different keys. Equal keys are one replicate, whatever their labels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from jaxrl.lazy import xarray as xr

Results: TypeAlias = "xr.Dataset | xr.DataArray"


def key_name(axis: str) -> str:
    """The coordinate of an axis of keys that identifies them: "seed_key"."""
    return f"{axis}_key"


def key_ids(words: np.ndarray) -> np.ndarray:
    """Keys of two 32-bit words [n, 2] as whole numbers: 7 of `jax.random.key(7)`. int64 [n]."""
    high, low = np.asarray(words, np.uint32).astype(np.uint64).T
    return ((high << np.uint64(32)) | low).view(np.int64)


def replicate_ids(results: Results, over: str) -> np.ndarray:
    """What identifies each replicate: its key where results have keys, else its label. [n]."""
    name = key_name(over)
    if name in results.coords and results.coords[name].dims == (over,):
        return np.asarray(results.coords[name].values)
    return np.asarray(results[over].values)


def check_replicates(results: Results, over: str) -> None:
    """Refuse results in which two replicates have the same key.

    Raises:
      ValueError: a key, or a label of results without keys, that occurs twice.
    """
    if over not in results.coords:
        return
    ids = replicate_ids(results, over)
    unique, first, counts = np.unique(ids, return_index=True, return_counts=True)
    if len(unique) == len(ids):
        return
    label = results[over].values[first[counts > 1].min()]
    raise ValueError(
        f"{over} {label} occurs {counts.max()} times: equal keys are one replicate, and "
        f"{len(ids)} labels have {len(unique)} keys. Sweep different seeds, or select each once by "
        f"results.isel({over}=[...])."
    )


def check_pairs(x: Any, y: Any) -> None:
    """Refuse labelled arrays as pairs where their seeds have other keys, or another order.

    Raises:
      ValueError: both have an axis `seed`, and not the same keys at each place.
    """
    if not isinstance(x, xr.DataArray) or not isinstance(y, xr.DataArray):
        return
    if "seed" not in x.coords or "seed" not in y.coords:
        return
    if not np.array_equal(replicate_ids(x, "seed"), replicate_ids(y, "seed")):
        raise ValueError(
            "the two have different seeds, or different keys under the same labels, so they are "
            "not pairs: write rl.stats.compare(a, b), which pairs by key where it can."
        )


def values_of(x: Any) -> Any:
    """The values of an array, after a check of the replicates of a labelled one."""
    if isinstance(x, xr.DataArray):
        check_replicates(x, "seed")
        return x.values
    return x
