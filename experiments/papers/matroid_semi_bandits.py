"""Efficient sampling for matroid semi-bandits (Perrault et al., 2019): one bound for a set of arms.

The set is chosen by local search instead of an enumeration. Its bound, mean + sqrt(scale log t *
sum 1 / count), is smaller than the sum of the arms' own bounds (CUCB), as arms are independent.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl as rl
from envs import bandits
from experiments.claims import Arm, Check, Claim, ratio
from jaxrl.bandits import UCB, MeanLearner, Means, Oracle
from jaxrl.errors import not_defined

SCALE = 1.5
EDGES = tuple(itertools.combinations(range(4), 2))  # the complete graph of four nodes
MATROIDS = {"sets": (bandits.Sets(4), 9), "trees": (bandits.SpanningTrees(EDGES), len(EDGES))}


@rl.pytree
class SetBound(MeanLearner):
    """Base class: the set with the highest bound; CUCB's until each arm was played once."""

    def search(self, start, mean, variance, t, oracle) -> jax.Array:
        """The set with the highest bound, given CUCB's set and mean and variance of each arm."""
        raise not_defined(self, SetBound.search)

    def bound(self, mean: jax.Array, variance: jax.Array, t: jax.Array) -> jax.Array:
        return mean + jnp.sqrt(SCALE * jnp.log(t) * jnp.maximum(variance, 0.0))

    def pull(self, key: jax.Array, state: Means, t: jax.Array, oracle: Oracle) -> jax.Array:
        start = oracle(UCB(SCALE).weights(key, state, t))
        found = self.search(start, state.mean, 1.0 / jnp.maximum(state.count, 1.0), t, oracle)
        return jnp.where((state.count == 0).any(), start, found)


@rl.pytree
class LocalSearch(SetBound):
    """From CUCB's set by the best exchange of two arms, as long as one is better."""

    swaps: int = rl.static(default=3)

    def search(self, start, mean, variance, t, oracle):
        def improve(_, action):
            moved = lambda x: action @ x + x[None, :] - x[:, None]
            values = self.bound(moved(mean), moved(variance), t)
            values = jnp.where(oracle.exchanges(action), values, -jnp.inf)
            out, into = jnp.divmod(values.argmax(), len(mean))
            better = values.max() > self.bound(action @ mean, action @ variance, t) + 1e-6
            return jnp.where(better, action.at[out].set(0.0).at[into].set(1.0), action)

        return jax.lax.fori_loop(0, self.swaps, improve, start)


@rl.pytree
class Enumeration(SetBound):
    """The best of all sets. bases: [sets, K]."""

    bases: jax.Array

    def search(self, start, mean, variance, t, oracle):
        return self.bases[self.bound(self.bases @ mean, self.bases @ variance, t).argmax()]


def bases(matroid: bandits.Polymatroid, num_arms: int) -> np.ndarray:
    """All bases of a matroid. [sets, K]."""
    size = int(matroid.rank(jnp.ones(num_arms, bool)))
    masks = np.zeros((0, num_arms), np.float32)
    for arms in itertools.combinations(range(num_arms), size):
        masks = np.append(masks, np.isin(np.arange(num_arms), arms)[None], 0)
    ranks = jax.jit(jax.vmap(matroid.rank))(jnp.array(masks > 0))
    return masks[np.asarray(ranks) == size]


def arm(kind: str, rounds: int) -> Arm:
    def learner(matroid, num_arms):
        if kind == "exact":
            return Enumeration(bases=jnp.array(bases(matroid, num_arms)))
        return LocalSearch() if kind == "local search" else UCB(SCALE)

    learners = {name: learner(*each) for name, each in MATROIDS.items()}

    def run(seed):
        found = {}
        for name, (matroid, num_arms) in MATROIDS.items():
            key_means, key_play = jax.random.split(jax.random.key(seed))
            bandit = bandits.Bernoulli(jax.random.uniform(key_means, (num_arms,)), matroid)
            found[name] = rl.bandits.play(key_play, bandit, learners[name], rounds)
        return found

    return Arm(run, budget=rounds)


def final(results, kind: str, name: str) -> np.ndarray:
    return results[kind][name].values[:, -1]


def saved(name: str) -> Check:
    def measure(results):
        each, whole = (final(results, kind, name) for kind in ("CUCB", "local search"))
        return ratio(each - whole, each, second=rl.stats.mean)

    return Check(f"share of CUCB's regret that local search saves, {name}", measure, "> 0")


def same(name: str) -> Check:
    def measure(results):
        local, exact = (final(results, kind, name) for kind in ("local search", "exact"))
        return ratio(local - exact, exact, second=rl.stats.mean)

    statement = f"regret of local search less that of the enumeration, relative, {name}"
    return Check(statement, measure, ">= -0.05, <= 0.05")


def claims(scale: float = 1.0) -> list[Claim]:
    rounds = max(int(50 * scale), 2) * 100
    return [
        Claim(
            row=361,
            statement="On 4-sets of 9 arms and spanning trees of 4 nodes with random means, one "
            "bound for the whole set has less regret than a bound for each arm, and local search "
            "by at most three exchanges has the regret of an enumeration of all sets.",
            changed="After a first measurement with 64 seeds, in which one interval was wider than "
            "its margin: 256 seeds. The margins are ours.",
            arms={kind: arm(kind, rounds) for kind in ("CUCB", "local search", "exact")},
            accept=[*map(saved, MATROIDS), *map(same, MATROIDS)],
            worlds=list(MATROIDS),
            seeds=256,
            unmatched="Both bounds have the scale 1.5 and no lower-order term; the paper's local "
            "search enlarges the bound by its factor of approximation.",
        )
    ]
