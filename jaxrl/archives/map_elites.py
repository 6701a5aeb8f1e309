"""MAP-Elites and its variants: an archive, an emitter and a task."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.algorithms.base import Agent, Algorithm
from jaxrl.archives.archive import Archive, Entered, check_memory, empty
from jaxrl.archives.cells import Cells, check_descriptor, find_cell
from jaxrl.archives.emitters import Emitter, EmitterState, IsoLine
from jaxrl.archives.encoders import Encoder, EncoderState
from jaxrl.archives.tasks import Elite, Evaluated, Genotype, Task
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.rollout import Evaluation
from jaxrl.rules.base import check_field
from jaxrl.tree import leaf, pytree, replace


@pytree
class State:
    """The archive of elites, the states of the emitter and the encoder, and the iteration as a
    clock. params: the genotypes of the elites.
    """

    archive: Archive
    emitter: EmitterState
    encoder: EncoderState
    clock: Clock

    @property
    def params(self) -> Any:
        return self.archive.items.genotype


@pytree
class MapElites(Algorithm):
    """MAP-Elites (Mouret and Clune, 2015): in each iteration the emitter proposes a batch of
    genotypes, and each is added to the archive if it is the best so far in its cell.

    `rl.Training(rl.MapElites(cells), task, steps=1000)`: a step is an iteration. Metrics:
    `coverage`, the fraction of cells that are filled; `qd_score`, the sum of fitness - offset;
    `best_fitness`; `entered`, the fraction of a batch that was added, and `rejected`, the fraction
    without a cell or without a finite fitness. `evaluation` is the mean fitness of random elites in
    a new evaluation, and `evaluation_kept` the fraction of them that fall into their cell again.

    cells: of the descriptors. encoder: computes descriptors from what the task observes; after it
    has learned, the elites are assigned to their new cells. offset: the lowest possible fitness, so
    that the QD score never decreases.
    """

    cells: Cells
    emitter: Emitter = IsoLine()
    encoder: Encoder = Encoder()
    offset: float = leaf(0.0, "(-inf, inf)")

    def __post_init__(self) -> None:
        check_field(self, "cells", Cells, "rl.archives.Grid.unit(32, 32)")
        check_field(self, "emitter", Emitter, "rl.archives.IsoLine()")
        check_field(self, "encoder", Encoder, "rl.archives.Autoencoder()")

    @property
    def steps_per_update(self) -> int:
        return 1

    def init(
        self, key: jax.Array, env: Task, num_updates: jax.Array | float = float("inf")
    ) -> State:
        if not isinstance(env, Task):
            raise TypeError(
                "MapElites needs a task, which returns the fitness and descriptor of a genotype, "
                f"but got {type(env).__name__}: write rl.archives.PolicyTask(env), or a class of "
                "your own, `class Mine(rl.archives.Task)`, decorated with @rl.pytree."
            )
        key_first, key_emitter, key_encoder, key_evaluate = jax.random.split(key, 4)
        genotypes = jax.vmap(env.init)(jax.random.split(key_first, self.emitter.batch))
        seen = jax.eval_shape(lambda: self._example(env))
        check_descriptor(seen.descriptor, self.cells, type(env).__name__)
        check_memory(self.cells.num_cells, self.emitter.batch, seen, self)
        encoder = self.encoder.init(key_encoder, jnp.zeros(seen.observed.shape))
        archive = empty(self.cells.num_cells, seen)
        archive, _, _ = self._add(key_evaluate, env, archive, encoder, genotypes)
        example = jax.tree.map(lambda x: x[0], archive.items)
        example = replace(example, genotype=jax.tree.map(lambda x: x[0], genotypes))
        emitter = self.emitter.init(key_emitter, example)
        return State(archive, emitter, encoder, start_clock(num_updates))

    def _example(self, env: Task) -> Elite:
        key = jax.random.key(0)
        genotype = env.init(key)
        observed = env(key, genotype).descriptor
        return Elite(genotype, self.encoder(self.encoder.init(key, observed), observed), observed)

    def _evaluate(
        self, key: jax.Array, env: Task, encoder: EncoderState, genotypes: Genotype, num: int
    ) -> tuple[Evaluated, Elite]:
        """The evaluations of genotypes [num], with their descriptors, and the same as elites."""
        found = jax.vmap(env)(jax.random.split(key, num), genotypes)
        descriptor = jax.vmap(lambda seen: self.encoder(encoder, seen))(found.descriptor)
        elites = Elite(genotypes, descriptor, found.descriptor)
        return replace(found, descriptor=descriptor), elites

    def _add(
        self,
        key: jax.Array,
        env: Task,
        archive: Archive,
        encoder: EncoderState,
        genotypes: Genotype,
    ) -> tuple[Archive, Evaluated, Entered]:
        """The archive after the evaluation of a batch."""
        found, elites = self._evaluate(key, env, encoder, genotypes, self.emitter.batch)
        cell = find_cell(self.cells, found.descriptor)
        archive, entered = archive.put(cell, elites, found.fitness)
        return archive, found, entered

    def update(self, key: jax.Array, env: Task, state: State) -> tuple[State, Metrics]:
        """Return the state after one iteration, and metrics."""
        key_ask, key_evaluate, key_tell, key_learn = jax.random.split(key, 4)
        genotypes = self.emitter.ask(key_ask, state.emitter, state.archive)
        archive, found, entered = self._add(
            key_evaluate, env, state.archive, state.encoder, genotypes
        )
        emitter = self.emitter.tell(key_tell, state.emitter, archive, genotypes, found, entered)
        clock, encoder = state.clock.tick(), state.encoder
        if self.encoder.learns:
            encoder, changed = self.encoder.learn(
                key_learn, encoder, archive.items.observed, archive.filled, jnp.asarray(clock.n)
            )
            encode = lambda archive: self._encoded(archive, encoder)
            archive = jax.lax.cond(changed, encode, lambda archive: archive, archive)
        metrics = {
            "coverage": archive.coverage,
            "qd_score": archive.qd_score(self.offset),
            "best_fitness": archive.fitness.max(),
            "entered": entered.enters.mean(),
            "rejected": (entered.gain == -jnp.inf).mean(),
        }
        return State(archive, emitter, encoder, clock), metrics

    def _encoded(self, archive: Archive, encoder: EncoderState) -> Archive:
        """The archive with the descriptors of another encoder, and the elites in new cells."""
        descriptor = jax.vmap(lambda seen: self.encoder(encoder, seen))(archive.items.observed)
        elites = replace(archive.items, descriptor=descriptor)
        none = replace(archive, items=elites, fitness=jnp.full(archive.num_cells, -jnp.inf))
        return none.put(find_cell(self.cells, descriptor), elites, archive.fitness)[0]

    def agent(self, state: State) -> Agent:
        """The archive, which is saved."""
        return state.archive

    def evaluate(self, key: jax.Array, env: Task, state: State, num_episodes: int) -> Evaluation:
        """The fitness of random elites in new evaluations, with other keys. [num_episodes]."""
        key_draw, key_evaluate = jax.random.split(key)
        elites, cell = state.archive.draw(key_draw, num_episodes)
        found, _ = self._evaluate(key_evaluate, env, state.encoder, elites.genotype, num_episodes)
        kept = (find_cell(self.cells, found.descriptor) == cell).astype(jnp.float32)
        return Evaluation(found.fitness, {"kept": kept})

    def evaluation_steps(self, env: Task, num_episodes: int) -> int:
        return 0
