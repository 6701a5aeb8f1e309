"""TAXONS (Paolo et al., 2020; thesis, Paolo, 2021): novelty search in the codes of an autoencoder,
which is trained on images of the solutions, in place of a hand-made descriptor.

Solutions are the angles of a planar arm with many joints; random arms end near the origin. An image
shows the end of the arm. Searches are compared by the number of cells reached by ends of arms.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from experiments.claims import Arm, Check, Claim, ratio
from experiments.papers.serene import BATCH, CELLS, Reach, novelty_search
from jaxrl.archives import Archive, Autoencoder, Emitter, Encoder, Grid

CODES = Grid.between(-1.0, 1.0, (16, 16))
ENCODER = Autoencoder(3e-3, train_every=10, train_steps=200, network=rl.MLP((32,)))
JOINTS = 40


@rl.pytree
class Recorded(Emitter):
    """An emitter that records the cells in `extra` that its solutions reached. State: that of the
    emitter, and bool [cells].
    """

    emitter: Emitter

    @property
    def batch(self) -> int:  # type: ignore[override]
        return self.emitter.batch

    def init(self, key: jax.Array, elite: Any) -> tuple[Any, jax.Array]:
        return self.emitter.init(key, elite), jnp.zeros(CELLS.num_cells, bool)

    def ask(self, key: jax.Array, state: tuple[Any, jax.Array], archive: Archive) -> Any:
        return self.emitter.ask(key, state[0], archive)

    def tell(self, key, state, archive, genotypes, evaluated, entered) -> tuple[Any, jax.Array]:
        inner = self.emitter.tell(key, state[0], archive, genotypes, evaluated, entered)
        return inner, state[1].at[CELLS(evaluated.extra)].set(True)


@rl.pytree
class Random(Emitter):
    """Uniform genotypes."""

    batch: int = rl.static(default=BATCH)

    def ask(self, key: jax.Array, state: tuple, archive: Archive) -> jax.Array:
        return jax.random.uniform(key, (self.batch, *archive.items.genotype.shape[1:]))


def search(key: jax.Array, task: Reach, emitter: Emitter, iterations: int) -> tuple[Any, jax.Array]:
    """The archive of a search, and the number of cells of ends that were reached. [].

    A task with images is searched by learned codes.
    """
    cells, encoder = (CODES, ENCODER) if task.image else (CELLS, Encoder())
    algo = rl.MapElites(cells, Recorded(emitter), encoder)
    state, _ = rl.Training(algo, task, iterations, evals=1, episodes=0)(key)
    return state.archive, state.emitter[1].sum().astype(jnp.float32)


def arm(kind: str, iterations: int) -> Arm:
    def run(seed, step):
        key_task, key_train = jax.random.split(jax.random.key(seed))
        task = Reach.drawn(key_task, JOINTS, kind == "learned codes")
        emitter = Random() if kind == "random" else novelty_search(step)
        return {"reached": search(key_train, task, emitter, iterations)[1]}

    return Arm(run, budget=BATCH * (iterations + 1), tune={"step": (0.02, 0.05, 0.1)})


def reached(results, kind: str) -> np.ndarray:
    return results[kind]["reached"].values


def claims(scale: float = 1.0) -> list[Claim]:
    iterations = max(int(200 * scale), 2)

    def times(other: str, accept: str) -> Check:
        measure = lambda results: ratio(reached(results, "learned codes"), reached(results, other))
        return Check(f"cells reached with learned codes / with {other}", measure, accept)

    return [
        Claim(
            row=85,
            statement="With a planar arm of which only images are seen, novelty search in learned "
            "codes reaches at least 90 % of the cells that it reaches with the true position as "
            "its descriptor, and more than twice those of random search.",
            arms={
                name: arm(name, iterations)
                for name in ("learned codes", "true positions", "random")
            },
            metric="reached",
            accept=[times("true positions", ">= 0.9"), times("random", "> 2")],
            worlds=[f"planar arm of {JOINTS} joints"],
            changed="After a trial: the autoencoder is trained twice as often, and for longer.",
            unmatched="Elites are selected by novelty alone, without the error of reconstruction; "
            "the signature transform of trajectories is left out.",
        )
    ]
