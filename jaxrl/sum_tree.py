"""Numbers that are drawn in proportion, and changed, in O(log n): a sum tree as a pytree."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.tree import pytree, replace, static

# children of a node: four levels hold 65,536 numbers, and a dozen more in a gather cost less than a
# level
WIDTH = 16


@pytree
class SumTree:
    """Numbers, none negative; every node above them is the sum of its `WIDTH` children.

    nodes: [rows, WIDTH], level by level, the top first and the numbers themselves last; starts:
    each level's first row. It loops over levels, as XLA copies an array that it writes to where
    what read it could be put off: a loop can't be.
    """

    nodes: jax.Array
    starts: tuple[int, ...] = static()

    @property
    def total(self) -> jax.Array:
        return self.nodes[0].sum()

    def at(self, index: jax.Array) -> jax.Array:
        """The numbers at `index` [N]. [N]."""
        return self.nodes[self.starts[-1] + index // WIDTH, index % WIDTH]

    def put(self, index: jax.Array, value: jax.Array) -> Self:
        """With numbers `value` [N] at `index` [N]; the largest where an index comes twice."""
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
        """The number in whose part of the running sum `place` [N] lies: its index, and the number.
        [N], [N].

        Never one that is 0 while others are not. A place is found to about 2 ** -23 of the total,
        as float32 has it.
        """
        starts, upper = jnp.array(self.starts, jnp.int32), jnp.triu(jnp.ones((WIDTH, WIDTH)))

        def apply_gradients(
            level: jax.Array, carry: tuple[jax.Array, ...]
        ) -> tuple[jax.Array, ...]:
            index, place, _ = carry
            child = self.nodes[starts[level] + index]
            end = jnp.matmul(child, upper, precision="highest")  # the running sum
            beyond = jnp.maximum(
                place[:, None] - end, 0.0
            )  # 0 from the right one on, if rounding left one
            chosen = jnp.argmin(jnp.where(child > 0, beyond, jnp.inf), -1)[:, None]
            end, child = (jnp.take_along_axis(x, chosen, -1)[:, 0] for x in (end, child))
            return index * WIDTH + chosen[:, 0].astype(jnp.int32), place - (end - child), child

        first = jnp.zeros(place.shape, jnp.int32), place, jnp.zeros(place.shape)
        index, _, number = jax.lax.fori_loop(0, len(self.starts), apply_gradients, first)
        return index, number


def zeros(size: int) -> SumTree:
    """A tree of `size` numbers, all 0."""
    rows = [-(-size // WIDTH)]
    while rows[0] > 1:
        rows.insert(0, -(-rows[0] // WIDTH))
    ends = np.cumsum([0, *rows]).tolist()
    return SumTree(jnp.zeros((ends[-1], WIDTH)), tuple(ends[:-1]))
