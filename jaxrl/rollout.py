"""Rollouts: one step, many steps, whole episodes; with the time limit, resets and returns.

One policy plays all `num_agents` agents of a team, vmapped over them. Agents are columns of a
batch: B environments of A agents are B * A columns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import packing, tree
from jaxrl.clock import Metrics
from jaxrl.env import Env, Obs, State, Step
from jaxrl.errors import check_count
from jaxrl.keys import as_key
from jaxrl.spaces import Space
from jaxrl.tree import pytree

# variables of results that a channel may not replace
RESERVED = (
    *("return", "length", "episodes", "step", "eval_step", "evaluation", "diverged", "seed"),
    *("by_agent", "by_role"),  # evaluation_by_agent
)
RnnState = Any
Action = Any
Extras = Any


@pytree
class Episode:
    """An environment in the middle of an episode.

    rnn_state: the policy's recurrent state, () without one. length, episode_return: of the steps so
    far. info: the sum so far of each of the environment's `channels`. For a team, obs, rnn_state
    and episode_return have a leading [A]. terminated: a team's agents that have terminated while
    others go on, bool [A]; () for a single agent.
    """

    state: State
    obs: Obs
    rnn_state: RnnState
    length: jax.Array
    episode_return: jax.Array
    info: dict[str, jax.Array]
    terminated: jax.Array | tuple[()] = ()


@pytree
class Transition:
    """One step of an episode.

    next_obs: the true successor, also where the episode ends. terminated: no reward can follow;
    truncated: cut off by the time limit. episode_return, length, episode_info: of the episode up to
    and including this step. rnn_state: the policy's after reading `obs`. extras: what the policy
    returned besides the action, () if nothing. info: this step's value of each of the environment's
    `channels`. In a team, length is 0 from an agent's own termination until the team's
    episode ends, where the agent's episode counts once. active: False where an agent of a team had
    terminated before this step, which is then not learned from; () for a single agent.
    """

    obs: Obs
    action: Action
    reward: jax.Array
    next_obs: Obs
    terminated: jax.Array
    truncated: jax.Array
    episode_return: jax.Array
    length: jax.Array
    rnn_state: RnnState
    extras: Extras
    info: dict[str, jax.Array]
    episode_info: dict[str, jax.Array]
    active: jax.Array | tuple[()] = ()

    @property
    def done(self) -> jax.Array:
        """True at the last step of an episode."""
        return self.terminated | self.truncated


PolicyFunction = Callable[[jax.Array, Episode], tuple[RnnState, Action, Extras]]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, so that it can be jitted
class Policy:
    """A function `(key, episode) -> (rnn_state, action, extras)`, and its initial recurrent state.

    The function takes the whole episode, so that a planner can start from `episode.state`; most
    policies read `episode.obs` and `episode.rnn_state`. extras: what learning needs later
    (log-probabilities, visit counts), () if nothing. rnn_state: at the start of an episode; zeros,
    or () without one.
    """

    function: PolicyFunction
    rnn_state: RnnState = ()

    def __call__(self, key: jax.Array, episode: Episode) -> tuple[RnnState, Action, Extras]:
        returned = self.function(key, episode)
        if not (isinstance(returned, tuple) and len(returned) == 3):
            raise TypeError(
                "A policy is a function (key, episode) -> (rnn_state, action, extras), and this "
                f"one returned {type(returned).__name__}: write lambda key, episode: ((), "
                "action_at(episode.obs), ())."
            )
        return returned


@pytree
class Experience:
    """What an algorithm collects: transitions [T, B], and the episodes [B] that they continue."""

    start: Episode
    transitions: Transition


@pytree
class Values:
    """A learner's values and advantages of transitions. [T, B]."""

    value: jax.Array
    advantage: jax.Array


@pytree
class Evaluation:
    """Results of whole episodes: returns [N] (a team: [N, A]), and the sum of each channel."""

    episode_return: jax.Array
    info: dict[str, jax.Array]


# ------------------------------------------------------------------------------------------- a step


def reset(key: jax.Array, env: Env, rnn_state: RnnState = ()) -> Episode:
    """Return a new episode. rnn_state: the initial recurrent state of the policy, for one agent."""
    env = _alone(env)
    state, obs = env.reset(key)
    start_return, info, terminated = jnp.float32(0.0), {}, ()
    if env.num_agents is not None:
        start_return = jnp.zeros(env.num_agents, jnp.float32)
        terminated = jnp.zeros(env.num_agents, bool)
        rnn_state = _for_each_agent(env.num_agents, rnn_state)
    if env.channels:
        shapes = jax.eval_shape(lambda key: _first_info(key, env, state), key)
        info = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)
    return Episode(state, obs, rnn_state, jnp.int32(0), start_return, info, terminated)


def step(
    key: jax.Array, env: Env, episode: Episode, action: Action, extras: Extras = ()
) -> tuple[Episode, Transition]:
    """Return the episode after one step, without a reset, and the transition.

    An action outside a box is clipped to it for the environment; the transition holds it unclipped.
    """
    env = _alone(env)
    state, result = env.step(key, episode.state, _clip(env, action))
    reward = jnp.asarray(result.reward, jnp.float32)
    length, episode_return = episode.length + 1, episode.episode_return + reward
    terminated = jnp.asarray(result.terminated, bool)
    info = {name: jnp.asarray(result.info[name], jnp.float32) for name in env.channels}
    episode_info = jax.tree.map(jnp.add, episode.info, info)
    active: jax.Array | tuple[()] = ()
    if env.num_agents is None:
        truncated = (length >= env.max_steps) & ~terminated
        reported_length = length
    else:
        if reward.shape != (env.num_agents,):
            raise ValueError(
                f"{type(env).__name__} is a team of {env.num_agents} with rewards of shape "
                f"{reward.shape}: each agent has one, [{env.num_agents}]; of a shared reward write "
                "jnp.full(num_agents, reward)."
            )
        active = ~jnp.asarray(episode.terminated, bool)
        terminated = jnp.broadcast_to(terminated, (env.num_agents,)) | ~active
        over = terminated.all() | (length >= env.max_steps)
        truncated = over & ~terminated
        reported_length = jnp.where(terminated & ~over, 0, length)
    transition = Transition(
        obs=episode.obs,
        action=action,
        reward=reward,
        next_obs=result.obs,
        terminated=terminated,
        truncated=truncated,
        episode_return=episode_return,
        length=reported_length,
        rnn_state=episode.rnn_state,
        extras=extras,
        info=info,
        episode_info=episode_info,
        active=active,
    )
    after = Episode(
        state=state,
        obs=result.obs,
        rnn_state=episode.rnn_state,
        length=length,
        episode_return=episode_return,
        info=episode_info,
        terminated=() if env.num_agents is None else terminated,
    )
    return after, transition


def step_autoreset(
    key: jax.Array, env: Env, episode: Episode, action: Action, extras: Extras = ()
) -> tuple[Episode, Transition]:
    """Return the episode after one step, or a new one where it ended, and the transition.

    A new episode has a recurrent state of zeros.
    """
    env = _alone(env)
    key_step, key_reset = jax.random.split(key)
    return _step_autoreset(key_step, key_reset, env, episode, action, extras)


def _step_autoreset(
    key_step: jax.Array,
    key_reset: jax.Array,
    env: Env,
    episode: Episode,
    action: Action,
    extras: Extras,
) -> tuple[Episode, Transition]:
    ongoing, transition = step(key_step, env, episode, action, extras)
    if env.num_agents is not None:  # as learning reads it: every step after its end is a first one
        rnn_state = jax.tree.map(jnp.zeros_like, ongoing.rnn_state)
        rnn_state = tree.where(transition.done, rnn_state, ongoing.rnn_state)
        ongoing = tree.replace(ongoing, rnn_state=rnn_state)
    state, obs = env.restart(key_reset, ongoing.state)
    fresh = Episode(
        state=state,
        obs=obs,
        rnn_state=jax.tree.map(jnp.zeros_like, episode.rnn_state),
        length=jnp.int32(0),
        episode_return=jnp.zeros_like(episode.episode_return),
        info=jax.tree.map(jnp.zeros_like, episode.info),
        terminated=jax.tree.map(jnp.zeros_like, episode.terminated),
    )
    over = transition.done if env.num_agents is None else transition.done.all()
    return tree.where(over, fresh, ongoing), transition


def act(
    key: jax.Array, env: Env, policy: "Policy | PolicyFunction", episode: Episode
) -> tuple[RnnState, Action, Extras]:
    """The policy in one environment; in a team, one call for each agent, each with its own key."""
    env = _alone(env)
    if env.num_agents is None:
        return policy(key, episode)
    axes = Episode(None, 0, 0, None, 0, 0, 0)  # type: ignore[arg-type]
    return jax.vmap(policy, in_axes=(0, axes))(jax.random.split(key, env.num_agents), episode)


# --------------------------------------------------------------------------------------- many steps


def rollout(
    key: jax.Array, env: Env, policy: Policy, episodes: Episode, num_steps: int
) -> tuple[Episode, Transition]:
    """Play `num_steps` steps in each of B environments, continuing `episodes` [B].

    Returns the episodes after them [B], and the transitions [T, B] (a team: [T, B * A]).
    """
    env = _alone(env)

    def play(keys: jax.Array, episode: Episode) -> tuple[Episode, Transition]:
        key_act, key_step, key_reset = keys
        rnn_state, action, extras = act(key_act, env, policy, episode)
        episode = tree.replace(episode, rnn_state=rnn_state)
        return _step_autoreset(key_step, key_reset, env, episode, action, extras)

    words = _key_words(key, num_steps, episodes.length.shape[0], 3)
    episodes, transitions = packing.scan(
        lambda now, words: jax.vmap(play)(_keys_of(key, words), now), episodes, words
    )
    if env.num_agents is None:
        return episodes, transitions
    return episodes, _agents_as_columns(transitions)


def play_episodes(key: jax.Array, env: Env, policy: Policy, num_episodes: int) -> Evaluation:
    """Play `num_episodes` whole episodes side by side.

    It always computes `max_steps` steps; an episode that is over does not change any more.
    """
    team_of_one = env.num_agents == 1
    env = _alone(env)

    def move(keys: jax.Array, episode: Episode, over: jax.Array) -> tuple[Episode, jax.Array]:
        key_act, key_step = keys
        rnn_state, action, extras = act(key_act, env, policy, episode)
        following, transition = step(
            key_step, env, tree.replace(episode, rnn_state=rnn_state), action, extras
        )
        done = transition.done if env.num_agents is None else transition.done.all()
        return tree.where(over, episode, following), over | done

    key_reset, key_play = jax.random.split(key)
    first = jax.vmap(lambda key: reset(key, env, policy.rnn_state))(
        jax.random.split(key_reset, num_episodes)
    )
    start = (first, jnp.zeros(num_episodes, bool))
    words = _key_words(key_play, env.max_steps, num_episodes, 2)
    (last, _), _ = jax.lax.scan(
        lambda now, words: (jax.vmap(move)(_keys_of(key, words), *now), None), start, words
    )
    evaluation = Evaluation(last.episode_return, last.info)
    return jax.tree.map(lambda x: x[:, None], evaluation) if team_of_one else evaluation


def play_levels(key: jax.Array, levels: Env, policy: Policy, num_episodes: int) -> Evaluation:
    """Play `num_episodes` whole episodes on each of L levels. [L, num_episodes].

    levels: an environment with a leading axis [L] of its leaves.
    """
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    play = lambda key, level: play_episodes(key, level, policy, num_episodes)
    return jax.vmap(play)(jax.random.split(key, num_levels), levels)


def evaluate(
    key: jax.Array | int, env: Env, policy: Policy | PolicyFunction, num_episodes: int
) -> jax.Array:
    """The return of each of `num_episodes` whole episodes. [num_episodes] (a team: [.., A]).

    key: a key, or an integer seed. policy: a `Policy`, or a function `(key, episode) -> (rnn_state,
    action, extras)` without a recurrent state.

    Raises:
      ValueError: `num_episodes` is not a positive whole number.
    """
    check_count("num_episodes", num_episodes)
    policy = policy if isinstance(policy, Policy) else Policy(policy)
    return play_episodes(as_key(key), env, policy, num_episodes).episode_return


def episode_metrics(env: Env, batch: Transition) -> Metrics:
    """Metrics of the episodes that ended in a batch. [].

    `episodes` is their number; `return`, `length` and each channel's sum are means over them, NaN
    where none ended.
    """
    env = _alone(env)
    ended = batch.done if env.num_agents is None else batch.done & (batch.length > 0)
    count = ended.sum()

    def mean(x: jax.Array) -> jax.Array:
        shape = ended.shape + (1,) * (x.ndim - ended.ndim)
        total = jnp.sum(x * ended.reshape(shape), axis=tuple(range(ended.ndim)))
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    channels = {name: mean(x) for name, x in batch.episode_info.items()}
    own = {"return": mean(batch.episode_return), "length": mean(batch.length), "episodes": count}
    return own | channels


# -------------------------------------------------------------------------------------------- teams


@pytree
class Lone(Env):
    """A team of one as a single agent, so that its program is that of a single agent."""

    team: Env

    @property
    def max_steps(self) -> int:
        return self.team.max_steps

    @property
    def action_space(self) -> Space:
        return self.team.action_space

    @property
    def channels(self) -> tuple[str, ...]:
        return self.team.channels

    def reset(self, key: jax.Array) -> tuple[State, Obs]:
        state, obs = self.team.reset(key)
        return state, _first(obs)

    def restart(self, key: jax.Array, state: State) -> tuple[State, Obs]:
        state, obs = self.team.restart(key, state)
        return state, _first(obs)

    def step(self, key: jax.Array, state: State, action: Action) -> tuple[State, Step]:
        actions = jax.tree.map(lambda x: jnp.asarray(x)[None], action)
        state, result = self.team.step(key, state, actions)
        terminated = jnp.asarray(result.terminated)
        return state, Step(
            obs=_first(result.obs),
            reward=jnp.asarray(result.reward)[0],
            terminated=terminated[0] if terminated.ndim else terminated,
            info={name: _first(x) for name, x in result.info.items() if name in self.channels},
        )


def _alone(env: Env) -> Env:
    """The environment, with a team of one as a single agent."""
    return Lone(env) if env.num_agents == 1 else env


def _first(x: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], x)


def num_columns(env: Env, num_envs: int) -> int:
    """The width of a batch that `num_envs` environments fill: one column for each agent."""
    return num_envs * (env.num_agents or 1)


def example_obs(env: Env, episodes: Episode) -> Any:
    """One agent's observation of the first of `episodes` [B]."""
    env = _alone(env)
    first = jax.tree.map(lambda x: x[0], episodes.obs)
    return first if env.num_agents is None else jax.tree.map(lambda x: x[0], first)


def columns(env: Env, x: Any) -> Any:
    """Arrays with an entry for each environment as arrays with one for each column.

    [B, ...] is unchanged. A team's [B, A, ...] becomes [B * A, ...].
    """
    env = _alone(env)
    if env.num_agents is None:
        return x
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), x)


def per_column(env: Env, x: jax.Array) -> jax.Array:
    """An array [B] of which the agents of an environment share an entry, one for each column."""
    env = _alone(env)
    return x if env.num_agents is None else jnp.repeat(x, env.num_agents, axis=0)


def _clip(env: Env, action: Action) -> Action:
    if env.num_agents is None:
        return env.action_space.clip(action)
    return jax.vmap(env.action_space.clip)(action)


def _for_each_agent(num_agents: int, x: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_agents, *jnp.shape(leaf))), x)


def _agents_as_columns(batch: Transition) -> Transition:
    """Transitions [T, B, A, ...] as [T, B * A, ...]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), batch)


def _first_info(key: jax.Array, env: Env, state: Any) -> dict[str, jax.Array]:
    """The channels of a step, for their shapes."""
    action = env.action_space.sample(key)
    if env.num_agents is not None:
        action = _for_each_agent(env.num_agents, action)
    info = env.step(key, state, action)[1].info
    name_of_env = type(env.team if isinstance(env, Lone) else env).__name__
    for name in env.channels:
        if name in RESERVED:
            raise ValueError(
                f"{name_of_env}.channels names {name!r}, which is a variable of every result: give "
                "the channel another name."
            )
        if name not in info:
            raise ValueError(
                f"{name_of_env}.channels names {name!r}, which is not in the info of its steps "
                f"({', '.join(info) or 'it is empty'}): leave it out of channels, or put it in."
            )
        if env.num_agents is not None and jnp.shape(info[name])[:1] != (env.num_agents,):
            raise ValueError(
                f"The channel {name!r} of {name_of_env} has the shape {jnp.shape(info[name])}; of "
                f"a team of {env.num_agents} it has one value for each agent, [{env.num_agents}]."
            )
    return {name: jnp.asarray(info[name]) for name in env.channels}


# --------------------------------------------------------------------------------------------- keys


def _key_words(key: jax.Array, num_steps: int, width: int, uses: int) -> jax.Array:
    """Keys for each use of each step of each environment, as plain words. [T, B, uses, ...].

    All at once, before the scan: splitting inside it costs a fifth of a small environment's step.
    They are words because jax 0.10's check of key reuse takes a scan over keys under vmap for a
    reuse.
    """
    return jax.random.key_data(jax.random.split(key, (num_steps, width, uses)))


def _keys_of(key: jax.Array, words: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
