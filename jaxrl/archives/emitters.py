"""Emitters, which propose genotypes for an archive and are updated with the results."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.archives.archive import Archive, Entered
from jaxrl.archives.selections import Selection
from jaxrl.archives.tasks import Elite, Evaluated, Genotype
from jaxrl.errors import check_counts, not_defined
from jaxrl.meta.strategies import noise_like
from jaxrl.rules.base import check_field
from jaxrl.tree import leaf, pytree, static

EmitterState = Any


class Emitter:
    """Base class of emitters: a pytree of settings. `batch` genotypes are proposed at a time."""

    batch: Any  # static

    def init(self, key: jax.Array, elite: Elite) -> EmitterState:
        """Return the initial state; () without one. elite: an example."""
        return ()

    def ask(self, key: jax.Array, state: EmitterState, archive: Archive) -> Genotype:
        """Genotypes to evaluate. [batch]."""
        raise not_defined(self, Emitter.ask)

    def tell(
        self,
        key: jax.Array,
        state: EmitterState,
        archive: Archive,
        genotypes: Genotype,
        evaluated: Evaluated,
        entered: Entered,
    ) -> EmitterState:
        """Return the state after the genotypes of `ask` were added to the archive. [batch]."""
        return state


@pytree
class IsoLine(Emitter):
    """Directional variation along the line between two elites (Iso+LineDD, Vassiliades and Mouret,
    2018): x + iso * N(0, I) + line * N(0, 1) * (y - x).

    iso, line: standard deviations. low, high: genotypes are clipped to these. parents: the
    selection of x and y.
    """

    iso: float = leaf(0.005, "[0, inf)")
    line: float = leaf(0.05, "[0, inf)")
    low: float = leaf(-float("inf"), "[-inf, inf)")
    high: float = leaf(float("inf"), "(-inf, inf]")
    parents: Selection = Selection()
    batch: int = static(default=256)

    def __post_init__(self) -> None:
        check_field(self, "parents", Selection, "rl.archives.Novel()")
        check_counts(self, "batch")

    def ask(self, key: jax.Array, state: EmitterState, archive: Archive) -> Genotype:
        key_first, key_second, key_iso, key_line = jax.random.split(key, 4)
        weight = self.parents.weight(archive)
        first, second = (
            archive.draw(key, self.batch, weight)[0].genotype for key in (key_first, key_second)
        )
        along = self.line * jax.random.normal(key_line, (self.batch,))

        def vary(x: jax.Array, y: jax.Array, noise: jax.Array) -> jax.Array:
            change = self.iso * noise + along.reshape(-1, *(1,) * (x.ndim - 1)) * (y - x)
            return jnp.clip(x + change, self.low, self.high)

        return jax.tree.map(vary, first, second, noise_like(key_iso, first))


@pytree
class Mixed(Emitter):
    """Several emitters, each of which proposes its part of a batch.

    SERENE (Paolo et al., 2021) combines novelty search with reward emitters: `Mixed((IsoLine(
    parents=Novel()), Ranked(FullCMA(), ByFitness(), start=Above(0.0))))`. The paper alternates
    between the two; here each proposes a part of every batch.
    """

    emitters: tuple[Emitter, ...]

    @property
    def batch(self) -> int:  # type: ignore[override]
        return sum(emitter.batch for emitter in self.emitters)

    def init(self, key: jax.Array, elite: Elite) -> EmitterState:
        keys = jax.random.split(key, len(self.emitters))
        return tuple(
            emitter.init(key, elite) for emitter, key in zip(self.emitters, keys, strict=True)
        )

    def ask(self, key: jax.Array, state: EmitterState, archive: Archive) -> Genotype:
        keys = jax.random.split(key, len(self.emitters))
        parts = [
            emitter.ask(key, own, archive)
            for emitter, key, own in zip(self.emitters, keys, state, strict=True)
        ]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    def tell(
        self,
        key: jax.Array,
        state: EmitterState,
        archive: Archive,
        genotypes: Genotype,
        evaluated: Evaluated,
        entered: Entered,
    ) -> EmitterState:
        states, start = [], 0
        keys = jax.random.split(key, len(self.emitters))
        for emitter, key_own, own in zip(self.emitters, keys, state, strict=True):
            rows = slice(start, start + emitter.batch)
            part = jax.tree.map(lambda x, rows=rows: x[rows], (genotypes, evaluated, entered))
            states.append(emitter.tell(key_own, own, archive, *part))
            start += emitter.batch
        return tuple(states)
