"""Learning from each step as it comes, then forgetting it: stream Q(lambda), SARSA(lambda) and
AC(lambda).

One environment, no batch and no buffer (Elsayed et al., 2024, "Streaming Deep Reinforcement
Learning Finally Works"): a step costs one pass back and two forward, so a thousand streams run side
by side under `vmap`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import masks, networks, normalize, rollout, tree
from jaxrl.algorithms.base import check_space, episode_metrics
from jaxrl.env import Env
from jaxrl.networks import MLP
from jaxrl.normalize import Running
from jaxrl.rollout import Episode, Transition
from jaxrl.rules.base import Clock, Metrics, Out
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.rules.stream import ActionValues, ActorCritic, Sarsa, Watkins
from jaxrl.spaces import Box, Discrete, MultiDiscrete
from jaxrl.tree import pytree, static

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
    """All that a stream is. `trace` has the structure of `params`; `action` is the next one where
    it is settled, else ().

    `obs_stats`, and `reward_stats` with the discounted `reward_sum` that it describes, are () where
    not asked for.
    """

    params: Any
    trace: Any
    episode: Episode
    action: Any
    clock: Clock
    obs_stats: Any
    reward_stats: Any
    reward_sum: Any


@pytree
class Stream:
    """Takes a step, learns from it, and forgets it, `num_steps` times in an update (a matter of
    speed alone).

    rule: what is learnt, `ActionValues()` or `ActorCritic()`. lr: the step size, which the bound on
    overshooting lowers. network: the builder of each of the rule's networks. normalize_obs,
    normalize_reward: by running statistics that take in each step as it comes, frozen in
    evaluation. Leaves: a plain False costs nothing, a traced one keeps statistics unused.
    """

    rule: Any = ActionValues()
    lr: float = 1.0
    normalize_obs: bool = True
    normalize_reward: bool = True
    num_steps: int = static(default=16)
    network: networks.Builder = static(default=NETWORK)

    def __post_init__(self) -> None:
        if not isinstance(self.num_steps, int | np.integer) or self.num_steps < 1:
            raise ValueError(
                f"num_steps={self.num_steps!r} is not a positive whole number; write, say, "
                "num_steps=16."
            )

    @property
    def steps_per_update(self) -> int:
        return self.num_steps

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        allowed = getattr(self.rule, "action_spaces", (Discrete, MultiDiscrete, Box))
        check_space(env, allowed, type(self.rule).__name__)
        key_env, key_net, key_act = jax.random.split(key, 3)
        episode = rollout.begin(key_env, env)
        groups = self.rule.heads(env.action_space)
        keys = jax.random.split(key_net, len(groups))
        build = lambda key, heads: self.network(heads).init(key, masks.visible(episode.obs))
        params = {
            name: build(key, heads) for key, (name, heads) in zip(keys, groups.items(), strict=True)
        }
        obs_stats = (
            ()
            if self.normalize_obs is False
            else _take_in(normalize.start(episode.obs), episode.obs)
        )
        return State(
            params=params,
            trace=jax.tree.map(jnp.zeros_like, params),
            episode=episode,
            action=env.action_space.sample(key_act, masks.mask_of(episode.obs))
            if self.rule.commits
            else (),
            clock=Clock(jnp.int32(0), jnp.float32(num_updates)),
            obs_stats=obs_stats,
            reward_stats=() if self.normalize_reward is False else normalize.start(0.0),
            reward_sum=() if self.normalize_reward is False else jnp.float32(0.0),
        )

    def start(self, env: Env) -> tuple[()]:
        return ()

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        out = self._read(
            env, state.params, state.obs_stats, obs, Clock(1, 1.0)
        )  # a loaded policy has no clock
        return memory, out["policy"].mode()

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        def step(state: State, i: jax.Array) -> tuple[State, tuple[Transition, Metrics]]:
            clock = Clock(state.clock.n + i / self.num_steps, state.clock.total)
            state, (seen, told) = self.step(jax.random.fold_in(key, i), env, state, clock)
            return state, (tree.replace(seen, obs=(), action=(), next_obs=()), told)

        state, (batch, metrics) = jax.lax.scan(step, state, jnp.arange(self.num_steps))
        means = jax.tree.map(jnp.mean, metrics)
        return tree.replace(state, clock=state.clock.tick()), episode_metrics(batch) | means

    def step(
        self, key: jax.Array, env: Env, state: State, clock: Clock
    ) -> tuple[State, tuple[Transition, Metrics]]:
        """One step of the world and of learning, at a point of the life: the state after it, the
        transition, and metrics.

        Where an episode is cut by the clock its last value counts, and the trace ends; the authors
        take it for a death.
        """
        rule, key_act, key_next, key_env = self.rule, *jax.random.split(key, 3)
        read = lambda params, stats, obs: self._read(env, params, stats, obs, clock)
        out = read(state.params, state.obs_stats, state.episode.obs)
        action = out["policy"].sample(key_act)
        if rule.commits:
            action = tree.where(state.episode.length > 0, state.action, action)
        played = rollout.advance(key_env, env, state.episode, action)
        action, (episode, seen) = jax.lax.stop_gradient(
            (action, played)
        )  # a meta-gradient flows through learning alone
        obs_stats, next_stats = self._follow_obs(state, seen, episode)
        reward_stats, reward_sum, reward = self._follow_reward(state, seen)

        next_out = read(state.params, obs_stats, seen.next_obs)
        next_action = next_out["policy"].sample(key_next)
        target = reward + rule.gamma * (1.0 - seen.terminated) * rule.next_value(
            next_out, next_action
        )
        error = target - rule.value(out, action)
        objective = lambda params: rule.objective(
            read(params, state.obs_stats, state.episode.obs), action, error
        )
        decay = rule.gamma * rule.lam * rule.survives(out, action)
        trace = jax.tree.map(
            lambda z, grad: decay * z + grad, state.trace, jax.grad(objective)(state.params)
        )
        steps = {
            name: bounded_step(trace[name], error, self.lr, kappa)
            for name, kappa in rule.kappa.items()
        }
        move = lambda step: lambda weight, z: weight + step * error * z
        params = {
            name: jax.tree.map(move(steps[name]), state.params[name], trace[name]) for name in steps
        }
        learnt = State(
            params=params,
            trace=jax.tree.map(lambda z: jnp.where(seen.done, 0.0, z), trace),
            episode=episode,
            action=next_action if rule.commits else (),
            clock=state.clock,
            obs_stats=next_stats,
            reward_stats=reward_stats,
            reward_sum=reward_sum,
        )
        told = {
            "loss": 0.5 * error**2,
            "td_error": jnp.abs(error),
            "entropy": out["policy"].entropy(),
        }
        told |= {f"{name}_step": step for name, step in steps.items()}
        return learnt, (seen, told)

    # --------------------------------------------------------------------------------- what it sees

    def _read(self, env: Env, params: Any, obs_stats: Any, obs: Any, clock: Clock) -> Out:
        """The heads of all networks at one observation, and the policy that they make."""
        seen = masks.visible(normalize.see(obs_stats, obs, self.normalize_obs))
        out: Out = {}
        for name, heads in self.rule.heads(env.action_space).items():
            out |= self.network(heads).apply(params[name], seen)
        mask = masks.mask_of(obs)
        out |= {} if mask is None else {"mask": mask}
        return out | {"policy": self.rule.policy(env.action_space, out, clock)}

    def _follow_obs(self, state: State, seen: Transition, episode: Episode) -> tuple[Any, Any]:
        """The statistics with the step's successor, and with what the next step begins at: after an
        end, a new episode.
        """
        if state.obs_stats == ():
            return (), ()
        stats = _take_in(state.obs_stats, seen.next_obs)
        return stats, tree.where(seen.done, _take_in(stats, episode.obs), stats)

    def _follow_reward(self, state: State, seen: Transition) -> tuple[Any, Any, jax.Array]:
        """The reward over the running standard deviation of the discounted return, this step
        included.
        """
        if state.reward_stats == ():
            return (), (), seen.reward
        total = self.rule.gamma * state.reward_sum + seen.reward
        stats = _take_in(state.reward_stats, total)
        reward = jnp.where(
            self.normalize_reward, jnp.clip(seen.reward * _scale(stats), -10.0, 10.0), seen.reward
        )
        return stats, jnp.where(seen.done, 0.0, total), reward


def _take_in(stats: Running, x: Any) -> Running:
    """The statistics with one more sample (Welford, 1962)."""
    return normalize.update(stats, x, axes=())


def _scale(stats: Running) -> jax.Array:
    """One over the sample's standard deviation; 1 until there are two of them. []."""
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


def _stream(own_rule: Any, lr: Any, memory: None = None, **fields: Any) -> Stream:
    if memory is not None:
        raise TypeError(
            f"A stream learns from one step at a time and has no memory, but got {memory}. "
            "Leave memory= out, or take an "
            "algorithm that has one (`jaxrl algorithms` says which), say rl.ppo or rl.dqn."
        )
    return Stream(**{"rule": own_rule, "lr": lr} | fields)


def stream_q(
    *,
    lr: float = 1.0,
    gamma: float = 0.99,
    lam: float = 0.8,
    value_kappa: float = 2.0,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.01,
    epsilon_fraction: float = 0.05,
    **fields: Any,
) -> Stream:
    """Stream Q(lambda) (Elsayed et al., 2024): Watkins' Q(lambda), a step at a time. `fields` are
    those of `Stream`.

    The trace of what came before is cut at an exploratory action, as in the paper's pseudocode and
    by Watkins; the authors' code cuts it after that action's own step. Floats may be traced.
    """
    exploration = EpsilonGreedy(epsilon_start, epsilon_end, epsilon_fraction)
    return _stream(ActionValues(Watkins(), gamma, lam, exploration, value_kappa), lr, **fields)


def stream_sarsa(
    *,
    lr: float = 1.0,
    gamma: float = 0.99,
    lam: float = 0.8,
    value_kappa: float = 2.0,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.01,
    epsilon_fraction: float = 0.05,
    **fields: Any,
) -> Stream:
    """Stream SARSA(lambda) (Elsayed et al., 2024): a step at a time.

    `fields` are those of `Stream`.
    """
    exploration = EpsilonGreedy(epsilon_start, epsilon_end, epsilon_fraction)
    return _stream(ActionValues(Sarsa(), gamma, lam, exploration, value_kappa), lr, **fields)


def stream_ac(
    *,
    lr: float = 1.0,
    gamma: float = 0.99,
    lam: float = 0.8,
    entropy_weight: float = 0.01,
    policy_kappa: float = 3.0,
    value_kappa: float = 2.0,
    **fields: Any,
) -> Stream:
    """Stream AC(lambda) (Elsayed et al., 2024): actor and critic, a step at a time. `fields` are
    those of `Stream`.

    The authors' networks for continuous control are four times as wide: network=MLP((128, 128),
    ...). Floats may be traced.
    """
    return _stream(ActorCritic(gamma, lam, entropy_weight, policy_kappa, value_kappa), lr, **fields)
