"""Learning from the rollout just collected: PPO, A2C and every rule that reads a rollout once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, normalize, packing, rollout, tree
from jaxrl.algorithms.base import Algorithm, NetworkAgent, Relabel, check_space
from jaxrl.algorithms.controllers import Controller, ControllerState
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env, check_copies
from jaxrl.errors import check_counts
from jaxrl.networks import MLP
from jaxrl.normalize import ReturnStats, Running
from jaxrl.optimizer import (
    Optimizer,
    OptimizerBuilder,
    apply_gradients,
    at_rate,
    check_gradient_fields,
    permutation,
)
from jaxrl.rollout import Action, Episode, Experience, Policy, RnnState, Transition, Values
from jaxrl.rules.base import Out, Rule, RuleState, check_field, check_rule
from jaxrl.rules.surrogate import Surrogate
from jaxrl.schedules import Linear, Schedule, check_schedule
from jaxrl.team_checks import check_shared_reward
from jaxrl.tree import added, leaf, pytree, static

Forward = Callable[[Any, "Minibatch"], Out]  # (params, minibatch) -> heads and policy
# (rule, forward, params, batch, targets, clock) -> parameters, mask of the free ones, metrics
PolicyStep = Callable[..., tuple[Any, Any, Metrics]]


@pytree
class State:
    """The state of an on-policy learner: a copy of it is a fork, a stored one a checkpoint.

    obs_stats, reward_stats: None where off. controller_state: () without a controller.
    """

    params: Any
    opt_state: optax.OptState
    rule_state: RuleState
    episodes: Episode
    clock: Clock
    obs_stats: Running | None
    reward_stats: ReturnStats | None
    controller_state: ControllerState = ()


@pytree
class Minibatch:
    """The input of a loss: single steps [M, ...], or trajectories [M, T, ...].

    rnn_state: the recurrent state before each trajectory [M, ...]. first: True at the first step of
    an episode.
    """

    rnn_state: RnnState
    batch: Transition
    targets: Any
    first: jax.Array


@pytree
class OnPolicy(Algorithm):
    """Play `num_steps` in each of `num_envs`, then learn from it for `epochs` in `minibatches`.

    rule: the update rule, which turns the rollout into a loss. lr: the learning rate; `schedule` (a
    function of the clock) multiplies it. max_grad_norm: the gradient's global norm is clipped to
    it. optimizer: an `Optimizer`, or any function from a learning rate to an optax transformation.
    network, memory: builders; with a memory, a minibatch is whole trajectories. policy_step: a step
    of the policy on the whole rollout before the epochs, which then change only what the policy
    does not read (the value function), as TRPO's `TrustRegion`; None: the epochs change all.
    controller: sets hyperparameters before each update, as `LogLinear`; None: they are constant.

    epoch_limit: only so many of the epochs change anything; a leaf, so that 1, 2 and 4 epochs are
    one program (the others are padding, computed and dropped). normalize_obs, normalize_reward: by
    running statistics, kept in the state and frozen in evaluation; an update learns with those that
    its actions were chosen with. Leaves: a plain False costs nothing, a traced one keeps statistics
    unused.
    """

    rule: Rule = Surrogate()
    lr: float = leaf(2.5e-4, "[0, inf)")
    schedule: Schedule = Linear()
    max_grad_norm: float = leaf(0.5, "(0, inf]")
    epoch_limit: float = leaf(float("inf"), "[0, inf]")
    normalize_obs: bool = False
    normalize_reward: bool = False
    optimizer: Optimizer | OptimizerBuilder = Optimizer(
        optax.adam, {"eps": 1e-5, "eps_root": 1e-16}
    )
    policy_step: PolicyStep | None = None
    controller: Controller | None = added(None)
    num_envs: int = static(default=4)
    num_steps: int = static(default=128)
    epochs: int = static(default=4)
    minibatches: int = static(default=4)
    network: networks.Builder = static(default=MLP())
    memory: networks.Memory | None = static(default=None)
    name: str = static(default="")

    def __post_init__(self) -> None:
        check_counts(self, "num_envs", "num_steps", "epochs", "minibatches")
        check_gradient_fields(self)
        check_schedule(self)
        check_rule(self.rule)
        check_field(self, "controller", Controller, "rl.AdaptiveRate()")
        _check_minibatches(self)

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_rule(self.rule)
        check_space(env, self.rule.action_spaces, type(self.rule).__name__)
        _check_team(env, self.rule)
        key_env, key_net, key_rule = jax.random.split(key, 3)
        network = self._network(env)
        episodes = jax.vmap(lambda key: rollout.reset(key, env, network.start()))(
            jax.random.split(key_env, self.num_envs)
        )
        obs = rollout.example_obs(env, episodes)
        params = network.init(key_net, obs)
        columns = rollout.num_columns(env, self.num_envs)
        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            rule_state=self.rule.init(key_rule, params),
            episodes=episodes,
            clock=start_clock(num_updates),
            obs_stats=normalize.init_obs(self.normalize_obs, obs),
            reward_stats=normalize.init_returns(self.normalize_reward, (columns,)),
            controller_state=() if self.controller is None else self.controller.init(),
        )

    # ------------------------------------------------------------------------------------ acting

    def agent(self, state: State) -> NetworkAgent:
        return NetworkAgent(state.params, state.obs_stats, state.clock)

    def policy(self, env: Env, agent: NetworkAgent, greedy: bool) -> Policy:
        def act(key: jax.Array, episode: Episode) -> tuple[RnnState, Action, tuple[()]]:
            rnn_state, out = self.forward(env, agent, episode.rnn_state, episode.obs)
            action = out["policy"].mode() if greedy else out["policy"].sample(key)
            return rnn_state, action, ()

        return Policy(act, self._network(env).start())

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        agent = self.agent(state)
        played = self.rule.play(
            key,
            env,
            self.policy(env, agent, greedy=False),
            self.policy(env, agent, greedy=True),
            state.episodes,
            self.num_steps,
        )
        # experience is data: a meta-gradient flows through learning
        start, episodes, transitions = jax.lax.stop_gradient(played)
        return tree.replace(state, episodes=episodes), Experience(start, transitions)

    def forward(
        self, env: Env, agent: NetworkAgent | State, rnn_state: Any, obs: Any
    ) -> tuple[Any, Out]:
        """The recurrent state after one observation, and the network's heads there.

        `out["policy"]` is the distribution over actions that they parameterize.
        """
        obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        first = jnp.zeros(1, bool)
        rnn_state, out = self._forward(env, agent, agent.params, rnn_state, obs, first)
        return rnn_state, jax.tree.map(lambda x: x[0], out)

    def _network(self, env: Env) -> networks.Recurrent:
        heads = self.rule.policy_heads(env.action_space) | self.rule.heads
        return networks.build(self.network, self.memory, heads)

    def _forward(
        self,
        env: Env,
        agent: NetworkAgent | State,
        params: Any,
        rnn_state: Any,
        obs: Any,
        first: jax.Array,
    ) -> tuple[Any, Out]:
        """The network's heads along one trajectory, and under "policy" their distribution. [T]."""
        obs = normalize.normalize_obs(agent.obs_stats, obs, self.normalize_obs)
        rnn_state, out = self._network(env).apply(params, rnn_state, obs, first)

        def policy(out: Out) -> Any:
            return self.rule.policy(env.action_space, out, agent.clock)

        return rnn_state, out | {"policy": jax.vmap(policy)(out)}

    # ---------------------------------------------------------------------------------- learning

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        if experience is None:
            raise TypeError("OnPolicy learns from what it collected, and experience is None.")
        if self.controller is not None:
            values = self.controller.settings(self, state.clock, state.controller_state)
            algo = tree.put(tree.replace(self, controller=None), values)
            new_state, metrics = algo.learn(key, env, state, experience, relabel)
            now = self.controller.post_update(state.controller_state, metrics)
            return tree.replace(new_state, controller_state=now), metrics
        batch = experience.transitions
        if relabel is not None:
            key_relabel = jax.random.fold_in(key, self.epochs + 1)  # beyond the keys of learning
            batch = tree.replace(batch, reward=relabel(key_relabel, batch))
        ongoing = rollout.per_column(env, experience.start.length > 0)
        stats = normalize.continue_returns(state.reward_stats, ongoing)
        stats = normalize.update_returns(stats, batch.reward, batch.done, self.rule.gamma)
        reward = normalize.scale_rewards(stats, batch.reward, self.normalize_reward)
        rnn_state = rollout.columns(env, experience.start.rnn_state)
        algo = tree.replace(self, rule=self.rule.for_team(env.num_agents))
        new_state, metrics = algo._learn(
            key, env, state, rnn_state, tree.replace(batch, reward=reward)
        )
        obs_stats = normalize.update_obs(state.obs_stats, batch.obs)
        return tree.replace(
            new_state, obs_stats=obs_stats, reward_stats=stats, clock=state.clock.tick()
        ), metrics

    def values(self, env: Env, state: State, experience: Experience) -> Values:
        """Values and advantages by the rule's own estimator, in units of the environment's rewards.
        [T, B].
        """
        scale = normalize.reward_scale(state.reward_stats, self.normalize_reward)
        batch = experience.transitions
        batch = tree.replace(batch, reward=batch.reward * scale)
        rnn_state = rollout.columns(env, experience.start.rnn_state)
        first = jnp.roll(batch.done, 1, axis=0).at[0].set(False)
        out, next_out = self._forward_rollout(env, state, state.params, rnn_state, batch, first)
        return jax.tree.map(lambda x: x / scale, self.rule.values(out, next_out, batch))

    @property
    def _by_trajectory(self) -> bool:
        """True where a minibatch is whole trajectories."""
        return self.memory is not None or self.rule.whole_trajectories

    def _learn(
        self, key: jax.Array, env: Env, state: State, rnn_state: Any, batch: Transition
    ) -> tuple[State, Metrics]:
        rule_state, data = self._prepare(env, state, rnn_state, batch)

        def forward(params: Any, data: Minibatch) -> Out:
            def along(rnn_state: Any, obs: Any, first: jax.Array) -> Out:
                return self._forward(env, state, params, rnn_state, obs, first)[1]

            along = jax.vmap(along) if self._by_trajectory else along
            out = along(data.rnn_state, data.batch.obs, data.first)
            return _where_active(data.batch.active, out)

        params, policy_metrics, free = state.params, {}, None
        if self.policy_step is not None:
            params, free, policy_metrics = self.policy_step(
                self.rule,
                lambda params: forward(params, data),
                params,
                data.batch,
                data.targets,
                state.clock,
            )
        params, opt_state, metrics = self._epochs(key, state, params, data, forward, free)
        rule_state = self.rule.post_update(
            rule_state, params, lambda: forward(params, data), data.targets
        )
        new_state = tree.replace(state, params=params, opt_state=opt_state, rule_state=rule_state)
        return new_state, metrics | policy_metrics

    def _epochs(
        self,
        key: jax.Array,
        state: State,
        params: Any,
        data: Minibatch,
        forward: Forward,
        free: Any,
    ) -> tuple[Any, Any, Metrics]:
        """Return parameters, optimiser state and mean metrics after all epochs.

        free: where given, only the parameters that it marks True change.
        """
        num_items = data.batch.reward.shape[0]
        num_minibatches = self.epochs * self.minibatches
        optimizer = at_rate(self.optimizer, self.lr, params, self.schedule(state.clock))
        key_noise = jax.random.fold_in(key, self.epochs)  # beyond the keys of the epochs
        # known before compilation where it is a plain number
        limited = not (isinstance(self.epoch_limit, float) and self.epoch_limit >= self.epochs)

        def loss(params: Any, data: Minibatch) -> tuple[jax.Array, Metrics]:
            return self.rule.loss(forward(params, data), data.batch, data.targets, state.clock)

        rows_of = packing.rows(data)

        def step(
            now: tuple[Any, Any], item: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[tuple[Any, Any], Metrics]:
            params, opt_state = now
            rows, active, n = item
            minibatch = rows_of(rows)
            (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, minibatch)
            if free is not None:
                grads = jax.tree.map(jnp.multiply, grads, free)
            new_params, opt_state, norm = apply_gradients(
                optimizer,
                grads,
                opt_state,
                params,
                self.max_grad_norm,
                clock=state.clock,
                epoch=(n // self.minibatches) / max(self.epochs - 1, 1),
                key=jax.random.fold_in(key_noise, n),
            )
            new = new_params, opt_state
            return tree.where(active, new, now) if limited else new, metrics | {"grad_norm": norm}

        size = self.rule.columns_together  # the agents of a team are neighbouring columns

        def shuffle(key: jax.Array) -> jax.Array:
            groups = permutation(key, num_items // size)[:, None]
            return (groups * size + jnp.arange(size)[None]).reshape(self.minibatches, -1)

        rows = jax.vmap(shuffle)(jax.random.split(key, self.epochs)).reshape(num_minibatches, -1)
        numbers = jnp.arange(num_minibatches)
        active = numbers < jnp.maximum(self.epoch_limit, 0.0) * self.minibatches
        (params, opt_state), metrics = packing.mean_scan(
            step,
            (params, state.opt_state),
            (rows, active, numbers),
            counted=active if limited else None,
        )
        return params, opt_state, metrics

    def _prepare(
        self, env: Env, state: State, rnn_state: Any, batch: Transition
    ) -> tuple[RuleState, Minibatch]:
        """The rule's state, and the whole rollout with its targets, of which minibatches are rows.

        Rows are single steps [T * B], or trajectories [B, T].

        rnn_state: before the rollout. [B, ...].
        """
        # the recurrent state at row 0 was reset when its episode began
        first = jnp.roll(batch.done, 1, axis=0).at[0].set(False)
        out, next_out = self._forward_rollout(env, state, state.params, rnn_state, batch, first)
        target_params = self.rule.target_params(state.rule_state)
        if target_params is not None:
            target, next_target = self._forward_rollout(
                env, state, target_params, rnn_state, batch, first
            )
            out, next_out = out | {"target": target}, next_out | {"target": next_target}
        batch = tree.replace(batch, rnn_state=())
        rule_state, targets = self.rule.targets(state.rule_state, out, next_out, batch, state.clock)
        if self._by_trajectory:
            rows = jax.tree.map(lambda x: x.swapaxes(0, 1), (batch, targets, first))
        else:
            rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (batch, targets, first))
        return rule_state, Minibatch(rnn_state, *rows)

    def _forward_rollout(
        self,
        env: Env,
        state: State,
        params: Any,
        rnn_state: Any,
        batch: Transition,
        first: jax.Array,
    ) -> tuple[Out, Out]:
        """The heads at each observation of a rollout, and at its successor. [T, B]."""

        def along(rnn_state: Any, obs: Any, first: jax.Array) -> Out:
            return self._forward(env, state, params, rnn_state, obs, first)[1]

        if self._by_trajectory:
            out = jax.vmap(along, in_axes=(0, 1, 1), out_axes=1)(rnn_state, batch.obs, first)
            agent = NetworkAgent(params, state.obs_stats, state.clock)

            def successor(rnn_state: Any, obs: Any) -> Out:
                return self.forward(env, agent, rnn_state, obs)[1]

            next_out = jax.vmap(jax.vmap(successor))(batch.rnn_state, batch.next_obs)
            return _where_active(batch.active, out), next_out

        def at(obs: Any) -> Out:
            flat = lambda x: x.reshape(-1, *x.shape[2:])
            inputs = jax.tree.map(flat, (obs, first))
            out = packing.in_pieces(lambda x: along((), *x), inputs, self.minibatches)
            return jax.tree.map(lambda x: x.reshape(*batch.done.shape, *x.shape[1:]), out)

        return _where_active(batch.active, at(batch.obs)), at(batch.next_obs)


def _check_minibatches(algo: OnPolicy) -> None:
    if not algo._by_trajectory:
        size = algo.num_envs * algo.num_steps
        text = f"num_envs * num_steps = {algo.num_envs} * {algo.num_steps} ="
    else:
        size = algo.num_envs
        text = "num_envs (with a memory, or this rule, a minibatch is whole trajectories) ="
    if size % algo.minibatches:
        most = 4 * algo.minibatches
        near = [n for n in range(1, size + 1) if size % n == 0 and n <= most][-4:]
        options = ", ".join(map(str, near))
        raise ValueError(
            f"minibatches={algo.minibatches} does not divide {text} {size}; {options} would."
        )


def _where_active(active: jax.Array | tuple[()], out: Out) -> Out:
    """The heads, without a gradient at the steps after an agent of a team has terminated.

    There, heads are 0, so that value targets and advantages are too, and the policy is constant.
    """
    if isinstance(active, tuple):
        return out
    policy = tree.where(active, out["policy"], jax.lax.stop_gradient(out["policy"]))
    return tree.where(active, out, jax.tree.map(jnp.zeros_like, out)) | {"policy": policy}


def _check_team(env: Env, rule: Rule) -> None:
    if env.num_agents is not None and rule.plays_groups:
        raise TypeError(
            f"{type(rule).__name__} plays rollouts of single agents, and {type(env).__name__} is a "
            f"team of {env.num_agents}: take a rule without groups, such as rl.ppo()."
        )
    rule.for_team(env.num_agents)  # refuses a mixer of a single agent
    if rule.mixes and env.num_agents != 1:
        check_shared_reward(env, "A mixer")
    if rule.plays_groups:
        name = type(rule).__name__
        check_copies(env, f"{name} copies resets", "take a rule without groups, such as rl.ppo()")
