"""Cells: maps from descriptors of solutions, or from observations, to cell numbers from 0 up."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import check_counts, not_defined
from jaxrl.tree import pytree, static


class Cells:
    """Base class of partitions of a space into `num_cells` cells: a pytree.

    num_dims: D of the descriptors, if that is fixed; None: any. A class attribute or property.
    """

    num_dims: Any = None

    @property
    def bounds(self) -> tuple[jax.Array, jax.Array] | None:
        """The lower and upper corner of the box that plots show, or None. [D], [D]."""
        return None

    @property
    def num_cells(self) -> int:
        raise not_defined(self, Cells.num_cells)

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        """The cell of each descriptor. int32 [...] of [..., D]."""
        raise not_defined(self, Cells.__call__)


def check_descriptor(descriptor: Any, cells: Cells, user: str) -> None:
    """Raise a ValueError if the cells are not defined for descriptors of this shape; `user` is what
    computes them.
    """
    num_dims = cells.num_dims
    if num_dims is None or descriptor.shape == (num_dims,):
        return
    raise ValueError(
        f"{user} gives descriptors of shape {descriptor.shape}, and this {type(cells).__name__} "
        f"divides a space of {num_dims} dimensions: write a descriptor function that returns "
        f"shape ({num_dims},), or other cells; for many dimensions use rl.archives.Hashed, or "
        "rl.MapElites(encoder=rl.archives.Autoencoder())."
    )


def find_cell(cells: Cells, descriptor: jax.Array) -> jax.Array:
    """The cell of each descriptor [..., D]; -1 for one that is not finite. int32 [...]."""
    return jnp.where(jnp.isfinite(descriptor).all(-1), cells(descriptor), -1)


@pytree
class Grid(Cells):
    """A grid of equal boxes between `low` and `high` [D]; cells are numbered in row-major order.

    shape: number of boxes along each dimension. clip: a descriptor outside the grid is assigned to
    the nearest box; False: it has no cell, -1.
    """

    low: jax.Array
    high: jax.Array
    shape: tuple[int, ...] = static()
    clip: bool = static(default=True)

    def __post_init__(self) -> None:
        dims = len(self.shape)
        for name in ("low", "high"):
            given = jnp.shape(vars(self)[name])
            if given[-1:] != (dims,):
                raise ValueError(
                    f"Grid.{name} has shape {given}, and shape={self.shape} has {dims} "
                    f"dimensions: write {name}=jnp.array([...]) of {dims} numbers."
                )

    @classmethod
    def unit(cls, *shape: int, clip: bool = True) -> "Grid":
        """A grid between 0 and 1 in each dimension."""
        return cls.between(0.0, 1.0, shape, clip)

    @classmethod
    def between(cls, low: float, high: float, shape: tuple[int, ...], clip: bool = True) -> "Grid":
        """A grid with the same two limits in each dimension."""
        dims = len(shape)
        return cls(jnp.full(dims, low), jnp.full(dims, high), tuple(shape), clip)

    @property
    def num_dims(self) -> int:  # type: ignore[override]
        return len(self.shape)

    @property
    def bounds(self) -> tuple[jax.Array, jax.Array]:
        return self.low, self.high

    @property
    def num_cells(self) -> int:
        return math.prod(self.shape)

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        like = lambda x: jnp.broadcast_to(jnp.asarray(x), descriptor.shape)
        sides, low = like(np.array(self.shape, np.int32)), like(self.low)
        place = (descriptor - low) / (like(self.high) - low)
        box = jnp.floor(place * sides).astype(jnp.int32)
        box = jnp.where(place == 1.0, sides - 1, box)  # the upper edge belongs to the last box
        inside = ((box >= 0) & (box < sides)).all(-1)
        box = jnp.clip(box, 0, sides - 1)
        strides = np.append(np.cumprod(self.shape[:0:-1])[::-1], 1).astype(np.int32)
        cell = (box * like(strides)).sum(-1).astype(jnp.int32)
        return cell if self.clip else jnp.where(inside, cell, -1)


@pytree
class Nearest(Cells):
    """The Voronoi cells of centroids [C, D]: a descriptor is in the cell of the nearest centroid
    (CVT-MAP-Elites, Vassiliades et al., 2018).
    """

    centroids: jax.Array

    @classmethod
    def uniform(
        cls,
        key: jax.Array,
        num_cells: int,
        low: Sequence[float],
        high: Sequence[float],
        samples: int = 20_000,
        iterations: int = 20,
    ) -> "Nearest":
        """Centroids of a centroidal Voronoi tessellation of a box: k-means on uniform samples."""
        if samples < num_cells:
            raise ValueError(
                f"samples={samples} is too few for num_cells={num_cells} centroids: write "
                f"samples={10 * num_cells}."
            )
        key_samples, key_start = jax.random.split(key)
        bounds = jnp.array([low, high], jnp.float32)
        points = jax.random.uniform(
            key_samples, (samples, bounds.shape[1]), minval=bounds[:1], maxval=bounds[1:]
        )
        start = jax.random.choice(key_start, points, (num_cells,), replace=False)

        def refine(centroids: jax.Array, _: Any) -> tuple[jax.Array, None]:
            cell = cls(centroids)(points)
            total = jax.ops.segment_sum(points, cell, num_cells)
            count = jax.ops.segment_sum(jnp.ones(samples), cell, num_cells)[:, None]
            return jnp.where(count > 0, total / jnp.maximum(count, 1.0), centroids), None

        return cls(jax.lax.scan(refine, start, length=iterations)[0])

    @property
    def num_dims(self) -> int:  # type: ignore[override]
        return self.centroids.shape[-1]

    @property
    def bounds(self) -> tuple[jax.Array, jax.Array]:
        """The bounding box of the centroids, with a margin of half the distance of evenly spaced
        ones.
        """
        low, high = self.centroids.min(0), self.centroids.max(0)
        rows = max(self.num_cells ** (1 / self.num_dims), 2.0)
        around = (high - low) / (rows - 1.0) / 2.0
        return low - around, high + around

    @property
    def num_cells(self) -> int:
        return self.centroids.shape[-2]

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        # |x - c|^2 without the term of x alone
        products = jnp.einsum("...d,cd->...c", descriptor, self.centroids)
        squares = jnp.broadcast_to((self.centroids**2).sum(-1), products.shape)
        distance = squares - 2.0 * products
        return jnp.argmin(distance, -1).astype(jnp.int32)


@pytree
class Hashed(Cells):
    """The signs of random projections of a descriptor [D], as a number of `bits` bits (SimHash,
    Charikar, 2002).

    projection: [D, bits].
    """

    projection: jax.Array

    @classmethod
    def random(cls, key: jax.Array, dims: int, bits: int = 16) -> "Hashed":
        """Normally distributed projections."""
        if not 1 <= bits <= 24:
            raise ValueError(
                f"bits={bits} makes {2 ** max(bits, 0)} cells: write a number from 1 to 24."
            )
        return cls(jax.random.normal(key, (dims, bits)))

    @property
    def num_dims(self) -> int:  # type: ignore[override]
        return self.projection.shape[-2]

    @property
    def num_cells(self) -> int:
        return 2 ** self.projection.shape[-1]

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        bits = (descriptor @ self.projection > 0.0).astype(jnp.int32)
        return (bits @ 2 ** jnp.arange(bits.shape[-1])).astype(jnp.int32)


@pytree
class OneHot(Cells):
    """The index of the 1 in a one-hot descriptor [size]. A descriptor of zeros, such as DeepSea's
    last observation, is in the last cell.
    """

    size: int = static(default=1)

    def __post_init__(self) -> None:
        check_counts(self, "size")

    @property
    def num_dims(self) -> int:  # type: ignore[override]
        return self.size

    @property
    def num_cells(self) -> int:
        return self.size + 1

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        if descriptor.shape[-1] != self.size:
            raise ValueError(
                f"OneHot({self.size}) reads vectors of {self.size} entries, and these have "
                f"{descriptor.shape[-1]}: write OneHot({descriptor.shape[-1]})."
            )
        cell = jnp.argmax(descriptor, -1)
        return jnp.where((descriptor > 0.0).any(-1), cell, self.size).astype(jnp.int32)


@pytree
class Numbered(Cells):
    """The cell is the entry of a descriptor [1], rounded, such as a state index. An index outside
    of [0, size) has no cell, -1.
    """

    size: int = static(default=1)

    def __post_init__(self) -> None:
        check_counts(self, "size")

    @property
    def num_dims(self) -> int:  # type: ignore[override]
        return 1

    @property
    def num_cells(self) -> int:
        return self.size

    def __call__(self, descriptor: jax.Array) -> jax.Array:
        number = jnp.round(descriptor[..., 0]).astype(jnp.int32)
        return jnp.where((number >= 0) & (number < self.size), number, -1)
