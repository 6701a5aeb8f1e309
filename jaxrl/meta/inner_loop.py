"""The inner loop: training runs of a learner on sampled tasks, and the scores they end with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import rollout, tree
from jaxrl.algorithms.base import Algorithm, State
from jaxrl.algorithms.loop import Step, run_updates
from jaxrl.algorithms.on_policy import OnPolicy
from jaxrl.clock import Metrics
from jaxrl.env import Env, Tasks
from jaxrl.errors import check_counts
from jaxrl.meta.base import InnerProblem
from jaxrl.meta.families import Families
from jaxrl.tree import pytree, static


@pytree
class InnerLoop(InnerProblem):
    """Training runs of `learner`, scored by the policy that each ends with, or by the whole curve.

    meta_params: the fields of the learner that are meta-learned, by name, as
    ("rule.objective.weights",): trees of floats. lifetime: updates of a training run, log-uniform
    between these two. Runs side by side are spread evenly over that distribution, and those of
    similar length share a program: `waste` times the updates that are needed are computed.
    episodes: played to score the policy; greedy: with its greedy actions, rather than as it
    explores. by_area: True scores the area under the learning curve in place of the last policy:
    the mean over updates of the latest training return, from the first episode's end on. In runs
    that are not much longer than an episode, few updates count; `episodes` and `greedy` are not
    used. num_runs:
    training runs on each task. chunk: runs side by side, by default all; fewer take less memory and
    waste less.
    """

    learner: Algorithm = OnPolicy()
    meta_params: tuple[str, ...] = static(default=())
    lifetime: tuple[int, int] = static(default=(100, 100))
    episodes: int = static(default=16)
    greedy: bool = static(default=False)
    by_area: bool = static(default=False, added=True)
    num_runs: int = static(default=1)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        check_counts(self, "episodes", "num_runs", *([] if self.chunk is None else ["chunk"]))
        shortest, longest = self.lifetime if np.shape(self.lifetime) == (2,) else (0, 0)
        if not 1 <= shortest <= longest:
            raise ValueError(
                f"lifetime={self.lifetime} is not a range of updates from 1 up: write "
                "lifetime=(10, 60)."
            )

    @property
    def tuned(self) -> dict[str, Any]:
        """The learner's own values of the meta-parameters."""
        return tree.parts(self.learner, self.meta_params)

    def with_params(self, params: dict[str, Any]) -> Algorithm:
        """The learner with these meta-parameters."""
        return tree.put(self.learner, params)

    def run(
        self,
        key: jax.Array,
        tasks: Tasks,
        ask: Callable[[Any], Any],
        crn_group: np.ndarray,
        num_tasks: int,
        levels: Any = None,
    ) -> tuple[jax.Array, Metrics]:
        """As of `InnerProblem`. Metrics: the mean `lifetime`, the number of `training_runs`, and
        `waste`, computed updates over needed ones.
        """
        if isinstance(tasks, Families):
            if levels is not None:
                raise TypeError("Families has no levels of one type: give a family by itself.")
            loops = tasks.loops(self)

            def part(
                key: jax.Array, number: int, members: np.ndarray, groups: np.ndarray, count: int
            ) -> tuple[jax.Array, Metrics]:
                family, inner = loops[number]
                return inner.run(
                    key, family, lambda member: ask(jnp.asarray(members)[member]), groups, count
                )

            return tasks.run(key, crn_group, num_tasks, part)
        # The shortest runs go first, `chunk` at a time, so that a chunk's longest lifetime is known
        # before it starts. Slot s has a run longer than a share s / num_slots of all runs.
        groups = crn_group.max() + 1
        indices = np.indices((len(crn_group), num_tasks, self.num_runs))
        member, task, number = (x.ravel() for x in indices)
        slot = task * groups + crn_group[member]
        order = np.argsort(slot, kind="stable")
        rounds = -(-len(order) // (self.chunk or len(order)))
        width = -(-len(order) // rounds)
        rows = np.pad(order, (0, rounds * width - len(order)), mode="edge").reshape(rounds, width)
        key_task, key_length, key_run = jax.random.split(key, 3)
        longest = self.quantile((slot[rows[:, -1]] + 1) / (groups * num_tasks))
        bound = np.round(longest).astype(np.int32)

        def run_slot(
            member: jax.Array, slot: jax.Array, number: jax.Array, bound: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            uniform = jax.random.uniform(jax.random.fold_in(key_length, slot))
            share = (slot + uniform) / (groups * num_tasks)
            lifetime = jnp.minimum(jnp.round(self.quantile(share)).astype(jnp.int32), bound)
            if levels is None:
                env = tasks.sample(jax.random.fold_in(key_task, slot))
            else:
                env = jax.tree.map(lambda x: x[slot], levels)
            key = jax.random.fold_in(jax.random.fold_in(key_run, slot), number)
            return self.run_one(key, ask(member), tasks, env, lifetime, bound), lifetime

        scores, lifetimes = jax.lax.map(
            lambda row: jax.vmap(run_slot, in_axes=(0, 0, 0, None))(*row),
            (member[rows], slot[rows], number[rows], jnp.asarray(bound)),
        )
        unsorted = jnp.zeros(len(order)).at[order].set(scores.ravel()[: len(order)])
        needed = lifetimes.ravel()[: len(order)].sum()
        return unsorted.reshape(len(crn_group), num_tasks, self.num_runs).mean(-1), {
            "lifetime": needed / len(order),
            "training_runs": jnp.int32(len(order)),
            "waste": jnp.float32((bound * width).sum()) / needed,
        }

    def run_one(
        self,
        key: jax.Array,
        params: dict[str, Any],
        tasks: Tasks,
        env: Env,
        lifetime: jax.Array,
        bound: jax.Array,
    ) -> jax.Array:
        """The score of a training run of `lifetime` updates; NaN if the learner went non-finite, or
        by area if no episode ended. [].

        bound: the number of updates that are computed, `lifetime` or more, the same for all runs
        under one `vmap`.
        """
        learner = self.with_params(params)
        key_init, key_learn, key_score = jax.random.split(key, 3)
        if self.by_area:
            initial = learner.init(key_init, env, lifetime)
            mean, state = self._mean_return(key_learn, learner, env, initial, lifetime, bound)
            return jnp.where(tree.is_finite(state.params), tasks.score(env, mean), jnp.nan)

        def up_to_bound(step: Step, carry: Any, num_updates: int) -> Any:
            return jax.lax.fori_loop(0, bound, lambda i, carry: step(carry, i), carry)

        state, _ = run_updates(
            key_learn,
            learner,
            env,
            learner.init(key_init, env, lifetime),
            self.lifetime[1],
            last_update=lifetime,
            scan=up_to_bound,
        )
        return self.score(key_score, learner, tasks, env, state)

    def _mean_return(
        self,
        key: jax.Array,
        learner: Algorithm,
        env: Env,
        state: State,
        lifetime: jax.Array,
        bound: jax.Array,
    ) -> tuple[jax.Array, State]:
        """The mean over updates of the latest training return, from the first episode's end on, and
        the state after `lifetime` updates.
        """

        def step(i: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
            state, latest, total, count = carry
            active = state.clock.n < lifetime
            new_state, metrics = learner.update(jax.random.fold_in(key, i), env, state)
            if "return" not in metrics:
                raise TypeError(
                    f"by_area=True reads the training return, and {type(learner).__name__} reports "
                    "none: write by_area=False."
                )
            ended = metrics["episodes"] > 0
            latest = jnp.where(ended, metrics["return"], latest)
            known = active & (ended | (count > 0))
            total = total + jnp.where(known, latest, 0.0)
            return learner.freeze(active, new_state, state), latest, total, count + known

        zero = jnp.float32(0.0)
        start = state, zero, zero, jnp.int32(0)
        state, _, total, count = jax.lax.fori_loop(0, bound, step, start)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan), state

    def score(
        self, key: jax.Array, learner: Algorithm, tasks: Tasks, env: Env, state: State
    ) -> jax.Array:
        """The score of a learner's policy; NaN if the learner went non-finite. []."""
        policy = learner.policy(env, learner.agent(state), greedy=self.greedy)
        episode_return = rollout.evaluate(key, env, policy, self.episodes).mean()
        return jnp.where(tree.is_finite(state.params), tasks.score(env, episode_return), jnp.nan)

    def quantile(self, share: Any) -> Any:
        """The lifetime, before rounding, that a share of all training runs are shorter than."""
        shortest, longest = self.lifetime
        return shortest * (longest / shortest) ** share
