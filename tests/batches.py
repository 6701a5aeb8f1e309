"""Rollouts for tests of update rules, without an environment."""

import jax.numpy as jnp

from jaxrl.rollout import Transition


def transitions(action, reward, terminated, truncated=None, obs=None):
    """A batch with these fields, all of one leading shape; the others are zeros."""
    zeros = jnp.zeros_like(reward)
    obs = zeros if obs is None else obs
    return Transition(
        obs=obs,
        action=action,
        reward=reward,
        next_obs=obs,
        terminated=jnp.asarray(terminated, bool),
        truncated=jnp.zeros(zeros.shape, bool) if truncated is None else truncated,
        episode_return=zeros,
        length=zeros,
        rnn_state=(),
        extras=(),
        info={},
        episode_info={},
    )
