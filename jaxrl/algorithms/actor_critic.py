"""Off-policy actor-critics with target networks: DDPG, TD3, SAC, REDQ and DSAC-T."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Actor, Out, Proposal, Squashed
from jaxrl.algorithms.critics import Expected, ReturnHead
from jaxrl.algorithms.learner import ADAM, Batch, LearnerState
from jaxrl.algorithms.policy_learner import NETWORK, PolicyLearner
from jaxrl.algorithms.target_networks import TargetNetworks
from jaxrl.clock import Clock, Metrics
from jaxrl.optimizer import Optimizer, OptimizerBuilder
from jaxrl.schedules import Constant, Schedule
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static


@pytree
class ActorCritic(PolicyLearner):
    """A policy that maximises an ensemble of critics (Haarnoja et al., 2018b, algorithm 1).

    actor: the policy, `Squashed()`, `Deterministic()` or `Softmax()`.
    critic: the prediction of returns, `Expected()` or `Gaussian()`.
    targets: the target networks.
    lr, actor_lr, temperature_lr: the learning rates of the critics, the policy and the temperature;
      None is `lr`. `schedule` multiplies all.
    temperature: the initial weight of the policy's entropy; it is constant where temperature_lr is
      0. target_entropy: the entropy that it is learned for, per dimension of a real action (on
      the scale of -1 to 1), or as a fraction of log n.
    noise_correlation: the AR(1) coefficient of the exploration noise on real actions, with a
      variance of 1 (Lillicrap et al., 2015, use Ornstein-Uhlenbeck noise). None is white noise.
    policy_delay: gradient steps of the critics for each of the policy's (Fujimoto et al., 2018).
    num_critics, num_target_critics: a target is the smallest value of `num_target_critics` of the
      `num_critics` critics, sampled (Chen et al., 2021); None is all.
    num_policy_critics, policy_q: the policy maximises the "min" or the "mean" of the values of the
      first `num_policy_critics`; None is all.
    network, critic_network, memory: builders, as in `OnPolicy`; a critic_network of None is
      `network`. With a memory, actor and critics have one each (Yang and Nguyen, 2021).
    n_step, burn_in, sequence: as in `QLearning`.
    """

    actor: Actor = Squashed()
    critic: ReturnHead = Expected()
    targets: TargetNetworks = TargetNetworks()
    lr: float = leaf(3e-4, "[0, inf)")
    actor_lr: float | None = leaf(None, "[0, inf) or None")
    temperature_lr: float | None = leaf(None, "[0, inf) or None")
    schedule: Schedule = Constant()
    gamma: float = leaf(0.99, "[0, 1]")
    temperature: float = leaf(1.0, "[0, inf)")
    target_entropy: float = leaf(-1.0, "(-inf, inf)")
    noise_correlation: float | None = leaf(None, "(-1, 1) or None")
    policy_delay: float = leaf(1.0, "[1, inf]")
    max_grad_norm: float = leaf(float("inf"), "(0, inf]")
    optimizer: Optimizer | OptimizerBuilder = ADAM
    num_critics: int = static(default=2)
    num_target_critics: int | None = static(default=None)
    num_policy_critics: int | None = static(default=None)
    policy_q: Literal["min", "mean"] = static(default="min")
    network: networks.Builder = static(default=NETWORK)
    critic_network: networks.Builder | None = static(default=None)
    memory: networks.Memory | None = static(default=None)
    n_step: int = static(default=1)
    burn_in: int = static(default=8)
    sequence: int = static(default=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy_q not in ("min", "mean"):
            raise ValueError(f"policy_q={self.policy_q!r}: write policy_q='min' or 'mean'.")
        for name in ("num_critics", "num_target_critics", "num_policy_critics"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= self.num_critics:
                raise ValueError(
                    f"{name}={value} of num_critics={self.num_critics} critics: write at least "
                    f"1 and no more than there are, say {name}={max(1, self.num_critics)}, or "
                    "more critics."
                )

    def critic_heads(self, num_values: int) -> dict[str, int]:
        return self.critic.heads(num_values)

    def init_targets(self, params: Any) -> dict[str, Any]:
        """The target networks by name, and the "statistics" of `critic`."""
        return self.targets.init(params) | {"statistics": self.critic.init(self.num_critics)}

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        return state.target_params | self.targets.update(
            state.target_params, state.params, step, self.policy_delay
        )

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        key_next, key_sample, key_loss = jax.random.split(key, 3)
        critic, target_params = self._critic(space), state.target_params
        next_actor = self.targets.actor(state.params, target_params)
        proposal = self.propose_next(key_next, space, next_actor, batch)
        num_target_critics = self.num_target_critics or self.num_critics

        def soft_value(value: jax.Array) -> jax.Array:
            return self.soft_value(state.params, proposal, value)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Out, Any]]:
            sampled = critics.sample_critics(
                key_sample, target_params["critic"], num_target_critics
            )
            heads = critics.q_values(critic, batch_norm.train(params), batch, batch.action)
            next_out = critics.q_values(critic, sampled, batch, proposal.action, at_next=True)
            out = {
                name: self.actor.select(heads[name], batch.action)
                for name in self.critic_heads(self.actor.num_values(space))
            }
            statistics = self.critic.update(
                target_params["statistics"], jax.lax.stop_gradient(out), state.step
            )
            loss, error = self.critic.loss(
                key_loss, statistics, out, next_out, soft_value, batch.reward, batch.discount
            )
            loss = jnp.mean(batch.weight[None] * loss, axis=(1, 2)).sum()
            return loss, (error, heads, statistics)

        state, error, metrics, statistics = self.fit_critics(state, batch, proposal, loss_of, clock)
        target_params = target_params | {"statistics": statistics}
        return tree.replace(state, target_params=target_params), error, metrics

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        num = self.num_policy_critics or self.num_critics
        params = jax.tree.map(lambda x: x[:num], state.params["critic"])
        value = critics.q_values(self._critic(space), params, batch, proposal.action)["q"]
        value = value.min(0) if self.policy_q == "min" else value.mean(0)
        return self.soft_value(state.params, proposal, value)
