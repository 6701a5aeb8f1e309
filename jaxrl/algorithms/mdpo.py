"""Mirror descent policy optimisation, off-policy."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Actor, Out, Proposal, Squashed
from jaxrl.algorithms.learner import ADAM, Batch, LearnerState, apply_network
from jaxrl.algorithms.policy_learner import NETWORK, PolicyLearner
from jaxrl.clock import Clock, Metrics
from jaxrl.optimizer import Optimizer, OptimizerBuilder, polyak_update
from jaxrl.schedules import Constant, Schedule
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static


@pytree
class MDPO(PolicyLearner):
    """A soft actor-critic with a KL penalty between the policy and an old one.

    Tomar et al. (2020), section 4.2. The penalty is KL(new || old) / `step_size`, where old is the
    policy of up to `actor_target_period` gradient steps ago. At a step_size of 1 / temperature it
    cancels with the entropy bonus, and MDPO is SAC. tau, target_period: of the critics' target
    networks. The other fields are those of `ActorCritic`.
    """

    actor: Actor = Squashed()
    step_size: float = leaf(1.0, "(0, inf)")
    actor_target_period: float = leaf(1000.0, "[1, inf]")
    tau: float = leaf(0.005, "[0, 1]")
    target_period: float = leaf(1.0, "[1, inf]")
    lr: float = leaf(3e-4, "[0, inf)")
    actor_lr: float | None = leaf(None, "[0, inf) or None")
    temperature_lr: float | None = leaf(0.0, "[0, inf) or None")
    schedule: Schedule = Constant()
    gamma: float = leaf(0.99, "[0, 1]")
    temperature: float = leaf(0.2, "[0, inf)")
    target_entropy: float = leaf(-1.0, "(-inf, inf)")
    noise_correlation: float | None = leaf(None, "(-1, 1) or None")
    policy_delay: float = leaf(1.0, "[1, inf]")
    max_grad_norm: float = leaf(float("inf"), "(0, inf]")
    optimizer: Optimizer | OptimizerBuilder = ADAM
    num_critics: int = static(default=2)
    network: networks.Builder = static(default=NETWORK)
    critic_network: networks.Builder | None = static(default=None)
    memory: networks.Memory | None = static(default=None)
    n_step: int = static(default=1)
    burn_in: int = static(default=8)
    sequence: int = static(default=16)

    def init_targets(self, params: Any) -> dict[str, Any]:
        """The critics' averages "critic", and the old policy "actor"."""
        return jax.tree.map(jnp.copy, {name: params[name] for name in ("actor", "critic")})

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        old, new = state.target_params, state.params
        return {
            "actor": polyak_update(old["actor"], new["actor"], step, 1.0, self.actor_target_period),
            "critic": polyak_update(
                old["critic"], new["critic"], step, self.tau, self.target_period
            ),
        }

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        key_next, _, _ = jax.random.split(key, 3)
        critic = self._critic(space)
        proposal = self.propose_next(key_next, space, state.params["actor"], batch)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Out, None]]:
            heads = critics.q_values(critic, batch_norm.train(params), batch, batch.action)
            next_value = critics.q_values(
                critic, state.target_params["critic"], batch, proposal.action, at_next=True
            )["q"]
            target = batch.reward + batch.discount * self.soft_value(
                state.params, proposal, next_value.min(0)
            )
            value = self.actor.select(heads["q"], batch.action)
            loss, error = critics.squared_error(value, target)
            loss = jnp.mean(batch.weight[None] * loss, axis=(1, 2)).sum()
            return loss, (error, heads, None)

        state, error, metrics, _ = self.fit_critics(state, batch, proposal, loss_of, clock)
        return state, error, metrics

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        gain = super().policy_gain(space, state, batch, out, proposal)
        old = apply_network(self._actor(space), state.target_params["actor"], batch)
        weight = 1.0 / self.step_size - jnp.exp(state.params["log_temperature"])
        return gain - weight * self.actor.policy(out).kl(self.actor.policy(old))
