"""The buffer of prioritised level replay: levels sampled by score and staleness."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.env import Env, Tasks
from jaxrl.errors import check_counts
from jaxrl.teachers.fingerprints import fingerprints
from jaxrl.tree import leaf, pytree, static


@pytree
class LevelBuffer:
    """Levels [C], each with its score, `regret`, and the update in which it was last trained on,
    `last`; 0 and -1 in an empty slot. now: number of updates so far.
    """

    levels: Env
    regret: jax.Array
    last: jax.Array
    now: jax.Array

    @property
    def filled(self) -> jax.Array:
        """True where a slot holds a level. [C]."""
        return self.last >= 0

    def find(self, levels: Env) -> jax.Array:
        """The slot of each level [N]; C for a level that is not in the buffer. int32 [N]."""
        same = fingerprints(levels)[:, None] == fingerprints(self.levels)[None]
        is_there = same.all(-1) & self.filled[None]
        return jnp.where(is_there.any(1), jnp.argmax(is_there, 1), len(self.last))


@pytree
class LevelReplay:
    """Prioritised level replay (Jiang et al., 2021a), in batches: a level is new, or drawn from the
    buffer.

    A level in the buffer has the probability (1 - staleness) * P_regret + staleness * P_age, where
    P_regret is proportional to rank ** (-1 / temperature), with rank 1 for the highest regret (or
    other score), and P_age to the number of updates since it was last trained on.

    replay: the probability that a level is drawn from the buffer; the others are new. The levels of
    a batch are distinct. A new level is inserted after the first update on it, if its regret is
    higher than min_regret. capacity: number of slots. In a full buffer, new levels in order of
    decreasing regret are matched with stored levels in order of increasing probability, and replace
    them if their regret is higher.
    """

    replay: float = leaf(0.5, "[0, 1]")
    temperature: float = leaf(0.3, "(0, inf)")
    staleness: float = leaf(0.3, "[0, 1]")
    min_regret: float = leaf(-float("inf"), "[-inf, inf)")
    capacity: int = static(default=256)

    def __post_init__(self) -> None:
        check_counts(self, "capacity")

    def init(self, tasks: Tasks) -> LevelBuffer:
        """An empty buffer."""
        like = jax.eval_shape(tasks.sample, jax.random.key(0))
        levels = jax.tree.map(lambda x: jnp.zeros((self.capacity, *x.shape), x.dtype), like)
        regret, last = jnp.zeros(self.capacity), jnp.full(self.capacity, -1, jnp.int32)
        return LevelBuffer(levels, regret, last, jnp.int32(0))

    def probabilities(self, buffer: LevelBuffer) -> jax.Array:
        """The probability that each slot is drawn next; 0 for an empty slot. [C]."""
        order = jnp.argsort(jnp.where(buffer.filled, -buffer.regret, jnp.inf))
        rank = jnp.zeros(self.capacity).at[order].set(jnp.arange(1.0, self.capacity + 1.0))
        by_regret, by_age = rank ** (-1.0 / self.temperature), jnp.float32(buffer.now - buffer.last)
        by_regret, by_age = (jnp.where(buffer.filled, x, 0.0) for x in (by_regret, by_age))
        share = lambda x: x / jnp.maximum(x.sum(), 1e-30)
        return (1.0 - self.staleness) * share(by_regret) + self.staleness * share(by_age)

    def draw(
        self, key: jax.Array, buffer: LevelBuffer, tasks: Tasks, num: int
    ) -> tuple[Any, jax.Array]:
        """Levels [num], and their slots in the buffer [num]; `capacity` for a new level."""
        if num > self.capacity:
            raise ValueError(
                f"{num} distinct levels can't be drawn from a buffer of "
                f"capacity={self.capacity}; write capacity={4 * num}."
            )
        key_new, key_old, key_count, key_order = jax.random.split(key, 4)
        new = jax.vmap(tasks.sample)(jax.random.split(key_new, num))
        old = jax.random.choice(
            key_old, self.capacity, (num,), replace=False, p=self.probabilities(buffer)
        )
        count = jax.random.bernoulli(key_count, self.replay, (num,)).sum()
        # the most probable levels are drawn first; shuffled, as the position in a batch matters
        turn = jax.random.permutation(key_order, num)
        slot = old[turn]
        replayed = (turn < count) & buffer.filled[slot]
        levels = tree.where(replayed, jax.tree.map(lambda x: x[slot], buffer.levels), new)
        return levels, jnp.where(replayed, slot, self.capacity)

    def tell(
        self,
        buffer: LevelBuffer,
        levels: Any,
        slot: jax.Array,
        regret: jax.Array,
        known: jax.Array | bool = True,
    ) -> tuple[LevelBuffer, jax.Array]:
        """Return the buffer after training on the levels of `draw`, with this regret [num], and the
        new slot of each level; `capacity` for one that is not in the buffer.

        known: False for a level without a regret yet, which is ignored. [num].
        """

        def put(at: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
            return old.at[at].set(new, mode="drop")

        known = jnp.broadcast_to(known, slot.shape)
        now = jnp.full(len(regret), buffer.now)
        most = min(len(regret), self.capacity)  # that can enter
        seen = jnp.where(known, slot, self.capacity)
        buffer = LevelBuffer(
            levels=buffer.levels,
            regret=put(seen, buffer.regret, regret),
            last=put(seen, buffer.last, now),
            now=buffer.now + 1,
        )
        is_enough = jnp.isneginf(self.min_regret) | (regret > self.min_regret)
        new = (slot == self.capacity) & known & is_enough
        best = jnp.argsort(jnp.where(new, -regret, jnp.inf))[:most]
        # of equal probabilities, that of the lowest regret
        probability = jnp.where(buffer.filled, self.probabilities(buffer), -1.0)
        order = jnp.lexsort((buffer.regret, probability))
        weakest = order[:most]
        enters = new[best] & (~buffer.filled[weakest] | (regret[best] > buffer.regret[weakest]))
        to = jnp.where(enters, weakest, self.capacity)
        buffer = LevelBuffer(
            levels=jax.tree.map(lambda old, new: put(to, old, new[best]), buffer.levels, levels),
            regret=put(to, buffer.regret, regret[best]),
            last=put(to, buffer.last, now[:most]),
            now=buffer.now,
        )
        replaced = jnp.zeros(self.capacity, bool).at[to].set(True, mode="drop")
        stays = (slot < self.capacity) & ~replaced[jnp.minimum(slot, self.capacity - 1)]
        kept = jnp.where(stays, slot, self.capacity)
        return buffer, kept.at[best].set(jnp.where(enters, to, kept[best]))
