"""Population based training as one algorithm, in one program: it trains, sweeps and resumes as any
other.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.algorithms import base
from jaxrl.algorithms.base import Algorithm
from jaxrl.algorithms.loop import run_updates, to_means
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.rollout import Evaluation, Policy
from jaxrl.tree import leaf, pytree, static
from jaxrl.tuning.space import Choice, Integer, Log, Range, Uniform, check_ends


@pytree
class Agent:
    """The agent of a member, and its point in the unit cube [dims]."""

    point: jax.Array
    agent: base.Agent


@pytree
class State:
    """members: the states of all [P, ...]. points: in the unit cube, [P, dims]. scores: the last
    known returns, NaN before the first, [P]. leader: the number of the best member, and its agent.
    """

    members: base.State
    points: jax.Array
    scores: jax.Array
    leader: jax.Array
    agent: Agent
    clock: Clock

    @property
    def params(self) -> Any:
        """The leader's parameters."""
        return jax.tree.map(lambda x: x[self.leader], self.members.params)


@pytree
class Population(Algorithm):
    """Population based training (Jaderberg et al., 2017), exchange and all in one program.
    `population(...)` makes it.

    An update: each of `size` members takes `interval` updates, then the worst fraction `truncation`
    become copies of members drawn from the best fraction; the settings of a copy move by up to
    `move` of their ranges, or with probability `renew` are drawn anew. The leader is the member
    with the highest return: `return` is its own, the highest of `size` and so optimistic
    (`evaluation` is not); `setting.NAME` is the setting it had; and it is the one that acts.
    `rl.sweep(rl.Training(rl.tuning.population(...), env, steps), {"seed": ...})` repeats it over
    meta-seeds. Steps are those of all members. (`rl.tune(..., tuner=PBT())` gives members several
    seeds, and tests the schedule that it finds.)
    """

    algo: Algorithm
    space: tuple[tuple[str, Range], ...] = static()
    size: int = static(default=16)
    interval: int = static(default=10)
    truncation: float = static(default=0.25, within="[0, 0.5]")
    move: float = leaf(0.2, "[0, inf)")
    renew: float = leaf(0.25, "[0, 1]")

    def __post_init__(self) -> None:
        check_counts(self, "size", min_value=2)
        check_counts(self, "interval")
        if not self.space:
            raise ValueError("space={} has no field to tune: write {'lr': rl.tuning.log(...)}.")

    @property
    def name(self) -> str:
        return f"population of {self.algo.name}" if self.algo.name else ""

    @property
    def steps_per_update(self) -> int:
        return self.size * self.interval * self.algo.steps_per_update

    @property
    def gradient_steps_per_update(self) -> int:
        """Of a member, which counts its own."""
        return self.interval * self.algo.gradient_steps_per_update

    def setting(self, point: jax.Array) -> dict[str, jax.Array]:
        """The values at a point [dims]."""
        return {name: _value(each, u) for (name, each), u in zip(self.space, point, strict=True)}

    def at(self, point: jax.Array) -> Algorithm:
        """The algorithm of a member at a point [dims]."""
        return tree.put(self.algo, self.setting(point))

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        key_point, key_init = jax.random.split(key)
        points = jax.random.uniform(key_point, (self.size, len(self.space)))

        def init(key: jax.Array, point: jax.Array) -> base.State:
            return self.at(point).init(key, env, num_updates * self.interval)

        members = jax.vmap(init)(jax.random.split(key_init, self.size), points)
        leader = jnp.int32(0)
        return State(
            members=members,
            points=points,
            scores=jnp.full(self.size, -jnp.inf),  # of no episode so far
            leader=leader,
            agent=self._agent_of(members, points, leader),
            clock=start_clock(num_updates),
        )

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Return the state after the members' updates and the exchange, and the leader's
        metrics.
        """
        key_learn, key_exchange = jax.random.split(key)

        def learn(key: jax.Array, point: jax.Array, member: Any) -> tuple[Any, Metrics]:
            member, sums = run_updates(key, self.at(point), env, member, self.interval)
            return member, to_means(env, sums, jnp.float32(self.interval))

        members, metrics = jax.vmap(learn)(
            jax.random.split(key_learn, self.size), state.points, state.members
        )
        if "return" not in metrics:
            raise ValueError(
                f"a population ranks its members by their `return`, and {type(self.algo).__name__} "
                f"reports {', '.join(metrics) or 'nothing'}: take an algorithm that plays episodes."
            )
        finite = jax.vmap(lambda member: tree.is_finite(member.params))(members)
        scores = jnp.where(jnp.isnan(metrics["return"]), state.scores, metrics["return"])
        scores = jnp.where(finite, scores, -jnp.inf)  # whatever a diverged member had before
        ranked = jnp.argsort(-scores)
        metrics = jax.tree.map(lambda x: x[ranked[0]], metrics)
        metrics |= {
            f"setting.{name}": value
            for name, value in self.setting(state.points[ranked[0]]).items()
        }
        state = tree.replace(
            state, members=members, scores=scores, leader=ranked[0], clock=state.clock.tick()
        )
        state = self._exchange(key_exchange, state, ranked)
        agent = self._agent_of(state.members, state.points, state.leader)
        return tree.replace(state, agent=agent), metrics

    def agent(self, state: State) -> Agent:
        """The leader's agent."""
        return state.agent

    def policy(self, env: Env, agent: Agent, greedy: bool) -> Policy:
        return self.at(agent.point).policy(env, agent.agent, greedy)

    def evaluate(self, key: jax.Array, env: Env, state: State, num_episodes: int) -> Evaluation:
        """The leader's evaluation."""
        leader = jax.tree.map(lambda x: x[state.leader], state.members)
        return self.at(state.points[state.leader]).evaluate(key, env, leader, num_episodes)

    def evaluation_steps(self, env: Env, num_episodes: int) -> int:
        return self.algo.evaluation_steps(env, num_episodes)

    def _exchange(self, key: jax.Array, state: State, ranked: jax.Array) -> State:
        """The state with copies of the best, their settings moved, in place of the worst."""
        num = int(self.truncation * self.size)
        if num == 0:
            return state
        key_parent, key_move, key_new, key_which = jax.random.split(key, 4)
        worst = ranked[self.size - num :]
        drawn = jax.random.choice(key_parent, ranked[:num], (num,))
        parents = jnp.arange(self.size).at[worst].set(drawn)
        points = state.points[parents]
        moves = self.move * jax.random.uniform(key_move, points.shape, minval=-1.0)
        moved = jnp.clip(points + moves, 0.0, 1.0)
        renewed = jax.random.uniform(key_which, points.shape) < self.renew
        moved = jnp.where(renewed, jax.random.uniform(key_new, points.shape), moved)
        replaced = jnp.zeros(self.size, bool).at[worst].set(True)
        members, scores = jax.tree.map(lambda x: x[parents], (state.members, state.scores))
        points = jnp.where(replaced[:, None], moved, points)
        return tree.replace(state, members=members, scores=scores, points=points)

    def _agent_of(self, members: Any, points: jax.Array, number: jax.Array) -> Agent:
        """The agent of one member."""
        member, point = jax.tree.map(lambda x: x[number], (members, points))
        return Agent(point, self.at(point).agent(member))


def population(algo: Algorithm, space: Mapping[str, Range], **options: Any) -> Population:
    """`Population` of an algorithm over a space of numbers, by the names of the algorithm's fields.

    Raises:
      ValueError: an unknown field, a value that is not a range, a population of fewer than two.
      TypeError: a static field, or a choice of anything but numbers: they would change the program
        of a member that trains on.
    """
    known = tree.paths(algo)
    for name, each in space.items():
        if not isinstance(each, Uniform | Log | Integer | Choice):
            raise ValueError(
                f"{name!r}: {each!r} is not a range. Write rl.tuning.uniform, log, integer or "
                "choice(...) of it."
            )
        options_of = each.options if isinstance(each, Integer | Choice) else ()
        numbers = all(isinstance(x, bool | int | float) for x in options_of)
        if tree.is_static(known[tree.find(algo, name)]) or not numbers:
            raise TypeError(
                f"{name!r} shapes the program, which can't change while a member trains: leave it "
                "out, or write rl.tune(..., tuner=rl.tuning.PBT()): its copies keep what shapes "
                "their program."
            )
        check_ends(name, each, known[tree.find(algo, name)])
    return Population(algo, tuple(space.items()), **options)


def _value(each: Any, u: jax.Array) -> jax.Array:
    """The value of a range at u, traced."""
    if not isinstance(each, Integer | Choice):
        return each.at(u)
    options = jnp.asarray(each.options, jnp.float32)
    return options[jnp.minimum((u * len(options)).astype(int), len(options) - 1)]
