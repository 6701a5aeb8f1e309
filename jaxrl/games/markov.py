"""Markov games: values of policies and of best responses, by dynamic programming."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl.games.game import check_probabilities
from jaxrl.tabular import backward
from jaxrl.tree import leaf, pytree, static


class MarkovGame(Protocol):
    """A Markov game of A players with S states and n1, ..., nA actions: `rl.envs.MarkovGame`, or
    any object with transition P(s' | s, actions) [S, n1, ..., nA, S], reward
    [A, S, n1, ..., nA], terminal, True at final states [S], and start P(s) [S].
    """

    @property
    def transition(self) -> jax.Array: ...
    @property
    def reward(self) -> jax.Array: ...
    @property
    def terminal(self) -> jax.Array: ...
    @property
    def start(self) -> jax.Array: ...


@pytree
class FiniteHorizon:
    """A Markov game that ends after `horizon` steps, or at a final state.

    game: `rl.envs.MarkovGame`, or arrays as in `MarkovGame`.
    horizon: the number of steps.
    gamma: the discount factor of the rewards.

    Its policies are A arrays of probabilities: stationary, [S, n1], ..., [S, nA], or of each step,
    [horizon, S, n1], ... A best response may depend on the step in any case.

    Raises:
      ValueError: when used with arrays or policies of other shapes, or no probabilities.
    """

    game: Any
    horizon: int = static(within="[1, inf)")
    gamma: float | jax.Array = leaf(1.0, "[0, 1]")

    def values(self, policies: Sequence[Any]) -> jax.Array:
        policies = self._checked(policies)
        return jnp.stack([self._value(i, policies, policies[i]) for i in range(len(policies))])

    def best_values(self, policies: Sequence[Any]) -> jax.Array:
        policies = self._checked(policies)
        return jnp.stack([self._value(i, policies, None) for i in range(len(policies))])

    def action_values(self, policies: Sequence[Any], player: int) -> jax.Array:
        """Action values of a best response of one player to the others. float [H, S, n]."""
        return self._backward(player, self._checked(policies), None)

    def _value(self, player: int, policies: list[jax.Array], own: jax.Array | None) -> jax.Array:
        """Value of a player's own policy, or of a best response. float []."""
        q = self._backward(player, policies, own)[0]
        value = q.max(-1) if own is None else (own.reshape(-1, *q.shape)[0] * q).sum(-1)
        return jnp.sum(self.game.start * value)

    def _backward(self, player: int, policies: list[jax.Array], own: jax.Array | None) -> jax.Array:
        others = [policy for j, policy in enumerate(policies) if j != player]
        fold = partial(self._fold, player)
        varies = any(policy.ndim == 3 for policy in others)
        transition, reward = (
            jax.vmap(fold)(*map(self._of_steps, others)) if varies else fold(*others)
        )
        policy = None if own is None else self._of_steps(own)
        return backward(transition, reward, self.horizon, policy=policy, gamma=self.gamma)

    def _fold(self, player: int, *others: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The process of one player, in which the others are a part of the environment.
        float [S, n, S], [S, n].
        """
        # no reward and no next value in a final state
        on = (~jnp.asarray(self.game.terminal)).astype(jnp.float32)
        transition = jnp.asarray(self.game.transition, jnp.float32)
        reward = jnp.asarray(self.game.reward, jnp.float32)[player]
        num = reward.ndim - 1
        state, new, own = 0, num + 1, player + 1
        axes = [j for j in range(1, num + 1) if j != own]
        probs = [x for policy, j in zip(others, axes, strict=True) for x in (policy, [state, j])]
        mean = partial(jnp.einsum, precision="highest")
        inner = [*range(num + 1)]
        probs += [on, [state]]
        move = mean(transition, [*inner, new], *probs, [state, own, new])
        return move, mean(reward, inner, *probs, [state, own])

    def _of_steps(self, policy: jax.Array) -> jax.Array:
        """A policy for each step. [H, S, n]."""
        shape = self.horizon, *policy.shape[-2:]
        return jnp.broadcast_to(policy if policy.ndim == 3 else policy[None], shape)

    def _checked(self, policies: Sequence[Any]) -> list[jax.Array]:
        shapes = {
            "transition": jnp.shape(self.game.transition),
            "reward": jnp.shape(self.game.reward),
            "terminal": jnp.shape(self.game.terminal),
            "start": jnp.shape(self.game.start),
        }
        num, num_states, *sizes = (*shapes["reward"], 0, 0)[: max(len(shapes["reward"]), 2)]
        expected = {
            "transition": (num_states, *sizes, num_states),
            "reward": (num, num_states, *sizes),
            "terminal": (num_states,),
            "start": (num_states,),
        }
        if shapes != expected or len(sizes) != num:
            raise ValueError(
                f"The shapes {shapes} do not form a game: write transition [S, n1, ..., nA, S], "
                "reward [A, S, n1, ..., nA], terminal [S] and start [S]; for several games, use "
                "jax.vmap."
            )
        if len(policies) != num:
            raise ValueError(
                f"{len(policies)} policies for {num} players: write one array for each, [S, n] or "
                "[horizon, S, n]."
            )
        made = []
        for i, (policy, size) in enumerate(zip(policies, sizes, strict=True)):
            steps = (self.horizon,) if jnp.ndim(policy) == 3 else ()
            shape = (*steps, num_states, size)
            made.append(check_probabilities(f"the policy of player {i}", policy, shape))
        return made
