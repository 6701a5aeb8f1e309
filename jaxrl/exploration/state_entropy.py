"""Bonuses for the entropy of visited states, estimated by distances to nearest neighbours."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import packing
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.exploration.bonus import Bonus, example_vector, flat
from jaxrl.exploration.prediction import ICM, Predictor, read
from jaxrl.replay import Buffer, Replay
from jaxrl.rollout import Transition
from jaxrl.rules.base import check_field
from jaxrl.tree import pytree, static


@pytree
class Particles:
    """What the encoder has learned, and the recent observations, the candidate neighbours."""

    encoder: Predictor
    recent: Replay


@pytree
class StateEntropy(Bonus):
    """log(1 + d), where d is the mean distance, in feature space, of the next observation to its
    `num_neighbors` nearest neighbours (APT, Liu and Abbeel, 2021, equation 5): a particle estimate
    of the entropy of the visited states.

    The neighbours are among the last `capacity` next observations of all columns, this one
    included. encoder: computes the features, trained by inverse dynamics (in APT, contrastively);
    with `ICM(lr=0.0)` it is a random network, as in RE3 (Seo et al., 2021).
    """

    encoder: ICM = ICM()
    num_neighbors: int = static(default=12)
    capacity: int = static(default=1024)

    learns_first = True

    def __post_init__(self) -> None:
        check_counts(self, "num_neighbors", "capacity")
        check_field(self, "encoder", ICM, "rl.exploration.ICM()")
        if self.num_neighbors > self.capacity:
            raise ValueError(
                f"num_neighbors={self.num_neighbors} can't be found among capacity={self.capacity} "
                f"observations: write capacity={100 * self.num_neighbors}."
            )

    def start(self, key: jax.Array, env: Env, width: int) -> Particles:
        key_obs, key_encoder = jax.random.split(key)
        recent = self._buffer.init(example_vector(key_obs, env, self), num_envs=width)
        return Particles(self.encoder.start(key_encoder, env, width), recent)

    def learn(
        self, key: jax.Array, model: Particles, batch: Transition
    ) -> tuple[Particles, Metrics]:
        encoder, metrics = self.encoder.learn(key, model.encoder, batch)
        rows = self.capacity // batch.done.shape[1]
        recent = self._buffer.add(model.recent, flat(batch.next_obs, 2)[-rows:])
        return Particles(encoder, recent), metrics

    def bonus(
        self, key: jax.Array, model: Particles, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        each = lambda function: jax.vmap(jax.vmap(function))
        features = each(lambda obs: self.encoder.features(model.encoder.params, obs))
        here = features(read(model.encoder, batch.next_obs))
        others = features(read(model.encoder, packing.unpacked(model.recent.data)))
        rows, width = others.shape[:2]
        filled = jnp.repeat(jnp.arange(rows) < model.recent.filled, width)
        others = others.reshape(-1, self.encoder.size)
        distance = each(lambda x: mean_distance(x, others, filled, self.num_neighbors))(here)
        return memory, jnp.log1p(distance)

    @property
    def _buffer(self) -> Buffer:
        return Buffer(self.capacity)


def mean_distance(
    feature: jax.Array, others: jax.Array, valid: jax.Array, num_neighbors: int
) -> jax.Array:
    """The mean distance of a feature [d] to the nearest `num_neighbors` of others [P, d]. [].

    valid: False for others to ignore, bool [P]. If fewer than `num_neighbors` are valid, all of
    these are used.
    """
    squares = (feature**2).sum() + (others**2).sum(-1) - 2.0 * others @ feature
    distance = jnp.where(valid, jnp.sqrt(jnp.maximum(squares, 0.0)), jnp.inf)
    nearest = -jax.lax.top_k(-distance, min(num_neighbors, len(distance)))[0]
    found = jnp.isfinite(nearest)
    return jnp.where(found, nearest, 0.0).sum() / jnp.maximum(found.sum(), 1)
