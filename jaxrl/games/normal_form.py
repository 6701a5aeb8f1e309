"""Games in normal form: joint distributions, and their distances from equilibria."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.games.game import check_probabilities
from jaxrl.tree import pytree


@pytree
class NormalForm:
    """A game in which A players choose one of n1, ..., nA actions at once.

    payoff: of each player for each joint action, [A, n1, ..., nA]; of `rl.envs.MatrixGame`, its
      field `payoff`.

    Its policies are A arrays of probabilities, [n1], ..., [nA].

    Raises:
      ValueError: when used with a payoff or policies of other shapes, or no probabilities.
    """

    payoff: Any

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of actions of each player."""
        return _checked(self.payoff).shape[1:]

    def values(self, policies: Sequence[Any]) -> jax.Array:
        values = self.action_values(policies)
        return jnp.stack([jnp.sum(_array(p) * q) for p, q in zip(policies, values, strict=True)])

    def best_values(self, policies: Sequence[Any]) -> jax.Array:
        return jnp.stack([q.max() for q in self.action_values(policies)])

    def action_values(self, policies: Sequence[Any]) -> tuple[jax.Array, ...]:
        """Expected payoff of each action of each player against the others. float [n1], ..."""
        policies = _policies(self, policies)
        made = []
        for i, value in enumerate(_checked(self.payoff)):
            for j in reversed(range(len(policies))):  # the last axis first: others keep their place
                if j != i:
                    value = jnp.tensordot(value, policies[j], (j, 0), precision="highest")
            made.append(value)
        return tuple(made)


def zero_sum(payoff: Any) -> NormalForm:
    """The game of two players with `payoff` [n1, n2] to the first and minus it to the second."""
    payoff = _array(payoff)
    return NormalForm(jnp.stack([payoff, -payoff]))


# ------------------------------------------------------------------------------ joint distributions


def product(policies: Sequence[Any]) -> jax.Array:
    """The joint distribution of players that choose independently. float [n1, ..., nA]."""
    joint = jnp.ones((), jnp.float32)
    for policy in policies:
        joint = joint[..., None] * _array(policy).reshape((1,) * joint.ndim + (-1,))
    return joint


def marginals(joint: Any) -> tuple[jax.Array, ...]:
    """The distribution of each player's action. float [n1], ..., [nA]."""
    joint = _array(joint)
    axes = range(joint.ndim)
    return tuple(joint.sum([j for j in axes if j != i]) for i in axes)


def cce_gaps(game: NormalForm, joint: Any) -> jax.Array:
    """What each player would gain by one fixed action in place of a joint distribution, or 0 if it
    would lose. float [A].

    The others keep their part of the distribution. All gaps are 0 in a coarse correlated
    equilibrium (Moulin and Vial, 1978). Of the average of past joint policies, a gap is the
    positive part of the external regret per step.

    joint: probabilities of the joint actions, [n1, ..., nA].
    """
    gains = [kept.sum(0).max() - jnp.trace(kept) for kept in _swaps(game, joint)]
    return jnp.maximum(jnp.stack(gains), 0.0)


def ce_gaps(game: NormalForm, joint: Any) -> jax.Array:
    """What each player would gain by replacing its actions, each by another one. float [A].

    All gaps are 0 in a correlated equilibrium (Aumann, 1974); a gap is at least that of `cce_gaps`.

    joint: probabilities of the joint actions, [n1, ..., nA].
    """
    return jnp.stack([(kept.max(1) - jnp.diag(kept)).sum() for kept in _swaps(game, joint)])


def _swaps(game: NormalForm, joint: Any) -> list[jax.Array]:
    """For each player, probability of an action times its expected payoff if another one is played
    in its place. float [n, n] each, [action, replacement].
    """
    payoff = _checked(game.payoff)
    joint, made = check_probabilities("joint", joint, game.sizes, axis=None), []
    for i, (size, paid) in enumerate(zip(game.sizes, payoff, strict=True)):
        probs, paid = (jnp.moveaxis(x, i, 0).reshape(size, -1) for x in (joint, paid))
        made.append(jnp.matmul(probs, paid.T, precision="highest"))
    return made


# ---------------------------------------------------------------------------------------- arguments


def _array(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _checked(payoff: Any) -> jax.Array:
    payoff = _array(payoff)
    if payoff.ndim < 2 or len(payoff) != payoff.ndim - 1:
        raise ValueError(
            f"The payoff has shape {payoff.shape}, and a game of A players needs [A, n1, ..., nA]: "
            "write zero_sum(payoff) for a matrix to the first of two players, and jax.vmap for "
            "several games."
        )
    return payoff


def _policies(game: NormalForm, policies: Sequence[Any]) -> list[jax.Array]:
    sizes = game.sizes
    if len(policies) != len(sizes):
        raise ValueError(
            f"{len(policies)} policies for {len(sizes)} players: write one array of probabilities "
            "for each, [n1], ..., [nA]."
        )
    return [
        check_probabilities(f"the policy of player {i}", policy, (size,))
        for i, (policy, size) in enumerate(zip(policies, sizes, strict=True))
    ]
