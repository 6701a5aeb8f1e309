"""CrossQ: no target networks, but critics that normalise over batches."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Out, Proposal
from jaxrl.algorithms.learner import Batch, LearnerState
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.networks import MLP
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
    those of `PolicyLearner`. Both networks need `batch_norm=True`, and none has a memory.
    """

    lr: float = leaf(1e-3, "[0, inf)")
    policy_delay: float = leaf(3.0, "[1, inf]")
    network: networks.Builder = static(default=normalized_network(256))
    critic_network: networks.Builder | None = static(default=normalized_network(2048))

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

    def apply_critics(
        self,
        key: jax.Array,
        space: Space,
        state: LearnerState,
        params: Any,
        batch: Batch,
        proposal: Proposal,
    ) -> tuple[Out, Out]:
        both = tree.replace(
            batch,
            obs=_joined(batch.obs, batch.next_obs),
            is_first=_joined(batch.is_first, batch.is_first),
        )
        action = _joined(batch.action, proposal.action)
        out = critics.q_values(self._critic(space), batch_norm.train(params), both, action)
        num = len(batch.reward)
        next_out = jax.tree.map(lambda x: x[:, num:], out)
        return jax.tree.map(lambda x: x[:, :num], out), next_out


def _joined(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda *x: jnp.concatenate(x), first, second)
