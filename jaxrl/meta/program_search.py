"""Symbolic search: regularised evolution of programs, a whole generation in one XLA program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Tasks, check_tasks
from jaxrl.errors import check_counts
from jaxrl.meta.base import InnerProblem, MetaLearner
from jaxrl.meta.inner_loop import InnerLoop
from jaxrl.meta.strategies import clean
from jaxrl.symbolic.program import SymbolicFunction, fingerprint, insert, mutate, random_program
from jaxrl.tree import leaf, pytree, static


@pytree
class HallOfFame:
    """The best members so far, the best first.

    members: [H, ...]. number: their fingerprints, 0 in an empty slot. [H]. fitness: -inf in an
    empty slot. [H].
    """

    members: Any
    number: jax.Array
    fitness: jax.Array


@pytree
class State:
    """params: the best member of the hall of fame. seed: of the tasks and keys that all members are
    scored with, uint32 []. population, fitness: a ring of [P]. seen: fingerprints, a ring of [S].
    """

    params: dict[str, Any]
    clock: Clock
    seed: jax.Array
    population: Any
    fitness: jax.Array
    seen: jax.Array
    hall: HallOfFame


@pytree
class RegularizedEvolution(MetaLearner):
    """Regularised evolution of a rule's program (Co-Reyes et al., 2021), with common random
    numbers: all members are scored on the same tasks with the same keys.

    A child is the winner of a tournament with one line changed or inserted, or with probability
    `random_fraction` a random program. Before that its parent drifts: lines change that don't
    change its function, and may be read later (as in Cartesian genetic programming; Miller and
    Thomson, 2000). More are proposed than are scored: those of a constant function, or that of
    an earlier one, are recognised by their fingerprints and dropped. The children replace the
    oldest members (Real et al., 2019), whatever their fitness; the best are kept in a hall of fame,
    and are parents too. The learner's own program is scored among the first children; random
    initial ones are not, and win tournaments until they are replaced.

    As the tasks stay, programs of different generations can be compared, and the best is never
    lost; whether it only overfits them shows in the evaluation on the selection tasks.

    inner: training runs of a learner, or a `Fit`, which tunes one `SymbolicFunction`. num_tasks: of
    each. screening: a cheaper inner problem, such as one of shorter training runs, on which
    `num_candidates` times as many children are scored first, each on `screening_tasks` that are new
    in each generation; only the best are scored by `inner`. Without it all are. inserts: the
    probability that a line is inserted rather than changed. drift: the number of neutral changes
    that are tried. begin_random: start from random programs, rather than from the learner's own.
    proposals: for each child or candidate. remembered: the number of fingerprints that are kept.

    The constants of the result are floats like any others: `Evolution` with
    meta_params=("constants",) refines them.
    """

    inner: InnerProblem = InnerLoop()
    screening: InnerProblem | None = None
    random_fraction: float = leaf(0.05, "[0, 1]")
    inserts: float = leaf(0.25, "[0, 1]")
    population: int = static(default=64)
    children: int = static(default=16)
    num_candidates: int = static(default=4)
    tournament: int = static(default=8)
    proposals: int = static(default=8)
    drift: int = static(default=4)
    hall: int = static(default=8)
    remembered: int = static(default=4096)
    num_tasks: int = static(default=1)
    screening_tasks: int = static(default=1)
    begin_random: bool = static(default=False)

    def __post_init__(self) -> None:
        check_counts(
            self,
            "population",
            "children",
            "num_candidates",
            "tournament",
            "proposals",
            "hall",
            "remembered",
            "num_tasks",
            "screening_tasks",
        )
        if self.children > self.population:
            raise ValueError(
                f"children={self.children} of a generation do not fit into a "
                f"population={self.population}: write population={4 * self.children}."
            )

    def init(
        self, key: jax.Array, env: Tasks, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_tasks(env, self)
        name = self._name
        first = self.inner.tuned[name]

        def copies(num: int) -> Any:
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *jnp.shape(x))), first)

        population = copies(self.population)
        if self.begin_random:
            lines = len(first.program.code)
            programs = jax.vmap(lambda key: random_program(key, first.program.language, lines))(
                jax.random.split(key, self.population)
            )
            population = tree.replace(population, program=programs)
        number = fingerprint(first.signature())
        hall = HallOfFame(
            members=copies(self.hall),
            number=jnp.zeros(self.hall, jnp.uint32),
            fitness=jnp.full(self.hall, -jnp.inf),
        )
        key_seed = jax.random.fold_in(key, self.population)  # beyond those of the first programs
        return State(
            params={name: jax.tree.map(jnp.asarray, first)},
            clock=start_clock(num_updates),
            seed=jax.random.bits(key_seed, dtype=jnp.uint32),
            population=population,
            fitness=jnp.full(self.population, jnp.inf),
            seen=jnp.zeros(self.remembered, jnp.uint32).at[0].set(number),
            hall=hall,
        )

    def update(self, key: jax.Array, env: Tasks, state: State) -> tuple[State, Metrics]:
        """Return the state after one generation, and metrics.

        `return` is its mean score, `programs` the number of new functions among its proposals,
        `new_share` their share, and `leader` the best fitness so far.
        """
        key_propose, key_screening = jax.random.split(key)
        children, number, proposed = self._propose(key_propose, state)
        slots = _ring(state.clock.n, len(number), self.remembered, 1)
        seen = state.seen.at[slots].set(number)
        if self.screening is not None:
            score, _ = self._score(
                self.screening, key_screening, env, children, self.screening_tasks
            )
            best = jax.lax.top_k(jnp.where(number > 0, score, -jnp.inf), self.children)[1]
            children, number = jax.tree.map(lambda x: x[best], (children, number))
        if not self.begin_random:
            children, number = self._with_first(state, children, number)
        score, metrics = self._score(
            self.inner, jax.random.key(state.seed), env, children, self.num_tasks
        )
        fitness = jnp.where(number > 0, score, -jnp.inf)
        slots = _ring(state.clock.n, self.children, self.population)
        hall = self._insert(state.hall, HallOfFame(children, number, fitness))
        state = State(
            params={self._name: jax.tree.map(lambda x: x[0], hall.members)},
            clock=state.clock.tick(),
            seed=state.seed,
            population=jax.tree.map(
                lambda old, new: old.at[slots].set(new), state.population, children
            ),
            fitness=state.fitness.at[slots].set(fitness),
            seen=seen,
            hall=hall,
        )
        return state, metrics | proposed | {"leader": hall.fitness[0]}

    # ----------------------------------------------------------------------------- its three steps

    def _propose(self, key: jax.Array, state: State) -> tuple[Any, jax.Array, Metrics]:
        """Children, their fingerprints, 0 where the function is not new, and metrics of the
        proposals.
        """
        pool = _concat(state.population, state.hall.members)
        fitness = jnp.concatenate([state.fitness, state.hall.fitness])

        def propose(key: jax.Array) -> Any:
            keys = jax.random.split(key, 6)
            key_pick, key_drift, key_coin, key_insert, key_mutate, key_random = keys
            among = jax.random.randint(key_pick, (self.tournament,), 0, len(fitness))
            winner = among[jnp.argmax(fitness[among])]
            parent = self._drift(key_drift, jax.tree.map(lambda x: x[winner], pool))
            program = parent.program
            random = random_program(key_random, program.language, len(program.code))
            chances = jnp.stack([self.random_fraction, self.inserts])
            is_random, inserts = jax.random.uniform(key_coin, (2,)) < chances
            child = tree.where(inserts, insert(key_insert, program), mutate(key_mutate, program))
            return tree.replace(parent, program=tree.where(is_random, random, child))

        num = self.children * (1 if self.screening is None else self.num_candidates)
        proposals = jax.vmap(propose)(jax.random.split(key, self.proposals * num))
        number = jax.vmap(lambda x: fingerprint(x.signature()))(proposals)
        order = jnp.argsort(number)
        repeats = number[order[1:]] == number[order[:-1]]
        repeated = jnp.zeros(len(order), bool).at[order[1:]].set(repeats)
        new = (number > 0) & ~repeated & ~jnp.isin(number, state.seen)
        select = jnp.argsort(~new)[:num]  # stable: the new ones first
        children, number = jax.tree.map(lambda x: x[select], (proposals, jnp.where(new, number, 0)))
        return children, number, {"programs": (number > 0).sum(), "new_share": new.mean()}

    def _with_first(self, state: State, children: Any, number: jax.Array) -> tuple[Any, jax.Array]:
        """The children; in the first generation the last one is replaced by the learner's own
        program, which would not be scored else.
        """
        is_start, first = state.clock.n == 0, jax.tree.map(lambda x: x[0], state.population)

        def put_last(x: jax.Array, last: jax.Array) -> jax.Array:
            return x.at[-1].set(jnp.where(is_start, last, x[-1]))

        return jax.tree.map(put_last, children, first), put_last(number, state.seen[0])

    def _drift(self, key: jax.Array, parent: Any) -> Any:
        """The same function, in other lines."""
        number = fingerprint(parent.signature())

        def step(i: jax.Array, now: Any) -> Any:
            changed = tree.replace(now, program=mutate(jax.random.fold_in(key, i), now.program))
            return tree.where(fingerprint(changed.signature()) == number, changed, now)

        return jax.lax.fori_loop(0, self.drift, step, parent)

    def _score(
        self, problem: InnerProblem, key: jax.Array, env: Tasks, members: Any, num_tasks: int
    ) -> tuple[jax.Array, Metrics]:
        """The mean score of each on the same tasks, -inf where it was not finite. [M]."""
        name = self._name
        score, metrics = problem.run(
            key,
            env,
            lambda member: {name: jax.tree.map(lambda x: x[member], members)},
            np.zeros(len(members.program.code), int),
            num_tasks,
        )
        score, reported = clean(score)
        return score.mean(-1), {"return": reported.pop("fitness")} | metrics | reported

    def _insert(self, hall: HallOfFame, new: HallOfFame) -> HallOfFame:
        """The best of the hall of fame and of new members, each function once."""
        known = jnp.isin(new.number, hall.number)
        candidates = _concat(hall, tree.replace(new, number=jnp.where(known, 0, new.number)))
        fitness = jnp.where(candidates.number > 0, candidates.fitness, -jnp.inf)
        _, best = jax.lax.top_k(fitness, self.hall)
        return jax.tree.map(lambda x: x[best], candidates)

    @property
    def _name(self) -> str:
        """The name of the one part that evolves."""
        tuned = self.inner.tuned
        if len(tuned) != 1 or not all(isinstance(x, SymbolicFunction) for x in tuned.values()):
            kinds = [f"{name} ({type(x).__name__})" for name, x in tuned.items()]
            raise TypeError(
                "RegularizedEvolution evolves one rl.symbolic.SymbolicFunction, and meta_params "
                f"names {', '.join(kinds) or 'nothing'}: write "
                'meta_params=("criterion",) for rl.TD(ValueProgram.of(...)).'
            )
        (name,) = tuned
        return name


def _concat(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def _ring(n: Any, count: int, size: int, offset: int = 0) -> jax.Array:
    """The slots of generation n, which writes `count` in a row to a ring of `size`. [count]."""
    return (n % size * count + offset + jnp.arange(count)) % size  # n * count may exceed 2 ** 31
