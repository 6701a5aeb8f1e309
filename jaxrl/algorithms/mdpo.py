"""Mirror descent policy optimisation, off-policy."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import networks
from jaxrl.algorithms.actors import Out, Proposal
from jaxrl.algorithms.learner import Batch, LearnerState, apply_network
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.optimizer import polyak_update
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static


@pytree
class MDPO(PolicyLearner):
    """A soft actor-critic with a KL penalty between the policy and an old one.

    Tomar et al. (2020), section 4.2. The penalty is KL(new || old) / `step_size`, where old is the
    policy of up to `actor_target_period` gradient steps ago. At a step_size of 1 / temperature it
    cancels with the entropy bonus, and MDPO is SAC. tau, target_period: of the critics' target
    networks. memory, burn_in, sequence: as in `ActorCritic`. The other fields are those of
    `PolicyLearner`.
    """

    step_size: float = leaf(1.0, "(0, inf)")
    actor_target_period: float = leaf(1000.0, "[1, inf]")
    tau: float = leaf(0.005, "[0, 1]")
    target_period: float = leaf(1.0, "[1, inf]")
    temperature_lr: float | None = leaf(0.0, "[0, inf) or None")
    temperature: float = leaf(0.2, "[0, inf)")
    memory: networks.Memory | None = static(default=None)
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

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        gain = super().policy_gain(space, state, batch, out, proposal)
        old = apply_network(self._actor(space), state.target_params["actor"], batch)
        weight = 1.0 / self.step_size - jnp.exp(state.params["log_temperature"])
        return gain - weight * self.actor.policy(out).kl(self.actor.policy(old))
