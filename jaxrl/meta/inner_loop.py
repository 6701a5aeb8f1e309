"""Whole lives of learners on tasks: what a meta-learner is judged by."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout, tree
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.env import Env, Tasks
from jaxrl.rules.base import Metrics
from jaxrl.tree import pytree, static

SELECTION = 0x5E1EC7  # the seed of the tasks that choose a checkpoint: the same ones each time


@pytree
class InnerLoop:
    """A learner, what of it is meta-learnt, how long it lives, and how a life is judged.

    learner: an algorithm. meta_params: the fields of it that are learnt, by name, as
    ("rule.objective.weights",): trees of floats. lifetime: updates that a life lasts, log-uniform
    between these two. Many lives at once are spread evenly over that distribution, and those of
    like length share a program: `waste` times what is needed is computed. episodes: that judge the
    policy a life ends with; greedy: by its best actions, rather than as it explores. num_lives: on
    each task. chunk: lives at once, by default all; fewer take less memory and waste less.
    """

    learner: Any = OnPolicy()
    meta_params: tuple[str, ...] = static(default=())
    lifetime: tuple[int, int] = static(default=(100, 100))
    episodes: int = static(default=16)
    greedy: bool = static(default=False)
    num_lives: int = static(default=1)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        tree.check_counts(self, "episodes", "num_lives", *([] if self.chunk is None else ["chunk"]))
        shortest, longest = self.lifetime if np.shape(self.lifetime) == (2,) else (0, 0)
        if not 1 <= shortest <= longest:
            raise ValueError(
                f"lifetime={self.lifetime} is no range of updates from 1 up: write, say, "
                "lifetime=(10, 60)."
            )

    @property
    def tuned(self) -> dict[str, Any]:
        """What is learnt, as it begins."""
        return tree.parts(self.learner, self.meta_params)

    def with_params(self, params: dict[str, Any]) -> Any:
        """The learner with these in place of its own."""
        return tree.put(self.learner, params)

    def judge(self, tasks: Tasks, params: dict[str, Any], num_tasks: int) -> jax.Array:
        """The mean score on so many selection tasks, the same at each call. []."""
        return self.scores(jax.random.key(SELECTION), tasks, params, num_tasks).mean()

    def scores(
        self, key: jax.Array, tasks: Tasks, params: dict[str, Any], num_tasks: int
    ) -> jax.Array:
        """How well a learner with these parameters does on so many tasks. [num_tasks]."""
        return self.live(key, tasks, lambda member: params, np.zeros(1, int), num_tasks)[0][0]

    def live(
        self,
        key: jax.Array,
        tasks: Tasks,
        ask: Callable[[Any], Any],
        luck: np.ndarray,
        num_tasks: int,
        levels: Any = None,
    ) -> tuple[jax.Array, Metrics]:
        """The score of each member on each of its tasks [M, K], and what the lives were like.

        ask: a member's parameters, by its number. luck: members with the same number live on the
        same tasks with the same keys, for equally long. [M]. levels: in place of those that the
        tasks sample, task by task, for each luck. [K * L].
        """
        # the shortest lives go first, `chunk` at a time, so that a chunk's longest life is known
        # before it begins
        groups = luck.max() + 1
        member, task, life = (x.ravel() for x in np.indices((len(luck), num_tasks, self.num_lives)))
        slot = (
            task * groups + luck[member]
        )  # slot s has a life longer than a share s / num_slots of all lives
        order = np.argsort(slot, kind="stable")
        rounds = -(-len(order) // (self.chunk or len(order)))
        width = -(-len(order) // rounds)
        rows = np.pad(order, (0, rounds * width - len(order)), mode="edge").reshape(rounds, width)
        key_task, key_length, key_life = jax.random.split(key, 3)
        bound = np.round(self.quantile((slot[rows[:, -1]] + 1) / (groups * num_tasks))).astype(
            np.int32
        )

        def play(
            member: jax.Array, slot: jax.Array, life: jax.Array, bound: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            share = (slot + jax.random.uniform(jax.random.fold_in(key_length, slot))) / (
                groups * num_tasks
            )
            lifetime = jnp.minimum(jnp.round(self.quantile(share)).astype(jnp.int32), bound)
            key_level = jax.random.fold_in(key_task, slot)
            level = (
                tasks.sample(key_level)
                if levels is None
                else jax.tree.map(lambda x: x[slot], levels)
            )
            key = jax.random.fold_in(jax.random.fold_in(key_life, slot), life)
            return self.life(key, ask(member), tasks, level, lifetime, bound), lifetime

        one_round = lambda now: jax.vmap(play, in_axes=(0, 0, 0, None))(*now)
        found, lifetimes = jax.lax.map(
            one_round, (member[rows], slot[rows], life[rows], jnp.asarray(bound))
        )
        unsorted = jnp.zeros(len(order)).at[order].set(found.ravel()[: len(order)])
        lived = lifetimes.ravel()[: len(order)].sum()
        return unsorted.reshape(len(luck), num_tasks, self.num_lives).mean(-1), {
            "length": lived / len(order),
            "episodes": jnp.int32(len(order)),
            "waste": jnp.float32((bound * width).sum()) / lived,
        }

    def life(
        self,
        key: jax.Array,
        params: dict[str, Any],
        tasks: Tasks,
        env: Env,
        lifetime: jax.Array,
        bound: jax.Array,
    ) -> jax.Array:
        """The score of the policy that a life of so many updates ends with; NaN if the life went
        non-finite. [].

        bound: the updates that are computed, `lifetime` or more: the same for all lives under one
        `vmap`.
        """
        learner = self.with_params(params)
        key_init, key_learn, key_judge = jax.random.split(key, 3)

        def update(n: jax.Array, state: Any) -> Any:
            learnt, _ = learner.update(jax.random.fold_in(key_learn, n), env, state)
            return tree.where(n < lifetime, learnt, state)

        state = jax.lax.fori_loop(0, bound, update, learner.init(key_init, env, lifetime))
        return self.score_of(key_judge, learner, tasks, env, state)

    def score_of(
        self, key: jax.Array, learner: Any, tasks: Tasks, env: Env, state: Any
    ) -> jax.Array:
        """The score of a learner's policy as it is now; NaN if the learner went non-finite. []."""
        act = learner.act if self.greedy else learner.explore
        policy = lambda key, memory, obs: act(key, env, state, memory, obs)
        ret = rollout.evaluate(key, env, policy, self.episodes, learner.start(env)).mean()
        return jnp.where(tree.is_finite(state.params), tasks.score(env, ret), jnp.nan)

    def quantile(self, share: Any) -> Any:
        """The lifetime, before it is rounded, that a share of all lives are shorter than."""
        shortest, longest = self.lifetime
        return shortest * (longest / shortest) ** share
