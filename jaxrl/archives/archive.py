"""An archive with one item per cell: repertoires of solutions, and saved environment states."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.sweep.memory import free_bytes
from jaxrl.tree import pytree


@pytree
class Archive:
    """The item of each cell [C] and its fitness [C]; the fitness of an empty cell is -inf.

    An item is inserted if its cell is empty or its fitness is higher than that of the present item.
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
        """Return the archive after adding items [N] with these cells and fitness [N], and what
        changed.

        If several items have the same cell, the best is inserted; among equal ones, the first.
        Items with a cell outside of [0, C) or with a fitness that is not finite are rejected.

        tie: a tie-breaker: of items with equal fitness, that with the higher tie is better; not
        part of the fitness, where it could be lost in rounding. [N]. tie_before: that of the stored
        items. [C].
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

        weight: the probability of each cell is proportional to it; None: uniform. [C].
        """
        weight = jnp.ones(self.num_cells) if weight is None else weight
        logits = jnp.where(self.filled & (weight > 0.0), jnp.log(jnp.maximum(weight, 1e-30)), -1e9)
        cumulative = jnp.cumsum(jax.nn.softmax(logits))
        uniform = jax.random.uniform(key, (num,)) * cumulative[-1]
        cell = jnp.minimum(jnp.searchsorted(cumulative, uniform, side="right"), self.num_cells - 1)
        return jax.tree.map(lambda x: x[cell], self.items), cell


@pytree
class Entered:
    """The result of `put` for each of N items. [N].

    enters: True if the item is in the archive now. is_new: True if its cell was empty before the
    batch, for every item of the batch in that cell. gain: its fitness minus that of the cell's item
    before the batch, or the fitness itself if the cell was empty; -inf if it was rejected.
    """

    enters: jax.Array
    is_new: jax.Array
    gain: jax.Array


def empty(num_cells: int, example: Any) -> Archive:
    """An archive of empty cells for items like `example`, a pytree of arrays or of their shapes."""
    items = jax.tree.map(lambda x: jnp.zeros((num_cells, *x.shape), x.dtype), example)
    return Archive(items, jnp.full(num_cells, -jnp.inf))


def check_memory(num_cells: int, batch: int, example: Any, user: Any) -> None:
    """Raise a ValueError if an archive of `user` and the items of one update are larger than the
    free memory.
    """
    leaves = jax.tree.leaves(jax.eval_shape(lambda: empty(1, example)))
    of_cell = sum(x.size * x.dtype.itemsize for x in leaves)
    free, needed = free_bytes(), (num_cells + batch) * of_cell
    if needed > free:
        raise ValueError(
            f"The archive of {type(user).__name__} has {num_cells} cells of {of_cell} bytes, and "
            f"an update creates {batch} items, in total {needed / 1e9:.3g} GB, but only "
            f"{free / 1e9:.3g} GB are free: write cells=... and a batch that sum to at most "
            f"{free // (2 * of_cell)} items, or store smaller ones."
        )
