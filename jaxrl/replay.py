"""What was lived through, kept to learn from: a ring buffer as a pytree, read uniformly or by
priority.

It holds the last `rows` steps of each of B environments; an item is any pytree, kept in its own
dtypes. A sample is `length` consecutive rows of one environment: 1 for a transition, n for n-step
returns, burn-in and sequence for a memory. It may run past an episode's end (a learner masks by
`done`), never past the newest row into the oldest.

    buffer = Buffer(capacity=50_000, length=3, priority=Prioritized())
    replay = buffer.init(item, num_envs)
    replay = buffer.add(replay, items)
    sample = buffer.sample(key, replay, batch_size)
    replay = buffer.reprioritize(replay, sample.index, jnp.abs(error))
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import sum_tree
from jaxrl.sum_tree import SumTree
from jaxrl.tree import pytree, replace, static

# the smallest number that a start's place in the sum tree may be: 0 says that it can't be drawn
LEAST = 1e-20


@pytree
class Replay:
    """The ring. data: leaves [rows, B, ...]; tree: the priorities of its starts, () when uniform;
    position: the row that is written next; filled: how many rows were written, at most `rows`.
    """

    data: Any
    tree: Any
    position: jax.Array
    filled: jax.Array


@pytree
class Sample:
    """items: leaves [N, length, ...], oldest first; index [N]: where each begins, row * B +
    environment (int32); weight [N]: its importance, at most 1.
    """

    items: Any
    index: jax.Array
    weight: jax.Array


# ---------------------------------------------------------------------------------- how it is drawn


class Ring(NamedTuple):
    """Which starts there are: `num_starts` from `oldest` on, in a ring of `size`."""

    oldest: jax.Array
    num_starts: jax.Array
    size: int


@pytree
class Uniform:
    """Every start is as likely as another. O(N)."""

    def init(self, size: int) -> tuple[()]:
        return ()

    def admit(self, tree: Any, index: jax.Array, valid: jax.Array) -> Any:
        return tree

    def rate(
        self, tree: Any, index: jax.Array, valid: jax.Array, priority: jax.Array, counts: Any
    ) -> Any:
        return tree

    def draw(
        self, key: jax.Array, tree: Any, ring: Ring, batch_size: int, fraction: Any
    ) -> tuple[Any, Any]:
        """Starts, and weights of 1. [N], [N]."""
        age = jax.random.randint(key, (batch_size,), 0, jnp.maximum(ring.num_starts, 1))
        return (ring.oldest + age) % ring.size, jnp.ones(batch_size)


@pytree
class Priorities:
    """numbers: each start's priority to the power of alpha, 0 where none begins; largest: the
    largest priority so far.
    """

    numbers: SumTree
    largest: jax.Array


@pytree
class Prioritized:
    """A start is as likely as its priority to the power of `alpha` (Schaul et al., 2016, section
    3.3). O(N log size).

    New starts have the largest priority so far, 1 at first. Weights are (N P(i)) ** -beta over the
    largest of the batch (section 3.4), where beta goes from `beta` to 1 over the lifetime.
    """

    alpha: float = 0.6
    beta: float = 0.4

    def init(self, size: int) -> Priorities:
        return Priorities(sum_tree.zeros(size), jnp.float32(1.0))

    def admit(self, tree: Priorities, index: jax.Array, valid: jax.Array) -> Priorities:
        """Starts `index` [M] begin to be drawn where `valid`, and cease to be elsewhere."""
        number = jnp.where(valid, self._number(_prepared(tree).largest), 0.0)
        return replace(tree, numbers=tree.numbers.put(index, number))

    def rate(
        self, tree: Priorities, index: jax.Array, valid: jax.Array, priority: jax.Array, counts: Any
    ) -> Priorities:
        """New priorities [N] for the starts `index`, where `valid`. What is not finite is the
        largest so far.

        Where it does not count (a traced flag []) each number is written again as it was: to choose
        a tree would copy it.
        """
        priority = jnp.where(jnp.isfinite(priority), jnp.abs(priority), tree.largest)
        largest = jnp.maximum(tree.largest, priority.max(initial=0.0, where=valid & counts))
        number = jnp.where(counts, self._number(priority), tree.numbers.at(index))
        return Priorities(tree.numbers.put(index, jnp.where(valid, number, 0.0)), largest)

    def draw(
        self, key: jax.Array, tree: Priorities, ring: Ring, batch_size: int, fraction: Any
    ) -> tuple[Any, Any]:
        """One start from each of `batch_size` equal shares of the total priority, and its weight.

        [N], [N].
        """
        numbers = _prepared(tree).numbers
        place = (jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))) / batch_size
        index, number = numbers.find(place * numbers.total)
        number = jnp.maximum(number, LEAST)
        return index, (number.min() / number) ** (
            self.beta + (1.0 - self.beta) * fraction
        )  # N and the total cancel

    def _number(self, priority: jax.Array) -> jax.Array:
        return jnp.clip((priority + 1e-6) ** self.alpha, LEAST, 1.0 / LEAST)


def _prepared(tree: Any) -> Priorities:
    if not isinstance(tree, Priorities):
        raise ValueError(
            "The replay has no priorities: after load(items) write replay = buffer.prepare(replay)."
        )
    return tree


# --------------------------------------------------------------------------------------- the buffer


@pytree
class Buffer:
    """What a replay is, and how it is read. capacity: transitions in all, over all environments;
    length: rows of a sample; priority: `Uniform()` or `Prioritized()`.
    """

    capacity: int = static(default=50_000)
    length: int = static(default=1)
    priority: Any = Uniform()

    def check(self, num_envs: int, batch_size: int, warmup: int) -> None:
        """Refuses what could never be drawn. warmup: the transitions that are kept before the first
        batch.

        Raises:
          ValueError: a sample is longer than the ring; the ring, or what is played before the first
            batch, is smaller than a
            batch, or holds no sample.
        """
        rows = self.capacity // num_envs
        least = max(-(-batch_size // num_envs), self.length) * num_envs
        kept = f"capacity={self.capacity} keeps {rows} rows of num_envs={num_envs} environments"
        sample = f"a sample is {self.length} rows long (the n of n-step, or burn-in and sequence)"
        if rows < self.length:
            raise ValueError(
                f"{kept}, but {sample}. Write capacity={least} or more, or a shorter sample."
            )
        if rows * num_envs < batch_size:
            raise ValueError(
                f"{kept}, {rows * num_envs} transitions, fewer than one batch_size={batch_size}. "
                f"Write capacity={least} or more, or batch_size={rows * num_envs}."
            )
        if warmup < batch_size or -(-warmup // num_envs) < self.length:
            raise ValueError(
                f"warmup={warmup} steps of num_envs={num_envs} environments are too few before "
                "the first batch: it has "
                f"batch_size={batch_size} samples, and {sample}. Write warmup={least} or more."
            )

    def init(self, item: Any, num_envs: int) -> Replay:
        """An empty ring for items shaped as `item`: one environment's transition, of arrays or
        `jax.ShapeDtypeStruct`.

        Raises:
          ValueError: it would hold no sample.
        """
        self.check(num_envs, 1, self.length * num_envs)
        rows = self.capacity // num_envs
        data = jax.tree.map(
            lambda x: jnp.zeros((rows, num_envs, *jnp.shape(x)), jnp.result_type(x)), item
        )
        return Replay(data, self.priority.init(rows * num_envs), jnp.int32(0), jnp.int32(0))

    def add(self, replay: Replay, items: Any) -> Replay:
        """Writes `items` [T, B, ...], oldest first, over the oldest rows.

        Raises:
          ValueError: there are more of them than rows.
        """
        rows, num_envs = _sizes(replay.data)
        steps = jax.tree.leaves(items)[0].shape[0]
        chex.assert_tree_shape_prefix(items, (steps, num_envs))
        chex.assert_trees_all_equal_dtypes(replay.data, items)
        if steps > rows:
            raise ValueError(
                f"{steps} steps of {num_envs} environments don't fit in a replay of {rows} "
                "rows: the first would be lost "
                f"before they were read. Write capacity={steps * num_envs} or more, or play "
                "fewer steps between updates."
            )
        at = (replay.position + jnp.arange(steps)) % rows
        data = jax.tree.map(
            lambda old, new: old.at[at].set(new, unique_indices=True), replay.data, items
        )
        tree = self._admit(replay.tree, replay.position, replay.filled, steps, rows, num_envs)
        filled = jnp.minimum(replay.filled + steps, rows)
        return Replay(data, tree, (replay.position + steps) % rows, filled)

    def sample(
        self, key: jax.Array, replay: Replay, batch_size: int, fraction: Any = 0.0
    ) -> Sample:
        """`batch_size` starts and the `length` rows from each. `fraction` is how much of the
        lifetime is over.

        What it reads before `filled` reaches `length` is no experience: `check` keeps a learner
        from it.

        Raises:
          ValueError: a sample is longer than the replay, or a loaded one was not prepared.
        """
        rows, num_envs = self._sizes(replay)
        oldest, count = (replay.position - replay.filled) % rows, replay.filled - self.length + 1
        ring = Ring(oldest * num_envs, count * num_envs, rows * num_envs)
        index, weight = self.priority.draw(key, replay.tree, ring, batch_size, fraction)
        at = (index[:, None] // num_envs + jnp.arange(self.length)[None]) % rows
        return Sample(
            jax.tree.map(lambda x: x[at, index[:, None] % num_envs], replay.data), index, weight
        )

    def reprioritize(
        self, replay: Replay, index: jax.Array, priority: jax.Array, counts: Any = True
    ) -> Replay:
        """With new priorities [N], the size of each error, for the starts `index` [N] of a sample,
        if it `counts`.
        """
        _, num_envs = _sizes(replay.data)
        valid = self._is_start(replay, index // num_envs)
        return replace(replay, tree=self.priority.rate(replay.tree, index, valid, priority, counts))

    def prepare(self, replay: Replay) -> Replay:
        """A loaded replay with this buffer's priorities: all starts have the largest.

        Raises:
          ValueError: a sample is longer than the replay.
        """
        rows, num_envs = self._sizes(replay)
        valid = jnp.repeat(self._is_start(replay, jnp.arange(rows)), num_envs)
        size = rows * num_envs
        return replace(
            replay, tree=self.priority.admit(self.priority.init(size), jnp.arange(size), valid)
        )

    def _admit(
        self,
        tree: Any,
        position: jax.Array,
        filled: jax.Array,
        steps: int,
        rows: int,
        num_envs: int,
    ) -> Any:
        """The tree after `steps` rows from `position`: the last `length - 1` of them begin no whole
        sample yet, but as many rows before them do now. Counted from `position`, which rows these
        are is known before compiling.
        """
        whole, written = range(1 - self.length, steps - self.length + 1), range(steps)
        offset = np.array([x for x in sorted({*whole, *written}) if x >= steps - rows], np.int32)
        valid = jnp.asarray(offset <= steps - self.length) & (filled + offset >= 0)
        index = ((position + offset) % rows)[:, None] * num_envs + jnp.arange(num_envs)[None]
        return self.priority.admit(tree, index.ravel(), jnp.repeat(valid, num_envs))

    def _sizes(self, replay: Replay) -> tuple[int, int]:
        """Rows, enough for a sample, and environments."""
        rows, num_envs = _sizes(replay.data)
        if rows < self.length:
            raise ValueError(
                f"The replay has {rows} rows, but a sample is {self.length} rows long (the n "
                "of n-step, or burn-in and "
                "sequence). Write a shorter sample, or load more data."
            )
        return rows, num_envs

    def _is_start(self, replay: Replay, row: jax.Array) -> jax.Array:
        """Whether a whole sample begins at `row`."""
        rows, _ = _sizes(replay.data)
        age = (row - replay.position + replay.filled) % rows  # of the oldest, 0
        return age <= replay.filled - self.length


def load(items: Any, num_envs: int | None = None) -> Replay:
    """A data set as a full replay, oldest first: leaves [N, ...] of one stream, or [T, num_envs,
    ...] of several.

    It is what `Buffer.add` would have left, and can be added to; `Buffer.prepare` gives it
    priorities.

    Raises:
      ValueError: leaves differ in length, or have no such axes.
    """
    axes = 1 if num_envs is None else 2
    leading = {
        jax.tree_util.keystr(path): np.shape(x)[:axes]
        for path, x in jax.tree_util.tree_leaves_with_path(items)
    }
    if len(set(leading.values())) != 1 or len(next(iter(leading.values()))) < axes:
        theirs = ", ".join(f"{name}: {list(shape)}" for name, shape in leading.items())
        raise ValueError(
            f"All arrays of a data set begin with {'[N]' if axes == 1 else '[T, num_envs]'}, a "
            "row for each transition, but "
            f"these begin with {theirs}. Where observations have one row more, write obs[:-1] "
            "and next_obs=obs[1:]."
        )
    data = jax.tree.map(lambda x: jnp.asarray(x) if axes == 2 else jnp.asarray(x)[:, None], items)
    rows, found = _sizes(data)
    if found != (num_envs or 1):
        raise ValueError(
            f"num_envs={num_envs}, but the data set is [{rows}, {found}, ...]: write "
            f"num_envs={found}."
        )
    return Replay(data, (), jnp.int32(0), jnp.int32(rows))


def _sizes(data: Any) -> tuple[int, int]:
    """Rows and environments."""
    return jax.tree.leaves(data)[0].shape[:2]
