"""Mixers: the value of a team's joint action from the values of its agents' actions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import networks, tree
from jaxrl.errors import check_counts, not_defined
from jaxrl.networks import MLP
from jaxrl.rollout import Transition
from jaxrl.spaces import visible
from jaxrl.tree import pytree, static

WHOLE = "state"  # the part of an observation that describes the whole environment


class Mixer:
    """Base class of mixers: a pytree of settings.

    The value must not decrease in the value of any agent. The greedy action of each agent is then
    part of the greedy joint action (Individual-Global-Max; Son et al., 2019), and agents act
    without the mixer.
    """

    def init(self, key: jax.Array, num_agents: int, whole: jax.Array) -> Any:
        """Parameters; () by default. whole: see `whole_of`. [W]."""
        return ()

    def __call__(self, params: Any, values: jax.Array, whole: jax.Array) -> jax.Array:
        """The value of the joint action, [], of values [A]."""
        raise not_defined(self, Mixer.__call__)


@pytree
class Additive(Mixer):
    """The sum of the agents' values: value decomposition networks (VDN, Sunehag et al., 2018)."""

    def __call__(self, params: Any, values: jax.Array, whole: jax.Array) -> jax.Array:
        return values.sum(-1)


@pytree
class Monotonic(Mixer):
    """A network of one hidden layer with non-negative weights (QMIX, Rashid et al., 2018).

    Weights and biases are outputs of a hypernetwork that reads the whole environment; by default
    each has a hidden layer of its own. In the paper only the last bias has one.

    embed: units of the hidden layer. hypernetwork: its builder.
    """

    embed: int = static(default=32)
    hypernetwork: networks.Builder = static(default=MLP((64,), activation=jax.nn.relu))

    def __post_init__(self) -> None:
        check_counts(self, "embed")

    def init(self, key: jax.Array, num_agents: int, whole: jax.Array) -> Any:
        return self._network(num_agents).init(key, whole)

    def __call__(self, params: Any, values: jax.Array, whole: jax.Array) -> jax.Array:
        num_agents = values.shape[-1]
        out = self._network(num_agents).apply(params, whole)
        first = jnp.abs(out["first"]).reshape(num_agents, self.embed)
        hidden = jax.nn.elu(values @ first + out["first_bias"])
        return hidden @ jnp.abs(out["last"]) + out["last_bias"][0]

    def _network(self, num_agents: int) -> networks.Network:
        size = self.embed
        heads = {"first": num_agents * size, "first_bias": size, "last": size, "last_bias": 1}
        return self.hypernetwork(heads)


def whole_of(obs: Any) -> jax.Array:
    """What a mixer reads of the observations of all agents [A, ...]: the part "state" of the first
    agent's where the observation is a dictionary with that part, else all of them. float32 [W].
    """
    seen = visible(obs)
    if isinstance(seen, dict) and WHOLE in seen:
        return tree.flat(jax.tree.map(lambda x: x[0], seen[WHOLE]))
    return tree.flat(seen)


# ------------------------------------------------------------------------------- agents as an axis


def by_team(batch: Transition, num_agents: int) -> Transition:
    """Transitions [T, B * A, ...] with the agents of an environment as an axis. [T, B, A, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, num_agents, *x.shape[2:]), batch)


def by_agent(items: Transition) -> tuple[Transition, int]:
    """Pieces of teams [N, L, A, ...] as pieces of agents [N * A, L, ...], and A.

    Each agent has the reward of its team, the mean over the agents that had not terminated before,
    and ends where its team does: the team terminates where all agents have terminated.
    """
    num_agents = items.reward.shape[2]
    over = lambda x: jnp.broadcast_to(x, items.reward.shape)
    terminated = items.terminated.all(2, keepdims=True)
    active = jnp.asarray(items.active)
    total = jnp.where(active, items.reward, 0.0).sum(2, keepdims=True)
    items = tree.replace(
        items,
        reward=over(total / jnp.maximum(active.sum(2, keepdims=True), 1)),
        terminated=over(terminated),
        truncated=over(items.truncated.any(2, keepdims=True) & ~terminated),
        active=(),
    )
    folded = jax.tree.map(
        lambda x: jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], *x.shape[3:]), items
    )
    return folded, num_agents


def of_teams(x: Any, num_agents: int) -> Any:
    """Rows of agents [N * A, T, ...] as rows of teams [N, T, A, ...]."""

    def one(leaf: jax.Array) -> jax.Array:
        apart = leaf.reshape(-1, num_agents, *leaf.shape[1:])
        return jnp.moveaxis(apart, 1, 2)

    return jax.tree.map(one, x)


def num_agents_of(obs: Any) -> int:
    """A, of the observations of all agents [A, ...]."""
    return int(np.shape(jax.tree.leaves(obs)[0])[0])
