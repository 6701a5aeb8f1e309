"""Streaming algorithms, without batches and replays: stream Q(lambda), SARSA(lambda), AC(lambda).

One environment, and one gradient step on each transition (Elsayed et al., 2024, "Streaming Deep
Reinforcement Learning Finally Works"): a step costs one backward pass and two forward, so that a
thousand streams run side by side under `vmap`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import masks, networks, normalize, rollout, tree
from jaxrl.algorithms.base import Algorithm, NetworkAgent, check_space
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.networks import MLP
from jaxrl.normalize import ReturnStats, Running
from jaxrl.optimizer import check_gradient_fields
from jaxrl.rollout import Action, Episode, Policy, Transition
from jaxrl.rules.base import Out, check_field
from jaxrl.rules.stream import ActionValues, StreamRule
from jaxrl.team_checks import check_single_agent
from jaxrl.tree import leaf, pytree, static

# The authors' network for classic control: sparse weights, and a norm without parameters before
# each activation.
NETWORK = MLP(
    (32, 32),
    jax.nn.leaky_relu,
    shared=True,
    layer_norm=True,
    free=(),
    init=networks.Sparse(),
    norm_weights=False,
)


@pytree
class State:
    """The state of a streaming algorithm: a copy of it is a fork, a stored one a checkpoint.

    trace: eligibility traces, with the structure of `params`.
    action: the next action, where the rule has drawn it already; None where not.
    obs_stats, reward_stats: None where off.
    """

    params: Any
    trace: Any
    episode: Episode
    action: Action
    clock: Clock
    obs_stats: Running | None
    reward_stats: ReturnStats | None


@pytree
class Stream(Algorithm):
    """Act, learn from the transition, and discard it, `num_steps` times in an update.

    rule: the algorithm, `ActionValues()` or `ActorCritic()` of `jaxrl.rules.stream`.
    lr: the largest step size, which the overshooting bound lowers.
    normalize_obs, normalize_reward: by running statistics that are updated at each step, frozen in
      evaluation. Leaves: a plain False costs nothing, a traced one keeps statistics unused.
    num_steps: steps of an update; it matters for speed alone.
    network: the builder of each of the rule's networks.
    """

    rule: StreamRule = ActionValues()
    lr: float = leaf(1.0, "[0, inf)")
    normalize_obs: bool = True
    normalize_reward: bool = True
    num_steps: int = static(default=16)
    network: networks.Builder = static(default=NETWORK)
    name: str = static(default="")

    def __post_init__(self) -> None:
        check_counts(self, "num_steps")
        check_gradient_fields(self)
        check_field(self, "rule", StreamRule, "rl.rules.stream.ActionValues()")

    @property
    def steps_per_update(self) -> int:
        return self.num_steps

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_space(env, self.rule.action_spaces, type(self.rule).__name__)
        check_single_agent(
            env,
            "A stream learns from one agent",
            "take rl.dqn() or rl.ppo(), which learn from all agents at once",
        )
        key_env, key_net, key_act = jax.random.split(key, 3)
        episode = rollout.reset(key_env, env)
        groups = self.rule.heads(env.action_space)
        params = {
            name: self.network(heads).init(key, masks.visible(episode.obs))
            for key, (name, heads) in zip(
                jax.random.split(key_net, len(groups)), groups.items(), strict=True
            )
        }
        action = None
        if self.rule.uses_next_action:
            action = env.action_space.sample(key_act, masks.mask_of(episode.obs))
        return State(
            params=params,
            trace=jax.tree.map(jnp.zeros_like, params),
            episode=episode,
            action=action,
            clock=start_clock(num_updates),
            obs_stats=_add(normalize.init_obs(self.normalize_obs, episode.obs), episode.obs),
            reward_stats=normalize.init_returns(self.normalize_reward, ()),
        )

    def agent(self, state: State) -> NetworkAgent:
        return NetworkAgent(state.params, state.obs_stats, state.clock)

    def policy(self, env: Env, agent: NetworkAgent, greedy: bool) -> Policy:
        def act(key: jax.Array, episode: Episode) -> tuple[tuple[()], Any, tuple[()]]:
            policy = self._forward(env, agent.params, agent.obs_stats, episode.obs, agent.clock)[
                "policy"
            ]
            return (), policy.mode() if greedy else policy.sample(key), ()

        return Policy(act)

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Return the state after `num_steps` steps of acting and learning, and mean metrics."""

        def step(state: State, i: jax.Array) -> tuple[State, tuple[Transition, Metrics]]:
            clock = tree.replace(state.clock, n=state.clock.n + i / self.num_steps)
            state, (transition, metrics) = self.step(jax.random.fold_in(key, i), env, state, clock)
            return state, (tree.replace(transition, obs=(), action=(), next_obs=()), metrics)

        state, (batch, metrics) = jax.lax.scan(step, state, jnp.arange(self.num_steps))
        means = jax.tree.map(jnp.mean, metrics)
        state = tree.replace(state, clock=state.clock.tick())
        return state, rollout.episode_metrics(env, batch) | means

    def step(
        self, key: jax.Array, env: Env, state: State, clock: Clock
    ) -> tuple[State, tuple[Transition, Metrics]]:
        """Return the state after one environment step and one gradient step, and what they gave.

        That is the transition and metrics. The clock of the state does not tick. Where an episode
        is truncated, the TD target bootstraps and the trace ends; the authors treat it as a
        termination.
        """
        rule = self.rule
        key_act, key_next, key_env = jax.random.split(key, 3)

        def forward(params: Any, stats: Running | None, obs: Any) -> Out:
            return self._forward(env, params, stats, obs, clock)

        out = forward(state.params, state.obs_stats, state.episode.obs)
        action = out["policy"].sample(key_act)
        if rule.uses_next_action:
            action = tree.where(state.episode.length > 0, state.action, action)
        stepped = rollout.step_autoreset(key_env, env, state.episode, action)
        # experience is data: a meta-gradient flows through learning
        action, (episode, transition) = jax.lax.stop_gradient((action, stepped))
        obs_stats = _add(state.obs_stats, transition.next_obs)
        reward_stats, reward = self._scale_reward(state, transition)

        next_out = forward(state.params, obs_stats, transition.next_obs)
        next_action = next_out["policy"].sample(key_next)
        discount = rule.gamma * (1.0 - transition.terminated)
        error = reward + discount * rule.next_value(next_out, next_action) - rule.value(out, action)

        def objective(params: Any) -> jax.Array:
            return rule.objective(
                forward(params, state.obs_stats, state.episode.obs), action, error
            )

        decay = rule.gamma * rule.lam * rule.trace_mask(out, action)
        trace = jax.tree.map(
            lambda z, grad: decay * z + grad, state.trace, jax.grad(objective)(state.params)
        )
        params, steps = {}, {}
        for name, kappa in rule.kappa.items():
            size = bounded_step(trace[name], error, self.lr, kappa)
            params[name] = jax.tree.map(
                lambda w, z, size=size: w + size * error * z, state.params[name], trace[name]
            )
            steps[f"{name}_step"] = size
        new_state = State(
            params=params,
            trace=jax.tree.map(lambda z: jnp.where(transition.done, 0.0, z), trace),
            episode=episode,
            action=next_action if rule.uses_next_action else None,
            clock=state.clock,
            # after an end, the next step begins at another observation, of a new episode
            obs_stats=tree.where(transition.done, _add(obs_stats, episode.obs), obs_stats),
            reward_stats=reward_stats,
        )
        metrics = {
            "loss": 0.5 * error**2,
            "td_error": jnp.abs(error),
            "entropy": out["policy"].entropy(),
        }
        return new_state, (transition, metrics | steps)

    def _forward(
        self, env: Env, params: Any, obs_stats: Running | None, obs: Any, clock: Clock
    ) -> Out:
        """The heads of all networks at one observation, and under "policy" their distribution."""
        visible = masks.visible(normalize.normalize_obs(obs_stats, obs, self.normalize_obs))
        out: Out = {}
        for name, heads in self.rule.heads(env.action_space).items():
            out |= self.network(heads).apply(params[name], visible)
        mask = masks.mask_of(obs)
        out |= {} if mask is None else {"mask": mask}
        return out | {"policy": self.rule.policy(env.action_space, out, clock)}

    def _scale_reward(
        self, state: State, transition: Transition
    ) -> tuple[ReturnStats | None, jax.Array]:
        """The statistics of the discounted return after this step, and the scaled reward [].

        The reward is divided by the standard deviation of the discounted return.
        """
        stats = state.reward_stats
        if stats is None:
            return None, transition.reward
        total = self.rule.gamma * stats.total + transition.reward
        running = normalize.update(stats.running, total, axes=())
        scaled = jnp.clip(transition.reward * _inverse_std(running), -10.0, 10.0)
        reward = jnp.where(self.normalize_reward, scaled, transition.reward)
        return ReturnStats(running, jnp.where(transition.done, 0.0, total)), reward


def _add(stats: Running | None, x: Any) -> Running | None:
    """The statistics with one more sample (Welford, 1962)."""
    return None if stats is None else normalize.update(stats, x, axes=())


def _inverse_std(stats: Running) -> jax.Array:
    """One over the sample standard deviation; 1 until there are two samples. []."""
    few = stats.count < 1.5
    variance = stats.variance * stats.count / jnp.where(few, 1.0, stats.count - 1.0)
    return jnp.where(few, 1.0, jax.lax.rsqrt(variance + 1e-8))


def bounded_step(trace: Any, error: jax.Array, lr: Any, kappa: Any) -> jax.Array:
    """A step size that does not overshoot (Elsayed et al., 2024, algorithm 3, ObGD). [].

    It is `lr`, or what keeps step * kappa * max(|error|, 1) * |trace|_1 from exceeding 1.
    """
    size = sum(jnp.sum(jnp.abs(z)) for z in jax.tree.leaves(trace))
    bound = lr * kappa * jnp.maximum(jnp.abs(error), 1.0) * size
    return lr / jnp.maximum(bound, 1.0)
