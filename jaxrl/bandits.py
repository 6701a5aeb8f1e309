"""Learners of bandits and semi-bandits, and their exact regret.

An action is a vector [K] of how much of each arm is played, and an oracle the function from weights
[K] to the best action, such as the greedy algorithm of a matroid: `jaxrl.envs.bandits` has both,
with bandits of known means. Learners that play one arm take rewards in [0, 1].
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.errors import check_count, not_defined
from jaxrl.tree import leaf, pytree

Oracle = Callable[[jax.Array], jax.Array]  # weights [K] -> the action [K] with the highest product


class Bandit(Protocol):
    """Arms with known means [K], rewards of a round, and an oracle."""

    @property
    def means(self) -> jax.Array: ...

    @property
    def actions(self) -> Oracle: ...

    def draw(self, key: jax.Array) -> jax.Array: ...


class BanditLearner:
    """Base class of learners of bandits: a pytree of hyperparameters.

    full_information: True where `update` sees the rewards of all arms, not only of those played.
    """

    full_information: bool = False

    def init(self, num_arms: int) -> Any:
        """Return the state before the first round."""
        raise not_defined(self, BanditLearner.init)

    def pull(self, key: jax.Array, state: Any, t: jax.Array, oracle: Oracle) -> jax.Array:
        """The action of round t = 1, 2, ... [K]."""
        raise not_defined(self, BanditLearner.pull)

    def update(self, state: Any, t: jax.Array, action: jax.Array, reward: jax.Array) -> Any:
        """Return the state after a round. reward: of each arm, 0 where it isn't seen. [K]."""
        raise not_defined(self, BanditLearner.update)


@pytree
class Means:
    """How often each arm was played, and the sum of its rewards. [K]."""

    count: jax.Array
    total: jax.Array

    @property
    def mean(self) -> jax.Array:
        """0 where an arm was not played. [K]."""
        return self.total / jnp.maximum(self.count, 1.0)


class MeanLearner(BanditLearner):
    """Base class of learners that give `weights` to the oracle, from the mean rewards so far."""

    def weights(self, key: jax.Array, state: Means, t: jax.Array) -> jax.Array:
        """The weights of the arms. [K]."""
        raise not_defined(self, MeanLearner.weights)

    def init(self, num_arms: int) -> Means:
        return Means(jnp.zeros(num_arms), jnp.zeros(num_arms))

    def pull(self, key: jax.Array, state: Means, t: jax.Array, oracle: Oracle) -> jax.Array:
        return oracle(self.weights(key, state, t))

    def update(self, state: Means, t: jax.Array, action: jax.Array, reward: jax.Array) -> Means:
        seen = action > 0
        return Means(state.count + seen, state.total + jnp.where(seen, reward, 0.0))


@pytree
class UCB(MeanLearner):
    """Upper confidence bounds, mean + sqrt(scale * log t / count), infinite before the first play.

    For one arm UCB1 (Auer et al., 2002), for sets CUCB (Kveton et al., 2015; scale 1.5), for a
    polymatroid OPM (Kveton et al., 2014).
    """

    scale: float = leaf(2.0, "[0, inf)")

    def weights(self, key: jax.Array, state: Means, t: jax.Array) -> jax.Array:
        bonus = jnp.sqrt(self.scale * jnp.log(t) / jnp.maximum(state.count, 1.0))
        return jnp.where(state.count > 0, state.mean + bonus, jnp.inf)


@pytree
class Thompson(MeanLearner):
    """Thompson sampling from N(mean, sd^2 / (count + 1)) (Agrawal and Goyal, 2017)."""

    sd: float = leaf(0.5, "[0, inf)")

    def weights(self, key: jax.Array, state: Means, t: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, state.count.shape)
        return state.total / (state.count + 1.0) + self.sd * noise / jnp.sqrt(state.count + 1.0)


@pytree
class EpsilonGreedy(MeanLearner):
    """A random action with probability min(1, epsilon / t^power), else the best by the means."""

    epsilon: float = leaf(0.1, "[0, inf)")
    power: float = leaf(0.0, "[0, inf)")

    def weights(self, key: jax.Array, state: Means, t: jax.Array) -> jax.Array:
        key_explore, key_weights = jax.random.split(key)
        explores = jax.random.uniform(key_explore) < self.epsilon / t**self.power
        return jnp.where(explores, jax.random.uniform(key_weights, state.mean.shape), state.mean)


class LossLearner(BanditLearner):
    """Base class of learners that draw one arm from probabilities, from sums of estimated losses.

    The loss of an arm is 1 - reward, over the arm's probability where only one arm is seen.
    """

    def probabilities(self, losses: jax.Array, t: jax.Array) -> jax.Array:
        """Of the arms, given the sums of their losses before round t. [K]."""
        raise not_defined(self, LossLearner.probabilities)

    def init(self, num_arms: int) -> jax.Array:
        return jnp.zeros(num_arms)

    def pull(self, key: jax.Array, state: jax.Array, t: jax.Array, oracle: Oracle) -> jax.Array:
        arm = jax.random.categorical(key, jnp.log(self.probabilities(state, t)))
        return jax.nn.one_hot(arm, len(state))

    def update(
        self, state: jax.Array, t: jax.Array, action: jax.Array, reward: jax.Array
    ) -> jax.Array:
        if self.full_information:
            return state + 1.0 - reward
        probabilities = self.probabilities(state, t)  # 0 by underflow, of arms that lose often
        return state + jnp.where(action > 0, action * (1.0 - reward) / probabilities, 0.0)


@pytree
class Exp3(LossLearner):
    """Exponential weights at the rate lr * sqrt(log K / (t K)) (Auer et al., 2002)."""

    lr: float = leaf(1.0, "[0, inf)")

    def probabilities(self, losses: jax.Array, t: jax.Array) -> jax.Array:
        num_arms = len(losses)
        return jax.nn.softmax(-self.lr * jnp.sqrt(jnp.log(num_arms) / (t * num_arms)) * losses)


@pytree
class Hedge(LossLearner):
    """Exponential weights at the rate lr * sqrt(8 log K / t), with the rewards of all arms seen
    (Freund and Schapire, 1997).
    """

    lr: float = leaf(1.0, "[0, inf)")
    full_information = True

    def probabilities(self, losses: jax.Array, t: jax.Array) -> jax.Array:
        return jax.nn.softmax(-self.lr * jnp.sqrt(8.0 * jnp.log(len(losses)) / t) * losses)


@pytree
class TsallisINF(LossLearner):
    """FTRL with the 1/2-Tsallis entropy at the rate lr * 2 / sqrt(t) (Zimmert and Seldin,
    2021): p = 4 / (rate * (loss - x))^2, with x by a fixed number of Newton steps.
    """

    lr: float = leaf(1.0, "(0, inf)")

    def probabilities(self, losses: jax.Array, t: jax.Array) -> jax.Array:
        rate = self.lr * 2.0 / jnp.sqrt(t)
        losses = losses - losses.min()

        def newton(_: int, x: jax.Array) -> jax.Array:
            p = 4.0 / (rate * (losses - x)) ** 2
            return x - (p.sum() - 1.0) / (rate * (p**1.5).sum())

        # from where the best arm alone has probability 1, x falls to the root: the sum is convex
        x = jax.lax.fori_loop(0, 16, newton, -2.0 / rate)
        p = 4.0 / (rate * (losses - x)) ** 2
        return p / p.sum()


def play(
    key: jax.Array, bandit: Bandit, learner: BanditLearner, rounds: int, points: int = 100
) -> jax.Array:
    """The pseudo-regret of a learner after each of `points` equal parts of the rounds. [points].

    It is exact, by the bandit's means.

    Raises:
      ValueError: rounds that are not a multiple of points.
    """
    check_count("points", points)
    if rounds % points:
        near = max(rounds // points, 1) * points
        raise ValueError(f"rounds={rounds} is no multiple of points={points}: write {near}.")
    best = bandit.actions(bandit.means) @ bandit.means

    def one(now: tuple[Any, jax.Array], item: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        (state, regret), (t, key) = now, item
        key_pull, key_draw = jax.random.split(key)
        action = learner.pull(key_pull, state, t, bandit.actions)
        reward = bandit.draw(key_draw)
        if not learner.full_information:
            reward = jnp.where(action > 0, reward, 0.0)
        regret = regret + best - action @ bandit.means
        return (learner.update(state, t, action, reward), regret), None

    def part(now: tuple[Any, jax.Array], i: jax.Array) -> tuple[Any, jax.Array]:
        num = rounds // points
        t = 1.0 + i * num + jnp.arange(num)
        now, _ = jax.lax.scan(one, now, (t, jax.random.split(jax.random.fold_in(key, i), num)))
        return now, now[1]

    start = learner.init(bandit.means.shape[0]), jnp.float32(0.0)
    return jax.lax.scan(part, start, jnp.arange(points))[1]
