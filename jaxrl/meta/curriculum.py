"""Curricula of a meta-learner's levels: new ones, and earlier ones of high regret again."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env, Tasks, check_tasks
from jaxrl.meta.base import InnerProblem, MetaLearner
from jaxrl.meta.evolution import Evolution
from jaxrl.tree import leaf, pytree, static


@pytree
class LevelBuffer:
    """Levels [C], each with its regret and the time when it was last trained on; 0 and -1 in an
    empty slot.
    """

    levels: Env
    regret: jax.Array
    last: jax.Array
    now: jax.Array

    @property
    def filled(self) -> jax.Array:
        """True where a slot holds a level. [C]."""
        return self.last >= 0


@pytree
class LevelReplay:
    """Prioritised level replay (Jiang et al., 2021), in batches: a level is new, or drawn from the
    buffer.

    A level in the buffer has the probability (1 - staleness) * P_regret + staleness * P_age, with
    P_regret in proportion to rank ** (-1 / temperature), rank 1 being the highest regret, and P_age
    to the time since it was last trained on.

    replay: the probability that a level is an old one; the others are new. The levels of a batch
    are distinct. A level enters with its regret, after it was trained on. capacity: of the buffer;
    where it is full, the new level of the highest regret replaces the old one of the lowest
    probability, the next that of the next, wherever the new regret is higher.
    """

    replay: float = leaf(0.5, "[0, 1]")
    temperature: float = leaf(0.3, "(0, inf)")
    staleness: float = leaf(0.3, "[0, 1]")
    capacity: int = static(default=256)

    def init(self, tasks: Tasks) -> LevelBuffer:
        """An empty buffer."""
        like = jax.eval_shape(tasks.sample, jax.random.key(0))
        levels = jax.tree.map(lambda x: jnp.zeros((self.capacity, *x.shape), x.dtype), like)
        regret, last = jnp.zeros(self.capacity), jnp.full(self.capacity, -1, jnp.int32)
        return LevelBuffer(levels, regret, last, jnp.int32(0))

    def probabilities(self, buffer: LevelBuffer) -> jax.Array:
        """The probability of each slot to be drawn next; 0 where it is empty. [C]."""
        order = jnp.argsort(jnp.where(buffer.filled, -buffer.regret, jnp.inf))
        rank = jnp.zeros(self.capacity).at[order].set(jnp.arange(1.0, self.capacity + 1.0))
        by_regret, by_age = rank ** (-1.0 / self.temperature), jnp.float32(buffer.now - buffer.last)
        by_regret, by_age = (jnp.where(buffer.filled, x, 0.0) for x in (by_regret, by_age))
        share = lambda x: x / jnp.maximum(x.sum(), 1e-30)
        return (1.0 - self.staleness) * share(by_regret) + self.staleness * share(by_age)

    def draw(
        self, key: jax.Array, buffer: LevelBuffer, tasks: Tasks, num: int
    ) -> tuple[Any, jax.Array]:
        """Levels [num], and their slots in the buffer [num]; `capacity`, which is not a slot, for a
        new one.
        """
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
        # the most probable levels are drawn first: shuffled, as the place in a batch has a meaning
        turn = jax.random.permutation(key_order, num)
        slot = old[turn]
        replayed = (turn < count) & buffer.filled[slot]
        levels = tree.where(replayed, jax.tree.map(lambda x: x[slot], buffer.levels), new)
        return levels, jnp.where(replayed, slot, self.capacity)

    def tell(
        self, buffer: LevelBuffer, levels: Any, slot: jax.Array, regret: jax.Array
    ) -> LevelBuffer:
        """Return the buffer after training on the levels of `draw`, with this regret [num]."""

        def put(at: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
            return old.at[at].set(new, mode="drop")

        now = jnp.full(len(regret), buffer.now)
        buffer = LevelBuffer(
            levels=buffer.levels,
            regret=put(slot, buffer.regret, regret),
            last=put(slot, buffer.last, now),
            now=buffer.now + 1,
        )
        new = slot == self.capacity
        best = jnp.argsort(jnp.where(new, -regret, jnp.inf))
        order = jnp.argsort(jnp.where(buffer.filled, self.probabilities(buffer), -1.0))
        weakest = order[: len(regret)]
        enters = new[best] & (~buffer.filled[weakest] | (regret[best] > buffer.regret[weakest]))
        to = jnp.where(enters, weakest, self.capacity)
        return LevelBuffer(
            levels=jax.tree.map(lambda old, new: put(to, old, new[best]), buffer.levels, levels),
            regret=put(to, buffer.regret, regret[best]),
            last=put(to, buffer.last, now),
            now=buffer.now,
        )


@pytree
class State:
    """The state of the evolution, and the buffer of levels."""

    search: Any
    buffer: LevelBuffer

    @property
    def params(self) -> Any:
        """The meta-parameters."""
        return self.search.params

    @property
    def clock(self) -> Clock:
        """Generations."""
        return self.search.clock


@pytree
class Curriculum(MetaLearner):
    """Evolution on levels drawn by regret, as GROOVE's (Jackson et al., 2023).

    `rl.Training(Curriculum(rl.Evolution(...)), tasks, steps=150)`. The regret of a level is 1 less
    the mean score on it: where a score is the return as a share of the exact optimum, (optimum -
    return) / optimum, GROOVE's algorithmic regret with the optimum in place of a trained
    antagonist. As levels are ranked, any other score serves too, so far as it is comparable between
    levels. A level without a finite score has the lowest regret, -inf.

    It is evaluated on levels as the tasks sample them.
    """

    evolution: Evolution = Evolution()
    levels: LevelReplay = LevelReplay()

    @property
    def inner(self) -> InnerProblem:
        """The inner problem of the evolution."""
        return self.evolution.inner

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        if not isinstance(self.evolution, Evolution):
            kind = type(self.evolution).__name__
            raise TypeError(
                f"Curriculum chooses the levels of an rl.Evolution, and {kind} samples levels "
                "itself: write rl.Curriculum(rl.Evolution(...))."
            )
        return State(self.evolution.init(key, env, num_updates), self.levels.init(env))

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one generation, and the evolution's metrics, with `replayed`, the
        share of its levels that are old, and `regret`, the mean over the buffer.
        """
        key_draw, key_run = jax.random.split(key)
        levels, slot = self.levels.draw(key_draw, state.buffer, env, self.evolution.num_levels)
        search, metrics, scores = self.evolution.generation(key_run, env, state.search, levels)
        finite = jnp.isfinite(scores)
        mean = jnp.sum(jnp.where(finite, scores, 0.0), 0) / jnp.maximum(finite.sum(0), 1)
        regret = jnp.where(finite.any(0), 1.0 - mean, -jnp.inf)
        buffer = self.levels.tell(state.buffer, levels, slot, regret)
        known = buffer.filled & jnp.isfinite(buffer.regret)
        return State(search, buffer), metrics | {
            "replayed": jnp.mean(slot < self.levels.capacity),
            "regret": jnp.mean(buffer.regret, where=known),
        }
