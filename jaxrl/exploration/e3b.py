"""Episodic bonuses: how new a state is within its episode."""

import jax
import jax.numpy as jnp

from jaxrl.exploration.prediction import ICM, OUT, Predictor
from jaxrl.rollout import Transition
from jaxrl.tree import leaf, pytree


@pytree
class E3B(ICM):
    """Elliptical episodic bonus (Henaff et al., 2022): f' C^-1 f, with f the features of the
    successor, which an inverse model learns, and C = ridge * I + the sum of f f' over the episode.

    C^-1 begins anew with each episode, and with each batch: in longer episodes, a bonus is about
    the steps of the batch. Its size is [B, size, size].
    """

    ridge: float = leaf(0.1, "(0, inf)")

    def bonus(self, key: jax.Array, model: Predictor, batch: Transition) -> jax.Array:
        _, _, next_obs = self._rows(model, batch)
        features, _, _ = self._networks(1)
        along = lambda obs: features.apply(model.params[0], obs)[OUT]
        found = jax.vmap(jax.vmap(along))(next_obs)
        return elliptical(found, batch.done, self.ridge)


def elliptical(features: jax.Array, done: jax.Array, ridge: jax.Array | float) -> jax.Array:
    """The bonuses of features [T, B, d], where C starts anew after each `done` [T, B]. [T, B]."""
    start = jnp.eye(features.shape[-1]) / ridge

    def step(inverse: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        feature, done = now
        solved = jnp.einsum("bij,bj->bi", inverse, feature)
        bonus = jnp.einsum("bi,bi->b", feature, solved)
        outer = solved[:, :, None] * solved[:, None] / (1.0 + bonus)[:, None, None]
        return jnp.where(done[:, None, None], start, inverse - outer), bonus

    first = jnp.broadcast_to(start, (features.shape[1], *start.shape))
    return jax.lax.scan(step, first, (features, done))[1]
