"""Evolving what learners are made of: a meta-learner is an algorithm whose environment is a distribution of tasks."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout, tree
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.env import Env
from jaxrl.meta.strategies import ES, Strategy
from jaxrl.rules.base import Metrics
from jaxrl.tree import pytree, static

SELECTION = 0x5E1EC7  # the seed of the tasks that choose a checkpoint: the same ones each time


class Tasks(Protocol):
    """A pytree, in the place of an environment: what levels are drawn from, all of the same shapes."""

    def sample(self, key: jax.Array) -> Env: ...

    def score(self, env: Any, ret: jax.Array) -> jax.Array:
        """A mean return on a level, made comparable between levels: say as a share of the optimum. []."""
        ...


@pytree
class Evolution:
    """Evolves fields of a learner by how well it does at the end of whole lives on fresh tasks.

    `rl.Training(Evolution(...), tasks, steps=150)` lives 150 generations: a step is one of them. `rl.sweep` of it has a
    member for each meta-seed, its checkpoints, and with keep_best the parameters that did best on the selection tasks.

    learner: an algorithm. tunes: the fields of it that evolve, by name, as ("rule.objective.weights",): any tree of floats.
    strategy: an `ES`, or another that asks and tells. Members that share their luck live on the same tasks with the same
    keys, for equally long.
    lifetime: updates that a life lasts, log-uniform between these two. A generation's lives are spread evenly over that
    distribution, so that lives of like length share a program: at most `waste` times what is needed is computed.
    num_tasks, num_lives: tasks of each member, and lives on each of them. episodes: that judge the policy a life ends with;
    greedy: by its best actions, rather than as it explores. chunk: lives at once, by default all; fewer take less memory
    and waste less.
    """

    learner: Any = OnPolicy()
    strategy: Strategy = ES()
    tunes: tuple[str, ...] = static(default=())
    lifetime: tuple[int, int] = static(default=(100, 100))
    num_tasks: int = static(default=1)
    num_lives: int = static(default=1)
    episodes: int = static(default=16)
    greedy: bool = static(default=False)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        shortest, longest = self.lifetime
        if not 1 <= shortest <= longest:
            raise ValueError(f"lifetime={self.lifetime} is no range of updates from 1 up: write, say, lifetime=(10, 60).")

    steps_per_update = 1

    @property
    def tuned(self) -> dict[str, Any]:
        """What evolves, as it begins."""
        found = {}
        for name in self.tunes:
            found[name] = self.learner
            for part in tree.find(self.learner, name).split("."):
                found[name] = found[name][part] if isinstance(found[name], dict) else getattr(found[name], part)
        return found

    def init(self, key: jax.Array, env: Tasks, num_updates: Any = float("inf")) -> Any:
        if not hasattr(env, "sample"):
            raise TypeError(
                f"Evolution plays on tasks, which have sample(key) -> Env, and got {type(env).__name__}: give a "
                "distribution of levels in place of one environment."
            )
        return self.strategy.init(self.tuned, num_updates)

    def update(self, key: jax.Array, env: Tasks, state: Any) -> tuple[Any, Metrics]:
        """One generation. `return` is its mean score, `length` its mean lifetime, `episodes` the number of its lives."""
        key_ask, key_live = jax.random.split(key)
        ask = lambda member: self.strategy.ask(key_ask, state, member)
        scores, metrics = self._live_all(key_live, env, ask, self.strategy.luck, self.num_tasks)
        state, told = self.strategy.tell(key_ask, state, scores)
        return state, {"return": told.pop("fitness")} | metrics | told

    def judge(self, key: jax.Array, env: Tasks, state: Any, episodes: int) -> jax.Array:
        """The mean score of what has evolved on `episodes` selection tasks, the same at each call. []."""
        return self.scores(jax.random.key(SELECTION), env, state.params, episodes).mean()

    def scores(self, key: jax.Array, env: Tasks, params: dict[str, Any], num_tasks: int) -> jax.Array:
        """How well a learner with these parameters does on so many tasks, `num_lives` on each. [num_tasks]."""
        return self._live_all(key, env, lambda member: params, np.zeros(1, int), num_tasks)[0][0]

    def _live_all(
        self, key: jax.Array, env: Tasks, ask: Callable[[Any], Any], luck: np.ndarray, num_tasks: int
    ) -> tuple[jax.Array, Metrics]:
        """The score of each member on each of its tasks. [M, K]. The shortest lives go first, `chunk` at a time."""
        groups = luck.max() + 1
        member, task, life = (x.ravel() for x in np.indices((len(luck), num_tasks, self.num_lives)))
        slot = task * groups + luck[member]  # slot s has a life longer than a share s / num_slots of all lives
        order = np.argsort(slot, kind="stable")
        rounds = -(-len(order) // (self.chunk or len(order)))
        width = -(-len(order) // rounds)
        rows = np.pad(order, (0, rounds * width - len(order)), mode="edge").reshape(rounds, width)
        key_task, key_length, key_life = jax.random.split(key, 3)
        bound = np.round(self.quantile((slot[rows[:, -1]] + 1) / (groups * num_tasks))).astype(np.int32)

        def play(member: jax.Array, slot: jax.Array, life: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array]:
            share = (slot + jax.random.uniform(jax.random.fold_in(key_length, slot))) / (groups * num_tasks)
            lifetime = jnp.minimum(jnp.round(self.quantile(share)).astype(jnp.int32), bound)
            level = env.sample(jax.random.fold_in(key_task, slot))
            key = jax.random.fold_in(jax.random.fold_in(key_life, slot), life)
            return self._live(key, ask(member), env, level, lifetime, bound), lifetime

        one_round = lambda now: jax.vmap(play, in_axes=(0, 0, 0, None))(*now)
        found, lifetimes = jax.lax.map(one_round, (member[rows], slot[rows], life[rows], jnp.asarray(bound)))
        unsorted = jnp.zeros(len(order)).at[order].set(found.ravel()[: len(order)])
        lived = lifetimes.ravel()[: len(order)].sum()
        return unsorted.reshape(len(luck), num_tasks, self.num_lives).mean(-1), {
            "length": lived / len(order),
            "episodes": jnp.int32(len(order)),
            "waste": jnp.float32((bound * width).sum()) / lived,
        }

    def _live(
        self, key: jax.Array, params: dict[str, Any], tasks: Tasks, env: Env, lifetime: jax.Array, bound: jax.Array
    ) -> jax.Array:
        """The score of the policy that a whole life ends with; NaN if the life went non-finite. []."""
        learner = tree.put(self.learner, params)
        key_init, key_learn, key_judge = jax.random.split(key, 3)

        def update(n: jax.Array, state: Any) -> Any:
            learnt, _ = learner.update(jax.random.fold_in(key_learn, n), env, state)
            return tree.where(n < lifetime, learnt, state)

        state = jax.lax.fori_loop(0, bound, update, learner.init(key_init, env, lifetime))
        return self.score_of(key_judge, learner, tasks, env, state)

    def score_of(self, key: jax.Array, learner: Any, tasks: Tasks, env: Env, state: Any) -> jax.Array:
        """The score of a learner's policy as it is now; NaN if the learner went non-finite. []."""
        act = learner.act if self.greedy else learner.explore
        policy = lambda key, memory, obs: act(key, env, state, memory, obs)
        ret = rollout.evaluate(key, env, policy, self.episodes, learner.start(env)).mean()
        return jnp.where(tree.is_finite(state.params), tasks.score(env, ret), jnp.nan)

    def quantile(self, share: Any) -> Any:
        """The lifetime, before it is rounded, that a share of all lives are shorter than."""
        shortest, longest = self.lifetime
        return shortest * (longest / shortest) ** share
