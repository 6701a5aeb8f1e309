"""Several arrays as few, so that an accelerator launches one kernel where it would launch many.

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

from jaxrl.devices import platform
from jaxrl.tree import pytree, static

WORD = jnp.dtype("float32")
WIDENED = 64  # numbers of fewer than 32 bits in a leaf, up to which they take a word each


def packs() -> bool:
    """True where programs are traced for an accelerator.

    False under jax_debug_nans and jax_debug_infs: packed integers may have the bits of a NaN.
    """
    config: Any = jax.config
    return platform() != "cpu" and not (config.jax_debug_nans or config.jax_debug_infs)


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


def packed(tree: Any, axes: int = 0) -> Any:
    """A tree packed for an accelerator; on a CPU as it is. `unpacked` is its inverse."""
    return pack(tree, axes) if packs() else tree


def unpacked(tree: Any) -> Any:
    """A tree that may be packed, as it was."""
    return tree.unpack() if isinstance(tree, Packed) else tree


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any,
    packs_carry: bool = True,
) -> tuple[Any, Any]:
    """`jax.lax.scan`; on an accelerator what is stacked is packed, and what is carried.

    packs_carry: False leaves the carry as it is. A matrix that is multiplied with has to be cut out
    of a packed carry at each step, which costs more than it saves.
    """
    if not packs():
        return jax.lax.scan(step, carry, xs)
    if len(jax.tree.leaves(xs)[0]) == 1:  # nothing is repeated
        last, row = step(carry, jax.tree.map(lambda x: x[0], xs))
        return last, jax.tree.map(lambda x: jnp.asarray(x)[None], row)

    def packed_step(carry: Any, x: Any) -> tuple[Any, Any]:
        after, row = step(unpacked(carry), x)
        return pack(after) if packs_carry else after, pack(row)

    last, rows = jax.lax.scan(packed_step, pack(carry) if packs_carry else carry, xs)
    return unpacked(last), rows.unpack()


def rows(tree: Any) -> Callable[[jax.Array], Any]:
    """A function of indices [M] that gathers those rows of all leaves [N, ...] of a tree."""
    if not packs():
        return lambda index: jax.tree.map(lambda x: x[index], tree)
    whole = pack(tree, axes=1)
    return lambda index: jax.tree.map(lambda x: x[index], whole).unpack()


def vectors(tree: Any) -> list[jax.Array]:
    """The leaves of a tree, for a sum over all; on an accelerator one vector of each type."""
    return list(pack(tree).vectors.values()) if packs() else jax.tree.leaves(tree)


def means(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The mean of each array []; on an accelerator of those of equal shape at once."""
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
    """`function(x)` of leaves [N, ...]; on an accelerator in equal pieces, one after another.

    The function treats each row alone. What it computes on the way takes the memory of one piece.
    """
    if not packs() or pieces == 1:
        return function(x)
    cut = jax.tree.map(lambda leaf: leaf.reshape(pieces, len(leaf) // pieces, *leaf.shape[1:]), x)
    found = jax.lax.map(function, cut)
    return jax.tree.map(lambda leaf: leaf.reshape(pieces * leaf.shape[1], *leaf.shape[2:]), found)
