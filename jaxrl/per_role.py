"""Networks with separate parameters for the roles of a team's agents."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.errors import check_counts
from jaxrl.networks import MLP, Builder, Network, Out, Params
from jaxrl.spaces import visible
from jaxrl.tree import flat


@dataclasses.dataclass(frozen=True)
class PerRole:
    """A network for each role of the agents of a team, in place of one that all share.

    `rl.ppo(network=rl.PerRole(2))` for a team in which the last two entries of an observation are
    the one-hot role of its agent; with a role for each agent, no agents share parameters.

    All networks are computed for each observation and one is selected, which takes `num_roles`
    times the work of a shared network.

    num_roles: R. network: the builder of each. The parameters have a leading axis [R].
    """

    num_roles: int
    network: Builder = MLP()  # noqa: RUF009

    def __post_init__(self) -> None:
        check_counts(self, "num_roles")

    def __call__(self, heads: Mapping[str, int]) -> Network:
        network = self.network(heads)

        def init(key: jax.Array, obs: Any) -> Params:
            self._check(obs)
            keys = jax.random.split(key, self.num_roles)
            return jax.vmap(lambda key: network.init(key, obs))(keys)

        def apply(params: Params, obs: Any) -> Out:
            role = flat(visible(obs))[-self.num_roles :]
            each = jax.vmap(lambda params: network.apply(params, obs))(params)
            return jax.tree.map(lambda x: jnp.tensordot(role, x, 1), each)

        return Network(init, apply)

    def _check(self, obs: Any) -> None:
        size = jax.eval_shape(lambda obs: flat(visible(obs)), obs).shape[0]
        if size <= self.num_roles:
            raise ValueError(
                f"PerRole reads the role of an agent from the last {self.num_roles} entries of its "
                f"observation, which has {size}: append the one-hot role, as "
                "rl.envs.WithRoles(env) does."
            )
