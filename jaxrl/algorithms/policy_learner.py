"""What off-policy actor-critics share: acting, the steps of critics, policy and temperature."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Actor, Out, Proposal, Squashed, check_bounded, to_unit
from jaxrl.algorithms.critics import Critic, Expected
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
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.errors import not_defined
from jaxrl.networks import MLP, Views
from jaxrl.optimizer import Optimizer, OptimizerBuilder, is_due
from jaxrl.rollout import Episode, RnnState
from jaxrl.schedules import Constant, Schedule
from jaxrl.spaces import Space
from jaxrl.tree import leaf, pytree, static

NETWORK = MLP((256, 256), activation=jax.nn.relu, shared=True)


@pytree
class PolicyLearner(Learner):
    """Base class of learners with an actor and an ensemble of critics.

    Parameters are {"actor", "critic", "log_temperature"}, each with an optimiser state. A step of
    `learn` is `critic_step`, then every `policy_delay` steps `policy_step`, then `update_targets`.

    actor: the policy, `Squashed()`, `Deterministic()` or `Softmax()`.
    lr, actor_lr, temperature_lr: the learning rates of the critics, the policy and the temperature;
      None is `lr`. `schedule` multiplies all.
    temperature: the initial weight of the policy's entropy; it is constant where temperature_lr is
      0. target_entropy: the entropy that it is learned for, per dimension of a real action (on
      the scale of -1 to 1), or as a fraction of log n.
    noise_correlation: the AR(1) coefficient of the exploration noise on real actions, with a
      variance of 1 (Lillicrap et al., 2015, use Ornstein-Uhlenbeck noise). None is white noise.
    policy_delay: gradient steps of the critics for each of the policy's (Fujimoto et al., 2018).
    network, critic_network: builders, as in `OnPolicy`; a critic_network of None is `network`.
    n_step: as in `QLearning`.
    """

    actor: Actor = Squashed()
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
    network: networks.Builder = static(default=NETWORK)
    critic_network: networks.Builder | None = static(default=None)
    n_step: int = static(default=1)

    # constants here, fields of `ActorCritic`
    critic = Expected()
    num_target_critics = None
    num_policy_critics = None
    policy_q = "min"

    # ---------------------------------------------------------------------- what a subclass defines

    def init_targets(self, params: Any) -> dict[str, Any]:
        """Return what targets need beside the parameters, before the first gradient step."""
        raise not_defined(self, PolicyLearner.init_targets)

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        """Return the entries of it that change after gradient step `step`, from 1."""
        return {}

    def next_actor(self, state: LearnerState) -> Any:
        """The parameters of an actor for next actions; by default those that are learned."""
        return state.params["actor"]

    def apply_critics(
        self,
        key: jax.Array,
        space: Space,
        state: LearnerState,
        params: Any,
        batch: Batch,
        proposal: Proposal,
    ) -> tuple[Out, Out]:
        """The critics' heads for the actions taken, and those for a proposal of next actions.

        {head: [N, B, T, K]}, {head: [M, B, T, K]}. The first are of `params`, which are learned;
        the second by default of `num_target_critics` target networks.
        """
        critic, num = self._critic(space), self.num_target_critics or self.num_critics
        sampled = critics.sample_critics(key, state.target_params["critic"], num)
        out = critics.q_values(critic, batch_norm.train(params), batch, batch.action)
        return out, critics.q_values(critic, sampled, batch, proposal.action, at_next=True)

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        """The objective that the policy ascends, by the actor's heads and its proposal. [B, T]."""
        num = self.num_policy_critics or self.num_critics
        params = jax.tree.map(lambda x: x[:num], state.params["critic"])
        value = critics.q_values(self._critic(space), params, batch, proposal.action)["q"]
        value = value.min(0) if self.policy_q == "min" else value.mean(0)
        return self.soft_value(state.params, proposal, value)

    # ------------------------------------------------------------------------------------ acting

    @property
    def action_spaces(self) -> tuple[type, ...]:  # type: ignore[override]
        return self.actor.spaces

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        check_bounded(space, type(self.actor).__name__)
        params = self.init_params(key, space, obs)
        opt_state = {
            name: self.optimizer(lr).init(batch_norm.weights(params[name]))
            for name, lr in self._learning_rates.items()
        }
        targets = self.init_targets(params) | {"statistics": self.critic.init(self.num_critics)}
        return LearnerState(params, targets, opt_state, jnp.int32(0))

    def init_params(self, key: jax.Array, space: Space, obs: Any) -> dict[str, Any]:
        """Return the initial parameters, with the keys of `_learning_rates`."""
        key_actor, key_critic = jax.random.split(key)
        action = unit_action(space)
        return {
            "actor": self._actor(space).init(key_actor, obs),
            "critic": critics.init(key_critic, self._critic(space), self.num_critics, obs, action),
            "log_temperature": jnp.log(jnp.asarray(self.temperature, jnp.float32)),
        }

    def initial_rnn_state(self, space: Space) -> RnnState:
        """The actor's; with `noise_correlation`, {"rnn_state", "noise"}."""
        rnn_state = self._actor(space).start()
        if self.noise_correlation is None:
            return rnn_state
        if not self.actor.reads_action:
            raise ValueError(
                "noise_correlation is of the noise on real actions, and a "
                f"{type(self.actor).__name__} actor has none: leave noise_correlation out."
            )
        return {"rnn_state": rnn_state, "noise": jnp.zeros(self.actor.heads(space)["loc"])}

    def explore(
        self, key: jax.Array, env: Env, params: Any, episode: Episode, clock: Clock
    ) -> tuple[RnnState, jax.Array, tuple[()]]:
        rnn_state, out = self.forward(env.action_space, params, episode)
        noise = self.actor.sample_noise(key, out)
        if self.noise_correlation is not None:
            noise = (
                self.noise_correlation * episode.rnn_state["noise"]
                + jnp.sqrt(1.0 - jnp.square(self.noise_correlation)) * noise
            )
            rnn_state = rnn_state | {"noise": noise}
        return rnn_state, self.actor.explore(noise, env.action_space, out), ()

    def act(
        self, key: jax.Array, env: Env, params: Any, episode: Episode
    ) -> tuple[RnnState, jax.Array]:
        rnn_state, out = self.forward(env.action_space, params, episode)
        return rnn_state, self.actor.mode(env.action_space, out)

    def forward(self, space: Space, params: Any, episode: Episode) -> tuple[RnnState, Out]:
        """The recurrent state after an observation, and the actor's heads there. {head: [...]}."""
        rnn_state = episode.rnn_state
        if self.noise_correlation is not None:
            rnn_state = rnn_state["rnn_state"]
        rnn_state, out = apply_to_obs(self._actor(space), params["actor"], rnn_state, episode.obs)
        if self.noise_correlation is not None:
            rnn_state = episode.rnn_state | {"rnn_state": rnn_state}
        return rnn_state, out

    # ---------------------------------------------------------------------------------- learning

    def learn_batch(
        self, key: jax.Array, env: Env, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        space = env.action_space
        key_critic, key_actor = jax.random.split(key)
        if self.memory is not None and self.noise_correlation is not None:
            batch = tree.replace(batch, rnn_state=batch.rnn_state["rnn_state"])
        batch = tree.replace(batch, action=to_unit(space, batch.action))
        state, error, metrics = self.critic_step(key_critic, space, state, batch, clock)
        # words, because jax 0.10's check of key reuse does not support keys in a cond
        words, impl = jax.random.key_data(key_actor), jax.random.key_impl(key)

        def policy_step(state: LearnerState) -> LearnerState:
            key_actor = jax.random.wrap_key_data(words, impl=impl)
            return self.policy_step(key_actor, space, state, batch, clock)

        step = state.step + 1
        due = is_due(step, self.policy_delay)
        state = jax.lax.cond(due, policy_step, lambda state: state, state)
        targets = state.target_params | self.update_targets(state, step)
        state = tree.replace(state, target_params=targets, step=step)
        return state, piece_priority(error), metrics

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """Return the state after a step of the critics, absolute errors [B, T], and losses."""
        key_next, key_sample, key_loss = jax.random.split(key, 3)
        next_out = apply_network_next(self._actor(space), self.next_actor(state), batch)
        proposal = self.actor.propose_next(key_next, next_out)

        def soft_value(value: jax.Array) -> jax.Array:
            return self.soft_value(state.params, proposal, value)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Out, Any]]:
            heads, next_heads = self.apply_critics(
                key_sample, space, state, params, batch, proposal
            )
            out = {
                name: self.actor.select(heads[name], batch.action)
                for name in self._critic_heads(space)
            }
            statistics = self.critic.update(
                state.target_params["statistics"], jax.lax.stop_gradient(out), state.step
            )
            loss, error = self.critic.loss(
                key_loss, statistics, out, next_heads, soft_value, batch.reward, batch.discount
            )
            loss = jnp.mean(batch.weight[None] * loss, axis=(1, 2)).sum()
            return loss, (error, heads, statistics)

        (loss, (error, out, statistics)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params["critic"]
        )
        temperature = jnp.exp(state.params["log_temperature"])
        targets = state.target_params | {"statistics": statistics}
        state, norm = self._part_step(state, "critic", grads, clock, out.get("seen"))
        state = tree.replace(state, target_params=targets)
        size = jnp.abs(error).mean(0) * (batch.weight > 0)
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "value": self.actor.select(out["q"], batch.action).mean(),
            "error": size.mean(),
            "entropy": -proposal.mean(proposal.log_prob).mean(),
            "entropy_temperature": temperature,
        }
        return state, size, metrics

    def policy_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> LearnerState:
        """Return the state after a gradient step of the policy and one of the temperature.

        The policy ascends `policy_gain`, the temperature moves the entropy towards its target
        (Haarnoja et al., 2018b, equations 7 and 18).
        """

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Out]]:
            out = apply_network(self._actor(space), batch_norm.train(params), batch)
            proposal = self.actor.propose(key, out)
            gain = self.policy_gain(space, state, batch, out, proposal)
            entropy = -jnp.mean(proposal.mean(proposal.log_prob))
            return -jnp.mean(batch.weight * gain), (entropy, out)

        (_, (entropy, out)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params["actor"]
        )
        missing = self.target_entropy * self.actor.entropy_unit(space) - entropy
        temperature_grad = -jnp.exp(state.params["log_temperature"]) * missing
        state, _ = self._part_step(state, "actor", grads, clock, out.get("seen"))
        return self._part_step(state, "log_temperature", temperature_grad, clock)[0]

    def soft_value(self, params: Any, proposal: Proposal, value: jax.Array) -> jax.Array:
        """The soft value of states, from values of actions [..., K]. [...].

        It is their mean plus the policy's entropy times the temperature.
        """
        return proposal.mean(value - jnp.exp(params["log_temperature"]) * proposal.log_prob)

    # ------------------------------------------------------------------------------------- parts

    def _actor(self, space: Space) -> networks.Recurrent:
        heads = self.actor.heads(space)
        network = self.network
        if isinstance(network, Views):
            networks.check_views(network, heads | self._critic_heads(space))
            network = network.of(heads)
        return networks.build(network, self.memory, heads, trains_norm=True)

    def _critic(self, space: Space) -> Critic:
        network, heads = self.critic_network or self.network, self._critic_heads(space)
        if isinstance(network, Views):  # a critic's network makes the features of its heads
            network = network.single(heads)
        return critics.build(network, self.memory, heads, self.actor.reads_action)

    def _critic_heads(self, space: Space) -> dict[str, int]:
        return self.critic.heads(self.actor.num_values(space))

    @property
    def _learning_rates(self) -> dict[str, Any]:
        """The learning rate of each part of the parameters."""
        return {
            "actor": self.lr if self.actor_lr is None else self.actor_lr,
            "critic": self.lr,
            "log_temperature": self.lr if self.temperature_lr is None else self.temperature_lr,
        }

    def _part_step(
        self, state: LearnerState, name: str, grads: Any, clock: Clock, seen: Any = None
    ) -> tuple[LearnerState, jax.Array]:
        """Return the state after a gradient step of one part, and its gradient's norm.

        seen: the running statistics of batch normalisation that the batch led to, if any.
        """
        part = state.params[name]
        grads, weights = batch_norm.weights((grads, part))
        weights, opt_state, norm = self.gradient_step(
            self._learning_rates[name], grads, state.opt_state[name], weights, clock
        )
        part = batch_norm.with_stats(batch_norm.with_weights(part, weights), seen)
        params = state.params | {name: part}
        opt_state = state.opt_state | {name: opt_state}
        return tree.replace(state, params=params, opt_state=opt_state), norm


def unit_action(space: Space) -> jax.Array:
    """An action as critics read it: zeros, on the scale of -1 to 1."""
    action = jax.eval_shape(space.sample, jax.random.key(0))
    return to_unit(space, jnp.zeros(action.shape, action.dtype))
