"""Bandits: rewards of arms, the sets of arms that may be played, and their exact regret.

An action is a vector [K] of how much of each arm is played: one-hot for a single arm, a 0/1 mask
for a set of arms, any vertex of a polymatroid in general. Its reward is its product with the arms'
rewards.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import not_defined
from jaxrl.tree import pytree, static


class Polymatroid:
    """Base class of sets of actions: the base polytope of a monotone submodular `rank`.

    Called with weights [K], it returns the vertex that maximises their product, by the greedy
    algorithm (Edmonds, 1970): arms in order of their weights, each as much as the rank grows.
    """

    def rank(self, mask: jax.Array) -> jax.Array:
        """The most that the arms of a mask [K] may be played in sum. []."""
        raise not_defined(self, Polymatroid.rank)

    def __call__(self, weight: jax.Array) -> jax.Array:
        num_arms = weight.shape[-1]
        order = jnp.argsort(-weight)
        place = jnp.argsort(order)
        prefix = place[None, :] < jnp.arange(num_arms + 1)[:, None]
        return jnp.diff(jax.vmap(self.rank)(prefix))[place]

    def exchanges(self, action: jax.Array) -> jax.Array:
        """Of a matroid's basis [K]: True at [i, j] if it is still one with j in place of i."""
        arms = jnp.arange(action.shape[-1])
        mask = action > 0

        def is_basis(i: jax.Array, j: jax.Array) -> jax.Array:
            other = mask.at[i].set(False).at[j].set(True)
            return mask[i] & ~mask[j] & (self.rank(other) >= mask.sum())

        return jax.vmap(jax.vmap(is_basis, (None, 0)), (0, None))(arms, arms)


@pytree
class Sets(Polymatroid):
    """Sets of `size` arms: the uniform matroid. One arm by default."""

    size: int = static(default=1)

    def rank(self, mask: jax.Array) -> jax.Array:
        return jnp.minimum(mask.sum(), self.size)

    def __call__(self, weight: jax.Array) -> jax.Array:
        place = jnp.argsort(jnp.argsort(-weight))
        return (place < self.size).astype(jnp.float32)

    def exchanges(self, action: jax.Array) -> jax.Array:
        return (action > 0)[:, None] & ~(action > 0)[None, :]


@pytree
class SpanningTrees(Polymatroid):
    """Spanning trees of a connected graph, of which the edges (node, node) are the arms."""

    edges: tuple[tuple[int, int], ...] = static()

    @property
    def num_nodes(self) -> int:
        return 1 + max(max(edge) for edge in self.edges)

    def rank(self, mask: jax.Array) -> jax.Array:
        """The number of nodes minus that of connected components, by doubling of paths."""
        n = self.num_nodes
        joins = np.zeros((len(self.edges), n, n), bool)
        for joined, (first, second) in zip(joins, self.edges, strict=True):
            joined[first, second] = joined[second, first] = True
        paths = jnp.eye(n, dtype=bool) | (mask[:, None, None] & joins).any(0)
        for _ in range((n - 1).bit_length()):
            # not a matrix product, which is slow for many small ones
            paths = (paths[:, :, None] & paths[None]).any(1)
        return n - jnp.round((1.0 / paths.sum(-1)).sum())


@pytree
class Flows(Polymatroid):
    """Flows from one source through groups of arms, each group and arm with a capacity.

    total: of the source. group_capacity: [G]. arm_capacity: [K]. groups: of each arm. The rank of
    a set is the largest flow that its arms can carry.
    """

    total: jax.Array | float
    group_capacity: jax.Array
    arm_capacity: jax.Array
    groups: tuple[int, ...] = static()

    def rank(self, mask: jax.Array) -> jax.Array:
        inside = jnp.zeros_like(self.group_capacity).at[jnp.array(self.groups)]
        carried = jnp.minimum(inside.add(mask * self.arm_capacity), self.group_capacity)
        return jnp.minimum(carried.sum(), self.total)


@pytree
class Coverage(Polymatroid):
    """Lists of items that cover topics: each counts as many topics as it adds to those before it.

    topics: True where an item has a topic. bool [K, topics].
    """

    topics: jax.Array

    def rank(self, mask: jax.Array) -> jax.Array:
        return (mask[:, None] & self.topics).any(0).sum().astype(jnp.float32)


class Bandit:
    """Base class of stochastic bandits: independent rewards with constant means [K]."""

    means: jax.Array
    actions: Polymatroid

    def draw(self, key: jax.Array) -> jax.Array:
        """The rewards of all arms in one round. [K]."""
        raise not_defined(self, Bandit.draw)


@pytree
class Bernoulli(Bandit):
    """Rewards of 0 or 1."""

    means: jax.Array
    actions: Polymatroid = Sets()

    def draw(self, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, self.means).astype(jnp.float32)


@pytree
class Gaussian(Bandit):
    """Normal rewards with a standard deviation `sd`, one or [K]."""

    means: jax.Array
    sd: jax.Array | float = 1.0
    actions: Polymatroid = Sets()

    def draw(self, key: jax.Array) -> jax.Array:
        return self.means + self.sd * jax.random.normal(key, self.means.shape)


@pytree
class Knapsack:
    """Arms that use a resource, or replenish it (Bernasconi et al., 2024).

    reward, use: means of each arm [K], of rewards in [0, 1] and of uses in [-1, 1], where a
    negative use replenishes; drawn as 0 or 1, and as -1 or 1. rate: the budget for each round.
    """

    reward: jax.Array
    use: jax.Array
    rate: jax.Array | float

    def draw(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rewards and uses of all arms in one round. [K], [K]."""
        key_reward, key_use = jax.random.split(key)
        reward = jax.random.bernoulli(key_reward, self.reward).astype(jnp.float32)
        return reward, 2.0 * jax.random.bernoulli(key_use, (1.0 + self.use) / 2.0) - 1.0

    def optimum(self) -> jax.Array:
        """The best expected reward of a round by a mixture of arms that uses at most `rate`. [].

        A vertex of this linear program mixes two arms; -inf where no mixture is feasible.
        """
        first, second = self.use[:, None] - self.rate, self.use[None, :] - self.rate
        mixed = (first > 0) & (second < 0)
        share = jnp.where(mixed, -second / jnp.where(mixed, first - second, 1.0), 0.0)
        pairs = share * self.reward[:, None] + (1.0 - share) * self.reward[None, :]
        return jnp.where(second <= 0, pairs, -jnp.inf).max()


@pytree
class SharedArms:
    """Arms that several players may pull at once, and then share evenly (Xu et al., 2023).

    means: of Bernoulli rewards [K].
    """

    means: jax.Array
    num_players: int = static()

    def payoffs(self, arms: jax.Array, means: jax.Array | None = None) -> jax.Array:
        """The expected reward of each player, given their arms, int [players]. [players]."""
        counts = jnp.zeros_like(self.means).at[arms].add(1.0)
        return (self.means if means is None else means)[arms] / counts[arms]

    def draw(self, key: jax.Array, arms: jax.Array) -> jax.Array:
        """The rewards of the players in one round, given their arms. [players]."""
        rewards = jax.random.bernoulli(key, self.means).astype(jnp.float32)
        return self.payoffs(arms, rewards)


def equilibrium(means: jax.Array, num_players: int) -> jax.Array:
    """Numbers of players on each arm in a pure Nash equilibrium of shared arms. int [K].

    One player after another takes the arm with the best share that is left, `mean / (count + 1)`.
    """

    def join(counts: jax.Array, _: None) -> tuple[jax.Array, None]:
        return counts.at[jnp.argmax(means / (counts + 1))].add(1), None

    return jax.lax.scan(join, jnp.zeros(means.shape, int), None, num_players)[0]
