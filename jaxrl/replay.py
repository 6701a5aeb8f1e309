"""Replay buffers as pytrees: a ring of transitions, sampled uniformly or by priority.

A buffer holds the last `rows` steps of each of B environments; an item is any pytree, stored in its
own dtypes. A sample is `length` consecutive rows of one environment: 1 for a transition, n for
n-step returns, burn-in plus sequence length for a recurrent network. It may cross the end of an
episode (learners mask by `done`), but not the newest row into the oldest.

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

from jaxrl import packing, sum_tree
from jaxrl.sum_tree import SumTree
from jaxrl.tree import leaf, pytree, replace, static

# the smallest unnormalised probability of a valid start: 0 marks one that cannot be sampled
MIN_MASS = 1e-20


@pytree
class Replay:
    """The contents of a buffer.

    data: leaves [rows, B, ...]; on an accelerator packed, `packing.Packed` [rows, B, n].
    tree: the state of the priorities of the starts of samples; () for uniform sampling.
    position: the next row to be written.
    filled: the number of rows written so far, at most `rows`.
    """

    data: Any
    tree: Any
    position: jax.Array
    filled: jax.Array


@pytree
class Sample:
    """A batch of samples.

    items: leaves [N, length, ...], oldest first.
    index: the start of each sample, row * B + environment, int32 [N].
    weight: importance-sampling weights, at most 1, [N].
    """

    items: Any
    index: jax.Array
    weight: jax.Array


# --------------------------------------------------------------------------------------- priorities


class Ring(NamedTuple):
    """The valid starts of samples: `num_starts` from `oldest` on, in a ring of `size`."""

    oldest: jax.Array
    num_starts: jax.Array
    size: int


@pytree
class Priority:
    """How starts of samples are chosen: the interface of `Uniform` and `Prioritized`.

    The default is to sample uniformly, without a state.
    """

    def init(self, size: int) -> Any:
        """The state for a ring of `size` starts, none of which is valid."""
        return ()

    def admit(self, tree: Any, index: jax.Array, valid: jax.Array) -> Any:
        """The state where the starts `index` [M] are new (`valid`) or no longer valid."""
        return tree

    def rate(
        self,
        tree: Any,
        index: jax.Array,
        valid: jax.Array,
        priority: jax.Array,
        enabled: jax.Array | bool,
    ) -> Any:
        """The state with new priorities [N] for the starts `index` [N], where `valid`."""
        return tree

    def draw(
        self,
        key: jax.Array,
        tree: Any,
        ring: Ring,
        batch_size: int,
        fraction: jax.Array | float,
    ) -> tuple[jax.Array, jax.Array]:
        """Starts, uniform over the valid ones, and importance weights of 1. [N], [N]. O(N)."""
        age = jax.random.randint(key, (batch_size,), 0, jnp.maximum(ring.num_starts, 1), jnp.int32)
        return (ring.oldest + age) % ring.size, jnp.ones(batch_size, jnp.float32)


@pytree
class Uniform(Priority):
    """Uniform sampling."""


@pytree
class Priorities:
    """State of `Prioritized`.

    sums: each start's priority to the power of alpha, 0 where no sample starts.
    largest: the largest priority so far.
    """

    sums: SumTree
    largest: jax.Array


@pytree
class Prioritized(Priority):
    """Proportional prioritization (Schaul et al., 2016, section 3.3). O(N log size).

    A start's probability is proportional to its priority to the power of `alpha`. New starts have
    the largest priority so far, initially 1. Importance weights are (N P(i)) ** -beta over the
    largest of the batch (section 3.4); beta is annealed from `beta` to 1 over the training run.
    """

    alpha: float = leaf(0.6, "[0, inf)")
    beta: float = leaf(0.4, "[0, 1]")

    def init(self, size: int) -> Priorities:
        return Priorities(sum_tree.zeros(size), jnp.float32(1.0))

    def admit(self, tree: Priorities, index: jax.Array, valid: jax.Array) -> Priorities:
        mass = jnp.where(valid, self._mass(_prepared(tree).largest), 0.0)
        return replace(tree, sums=tree.sums.put(index, mass))

    def rate(
        self,
        tree: Priorities,
        index: jax.Array,
        valid: jax.Array,
        priority: jax.Array,
        enabled: jax.Array | bool,
    ) -> Priorities:
        """The state with new priorities [N] for the starts `index` [N], where `valid`.

        A priority that is not finite becomes the largest so far. Where `enabled`, a traced flag [],
        is False, each entry is written again unchanged: selecting between two trees would copy one.
        """
        priority = jnp.where(jnp.isfinite(priority), jnp.abs(priority), tree.largest)
        priority = priority.astype(tree.largest.dtype)
        largest = jnp.maximum(tree.largest, priority.max(initial=0.0, where=valid & enabled))
        mass = jnp.where(enabled, self._mass(priority), tree.sums.at(index))
        return Priorities(tree.sums.put(index, jnp.where(valid, mass, 0.0)), largest)

    def draw(
        self,
        key: jax.Array,
        tree: Priorities,
        ring: Ring,
        batch_size: int,
        fraction: jax.Array | float,
    ) -> tuple[jax.Array, jax.Array]:
        """Starts, one from each of N equal shares of the total, and importance weights. [N], [N].

        fraction: how much of the training run is over, 0 to 1.
        """
        sums = _prepared(tree).sums
        place = (
            jnp.arange(batch_size, dtype=jnp.int32)
            + jax.random.uniform(key, (batch_size,), jnp.float32)
        ) / batch_size
        index, mass = sums.find(place * sums.total)
        mass = jnp.maximum(mass, MIN_MASS)
        # N and the total cancel in the ratio to the largest importance weight
        return index, (mass.min() / mass) ** (self.beta + (1.0 - self.beta) * fraction)

    def _mass(self, priority: jax.Array) -> jax.Array:
        return jnp.clip((priority + 1e-6) ** self.alpha, MIN_MASS, 1.0 / MIN_MASS)


def _prepared(tree: Any) -> Priorities:
    if not isinstance(tree, Priorities):
        raise ValueError(
            "The replay has no priorities: after load(items) write replay = buffer.prepare(replay)."
        )
    return tree


# --------------------------------------------------------------------------------------- the buffer


@pytree
class Buffer:
    """The size of a replay and how it is sampled.

    capacity: total number of transitions, over all environments.
    length: number of rows of a sample.
    priority: `Uniform()` or `Prioritized()`.
    """

    capacity: int = static(default=50_000)
    length: int = static(default=1)
    priority: Priority = Uniform()

    def check(self, num_envs: int, batch_size: int, warmup: int) -> None:
        """Check that batches can be sampled.

        warmup: number of transitions that are stored before the first batch.

        Raises:
          ValueError: a sample is longer than the ring, or the ring or the warm-up holds fewer
            transitions than a batch, or no whole sample.
        """
        rows = self.capacity // num_envs
        min_capacity = max(-(-batch_size // num_envs), self.length) * num_envs
        stored = f"capacity={self.capacity} holds {rows} rows of num_envs={num_envs} environments"
        sample = f"a sample is {self.length} rows long (the n of n-step, or burn-in and sequence)"
        if rows < self.length:
            raise ValueError(
                f"{stored}, but {sample}. Write capacity={min_capacity} or more, or a shorter "
                "sample."
            )
        if rows * num_envs < batch_size:
            raise ValueError(
                f"{stored}, {rows * num_envs} transitions, fewer than one batch_size={batch_size}. "
                f"Write capacity={min_capacity} or more, or batch_size={rows * num_envs}."
            )
        if warmup < batch_size or -(-warmup // num_envs) < self.length:
            raise ValueError(
                f"warmup={warmup} steps of num_envs={num_envs} environments are too few for the "
                f"first batch: it has batch_size={batch_size} samples, and {sample}. Write "
                f"warmup={min_capacity} or more."
            )

    def init(self, item: Any, num_envs: int) -> Replay:
        """An empty replay.

        item: one environment's transition, of arrays or `jax.ShapeDtypeStruct`.

        Raises:
          ValueError: it would hold no whole sample.
        """
        self.check(num_envs, 1, self.length * num_envs)
        rows = self.capacity // num_envs
        data = jax.tree.map(
            lambda x: jnp.zeros((rows, num_envs, *jnp.shape(x)), jnp.result_type(x)), item
        )
        data = packing.pack(data, axes=2) if packing.packs_storage() else data
        return Replay(data, self.priority.init(rows * num_envs), jnp.int32(0), jnp.int32(0))

    def add(self, replay: Replay, items: Any) -> Replay:
        """The replay with `items` [T, B, ...], oldest first, in place of the oldest rows.

        Raises:
          ValueError: there are more steps than rows.
        """
        rows, num_envs = _sizes(replay.data)
        steps = jax.tree.leaves(items)[0].shape[0]
        chex.assert_tree_shape_prefix(items, (steps, num_envs))
        if isinstance(replay.data, packing.Packed):
            items = packing.pack(items, axes=2)
        chex.assert_trees_all_equal_dtypes(replay.data, items)
        if steps > rows:
            raise ValueError(
                f"{steps} steps of {num_envs} environments do not fit in a replay of {rows} rows: "
                "the first would be overwritten before they were sampled. Write "
                f"capacity={steps * num_envs} or more, or collect fewer steps per update."
            )
        at = (replay.position + jnp.arange(steps)) % rows
        data = jax.tree.map(
            lambda old, new: old.at[at].set(new, unique_indices=True), replay.data, items
        )
        tree = self._admit(replay.tree, replay.position, replay.filled, steps, rows, num_envs)
        filled = jnp.minimum(replay.filled + steps, rows)
        return Replay(data, tree, (replay.position + steps) % rows, filled)

    def sample(
        self,
        key: jax.Array,
        replay: Replay,
        batch_size: int,
        fraction: jax.Array | float = 0.0,
    ) -> Sample:
        """A batch of `batch_size` samples of `length` rows.

        fraction: how much of the training run is over, 0 to 1. Samples are meaningless until
        `filled` reaches `length`; `check` ensures that the warm-up is long enough.

        Raises:
          ValueError: a sample is longer than the replay, or a loaded replay was not prepared.
        """
        rows, num_envs = self._sizes(replay)
        oldest, count = (replay.position - replay.filled) % rows, replay.filled - self.length + 1
        ring = Ring(oldest * num_envs, count * num_envs, rows * num_envs)
        index, weight = self.priority.draw(key, replay.tree, ring, batch_size, fraction)
        at = (index[:, None] // num_envs + jnp.arange(self.length)[None]) % rows
        items = jax.tree.map(lambda x: x[at, index[:, None] % num_envs], replay.data)
        return Sample(packing.unpacked(items), index, weight)

    def reprioritize(
        self,
        replay: Replay,
        index: jax.Array,
        priority: jax.Array,
        enabled: jax.Array | bool = True,
    ) -> Replay:
        """The replay with new priorities for the starts of a sample.

        index, priority: [N]; a priority is the magnitude of an error. Unchanged where `enabled`, a
        flag [] that may be traced, is False.
        """
        _, num_envs = _sizes(replay.data)
        valid = self._is_start(replay, index // num_envs)
        tree = self.priority.rate(replay.tree, index, valid, priority, enabled)
        return replace(replay, tree=tree)

    def prepare(self, replay: Replay) -> Replay:
        """A loaded replay with this buffer's priorities, equal for all starts.

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
        """The state of the priorities after `steps` rows were written from `position` on.

        The last `length - 1` rows written start no whole sample yet, but as many rows before them
        now do. Offsets from `position` are static, so that only these rows are updated.
        """
        complete, written = range(1 - self.length, steps - self.length + 1), range(steps)
        offset = np.array([x for x in sorted({*complete, *written}) if x >= steps - rows], np.int32)
        valid = jnp.asarray(offset <= steps - self.length) & (filled + offset >= 0)
        index = ((position + offset) % rows)[:, None] * num_envs + jnp.arange(num_envs)[None]
        return self.priority.admit(tree, index.ravel(), jnp.repeat(valid, num_envs))

    def _sizes(self, replay: Replay) -> tuple[int, int]:
        """The numbers of rows and environments; ValueError if a sample has more rows."""
        rows, num_envs = _sizes(replay.data)
        if rows < self.length:
            raise ValueError(
                f"The replay has {rows} rows, but a sample is {self.length} rows long (the n of "
                "n-step, or burn-in and sequence). Write a shorter sample, or load more data."
            )
        return rows, num_envs

    def _is_start(self, replay: Replay, row: jax.Array) -> jax.Array:
        """True where `row` [...] starts a whole sample. bool [...]."""
        rows, _ = _sizes(replay.data)
        age = (row - replay.position + replay.filled) % rows  # 0 for the oldest row
        return age <= replay.filled - self.length


def load(items: Any, num_envs: int | None = None) -> Replay:
    """A data set as a full replay.

    items: leaves [N, ...] of one stream, or [T, num_envs, ...] of several, oldest first.

    The result is what `Buffer.add` would have produced, and more can be added; `Buffer.prepare`
    gives it priorities.

    Raises:
      ValueError: leaves differ in length, or lack these axes.
    """
    axes = 1 if num_envs is None else 2
    leading = {
        jax.tree_util.keystr(path): np.shape(x)[:axes]
        for path, x in jax.tree_util.tree_leaves_with_path(items)
    }
    if len(set(leading.values())) != 1 or len(next(iter(leading.values()))) < axes:
        shapes = ", ".join(f"{name}: {list(shape)}" for name, shape in leading.items())
        raise ValueError(
            f"All arrays of a data set have leading axes {'[N]' if axes == 1 else '[T, num_envs]'}"
            f", a row for each transition, but these have {shapes}. Where observations have one "
            "row more, write obs[:-1] and next_obs=obs[1:]."
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
    """The numbers of rows and environments."""
    return jax.tree.leaves(data)[0].shape[:2]
