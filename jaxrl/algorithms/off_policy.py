"""The off-policy loop: collect transitions, store them in a replay, learn from samples of it."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import masks, normalize, packing, replay, rollout, tree
from jaxrl.algorithms import learner as learners
from jaxrl.algorithms.base import Algorithm, NetworkAgent, Relabel, check_space
from jaxrl.algorithms.learner import Learner, LearnerState
from jaxrl.clock import Clock, Metrics, start_clock
from jaxrl.env import Env
from jaxrl.errors import check_counts
from jaxrl.mixers import by_team
from jaxrl.normalize import ReturnStats, Running
from jaxrl.replay import Buffer, Priority, Replay, Sample, Uniform
from jaxrl.rollout import (
    Action,
    Episode,
    Experience,
    Extras,
    Policy,
    RnnState,
    Transition,
)
from jaxrl.rules.base import check_field
from jaxrl.schedules import Schedule
from jaxrl.team_checks import check_shared_reward
from jaxrl.tree import leaf, pytree, static

MAX_BATCHES = 16  # that are drawn at once, and so held in memory together


@pytree
class State:
    """The state of an off-policy algorithm: a copy of it is a fork, a stored one a checkpoint.

    obs_stats, reward_stats: None where off.
    """

    learner: LearnerState
    replay: Replay
    episodes: Episode
    clock: Clock
    obs_stats: Running | None
    reward_stats: ReturnStats | None

    @property
    def params(self) -> Any:
        """The learner's parameters."""
        return self.learner.params


@pytree
class OffPolicy(Algorithm):
    """Play `num_steps` in each of `num_envs`, store them, then take `updates` gradient steps.

    learner: turns a batch of the replay into better parameters.
    update_limit: how many of the `updates` change anything; a leaf, so that 1, 2 and 4 are one
      program.
    priority: how batches are sampled, `Uniform()` or `Prioritized()`.
    normalize_obs, normalize_reward: by running statistics, frozen in evaluation; what is stored
      stays raw.
    batch_size: pieces of `learner.sequence_length` transitions in a batch.
    capacity: transitions in the replay, over all environments.
    warmup: environment steps with random actions before the first gradient step.

    A team's agents are columns of the replay, each with the same policy. With a mixer, a column is
    a team.

    Offline learning needs no `collect`: put a data set into a state with a clock past the warm-up,
    and learn from the replay alone.

        state = algo.init(key, env)
        state = tree.replace(state, replay=algo.load(items), clock=Clock(10**6, float("inf")))
        state, metrics = algo.learn(key, env, state, None)
    """

    learner: Learner
    update_limit: float = leaf(float("inf"), "[0, inf]")
    priority: Priority = Uniform()
    normalize_obs: bool = False
    normalize_reward: bool = False
    num_envs: int = static(default=1)
    num_steps: int = static(default=1)
    updates: int = static(default=1)
    batch_size: int = static(default=128)
    capacity: int = static(default=50_000)
    warmup: int = static(default=1_000)
    name: str = static(default="")

    def __post_init__(self) -> None:
        counts = ("num_envs", "num_steps", "updates", "batch_size", "capacity", "warmup")
        check_counts(self, *counts)
        check_field(self, "learner", Learner, "rl.QLearning()")
        if isinstance(self.learner, Learner):
            self.buffer.check(self.num_envs, self.batch_size, self.warmup)

    replays = True

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps

    @property
    def gradient_steps_per_update(self) -> int:
        return self.updates

    @property
    def _warmup_updates(self) -> int:
        """Updates before the policy acts. The number of environment steps may exceed int32."""
        return -(-self.warmup // self.steps_per_update)

    @property
    def schedule(self) -> Schedule:
        """The schedule of the learner's learning rates."""
        return self.learner.schedule

    @property
    def buffer(self) -> Buffer:
        """The buffer that writes and reads the replay."""
        return Buffer(self.capacity, self.learner.sequence_length, self.priority)

    def init(
        self, key: jax.Array, env: Env, num_updates: jax.Array | float = float("inf")
    ) -> State:
        check_space(env, self.learner.action_spaces, type(self.learner).__name__)
        key_env, key_net = jax.random.split(key)
        columns = rollout.num_columns(env, self.num_envs)
        stored_columns, stored_agents = columns, env.num_agents or 1
        if self.learner.mixes:
            if stored_agents == 1:
                raise TypeError(
                    f"A mixer mixes the values of several agents, and {type(env).__name__} has "
                    "one: write mixer=None."
                )
            check_shared_reward(env, "A mixer")
            stored_columns, stored_agents = self.num_envs, 1
        self.buffer.check(stored_columns, self.batch_size, self.warmup * stored_agents)
        start = self.learner.initial_rnn_state(env.action_space)
        episodes = jax.vmap(lambda key: rollout.reset(key, env, start))(
            jax.random.split(key_env, self.num_envs)
        )
        obs = rollout.example_obs(env, episodes)
        of_all = jax.tree.map(lambda x: x[0], episodes.obs)
        state = State(
            learner=self.learner.init(
                key_net, env.action_space, of_all if self.learner.mixes else obs
            ),
            replay=(),  # type: ignore[arg-type]
            episodes=episodes,
            clock=start_clock(num_updates),
            obs_stats=normalize.init_obs(self.normalize_obs, obs),
            reward_stats=normalize.init_returns(self.normalize_reward, (columns,)),
        )

        def example(key: jax.Array) -> Transition:
            batch = self.collect(key, env, state)[1].transitions
            return jax.tree.map(lambda x: x[0, 0], self._stored(env, state, batch, batch.reward))

        return tree.replace(
            state, replay=self.buffer.init(jax.eval_shape(example, key), num_envs=stored_columns)
        )

    # ------------------------------------------------------------------------------------ acting

    def agent(self, state: State) -> NetworkAgent:
        return NetworkAgent(state.params, state.obs_stats, state.clock)

    def policy(self, env: Env, agent: NetworkAgent, greedy: bool) -> Policy:
        """The policy of an agent; an exploring one is random until `warmup` steps were played."""

        def normalized(episode: Episode) -> Episode:
            obs = normalize.normalize_obs(agent.obs_stats, episode.obs, self.normalize_obs)
            return tree.replace(episode, obs=obs)

        def act(key: jax.Array, episode: Episode) -> tuple[RnnState, Action, Extras]:
            rnn_state, action = self.learner.act(key, env, agent.params, normalized(episode))
            return rnn_state, action, ()

        def explore(key: jax.Array, episode: Episode) -> tuple[RnnState, Action, Extras]:
            key_random, key_learner = jax.random.split(key)
            rnn_state, action, extras = self.learner.explore(
                key_learner, env, agent.params, normalized(episode), agent.clock
            )
            warming_up = jnp.asarray(agent.clock.n < self._warmup_updates)
            random = env.action_space.sample(key_random, masks.mask_of(episode.obs))
            return rnn_state, tree.where(warming_up, random, action), extras

        start = self.learner.initial_rnn_state(env.action_space)
        return Policy(act if greedy else explore, start)

    def collect(self, key: jax.Array, env: Env, state: State) -> tuple[State, Experience]:
        policy = self.policy(env, self.agent(state), greedy=False)
        # experience is data: a meta-gradient flows through learning
        episodes, transitions = jax.lax.stop_gradient(
            rollout.rollout(key, env, policy, state.episodes, self.num_steps)
        )
        return tree.replace(state, episodes=episodes), Experience(state.episodes, transitions)

    # ---------------------------------------------------------------------------------- learning

    def learn(
        self,
        key: jax.Array,
        env: Env,
        state: State,
        experience: Experience | None,
        relabel: Relabel | None = None,
    ) -> tuple[State, Metrics]:
        """Return the state after storing the experience and `updates` gradient steps, and losses.

        experience: None learns offline, from the replay alone. relabel: applied to each sample
        before normalisation; rewards are stored as they were collected.
        """
        if relabel is not None and self.learner.mixes:
            raise TypeError(
                "A mixer learns from teams, and a reward model reads single agents: leave one out."
            )
        if relabel is not None and self.learner.stores_returns:
            raise TypeError(
                f"{type(self.learner).__name__} stores returns of the rewards that it collects, "
                "which a reward model would leave stale: take another learner, such as rl.dqn()."
            )
        if experience is not None:
            batch = experience.transitions
            read = batch
            if relabel is not None:  # the other keys are the same with relabelling and without
                reward = relabel(jax.random.fold_in(key, self.updates), batch)
                read = tree.replace(batch, reward=reward)
            state = self._count(state, read)
            item = self._stored(env, state, read, batch.reward)
            state = tree.replace(state, replay=self.buffer.add(state.replay, item))
        state, losses = self._gradient_steps(key, env, state, relabel)
        return tree.replace(state, clock=state.clock.tick()), losses

    def _gradient_steps(
        self, key: jax.Array, env: Env, state: State, relabel: Relabel | None
    ) -> tuple[State, Metrics]:
        def draw(replay: Replay, words: jax.Array) -> tuple[Sample, jax.Array]:
            key_sample, key_learn = jax.random.split(key_of(words))
            fraction = state.clock.fraction
            sample = self.buffer.sample(key_sample, replay, self.batch_size, fraction)
            return sample, jax.random.key_data(key_learn)

        def key_of(words: jax.Array) -> jax.Array:
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))

        def step(
            carry: tuple[LearnerState, Replay], now: tuple[jax.Array, jax.Array, Any]
        ) -> tuple[tuple[LearnerState, Replay], Metrics]:
            (learner_state, replay), (words, counted, drawn) = carry, now
            sample, words_learn = draw(replay, words) if drawn is None else drawn.unpack()
            items = sample.items
            if relabel is not None:
                key_relabel = jax.random.fold_in(key_of(words), 2)
                items = tree.replace(items, reward=relabel(key_relabel, items))
            new_state, priority, metrics = self.learner.learn(
                key_of(words_learn),
                env,
                learner_state,
                self._normalized(state, items),
                sample.weight,
                state.clock,
            )
            replay = self.buffer.reprioritize(replay, sample.index, priority, counted)
            return (tree.where(counted, new_state, learner_state), replay), metrics

        ready = state.clock.n >= self._warmup_updates - 1
        counted = ready & (jnp.arange(self.updates) < self.update_limit)
        words = jax.random.key_data(jax.random.split(key, self.updates))
        drawn = None
        if self._draws_at_once(state.replay):
            drawn = packing.pack(jax.vmap(lambda words: draw(state.replay, words))(words), axes=1)
        (learner_state, replay), metrics = packing.mean_scan(
            step, (state.learner, state.replay), (words, counted, drawn), counted
        )
        new_state = tree.replace(state, learner=learner_state, replay=replay)
        return new_state, metrics

    def _draws_at_once(self, replay: Replay) -> bool:
        """True where the batches of all gradient steps are drawn together, for a GPU: the
        draws depend on no gradient step, and the batches are few.
        """
        few = 1 < self.updates <= MAX_BATCHES
        return packing.packs() and few and not jax.tree.leaves(replay.tree)

    def freeze(self, active: jax.Array, new_state: State, state: State) -> State:
        """As in `Algorithm`, but the new replay is kept: selecting between two would copy one."""

        def without_replay(state: State) -> State:
            return tree.replace(state, replay=())

        kept = tree.where(active, without_replay(new_state), without_replay(state))
        return tree.replace(kept, replay=new_state.replay)

    def load(self, items: Transition, num_envs: int | None = None) -> Replay:
        """A data set as the replay that collecting it would have left, for offline learning.

        items: [N, ...] of one stream, or [T, num_envs, ...] of several, oldest first. The fields
        that a replay does not store may be (); `extras` are stored as given.
        """
        items = learners.stored(items, items.extras, self._recurrent)
        return self.buffer.prepare(replay.load(items, num_envs))

    # --------------------------------------------------------------------- storing and normalising

    @property
    def _recurrent(self) -> bool:
        return self.learner.memory is not None

    def _stored(self, env: Env, state: State, batch: Transition, reward: jax.Array) -> Transition:
        """What the replay stores of a rollout [T, B], with these rewards."""
        extras = self.learner.annotate(
            env, state.params, self._normalized(state, batch), state.clock
        )
        kept = tree.replace(learners.stored(batch, extras, self._recurrent), reward=reward)
        return by_team(kept, env.num_agents) if self.learner.mixes else kept

    def _count(self, state: State, batch: Transition) -> State:
        """Return the state with the statistics of a rollout [T, B]."""
        obs_stats = normalize.update_obs(state.obs_stats, batch.obs)
        reward_stats = normalize.update_returns(
            state.reward_stats, batch.reward, batch.done, self.learner.gamma
        )
        return tree.replace(state, obs_stats=obs_stats, reward_stats=reward_stats)

    def _normalized(self, state: State, items: Transition) -> Transition:
        """Transitions with observations and rewards as the learner reads them."""
        scale = normalize.reward_scale(state.reward_stats, self.normalize_reward)

        def normalized(obs: Any) -> Any:
            return normalize.normalize_obs(state.obs_stats, obs, self.normalize_obs)

        return tree.replace(
            items,
            reward=items.reward * scale,
            obs=normalized(items.obs),
            next_obs=normalized(items.next_obs),
        )
