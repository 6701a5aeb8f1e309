"""Symbolic search: regularised evolution of programs, a whole generation in one XLA program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.meta.inner_loop import InnerLoop, Tasks, check_tasks
from jaxrl.meta.strategies import clean
from jaxrl.rules.base import Clock, Metrics
from jaxrl.symbolic.program import fingerprint, insert, mutate, random_program
from jaxrl.tree import pytree, static


@pytree
class Hall:
    """The best there have been, the best first. members: [H, ...]. number: their fingerprints, 0
    where the seat is empty.

    fitness: -inf for an empty seat. [H].
    """

    members: Any
    number: jax.Array
    fitness: jax.Array


@pytree
class State:
    """`params` is the best of the hall. population, fitness: a ring of [P]. seen: fingerprints, a
    ring of [S].

    luck: the seed of the tasks and lives that all are judged by. uint32 [].
    """

    params: dict[str, Any]
    clock: Clock
    luck: jax.Array
    population: Any
    fitness: jax.Array
    seen: jax.Array
    hall: Hall


@pytree
class RegularizedEvolution:
    """Evolves the program of a rule (Co-Reyes et al., 2021), all judged on the same tasks with the
    same luck.

    A child is the winner of a tournament with one line changed or put in, or with probability
    `newborn` a random program. Before that its parent drifts: lines change that change nothing of
    what it does, and stand ready to be read (as in Cartesian genetic programming; Miller and
    Thomson, 2000). More are made than live: those that do nothing to what is learnt, and those that
    do what an earlier one did, are known by their fingerprints and dropped. The children take the
    places of the oldest (Real et al., 2019), whatever these were worth; the best are kept in a
    hall, and breed too. The learner's own program is judged among the first children; random first
    ones are not, and win until they are replaced.

    Because the tasks stay, programs of different generations can be compared, and the best is never
    lost; that a leader only fits them is for the selection tasks to find out (`judge`).

    lives: whole lives of a learner, or a `Fit`, which tunes one part that has a `program` and a
    `probe`. num_tasks: of each. hurdle: cheaper lives, say shorter ones, that `entrants` times as
    many children go through first, each on `hurdle_tasks` that are new in each generation; only the
    best go on. Without it all do. inserts: the chance that a line is put in rather than changed.
    drift: how many changes without effect are tried. begin_random: whether evolution begins from
    random programs, rather than from the learner's own. proposals: made for each child or entrant.
    remembered: how many fingerprints are.

    The constants of what it finds are floats like any others: `Evolution` with meta_params=("constants",)
    refines them.
    """

    lives: Any = InnerLoop()
    hurdle: Any = None
    newborn: float = 0.05
    inserts: float = 0.25
    population: int = static(default=64)
    children: int = static(default=16)
    entrants: int = static(default=4)
    tournament: int = static(default=8)
    proposals: int = static(default=8)
    drift: int = static(default=4)
    hall: int = static(default=8)
    remembered: int = static(default=4096)
    num_tasks: int = static(default=1)
    hurdle_tasks: int = static(default=1)
    begin_random: bool = static(default=False)

    steps_per_update = 1

    def __post_init__(self) -> None:
        counts = (
            "population",
            "children",
            "entrants",
            "tournament",
            "proposals",
            "hall",
            "remembered",
        )
        tree.check_counts(self, *counts, "num_tasks", "hurdle_tasks")
        if self.children > self.population:
            raise ValueError(
                f"children={self.children} of a generation do not fit into a "
                f"population={self.population}: write "
                f"population={4 * self.children}, say."
            )

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> State:
        check_tasks(env, self)
        (name,) = self._name
        first = self.lives.tuned[name]
        copies = lambda num: jax.tree.map(
            lambda x: jnp.broadcast_to(x, (num, *jnp.shape(x))), first
        )
        population = copies(self.population)
        if self.begin_random:
            born = lambda key: random_program(key, first.program.language, len(first.program.code))
            population = tree.replace(
                population, program=jax.vmap(born)(jax.random.split(key, self.population))
            )
        number = fingerprint(first.probe())
        empty = jnp.zeros(self.hall, jnp.uint32)
        key_luck = jax.random.fold_in(key, self.population)  # beyond those of the first programs
        return State(
            params={name: jax.tree.map(jnp.asarray, first)},
            clock=Clock(jnp.int32(0), jnp.float32(num_updates)),
            luck=jax.random.bits(key_luck, dtype=jnp.uint32),
            population=population,
            fitness=jnp.full(self.population, jnp.inf),
            seen=jnp.zeros(self.remembered, jnp.uint32).at[0].set(number),
            hall=Hall(copies(self.hall), empty, jnp.full(self.hall, -jnp.inf)),
        )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """One generation.

        `return` is its mean score, `programs` how many that do something new were tried in it.
        """
        key_breed, key_hurdle = jax.random.split(key)
        children, number, told = self._breed(key_breed, state)
        place = (state.clock.n * len(number) + 1 + jnp.arange(len(number))) % self.remembered
        seen = state.seen.at[place].set(number)
        if self.hurdle is not None:
            score, _ = self._score(self.hurdle, key_hurdle, env, children, self.hurdle_tasks)
            chosen = jax.lax.top_k(jnp.where(number > 0, score, -jnp.inf), self.children)[1]
            children, number = jax.tree.map(lambda x: x[chosen], (children, number))
        if not self.begin_random:
            children, number = self._with_first(state, children, number)
        score, metrics = self._score(
            self.lives, jax.random.key(state.luck), env, children, self.num_tasks
        )
        fitness = jnp.where(number > 0, score, -jnp.inf)
        slots = (state.clock.n * self.children + jnp.arange(self.children)) % self.population
        hall = self._honour(state.hall, Hall(children, number, fitness))
        state = State(
            params={self._name[0]: jax.tree.map(lambda x: x[0], hall.members)},
            clock=state.clock.tick(),
            luck=state.luck,
            population=jax.tree.map(
                lambda old, x: old.at[slots].set(x), state.population, children
            ),
            fitness=state.fitness.at[slots].set(fitness),
            seen=seen,
            hall=hall,
        )
        return state, metrics | told | {"leader": hall.fitness[0]}

    def judge(self, key: jax.Array, env: Tasks, state: State, episodes: int) -> jax.Array:
        """The mean score of the best of the hall, on `episodes` selection tasks. []."""
        return self.lives.judge(env, state.params, episodes)

    # ------------------------------------------------------------------------------ its three steps

    def _breed(self, key: jax.Array, state: State) -> tuple[Any, jax.Array, Metrics]:
        """Children, their fingerprints, 0 where one does what another has done, and how many of the
        proposals did not.
        """
        pool = _concat(state.population, state.hall.members)
        fitness = jnp.concatenate([state.fitness, state.hall.fitness])

        def propose(key: jax.Array) -> Any:
            key_pick, key_drift, key_coin, key_insert, key_mutate, key_born = jax.random.split(
                key, 6
            )
            among = jax.random.randint(key_pick, (self.tournament,), 0, len(fitness))
            parent = self._drift(
                key_drift, jax.tree.map(lambda x: x[among[jnp.argmax(fitness[among])]], pool)
            )
            born = random_program(key_born, parent.program.language, len(parent.program.code))
            is_born, grows = jax.random.uniform(key_coin, (2,)) < jnp.stack(
                [self.newborn, self.inserts]
            )
            child = tree.where(
                grows, insert(key_insert, parent.program), mutate(key_mutate, parent.program)
            )
            return tree.replace(parent, program=tree.where(is_born, born, child))

        num = self.children * (1 if self.hurdle is None else self.entrants)
        made = jax.vmap(propose)(jax.random.split(key, self.proposals * num))
        number = jax.vmap(lambda x: fingerprint(x.probe()))(made)
        order = jnp.argsort(number)
        again = (
            jnp.zeros(len(order), bool).at[order[1:]].set(number[order[1:]] == number[order[:-1]])
        )
        new = (number > 0) & ~again & ~jnp.isin(number, state.seen)
        chosen = jnp.argsort(~new)[:num]  # stable: the new ones first
        children, number = jax.tree.map(lambda x: x[chosen], (made, jnp.where(new, number, 0)))
        return children, number, {"programs": (number > 0).sum(), "new_share": new.mean()}

    def _with_first(self, state: State, children: Any, number: jax.Array) -> tuple[Any, jax.Array]:
        """In the first generation the last child makes room for what evolution began from, or that
        would never be judged.
        """
        begins, first = state.clock.n == 0, jax.tree.map(lambda x: x[0], state.population)
        seat = lambda x, one: x.at[-1].set(jnp.where(begins, one, x[-1]))
        return jax.tree.map(seat, children, first), seat(number, state.seen[0])

    def _drift(self, key: jax.Array, parent: Any) -> Any:
        """The same function, in other lines."""
        number = fingerprint(parent.probe())

        def step(i: jax.Array, one: Any) -> Any:
            other = tree.replace(one, program=mutate(jax.random.fold_in(key, i), one.program))
            return tree.where(fingerprint(other.probe()) == number, other, one)

        return jax.lax.fori_loop(0, self.drift, step, parent)

    def _score(
        self, lives: Any, key: jax.Array, env: Tasks, members: Any, num_tasks: int
    ) -> tuple[jax.Array, Metrics]:
        """The mean score of each on the same tasks, -inf where it was not finite. [M]."""
        (name,) = self._name
        ask = lambda member: {name: jax.tree.map(lambda x: x[member], members)}
        together = np.zeros(len(members.program.code), int)
        score, metrics = lives.live(key, env, ask, together, num_tasks)
        score, told = clean(score)
        return score.mean(-1), {"return": told.pop("fitness")} | metrics | told

    def _honour(self, hall: Hall, born: Hall) -> Hall:
        """The best of the hall and of those that were born, each function once."""
        born = tree.replace(
            born, number=jnp.where(jnp.isin(born.number, hall.number), 0, born.number)
        )
        everyone = _concat(hall, born)
        _, best = jax.lax.top_k(
            jnp.where(everyone.number > 0, everyone.fitness, -jnp.inf), self.hall
        )
        return jax.tree.map(lambda x: x[best], everyone)

    @property
    def _name(self) -> tuple[str]:
        tuned = self.lives.tuned
        if len(tuned) != 1 or not all(
            hasattr(x, "program") and hasattr(x, "look") for x in tuned.values()
        ):
            what = (
                ", ".join(f"{name} ({type(x).__name__})" for name, x in tuned.items()) or "nothing"
            )
            raise TypeError(
                "RegularizedEvolution evolves one part that has a program, and meta_params names "
                f"{what}: write, say, "
                'meta_params=("criterion",) for rl.TD(ValueProgram.of(...)).'
            )
        return tuple(tuned)


def _concat(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
