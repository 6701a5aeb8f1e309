"""Target networks of off-policy actor-critics."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.optimizer import polyak_update
from jaxrl.tree import leaf, pytree, static


@pytree
class TargetNetworks:
    """Polyak averages of critics, and of the actor where `target_actor` (Lillicrap et al., 2015).

    tau, target_period: every `target_period` gradient steps they move by `tau`; a period of None is
      the `policy_delay` of the learner (Fujimoto et al., 2018).
    target_actor: next actions are those of the actor's average, rather than the actor's.
    """

    tau: float = leaf(0.005, "[0, 1]")
    target_period: float | None = leaf(1.0, "[1, inf] or None")
    target_actor: bool = static(default=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of an actor-critic's parameters that have an average."""
        return ("actor", "critic") if self.target_actor else ("critic",)

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the averages before the first gradient step, by name."""
        return jax.tree.map(jnp.copy, {name: params[name] for name in self.names})

    def actor(self, params: dict[str, Any], target_params: dict[str, Any]) -> Any:
        """The actor's parameters for next actions."""
        return target_params["actor"] if self.target_actor else params["actor"]

    def update(
        self,
        target_params: dict[str, Any],
        params: dict[str, Any],
        step: jax.Array,
        policy_delay: Any,
    ) -> dict[str, Any]:
        """Return the averages after gradient step `step`, from 1."""
        period = policy_delay if self.target_period is None else self.target_period
        return {
            name: polyak_update(target_params[name], params[name], step, self.tau, period)
            for name in self.names
        }
