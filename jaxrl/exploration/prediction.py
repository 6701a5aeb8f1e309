"""Bonuses by errors of prediction: RND, ICM and the disagreement of an ensemble."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, normalize
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.exploration.bonus import Bonus, example, flat
from jaxrl.normalize import Running
from jaxrl.rollout import Transition
from jaxrl.spaces import Discrete, MultiDiscrete, Space
from jaxrl.tree import leaf, pytree, static

OUT = "out"


@pytree
class Predictor:
    """Parameters that learn, those that do not, the optimiser's state, and statistics of
    observations.
    """

    params: Any
    fixed: Any
    opt_state: optax.OptState
    obs_stats: Running


@pytree
class Prediction(Bonus):
    """Base class of bonuses with networks that learn by gradient steps on each rollout.

    lr: of Adam. share: the expected share of a rollout's steps that is learned from. epochs: passes
    over the rollout. size: of the outputs.
    """

    lr: float = leaf(3e-4, "[0, inf)")
    share: float = leaf(1.0, "(0, 1]")
    epochs: int = static(default=1)
    size: int = static(default=64)
    network: networks.Builder = static(default=networks.MLP((64, 64)))

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        """Parameters that learn, and those that do not. obs: an observation [D]."""
        raise not_defined(self, Prediction.params)

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The loss and the bonus of one step: observations [D], action [A]. [], []."""
        raise not_defined(self, Prediction.errors)

    def start(self, key: jax.Array, env: Env, width: int) -> Predictor:
        obs, _ = example(key, env)
        obs = flat(obs, 0)
        params, fixed = self.params(key, obs, env.action_space)
        return Predictor(params, fixed, self._optimizer().init(params), normalize.init_running(obs))

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.lr)

    def _rows(self, model: Predictor, batch: Transition) -> tuple[jax.Array, ...]:
        read = lambda obs: normalize.standardize(model.obs_stats, flat(obs, 2), 5.0)
        return read(batch.obs), batch.action, read(batch.next_obs)

    def _each(self, model: Predictor, params: Any, batch: Transition) -> tuple[Any, Any]:
        one = lambda *row: self.errors(params, model.fixed, *row)
        return jax.vmap(jax.vmap(one))(*self._rows(model, batch))

    def bonus(self, key: jax.Array, model: Predictor, batch: Transition) -> jax.Array:
        return self._each(model, model.params, batch)[1]

    def learn(
        self, key: jax.Array, model: Predictor, batch: Transition
    ) -> tuple[Predictor, Metrics]:
        stats = normalize.update(model.obs_stats, flat(batch.next_obs, 2), axes=(0, 1))

        def step(now: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
            params, opt_state = now
            chosen = jax.random.bernoulli(key, self.share, batch.done.shape)

            def loss(params: Any) -> jax.Array:
                each = self._each(model, params, batch)[0]
                return jnp.sum(each * chosen) / jnp.maximum(chosen.sum(), 1)

            value, grads = jax.value_and_grad(loss)(params)
            changes, opt_state = self._optimizer().update(grads, opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), value

        keys = jax.random.split(key, self.epochs)
        (params, opt_state), losses = jax.lax.scan(step, (model.params, model.opt_state), keys)
        return Predictor(params, model.fixed, opt_state, stats), {"bonus_loss": losses.mean()}


@pytree
class RND(Prediction):
    """Random network distillation (Burda et al., 2019): the squared error of a prediction of a
    random network's output for the successor.
    """

    target: networks.Builder = static(default=networks.MLP((64,)))

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        key_target, key_predictor = jax.random.split(key)
        heads = {OUT: self.size}
        return self.network(heads).init(key_predictor, obs), self.target(heads).init(
            key_target, obs
        )

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        heads = {OUT: self.size}
        target = jax.lax.stop_gradient(self.target(heads).apply(fixed, next_obs)[OUT])
        error = jnp.mean((self.network(heads).apply(params, next_obs)[OUT] - target) ** 2)
        return error, error


@pytree
class ICM(Prediction):
    """Intrinsic curiosity (Pathak et al., 2017): the squared error of a prediction of the
    successor's features, which an inverse model of the action learns.

    forward_weight: of the forward model's loss; the inverse model's has 1 - forward_weight.
    """

    forward_weight: float = leaf(0.2, "[0, 1]")

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        keys = jax.random.split(key, 3)
        codes = action_codes(space)
        action = encode(codes, space.sample(key))
        feature = jnp.zeros(self.size)
        nets = self._networks(action.size)
        inputs = (obs, jnp.concatenate([feature, feature]), jnp.concatenate([feature, action]))
        params = [net.init(key, x) for net, key, x in zip(nets, keys, inputs, strict=True)]
        return tuple(params), codes

    def _networks(self, num_actions: int) -> list[networks.Network]:
        """The networks of features, of the inverse model, and of the forward model."""
        return [self.network({OUT: size}) for size in (self.size, num_actions, self.size)]

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        code = encode(fixed, action)
        features, inverse, forward = self._networks(code.size)
        of_features, of_inverse, of_forward = params
        now, following = (features.apply(of_features, x)[OUT] for x in (obs, next_obs))
        guess = inverse.apply(of_inverse, jnp.concatenate([now, following]))[OUT]
        target = jax.lax.stop_gradient(following)
        inputs = jnp.concatenate([jax.lax.stop_gradient(now), code])
        error = jnp.mean((forward.apply(of_forward, inputs)[OUT] - target) ** 2) / 2.0
        inverse_loss = action_loss(fixed, guess, code)
        return self.forward_weight * error + (1.0 - self.forward_weight) * inverse_loss, error


@pytree
class Disagreement(Prediction):
    """The variance of an ensemble's predictions of the successor (Pathak et al., 2019).

    members: of the ensemble. Each has a network of its own; they learn from the same steps, each
    with a random half of the weight.
    """

    members: int = static(default=5)

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        codes = action_codes(space)
        inputs = jnp.concatenate([obs, encode(codes, space.sample(key))])
        network = self.network({OUT: obs.size})
        return jax.vmap(lambda key: network.init(key, inputs))(
            jax.random.split(key, self.members)
        ), codes

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        network = self.network({OUT: obs.size})
        inputs = jnp.concatenate([obs, encode(fixed, action)])
        change = next_obs - obs
        guesses = jax.vmap(lambda one: network.apply(one, inputs)[OUT])(params)
        return jnp.mean((guesses - change) ** 2), guesses.var(0).mean()


def action_codes(space: Space) -> tuple[jax.Array, ...]:
    """One-hot codes of the actions of each part of a space; () for a box."""
    if isinstance(space, Discrete):
        return (jnp.eye(space.n),)
    if isinstance(space, MultiDiscrete):
        return tuple(jnp.eye(size) for size in space.sizes)
    return ()


def encode(codes: tuple[jax.Array, ...], action: jax.Array) -> jax.Array:
    """An action as a vector of floats. [A]."""
    if not codes:
        return jnp.ravel(action).astype(jnp.float32)
    parts = jnp.atleast_1d(action)
    return jnp.concatenate([code[parts[i]] for i, code in enumerate(codes)])


def action_loss(codes: tuple[jax.Array, ...], guess: jax.Array, code: jax.Array) -> jax.Array:
    """The cross-entropy of the logits of an action, or the squared error of a continuous one. []"""
    if not codes:
        return jnp.mean((guess - code) ** 2)
    edges = [0]
    for part in codes:
        edges.append(edges[-1] + part.shape[0])
    losses = [
        optax.softmax_cross_entropy(guess[a:b], code[a:b]) for a, b in itertools.pairwise(edges)
    ]
    return jnp.stack(losses).mean()
