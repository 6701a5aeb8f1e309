"""MaxInfoRL: a soft actor-critic with a bonus for information about the dynamics."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import networks, normalize, tree
from jaxrl.algorithms.actor_critic import ActorCritic
from jaxrl.algorithms.actors import Out, Proposal
from jaxrl.algorithms.learner import Batch, LearnerState, apply_network
from jaxrl.algorithms.policy_learner import NETWORK, unit_action
from jaxrl.clock import Clock, Metrics
from jaxrl.masks import visible
from jaxrl.normalize import Running
from jaxrl.optimizer import polyak_update
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static

CHANGE = "change"


@pytree
class ModelStatistics:
    """Statistics of the models' inputs [D + d] and targets [D], and of the information gain []."""

    inputs: Running
    changes: Running
    gain: Running


@pytree
class MaxInfo(ActorCritic):
    """A soft actor-critic with a bonus for the information gain of an action about the dynamics,
    beside the entropy bonus, and a learned temperature for it (MaxInfoRL, Sukhija et al., 2025).

    An ensemble of models predicts the change of the observation. The gain is the mean over
    dimensions of log(1 + variance / noise^2), with the variance of the predictions over the
    ensemble; it is then standardized. Values include it as they include the entropy. Its
    temperature falls if the gain of the policy exceeds that of the slow actor (the target actor, a
    polyak average of the actor), and rises if it is lower.

    info_temperature, info_temperature_lr: as `temperature` and `temperature_lr`. model_lr: the
      models' learning rate; None is `lr`. noise: the standard deviation of the noise in a
      standardized change of the observation. slow_tau: of the slow actor.
    num_models, model_network: of the ensemble. The other fields are those of `ActorCritic`.
    """

    info_temperature: float = leaf(1.0, "[0, inf)")
    info_temperature_lr: float | None = leaf(None, "[0, inf) or None")
    model_lr: float | None = leaf(None, "[0, inf) or None")
    noise: float = leaf(1e-3, "(0, inf)")
    slow_tau: float = leaf(0.005, "[0, 1]")
    num_models: int = static(default=5)
    model_network: networks.Builder = static(default=NETWORK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.actor.reads_action:
            raise TypeError(
                f"The models of MaxInfo read real actions, and a {type(self.actor).__name__} actor "
                "has none: use rl.sac (its actor), or rl.exploration.Disagreement around rl.dqn()."
            )
        if self.n_step != 1:
            raise ValueError(
                "The models of MaxInfo predict the observation of the next step, and with "
                f"n_step={self.n_step} a batch has a later one: write n_step=1."
            )

    # ------------------------------------------------------------------------------------- parts

    def init_params(self, key: jax.Array, space: Space, obs: Any) -> dict[str, Any]:
        key_policy, key_models = jax.random.split(key)
        inputs = _join(obs, unit_action(space))
        init = self._models(obs).init
        return super().init_params(key_policy, space, obs) | {
            "models": jax.vmap(lambda key: init(key, inputs))(
                jax.random.split(key_models, self.num_models)
            ),
            "log_info_temperature": jnp.log(jnp.asarray(self.info_temperature, jnp.float32)),
        }

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        state = super().init(key, space, obs)
        statistics = ModelStatistics(
            inputs=normalize.init_running(_join(obs, unit_action(space))),
            changes=normalize.init_running(_vector(obs)),
            gain=normalize.init_running(0.0),
        )
        slow = jax.tree.map(jnp.copy, state.params["actor"])
        added = {"slow_actor": slow, "models": statistics}
        return tree.replace(state, target_params=state.target_params | added)

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        old, new = state.target_params["slow_actor"], state.params["actor"]
        slow = polyak_update(old, new, step, self.slow_tau, 1.0)
        return super().update_targets(state, step) | {"slow_actor": slow}

    @property
    def _learning_rates(self) -> dict[str, Any]:
        return super()._learning_rates | {
            "models": self.lr if self.model_lr is None else self.model_lr,
            "log_info_temperature": (
                self.lr if self.info_temperature_lr is None else self.info_temperature_lr
            ),
        }

    def _models(self, obs: Any) -> networks.Network:
        return self.model_network({CHANGE: _vector(obs).size})

    # ----------------------------------------------------------------------------- information gain

    def predictions(
        self, params: Any, statistics: ModelStatistics, obs: Any, action: jax.Array
    ) -> jax.Array:
        """Each model's standardized change of an observation, by an action on the scale of -1 to 1.
        [num_models, D].
        """
        inputs = normalize.standardize(statistics.inputs, _join(obs, action))
        apply = self._models(obs).apply
        return jax.vmap(lambda params: apply(params, inputs)[CHANGE])(params)

    def raw_gain(
        self, params: Any, statistics: ModelStatistics, obs: Any, action: jax.Array
    ) -> jax.Array:
        """The information gain of an action, before it is standardized. []."""
        variance = self.predictions(params, statistics, obs, action).var(0)
        return jnp.log1p(variance / jnp.square(self.noise)).mean()

    def gain(self, state: LearnerState, obs: Any, proposal: Proposal) -> jax.Array:
        """The standardized information gain of proposed actions at observations [B, T]. [B, T]."""
        statistics = state.target_params["models"]

        def one(obs: Any, action: jax.Array) -> jax.Array:
            raw = self.raw_gain(state.params["models"], statistics, obs, action)
            return normalize.standardize(statistics.gain, raw)

        return jax.vmap(jax.vmap(one))(visible(obs), proposal.action)

    # ---------------------------------------------------------------------------------- learning

    def apply_critics(
        self,
        key: jax.Array,
        space: Space,
        state: LearnerState,
        params: Any,
        batch: Batch,
        proposal: Proposal,
    ) -> tuple[Out, Out]:
        out, next_out = super().apply_critics(key, space, state, params, batch, proposal)
        obs = jax.vmap(lambda obs, i: jax.tree.map(lambda x: x[i], obs))(
            batch.next_obs, batch.bootstrap_index
        )
        bonus = jnp.exp(state.params["log_info_temperature"]) * self.gain(state, obs, proposal)
        return out, next_out | {"q": next_out["q"] + bonus[None, ..., None]}

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        value = super().policy_gain(space, state, batch, out, proposal)
        temperature = jnp.exp(state.params["log_info_temperature"])
        return value + temperature * self.gain(state, batch.obs, proposal)

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """Return the state after a step of the models and one of the critics."""
        state, metrics = self.model_step(state, batch, clock)
        state, error, losses = super().critic_step(key, space, state, batch, clock)
        temperature = jnp.exp(state.params["log_info_temperature"])
        return state, error, losses | metrics | {"info_temperature": temperature}

    def model_step(
        self, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, Metrics]:
        """Return the state after a gradient step of the models, and metrics."""
        each = lambda function: jax.vmap(jax.vmap(function))
        obs, next_obs = visible(batch.obs), visible(batch.next_obs)
        change = each(_vector)(next_obs) - each(_vector)(obs)
        old: ModelStatistics = state.target_params["models"]
        statistics = tree.replace(
            old,
            inputs=normalize.update(old.inputs, each(_join)(obs, batch.action), axes=(0, 1)),
            changes=normalize.update(old.changes, change, axes=(0, 1)),
        )
        target = normalize.standardize(statistics.changes, change)

        def loss_of(params: Any) -> jax.Array:
            one = lambda obs, action: self.predictions(params, statistics, obs, action)
            found = each(one)(obs, batch.action)
            error = ((found - target[:, :, None]) ** 2).mean((2, 3))
            return jnp.mean(batch.weight * error)

        loss, grads = jax.value_and_grad(loss_of)(state.params["models"])
        state, _ = self._part_step(state, "models", grads, clock)
        raw = each(lambda *row: self.raw_gain(state.params["models"], statistics, *row))(
            obs, batch.action
        )
        statistics = tree.replace(
            statistics, gain=normalize.update(statistics.gain, raw, axes=(0, 1))
        )
        targets = state.target_params | {"models": statistics}
        state = tree.replace(state, target_params=targets)
        return state, {"model_loss": loss, "information_gain": raw.mean()}

    def policy_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> LearnerState:
        """Return the state after a step of the policy and one of each temperature."""
        key_policy, key_gain, key_slow = jax.random.split(key, 3)

        def gain_of(key: jax.Array, actor: Any) -> jax.Array:
            proposal = self.actor.propose(key, apply_network(self._actor(space), actor, batch))
            return self.gain(state, batch.obs, proposal).mean()

        excess = gain_of(key_gain, state.params["actor"])
        excess -= gain_of(key_slow, state.target_params["slow_actor"])
        grad = jnp.exp(state.params["log_info_temperature"]) * excess
        state = super().policy_step(key_policy, space, state, batch, clock)
        return self._part_step(state, "log_info_temperature", grad, clock)[0]


def _vector(obs: Any) -> jax.Array:
    """An observation as a vector of floats, without its mask. [D]."""
    leaves = jax.tree.leaves(visible(obs))
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in leaves])


def _join(obs: Any, action: jax.Array) -> jax.Array:
    """An observation and an action as a vector. [D + d]."""
    return jnp.concatenate([_vector(obs), jnp.ravel(action)])
