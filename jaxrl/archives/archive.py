"""A store with one item for each cell: repertoires of solutions, and saved states of worlds."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.sweep.memory import free_bytes
from jaxrl.tree import pytree


@pytree
class Archive:
    """Items [C], and the fitness of each; -inf in an empty cell. [C].

    An item enters where its cell is empty or its fitness is higher.
    """

    items: Any
    fitness: jax.Array

    @property
    def num_cells(self) -> int:
        """C."""
        return self.fitness.shape[0]

    @property
    def best(self) -> Any:
        """The item with the highest fitness."""
        return jax.tree.map(lambda x: x[jnp.argmax(self.fitness)], self.items)

    @property
    def filled(self) -> jax.Array:
        """True where a cell holds an item. bool [C]."""
        return self.fitness > -jnp.inf

    @property
    def coverage(self) -> jax.Array:
        """The share of cells that are filled. []."""
        return self.filled.mean()

    def qd_score(self, offset: jax.Array | float = 0.0) -> jax.Array:
        """The sum over filled cells of fitness - offset. []."""
        return jnp.sum(jnp.where(self.filled, self.fitness - offset, 0.0))

    def put(
        self,
        cell: jax.Array,
        items: Any,
        fitness: jax.Array,
        tie: jax.Array | float = 0.0,
        tie_before: jax.Array | float = 0.0,
    ) -> tuple["Archive", "Entered"]:
        """Return the archive after items [N] with these cells and fitness [N], and what changed.

        Of several items of one cell the best enters, and of equal ones the first. Items of a cell
        below 0 or from C on, or of a fitness that is not finite, are left out.

        tie: decides between items of equal fitness, where the higher one is better; a second key in
        place of a term of the fitness, which would be lost in its rounding. [N]. tie_before: that
        of the items that the archive holds. [C].
        """
        num = cell.shape[0]
        tie = jnp.broadcast_to(jnp.asarray(tie, jnp.float32), (num,))
        tie_before = jnp.broadcast_to(jnp.asarray(tie_before, jnp.float32), self.fitness.shape)
        valid = (cell >= 0) & (cell < self.num_cells) & jnp.isfinite(fitness)
        cell = jnp.where(valid, cell, self.num_cells)
        fitness = jnp.where(valid, fitness, -jnp.inf)
        rows = jnp.arange(num)
        best = jax.ops.segment_max(fitness, cell, self.num_cells + 1)
        tie = jnp.where(fitness == best[cell], tie, -jnp.inf)
        best_tie = jax.ops.segment_max(tie, cell, self.num_cells + 1)
        is_best = (fitness == best[cell]) & (tie == best_tie[cell])
        first = jax.ops.segment_min(jnp.where(is_best, rows, num), cell, self.num_cells + 1)
        before = jnp.append(self.fitness, jnp.inf)[cell]
        wins_tie = (fitness == before) & (tie > jnp.append(tie_before, jnp.inf)[cell])
        enters = (rows == first[cell]) & ((fitness > before) | wins_tie)
        to = jnp.where(enters, cell, self.num_cells)
        put = lambda old, new: old.at[to].set(new.astype(old.dtype), mode="drop")
        is_new = valid & (before == -jnp.inf)
        gain = jnp.where(is_new, fitness, fitness - before)
        return Archive(jax.tree.map(put, self.items, items), put(self.fitness, fitness)), Entered(
            enters, is_new, jnp.where(valid, gain, -jnp.inf)
        )

    def draw(
        self, key: jax.Array, num: int, weight: jax.Array | None = None
    ) -> tuple[Any, jax.Array]:
        """Items of random filled cells [num], and their cells [num].

        weight: the probability of each cell is in proportion to it; None: all alike. [C].
        """
        weight = jnp.ones(self.num_cells) if weight is None else weight
        logits = jnp.where(self.filled & (weight > 0.0), jnp.log(jnp.maximum(weight, 1e-30)), -1e9)
        cumulative = jnp.cumsum(jax.nn.softmax(logits))
        uniform = jax.random.uniform(key, (num,)) * cumulative[-1]
        cell = jnp.minimum(jnp.searchsorted(cumulative, uniform, side="right"), self.num_cells - 1)
        return jax.tree.map(lambda x: x[cell], self.items), cell


@pytree
class Entered:
    """What `put` did with each of N items. [N].

    enters: True where it is in the archive now. is_new: True where its cell was empty before the
    batch, also for all but the best of several in that cell. gain: its fitness minus that of the
    item before the batch, or the fitness itself if the cell was empty; -inf if it was left out.
    """

    enters: jax.Array
    is_new: jax.Array
    gain: jax.Array


def empty(num_cells: int, example: Any) -> Archive:
    """An archive of empty cells for items such as `example`, of arrays or their shapes."""
    items = jax.tree.map(lambda x: jnp.zeros((num_cells, *x.shape), x.dtype), example)
    return Archive(items, jnp.full(num_cells, -jnp.inf))


def check_memory(num_cells: int, batch: int, example: Any, user: Any) -> None:
    """Raise a ValueError where an archive of `user`, and the items that an update puts into it, are
    larger than the free memory.
    """
    leaves = jax.tree.leaves(jax.eval_shape(lambda: empty(1, example)))
    of_cell = sum(x.size * x.dtype.itemsize for x in leaves)
    free, needed = free_bytes(), (num_cells + batch) * of_cell
    if needed > free:
        raise ValueError(
            f"The archive of {type(user).__name__} has {num_cells} cells of {of_cell} bytes, and "
            f"an update makes {batch} items for them, in total {needed / 1e9:.3g} GB, and "
            f"{free / 1e9:.3g} GB are free: write cells=... and a batch with at most "
            f"{free // (2 * of_cell)} items together, or store smaller ones."
        )
