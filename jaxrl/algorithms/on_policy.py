"""Learning from what was just played: PPO, A2C and every rule that reads a rollout once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl import networks, normalize, rollout, tree
from jaxrl.algorithms.base import (
    Linear,
    Optimizer,
    apply_gradients,
    check_space,
    episode_metrics,
    permutation,
)
from jaxrl.env import Env
from jaxrl.networks import MLP
from jaxrl.rollout import Episode, Transition
from jaxrl.rules import base as rules
from jaxrl.rules.base import Clock, Metrics
from jaxrl.rules.surrogate import Surrogate
from jaxrl.spaces import Box, Discrete, MultiDiscrete
from jaxrl.tree import pytree, static


@pytree
class State:
    """All that an on-policy learner is: copying it forks the life, storing it is a checkpoint.

    `obs_stats`, and `reward_stats` with the discounted `reward_sum` [B] that it describes, are ()
    where not asked for.
    """

    params: Any
    opt_state: Any
    carry: Any
    episodes: Episode
    clock: Clock
    obs_stats: Any
    reward_stats: Any
    reward_sum: Any


@pytree
class OnPolicy:
    """Plays `num_steps` in each of `num_envs`, then learns from it for `epochs` in `minibatches`.

    epoch_limit: of these epochs, how many change anything; a leaf, so that 1, 2 and 4 epochs are
    one program (the others are padding: they are computed and thrown away).

    rule: what turns the rollout into a loss. lr: the learning rate; `schedule` (a function of the
    clock) multiplies it. max_grad_norm: what the gradient's global norm is held to. optimizer: an
    `Optimizer`, or any function from a learning rate to an optax transformation. network, memory:
    builders; with a memory, a minibatch is whole trajectories. policy_step: how the policy moves on
    the whole rollout before the epochs, which then only move what it does not read (the value
    function), as TRPO's `TrustRegion`; None: the epochs move all. normalize_obs, normalize_reward:
    by running statistics, kept in the state and frozen in evaluation; an update learns with those
    that its actions were chosen with. Leaves: a plain False costs nothing, a traced one keeps
    statistics unused.
    """

    rule: Any = Surrogate()
    lr: float = 2.5e-4
    schedule: Any = Linear()
    max_grad_norm: float = 0.5
    epoch_limit: float = float("inf")
    normalize_obs: bool = False
    normalize_reward: bool = False
    optimizer: Any = Optimizer(optax.adam, {"eps": 1e-5, "eps_root": 1e-16})
    policy_step: Any = None
    num_envs: int = static(default=4)
    num_steps: int = static(default=128)
    epochs: int = static(default=4)
    minibatches: int = static(default=4)
    network: networks.Builder = static(default=MLP())
    memory: networks.Memory | None = static(default=None)

    def __post_init__(self) -> None:
        _check_counts(self)
        if callable(self.lr):
            raise TypeError(
                "lr is a number, and got a function; a schedule multiplies it: write "
                "schedule=, say rl.Linear(0.1)."
            )
        if isinstance(self.optimizer, tuple) and not callable(self.optimizer):
            raise TypeError(
                "optimizer is a function from a learning rate to an optax transformation, and "
                "got a finished one: write "
                "optimizer=optax.adam and lr=1e-3 rather than optimizer=optax.adam(1e-3)."
            )
        if callable(self.optimizer) and jax.tree_util.all_leaves([self.optimizer]):
            object.__setattr__(
                self, "optimizer", Optimizer(self.optimizer)
            )  # a bare function can't be a leaf

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        rules.check_rule(self.rule)
        check_space(
            env,
            getattr(self.rule, "action_spaces", (Discrete, MultiDiscrete, Box)),
            type(self.rule).__name__,
        )
        key_env, key_net, key_rule = jax.random.split(key, 3)
        begin = lambda key: rollout.begin(key, env, self.start(env))
        episodes = jax.vmap(begin)(jax.random.split(key_env, self.num_envs))
        obs = jax.tree.map(lambda x: x[0], episodes.obs)
        params = self._network(env).init(key_net, obs)
        return State(
            params=params,
            opt_state=self.optimizer(self.lr).init(params),
            carry=self.rule.init(key_rule, params),
            episodes=episodes,
            clock=Clock(jnp.int32(0), jnp.float32(num_updates)),
            obs_stats=() if self.normalize_obs is False else normalize.start(obs),
            reward_stats=() if self.normalize_reward is False else normalize.start(0.0),
            reward_sum=() if self.normalize_reward is False else jnp.zeros(self.num_envs),
        )

    def start(self, env: Env) -> Any:
        return self._network(env).start()

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        state = tree.replace(
            state, clock=Clock(1, 1.0)
        )  # a policy that was loaded has no clock; a greedy one needs none
        memory, out = self.look(env, state, memory, obs)
        return memory, out["policy"].mode()

    def explore(
        self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any
    ) -> tuple[Any, Any]:
        """What it does to learn: an action drawn from the policy."""
        memory, out = self.look(env, state, memory, obs)
        return memory, out["policy"].sample(key)

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        key_act, key_learn = jax.random.split(key)
        policy = lambda act: lambda key, memory, obs: act(key, env, state, memory, obs)
        how = self.rule, key_act, env, policy(self.explore), policy(self.act)
        played = rules.play(*how, state.episodes, self.num_steps)
        begun, episodes, batch = jax.lax.stop_gradient(
            played
        )  # experience is data: a meta-gradient flows through learning
        metrics = episode_metrics(batch)
        state, batch = self._scale_rewards(tree.replace(state, episodes=begun), batch)
        learnt, losses = self._learn(key_learn, env, state, batch)
        if state.obs_stats != ():
            learnt = tree.replace(
                learnt, obs_stats=normalize.update(state.obs_stats, batch.obs, axes=(0, 1))
            )
        return tree.replace(learnt, episodes=episodes, clock=state.clock.tick()), metrics | losses

    # --------------------------------------------------------------------------------- what it sees

    def _network(self, env: Env) -> networks.Recurrent:
        return networks.build(
            self.network,
            self.memory,
            rules.policy_heads(self.rule, env.action_space) | self.rule.heads,
        )

    def _read(
        self, env: Env, state: State, params: Any, memory: Any, obs: Any, first: jax.Array
    ) -> tuple[Any, Any]:
        """The network's heads, and the policy they make, along one trajectory. [T]."""
        obs = normalize.see(state.obs_stats, obs, self.normalize_obs)
        memory, out = self._network(env).apply(params, memory, obs, first)
        policy = lambda out: rules.policy(self.rule, env.action_space, out, state.clock)
        return memory, out | {"policy": jax.vmap(policy)(out)}

    def look(self, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        """The network's heads, and under "policy" the distribution over actions that they make, at
        one observation.
        """
        obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        memory, out = self._read(env, state, state.params, memory, obs, jnp.zeros(1, bool))
        return memory, jax.tree.map(lambda x: x[0], out)

    def _scale_rewards(self, state: State, batch: Transition) -> tuple[State, Transition]:
        total = jax.tree.map(
            lambda total: jnp.where(state.episodes.length > 0, total, 0.0), state.reward_sum
        )
        stats, total, reward = normalize.scale_rewards(
            state.reward_stats,
            total,
            batch.reward,
            batch.done,
            self.rule.gamma,
            self.normalize_reward,
        )
        return tree.replace(state, reward_stats=stats, reward_sum=total), tree.replace(
            batch, reward=reward
        )

    # -------------------------------------------------------------------------------- how it learns

    @property
    def _whole(self) -> bool:
        """Whether a minibatch is whole trajectories."""
        return self.memory is not None or getattr(self.rule, "whole_trajectories", False)

    def _learn(
        self, key: jax.Array, env: Env, state: State, batch: Transition
    ) -> tuple[State, Metrics]:
        carry, trajectories = self._prepare(env, state, batch)
        num_items = trajectories[1].reward.shape[0]
        optimizer = self.optimizer(self.lr * self.schedule(state.clock))

        def read(
            params: Any, memory: Any, batch: Transition, targets: Any, first: jax.Array
        ) -> rules.Out:
            look = lambda memory, obs, first: self._read(env, state, params, memory, obs, first)[1]
            return (jax.vmap(look) if self._whole else look)(memory, batch.obs, first)

        def loss_of(params: Any, *items: Any) -> tuple[Any, Metrics]:
            return self.rule.loss(read(params, *items), *items[1:3], state.clock)

        moved, told, free = state.params, {}, None
        if self.policy_step is not None:
            look = lambda params: read(params, *trajectories)
            moved, free, told = self.policy_step(
                self.rule, look, moved, *trajectories[1:3], state.clock
            )

        def step(
            learner: tuple[Any, Any], now: tuple[jax.Array, ...]
        ) -> tuple[tuple[Any, Any], Metrics]:
            (params, opt_state), (chosen, counts, n) = learner, now
            minibatch = jax.tree.map(lambda x: x[chosen], trajectories)
            (_, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(params, *minibatch)
            grads = grads if free is None else jax.tree.map(jnp.multiply, grads, free)
            epoch = (n // self.minibatches) / max(self.epochs - 1, 1)
            time = {"clock": state.clock, "epoch": epoch, "key": jax.random.fold_in(key_noise, n)}
            params, opt_state, norm = apply_gradients(
                optimizer, grads, opt_state, params, self.max_grad_norm, **time
            )
            learnt = params, opt_state
            return (tree.where(counts, learnt, learner) if limited else learnt), metrics | {
                "grad_norm": norm
            }

        key_noise = jax.random.fold_in(key, self.epochs)  # beyond the keys of the epochs
        shuffle = lambda key: permutation(key, num_items).reshape(self.minibatches, -1)
        chosen = jax.vmap(shuffle)(jax.random.split(key, self.epochs)).reshape(
            self.epochs * self.minibatches, -1
        )
        limited = not (
            isinstance(self.epoch_limit, float) and self.epoch_limit >= self.epochs
        )  # known before compilation
        counts = jnp.arange(len(chosen)) < jnp.maximum(self.epoch_limit, 0.0) * self.minibatches
        (params, opt_state), metrics = jax.lax.scan(
            step, (moved, state.opt_state), (chosen, counts, jnp.arange(len(chosen)))
        )
        carry = rules.settle(
            self.rule, carry, params, lambda: read(params, *trajectories), trajectories[2]
        )
        state = tree.replace(state, params=params, opt_state=opt_state, carry=carry)
        weigh = lambda x: (
            jnp.where(counts, x, 0.0).sum() / jnp.maximum(counts.sum(), 1) if limited else x.mean()
        )
        return state, jax.tree.map(weigh, metrics) | told

    def _prepare(
        self, env: Env, state: State, batch: Transition
    ) -> tuple[Any, tuple[Any, Transition, Any, jax.Array]]:
        """The rule's targets, and what minibatches are made of: (memory, batch, targets, first).

        They are made of single steps, [T * B]; with a memory or where a rule asks, of the rollout's
        trajectories, [B, T].
        """
        first = (
            jnp.roll(batch.done, 1, axis=0).at[0].set(False)
        )  # the memory at row 0 was reset when its episode began
        out, next_out = self._read_rollout(env, state, batch, first)
        if (slow := rules.slow(self.rule, state.carry)) is not None:
            slow_out, slow_next_out = self._read_rollout(
                env, tree.replace(state, params=slow), batch, first
            )
            out, next_out = out | {"slow": slow_out}, next_out | {"slow": slow_next_out}
        batch = tree.replace(batch, memory=())
        carry, targets = self.rule.targets(state.carry, out, next_out, batch, state.clock)
        flat = (
            (lambda x: x.swapaxes(0, 1)) if self._whole else (lambda x: x.reshape(-1, *x.shape[2:]))
        )
        return carry, (state.episodes.memory, *jax.tree.map(flat, (batch, targets, first)))

    def _read_rollout(
        self, env: Env, state: State, batch: Transition, first: jax.Array
    ) -> tuple[rules.Out, rules.Out]:
        """The heads at each observation of a rollout, and at what came next. [T, B]."""
        read = lambda memory, obs, first: self._read(env, state, state.params, memory, obs, first)[
            1
        ]
        if self._whole:
            out = jax.vmap(read, in_axes=(0, 1, 1), out_axes=1)(
                state.episodes.memory, batch.obs, first
            )
            peek = lambda memory, obs: self.look(env, state, memory, obs)[1]
            return out, jax.vmap(jax.vmap(peek))(batch.memory, batch.next_obs)
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        full = lambda x: x.reshape(*batch.done.shape, *x.shape[1:])
        look = lambda obs: jax.tree.map(full, read((), jax.tree.map(flat, obs), flat(first)))
        return look(batch.obs), look(batch.next_obs)


def _check_counts(algo: OnPolicy) -> None:
    for name in ("num_envs", "num_steps", "epochs", "minibatches"):
        value = getattr(algo, name)
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(
                f"{name}={value!r} is not a positive whole number; write, say, {name}=4."
            )
    if not algo._whole:
        size, text = (
            algo.num_envs * algo.num_steps,
            f"num_envs * num_steps = {algo.num_envs} * {algo.num_steps} =",
        )
    else:
        size, text = (
            algo.num_envs,
            "num_envs (with a memory, or this rule, a minibatch is whole trajectories) =",
        )
    if size % algo.minibatches:
        near = [m for m in range(1, size + 1) if size % m == 0 and m <= 4 * algo.minibatches][-4:]
        options = ", ".join(map(str, near))
        raise ValueError(
            f"minibatches={algo.minibatches} does not divide {text} {size}; {options} would."
        )
