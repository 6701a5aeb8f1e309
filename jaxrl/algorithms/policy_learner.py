"""What off-policy actor-critics share: acting, the policy's gradient step, and three optimisers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import batch_norm, networks, tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Actor, Out, Proposal, check_bounded, to_unit
from jaxrl.algorithms.critics import Critic
from jaxrl.algorithms.learner import (
    Batch,
    Learner,
    LearnerState,
    apply_network,
    apply_network_next,
    apply_to_obs,
    bootstrap,
    check_pieces,
    piece_length,
    piece_priority,
)
from jaxrl.clock import Clock, Metrics
from jaxrl.env import Env
from jaxrl.networks import MLP, Views
from jaxrl.optimizer import Optimizer, OptimizerBuilder, apply_gradients, at_rate, is_due
from jaxrl.rollout import Episode, RnnState, Transition
from jaxrl.schedules import check_schedule
from jaxrl.spaces import Space

NETWORK = MLP((256, 256), activation=jax.nn.relu, shared=True)
# of the critics: (parameters) -> loss, (errors [N, B, T], their heads {name: [N, B, T, K]}, aux)
CriticLoss = Callable[[Any], tuple[jax.Array, tuple[jax.Array, Out, Any]]]


class PolicyLearner(Learner):
    """Base class of learners with an actor and an ensemble of critics, without fields.

    Parameters are {"actor", "critic", "log_temperature"}, each with an optimiser state. A step of
    `learn` is `critic_step`, then every `policy_delay` steps `policy_step`, then `update_targets`.
    """

    # fields of each subclass, see `ActorCritic`
    actor: Actor
    lr: Any
    actor_lr: Any
    temperature_lr: Any
    temperature: Any
    target_entropy: Any
    noise_correlation: Any
    policy_delay: Any
    max_grad_norm: Any
    optimizer: Optimizer | OptimizerBuilder
    num_critics: int
    network: networks.Builder
    critic_network: networks.Builder | None
    n_step: int
    burn_in: int = 0
    sequence: int = 1

    # ---------------------------------------------------------------------- what a subclass defines

    def critic_heads(self, num_values: int) -> dict[str, int]:
        """The heads of a critic, one of which is "q"."""
        return {"q": num_values}

    def init_targets(self, params: Any) -> dict[str, Any]:
        """Return what targets need beside the parameters, before the first gradient step."""
        raise TypeError(f"{type(self).__name__} does not define init_targets.")

    def critic_step(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """Return the state after a step of the critics, absolute errors [B, T], and losses."""
        raise TypeError(f"{type(self).__name__} does not define critic_step.")

    def policy_gain(
        self, space: Space, state: LearnerState, batch: Batch, out: Out, proposal: Proposal
    ) -> jax.Array:
        """The objective that the policy ascends, by the actor's heads and its proposal. [B, T]."""
        value = critics.q_values(
            self._critic(space), state.params["critic"], batch, proposal.action
        )["q"]
        return self.soft_value(state.params, proposal, value.min(0))

    def update_targets(self, state: LearnerState, step: jax.Array) -> dict[str, Any]:
        """Return what targets need after gradient step `step`, from 1."""
        return state.target_params

    # ------------------------------------------------------------------------------------ acting

    @property
    def action_spaces(self) -> tuple[type, ...]:  # type: ignore[override]
        return self.actor.spaces

    @property
    def sequence_length(self) -> int:
        return piece_length(self.n_step, self.burn_in, self.sequence, self.memory is not None)

    def __post_init__(self) -> None:
        check_pieces(self)
        check_schedule(self)

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        check_bounded(space, type(self.actor).__name__)
        key_actor, key_critic = jax.random.split(key)
        action = jax.eval_shape(space.sample, key)
        action = to_unit(space, jnp.zeros(action.shape, action.dtype))
        params = {
            "actor": self._actor(space).init(key_actor, obs),
            "critic": critics.init(key_critic, self._critic(space), self.num_critics, obs, action),
            "log_temperature": jnp.log(jnp.asarray(self.temperature, jnp.float32)),
        }
        opt_state = {
            name: self.optimizer(lr).init(batch_norm.weights(params[name]))
            for name, lr in self._learning_rates().items()
        }
        return LearnerState(params, self.init_targets(params), opt_state, jnp.int32(0))

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

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: LearnerState,
        items: Transition,
        weight: jax.Array,
        clock: Clock,
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        recurrent = self.memory is not None
        batch = bootstrap(items, weight, self.gamma, self.n_step, self.burn_in, recurrent)
        if recurrent and self.noise_correlation is not None:
            batch = tree.replace(batch, rnn_state=batch.rnn_state["rnn_state"])
        return self.learn_batch(key, env.action_space, state, batch, clock)

    def learn_batch(
        self, key: jax.Array, space: Space, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """As `learn`, from a batch of targets."""
        key_critic, key_actor = jax.random.split(key)
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
        state = tree.replace(state, target_params=self.update_targets(state, step), step=step)
        return state, piece_priority(error), metrics

    def fit_critics(
        self,
        state: LearnerState,
        batch: Batch,
        proposal: Proposal,
        loss_of: CriticLoss,
        clock: Clock,
    ) -> tuple[LearnerState, jax.Array, Metrics, Any]:
        """Return the state after a gradient step of the critics on a loss.

        Also the magnitude of each row's error [B, T], losses, and the loss's aux.
        """
        (loss, (error, out, aux)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params["critic"]
        )
        temperature = jnp.exp(state.params["log_temperature"])
        state, norm = self._gradient_step(state, "critic", grads, clock, out.get("seen"))
        size = jnp.abs(error).mean(0) * (batch.weight > 0)
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "value": self.actor.select(out["q"], batch.action).mean(),
            "error": size.mean(),
            "entropy": -proposal.mean(proposal.log_prob).mean(),
            "learnt_temperature": temperature,
        }
        return state, size, metrics, aux

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
        state, _ = self._gradient_step(state, "actor", grads, clock, out.get("seen"))
        return self._gradient_step(state, "log_temperature", temperature_grad, clock)[0]

    def propose_next(
        self, key: jax.Array, space: Space, actor_params: Any, batch: Batch
    ) -> Proposal:
        """The actor's proposal at the observations that the batch bootstraps from."""
        out = apply_network_next(self._actor(space), actor_params, batch)
        return self.actor.propose_next(key, out)

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
        return self.critic_heads(self.actor.num_values(space))

    def _learning_rates(self) -> dict[str, Any]:
        """The learning rate of each part of the parameters."""
        actor_lr = self.lr if self.actor_lr is None else self.actor_lr
        temperature_lr = self.lr if self.temperature_lr is None else self.temperature_lr
        return {
            "actor": actor_lr,
            "critic": self.lr,
            "log_temperature": temperature_lr,
        }

    def _gradient_step(
        self, state: LearnerState, name: str, grads: Any, clock: Clock, seen: Any = None
    ) -> tuple[LearnerState, jax.Array]:
        """Return the state after a gradient step of one part, and its gradient's norm.

        seen: the running statistics of batch normalisation that the batch led to, if any.
        """
        part = state.params[name]
        grads, weights = batch_norm.weights((grads, part))
        weights, opt_state, norm = apply_gradients(
            at_rate(self.optimizer, self._learning_rates()[name], weights, self.schedule(clock)),
            grads,
            state.opt_state[name],
            weights,
            self.max_grad_norm,
            clock=clock,
        )
        part = batch_norm.with_stats(batch_norm.with_weights(part, weights), seen)
        params = state.params | {name: part}
        opt_state = state.opt_state | {name: opt_state}
        return tree.replace(state, params=params, opt_state=opt_state), norm
