"""A sum tree as a pytree: sampling in proportion to values, and updates of them, in O(log n)."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.tree import pytree, replace, static

# children of a node: four levels hold 65,536 values, and a wider gather costs less than one more
# level
WIDTH = 16


@pytree
class SumTree:
    """A tree of sums over non-negative values; each node is the sum of its `WIDTH` children.

    nodes: [rows, WIDTH], level by level, the root's first and the values themselves last.
    starts: the first row of each level.

    Levels are visited in a `fori_loop` rather than unrolled: XLA copies an array that is written to
    while an earlier read of it may still be scheduled later, and a loop fixes the order.
    """

    nodes: jax.Array
    starts: tuple[int, ...] = static()

    @property
    def total(self) -> jax.Array:
        """The sum of all values. []."""
        return self.nodes[0].sum()

    def at(self, index: jax.Array) -> jax.Array:
        """The values at `index` [N]. [N]."""
        return self.nodes[self.starts[-1] + index // WIDTH, index % WIDTH]

    def put(self, index: jax.Array, value: jax.Array) -> Self:
        """The tree with `value` [N] at `index` [N]; the largest one where an index is repeated."""
        starts = jnp.array(self.starts, jnp.int32)

        def add_up(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            nodes, row = carry
            level = len(self.starts) - 2 - i
            sums = nodes[starts[level + 1] + row].sum(-1)
            return nodes.at[starts[level] + row // WIDTH, row % WIDTH].set(sums), row // WIDTH

        at = (self.starts[-1] + index // WIDTH, index % WIDTH)
        nodes = self.nodes.at[at].set(0.0).at[at].max(value)
        nodes, _ = jax.lax.fori_loop(0, len(self.starts) - 1, add_up, (nodes, index // WIDTH))
        return replace(self, nodes=nodes)

    def find(self, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Indices and values at positions `place` [N] of the cumulative sum. [N] (int32), [N].

        A value of 0 is never found while others are positive. Positions are resolved to about
        2 ** -23 of the total, the precision of float32.
        """
        starts, upper = (
            jnp.array(self.starts, jnp.int32),
            jnp.triu(jnp.ones((WIDTH, WIDTH), jnp.float32)),
        )

        def descend(level: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            index, place, _ = carry
            child = self.nodes[starts[level] + index]
            end = jnp.matmul(child, upper, precision="highest")  # the cumulative sum
            # 0 from the child that contains `place` on, unless rounding skipped all of them
            excess = jnp.maximum(place[:, None] - end, 0.0)
            branch = jnp.argmin(jnp.where(child > 0, excess, jnp.inf), -1)[:, None]
            end, child = (jnp.take_along_axis(x, branch, -1)[:, 0] for x in (end, child))
            return index * WIDTH + branch[:, 0].astype(jnp.int32), place - (end - child), child

        root = jnp.zeros(place.shape, jnp.int32), place, jnp.zeros(place.shape, jnp.float32)
        index, _, value = jax.lax.fori_loop(0, len(self.starts), descend, root)
        return index, value


def zeros(size: int) -> SumTree:
    """A tree of `size` values, all 0."""
    rows = [-(-size // WIDTH)]
    while rows[0] > 1:
        rows.insert(0, -(-rows[0] // WIDTH))
    ends = np.cumsum([0, *rows]).tolist()
    return SumTree(jnp.zeros((ends[-1], WIDTH), jnp.float32), tuple(ends[:-1]))
