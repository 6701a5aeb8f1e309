"""What an off-policy loop asks of a learner, and how a network reads a batch."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl import networks
from jaxrl.batch_norm import AXIS
from jaxrl.env import Env
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree


@pytree
class Batch:
    """N pieces of experience, T steps each; T is 1 without a memory. Leaves [N, T, ...].

    A row reads: doing `action` at `obs` gave `reward` (n steps of it, discounted), and `discount`
    times the value of what came then; `discount` is 0 where the episode terminated. What came then
    is `next_obs` of row `ahead` of the same piece. `weight` is each row's share of the loss:
    importance, 0 where what came then is unknown. `past` (obs, first) is read before, [N, burn_in,
    ...], from `memory` [N, ...]; `first` marks the first step of an episode; `done` its last.
    `note` is what the learner wrote of the row when it was played, () where it writes nothing.
    """

    obs: Any
    action: Any
    reward: jax.Array
    discount: jax.Array
    next_obs: Any
    ahead: jax.Array
    weight: jax.Array
    first: jax.Array
    done: jax.Array
    past: Any
    memory: Any
    note: Any


@pytree
class Learnt:
    """What learning changes: parameters, slow copies that targets come from, the optimisers'
    memory; and steps so far.
    """

    params: Any
    targets: Any
    opt_state: Any
    step: jax.Array


class Learner(Protocol):
    """A pytree that turns batches into better parameters; its leaves are what a sweep varies.

    It may also write on what is kept: `note(env, params, batch, clock)`, a pytree of [T, B, ...],
    of a rollout that was just played, is `Batch.note` when it is read again.
    """

    action_spaces: tuple[type, ...]  # those it has a policy for
    gamma: Any
    memory: networks.Memory | None

    def init(self, key: jax.Array, env: Env, obs: Any) -> Learnt: ...

    def start(self, env: Env) -> Any:
        """The acting network's memory at the start of an episode; () when it has none."""
        ...

    def explore(
        self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any, clock: Clock
    ) -> tuple[Any, Any]:
        """What it does to learn: (memory, action)."""
        ...

    def act(self, key: jax.Array, env: Env, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
        """What it does when it is judged."""
        ...

    def learn(
        self, key: jax.Array, env: Env, learnt: Learnt, batch: Batch, clock: Clock
    ) -> tuple[Learnt, jax.Array, Metrics]:
        """One step: what was learnt, each piece's priority [N] (the size of its error), and the
        losses.
        """
        ...


# ---------------------------------------------------------------------- how a network reads a batch


def read(network: networks.Recurrent, params: Any, batch: Batch) -> dict[str, jax.Array]:
    """The network's heads at each row's `obs`. {head: [N, T, ...]}."""
    memory = _memory(network, params, batch)
    one = lambda memory, obs, first: network.apply(params, memory, obs, first)[1]
    return jax.vmap(one, axis_name=AXIS)(memory, batch.obs, batch.first)


def read_next(network: networks.Recurrent, params: Any, batch: Batch) -> dict[str, jax.Array]:
    """The network's heads at what came after each row's rewards. {head: [N, T, ...]}."""
    if not jax.tree.leaves(batch.memory):
        return jax.vmap(lambda obs, first: network.apply(params, (), obs, first)[1])(
            batch.next_obs, batch.first
        )

    def one(memory: Any, batch: Batch) -> dict[str, jax.Array]:
        obs = jax.tree.map(
            lambda x, last: jnp.concatenate([x, last[-1:]]), batch.obs, batch.next_obs
        )
        out = network.apply(params, memory, obs, jnp.append(batch.first, False))[1]
        return jax.tree.map(lambda x: x[1:][batch.ahead], out)

    return jax.vmap(one)(_memory(network, params, batch), batch)


def _memory(network: networks.Recurrent, params: Any, batch: Batch) -> Any:
    """The network's memory at the first row: after the past. No gradient flows back through it."""
    if not jax.tree.leaves(batch.memory):
        return ()
    past = lambda memory, obs, first: network.apply(params, memory, obs, first)[0]
    return jax.lax.stop_gradient(jax.vmap(past)(batch.memory, *batch.past))
