"""Learning from what was kept: DQN, SAC and every learner that reads a replay buffer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import masks, normalize, replay, returns, rollout, tree
from jaxrl.algorithms.base import check_space, episode_metrics
from jaxrl.algorithms.learner import Batch, Learnt, read, read_next
from jaxrl.env import Env
from jaxrl.replay import Buffer, Replay, Uniform
from jaxrl.rollout import Episode, Transition
from jaxrl.rules.base import Clock, Metrics
from jaxrl.tree import pytree, static

__all__ = ["Batch", "Learnt", "OffPolicy", "State", "read", "read_next"]


@pytree
class State:
    """All that an off-policy learner is.

    `obs_stats`, `reward_stats` and `reward_sum` [B] are () where not asked for.
    """

    params: Any
    targets: Any
    opt_state: Any
    step: jax.Array
    replay: Replay
    episodes: Episode
    clock: Clock
    obs_stats: Any
    reward_stats: Any
    reward_sum: Any

    @property
    def learnt(self) -> Learnt:
        return Learnt(self.params, self.targets, self.opt_state, self.step)


@pytree
class OffPolicy:
    """Plays `num_steps` in each of `num_envs`, keeps them, then learns `updates` times from batches
    of what it kept.

    learner: what turns a batch into better parameters. update_limit: of these updates, how many
    change anything; a leaf, so that 1, 2 and 4 are one program. capacity: the transitions that are
    kept, over all environments. warmup: environment steps with random actions before it learns.
    n_step: rewards that are summed before a value. priority: how batches are drawn, `Uniform()` or
    `Prioritized()`. With a memory (the learner's) a batch is `batch_size` pieces of `sequence`
    steps, read after `burn_in` others that only bring the memory up to date (Kapturowski et al.,
    2019). normalize_obs, normalize_reward: by running statistics, frozen in evaluation; what is
    kept stays raw.
    """

    learner: Any
    update_limit: float = float("inf")
    priority: Any = Uniform()
    normalize_obs: bool = False
    normalize_reward: bool = False
    num_envs: int = static(default=1)
    num_steps: int = static(default=1)
    updates: int = static(default=1)
    batch_size: int = static(default=128)
    capacity: int = static(default=50_000)
    warmup: int = static(default=1_000)
    n_step: int = static(default=1)
    burn_in: int = static(default=8)
    sequence: int = static(default=16)

    def __post_init__(self) -> None:
        for name in (
            "num_envs",
            "num_steps",
            "updates",
            "batch_size",
            "capacity",
            "warmup",
            "n_step",
            "sequence",
        ):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(
                    f"{name}={value!r} is not a positive whole number; write, say, {name}=4."
                )
        self.buffer.check(self.num_envs, self.batch_size, self.warmup)

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps

    @property
    def schedule(self) -> Any:
        """The learner's, of its learning rate; None if it has none."""
        return getattr(self.learner, "schedule", None)

    @property
    def recurrent(self) -> bool:
        return getattr(self.learner, "memory", None) is not None

    @property
    def buffer(self) -> Buffer:
        """A piece with a memory begins one row early: the memory kept there is what it starts
        from.
        """
        length = 1 + self.burn_in + self.sequence if self.recurrent else self.n_step
        return Buffer(self.capacity, length, self.priority)

    def init(self, key: jax.Array, env: Env, num_updates: Any = float("inf")) -> State:
        check_space(env, self.learner.action_spaces, type(self.learner).__name__)
        key_env, key_net = jax.random.split(key)
        begin = lambda key: rollout.begin(key, env, self.start(env))
        episodes = jax.vmap(begin)(jax.random.split(key_env, self.num_envs))
        obs = jax.tree.map(lambda x: x[0], episodes.obs)
        learnt = self.learner.init(key_net, env, obs)
        state = State(
            params=learnt.params,
            targets=learnt.targets,
            opt_state=learnt.opt_state,
            step=learnt.step,
            replay=(),  # type: ignore[arg-type]
            episodes=episodes,
            clock=Clock(jnp.int32(0), jnp.float32(num_updates)),
            obs_stats=() if self.normalize_obs is False else normalize.start(obs),
            reward_stats=() if self.normalize_reward is False else normalize.start(0.0),
            reward_sum=() if self.normalize_reward is False else jnp.zeros(self.num_envs),
        )
        one = lambda key: jax.tree.map(
            lambda x: x[0, 0], self._keep(env, state, self._play(key, env, state)[1])
        )
        return tree.replace(state, replay=self.buffer.init(jax.eval_shape(one, key), self.num_envs))

    def start(self, env: Env) -> Any:
        return self.learner.start(env)

    def act(self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any) -> tuple[Any, Any]:
        return self.learner.act(key, env, state.params, memory, self._see(state, obs))

    def explore(
        self, key: jax.Array, env: Env, state: State, memory: Any, obs: Any
    ) -> tuple[Any, Any]:
        """What it does to learn: a random action until `warmup` steps were played."""
        key_random, key_learner = jax.random.split(key)
        memory, action = self.learner.explore(
            key_learner, env, state.params, memory, self._see(state, obs), state.clock
        )
        warming = jnp.asarray(state.clock.n * self.steps_per_update < self.warmup)
        return memory, tree.where(
            warming, env.action_space.sample(key_random, masks.mask_of(obs)), action
        )

    def update(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        key_act, key_learn = jax.random.split(key)
        episodes, batch = jax.lax.stop_gradient(self._play(key_act, env, state))
        state = self._count(tree.replace(state, episodes=episodes), batch)
        state = tree.replace(
            state, replay=self.buffer.add(state.replay, self._keep(env, state, batch))
        )
        state, losses = self.learn(key_learn, env, state)
        return tree.replace(state, clock=state.clock.tick()), episode_metrics(batch) | losses

    def learn(self, key: jax.Array, env: Env, state: State) -> tuple[State, Metrics]:
        """Only learns: what an update does after it played.

        Offline, this is all there is to call (see `load`).
        """

        def step(
            carry: tuple[Learnt, Replay], now: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[Learnt, Replay], Metrics]:
            (learnt, replay), (words, counts) = carry, now
            key_sample, key_learn = jax.random.split(
                jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
            )
            sample = self.buffer.sample(key_sample, replay, self.batch_size, state.clock.fraction)
            batch = self._batch(state, sample.items, sample.weight)
            better, priority, metrics = self.learner.learn(
                key_learn, env, learnt, batch, state.clock
            )
            replay = self.buffer.reprioritize(replay, sample.index, priority, counts)
            return (tree.where(counts, better, learnt), replay), metrics

        ready = (state.clock.n + 1) * self.steps_per_update >= self.warmup
        counts = ready & (jnp.arange(self.updates) < self.update_limit)
        words = jax.random.key_data(jax.random.split(key, self.updates))
        (learnt, replay), metrics = jax.lax.scan(
            step, (state.learnt, state.replay), (words, counts)
        )
        mean = lambda x: jnp.where(counts, x, 0.0).sum() / jnp.maximum(counts.sum(), 1)
        return tree.replace(state, **vars(learnt), replay=replay), jax.tree.map(mean, metrics)

    def load(self, items: Transition, num_envs: int | None = None) -> Replay:
        """A data set as the replay that it would have become: items [N, ...] of one stream, or [T,
        num_envs, ...].

        Put it in a state whose clock is past the warm-up, and call `learn`; nothing need ever be
        played.
        """
        return self.buffer.prepare(replay.load(_kept(items, self.recurrent), num_envs))

    # --------------------------------------------------------------------------------- what it sees

    def _play(self, key: jax.Array, env: Env, state: State) -> tuple[Episode, Transition]:
        policy = lambda key, memory, obs: self.explore(key, env, state, memory, obs)
        return rollout.rollout(key, env, policy, state.episodes, self.num_steps)

    def _see(self, state: State, obs: Any) -> Any:
        return normalize.see(state.obs_stats, obs, self.normalize_obs)

    def _count(self, state: State, batch: Transition) -> State:
        """The running statistics with what was just played."""
        if state.obs_stats != ():
            state = tree.replace(
                state, obs_stats=normalize.update(state.obs_stats, batch.obs, axes=(0, 1))
            )
        if state.reward_stats != ():
            now = (state.reward_stats, state.reward_sum, batch.reward, batch.done)
            stats, total, _ = normalize.scale_rewards(
                *now, self.learner.gamma, self.normalize_reward
            )
            state = tree.replace(state, reward_stats=stats, reward_sum=total)
        return state

    def _keep(self, env: Env, state: State, batch: Transition) -> Transition:
        """What the buffer keeps of a rollout [T, B], and what the learner notes of it."""
        write = getattr(self.learner, "note", lambda *_: ())
        return _kept(
            batch, self.recurrent, write(env, state.params, self._seen(state, batch), state.clock)
        )

    def _seen(self, state: State, items: Transition) -> Transition:
        """Transitions with observations and rewards as the learner sees them."""
        scale, see = (
            normalize.reward_scale(state.reward_stats, self.normalize_reward),
            lambda obs: self._see(state, obs),
        )
        return tree.replace(
            items, reward=items.reward * scale, obs=see(items.obs), next_obs=see(items.next_obs)
        )

    def _batch(self, state: State, items: Transition, weight: jax.Array) -> Batch:
        """A sample [N, length] as a learner reads it."""
        return jax.vmap(self._piece)(self._seen(state, items), weight)

    def _piece(self, items: Transition, weight: jax.Array) -> Batch:
        """One piece [length]: n-step sums; what belongs to the past; what is unknown."""
        memory, past, first = (), (), jnp.zeros(len(items.reward), bool)
        if self.recurrent:
            memory = jax.tree.map(lambda x: x[0], items.memory)
            first, items = (
                items.done[:-1],
                jax.tree.map(lambda x: x[1:], tree.replace(items, memory=())),
            )
            past = jax.tree.map(lambda x: x[: self.burn_in], (items.obs, first))
            first, items = jax.tree.map(lambda x: x[self.burn_in :], (first, items))
        discount = self.learner.gamma * (1.0 - items.terminated)
        reward, discount, ahead = returns.n_step_sums(
            items.reward, discount, items.done, self.n_step
        )
        known = ~items.truncated[ahead] | (
            ahead == len(ahead) - 1
        )  # a memory can't look past an episode's cut
        next_obs = items.next_obs
        if not self.recurrent:  # the sums from its first row are all that is wanted
            next_obs = jax.tree.map(lambda x: x[ahead[:1]], next_obs)
            known, ahead = jnp.ones(1, bool), jnp.zeros(1, jnp.int32)
            items, reward, discount, first = jax.tree.map(
                lambda x: x[:1], (items, reward, discount, first)
            )
        row = (
            items.obs,
            items.action,
            reward,
            discount,
            next_obs,
            ahead,
            weight * known,
            first,
            items.done,
        )
        return Batch(*row, past=past, memory=memory, note=items.ret)


def _kept(batch: Transition, with_memory: bool, note: Any = ()) -> Transition:
    """What a buffer keeps of transitions; the return so far gives its place to the learner's
    note.
    """
    return tree.replace(batch, ret=note, length=(), memory=batch.memory if with_memory else ())
