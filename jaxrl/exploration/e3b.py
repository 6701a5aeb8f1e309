"""The elliptical episodic bonus: the novelty of a state within its episode."""

import jax
import jax.numpy as jnp

from jaxrl.env import Env
from jaxrl.exploration.prediction import ICM, Predictor, read
from jaxrl.rollout import Transition
from jaxrl.tree import leaf, pytree


@pytree
class E3B(ICM):
    """Elliptical episodic bonus (E3B, Henaff et al., 2022): f^T C^-1 f, where f are features of
    the next observation, learned by inverse dynamics, and C = ridge * I + the sum of f f^T over
    the earlier steps of the episode.

    The memory is C^-1, [B, size, size]. It is not recomputed when the features are updated between
    rollouts.
    """

    ridge: float = leaf(0.1, "(0, inf)")

    episodic = True

    def start_memory(self, env: Env, width: int) -> jax.Array:
        return jnp.broadcast_to(_start(self.size, self.ridge), (width, self.size, self.size))

    def bonus(
        self, key: jax.Array, model: Predictor, memory: jax.Array, batch: Transition
    ) -> tuple[jax.Array, jax.Array]:
        along = lambda obs: self.features(model.params, obs)
        found = jax.vmap(jax.vmap(along))(read(model, batch.next_obs))
        return elliptical(memory, found, batch.done, self.ridge)


def elliptical(
    inverse: jax.Array, features: jax.Array, done: jax.Array, ridge: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """C^-1 [B, d, d] after features [T, B, d], and their bonuses [T, B].

    inverse: C^-1 before them. C is reset after each `done` [T, B].
    """
    start = _start(features.shape[-1], ridge)

    def step(inverse: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        feature, done = now
        solved = jnp.einsum("bij,bj->bi", inverse, feature)
        bonus = jnp.einsum("bi,bi->b", feature, solved)
        outer = solved[:, :, None] * solved[:, None] / (1.0 + bonus)[:, None, None]
        return jnp.where(done[:, None, None], start, inverse - outer), bonus

    return jax.lax.scan(step, inverse, (features, done))


def _start(size: int, ridge: jax.Array | float) -> jax.Array:
    """C^-1 at the start of an episode. [size, size]."""
    return jnp.eye(size, dtype=jnp.float32) / ridge
