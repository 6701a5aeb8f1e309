"""Finite sets of levels."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Tasks
from jaxrl.tree import pytree


@pytree
class LevelSet(Tasks):
    """A finite set of levels, sampled uniformly: `LevelSet(family(levels))`.

    levels: an environment with a leading axis [L] of its leaves.
    """

    levels: Any

    @property
    def num_levels(self) -> int:  # type: ignore[override]
        """L."""
        return jnp.shape(jax.tree.leaves(self.levels)[0])[0]

    @property
    def num_agents(self) -> int | None:  # type: ignore[override]
        return self.levels.num_agents

    @property
    def roles(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.levels.roles

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.levels.channels

    def sample(self, key: jax.Array) -> Any:
        return self.numbered(jax.random.randint(key, (), 0, self.num_levels))

    def numbered(self, number: jax.Array) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x)[number], self.levels)
