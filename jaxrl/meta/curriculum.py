"""Which levels a meta-learner lives on: new ones, or again those that it does worst on."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.env import Tasks, check_tasks
from jaxrl.meta.evolution import Evolution
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static


@pytree
class Buffer:
    """Levels [C], each with the regret when it was last lived on and the time of that; 0 and -1
    where there is none.
    """

    levels: Any
    regret: jax.Array
    last: jax.Array
    now: jax.Array

    @property
    def filled(self) -> jax.Array:
        return self.last >= 0


@pytree
class LevelReplay:
    """Prioritised level replay (Jiang et al., 2021), in batches: a level is new, or drawn from
    those lived on before.

    A level in the buffer has the chance (1 - staleness) * P_regret + staleness * P_age, with
    P_regret in proportion to rank ** (-1 / temperature), rank 1 being the highest regret, and P_age
    to the time since it was last lived on.

    replay: the chance that a level is an old one; the others are new, so that new ones come for
    ever. The levels of a batch are distinct. None enters without a regret, so none is thrown away
    before it was lived on. capacity: of the buffer; where it is full, the new level of the highest
    regret takes the place of the old one of the lowest chance, the next that of the next, wherever
    the new regret is higher.
    """

    replay: float = 0.5
    temperature: float = 0.3
    staleness: float = 0.3
    capacity: int = static(default=256)

    def start(self, tasks: Tasks) -> Buffer:
        like = jax.eval_shape(tasks.sample, jax.random.key(0))
        levels = jax.tree.map(lambda x: jnp.zeros((self.capacity, *x.shape), x.dtype), like)
        return Buffer(
            levels, jnp.zeros(self.capacity), jnp.full(self.capacity, -1, jnp.int32), jnp.int32(0)
        )

    def chances(self, buffer: Buffer) -> jax.Array:
        """How likely each place of the buffer is to be drawn next; 0 where it is empty. [C]."""
        order = jnp.argsort(jnp.where(buffer.filled, -buffer.regret, jnp.inf))
        rank = jnp.zeros(self.capacity).at[order].set(jnp.arange(1.0, self.capacity + 1.0))
        by_regret, by_age = rank ** (-1.0 / self.temperature), jnp.float32(buffer.now - buffer.last)
        by_regret, by_age = (jnp.where(buffer.filled, x, 0.0) for x in (by_regret, by_age))
        share = lambda x: x / jnp.maximum(x.sum(), 1e-30)
        return (1.0 - self.staleness) * share(by_regret) + self.staleness * share(by_age)

    def draw(self, key: jax.Array, buffer: Buffer, tasks: Tasks, num: int) -> tuple[Any, jax.Array]:
        """Levels [num], and their places in the buffer [num]; for a new one `capacity`, which is no
        place.
        """
        if num > self.capacity:
            raise ValueError(
                f"{num} distinct levels can't be drawn from a buffer of "
                f"capacity={self.capacity}; write capacity={4 * num}."
            )
        key_new, key_old, key_count, key_order = jax.random.split(key, 4)
        new = jax.vmap(tasks.sample)(jax.random.split(key_new, num))
        old = jax.random.choice(
            key_old, self.capacity, (num,), replace=False, p=self.chances(buffer)
        )
        count = jax.random.bernoulli(key_count, self.replay, (num,)).sum()
        turn = jax.random.permutation(
            key_order, num
        )  # the likeliest are drawn first, and no slot should get them always
        place = old[turn]
        again = (turn < count) & buffer.filled[place]
        levels = tree.where(again, jax.tree.map(lambda x: x[place], buffer.levels), new)
        return levels, jnp.where(again, place, self.capacity)

    def tell(self, buffer: Buffer, levels: Any, place: jax.Array, regret: jax.Array) -> Buffer:
        """The buffer after the levels of `draw` were lived on, with this regret [num]."""
        put = lambda where, old, new: old.at[where].set(new, mode="drop")
        now = jnp.full(len(regret), buffer.now)
        buffer = Buffer(
            buffer.levels,
            put(place, buffer.regret, regret),
            put(place, buffer.last, now),
            buffer.now + 1,
        )
        new = place == self.capacity
        best = jnp.argsort(jnp.where(new, -regret, jnp.inf))
        weakest = jnp.argsort(jnp.where(buffer.filled, self.chances(buffer), -1.0))[: len(regret)]
        enters = new[best] & (~buffer.filled[weakest] | (regret[best] > buffer.regret[weakest]))
        to = jnp.where(enters, weakest, self.capacity)
        kept = jax.tree.map(lambda old, new: put(to, old, new[best]), buffer.levels, levels)
        return Buffer(
            kept, put(to, buffer.regret, regret[best]), put(to, buffer.last, now), buffer.now
        )


@pytree
class State:
    """Evolution's state, and the levels that are kept."""

    search: Any
    buffer: Buffer

    @property
    def params(self) -> Any:
        return self.search.params

    @property
    def clock(self) -> Clock:
        return self.search.clock


@pytree
class Curriculum:
    """Evolution whose levels are drawn by regret, as GROOVE's (Jackson et al., 2023).

    `rl.Training(Curriculum(rl.Evolution(...)), tasks, steps=150)`. The regret of a level is 1 less
    the mean score of those that lived on it: where a score is the return as a share of the exact
    optimum, (optimum - return) / optimum, GROOVE's algorithmic regret with the optimum in place of
    an antagonist that is trained. By rank, any other score serves too, so far as it is comparable
    between levels. Where no life stayed finite, nothing can be learnt: the lowest regret.

    It is judged on levels as the tasks sample them.
    """

    evolution: Evolution = Evolution()
    levels: LevelReplay = LevelReplay()

    steps_per_update = 1

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> State:
        check_tasks(env, self)
        if not hasattr(self.evolution, "generation"):
            kind = type(self.evolution).__name__
            raise TypeError(
                f"Curriculum chooses the levels of an rl.Evolution, and {kind} lives on levels "
                "of its own."
            )
        return State(self.evolution.init(key, env, num_updates), self.levels.start(env))

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """One generation. Beside its own metrics, `replayed` is the share of its levels that are
        old, and `regret` the mean of all that are kept.
        """
        key_draw, key_live = jax.random.split(key)
        levels, place = self.levels.draw(key_draw, state.buffer, env, self.evolution.num_levels)
        search, metrics, scores = self.evolution.generation(key_live, env, state.search, levels)
        finite = jnp.isfinite(scores)
        mean = jnp.sum(jnp.where(finite, scores, 0.0), 0) / jnp.maximum(finite.sum(0), 1)
        regret = jnp.where(finite.any(0), 1.0 - mean, -jnp.inf)
        buffer = self.levels.tell(state.buffer, levels, place, regret)
        kept = jnp.mean(buffer.regret, where=buffer.filled & jnp.isfinite(buffer.regret))
        return State(search, buffer), metrics | {
            "replayed": jnp.mean(place < self.levels.capacity),
            "regret": kept,
        }

    def judge(self, key: jax.Array, env: Tasks, state: State, episodes: int) -> jax.Array:
        return self.evolution.judge(key, env, state.search, episodes)
