"""Games in extensive form, with chance and private information, as arrays of sequences."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.games.game import check_probabilities
from jaxrl.tree import pytree, static


@pytree
class Extensive:
    """A game of A players with perfect recall, in sequence form (Koller et al., 1996; von Stengel,
    1996). `enumerated` makes it from rules.

    There are Z outcomes and I information sets, each of which belongs to one player and has up to n
    actions. A sequence is an information set with an action: all that a player did up to there.
    Sequence i * n + a is action a in information set i, and sequence I * n + p stands for player p
    before its first action.

    payoff: of each player, [Z, A].
    chance: the product of the probabilities of all chance events on the way to an outcome, [Z].
    sequence: the last sequence of each player before an outcome, int [Z, A].
    parent: the last sequence of the player before an information set, int [I].
    player: that acts in an information set, int [I].
    legal: the actions that it has, bool [I, n].
    names: player and name of each information set.
    depth: the largest number of actions of one player on the way to an outcome.

    A policy is one array for all players: the probability of each action in each information set,
    [I, n], 0 for actions that are not legal; `game.names.index((0, "K"))` is a row.

    Raises:
      ValueError: when used with a policy of another shape, or no probabilities.
    """

    payoff: jax.Array
    chance: jax.Array
    sequence: jax.Array
    parent: jax.Array
    player: jax.Array
    legal: jax.Array
    names: tuple[tuple[int, Hashable], ...] = static()
    depth: int = static()

    def uniform(self) -> jax.Array:
        """The policy with equal probabilities of all legal actions. float [I, n]."""
        return self.legal / self.legal.sum(-1, keepdims=True, dtype=jnp.float32)

    def values(self, policies: Any) -> jax.Array:
        policy = self._checked(policies)
        return self._backward(policy, lambda q: (policy * q).sum(-1))[1]

    def best_values(self, policies: Any) -> jax.Array:
        return self._backward(self._checked(policies), self._best)[1]

    def action_values(self, policy: Any) -> jax.Array:
        """Counterfactual values: expected payoff of the acting player after each action, if it
        plays to reach the information set; weighted by the probability that the others and chance
        reach it. float [I, n]; 0 for actions that are not legal.
        """
        policy = self._checked(policy)
        return self._backward(policy, lambda q: (policy * q).sum(-1))[0]

    def best_response(self, policy: Any) -> jax.Array:
        """The best deterministic policy of each player against the others in `policy`. [I, n]."""
        q, _ = self._backward(self._checked(policy), self._best)
        best = jnp.where(self.legal, q, -jnp.inf).argmax(-1)
        return jax.nn.one_hot(best, q.shape[-1], dtype=jnp.float32)

    def plans(self, policy: Any) -> jax.Array:
        """Probability that a player plays each sequence, if the others and chance allow it: the
        realization plan of its policy. float [I, n].
        """
        return self._plans(self._checked(policy))[: self.legal.size].reshape(self.legal.shape)

    def behaviour(self, plans: jax.Array) -> jax.Array:
        """The policy of realization plans [I, n], or of sums of them: mixtures of plans are plans.

        float [I, n]; uniform in information sets that the plans never reach.
        """
        total = plans.sum(-1, keepdims=True)
        return jnp.where(total > 0, plans / jnp.where(total > 0, total, 1.0), self.uniform())

    def _best(self, q: jax.Array) -> jax.Array:
        return jnp.where(self.legal, q, -jnp.inf).max(-1)

    def _plans(self, policy: jax.Array) -> jax.Array:
        """Realization plans of all sequences, also those before the first action. [I * n + A]."""
        first = jnp.ones(self.payoff.shape[-1], jnp.float32)

        def extend(_: int, plans: jax.Array) -> jax.Array:
            made = plans[self.parent][:, None] * policy
            return jnp.concatenate([made.ravel(), first])

        start = jnp.concatenate([jnp.zeros(policy.size, jnp.float32), first])
        return jax.lax.fori_loop(0, self.depth, extend, start)

    def _backward(
        self, policy: jax.Array, choose: Callable[[jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Values of actions and of the game for each player, against the others in `policy`, by
        backward induction over the information sets. [I, n], [A].

        choose: the value of an information set, [I], given those of its actions, [I, n].
        """
        num_players = self.payoff.shape[-1]
        reach = self._plans(policy)[self.sequence]  # [Z, A]
        is_own = jnp.eye(num_players, dtype=bool)[None]
        others = jnp.where(is_own, 1.0, reach[:, None]).prod(-1) * self.chance[:, None]
        paid = jnp.zeros(policy.size + num_players, jnp.float32)
        paid = paid.at[self.sequence].add(others * self.payoff)

        def actions(value: jax.Array) -> jax.Array:
            return paid.at[self.parent].add(value)

        def step(_: int, value: jax.Array) -> jax.Array:
            return choose(actions(value)[: policy.size].reshape(policy.shape))

        # as often as the longest chain of information sets of one player
        start = jnp.zeros(len(policy), jnp.float32)
        total = actions(jax.lax.fori_loop(0, self.depth, step, start))
        return total[: policy.size].reshape(policy.shape), total[policy.size :]

    def _checked(self, policy: Any) -> jax.Array:
        return check_probabilities("policy", policy, np.shape(self.legal))


# --------------------------------------------------------------------------------------- from rules


class Chance(NamedTuple):
    """A chance event: its outcomes 0, 1, ... have the probabilities `probs`."""

    probs: Sequence[float]


class Decision(NamedTuple):
    """A decision of `player` between the actions 0 to num_actions - 1.

    info: name of the information set: the same for all histories that the player can't tell apart.
    """

    player: int
    info: Hashable
    num_actions: int


class Outcome(NamedTuple):
    """The end of a game. payoff: of each player, [A]."""

    payoff: Sequence[float]


def enumerated(rules: Callable[[tuple[int, ...]], Chance | Decision | Outcome]) -> Extensive:
    """The game in extensive form with these rules, by listing all histories.

    rules: a function of the history, a tuple of the outcomes of chance and the actions so far, ()
      at first. `rl.games.kuhn_rules` is an example.

    Raises:
      ValueError: probabilities of a chance event that do not sum to 1, payoffs of different numbers
        of players, or an information set with different numbers of actions or without perfect
        recall.
    """
    found = _Found(rules)
    found.visit((), 1.0, {})
    return found.game()


class _Found:
    """The information sets and outcomes of a game, in the order of a depth-first search."""

    def __init__(self, rules: Callable[[tuple[int, ...]], Any]):
        self.rules = rules
        self.rows: dict[tuple[int, Hashable], int] = {}
        self.sets: list[tuple[int, int, tuple[int, int] | None]] = []  # player, actions, parent
        self.depths: list[int] = []  # of information sets, from 1
        self.ends: list[tuple[tuple[float, ...], float, dict[int, tuple[int, int]]]] = []

    def visit(
        self, history: tuple[int, ...], chance: float, last: dict[int, tuple[int, int]]
    ) -> None:
        """List all that follows a history. last: (information set, action) of each player."""
        now = self.rules(history)
        if isinstance(now, Outcome):
            self.ends.append((tuple(map(float, now.payoff)), chance, last))
        elif isinstance(now, Chance):
            if min(now.probs) < 0 or abs(sum(now.probs) - 1) > 1e-6:
                raise ValueError(
                    f"After {history}, the probabilities of chance {tuple(now.probs)} are not a "
                    "distribution: write numbers that sum to 1."
                )
            for i, prob in enumerate(now.probs):
                self.visit((*history, i), chance * prob, last)
        else:
            row = self.row(history, now, last.get(now.player))
            for action in range(now.num_actions):
                self.visit((*history, action), chance, last | {now.player: (row, action)})

    def row(self, history: tuple[int, ...], now: Decision, parent: tuple[int, int] | None) -> int:
        """The number of the information set, new or known."""
        key = now.player, now.info
        row = self.rows.setdefault(key, len(self.rows))
        entry = now.player, now.num_actions, parent
        if row == len(self.sets):
            self.sets.append(entry)
            self.depths.append(1 + (self.depths[parent[0]] if parent else 0))
        elif self.sets[row][1] != now.num_actions:
            raise ValueError(
                f"Information set {now.info!r} of player {now.player} has {now.num_actions} "
                f"actions after {history}, and {self.sets[row][1]} before: add to info what the "
                "actions depend on."
            )
        elif self.sets[row] != entry:
            raise ValueError(
                f"After {history}, player {now.player} has reached information set {now.info!r} by "
                "other actions of its own than before, so that it has forgotten them: add its own "
                "past actions and observations to info (perfect recall)."
            )
        return row

    def game(self) -> Extensive:
        """The arrays of the game."""
        num_players = len(self.ends[0][0])
        if any(len(payoff) != num_players for payoff, _, _ in self.ends):
            raise ValueError(
                "The payoffs of outcomes have different lengths: write A numbers each."
            )
        wrong = sorted({player for player, _, _ in self.sets} - set(range(num_players)))
        if wrong:
            raise ValueError(
                f"Player {wrong[0]} acts, and the payoffs are of players 0 to {num_players - 1}."
            )
        width = max((num for _, num, _ in self.sets), default=1)
        first = len(self.sets) * width

        def index(player: int, at: tuple[int, int] | None) -> int:
            return first + player if at is None else at[0] * width + at[1]

        last = [[index(p, at.get(p)) for p in range(num_players)] for _, _, at in self.ends]
        return Extensive(
            payoff=jnp.array([payoff for payoff, _, _ in self.ends], jnp.float32),
            chance=jnp.array([chance for _, chance, _ in self.ends], jnp.float32),
            sequence=jnp.array(last, jnp.int32),
            parent=jnp.array([index(p, at) for p, _, at in self.sets], jnp.int32),
            player=jnp.array([p for p, _, _ in self.sets], jnp.int32),
            legal=jnp.array([[a < num for a in range(width)] for _, num, _ in self.sets]),
            names=tuple(self.rows),
            depth=max(self.depths, default=0),
        )
