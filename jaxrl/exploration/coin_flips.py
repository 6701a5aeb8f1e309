"""Pseudo-counts by regression on coin flips."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, normalize, tree
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.exploration.bonus import Bonus, example_vector, flat, is_active
from jaxrl.normalize import Running
from jaxrl.replay import Buffer, Replay
from jaxrl.rollout import Transition
from jaxrl.tree import leaf, pytree, static

COINS = "coins"


@pytree
class Visit:
    """A visit in the replay buffer: an observation [D], its coins [size], and `active`, False for
    visits to ignore.
    """

    obs: jax.Array
    coins: jax.Array
    active: jax.Array


@pytree
class Flips:
    """What `CoinFlips` has learned.

    prior: the initial parameters. prior_square: running mean of the squared outputs of the prior.
    """

    params: Any
    prior: Any
    opt_state: optax.OptState
    obs_stats: Running
    prior_square: Running
    visits: Replay


@pytree
class CoinFlips(Bonus):
    """An estimate of 1 / sqrt(n) by a coin flip network (CFN, Lobel et al., 2023), where n is the
    number of visits to the next observation, including this one.

    Each visit is stored with `size` random labels of -1 or 1 (coin flips). A network f learns them
    by least squares from all visits, so that f(s) is the mean label of s, which has the expected
    square 1 / n. The relative standard error of an estimate of 1 / n is about sqrt(2 / size).

    The network with its initial parameters, scaled to a mean square of 1, is the random prior: f
    starts as the prior and remains close to it for an observation unlike any before, so that the
    estimate of n is about 1 or less there.

    lr: of Adam. updates: gradient steps after each rollout, each on `batch_size` visits, drawn
    uniformly, without the paper's prioritisation of rare observations. An estimate falls to 1 / n
    only with about as many gradient steps as visits: with fewer it stays too high. capacity: number
    of stored visits, over all columns.
    """

    lr: float = leaf(5e-4, "[0, inf)")
    size: int = static(default=20)
    updates: int = static(default=64)
    batch_size: int = static(default=512)
    capacity: int = static(default=50_000)
    network: networks.Builder = static(default=networks.MLP((64, 64)))

    learns_first = True

    def __post_init__(self) -> None:
        check_counts(self, "size", "updates", "batch_size", "capacity")

    def start(self, key: jax.Array, env: Env, width: int) -> Flips:
        key_obs, key_params = jax.random.split(key)
        obs = example_vector(key_obs, env, self)
        params = self._network.init(key_params, obs)
        visit = Visit(obs, jnp.zeros(self.size, jnp.float32), jnp.bool_(True))
        return Flips(
            params=params,
            prior=params,
            opt_state=self._optimizer.init(params),
            obs_stats=normalize.init_running(obs),
            prior_square=normalize.init_running(0.0),
            visits=self._buffer.init(visit, num_envs=width),
        )

    def inverse_count(self, model: Flips, obs: Any) -> jax.Array:
        """Estimates of 1 / n of observations [T, B, ...]. [T, B]."""
        return jnp.mean(self._outputs(model, model.params, flat(obs, 2)) ** 2, -1)

    def bonus(
        self, key: jax.Array, model: Flips, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        return memory, jnp.sqrt(self.inverse_count(model, batch.next_obs))

    def learn(self, key: jax.Array, model: Flips, batch: Transition) -> tuple[Flips, Metrics]:
        key_coins, key_sample = jax.random.split(key)
        obs = flat(batch.next_obs, 2)
        coins = jax.random.rademacher(key_coins, (*batch.done.shape, self.size), jnp.float32)
        visits = self._buffer.add(model.visits, Visit(obs, coins, is_active(batch)))
        obs_stats = normalize.update(model.obs_stats, obs, axes=(0, 1))
        prior = self._apply(model.prior, normalize.standardize(obs_stats, obs, 5.0))
        prior_square = normalize.update(model.prior_square, (prior**2).mean(-1), axes=(0, 1))
        model = tree.replace(model, obs_stats=obs_stats, prior_square=prior_square, visits=visits)

        def step(now: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
            params, opt_state = now
            visit = self._buffer.sample(key, visits, self.batch_size).items

            def loss(params: Any) -> jax.Array:
                error = self._outputs(model, params, visit.obs) - visit.coins
                return jnp.mean(error**2 * visit.active[..., None])

            value, grads = jax.value_and_grad(loss)(params)
            changes, opt_state = self._optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), value

        keys = jax.random.split(key_sample, self.updates)
        (params, opt_state), losses = jax.lax.scan(step, (model.params, model.opt_state), keys)
        model = tree.replace(model, params=params, opt_state=opt_state)
        return model, {"bonus_loss": losses.mean()}

    @property
    def _network(self) -> networks.Network:
        return self.network({COINS: self.size})

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.lr)

    @property
    def _buffer(self) -> Buffer:
        return Buffer(self.capacity)

    def _apply(self, params: Any, obs: jax.Array) -> jax.Array:
        """The network's outputs for standardized observations [T, B, D]. [T, B, size]."""
        one = lambda obs: self._network.apply(params, obs)[COINS]
        return jax.vmap(jax.vmap(one))(obs)

    def _outputs(self, model: Flips, params: Any, obs: jax.Array) -> jax.Array:
        """Mean coins of observations [T, B, D], with the scaled prior. [T, B, size]."""
        obs = normalize.standardize(model.obs_stats, obs, 5.0)
        prior = jax.lax.stop_gradient(self._apply(model.prior, obs))
        scale = jax.lax.rsqrt(model.prior_square.mean + 1e-8)
        return self._apply(params, obs) + (scale - 1.0) * prior
