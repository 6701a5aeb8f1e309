"""Bonuses by the number of visits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.archives.cells import Cells
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.exploration.bonus import Bonus, flat
from jaxrl.rollout import Transition
from jaxrl.tree import pytree, static

OfObs = Callable[[Any], jax.Array]  # an observation -> the number of its cell, or a descriptor [D]


@pytree
class Counts(Bonus):
    """1 / sqrt(n) of the successor's cell, with n its number of visits, this one included (Strehl
    and Littman, 2008; with hashes, Tang et al., 2017).

    cells: what divides observations, flat, into cells. None: the observation is one-hot, or the
    number of a state below `num_cells`.
    """

    cells: Cells | None = None
    num_cells: int = static(default=0)

    learns_first = True

    def start(self, key: jax.Array, env: Env, width: int) -> jax.Array:
        obs = jax.eval_shape(lambda: env.reset(jax.random.key(0))[1])
        size = self.num_cells
        if self.cells is not None:
            size = self.cells.num_cells
        elif not size and obs.ndim >= 1:
            size = obs.size
        if not size:
            raise ValueError(
                f"Counts needs the number of states of {type(env).__name__}, as its observations "
                "are whole numbers: write Counts(num_cells=env.num_states)."
            )
        return jnp.zeros(size)

    def cell(self, obs: Any) -> jax.Array:
        """The cells of observations [T, B, ...]. int32 [T, B]."""
        if self.cells is not None:
            return self.cells(flat(obs, 2))
        if obs.ndim == 2:
            return obs.astype(jnp.int32)
        return jnp.argmax(obs.reshape(*obs.shape[:2], -1), -1).astype(jnp.int32)

    def bonus(self, key: jax.Array, model: jax.Array, batch: Transition) -> jax.Array:
        return jax.lax.rsqrt(jnp.maximum(model[self.cell(batch.next_obs)], 1.0))

    def learn(
        self, key: jax.Array, model: jax.Array, batch: Transition
    ) -> tuple[jax.Array, Metrics]:
        count = model.at[self.cell(batch.next_obs)].add(1.0)
        return count, {"cells_visited": (count > 0).sum()}
