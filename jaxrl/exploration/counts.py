"""Count-based bonuses, over the training run or within the episode."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.archives.cells import Cells
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.exploration.bonus import Bonus, example, flat, is_active
from jaxrl.masks import visible
from jaxrl.rollout import Transition
from jaxrl.tree import pytree, static

NONE = np.iinfo(np.int32).max  # past the last cell


@pytree
class Counts(Bonus):
    """1 / sqrt(n), where n is the number of visits to the next observation's cell, including this
    one (Strehl and Littman, 2008; with hashes, Tang et al., 2017); 0 if it has no cell.

    cells: a partition of flat observations, such as `rl.archives.OneHot(size)` or
    `rl.archives.Hashed.random(key, size)`. None: observations are state indices < `num_cells`.
    """

    cells: Cells | None = None
    num_cells: int = static(default=0)

    learns_first = True

    def start(self, key: jax.Array, env: Env, width: int) -> Any:
        """Return the number of visits to each cell. [num_cells]."""
        return jnp.zeros(self.size(env), jnp.float32)

    def size(self, env: Env) -> int:
        """The number of cells.

        Raises:
          TypeError: observations are vectors, and `cells` is None or has other dimensions.
          ValueError: observations are state indices, and `num_cells` is 0 or less than the number
            of states.
        """
        obs, _ = jax.eval_shape(lambda: example(jax.random.key(0), env))
        name = type(env).__name__
        is_number = isinstance(obs, jax.ShapeDtypeStruct) and obs.shape == ()
        if self.cells is None and is_number and jnp.issubdtype(obs.dtype, jnp.integer):
            if not self.num_cells:
                raise ValueError(
                    f"Counts needs the number of states of {name}, as its observations are state "
                    "indices: write num_cells=env.num_states."
                )
            if env.num_states is not None and self.num_cells < env.num_states:
                raise ValueError(
                    f"Counts has num_cells={self.num_cells}, and {name} has {env.num_states} "
                    f"states, so that some would have no count: write num_cells={env.num_states}."
                )
            return self.num_cells
        vector = jax.eval_shape(lambda x: flat(x, 0), obs)
        size = vector.shape[0]
        if self.cells is None:
            raise TypeError(
                f"Counts reads state indices, and an observation of {name} has {size} entries: "
                f"write cells=rl.archives.OneHot({size}) for one-hot vectors, or rl.archives.Grid "
                "or rl.archives.Hashed for others."
            )
        num_dims = self.cells.num_dims
        if num_dims not in (None, size):
            raise TypeError(
                f"The {type(self.cells).__name__} of Counts divides a space of {num_dims} "
                f"dimensions, and an observation of {name} has {size} entries: write cells of "
                f"{size} dimensions."
            )
        return self.cells.num_cells

    def cell(self, batch: Transition) -> jax.Array:
        """The cells of the successors; `NONE` at steps to ignore. int32 [T, B]."""
        obs = visible(batch.next_obs)
        cell = obs if self.cells is None else self.cells(flat(obs, 2))
        counts = is_active(batch) & (cell >= 0)
        return jnp.where(counts, cell.astype(jnp.int32), NONE)

    def bonus(
        self, key: jax.Array, model: jax.Array, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        visits = model.at[self.cell(batch)].get(mode="fill", fill_value=jnp.inf)
        return memory, jax.lax.rsqrt(jnp.maximum(visits, 1.0))

    def learn(
        self, key: jax.Array, model: jax.Array, batch: Transition
    ) -> tuple[jax.Array, Metrics]:
        visits = model.at[self.cell(batch)].add(1.0, mode="drop")
        return visits, {"cells_visited": (visits > 0).sum()}


@pytree
class EpisodicCounts(Counts):
    """1 / sqrt(n), where n is the number of visits to the next observation's cell in the episode,
    including this one. The observation of the reset is not counted; `rl.envs.VisitCounts` counts
    it.
    """

    episodic = True

    def start(self, key: jax.Array, env: Env, width: int) -> tuple[()]:
        return ()

    def start_memory(self, env: Env, width: int) -> jax.Array:
        """Return the number of visits to each cell in each column's episode. [width, num_cells]."""
        return jnp.zeros((width, self.size(env)), jnp.float32)

    def bonus(
        self, key: jax.Array, model: Any, memory: jax.Array, batch: Transition
    ) -> tuple[jax.Array, jax.Array]:
        columns = jnp.arange(memory.shape[0])

        def step(
            visits: jax.Array, now: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            cell, done = now
            visits = visits.at[columns, cell].add(1.0, mode="drop")
            here = visits.at[columns, cell].get(mode="fill", fill_value=jnp.inf)
            return jnp.where(done[:, None], 0.0, visits), jax.lax.rsqrt(here)

        return jax.lax.scan(step, memory, (self.cell(batch), batch.done))

    def learn(self, key: jax.Array, model: Any, batch: Transition) -> tuple[Any, Metrics]:
        return model, {}
