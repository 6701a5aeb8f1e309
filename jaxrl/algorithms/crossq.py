"""CrossQ: no target networks, but critics that normalise over batches."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Actor, Out, Squashed
from jaxrl.algorithms.learner import ADAM, Batch, LearnerState
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.clock import Clock, Metrics
from jaxrl.networks import MLP
from jaxrl.optimizer import Optimizer, OptimizerBuilder
from jaxrl.schedules import Constant, Schedule
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static


def normalized_network(size: int) -> MLP:
    """Two layers with batch normalisation."""
    return MLP((size, size), activation=jax.nn.relu, shared=True, batch_norm=True)


@pytree
class CrossQ(PolicyLearner):
    """A soft actor-critic without target networks (Bhatt et al., 2024, section 4).

    The critics read the actions taken and the next actions as one batch and normalise over both;
    the values of the next actions in that pass are the targets, as constants. The other fields are
    those of `ActorCritic`. Both networks need `batch_norm=True`, and none has a memory.
    """

    actor: Actor = Squashed()
    lr: float = leaf(1e-3, "[0, inf)")
    actor_lr: float | None = leaf(None, "[0, inf) or None")
    temperature_lr: float | None = leaf(None, "[0, inf) or None")
    schedule: Schedule = Constant()
    gamma: float = leaf(0.99, "[0, 1]")
    temperature: float = leaf(1.0, "[0, inf)")
    target_entropy: float = leaf(-1.0, "(-inf, inf)")
    noise_correlation: float | None = leaf(None, "(-1, 1) or None")
    policy_delay: float = leaf(3.0, "[1, inf]")
    max_grad_norm: float = leaf(float("inf"), "(0, inf]")
    optimizer: Optimizer | OptimizerBuilder = ADAM
    num_critics: int = static(default=2)
    network: networks.Builder = static(default=normalized_network(256))
    critic_network: networks.Builder | None = static(default=normalized_network(2048))
    n_step: int = static(default=1)

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        state = super().init(key, space, obs)
        for name in ("actor", "critic"):
            nodes = jax.tree.leaves(state.params[name], is_leaf=batch_norm.is_normed)
            if not any(batch_norm.is_normed(node) for node in nodes):
                raise ValueError(
                    "CrossQ has no target networks: a network that does not normalise over both "
                    f"halves of a batch, as the {name} here, would chase its own values. Write "
                    "network=rl.MLP((256, 256), batch_norm=True), and critic_network likewise."
                )
        return state

    def init_targets(self, params: Any) -> dict[str, Any]:
        return {}

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        key_next, _, _ = jax.random.split(key, 3)
        proposal = self.propose_next(key_next, space, state.params["actor"], batch)
        both = tree.replace(
            batch,
            obs=_joined(batch.obs, batch.next_obs),
            is_first=_joined(batch.is_first, batch.is_first),
        )
        num = len(batch.reward)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Out, None]]:
            heads = critics.q_values(
                self._critic(space),
                batch_norm.train(params),
                both,
                _joined(batch.action, proposal.action),
            )
            next_value = jax.lax.stop_gradient(heads["q"][:, num:])
            heads = jax.tree.map(lambda x: x[:, :num], heads)
            target = batch.reward + batch.discount * self.soft_value(
                state.params, proposal, next_value.min(0)
            )
            value = self.actor.select(heads["q"], batch.action)
            loss, error = critics.squared_error(value, target)
            loss = jnp.mean(batch.weight[None] * loss, axis=(1, 2)).sum()
            return loss, (error, heads, None)

        state, error, metrics, _ = self.fit_critics(state, batch, proposal, loss_of, clock)
        return state, error, metrics


def _joined(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda *x: jnp.concatenate(x), first, second)
