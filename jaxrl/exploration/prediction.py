"""Bonuses by prediction errors: RND, ICM and the disagreement of an ensemble."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, normalize
from jaxrl.clock import Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.exploration.bonus import Bonus, example_vector, flat, is_active
from jaxrl.normalize import Running
from jaxrl.rollout import Transition
from jaxrl.spaces import Discrete, MultiDiscrete, Space
from jaxrl.tree import leaf, pytree, static

OUT = "out"


@pytree
class Predictor:
    """Trained parameters, fixed parameters, the optimiser's state, and statistics of
    observations.
    """

    params: Any
    fixed: Any
    opt_state: optax.OptState
    obs_stats: Running


@pytree
class Prediction(Bonus):
    """Base class of bonuses with networks that are trained by gradient steps on each rollout.

    lr: of Adam. share: the expected fraction of a rollout's steps that is used for training.
    epochs: passes over the rollout. size: of the outputs.
    """

    lr: float = leaf(3e-4, "[0, inf)")
    share: float = leaf(1.0, "(0, 1]")
    epochs: int = static(default=1)
    size: int = static(default=64)
    network: networks.Builder = static(default=networks.MLP((64, 64)))

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        """Trained parameters, and fixed ones. obs: an observation [D]."""
        raise not_defined(self, Prediction.params)

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The loss and the bonus of one step: observations [D], action [A]. [], []."""
        raise not_defined(self, Prediction.errors)

    def start(self, key: jax.Array, env: Env, width: int) -> Predictor:
        key_obs, key_params = jax.random.split(key)
        obs = example_vector(key_obs, env, self)
        params, fixed = self.params(key_params, obs, env.action_space)
        return Predictor(params, fixed, self._optimizer().init(params), normalize.init_running(obs))

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.lr)

    def _each(self, model: Predictor, params: Any, batch: Transition) -> tuple[Any, Any]:
        one = lambda *row: self.errors(params, model.fixed, *row)
        rows = read(model, batch.obs), batch.action, read(model, batch.next_obs)
        return jax.vmap(jax.vmap(one))(*rows)

    def bonus(
        self, key: jax.Array, model: Predictor, memory: Any, batch: Transition
    ) -> tuple[Any, jax.Array]:
        return memory, self._each(model, model.params, batch)[1]

    def learn(
        self, key: jax.Array, model: Predictor, batch: Transition
    ) -> tuple[Predictor, Metrics]:
        stats = normalize.update(model.obs_stats, flat(batch.next_obs, 2), axes=(0, 1))

        def step(now: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
            params, opt_state = now
            chosen = jax.random.bernoulli(key, self.share, batch.done.shape) & is_active(batch)

            def loss(params: Any) -> jax.Array:
                each = self._each(model, params, batch)[0]
                return jnp.sum(each * chosen) / jnp.maximum(chosen.sum(), 1)

            value, grads = jax.value_and_grad(loss)(params)
            changes, opt_state = self._optimizer().update(grads, opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), value

        keys = jax.random.split(key, self.epochs)
        (params, opt_state), losses = jax.lax.scan(step, (model.params, model.opt_state), keys)
        return Predictor(params, model.fixed, opt_state, stats), {"bonus_loss": losses.mean()}


def read(model: Predictor, obs: Any) -> jax.Array:
    """Observations [T, B, ...] as networks read them: standardized and clipped to 5. [T, B, D]."""
    return normalize.standardize(model.obs_stats, flat(obs, 2), 5.0)


@pytree
class RND(Prediction):
    """Random network distillation (Burda et al., 2019): the mean squared error of a prediction of
    a fixed random network's output for the next observation.
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
    """Intrinsic curiosity module (ICM, Pathak et al., 2017): the squared error of a forward model's
    prediction of the features of the next observation, learned by an inverse dynamics model, which
    predicts the action.

    forward_weight: of the forward model's loss; the inverse model's loss has 1 - forward_weight.
    """

    forward_weight: float = leaf(0.2, "[0, 1]")

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        key_action, key_features, key_inverse, key_forward = jax.random.split(key, 4)
        codes = action_codes(space)
        action = encode(codes, space.sample(key_action))
        feature = jnp.zeros(self.size)
        params = {
            "features": self._of(self.size).init(key_features, obs),
            "inverse": self._of(action.size).init(key_inverse, jnp.concatenate([feature, feature])),
            "forward": self._of(self.size).init(key_forward, jnp.concatenate([feature, action])),
        }
        return params, codes

    def features(self, params: Any, obs: jax.Array) -> jax.Array:
        """The features of an observation [D], as networks read it. [size]."""
        return self._of(self.size).apply(params["features"], obs)[OUT]

    def _of(self, size: int) -> networks.Network:
        return self.network({OUT: size})

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        code = encode(fixed, action)
        feature, following = (self.features(params, x) for x in (obs, next_obs))
        both = jnp.concatenate([feature, following])
        guess = self._of(code.size).apply(params["inverse"], both)[OUT]
        inverse_loss = action_loss(fixed, guess, code)
        feature, following = jax.lax.stop_gradient((feature, following))
        inputs = jnp.concatenate([feature, code])
        found = self._of(self.size).apply(params["forward"], inputs)[OUT]
        error = jnp.mean((found - following) ** 2) / 2.0
        return self.forward_weight * error + (1.0 - self.forward_weight) * inverse_loss, error


@pytree
class Disagreement(Prediction):
    """The variance of an ensemble's predictions of the successor (Pathak et al., 2019).

    members: of the ensemble. They learn from the same steps, and differ in their initial
    parameters. `size` is not used: a prediction has the size of an observation.
    """

    members: int = static(default=5)

    def params(self, key: jax.Array, obs: jax.Array, space: Space) -> tuple[Any, Any]:
        key_action, key_members = jax.random.split(key)
        codes = action_codes(space)
        inputs = jnp.concatenate([obs, encode(codes, space.sample(key_action))])
        network = self.network({OUT: obs.size})
        keys = jax.random.split(key_members, self.members)
        return jax.vmap(lambda key: network.init(key, inputs))(keys), codes

    def errors(
        self, params: Any, fixed: Any, obs: jax.Array, action: jax.Array, next_obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        network = self.network({OUT: obs.size})
        inputs = jnp.concatenate([obs, encode(fixed, action)])
        change = next_obs - obs
        guesses = jax.vmap(lambda one: network.apply(one, inputs)[OUT])(params)
        return jnp.mean((guesses - change[None]) ** 2), guesses.var(0).mean()


def action_codes(space: Space) -> tuple[jax.Array, ...]:
    """One-hot codes of the actions of each part of a space; () for a box."""
    if isinstance(space, Discrete):
        return (jnp.eye(space.n, dtype=jnp.float32),)
    if isinstance(space, MultiDiscrete):
        return tuple(jnp.eye(size, dtype=jnp.float32) for size in space.sizes)
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
