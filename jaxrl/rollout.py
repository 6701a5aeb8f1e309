"""Playing: one step, many steps, whole episodes.

The clock, the reset and the return are written here and nowhere else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import tree
from jaxrl.env import Env
from jaxrl.tree import pytree

Policy = Callable[[jax.Array, Any, Any], tuple[Any, Any]]  # (key, memory, obs) -> (memory, action)


@pytree
class Episode:
    """One environment in the middle of an episode. `memory` is the policy's, () when it has
    none.
    """

    state: Any
    obs: Any
    memory: Any
    length: jax.Array
    ret: jax.Array


@pytree
class Transition:
    """One step. `next_obs` is the true successor, also at an episode's end; `memory` is the
    policy's after reading `obs`.

    `ret` and `length` are the episode's so far, this step included.
    """

    obs: Any
    action: Any
    reward: jax.Array
    next_obs: Any
    terminated: jax.Array
    truncated: jax.Array
    ret: jax.Array
    length: jax.Array
    memory: Any

    @property
    def done(self) -> jax.Array:
        return self.terminated | self.truncated


def begin(key: jax.Array, env: Env, memory: Any = ()) -> Episode:
    """A new episode; `memory` is the policy's at rest."""
    state, obs = env.reset(key)
    return Episode(state, obs, memory, jnp.int32(0), jnp.float32(0.0))


def step(key: jax.Array, env: Env, episode: Episode, action: Any) -> tuple[Episode, Transition]:
    """One step, without a reset.

    An action outside a box is clipped to it, and kept in the transition as it was chosen.
    """
    state, result = env.step(key, episode.state, env.action_space.clip(action))
    reward = jnp.asarray(result.reward, jnp.float32)
    length, ret = episode.length + 1, episode.ret + reward
    terminated = jnp.asarray(result.terminated, bool)
    truncated = (length >= env.max_steps) & ~terminated
    transition = Transition(
        episode.obs, action, reward, result.obs, terminated, truncated, ret, length, episode.memory
    )
    return Episode(state, result.obs, episode.memory, length, ret), transition


def advance(key: jax.Array, env: Env, episode: Episode, action: Any) -> tuple[Episode, Transition]:
    """One step, and a true reset where it ends the episode.

    The policy's memory is reset too: a memory starts as zeros.
    """
    key_step, key_reset = jax.random.split(key)
    return _advance(key_step, key_reset, env, episode, action)


def _advance(
    key_step: jax.Array, key_reset: jax.Array, env: Env, episode: Episode, action: Any
) -> tuple[Episode, Transition]:
    ongoing, transition = step(key_step, env, episode, action)
    fresh = begin(key_reset, env, jax.tree.map(jnp.zeros_like, episode.memory))
    return tree.where(transition.done, fresh, ongoing), transition


def rollout(
    key: jax.Array, env: Env, policy: Policy, episodes: Episode, num_steps: int
) -> tuple[Episode, Transition]:
    """Plays `num_steps` steps in each of B environments that are in the middle of `episodes` [B].

    Transitions [T, B].
    """

    def play(keys: jax.Array, episode: Episode) -> tuple[Episode, Transition]:
        key_act, key_step, key_reset = keys
        memory, action = policy(key_act, episode.memory, episode.obs)
        return _advance(key_step, key_reset, env, tree.replace(episode, memory=memory), action)

    words = _key_words(key, num_steps, episodes.length.shape[0], 3)
    return jax.lax.scan(
        lambda now, words: jax.vmap(play)(_keys_of(key, words), now), episodes, words
    )


def evaluate(
    key: jax.Array, env: Env, policy: Policy, num_episodes: int, memory: Any = None
) -> jax.Array:
    """The return of each of `num_episodes` whole episodes. [num_episodes].

    It always takes `max_steps` steps; an episode that is over stands still. `memory` is the
    policy's at rest, by default its own `policy.memory` if it has one.
    """
    memory = getattr(policy, "memory", ()) if memory is None else memory

    def move(keys: jax.Array, episode: Episode, over: jax.Array) -> tuple[Episode, jax.Array]:
        key_act, key_step = keys
        memory, action = policy(key_act, episode.memory, episode.obs)
        following, transition = step(key_step, env, tree.replace(episode, memory=memory), action)
        return tree.where(over, episode, following), over | transition.done

    key_reset, key_play = jax.random.split(key)
    first = jax.vmap(lambda key: begin(key, env, memory))(jax.random.split(key_reset, num_episodes))

    start = (first, jnp.zeros(num_episodes, bool))
    words = _key_words(key_play, env.max_steps, num_episodes, 2)
    (last, _), _ = jax.lax.scan(
        lambda now, words: (jax.vmap(move)(_keys_of(key, words), *now), None), start, words
    )
    return last.ret


def _key_words(key: jax.Array, num_steps: int, width: int, uses: int) -> jax.Array:
    """Keys for each use of each step of each environment, as plain words. [T, B, uses, ...].

    All at once, before the scan: to split inside it costs a fifth of a small environment's step.
    Words, because jax 0.10's check of key reuse wrongly takes a scan over keys under vmap for a
    reuse.
    """
    return jax.random.key_data(jax.random.split(key, (num_steps, width, uses)))


def _keys_of(key: jax.Array, words: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
