"""Demonstrations, and levels that start at their states."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import rollout
from jaxrl.env import Env, Obs, State, Step, Tasks, check_copies, check_is_env
from jaxrl.keys import as_key
from jaxrl.rollout import Action, Episode, Policy
from jaxrl.spaces import Space
from jaxrl.teachers.base import SUCCESS
from jaxrl.tree import leaf, pytree, replace, where

INSTEAD = "train from the environment's own resets, with rl.Training(rl.ppo(), env, steps)"


@pytree
class Demonstration:
    """An episode of `length` steps: its states and observations, and `rest`, the undiscounted
    return-to-go of each. [T + 1]; entries after `length` are padding.
    """

    states: State
    obs: Obs
    rest: jax.Array
    length: jax.Array


def demonstrate(key: jax.Array | int, env: Env, policy: Policy) -> Demonstration:
    """An episode of a policy, such as the best one of Go-Explore:
    `demonstrate(0, env, algo.policy(env, algo.agent(state), greedy=True))`.
    """
    check_is_env(env)
    check_copies(env, "demonstrate stores states", INSTEAD)
    key_reset, key_play = jax.random.split(as_key(key))
    first = rollout.reset(key_reset, env, policy.rnn_state)

    def step(
        now: tuple[Episode, jax.Array], key: jax.Array
    ) -> tuple[tuple[Episode, jax.Array], Any]:
        episode, over = now
        key_act, key_step = jax.random.split(key)
        rnn_state, action, extras = policy(key_act, episode)
        episode = replace(episode, rnn_state=rnn_state)
        after, transition = rollout.step(key_step, env, episode, action, extras)
        after = where(over, episode, after)
        reward = jnp.where(over, 0.0, transition.reward)
        return (after, over | transition.done), (after.state, after.obs, reward)

    keys = jax.random.split(key_play, env.max_steps)
    (last, _), (states, obs, rewards) = jax.lax.scan(step, (first, jnp.bool_(False)), keys)
    states, obs = jax.tree.map(
        lambda x, rest: jnp.concatenate([jnp.asarray(x)[None], rest]),
        (first.state, first.obs),
        (states, obs),
    )
    rest = jnp.append(jnp.cumsum(rewards[::-1])[::-1], 0.0)
    return Demonstration(states, obs, rest, last.length)


@pytree
class Underway:
    """The state of the environment, the return since the start, and True once it has reached the
    target.
    """

    inner: State
    episode_return: jax.Array
    reached: jax.Array


@pytree
class FromState(Env):
    """An environment with episodes that start in a stored state.

    state, obs: the state and its observation. target: the lowest return from there that counts as
    a success, in the channel "success". at_reset: True: start with the environment's own reset
    instead. The time limit counts steps after this start.
    """

    env: Env
    state: State
    obs: Obs
    target: jax.Array | float = 0.0
    at_reset: jax.Array | bool = False

    def __post_init__(self) -> None:
        check_copies(self.env, "FromState restores a state", INSTEAD)

    @property
    def max_steps(self) -> int:
        return self.env.max_steps

    @property
    def action_space(self) -> Space:
        return self.env.action_space

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return with_success(self.env.channels)

    def reset(self, key: jax.Array) -> tuple[Underway, Obs]:
        begun = where(jnp.asarray(self.at_reset), self.env.reset(key), (self.state, self.obs))
        return Underway(begun[0], jnp.float32(0.0), jnp.bool_(False)), begun[1]

    def step(self, key: jax.Array, state: Underway, action: Action) -> tuple[Underway, Step]:
        inner, step = self.env.step(key, state.inner, action)
        total = state.episode_return + jnp.asarray(step.reward, jnp.float32)
        reached = total >= self.target
        # the sum of these over an episode is 1 where its return has reached the target, else 0
        change = reached.astype(jnp.float32) - state.reached
        return Underway(inner, total, reached), replace(step, info=step.info | {SUCCESS: change})


def with_success(channels: tuple[str, ...]) -> tuple[str, ...]:
    """Channels with "success" as one of them."""
    return (*(name for name in channels if name != SUCCESS), SUCCESS)


@pytree
class Starts(Tasks):
    """Levels that start along a demonstration: `at([x])` starts after a fraction x of its steps,
    from 0 to 1.

    `sample` and `at([0])` start with the environment's own reset; evaluations use `sample`. An
    episode is a success, in the channel of that name, if its return is at least that of the
    demonstration from the same state, minus `slack`.

    `rl.Training(rl.Taught(rl.ppo(), rl.teachers.Backward()), Starts(env, demonstration), steps)`.
    The environment may differ from the demonstration's in its parameters:
    `Starts(StickyActions(env), demonstrate(0, StickyActions(env, 0.0), policy))`.
    """

    env: Env
    demonstration: Demonstration
    slack: float = leaf(1e-3, "[0, inf)")

    dimensions = 1

    def __post_init__(self) -> None:
        if isinstance(self.env, Env) and self.env.num_agents is not None:
            raise TypeError(
                f"Starts needs a single agent, and {type(self.env).__name__} is multi-agent: write "
                "a single-agent environment."
            )

    @property
    def channels(self) -> tuple[str, ...]:  # type: ignore[override]
        return with_success(self.env.channels)

    def sample(self, key: jax.Array) -> FromState:
        return self.at(jnp.zeros(1))

    def at(self, place: jax.Array) -> FromState:
        known = self.demonstration
        step = jnp.floor(place[0] * known.length).astype(jnp.int32)
        step = jnp.clip(step, 0, known.length - 1)  # no step follows the last state
        state, obs, rest = jax.tree.map(lambda x: x[step], (known.states, known.obs, known.rest))
        return FromState(self.env, state, obs, rest - self.slack, step == 0)
