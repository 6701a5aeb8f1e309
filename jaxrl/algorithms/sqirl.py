"""Shallow Q-iteration via reinforcement learning: random exploration, then fitted Q-iteration."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import masks, networks, returns
from jaxrl.algorithms.learner import (
    ADAM,
    Batch,
    Learner,
    LearnerState,
    apply_network,
    apply_network_next,
    apply_to_obs,
    piece_priority,
)
from jaxrl.algorithms.q_learning import NETWORK
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import EpsilonGreedyCategorical
from jaxrl.env import Env
from jaxrl.optimizer import Optimizer, OptimizerBuilder
from jaxrl.q_values import action_values, q_heads, q_policy
from jaxrl.rollout import Episode, Transition
from jaxrl.rules.base import num_actions
from jaxrl.schedules import Linear, Schedule
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import leaf, pytree, static


@pytree
class SQIRL(Learner):
    """Greedy actions up to a time step, random ones from there on, and learning from the latter.

    Laidlaw et al. (2024), algorithm 1: the value Q_1 of the random policy is regressed on returns,
    then Q_j on reward + gamma max Q_(j-1), up to `depth`; the greedy policy of the last acts at
    this time step; then the next one. The time step goes from 0 to the environment's last over
    `fraction` of the training run, and stays at 0 in an unbounded run.

    Simplified: one network serves all time steps, where the paper has one for each: the values of
    discounted returns do not depend on the time. Its `depth` sets of heads learn at once, from a
    replay, as in the authors' code. A return that was cut off is completed by Q_1.
    """

    lr: float = leaf(1e-3, "[0, inf)")
    schedule: Schedule = Linear(1.0)
    gamma: float = leaf(0.99, "[0, 1]")
    fraction: float = leaf(0.9, "[0, inf)")
    max_grad_norm: float = leaf(10.0, "(0, inf]")
    optimizer: Optimizer | OptimizerBuilder = ADAM
    network: networks.Builder = static(default=NETWORK)
    depth: int = static(default=2)
    n_step: int = static(default=1)

    stores_returns = True
    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 1:
            raise ValueError(
                f"depth={self.depth}: Q_1 is the random policy's value and the first; write "
                "depth=1 or more."
            )

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        params = self._network(space).init(key, obs)
        opt_state = self.optimizer(self.lr).init(params)
        return LearnerState(params, (), opt_state, jnp.int32(0))

    def initial_rnn_state(self, space: Space) -> jax.Array:
        """The time step of the episode, which the policy reads. []."""
        return jnp.int32(0)

    def explore(
        self, key: jax.Array, env: Env, params: Any, episode: Episode, clock: Clock
    ) -> tuple[jax.Array, jax.Array, tuple[()]]:
        rnn_state, greedy = self.act(key, env, params, episode)
        random = env.action_space.sample(key, masks.mask_of(episode.obs))
        is_random = episode.rnn_state >= self._first_random_step(env, clock)
        return rnn_state, jnp.where(is_random, random, greedy), ()

    def act(
        self, key: jax.Array, env: Env, params: Any, episode: Episode
    ) -> tuple[jax.Array, jax.Array]:
        policy = self.policy(env.action_space, params, episode)
        return episode.rnn_state + 1, policy.mode()

    def policy(self, space: Space, params: Any, episode: Episode) -> EpsilonGreedyCategorical:
        """The greedy policy; its `values` are Q_depth, -inf where forbidden."""
        _, out = apply_to_obs(self._network(space), params, (), episode.obs)
        value, _ = self._values(space, out)
        return q_policy(value[-1], out.get("mask"))

    def annotate(
        self, env: Env, params: Any, batch: Transition, clock: Clock
    ) -> tuple[jax.Array, jax.Array]:
        """Each step's return, and True where it and all later steps are random. [T, B], [T, B]."""
        network = self._network(env.action_space)
        is_first = jnp.zeros(len(batch.reward), bool)

        def along(obs: Any) -> dict[str, jax.Array]:
            return network.apply(params, (), obs, is_first)[1]

        out = jax.vmap(along, in_axes=1, out_axes=1)(batch.next_obs)
        value, allowed = self._values(env.action_space, out)
        next_value = jnp.sum(value[..., 0, :] * allowed, -1) / allowed.sum(-1)
        lambda_returns = returns.batched(returns.lambda_returns)
        episode_return = lambda_returns(
            batch.reward, next_value, batch.terminated, batch.done, self.gamma, 1.0
        )
        return episode_return, batch.length > self._first_random_step(env, clock)

    def learn_batch(
        self, key: jax.Array, env: Env, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        space, network = env.action_space, self._network(env.action_space)
        episode_return, is_random = batch.extras
        weight = batch.weight * is_random
        next_value, allowed = self._values(space, apply_network_next(network, state.params, batch))
        best = jnp.where(allowed[..., None, :], next_value, -jnp.inf).max(-1)[..., :-1]
        backups = batch.reward[..., None] + batch.discount[..., None] * best
        target = jnp.concatenate([episode_return[..., None], backups], -1)

        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            value, _ = self._values(space, apply_network(network, params, batch))
            error = target - action_values(value, batch.action[..., None])
            loss = jnp.sum(weight * 0.5 * jnp.mean(error**2, -1))
            return loss / jnp.maximum(weight.sum(), 1e-8), jnp.abs(error).mean(-1)

        (loss, error), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        params, opt_state, norm = self.gradient_step(
            self.lr, grads, state.opt_state, state.params, clock
        )
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "error": error.mean(),
            "value": next_value[..., -1, :].max(-1).mean(),
            "first_random_step": self._first_random_step(env, clock),
        }
        priority = piece_priority(error * (weight > 0))
        return LearnerState(params, (), opt_state, state.step + 1), priority, metrics

    def _network(self, space: Space) -> networks.Recurrent:
        return networks.build(self.network, None, q_heads(num_actions(space), self.depth))

    def _values(self, space: Space, out: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Q_1 to Q_depth, and True where actions are allowed. [..., depth, n], [..., n]."""
        value = out["q"].reshape(*out["q"].shape[:-1], self.depth, num_actions(space))
        zeros = jnp.zeros(value[..., 0, :].shape)
        return value, masks.allow(zeros, out.get("mask")) == 0.0

    def _first_random_step(self, env: Env, clock: Clock) -> jax.Array:
        """The first time step with a random action. []."""
        return jnp.minimum(clock.fraction / jnp.maximum(self.fraction, 1e-8), 1.0) * env.max_steps
