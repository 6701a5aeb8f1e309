"""Several distributions of environments as one, each with a program of its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Metrics
from jaxrl.env import Tasks
from jaxrl.tree import added, pytree, replace

if TYPE_CHECKING:
    from jaxrl.meta.inner_loop import InnerLoop

# (key, number of the family, members, their groups, tasks of each) -> scores [members, K], metrics
RunFamily = Callable[[jax.Array, int, np.ndarray, np.ndarray, int], tuple[jax.Array, Metrics]]


@pytree
class Families(Tasks):
    """Several distributions of environments, which may differ in spaces, shapes and static fields.

    A meta-learner with an `InnerLoop` gives each group of common random numbers to one of them in
    turn, if the number of families divides that of the groups; otherwise each task, and then it has
    to divide the number of tasks. Each family is compiled by itself.

    families: distributions; `score` of each should make returns comparable. learners: one for each
    family, used in place of `InnerLoop.learner`, for example with other sizes of networks; the
    meta-parameters are put into each. (): the same learner for all.
    """

    families: tuple[Tasks, ...]
    learners: tuple[Algorithm, ...] = added(())

    def __post_init__(self) -> None:
        if isinstance(self.families, tuple) and not self.families:
            raise ValueError("Families needs a distribution: write Families((tasks, ...)).")
        if isinstance(self.learners, tuple) and len(self.learners) not in (0, len(self.families)):
            raise ValueError(
                f"{len(self.learners)} learners for {len(self.families)} families: give one for "
                "each, or learners=()."
            )

    def sample(self, key: jax.Array) -> Any:
        raise TypeError(
            "Families has environments of several types, so none is sampled from all of them: "
            "write tasks.families[0].sample(key)."
        )

    def loops(self, inner: "InnerLoop") -> list[tuple[Tasks, "InnerLoop"]]:
        """Each family, with the inner loop of its learner."""
        if not self.learners:
            return [(family, inner) for family in self.families]
        pairs = zip(self.families, self.learners, strict=True)
        return [(family, replace(inner, learner=learner)) for family, learner in pairs]

    def run(
        self, key: jax.Array, crn_group: np.ndarray, num_tasks: int, run: RunFamily
    ) -> tuple[jax.Array, Metrics]:
        """The scores [M, K] and metrics of `run(key, number, members, crn_group, num_tasks)` of
        each family, on its part of the members (with their groups counted from 0) or tasks.
        Metrics are means over families; `training_runs` is their sum.
        """
        count, groups = len(self.families), int(crn_group.max()) + 1
        by_group = groups % count == 0
        if not by_group and num_tasks % count:
            raise ValueError(
                f"{count} families do not divide {groups} groups of common random numbers or "
                f"{num_tasks} tasks: write num_tasks={-(-num_tasks // count) * count}."
            )
        scores = jnp.zeros((len(crn_group), num_tasks))
        found = []
        for i in range(count):
            members = np.flatnonzero(crn_group % count == i) if by_group else np.arange(len(scores))
            group = crn_group[members] // count if by_group else crn_group
            columns = np.arange(num_tasks) if by_group else np.arange(i, num_tasks, count)
            part, metrics = run(jax.random.fold_in(key, i), i, members, group, len(columns))
            scores = scores.at[np.ix_(members, columns)].set(part)
            found.append(metrics)
        metrics = jax.tree.map(lambda *x: jnp.stack(x).mean(0), *found)
        return scores, metrics | {"training_runs": sum(one["training_runs"] for one in found)}
