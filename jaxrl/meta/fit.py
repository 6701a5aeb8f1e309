"""Examples in the place of lives: what evolves is judged by how well it says what another function
says.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import tree
from jaxrl.env import Tasks
from jaxrl.rules.base import Metrics
from jaxrl.tree import pytree, static


@pytree
class Examples(Tasks):
    """Inputs by name, and what a function should say of them, all of one shape.

    It stands where tasks do.
    """

    inputs: dict[str, jax.Array]
    target: jax.Array

    def sample(self, key: jax.Array) -> "Examples":
        return self


@pytree
class Fit:
    """Stands where `InnerLoop` do: the score is the share of the target's variance that the model
    explains, 1 at best.

    model: called with the inputs of `Examples`. meta_params: what is learnt, ("model",) or fields of it,
    as of `InnerLoop`.
    """

    model: Any
    meta_params: tuple[str, ...] = static(default=("model",))

    @property
    def tuned(self) -> dict[str, Any]:
        """What is learnt, as it begins."""
        return tree.parts(self, self.meta_params)

    def with_params(self, params: dict[str, Any]) -> Any:
        """The model with these in place of its own."""
        return tree.put(self, params).model

    def judge(self, tasks: Examples, params: dict[str, Any], num_tasks: int) -> jax.Array:
        """The score of these parameters. []."""
        missed = self.with_params(params)(**tasks.inputs) - tasks.target
        return 1.0 - jnp.mean(missed**2) / jnp.var(tasks.target)

    def live(
        self,
        key: jax.Array,
        tasks: Examples,
        ask: Callable[[Any], Any],
        luck: np.ndarray,
        num_tasks: int,
        levels: None = None,
    ) -> tuple[jax.Array, Metrics]:
        """The score of each member, the same for each of its tasks; examples have no levels to
        choose. [M, K].
        """
        score = jax.vmap(lambda member: self.judge(tasks, ask(member), num_tasks))(
            jnp.arange(len(luck))
        )
        none = {
            "length": jnp.float32(1.0),
            "episodes": jnp.int32(len(luck)),
            "waste": jnp.float32(1.0),
        }
        return jnp.broadcast_to(score[:, None], (len(luck), num_tasks)), none


@pytree
class Drift:
    """The drift of an objective as a function by itself."""

    objective: Any

    def __call__(self, ratio: jax.Array, advantage: jax.Array, fraction: jax.Array) -> jax.Array:
        return self.objective.drift(ratio, advantage, fraction)


def drift_examples(objective: Any) -> Examples:
    """What a drift, as `LPO`'s, takes off at ratios from 1/4 to 4, advantages from -3 to 3, and
    fractions of the life.
    """
    grid = np.meshgrid(
        np.geomspace(0.25, 4.0, 25), np.linspace(-3.0, 3.0, 13), [0.0, 0.5, 1.0], indexing="ij"
    )
    ratio, advantage, fraction = (jnp.asarray(x, jnp.float32) for x in grid)
    target = objective.drift(ratio, advantage, fraction)
    return Examples({"ratio": ratio, "advantage": advantage, "fraction": fraction}, target)
