"""SERENE (Paolo et al., 2021): novelty search finds areas with a reward, and evolution strategies
that start from rewarded solutions exploit them.

The task is a planar arm with a reward in three small areas, which are drawn for each seed. All
searches keep the best solution for each cell of positions.
"""

from typing import Any

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.arm import evaluate
from experiments.claims import Arm, Check, Claim, beats, share
from jaxrl.archives import (
    Above,
    ByFitness,
    Emitter,
    Evaluated,
    FullCMA,
    Grid,
    Improvement,
    IsoLine,
    Mixed,
    Novel,
    Ranked,
    Task,
)

AREAS, RADIUS = 3, 0.03
CELLS = Grid.unit(16, 16)
BATCH, POPULATION = 96, 36


@rl.pytree
class Reach(Task):
    """The descriptor is the position of the end of the arm, in [0, 1]. The fitness is 1 at the
    centre of an area, falls to 0 at its edge, and is 0 elsewhere.

    centers: [AREAS, 2]. image: True for an image of the end, [64], as the descriptor.
    """

    centers: jax.Array
    joints: int = rl.static(default=12)
    image: bool = rl.static(default=False)

    @classmethod
    def drawn(cls, key: jax.Array, joints: int = 12, image: bool = False) -> "Reach":
        """Areas in three directions; random arms do not reach most of them."""
        key_angle, key_length = jax.random.split(key)
        thirds = jnp.arange(AREAS) / AREAS + jax.random.uniform(key_angle)
        direction = jnp.stack([jnp.cos(2 * jnp.pi * thirds), jnp.sin(2 * jnp.pi * thirds)], 1)
        length = jax.random.uniform(key_length, (AREAS, 1), minval=0.25, maxval=0.42)
        return cls(0.5 + length * direction, joints, image)

    def init(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (self.joints,))

    def worth(self, end: jax.Array) -> jax.Array:
        """The fitness in each area of an end [2]. [AREAS]."""
        distance = jnp.sqrt(((self.centers - end) ** 2).sum(-1))
        return jnp.maximum(1.0 - distance / RADIUS, 0.0)

    def __call__(self, key: jax.Array, genotype: jax.Array) -> Evaluated:
        end = evaluate(genotype)[1]
        pixels = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(0.0, 1.0, 8)]), -1).reshape(-1, 2)
        image = jnp.exp(-((pixels - end) ** 2).sum(-1) / (2 * 0.15**2))
        return Evaluated(self.worth(end).max(), image if self.image else end, end)


def novelty_search(step: Any, batch: int = BATCH) -> Emitter:
    return IsoLine(step, 0.2, 0.0, 1.0, Novel(num_neighbors=5), batch=batch)


def with_emitters(step: Any) -> Emitter:
    """Novelty search, and evolution strategies that start from rewarded solutions."""
    exploit = Ranked(FullCMA(step, POPULATION), ByFitness(), Above(0.0))
    return Mixed((novelty_search(step, BATCH - POPULATION), exploit))


SEARCHES = {
    "SERENE": with_emitters,
    "novelty search": novelty_search,
    "MAP-Elites": lambda step: IsoLine(step, 0.2, 0.0, 1.0, batch=BATCH),
    "CMA-ME": lambda step: Ranked(FullCMA(step, BATCH), Improvement()),
}


def outcome(task: Reach, ends: jax.Array, filled: jax.Array) -> dict[str, jax.Array]:
    """The sum of the best rewards of the areas, and whether all are found, by ends [C, 2]."""
    best = jnp.where(filled[:, None], jax.vmap(task.worth)(ends), 0.0).max(0)
    return {"reward": best.sum(), "found": (best > 0).all().astype(jnp.float32)}


def arm(search: str, iterations: int) -> Arm:
    def run(seed, step):
        key_task, key_train = jax.random.split(jax.random.key(seed))
        task = Reach.drawn(key_task)
        algo = rl.MapElites(CELLS, SEARCHES[search](step))
        training = rl.Training(algo, task, iterations, evals=1, episodes=0)
        archive = training(key_train)[0].archive
        return outcome(task, archive.items.descriptor, archive.filled)

    return Arm(run, budget=BATCH * (iterations + 1), tune={"step": (0.02, 0.05, 0.1)})


def claims(scale: float = 1.0) -> list[Claim]:
    iterations = max(int(200 * scale), 2)
    return [
        Claim(
            row=353,
            statement="With a planar arm, novelty search with reward emitters finds all of three "
            "disjoint rewarded areas, and earns in sum more than novelty search, MAP-Elites and "
            "CMA-ME with as many evaluations.",
            arms={name: arm(name, iterations) for name in SEARCHES},
            metric="reward",
            accept=[
                *(beats("SERENE", name, "reward") for name in list(SEARCHES)[1:]),
                Check(
                    "share of runs of SERENE that find all areas",
                    lambda results: share(results["SERENE"]["found"].values),
                    ">= 0.9",
                ),
            ],
            worlds=["planar arm of 12 joints with three rewarded areas"],
            unmatched="Novelty search and emitters have shares of each batch, in place of turns "
            "that a scheduler allocates; a repertoire of cells is both population and archive.",
        )
    ]
