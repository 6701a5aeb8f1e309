"""Emitters around an evolution strategy: CMA-ME and its variants."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.archives.archive import Archive, Entered
from jaxrl.archives.emitters import Emitter
from jaxrl.archives.rankings import Improvement, Ranking
from jaxrl.archives.selections import Selection
from jaxrl.archives.tasks import Elite, Evaluated, Genotype
from jaxrl.errors import check_counts
from jaxrl.meta.cma import FullCMA
from jaxrl.meta.strategies import Strategy
from jaxrl.rules.base import check_field
from jaxrl.tree import pytree, static


@pytree
class State:
    """The states of `size` strategies and of their rankings; the number of batches that each has
    proposed, `asked`; the number of the current strategy; and the key of its proposals.
    """

    strategies: Any
    rankings: Any
    asked: jax.Array
    number: jax.Array
    key: jax.Array


@pytree
class Ranked(Emitter):
    """Evolution strategies that rank their candidates by their effect on the archive (CMA-ME,
    Fontaine et al., 2020).

    The strategies propose batches in turn. A strategy restarts from a random elite, selected by
    `start`, after a batch from which nothing was added to the archive, or if its state is not
    finite. size: number of strategies.
    """

    strategy: Strategy = FullCMA()
    ranking: Ranking = Improvement()
    start: Selection = Selection()
    size: int = static(default=3)

    def __post_init__(self) -> None:
        check_field(self, "strategy", Strategy, "rl.archives.FullCMA(sigma=0.5)")
        check_field(self, "ranking", Ranking, "rl.archives.Improvement()")
        check_field(self, "start", Selection, "rl.archives.Above(0.0)")
        check_counts(self, "size")

    @property
    def batch(self) -> int:  # type: ignore[override]
        return self.strategy.members

    def init(self, key: jax.Array, elite: Elite) -> State:
        key_ranking, key_ask = jax.random.split(key)
        one = self.strategy.init(elite.genotype)
        rank = lambda key: self.ranking.init(key, elite.descriptor)
        return State(
            strategies=jax.tree.map(lambda x: jnp.broadcast_to(x, (self.size, *jnp.shape(x))), one),
            rankings=jax.vmap(rank)(jax.random.split(key_ranking, self.size)),
            asked=jnp.zeros(self.size, jnp.int32),
            number=jnp.int32(0),
            key=jax.random.key_data(key_ask),
        )

    def ask(self, key: jax.Array, state: State, archive: Archive) -> Genotype:
        now = jax.tree.map(lambda x: x[state.number], state.strategies)
        key_ask = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(key))
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
        key_elite, key_ranking, key_next = jax.random.split(key, 3)
        now, ranking = jax.tree.map(lambda x: x[state.number], (state.strategies, state.rankings))
        order = self.ranking.order(ranking, archive, evaluated, entered)
        rank = jnp.zeros(self.batch).at[order].set(jnp.arange(self.batch, dtype=jnp.float32))
        key_asked = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(key))
        after, _ = self.strategy.tell(key_asked, now, rank)
        # without the clock, the total of which is infinite
        is_valid = tree.is_finite(tree.replace(after, clock=()))
        again = ~entered.enters.any() | ~is_valid
        weight = self.start.weight(archive)
        elite = jax.tree.map(lambda x: x[0], archive.draw(key_elite, 1, weight)[0])
        fresh = self.strategy.init(elite.genotype), self.ranking.init(key_ranking, elite.descriptor)
        put = lambda old, new: old.at[state.number].set(new)
        strategies, rankings = jax.tree.map(
            put,
            (state.strategies, state.rankings),
            tree.where(again, fresh, (after, ranking)),
        )
        asked = state.asked.at[state.number].add(1)
        return State(
            strategies=strategies,
            rankings=rankings,
            asked=asked,
            number=jnp.argmin(asked).astype(jnp.int32),
            key=jax.random.key_data(key_next),
        )
