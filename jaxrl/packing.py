"""Several arrays as few, so that a GPU launches one kernel where it would launch many.

On a GPU a loop over small arrays takes the time of its launches: each array that a scan carries or
stacks, that a replay stores or that is gathered from costs one or two. Packed, they are one vector
of each type. A CPU launches nothing: there, the functions leave arrays as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import scalars
from jaxrl.devices import platform
from jaxrl.tree import pytree, static

Step = Callable[[Any, Any], tuple[Any, Any]]
Convert = Callable[[Any], Any]
WORD = jnp.dtype("float32")
MAX_STEPS = 128  # of a loop before which the scalars of all steps are computed
WIDENED = 64  # numbers of fewer than 32 bits in a leaf, up to which they take a word each


def packs() -> bool:
    """True where programs are traced for a GPU.

    A TPU has no launches: there, packing moves more bytes, other than that of a replay. False under
    jax_debug_nans and jax_debug_infs: packed integers may have the bits of a NaN.
    """
    return platform() == "gpu" and not _searches_nan()


def packs_storage() -> bool:
    """True where a replay is stored packed: on a GPU and a TPU, on which one gather moves fewer
    bytes than several.
    """
    return platform() != "cpu" and not _searches_nan()


def _searches_nan() -> bool:
    config: Any = jax.config
    return config.jax_debug_nans or config.jax_debug_infs


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a leaf is packed: its shape, its type (of keys the generator), and the part of the
    vector of a type.
    """

    shape: tuple[int, ...]
    kind: Any
    vector: str
    first: int
    end: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a tree is packed. Two trees with equal layouts are packed alike."""

    structure: Any
    places: tuple[Place, ...]


@pytree
class Packed:
    """A tree with its leaves packed into one vector [..., n] of each type, by its name."""

    vectors: dict[str, jax.Array]
    layout: Layout = static()

    def unpack(self) -> Any:
        """The tree."""
        leaves = [
            _restored(self.vectors[place.vector][..., place.first : place.end], place)
            for place in self.layout.places
        ]
        return self.layout.structure.unflatten(leaves)


def pack(tree: Any, axes: int = 0) -> Packed:
    """Pack the leaves of a tree.

    axes: the number of leading axes that all leaves share, and keep. float32 is packed as it is, so
    that gradients pass through. Integers, booleans and keys join it, bit by bit: what is packed is
    moved, never computed with. Other floats, 64-bit integers, and large leaves of fewer than 32
    bits, such as images, are packed by type.
    """
    leaves, structure = jax.tree.flatten(tree)
    parts: dict[str, list[jax.Array]] = {}
    places = []
    for leaf in map(jnp.asarray, leaves):
        part, shape = _stored(leaf, axes)
        same = parts.setdefault(part.dtype.name, [])
        first = sum(x.shape[-1] for x in same)
        same.append(part)
        kind = jax.random.key_impl(leaf) if _is_key(leaf) else leaf.dtype
        places.append(Place(shape, kind, part.dtype.name, first, first + part.shape[-1]))
    vectors = {name: jnp.concatenate(each, axis=-1) for name, each in parts.items()}
    return Packed(vectors, Layout(structure, tuple(places)))


def plus(total: Any, tree: Any) -> Any:
    """The sum of a tree of numbers that may be packed and one that is not. Packed ones are added
    as vectors, which a loop does in place.
    """
    if not isinstance(total, Packed):
        return jax.tree.map(jnp.add, total, tree)
    other = pack(tree)
    if other.layout != total.layout:
        raise TypeError(f"A sum of {other.layout.structure} with {total.layout.structure}.")
    is_integer = {name: np.zeros(x.shape[-1], bool) for name, x in total.vectors.items()}
    for place in total.layout.places:
        is_bits = place.vector == WORD.name and place.kind != WORD
        is_integer[place.vector][place.first : place.end] = is_bits

    def added(name: str) -> jax.Array:
        x, y = total.vectors[name], other.vectors[name]
        if not is_integer[name].any():
            return x + y
        bits = [jax.lax.bitcast_convert_type(each, jnp.int32) for each in (x, y)]
        whole = jax.lax.bitcast_convert_type(bits[0] + bits[1], WORD)
        return jnp.where(is_integer[name], whole, x + y)

    return Packed({name: added(name) for name in total.vectors}, total.layout)


def packed(tree: Any, axes: int = 0) -> Any:
    """A tree packed for a GPU; elsewhere as it is. `unpacked` is its inverse."""
    return pack(tree, axes) if packs() else tree


def unpacked(tree: Any) -> Any:
    """A tree that may be packed, as it was."""
    return tree.unpack() if isinstance(tree, Packed) else tree


def scan(step: Step, carry: Any, xs: Any) -> tuple[Any, Any]:
    """`jax.lax.scan`; on a GPU what is carried and what is stacked is packed."""
    if not packs():
        return jax.lax.scan(step, carry, xs)
    if len(jax.tree.leaves(xs)[0]) == 1:  # nothing is repeated
        return _once(step, carry, xs)

    def packed_step(carry: Any, x: Any) -> tuple[Any, Any]:
        after, row = step(carry.unpack(), x)
        return pack(after), pack(row)

    last, rows = jax.lax.scan(packed_step, pack(carry), xs)
    return last.unpack(), rows.unpack()


def mean_scan(step: Step, carry: Any, xs: Any, counted: jax.Array | None = None) -> tuple[Any, Any]:
    """A scan with the means of its rows. counted: of which steps, bool [N]; None for all.

    On a GPU the rows are packed; where some are counted, they are summed in the loop, and
    what depends on scalars alone is computed before it. The carry is not packed: a matrix that is
    multiplied with would have to be cut out of it in each step, which costs more than it saves.
    """
    length = len(jax.tree.leaves(xs)[0])
    number = length if counted is None else jnp.maximum(counted.sum(), 1)
    if counted is not None and sums_in_loop(length):
        return _summed(step, carry, xs, counted, number)
    if packs() and length > 1:  # stacked as one array
        last, packed_rows = jax.lax.scan(lambda now, x: _packed_row(*step(now, x)), carry, xs)
        rows = packed_rows.unpack()
    else:
        last, rows = (_once if packs() else jax.lax.scan)(step, carry, xs)

    def mean(x: jax.Array) -> jax.Array:
        return x.mean() if counted is None else jnp.where(counted, x, 0.0).sum() / number

    return last, jax.tree.map(mean, rows)


def _packed_row(carry: Any, row: Any) -> tuple[Any, Packed]:
    return carry, pack(row)


def sums_in_loop(length: int) -> bool:
    """True where `mean_scan` of so many steps, of which some are counted, sums in its loop."""
    return packs_scalars() and 1 < length <= MAX_STEPS


def packs_scalars() -> bool:
    """True where scalars are computed first, as one kernel; not without jit, to be debugged."""
    config: Any = jax.config
    return packs() and not config.jax_disable_jit


def _once(step: Step, carry: Any, xs: Any) -> tuple[Any, Any]:
    last, row = step(carry, jax.tree.map(lambda x: x[0], xs))
    return last, jax.tree.map(lambda x: jnp.asarray(x)[None], row)


def _summed(
    step: Step, carry: Any, xs: Any, counted: jax.Array, number: jax.Array | int
) -> tuple[Any, Any]:
    def summed(now: tuple[Any, Any], x: tuple[Any, jax.Array]) -> tuple[Any, tuple[()]]:
        (carry, totals), (x, counts) = now, x
        carry, row = step(carry, x)
        row = jax.tree.map(lambda x: jnp.where(counts, x, 0.0), row)
        return (carry, jax.tree.map(jnp.add, totals, row)), ()

    carry, xs = jax.tree.map(jnp.asarray, (carry, xs))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (xs, counted))
    row = jax.eval_shape(lambda carry, x: step(carry, x)[1], carry, shapes[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.result_type(x.dtype, WORD)), row)
    zeros = jax.lax.optimization_barrier(pack(zeros)).unpack()  # else a copy for each
    parts = scalars.split(summed, (carry, zeros), shapes)
    few, arrays = parts.divide((carry, zeros))
    few_x, arrays_x = scalars.parted(parts.x, jax.tree.leaves((xs, counted)))
    length = len(jax.tree.leaves(xs)[0])
    few, shared = _scan_unrolled(lambda few, x: parts.first(*few, *x), few, few_x, length)
    shared = jax.lax.optimization_barrier(pack(shared, axes=1))

    def rest(arrays: list[Any], x: Any) -> tuple[Any, tuple[()]]:
        arrays_x, shared = x
        return parts.rest(*arrays, *arrays_x, *shared.unpack()), ()

    arrays, _ = jax.lax.scan(rest, arrays, (arrays_x, shared), length=length)
    last, totals = parts.join(few, arrays)
    return last, jax.tree.map(lambda x: x / number, totals)


def _scan_unrolled(step: Step, carry: Any, xs: Any, length: int) -> tuple[Any, Any]:
    """A scan that is written out, so that its parts may be known before others."""
    rows = []
    for i in range(length):
        carry, row = step(carry, [x[i] for x in xs])
        rows.append(row)
    return carry, jax.tree.map(lambda *x: jnp.stack(x), *rows)


def scalars_first(step: Step, carry: Any, x: Any) -> tuple[Step, Convert, Convert]:
    """A step of a loop as one that computes first what depends on scalars alone, and functions to
    its carry and from it. carry, x: arrays, for their shapes.

    Elsewhere than on a GPU it is the step itself.
    """
    if not packs_scalars():
        return step, lambda carry: carry, lambda carry: carry
    parts = scalars.split(step, carry, x)

    def enter(carry: Any) -> Any:
        few, arrays = parts.divide(jax.tree.map(jnp.asarray, carry))
        return pack(few), arrays

    def leave(carry: Any) -> Any:
        few, arrays = carry
        return parts.join(few.unpack(), arrays)

    def stepped(carry: Any, x: Any) -> tuple[Any, Any]:
        few, arrays = carry
        few_x, arrays_x = scalars.parted(parts.x, jax.tree.leaves(x))
        found = pack(parts.first(*few.unpack(), *few_x))
        few, shared = jax.lax.optimization_barrier(found).unpack()
        after = parts.rest(*arrays, *arrays_x, *shared)
        return (pack(few), after[: len(arrays)]), parts.row(after[len(arrays) :])

    return stepped, enter, leave


def rows(tree: Any) -> Callable[[jax.Array], Any]:
    """A function of indices [M] that gathers those rows of all leaves [N, ...] of a tree."""
    if not packs():
        return lambda index: jax.tree.map(lambda x: x[index], tree)
    whole = pack(tree, axes=1)
    return lambda index: jax.tree.map(lambda x: x[index], whole).unpack()


def vectors(tree: Any) -> list[jax.Array]:
    """The leaves of a tree, for a sum over all; on a GPU one vector of each type."""
    return list(pack(tree).vectors.values()) if packs() else jax.tree.leaves(tree)


def means(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The mean of each array []; on a GPU of those of equal shape at once."""
    if not packs():
        return {name: x.mean() for name, x in arrays.items()}
    groups: dict[tuple[tuple[int, ...], jnp.dtype], list[str]] = {}
    for name, x in arrays.items():
        groups.setdefault((x.shape, jax.eval_shape(jnp.mean, x).dtype), []).append(name)
    found = {}
    for (_, kind), names in groups.items():
        stacked = jnp.stack([arrays[name].astype(kind).ravel() for name in names])
        found |= dict(zip(names, stacked.mean(1), strict=True))
    return {name: found[name] for name in arrays}


def _is_key(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _stored(leaf: jax.Array, axes: int) -> tuple[jax.Array, tuple[int, ...]]:
    """A leaf as a vector [..., n] of the type that it is packed with, and its shape."""
    leaf = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    shape, kind = leaf.shape[axes:], leaf.dtype
    flat = leaf.reshape(*leaf.shape[:axes], math.prod(shape))
    is_whole = any(jnp.issubdtype(kind, of) for of in (jnp.integer, jnp.bool_))
    if not is_whole or kind.itemsize > 4 or (kind.itemsize < 4 and math.prod(shape) > WIDENED):
        return flat, shape
    return jax.lax.bitcast_convert_type(flat.astype(_wide(kind)), WORD), shape


def _restored(flat: jax.Array, place: Place) -> jax.Array:
    shape = (*flat.shape[:-1], *place.shape)
    if not isinstance(place.kind, jnp.dtype):
        words = jax.lax.bitcast_convert_type(flat, jnp.uint32)
        return jax.random.wrap_key_data(words.reshape(shape), impl=place.kind)
    if flat.dtype == WORD and place.kind != WORD:
        flat = jax.lax.bitcast_convert_type(flat, _wide(place.kind))
    return flat.astype(place.kind).reshape(shape)


def _wide(kind: Any) -> Any:
    return jnp.int32 if jnp.issubdtype(kind, jnp.signedinteger) else jnp.uint32


def in_pieces(function: Callable[[Any], Any], x: Any, pieces: int) -> Any:
    """`function(x)` of leaves [N, ...]; on a GPU in equal pieces, one after another.

    The function treats each row alone. What it computes on the way takes the memory of one piece.
    """
    if not packs() or pieces == 1:
        return function(x)
    cut = jax.tree.map(lambda leaf: leaf.reshape(pieces, len(leaf) // pieces, *leaf.shape[1:]), x)
    found = jax.lax.map(function, cut)
    return jax.tree.map(lambda leaf: leaf.reshape(pieces * leaf.shape[1], *leaf.shape[2:]), found)
