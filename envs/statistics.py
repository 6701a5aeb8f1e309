"""Observations augmented with the statistics of the episode that a bonus depends on (SOFE).

A bonus such as 1 / sqrt(n) is a non-stationary reward. If its statistics are part of the
observation, it is a function of the observation, and the reward of the augmented environment is
stationary (Castanyer et al., 2024).
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.env import Step
from jaxrl.errors import not_defined
from jaxrl.spaces import visible, with_visible
from jaxrl.tree import leaf, pytree, replace, static

from .wrappers import Wrapper, draw_inner


class Statistics:
    """Base class of statistics of an episode: a pytree. An observation is a vector [D]."""

    def start(self, obs: jax.Array) -> Any:
        """Return the statistics before the first observation, which has the shape of `obs`."""
        raise not_defined(self, Statistics.start)

    def update(self, statistics: Any, obs: jax.Array) -> Any:
        """Return the statistics after another observation."""
        raise not_defined(self, Statistics.update)

    def show(self, statistics: Any) -> jax.Array:
        """The statistics as a vector, which determines `bonus` and `update`. [K]."""
        raise not_defined(self, Statistics.show)

    def bonus(self, statistics: Any, obs: jax.Array) -> jax.Array:
        """The bonus of an observation, given the statistics before it. []."""
        raise not_defined(self, Statistics.bonus)


class Cells(Protocol):
    """Numbers of descriptors [D] below `num_cells`, such as `rl.archives.OneHot(size)`."""

    @property
    def num_cells(self) -> int: ...

    def __call__(self, descriptor: jax.Array) -> jax.Array: ...


@pytree
class VisitCounts(Statistics):
    """The number of visits n of each cell in the episode, shown as 1 / sqrt(n + 1), the bonus of
    the next visit. An observation without a cell has a bonus of 0.

    The observation of the reset is a visit: it is not one in `rl.exploration.EpisodicCounts`.
    """

    cells: Cells

    def start(self, obs: jax.Array) -> jax.Array:
        return jnp.zeros(self.cells.num_cells)

    def update(self, statistics: jax.Array, obs: jax.Array) -> jax.Array:
        return statistics.at[self._cell(obs)].add(1.0, mode="drop")

    def show(self, statistics: jax.Array) -> jax.Array:
        return jax.lax.rsqrt(statistics + 1.0)

    def bonus(self, statistics: jax.Array, obs: jax.Array) -> jax.Array:
        visits = statistics.at[self._cell(obs)].get(mode="fill", fill_value=jnp.inf)
        return jax.lax.rsqrt(visits + 1.0)

    def _cell(self, obs: jax.Array) -> jax.Array:
        """The cell of an observation; `num_cells` if it has none, -1. []."""
        cell = self.cells(obs)
        return jnp.where(cell < 0, self.cells.num_cells, cell)


@pytree
class MeanAndVariance:
    """Mean and variance [D] of `count` observations."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


@pytree
class Moments(Statistics):
    """Mean and variance of the observations of the episode, shown with 1 / their number.

    The bonus is the surprise -log p(obs) under a diagonal normal distribution with these moments,
    as a mean over dimensions, in nats. prior: the number of pseudo-observations, with mean 0 and
    variance 1, at the start of an episode.
    """

    prior: float = leaf(1.0, "(0, inf)")

    def start(self, obs: jax.Array) -> MeanAndVariance:
        return MeanAndVariance(jnp.zeros_like(obs), jnp.ones_like(obs), jnp.float32(self.prior))

    def update(self, statistics: MeanAndVariance, obs: jax.Array) -> MeanAndVariance:
        count = statistics.count + 1.0
        before = obs - statistics.mean
        mean = statistics.mean + before / count
        variance = statistics.variance + (before * (obs - mean) - statistics.variance) / count
        return MeanAndVariance(mean, variance, count)

    def show(self, statistics: MeanAndVariance) -> jax.Array:
        number = 1.0 / statistics.count
        return jnp.concatenate([statistics.mean, statistics.variance, number[None]])

    def bonus(self, statistics: MeanAndVariance, obs: jax.Array) -> jax.Array:
        variance = statistics.variance + 1e-8
        squares = (obs - statistics.mean) ** 2 / variance
        return 0.5 * jnp.mean(squares + jnp.log(2.0 * jnp.pi * variance))


@pytree
class Augmented:
    """State of the wrapped environment, and the statistics of the episode."""

    inner: Any
    statistics: Any


@pytree
class WithStatistics(Wrapper):
    """Flat observations followed by `statistics` of the episode so far; the channel `name` contains
    the bonus of each successor, given the statistics before it (SOFE, Castanyer et al., 2024).

        env = rl.envs.WithStatistics(env, rl.envs.VisitCounts(rl.archives.OneHot(104)))
        algo = rl.Rewarded(rl.ppo(), rl.exploration.ChannelBonus(name="novelty"))

    In a team, each agent has its own.
    """

    statistics: Statistics
    name: str = static(default="novelty")

    @property
    def channels(self) -> tuple[str, ...]:
        return (*self.env.channels, self.name)

    @property
    def draw(self) -> Callable[..., None] | None:
        return draw_inner(self)

    def reset(self, key: jax.Array) -> tuple[Augmented, Any]:
        inner, obs = self.env.reset(key)

        def begin(obs: Any) -> tuple[Any, jax.Array]:
            vector = _vector(obs)
            statistics = self.statistics.update(self.statistics.start(vector), vector)
            return statistics, self._show(statistics, vector)

        statistics, shown = self._each(begin)(visible(obs))
        return Augmented(inner, statistics), with_visible(obs, shown)

    def step(self, key: jax.Array, state: Augmented, action: jax.Array) -> tuple[Augmented, Step]:
        inner, step = self.env.step(key, state.inner, action)
        if self.name in step.info:
            raise ValueError(
                f"WithStatistics adds {self.name!r} to the info of a step, which already has it: "
                "write another name=."
            )

        def follow(statistics: Any, obs: Any) -> tuple[Any, jax.Array, jax.Array]:
            vector = _vector(obs)
            bonus = self.statistics.bonus(statistics, vector)
            statistics = self.statistics.update(statistics, vector)
            return statistics, self._show(statistics, vector), bonus

        statistics, shown, bonus = self._each(follow)(state.statistics, visible(step.obs))
        obs = with_visible(step.obs, shown)
        step = replace(step, obs=obs, info=step.info | {self.name: bonus})
        return Augmented(inner, statistics), step

    def _show(self, statistics: Any, vector: jax.Array) -> jax.Array:
        return jnp.concatenate([vector, self.statistics.show(statistics)])

    def _each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function if self.num_agents is None else jax.vmap(function)


def _vector(obs: Any) -> jax.Array:
    """An observation as one vector of floats. [D]."""
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(obs)])
