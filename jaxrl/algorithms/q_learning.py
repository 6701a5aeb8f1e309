"""Deep Q-learning from a replay: DQN and its extensions, each of which is a field."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import gathers, losses, masks, networks, noise, packing
from jaxrl.algorithms.backups import Backup, Identity, Max, Transform
from jaxrl.algorithms.learner import (
    ADAM,
    Batch,
    Learner,
    LearnerState,
    apply_network,
    apply_network_next,
    apply_to_obs,
    bootstrap,
    piece_priority,
)
from jaxrl.algorithms.value_heads import Expected, Head
from jaxrl.clock import Clock, Metrics
from jaxrl.distributions import EpsilonGreedyCategorical
from jaxrl.env import Env
from jaxrl.mixers import Mixer, by_agent, num_agents_of, of_teams, whole_of
from jaxrl.networks import MLP
from jaxrl.optimizer import Optimizer, OptimizerBuilder, polyak_update
from jaxrl.q_values import q_policy
from jaxrl.rollout import Episode, RnnState, Transition
from jaxrl.rules.base import check_field, num_actions
from jaxrl.schedules import EpsilonGreedy, Linear, Schedule
from jaxrl.spaces import Discrete, Space
from jaxrl.tree import added, leaf, pytree, static

# without layer_norm, bootstrapped values of a ReLU network often diverge
NETWORK = MLP(activation=jax.nn.relu, layer_norm=True)


@pytree
class QLearning(Learner):
    """Q-learning on batches, with a target network (Mnih et al., 2015).

    head: the distribution of returns that is predicted for each action.
    backup: the policy of the target, `Max()` or `Munchausen()`.
    transform: between returns and the values that are learned.
    exploration: the schedule of random actions.
    schedule: multiplies the learning rate `lr`.
    tau, target_period: every `target_period` gradient steps, the target network moves by `tau`.
    noise_scale: the initial scale of the noise of a noisy network.
    optimizer: an `Optimizer`, or any function from a learning rate to an optax transformation.
    network, memory: builders, as in `OnPolicy`.
    dueling: with a head for the value and one for advantages (Wang et al., 2016).
    noisy: parameters are sampled for each step and each batch (Fortunato et al., 2018).
    n_step: the number of rewards in a target.
    burn_in, sequence: with a memory, a batch holds sequences of `sequence` rows, after `burn_in`
      rows that only update the recurrent state (Kapturowski et al., 2019).
    mixer: of a team, `Additive()` (VDN) or `Monotonic()` (QMIX): the values of the agents' actions
      are mixed to one of their joint action, which is learned from the reward that they share
      (`Env.shared_reward`). None: each agent learns from its own (independent Q-learning).
    """

    head: Head = Expected()
    backup: Backup = Max()
    transform: Transform = Identity()
    mixer: Mixer | None = added(None)
    exploration: EpsilonGreedy = EpsilonGreedy()
    lr: float = leaf(1e-3, "[0, inf)")
    schedule: Schedule = Linear(1.0)
    gamma: float = leaf(0.99, "[0, 1]")
    tau: float = leaf(1.0, "[0, 1]")
    target_period: float = leaf(500.0, "[1, inf]")
    max_grad_norm: float = leaf(10.0, "(0, inf]")
    noise_scale: float = leaf(0.5, "[0, inf)")
    optimizer: Optimizer | OptimizerBuilder = ADAM
    network: networks.Builder = static(default=NETWORK)
    memory: networks.Memory | None = static(default=None)
    dueling: bool = static(default=False)
    noisy: bool = static(default=False)
    n_step: int = static(default=1)
    burn_in: int = static(default=8)
    sequence: int = static(default=16)

    action_spaces = (Discrete,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixer is None:
            return
        check_field(self, "mixer", Mixer, "rl.Additive()")
        for name, only in (("head", Expected), ("backup", Max), ("transform", Identity)):
            if not isinstance(vars(self)[name], only):
                raise TypeError(
                    f"A mixer mixes mean values of greedy actions, and {name} is "
                    f"{type(vars(self)[name]).__name__}: write {name}=rl.{only.__name__}(), or "
                    "mixer=None."
                )
        if self.noisy:
            raise ValueError("A mixer has no noisy network: write noisy=False, or mixer=None.")

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        return self.mixer is not None

    def init(self, key: jax.Array, space: Space, obs: Any) -> LearnerState:
        key_network, key_head = jax.random.split(key)
        mixing: Any = {}
        if self.mixer is not None:
            key_mixer = jax.random.fold_in(key_head, 1)
            mixer = self.mixer.init(key_mixer, num_agents_of(obs), whole_of(obs))
            mixing, obs = {"mixer": mixer}, jax.tree.map(lambda x: x[0], obs)
        head_params = self.head.init(key_head, num_actions(space), self.dueling)
        params: Any = {"network": self._network(space).init(key_network, obs), "head": head_params}
        params |= mixing
        params = noise.add(params, self.noise_scale) if self.noisy else params
        return LearnerState(
            params=params,
            target_params=jax.tree.map(jnp.copy, params),
            opt_state=self.optimizer(self.lr).init(params),
            step=jnp.int32(0),
        )

    # ------------------------------------------------------------------------------------ acting

    def initial_rnn_state(self, space: Space) -> RnnState:
        return self._network(space).start()

    def explore(
        self, key: jax.Array, env: Env, params: Any, episode: Episode, clock: Clock
    ) -> tuple[RnnState, jax.Array, tuple[()]]:
        key_noise, key_action = jax.random.split(key)
        epsilon = self.exploration.epsilon(clock)
        rnn_state, policy = self.policy(
            env.action_space, noise.draw(key_noise, params), episode, epsilon
        )
        return rnn_state, policy.sample(key_action), ()

    def act(
        self, key: jax.Array, env: Env, params: Any, episode: Episode
    ) -> tuple[RnnState, jax.Array]:
        rnn_state, policy = self.policy(env.action_space, noise.mean(params), episode)
        return rnn_state, policy.mode()

    def policy(
        self, space: Space, params: Any, episode: Episode, epsilon: jax.Array | float = 0.0
    ) -> tuple[RnnState, EpsilonGreedyCategorical]:
        """The recurrent state and the epsilon-greedy policy.

        The `values` of the policy are the action values, -inf where forbidden.
        """
        rnn_state, out = apply_to_obs(
            self._network(space), params["network"], episode.rnn_state, episode.obs
        )
        prediction = self.head.predict(None, params["head"], out)
        return rnn_state, q_policy(self.head.values(prediction), out.get("mask"), epsilon)

    # ---------------------------------------------------------------------------------- learning

    def learn_batch(
        self, key: jax.Array, env: Env, state: LearnerState, batch: Batch, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        network = self._network(env.action_space)
        key_noise, key_head = jax.random.split(key)
        noise_keys, head_keys = jax.random.split(key_noise, 3), jax.random.split(key_head, 4)
        target = noise.draw(noise_keys[0], state.target_params)
        online = noise.draw(noise_keys[1], state.params)
        out = apply_network(network, target["network"], batch)
        _, value = self._predict(head_keys[0], target, out)
        out = apply_network_next(network, target["network"], batch)
        next_prediction, next_value = self._predict(head_keys[1], target, out)
        out = apply_network_next(network, online["network"], batch)
        _, next_online = self._predict(head_keys[2], online, out)
        backup = jax.vmap(jax.vmap(self.backup))(value, next_value, next_online, batch.action)
        policy, bonus, next_bonus = jax.lax.stop_gradient(backup)
        reward = batch.reward + bonus + batch.discount * next_bonus

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            params = noise.draw(noise_keys[2], params)
            out = apply_network(network, params["network"], batch)
            prediction, value = self._predict(head_keys[3], params, out)
            loss, error = jax.vmap(jax.vmap(self._loss))(
                prediction, batch.action, reward, batch.discount, next_prediction, policy
            )
            return jnp.mean(batch.weight * loss), (error, value)

        (loss, (error, value)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        largest = gathers.largest(value)
        return self._stepped(state, grads, clock, loss, error, largest, batch.weight)

    def _stepped(
        self,
        state: LearnerState,
        grads: Any,
        clock: Clock,
        loss: jax.Array,
        error: jax.Array,
        value: jax.Array,
        weight: jax.Array,
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """The state after a gradient step, the pieces' priorities, and metrics. error, value,
        weight: of the rows [N, T].
        """
        params, opt_state, norm = self.gradient_step(
            self.lr, grads, state.opt_state, state.params, clock
        )
        step = state.step + 1
        target_params = polyak_update(
            state.target_params, params, step, self.tau, self.target_period
        )
        metrics = {"loss": loss, "grad_norm": norm}
        metrics |= packing.means({"value": value, "error": error})
        priority = piece_priority(error * (weight > 0))
        return LearnerState(params, target_params, opt_state, step), priority, metrics

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: LearnerState,
        items: Transition,
        weight: jax.Array,
        clock: Clock,
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        if self.mixer is None:
            return super().learn(key, env, state, items, weight, clock)
        items, num_agents = by_agent(items)
        weight = jnp.repeat(weight, num_agents)
        recurrent = self.memory is not None
        batch = bootstrap(items, weight, self.gamma, self.n_step, self.burn_in, recurrent)
        return self._learn_mixed(env, state, batch, num_agents, clock)

    def _learn_mixed(
        self, env: Env, state: LearnerState, batch: Batch, num_agents: int, clock: Clock
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """`learn_batch` of rows of agents [N * A, T]; one target for the team."""
        mixer: Any = self.mixer
        network = self._network(env.action_space)

        def mixed(params: Any, values: jax.Array, obs: Any) -> jax.Array:
            """The joint value [N, T] of values [N * A, T] at these observations."""
            one = lambda values, obs: mixer(params["mixer"], values, whole_of(obs))
            return jax.vmap(jax.vmap(one))(*of_teams((values, obs), num_agents))

        def values(params: Any, out: dict[str, jax.Array]) -> jax.Array:
            return self._predict(None, params, out)[1]

        def at(values: jax.Array, action: jax.Array) -> jax.Array:
            return jax.vmap(jax.vmap(gathers.row))(values, action)

        target, online = state.target_params, state.params
        next_value = values(target, apply_network_next(network, target["network"], batch))
        next_online = values(online, apply_network_next(network, online["network"], batch))
        backup: Any = self.backup
        selecting = jnp.where(backup.double, next_online, next_value)
        chosen = at(next_value, gathers.index_of_largest(selecting))
        next_obs = jax.tree.map(
            lambda x: jax.vmap(lambda x, index: x[index])(x, batch.bootstrap_index), batch.next_obs
        )
        team = lambda x: of_teams(x, num_agents)[:, :, 0]  # the same for all agents of a team
        following = mixed(target, chosen, next_obs)
        goal = jax.lax.stop_gradient(team(batch.reward) + team(batch.discount) * following)
        weight = team(batch.weight)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            out = apply_network(network, params["network"], batch)
            value = mixed(params, at(values(params, out), batch.action), batch.obs)
            error = goal - value
            return jnp.mean(weight * losses.huber(error)), (jnp.abs(error), value)

        (loss, (error, value)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        return self._stepped(state, grads, clock, loss, error, value, weight)

    def _network(self, space: Space) -> networks.Recurrent:
        heads = self.head.heads(num_actions(space), self.dueling)
        return networks.build(self.network, self.memory, heads)

    def _predict(
        self, key: jax.Array | None, params: Any, out: dict[str, jax.Array]
    ) -> tuple[Any, jax.Array]:
        """The head's prediction, and action values, -inf where forbidden [..., n]."""
        prediction = self.head.predict(key, params["head"], out)
        return prediction, masks.allow(self.head.values(prediction), out.get("mask"))

    def _loss(
        self,
        prediction: Any,
        action: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
        next_prediction: Any,
        policy: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of one row and the magnitude of its error. [], []."""

        def target(next_value: jax.Array) -> jax.Array:
            return self.transform(reward + discount * self.transform.inverse(next_value))

        return self.head.loss(prediction, action, target, next_prediction, policy)
