"""Examples in place of training runs: a model is scored by how well it fits another function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.clock import Metrics
from jaxrl.env import Tasks
from jaxrl.meta.base import InnerProblem
from jaxrl.tree import pytree, static


@pytree
class Examples(Tasks):
    """Inputs by name and a function's outputs for them, all of one shape, in the place of tasks."""

    inputs: dict[str, jax.Array]
    target: jax.Array

    def sample(self, key: jax.Array) -> "Examples":
        return self


@pytree
class Fit(InnerProblem):
    """A model in the place of an `InnerLoop`: its score is the share of the target's variance that
    it explains, 1 at best.

    model: called with the inputs of `Examples`. meta_params: ("model",) or fields of it, as of
    `InnerLoop`.
    """

    model: Callable[..., jax.Array]
    meta_params: tuple[str, ...] = static(default=("model",))

    @property
    def tuned(self) -> dict[str, Any]:
        return tree.parts(self, self.meta_params)

    def with_params(self, params: dict[str, Any]) -> Any:
        """The model with these parameters."""
        return tree.put(self, params).model

    def score(self, tasks: Examples, params: dict[str, Any]) -> jax.Array:
        """The share of variance that these parameters explain. []."""
        error = self.with_params(params)(**tasks.inputs) - tasks.target
        return 1.0 - jnp.mean(error**2) / jnp.var(tasks.target)

    def run(
        self,
        key: jax.Array,
        tasks: Tasks,
        ask: Callable[[Any], Any],
        crn_group: np.ndarray,
        num_tasks: int,
        levels: Any = None,
    ) -> tuple[jax.Array, Metrics]:
        """The score of each member, the same for each of its tasks [M, K], and no metrics.

        Examples have no levels.
        """
        examples = _check_examples(tasks)
        score = jax.vmap(lambda member: self.score(examples, ask(member)))(
            jnp.arange(len(crn_group))
        )
        return jnp.broadcast_to(score[:, None], (len(crn_group), num_tasks)), {}

    def evaluate(self, tasks: Tasks, params: dict[str, Any], num_tasks: int) -> jax.Array:
        """The score on the examples. [1]."""
        return self.score(_check_examples(tasks), params)[None]


def _check_examples(tasks: Any) -> Examples:
    if not isinstance(tasks, Examples):
        raise TypeError(
            f"Fit scores a model on examples, and got {type(tasks).__name__}: write "
            "rl.meta.Examples(inputs, target), or an rl.InnerLoop in place of the Fit."
        )
    return tasks


@pytree
class Drift:
    """The drift of an objective as a function of ratio, advantage and elapsed fraction."""

    objective: Any

    def __call__(self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array) -> jax.Array:
        return self.objective.drift(ratio, advantage, fraction)


def drift_examples(objective: Any) -> Examples:
    """Values of a drift, as `LPO`'s, at ratios from 1/4 to 4, advantages from -3 to 3, and elapsed
    fractions of a training run.
    """
    grid = np.meshgrid(
        np.geomspace(0.25, 4.0, 25), np.linspace(-3.0, 3.0, 13), [0.0, 0.5, 1.0], indexing="ij"
    )
    ratio, advantage, fraction = (jnp.asarray(x, jnp.float32) for x in grid)
    target = objective.drift(ratio, advantage, fraction)
    return Examples({"ratio": ratio, "advantage": advantage, "fraction": fraction}, target)
