"""Self-play as a teacher: the opponents are earlier versions of the learner."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.errors import check_counts
from jaxrl.ranges import is_plain_number
from jaxrl.self_play import Opponents
from jaxrl.teachers.base import Notes, Report, Teacher
from jaxrl.tree import leaf, pytree, replace, static

LATEST = -1  # in place of the number of a version: the learner as it is now


@pytree
class Versions:
    """Earlier versions of the learner [C], of which `saved` were ever stored; the current one.

    games, wins: of the learner against each version, recent ones more. [C].
    """

    agents: Any
    saved: jax.Array
    games: jax.Array
    wins: jax.Array
    current: Any
    updates: jax.Array

    @property
    def is_stored(self) -> jax.Array:
        """True for the entries that hold a version. bool [C]."""
        return jnp.arange(self.games.shape[0]) < self.saved

    @property
    def numbers(self) -> jax.Array:
        """The number of the version in each entry, from 0 in the order of storing. int32 [C]."""
        capacity = self.games.shape[0]
        slots = jnp.arange(capacity)
        return slots + capacity * ((self.saved - 1 - slots) // capacity)

    @property
    def win_rate(self) -> jax.Array:
        """The learner's share of won games, 1/2 without any. [C]."""
        return (self.wins + 1.0) / (self.games + 2.0)


@pytree
class SelfPlay(Teacher):
    """Self-play against the latest version of the learner and against a pool of earlier ones.

    `rl.Training(rl.Taught(algo, rl.teachers.SelfPlay()), rl.Opponents(game, algo), steps)`.

    latest: the probability of the learner itself, as of the last update; 1 is self-play without a
      pool. power: earlier versions are drawn in proportion to (1 - win rate)^power: 0 is fictitious
      self-play (Heinrich et al., 2015), above 0 prioritised fictitious self-play (Vinyals et al.,
      2019), which prefers opponents that the learner loses against. variance: True draws in
      proportion to (win rate (1 - win rate))^power, which prefers opponents of equal strength.
    save_every: updates between versions. capacity: the number of versions; a new one replaces the
      oldest. The first is a player with random parameters.
    decay: factor of earlier games in a win rate after each update. success_return: the lowest
      return of a won game; by default a draw is not won.

    Metrics: `win_rate`, the mean over the versions; one that was not played counts as 1/2.
    Evaluations are against players with new random parameters, unless `Taught(held_out=...)` has
    others, such as `rl.envs.LevelSet` of `Versus` with a leading axis of opponents.
    """

    latest: float = leaf(0.5, "[0, 1]")
    power: float = leaf(0.0, "[0, inf)")
    variance: bool = static(default=False)
    save_every: float = leaf(10.0, "[1, inf)")
    decay: float = leaf(0.95, "[0, 1]")
    success_return: float = leaf(1e-6, "(-inf, inf)")
    capacity: int = static(default=32)

    def __post_init__(self) -> None:
        check_counts(self, "capacity")
        if self.variance and is_plain_number(self.power) and self.power == 0:
            raise ValueError(
                "variance=True changes nothing with power=0, which draws versions uniformly: write "
                "power=1.0."
            )

    def check(self, tasks: Tasks, scouts: int) -> None:
        if not isinstance(tasks, Opponents):
            raise TypeError(
                f"SelfPlay chooses opponents, and {type(tasks).__name__} has none: write tasks = "
                "rl.Opponents(game, algo) and rl.Training(rl.Taught(algo, rl.teachers.SelfPlay()), "
                "tasks, steps)."
            )
        if tasks.game.shared_reward:
            raise ValueError(
                f"SelfPlay counts won games, and no agent of {type(tasks.game).__name__} wins, "
                "because all have the same reward: train all of them, rl.Training(rl.ppo(), env, "
                "steps), or one with a fixed partner, rl.Versus(env, partner)."
            )

    def check_algo(self, tasks: Any, algo: Any) -> None:
        if jax.tree.structure(tasks.algo) != jax.tree.structure(algo):
            raise TypeError(
                "The learner and its opponents are different algorithms: write algo = rl.ppo(...), "
                "rl.Taught(algo, rl.teachers.SelfPlay()) and rl.Opponents(game, algo)."
            )

    def init(self, key: jax.Array, tasks: Any) -> Versions:
        agent = tasks.sample(key).opponent.agent
        copies = jax.tree.map(lambda x: jnp.repeat(x[None], self.capacity, 0), agent)
        zeros = jnp.zeros(self.capacity)
        return Versions(copies, jnp.int32(1), zeros, zeros, agent, jnp.int32(0))

    def draw(self, key: jax.Array, state: Versions, tasks: Any, num: int) -> tuple[Env, Notes]:
        key_latest, key_version = jax.random.split(key)
        version = jax.random.categorical(key_version, self._log_weights(state), shape=(num,))
        is_latest = jax.random.bernoulli(key_latest, self.latest, (num,))

        def against(version: jax.Array, is_latest: jax.Array) -> Env:
            earlier = jax.tree.map(lambda x: x[version], state.agents)
            return tasks.against(tree.where(is_latest, state.current, earlier))

        levels = jax.vmap(against)(version, is_latest)
        number = jnp.where(is_latest, LATEST, state.numbers[version])
        return levels, number.astype(jnp.int32)

    def _log_weights(self, state: Versions) -> jax.Array:
        """The logarithm of the weight of each version, -inf where there is none. [C]."""
        log_weight = jnp.log(1.0 - state.win_rate)
        log_weight += jnp.log(state.win_rate) if self.variance else 0.0
        return jnp.where(state.is_stored, self.power * log_weight, -jnp.inf)

    def tell(
        self,
        key: jax.Array,
        state: Versions,
        tasks: Any,
        levels: Env,
        notes: Notes,
        report: Report,
    ) -> tuple[Versions, Notes]:
        slot = notes % self.capacity
        is_here = (notes != LATEST) & (state.numbers[slot] == notes)
        version = jnp.where(is_here, slot, self.capacity)  # others are dropped
        add = lambda x, new: (x * self.decay).at[version].add(new, mode="drop")
        wins = jnp.where(report.known, report.success * report.episodes, 0.0)
        games = report.episodes.astype(jnp.float32)
        return replace(state, games=add(state.games, games), wins=add(state.wins, wins)), notes

    def post_learn(self, state: Versions, agent: Any) -> Versions:
        updates = state.updates + 1
        slot = state.saved % self.capacity
        periods = lambda n: jnp.floor(n / self.save_every)
        is_due = periods(updates) > periods(state.updates)
        put = lambda x, new: x.at[slot].set(jnp.where(is_due, new, x[slot]))
        return Versions(
            agents=jax.tree.map(put, state.agents, agent),
            saved=state.saved + is_due,
            games=put(state.games, 0.0),
            wins=put(state.wins, 0.0),
            current=agent,
            updates=updates,
        )

    def metrics(self, state: Versions) -> Metrics:
        return {"win_rate": jnp.mean(state.win_rate, where=state.is_stored)}
