"""Large arrays of a training (a data set, weights): by digest in records, as files beside them.

Each is one FOLDER/arrays/SHA256.npy, written once. Loading one executes nothing.
"""

import hashlib
import pathlib
import re
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.sweep.files import write
from jaxrl.tree import partition

T = TypeVar("T")

LARGE = 2**16  # bytes: larger arrays are arguments of the compiled program, and files in a folder
NAME = re.compile(r"arrays/[0-9a-f]{64}\.npy")
Reference = dict[str, Any]  # {"sha256", "shape", "dtype", "path"}


def is_large(leaf: Any) -> bool:
    """True for an array of more than `LARGE` bytes; keys never are."""
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return not is_key and leaf.size * leaf.dtype.itemsize > LARGE


def on_device(tree: T) -> T:
    """The same pytree with its large arrays as jax's, which traced code can index."""
    large, combine = partition(tree, is_large)
    return combine([jnp.asarray(x) for x in large]) if large else tree


def reference(array: Any) -> Reference:
    """The digest, shape, dtype and file of an array, which stand for it in a record."""
    host = np.ascontiguousarray(array)
    digest = _digest(host)
    return {
        "sha256": digest,
        "shape": list(host.shape),
        "dtype": str(host.dtype),
        "path": f"arrays/{digest}.npy",
    }


def is_reference(found: Any) -> bool:
    return isinstance(found, dict) and set(found) == {"sha256", "shape", "dtype", "path"}


def save(folder: pathlib.Path, tree: Any) -> None:
    """Write each large leaf of a pytree, unless the folder or that of its sweep has it."""
    for leaf in filter(is_large, jax.tree.leaves(tree)):
        host = np.ascontiguousarray(leaf)
        name = reference(host)["path"]
        if any((home / name).is_file() for home in _homes(folder)):
            continue
        (folder / "arrays").mkdir(exist_ok=True)
        write(folder / name, lambda file, host=host: np.save(file, host, allow_pickle=False))


def load(folder: pathlib.Path, found: Reference) -> np.ndarray:
    """The array of a reference.

    Raises:
      ValueError: the folder lacks its file, or holds another array there.
    """
    name = found["path"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a file of a sweep's arrays")
    path = next((home / name for home in _homes(folder) if (home / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has no {name}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):  # numpy's own words are about pickles
        raise ValueError(f"{path} is damaged: it is not a .npy file of a plain array") from None
    if array.dtype.kind == "V":  # a .npy does not know bfloat16 and its like
        array = array.view(jnp.dtype(found["dtype"]))
    same = (list(array.shape), str(array.dtype)) == (found["shape"], found["dtype"])
    if not same or _digest(array) != found["sha256"]:
        raise ValueError(f"{path} holds another array: its digest does not match the record")
    return np.array(array)


def _homes(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders that an array may be in: its own, and, of a group static/NNN, its sweep's."""
    grouped = folder.parent.name == "static"
    return [folder, folder.parent.parent] if grouped else [folder]


def _digest(host: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(host).view(np.uint8).data).hexdigest()
