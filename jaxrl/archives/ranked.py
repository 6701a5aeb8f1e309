"""Emitters around an evolution strategy: CMA-ME and its relatives."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.archives.archive import Archive, Entered
from jaxrl.archives.emitters import Emitter
from jaxrl.archives.tasks import Evaluated, Genotype
from jaxrl.errors import check_counts
from jaxrl.meta.cma import FullCMA
from jaxrl.meta.strategies import Strategy
from jaxrl.tree import pytree, static

By = Literal["improvement", "fitness", "random direction"]


@pytree
class State:
    """The states of `size` strategies, how often each was asked, the one that is asked now and the
    key of its proposals, and the direction of each in the space of descriptors [size, D].
    """

    strategies: Any
    asked: jax.Array
    number: jax.Array
    key: jax.Array
    direction: jax.Array


@pytree
class Ranked(Emitter):
    """Evolution strategies that rank their members by what these do in the archive (CMA-ME,
    Fontaine et al., 2020).

    by: "improvement": members of empty cells first, then by the gain in fitness; "fitness"; or
    "random direction", how far a descriptor lies in a direction that is drawn at each restart. The
    members of the strategies are asked in turn, the one that was asked least. A strategy starts
    again at a random elite where nothing of its batch has entered. size: number of strategies.
    descriptor_size: D, for "random direction".
    """

    strategy: Strategy = FullCMA()
    by: By = static(default="improvement")
    size: int = static(default=3)
    descriptor_size: int = static(default=2)

    def __post_init__(self) -> None:
        check_counts(self, "size", "descriptor_size")

    @property
    def batch(self) -> int:  # type: ignore[override]
        return self.strategy.members

    def init(self, key: jax.Array, genotype: Genotype) -> State:
        key_direction, key_ask = jax.random.split(key)
        one = self.strategy.init(genotype)
        stack = lambda x: jnp.broadcast_to(x, (self.size, *jnp.shape(x)))
        return State(
            strategies=jax.tree.map(stack, one),
            asked=jnp.zeros(self.size, jnp.int32),
            number=jnp.int32(0),
            key=jax.random.key_data(key_ask),
            direction=jax.random.normal(key_direction, (self.size, self.descriptor_size)),
        )

    def ask(self, key: jax.Array, state: State, archive: Archive) -> Genotype:
        now = jax.tree.map(lambda x: x[state.number], state.strategies)
        key_ask = jax.random.wrap_key_data(state.key)
        propose = lambda member: self.strategy.ask(key_ask, now, member)
        return jax.vmap(propose)(jnp.arange(self.batch))

    def tell(
        self,
        key: jax.Array,
        state: State,
        archive: Archive,
        genotypes: Genotype,
        evaluated: Evaluated,
        entered: Entered,
    ) -> State:
        key_elite, key_direction, key_next = jax.random.split(key, 3)
        now = jax.tree.map(lambda x: x[state.number], state.strategies)
        value = self._value(evaluated, entered, state.direction[state.number])
        order = (
            jnp.lexsort((value, entered.is_new)) if self.by == "improvement" else jnp.argsort(value)
        )
        rank = jnp.zeros(self.batch).at[order].set(jnp.arange(self.batch, dtype=jnp.float32))
        key_ask = jax.random.wrap_key_data(state.key)
        after_tell, _ = self.strategy.tell(key_ask, now, rank)
        elite = jax.tree.map(lambda x: x[0], archive.draw(key_elite, 1)[0])
        again = ~entered.enters.any() | ~tree.is_finite(after_tell)
        after_tell = tree.where(again, self.strategy.init(elite), after_tell)
        fresh = jax.random.normal(key_direction, (self.descriptor_size,))
        direction = jnp.where(again, fresh, state.direction[state.number])
        asked = state.asked.at[state.number].add(1)
        put = lambda old, new: old.at[state.number].set(new)
        return State(
            strategies=jax.tree.map(put, state.strategies, after_tell),
            asked=asked,
            number=jnp.argmin(asked).astype(jnp.int32),
            key=jax.random.key_data(key_next),
            direction=put(state.direction, direction),
        )

    def _value(self, evaluated: Evaluated, entered: Entered, direction: jax.Array) -> jax.Array:
        if self.by == "random direction":
            return evaluated.descriptor @ direction
        return entered.gain if self.by == "improvement" else evaluated.fitness
