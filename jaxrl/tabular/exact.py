"""Exact values of finite processes: backward induction, occupancies, gain and bias."""

import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp


class Process(Protocol):
    """A finite Markov decision process: `rl.envs.tabular.TabularMDP`, or any object with transition
    P(s' | s, a) [S, A, S], reward r(s, a, s') [S, A, S] or [S, A, 1], and start P(s) [S].

    A final state must be absorbing, without reward.
    """

    @property
    def transition(self) -> jax.Array: ...
    @property
    def reward(self) -> jax.Array: ...
    @property
    def start(self) -> jax.Array: ...


def expected_reward(process: Process) -> jax.Array:
    """Mean reward of each state and action. [S, A]."""
    return (process.transition * process.reward).sum(-1)


def backward(
    transition: jax.Array,
    reward: jax.Array,
    horizon: int,
    *,
    policy: jax.Array | None = None,
    bonus: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    bounds: tuple[jax.Array | float, jax.Array | float] = (-math.inf, math.inf),
    gamma: jax.Array | float = 1.0,
) -> jax.Array:
    """Action values of each step, by backward induction from the last one. float [H, S, A].

    transition: P(s' | s, a), [S, A, S], or of each step, [H, S, A, S].
    reward: the mean reward, [S, A], or of each step, [H, S, A].
    policy: actions [H, S] or probabilities [H, S, A]; by default the best one.
    bonus: a function of the values of the next states, [S], and of the number of steps left, [],
      that returns what is added, [S, A].
    bounds: of the reward of a step. A value is clipped to them, times the number of steps left.
    gamma: the discount factor.
    """
    num_states, num_actions = reward.shape[-2:]
    probs = None if policy is None else _probabilities(policy, num_actions)

    def step(value: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        left, prob, moves, rewards = at
        moves = transition if moves is None else moves
        q = (reward if rewards is None else rewards) + gamma * _dot(moves, value)
        q = q if bonus is None else q + bonus(value, left)
        q = jnp.clip(q, left * bounds[0], left * bounds[1])
        return q.max(-1) if prob is None else (prob * q).sum(-1), q

    steps = (
        jnp.arange(1.0, horizon + 1.0),
        None if probs is None else probs[::-1],
        transition[::-1] if transition.ndim == 4 else None,
        reward[::-1] if reward.ndim == 3 else None,
    )
    return jax.lax.scan(step, jnp.zeros(num_states), steps)[1][::-1]


def value(process: Process, policy: jax.Array) -> jax.Array:
    """Expected sum of the rewards of a policy over its H steps. float [].

    policy: actions [H, S] or probabilities [H, S, A].
    """
    transition, reward = process.transition, expected_reward(process)
    probs = _probabilities(policy, reward.shape[-1])
    q = backward(transition, reward, len(probs), policy=probs)
    return process.start @ (probs[0] * q[0]).sum(-1)


def optimal_value(process: Process, horizon: int) -> jax.Array:
    """Expected sum of the rewards of the best policy over `horizon` steps. float []."""
    q = backward(process.transition, expected_reward(process), horizon)
    return process.start @ q[0].max(-1)


def occupancies(transition: jax.Array, start: jax.Array, policy: jax.Array) -> jax.Array:
    """Probabilities of each state and action at each step under a policy. float [H, S, A].

    policy: actions [H, S] or probabilities [H, S, A].
    """

    def step(state: jax.Array, prob: jax.Array) -> tuple[jax.Array, jax.Array]:
        pair = state[:, None] * prob
        return jnp.einsum("sa,sat->t", pair, transition, precision="highest"), pair

    return jax.lax.scan(step, start, _probabilities(policy, transition.shape[1]))[1]


def gain_and_bias(
    transition: jax.Array,
    reward: jax.Array,
    *,
    policy: jax.Array | None = None,
    bonus: Callable[[jax.Array], jax.Array] | None = None,
    bias: jax.Array | float = 0.0,
    num_iterations: int = 1000,
) -> tuple[jax.Array, jax.Array]:
    """Average reward per step, and the bias of each state, 0 at the first. float [], [S].

    By relative value iteration (White, 1963) in half steps, so that periodic processes converge
    too; for a process in which every state can be reached.

    reward: the mean reward, [S, A]. policy: probabilities [S, A]; by default the best one.
    bonus: a function of the bias that returns what is added, [S, A]. bias: where to begin.
    """

    def step(_: int, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q = reward + _dot(transition, now[1]) + (0.0 if bonus is None else bonus(now[1]))
        difference = (q.max(-1) if policy is None else (policy * q).sum(-1)) - now[1]
        bias = now[1] + difference / 2
        return (difference.max() + difference.min()) / 2, bias - bias[0]

    start = jnp.zeros(()), jnp.zeros(len(reward)) + bias
    return jax.lax.fori_loop(0, num_iterations, step, start)


def _dot(transition: jax.Array, value: jax.Array) -> jax.Array:
    """Mean of the next value. [S, A]."""
    return jnp.matmul(transition, value, precision="highest")


def _probabilities(policy: jax.Array, num_actions: int) -> jax.Array:
    """Actions [H, S] as probabilities [H, S, A]; probabilities are returned as they are."""
    if policy.ndim not in (2, 3) or (
        policy.ndim == 2 and not jnp.issubdtype(policy.dtype, jnp.integer)
    ):
        raise ValueError(
            f"A policy of shape {policy.shape} and type {policy.dtype} is neither actions, int "
            "[H, S], nor probabilities [H, S, A]: repeat a stationary one over the steps."
        )
    return policy if policy.ndim == 3 else jax.nn.one_hot(policy, num_actions)
