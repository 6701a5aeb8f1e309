"""MAP-Elites and its relatives: an archive, an emitter and a task."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.algorithms.base import Agent, Algorithm
from jaxrl.archives.archive import Archive, empty
from jaxrl.archives.cells import Cells
from jaxrl.archives.emitters import Emitter, EmitterState, IsoLine
from jaxrl.archives.tasks import Task
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.rollout import Evaluation
from jaxrl.rules.base import check_field
from jaxrl.tree import pytree


@pytree
class State:
    """The archive, the emitter's state, and the iteration. params: the archive's items."""

    archive: Archive
    emitter: EmitterState
    clock: Clock

    @property
    def params(self) -> Any:
        return self.archive.items


@pytree
class MapElites(Algorithm):
    """MAP-Elites (Mouret and Clune, 2015): in each iteration the emitter proposes a batch of
    genotypes, and each enters the archive where it is the best of its cell.

    `rl.Training(rl.MapElites(cells), task, steps=1000)`: a step is an iteration. Metrics:
    `coverage`, the share of cells that are filled; `qd_score`, the sum of fitness - offset;
    `best_fitness`; `entered`, the share of a batch that entered. `evaluation` is the mean fitness
    of random elites, evaluated again, and `evaluation_kept` the share that falls into its cell.

    cells: of the descriptors. offset: the lowest fitness that is possible, so that the QD score
    never falls.
    """

    cells: Cells
    emitter: Emitter = IsoLine()
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_field(self, "cells", Cells, "rl.archives.Grid.unit(32, 32)")
        check_field(self, "emitter", Emitter, "rl.archives.IsoLine()")

    @property
    def steps_per_update(self) -> int:
        return 1

    def init(
        self, key: jax.Array, env: Task, num_updates: jax.Array | float = float("inf")
    ) -> State:
        if not isinstance(env, Task):
            raise TypeError(
                "MapElites needs a task, which gives each genotype a fitness and a descriptor, "
                f"and got {type(env).__name__}: write rl.archives.PolicyTask(env, describe), or a "
                "class of your own, `class Mine(rl.archives.Task)`, under @rl.pytree."
            )
        key_first, key_emitter, key_evaluate = jax.random.split(key, 3)
        genotypes = jax.vmap(env.init)(jax.random.split(key_first, self.emitter.batch))
        example = jax.tree.map(lambda x: x[0], genotypes)
        archive = empty(self.cells.num_cells, example)
        keys = jax.random.split(key_evaluate, self.emitter.batch)
        evaluated = jax.vmap(env)(keys, genotypes)
        cell = self.cells(evaluated.descriptor)
        archive, _ = archive.put(cell, genotypes, evaluated.fitness)
        return State(archive, self.emitter.init(key_emitter, example), start_clock(num_updates))

    def update(self, key: jax.Array, env: Task, state: State) -> tuple[State, Metrics]:
        """Return the state after one iteration, and metrics."""
        key_ask, key_evaluate, key_tell = jax.random.split(key, 3)
        genotypes = self.emitter.ask(key_ask, state.emitter, state.archive)
        keys = jax.random.split(key_evaluate, self.emitter.batch)
        evaluated = jax.vmap(env)(keys, genotypes)
        cell = self.cells(evaluated.descriptor)
        archive, entered = state.archive.put(cell, genotypes, evaluated.fitness)
        emitter = self.emitter.tell(key_tell, state.emitter, archive, genotypes, evaluated, entered)
        metrics = {
            "coverage": archive.coverage,
            "qd_score": archive.qd_score(self.offset),
            "best_fitness": archive.fitness.max(),
            "entered": entered.enters.mean(),
        }
        return State(archive, emitter, state.clock.tick()), metrics

    def agent(self, state: State) -> Agent:
        """The archive: what a folder keeps."""
        return state.archive

    def evaluate(self, key: jax.Array, env: Task, state: State, num_episodes: int) -> Evaluation:
        """Random elites, evaluated again with other keys: their fitness [num_episodes]."""
        key_draw, key_evaluate = jax.random.split(key)
        genotypes, cell = state.archive.draw(key_draw, num_episodes)
        found = jax.vmap(env)(jax.random.split(key_evaluate, num_episodes), genotypes)
        kept = (self.cells(found.descriptor) == cell).astype(jnp.float32)
        return Evaluation(found.fitness, {"kept": kept})

    def evaluation_steps(self, env: Task, num_episodes: int) -> int:
        return 0
