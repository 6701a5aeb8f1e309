"""Population based training as one algorithm, and so inside one program: it trains, sweeps and goes
on as any other.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.env import Env
from jaxrl.rules.base import Clock, Metrics
from jaxrl.train import to_means, weigh
from jaxrl.tree import pytree, static
from jaxrl.tuning.space import Range


@pytree
class State:
    """`members`, their `points` in the unit cube [P, dims], the last `scores` known [P]; who
    `leads`, and its parameters.
    """

    members: Any
    points: jax.Array
    scores: jax.Array
    leads: jax.Array
    params: Any
    obs_stats: Any
    clock: Clock


@pytree
class Population:
    """Population based training (Jaderberg et al., 2017), exchange and all in one program.
    `population(...)` makes it.

    An update: each of `size` members lives `interval` updates of its own, then the worst `share`
    become copies of members drawn from the best `share`, whose settings move by up to `move` of
    their ranges, or with probability `renew` are drawn anew. `return` is that of the member that
    leads, the highest of `size` and so more than it keeps (`evaluation` is not); `setting.NAME` is
    what it had; it is the one that acts. `rl.sweep(rl.Training(rl.tuning.population(...), env,
    steps), {"seed": ...})` repeats it over meta-seeds. Steps are those of all members.
    (`rl.tune(..., tuner=PBT())` gives members several seeds, and tests the schedule that it finds.)
    """

    algo: Any
    space: tuple[tuple[str, Range], ...] = static()
    size: int = static(default=16)
    interval: int = static(default=10)
    share: float = static(default=0.25)
    move: float = 0.2
    renew: float = 0.25

    @property
    def steps_per_update(self) -> int:
        return self.size * self.interval * self.algo.steps_per_update

    def setting(self, point: jax.Array) -> dict[str, jax.Array]:
        """The values at a point [dims]."""
        return {name: _value(each, u) for (name, each), u in zip(self.space, point, strict=True)}

    def at(self, point: jax.Array) -> Any:
        """The algorithm of a member."""
        return tree.put(self.algo, self.setting(point))

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        key_point, key_init = jax.random.split(key)
        points = jax.random.uniform(key_point, (self.size, len(self.space)))
        begin = lambda key, point: self.at(point).init(key, env, num_updates * self.interval)
        members = jax.vmap(begin)(jax.random.split(key_init, self.size), points)
        clock = Clock(jnp.int32(0), jnp.float32(num_updates))
        return self._led(
            State(members, points, jnp.full(self.size, jnp.nan), jnp.int32(0), (), (), clock)
        )

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Everyone lives, then the exchange."""
        key_live, key_exchange = jax.random.split(key)

        def live(key: jax.Array, point: jax.Array, member: Any) -> tuple[Any, Metrics]:
            def step(member: Any, i: jax.Array) -> tuple[Any, Metrics]:
                member, metrics = self.at(point).update(jax.random.fold_in(key, i), env, member)
                return member, weigh(metrics)

            member, rows = jax.lax.scan(step, member, jnp.arange(self.interval))
            return member, to_means(
                jax.tree.map(lambda x: x.sum(0), rows), jnp.float32(self.interval)
            )

        members, metrics = jax.vmap(live)(
            jax.random.split(key_live, self.size), state.points, state.members
        )
        alive = jax.vmap(lambda member: tree.is_finite(member.params))(members)
        scores = jnp.where(jnp.isnan(metrics["return"]), state.scores, metrics["return"])
        scores = jnp.where(
            alive, scores, -jnp.inf
        )  # what diverged leads nobody, whatever it had earned before
        ranked = jnp.argsort(-jnp.where(jnp.isnan(scores), -jnp.inf, scores))
        told = jax.tree.map(lambda x: x[ranked[0]], metrics)
        told |= {
            f"setting.{name}": value
            for name, value in self.setting(state.points[ranked[0]]).items()
        }
        state = tree.replace(
            state, members=members, scores=scores, leads=ranked[0], clock=state.clock.tick()
        )
        return self._led(self._exchange(key_exchange, state, ranked)), told

    def _exchange(self, key: jax.Array, state: State, ranked: jax.Array) -> State:
        """The worst become copies of the best, with settings moved."""
        some = int(self.share * self.size)
        if some == 0:
            return state
        key_parent, key_move, key_new, key_which = jax.random.split(key, 4)
        losers = ranked[self.size - some :]
        parents = (
            jnp.arange(self.size)
            .at[losers]
            .set(jax.random.choice(key_parent, ranked[:some], (some,)))
        )
        points = state.points[parents]
        moved = jnp.clip(
            points + self.move * jax.random.uniform(key_move, points.shape, minval=-1.0), 0.0, 1.0
        )
        renewed = jax.random.uniform(key_which, points.shape) < self.renew
        moved = jnp.where(renewed, jax.random.uniform(key_new, points.shape), moved)
        lost = jnp.zeros(self.size, bool).at[losers].set(True)
        copied = jax.tree.map(lambda x: x[parents], (state.members, state.scores))
        return tree.replace(
            state,
            members=copied[0],
            scores=copied[1],
            points=jnp.where(lost[:, None], moved, points),
        )

    def _led(self, state: State) -> State:
        leader = self._leader(state)
        return tree.replace(state, params=leader.params, obs_stats=getattr(leader, "obs_stats", ()))

    def _leader(self, state: State) -> Any:
        return jax.tree.map(lambda x: x[state.leads], state.members)

    def start(self, env: Env) -> Any:
        return self.algo.start(env)

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        leader = self._leader(state)
        kept = {"params": state.params} | (
            {"obs_stats": state.obs_stats} if hasattr(leader, "obs_stats") else {}
        )
        return self.at(state.points[state.leads]).act(
            key, env, tree.replace(leader, **kept), memory, obs
        )


def population(algo: Any, space: Mapping[str, Range], **options: Any) -> Population:
    """`Population` of an algorithm over a space of numbers, by the names of the algorithm's fields.

    Raises:
      ValueError: an unknown field, a value that is no range, a population of fewer than two.
        TypeError: a static field, or a choice of what are no numbers: they would change the program
        of a life that goes on.
    """
    known = tree.paths(algo)
    for name, each in space.items():
        if not hasattr(each, "at"):
            raise ValueError(
                f"{name!r}: {each!r} is no range. Write rl.tuning.uniform, log, integer or "
                "choice(...) of it."
            )
        numbers = all(isinstance(x, bool | int | float) for x in getattr(each, "options", ()))
        if tree.is_static(known[tree.find(algo, name)]) or not numbers:
            raise TypeError(
                f"{name!r} shapes the program, which a life that goes on can't change: leave "
                "it out, or write "
                "rl.tune(..., tuner=rl.tuning.PBT()), whose copies keep what shapes their program."
            )
    made = Population(algo, tuple(space.items()), **options)
    if made.size < 2 or not 0 <= made.share <= 0.5:
        raise ValueError(
            f"size={made.size}, share={made.share}: write 2 members or more, and a share from "
            "0 to 0.5."
        )
    return made


def _value(each: Any, u: jax.Array) -> jax.Array:
    if not hasattr(each, "options"):
        return each.at(u)
    options = jnp.asarray(each.options, jnp.float32)
    return options[jnp.minimum((u * len(options)).astype(int), len(options) - 1)]
