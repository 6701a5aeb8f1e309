"""Families of several kinds of environments as one distribution, each with a program of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.clock import Metrics
from jaxrl.env import Tasks
from jaxrl.tree import pytree

# (tasks, members, tasks of each member) -> scores [members, K] and metrics
RunOne = Callable[[Tasks, np.ndarray, int], tuple[jax.Array, Metrics]]


@pytree
class Families(Tasks):
    """Several distributions of environments, which may differ in spaces, shapes and static fields.

    A meta-learner with an `InnerLoop` gives each group of common random numbers (or, where there is
    one group, each task) to one of them in turn, so their number divides that of the groups or of
    the tasks. Each family is compiled by itself.

    families: distributions; `score` of each should make returns comparable.
    """

    families: tuple[Tasks, ...]

    def __post_init__(self) -> None:
        if isinstance(self.families, tuple) and not self.families:
            raise ValueError("Families needs a distribution: write Families((tasks, ...)).")

    def sample(self, key: jax.Array) -> Any:
        raise TypeError(
            "Families has environments of several types, so none is sampled from all of them: "
            "write tasks.families[0].sample(key)."
        )

    def run(
        self, key: jax.Array, crn_group: np.ndarray, num_tasks: int, run: Callable[..., Any]
    ) -> tuple[jax.Array, Metrics]:
        """The scores [M, K] and mean metrics of `run(key, tasks, members, crn_group, num_tasks)`
        of each family, on its part of the members (with their groups counted from 0) or tasks.
        """
        count, groups = len(self.families), int(crn_group.max()) + 1
        by_group = groups % count == 0
        if not by_group and num_tasks % count:
            raise ValueError(
                f"{count} families divide neither {groups} groups of common random numbers nor "
                f"{num_tasks} tasks: write num_tasks={-(-num_tasks // count) * count}."
            )
        scores = jnp.zeros((len(crn_group), num_tasks))
        found = []
        for i, tasks in enumerate(self.families):
            members = np.flatnonzero(crn_group % count == i) if by_group else np.arange(len(scores))
            group = crn_group[members] // count if by_group else crn_group
            columns = np.arange(num_tasks) if by_group else np.arange(i, num_tasks, count)
            part, metrics = run(jax.random.fold_in(key, i), tasks, members, group, len(columns))
            scores = scores.at[np.ix_(members, columns)].set(part)
            found.append(metrics)
        return scores, jax.tree.map(lambda *x: jnp.stack(x).mean(0).astype(x[0].dtype), *found)
