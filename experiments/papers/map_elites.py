"""MAP-Elites (Mouret and Clune, 2015), compared with searches for the single best solution at equal
numbers of evaluations.

All searches record their evaluations in the same archive; only MAP-Elites draws parents from it.
"""

import time

import jax
import jax.numpy as jnp

import jaxrl as rl
from envs.arm import evaluate
from envs.point_maze import PointMaze
from experiments.claims import Arm, Check, Claim, beats
from jaxrl.archives import Archive, Elite, Emitter, Evaluated, Function, Grid, IsoLine, Task

BATCH, ROWS, COLUMNS = 128, 9, 15
HELD = 4  # steps of an action
LOWEST = -0.5  # fitness of the arm
NONE = jnp.zeros((BATCH, 0))


@rl.pytree
class Hairpin(Task):
    """Accelerations in two corridors, one above the other, that are joined at the far end: the
    fitness is minus the distance of the last position from the goal, straight through the wall.

    end: column of the end of the wall. Genotype: [18, 2], in [0, 1].
    """

    end: jax.Array

    def init(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (18, 2))

    def __call__(self, key: jax.Array, genotype: jax.Array) -> Evaluated:
        row, column = jnp.indices((ROWS, COLUMNS))
        edge = (row % (ROWS - 1) == 0) | (column % (COLUMNS - 1) == 0)
        walls = edge | ((row == ROWS // 2) & (column < self.end))
        start, goal = jnp.array([ROWS - 3, 2]), jnp.array([2, 2])
        env = PointMaze(walls, goal, start, spread=0.0)
        step = lambda point, action: (env.step(key, point, action)[0], None)
        actions = jnp.repeat(2.0 * genotype - 1.0, HELD, 0)
        point = jax.lax.scan(step, env.reset(key)[0], actions)[0]
        distance = jnp.sqrt(((point.position - goal) ** 2).sum())
        return Evaluated(-distance, point.position)


@rl.pytree
class Genetic(IsoLine):
    """Parents are the best so far, as many as a batch; initial genotypes are uniform in [0, 1]."""

    def init(self, key: jax.Array, elite: Elite) -> Archive:
        first = jax.random.uniform(key, (self.batch, *elite.genotype.shape))
        return Archive(Elite(first, NONE, NONE), jnp.full(self.batch, -jnp.inf))

    def ask(self, key: jax.Array, state: Archive, archive: Archive) -> jax.Array:
        return super().ask(key, (), state)

    def tell(self, key, state, archive, genotypes, evaluated, entered) -> Archive:
        items = jnp.concatenate([state.items.genotype, genotypes])
        fitness = jnp.concatenate([state.fitness, evaluated.fitness])
        fitness, best = jax.lax.top_k(fitness, self.batch)
        return Archive(Elite(items[best], NONE, NONE), fitness)


@rl.pytree
class Uniform(Emitter):
    """Uniform genotypes in [0, 1]. iso, line: the settings of the others, unused."""

    iso: float = 0.0
    line: float = 0.0
    batch: int = rl.static(default=BATCH)

    def ask(self, key: jax.Array, state: tuple, archive: Archive) -> jax.Array:
        return jax.random.uniform(key, (self.batch, *archive.items.genotype.shape[1:]))


SEARCHES = {
    "MAP-Elites": lambda iso, line: IsoLine(iso, line, 0.0, 1.0, batch=BATCH),
    "genetic": lambda iso, line: Genetic(iso, line, 0.0, 1.0, batch=BATCH),
    "random": lambda iso, line: Uniform(iso, line),
}
TUNE = {"iso": (0.02, 0.05, 0.1), "line": (0.2,)}
REACH = Function(function=evaluate, dims=12)


def arm(world: str, search: str, generations: int) -> Arm:
    def run(seed, iso, line):
        key_task, key_train = jax.random.split(jax.random.key(seed))
        task, cells = REACH, Grid.unit(32, 32)
        if world == "hairpin":
            task = Hairpin(jax.random.randint(key_task, (), COLUMNS - 5, COLUMNS - 2))
            shape = ROWS - 2, COLUMNS - 2
            cells = Grid(jnp.full(2, 0.5), jnp.array(shape) + 0.5, shape)
        algo = rl.MapElites(cells, SEARCHES[search](iso, line))
        training = rl.Training(algo, task, generations, evals=1, episodes=0)
        archive = training(key_train)[0].archive
        best, score = archive.fitness.max(), archive.qd_score(LOWEST)
        return {"coverage": archive.coverage, "score": score, "best": best}

    return Arm(run, budget=BATCH * (generations + 1), tune=TUNE)


def speed(generations: int) -> float:
    """Evaluations per second of MAP-Elites on the arm, compiled, with 16 parallel runs."""
    run = jax.jit(jax.vmap(lambda seed: arm("arm", "MAP-Elites", generations).run(seed, 0.01, 0.1)))
    jax.block_until_ready(run(jnp.arange(16)))
    start = time.perf_counter()
    jax.block_until_ready(run(jnp.arange(16) + 16))
    return 16 * BATCH * generations / (time.perf_counter() - start)


def claims(scale: float = 1.0) -> list[Claim]:
    generations = max(int(400 * scale), 2)
    worlds = {"arm": "planar arm of 12 joints", "hairpin": "two corridors"}
    arms = lambda world: {name: arm(world, name, generations) for name in SEARCHES}
    more = lambda metric: [beats("MAP-Elites", other, metric) for other in ("genetic", "random")]
    return [
        Claim(
            row=399,
            statement="On a planar arm, MAP-Elites fills more cells than a genetic algorithm and "
            "than random search, with a higher sum of fitness and a better best solution.",
            arms=arms("arm"),
            metric="score",
            accept=[
                *more("coverage"),
                *more("score"),
                *more("best"),
                Check(
                    "evaluations a second on this machine, 16 runs side by side",
                    lambda _: speed(generations),
                    ">= 1e5",
                ),
            ],
            worlds=[worlds["arm"]],
        ),
        Claim(
            row=399,
            statement="In two corridors with the goal behind the wall, MAP-Elites ends nearer to "
            "the goal than a genetic algorithm with the distance as its objective and than random "
            "search, and fills more cells.",
            arms=arms("hairpin"),
            metric="best",
            accept=[*more("best"), *more("coverage")],
            worlds=[worlds["hairpin"]],
            unmatched="Solutions are sequences of accelerations, not networks.",
        ),
    ]
