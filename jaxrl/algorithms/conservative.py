"""Conservative Q-learning and behavioural cloning, for learning from a data set alone."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import gathers, losses
from jaxrl.algorithms.backups import Identity, Max
from jaxrl.algorithms.learner import Batch, LearnerState, apply_network, apply_network_next
from jaxrl.algorithms.q_learning import QLearning
from jaxrl.algorithms.value_heads import Expected
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.mixers import of_teams, whole_of
from jaxrl.tree import leaf, pytree


@pytree
class Conservative(QLearning):
    """Conservative Q-learning (CQL, Kumar et al., 2020, equation 4) for discrete actions.

    The loss is `td_weight` times that of Q-learning, plus `penalty` times the mean of
    logsumexp(Q(s, .)) - Q(s, a) over the data, which lowers the values of actions that the data
    lack. With td_weight=0.0, the penalty alone is the loss of behavioural cloning with Q as logits,
    and the greedy policy is the mode of the cloned one.

    With a mixer, the joint value of a team is learned, and the penalty is that of each agent. To
    learn offline, see `OffPolicy`:

        rl.OffPolicy(learner=Conservative(penalty=0.1), updates=1000)
    """

    td_weight: float = leaf(1.0, "[0, inf)")
    penalty: float = leaf(1.0, "[0, inf)")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, only in (("head", Expected), ("backup", Max), ("transform", Identity)):
            if not isinstance(vars(self)[name], only):
                raise TypeError(
                    f"Conservative learns the mean values of greedy actions, and {name} is "
                    f"{type(vars(self)[name]).__name__}: leave {name}= out."
                )
        if self.noisy:
            raise ValueError("Conservative has no noisy network: write noisy=False.")

    def learn_batch(
        self, key: jax.Array, env: Env, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        return self._learn_mixed(env, state, batch, 1, clock)

    def _learn_mixed(
        self, env: Env, state: LearnerState, batch: Batch, num_agents: int, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        mixer: Any = self.mixer
        network = self._network(env.action_space)

        def values(apply: Any, params: Any) -> jax.Array:
            return self._predict(None, params, apply(network, params["network"], batch))[1]

        def at(values: jax.Array, action: jax.Array) -> jax.Array:
            return jax.vmap(jax.vmap(gathers.row))(values, action)

        def team(x: jax.Array) -> jax.Array:
            """What is the same for all agents of a team, of rows [N * A, T]. [N, T]."""
            return x if mixer is None else of_teams(x, num_agents)[:, :, 0]

        def mixed(params: Any, values: jax.Array, obs: Any) -> jax.Array:
            """The values to learn, [N, T], of those of agents [N * A, T]."""
            if mixer is None:
                return values
            one = lambda values, obs: mixer(params["mixer"], values, whole_of(obs))
            return jax.vmap(jax.vmap(one))(*of_teams((values, obs), num_agents))

        target, backup = state.target_params, self.backup
        next_value = values(apply_network_next, target)
        next_online = values(apply_network_next, state.params)
        selecting = jnp.where(backup.double, next_online, next_value)  # type: ignore[attr-defined]
        chosen = at(next_value, gathers.index_of_largest(selecting))
        next_obs = jax.tree.map(
            lambda x: jax.vmap(lambda x, index: x[index])(x, batch.bootstrap_index), batch.next_obs
        )
        following = mixed(target, chosen, next_obs)
        goal = jax.lax.stop_gradient(team(batch.reward) + team(batch.discount) * following)
        weight = team(batch.weight)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            value = values(apply_network, params)
            taken = at(value, batch.action)
            error = goal - mixed(params, taken, batch.obs)
            gap = jax.nn.logsumexp(value, -1) - taken
            loss = self.td_weight * jnp.mean(weight * losses.huber(error))
            loss += self.penalty * jnp.mean(batch.weight * gap)
            return loss, (jnp.abs(error), taken)

        (loss, (error, taken)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        return self._stepped(state, grads, clock, loss, error, taken, weight)
