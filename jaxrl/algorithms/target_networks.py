"""Where the values of what comes next are from: copies of the networks that follow slowly, or no
copies at all.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.base import follow
from jaxrl.algorithms.critics import Critic, Out
from jaxrl.algorithms.learner import Batch
from jaxrl.tree import pytree


class Copies(Protocol):
    """A pytree. `params` and `targets` are an actor-critic's, by name: "actor", "critic"."""

    def check(self, learner: Any) -> None:
        """Refuses what it can't be with, before anything starts."""
        ...

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        """What it keeps."""
        ...

    def actor(self, params: dict[str, Any], targets: dict[str, Any]) -> Any:
        """The parameters that choose next actions."""
        ...

    def look(
        self,
        key: jax.Array,
        critic: Critic,
        own: Any,
        targets: dict[str, Any],
        batch: Batch,
        action: jax.Array,
        num_target_critics: int,
    ) -> tuple[Out, Out]:
        """What the critics, of parameters `own`, say of what was done, and what `num_target_critics` say of the
        next `action`.
        """
        ...

    def follow(
        self, targets: dict[str, Any], params: dict[str, Any], step: jax.Array
    ) -> dict[str, Any]:
        """The same after gradient step `step`, from 1."""
        ...


@pytree
class TargetNetworks:
    """Copies that go `tau` of the way every `target_period` gradient steps (Lillicrap et
    al., 2015).

    actor_tau, actor_target_period: of the actor's otherwise, if they are not None.
    target_actor: whether next actions are the slow actor's.
    """

    tau: float = 0.005
    target_period: float = 1.0
    actor_tau: float | None = None
    actor_target_period: float | None = None
    target_actor: bool = False

    def check(self, learner: Any) -> None:
        pass

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        return jax.tree.map(jnp.copy, {name: params[name] for name in ("actor", "critic")})

    def actor(self, params: dict[str, Any], targets: dict[str, Any]) -> Any:
        return tree.where(jnp.asarray(self.target_actor), targets["actor"], params["actor"])

    def look(
        self,
        key: jax.Array,
        critic: Critic,
        own: Any,
        targets: dict[str, Any],
        batch: Batch,
        action: jax.Array,
        num_target_critics: int,
    ) -> tuple[Out, Out]:
        slow = critics.pick(key, targets["critic"], num_target_critics)
        return critics.look(critic, own, batch, batch.action), critics.look(
            critic, slow, batch, action, ahead=True
        )

    def follow(
        self, targets: dict[str, Any], params: dict[str, Any], step: jax.Array
    ) -> dict[str, Any]:
        rate = self.tau if self.actor_tau is None else self.actor_tau
        period = (
            self.target_period if self.actor_target_period is None else self.actor_target_period
        )
        critic = follow(targets["critic"], params["critic"], step, self.tau, self.target_period)
        return {
            "critic": critic,
            "actor": follow(targets["actor"], params["actor"], step, rate, period),
        }


@pytree
class CrossBatch:
    """No copies: critics read what was done and what comes next as one batch, and normalise over
    both (Bhatt et al., 2024).

    Values of the next actions are taken from that very pass, as constants.
    """

    def check(self, learner: Any) -> None:
        if learner.step_size is not None:
            raise ValueError(
                "step_size holds a policy to its slow copy, and CrossBatch has none: leave "
                "step_size out."
            )
        builders = learner.network, learner.critic_network or learner.network
        if not all(getattr(builder, "batch_norm", False) for builder in builders):
            raise ValueError(
                "CrossBatch has no slow copies: critics that don't normalise over both halves "
                "of a batch would chase their "
                "own values. Write network=rl.MLP((256, 256), batch_norm=True), and "
                "critic_network likewise."
            )

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    def actor(self, params: dict[str, Any], targets: dict[str, Any]) -> Any:
        return params["actor"]

    def look(
        self,
        key: jax.Array,
        critic: Critic,
        own: Any,
        targets: dict[str, Any],
        batch: Batch,
        action: jax.Array,
        num_target_critics: int,
    ) -> tuple[Out, Out]:
        join = lambda now, after: jax.tree.map(lambda *x: jnp.concatenate(x), now, after)
        both = tree.replace(
            batch, obs=join(batch.obs, batch.next_obs), first=join(batch.first, batch.first)
        )
        out, num = critics.look(critic, own, both, join(batch.action, action)), len(action)
        after = jax.lax.stop_gradient(jax.tree.map(lambda x: x[:, num:], out))
        return jax.tree.map(lambda x: x[:, :num], out), critics.pick(key, after, num_target_critics)

    def follow(
        self, targets: dict[str, Any], params: dict[str, Any], step: jax.Array
    ) -> dict[str, Any]:
        return {}
