"""The games of pgx (Koyamada et al., 2023): one seat against a policy, or all seats as agents.

All games in `NAMES` run with pgx 2.6.0 and jax 0.10. Limits on the number of moves in Go, chess and
shogi are rules of these games, and terminate them.
"""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.errors import nearest
from jaxrl.opponents import as_opponent
from jaxrl.spaces import Discrete, Masked
from jaxrl.tree import pytree, static

from .arguments import check_names, frozen
from .pgx_games import GAMES, Source, class_of, game_of, num_actions, order_of
from .states import strong

NAMES = tuple(f"pgx:{name}" for name in GAMES)
LEFT_OUT = {
    "pgx:bridge_bidding": "it needs a table of double-dummy results that pgx does not ship",
}


@pytree
class Seated:
    """A game in which `player` is to move. owed: its reward from before its first move."""

    game: Any
    player: jax.Array
    owed: jax.Array


@pytree
class FromPgx(Env):
    """One seat of a pgx game, in which `opponent` plays the others; or a game of one player.

    A step is an action of the seat, followed by all moves of the others until its next turn; its
    reward is the sum over these. The observation is the seat's view, `Masked` with its legal
    actions in games that have a mask. An illegal action loses at once.

    opponent: a pytree `(key, Masked observation) -> action`, such as `RandomMoves()`.
    params: floats of the game ("komi", "sticky_action_prob"), leaves.
    source: (name, other arguments of pgx's class). seat: 0 is the first player to move; None: drawn
      at each reset.
    """

    opponent: Any
    params: dict[str, Any]
    source: Source = static()
    max_steps: int = static()
    seat: int | None = static(default=None)

    @property
    def action_space(self) -> Discrete:
        return Discrete(num_actions(*self.source))

    def reset(self, key: jax.Array) -> tuple[Seated, Any]:
        key_reset, key_seat, key_play = jax.random.split(key, 3)
        game, nothing = game_of(self.source, self.params), jnp.float32(0.0)
        state = strong(game.init(key_reset))
        if game.num_players == 1:
            return Seated(state, jnp.int32(0), nothing), _view(game, state, jnp.int32(0))
        seat: Any = self.seat
        if seat is None:
            seat = jax.random.randint(key_seat, (), 0, game.num_players)
        player = order_of(game, state)[seat]
        state, owed = self._turn(key_play, game, state, player, jnp.int32(0), jnp.bool_(False))
        return Seated(state, player, owed), _view(game, state, player)

    def step(self, key: jax.Array, state: Seated, action: jax.Array) -> tuple[Seated, Step]:
        game, player = game_of(self.source, self.params), state.player
        if game.num_players == 1:
            after = strong(game.step(state.game, action, key))
            reward = after.rewards[0]
        else:
            after, reward = self._turn(key, game, state.game, player, action, jnp.bool_(True))
        step = Step(_view(game, after, player), state.owed + reward, after.terminated, {})
        return Seated(after, player, jnp.zeros_like(state.owed)), step

    def __str__(self) -> str:
        return self.source[0]

    def _turn(
        self,
        key: jax.Array,
        game: Any,
        state: Any,
        player: jax.Array,
        action: jax.Array,
        is_own: jax.Array,
    ) -> tuple[Any, jax.Array]:
        """The state at the next turn of `player` or at the end, and its reward until then.

        is_own: True if `player` moves first, with `action`. One loop covers all moves, so that the
        game, which is most of the program, is compiled only once.
        """

        def is_waiting(now: Any) -> jax.Array:
            _, state, _, is_own = now
            return is_own | ((state.current_player != player) & ~state.terminated)

        def move(now: Any) -> Any:
            key, state, reward, is_own = now
            key, key_act, key_step = jax.random.split(key, 3)
            obs = Masked(_numbers(state.observation), state.legal_action_mask)
            other = jnp.asarray(self.opponent(key_act, obs), jnp.int32)
            state = strong(game.step(state, jnp.where(is_own, action, other), key_step))
            return key, state, reward + state.rewards[player], jnp.bool_(False)

        start = key, state, jnp.float32(0.0), is_own
        _, state, reward, _ = jax.lax.while_loop(is_waiting, move, start)
        return state, reward


@pytree
class Seats:
    """A game, and its players in the order of their first turns [P]."""

    game: Any
    order: jax.Array


@pytree
class FromPgxTeam(Env):
    """All seats of a pgx game, in the order of their first turns, as competing agents.

    Each agent observes the game from its own side, `Masked`; agents that are not to move have one
    legal action, 0, which is ignored. All terminate together. As in pgx, some observations do not
    contain which player is to move, and in backgammon both players see the board from the side of
    that player.
    """

    params: dict[str, Any]
    source: Source = static()
    num_agents: int = static()
    max_steps: int = static()

    @property
    def action_space(self) -> Discrete:
        return Discrete(num_actions(*self.source))

    def reset(self, key: jax.Array) -> tuple[Seats, Masked]:
        game = game_of(self.source, self.params)
        state = strong(game.init(key))
        seats = Seats(state, order_of(game, state))
        return seats, self._views(game, seats)

    def step(self, key: jax.Array, state: Seats, action: jax.Array) -> tuple[Seats, Step]:
        game, order = game_of(self.source, self.params), state.order
        moved = action[jnp.argmax(order == state.game.current_player)]
        seats = Seats(strong(game.step(state.game, moved, key)), order)
        obs = self._views(game, seats)
        return seats, Step(obs, seats.game.rewards[order], seats.game.terminated, {})

    def __str__(self) -> str:
        return self.source[0]

    def _views(self, game: Any, seats: Seats) -> Masked:
        state = seats.game
        obs = jax.vmap(lambda player: _numbers(game._observe(state, player)))(seats.order)
        mask = state.legal_action_mask
        waits = (seats.order != state.current_player)[:, None]
        return Masked(obs, jnp.where(waits, jnp.arange(mask.size) == 0, mask))


def make(
    name: str,
    *,
    max_steps: int | None = None,
    num_agents: int | None = None,
    opponent: Any = None,
    seat: int | None = None,
    **params: Any,
) -> FromPgx | FromPgxTeam:
    """Return the pgx game called `name` ("pgx:tic_tac_toe").

    num_agents: the number of players, to control all seats; None: one seat.
    opponent: the policy of all other seats, by default `RandomMoves()`: a function or a callable
      pytree `(key, Masked observation) -> action`; the leaves of a pytree are leaves of the
      environment. A trained agent is `lambda key, obs: policy.act(obs)[0]`.
    seat: the agent's, 0 for the first player to move; None: drawn at each reset.
    params: arguments of pgx's class; `komi` and `sticky_action_prob` are leaves.

    Raises:
      ValueError: there is no such game, argument or seat.
    """
    if name in LEFT_OUT:
        raise ValueError(f"{name} can't be made: {LEFT_OUT[name]}.")
    if name not in NAMES:
        raise ValueError(f"There is no environment {name!r}; {nearest(name, NAMES)}.")
    game = GAMES[name.removeprefix("pgx:")]
    known = inspect.signature(class_of(name)).parameters
    given = {"num_agents": num_agents, "opponent": opponent, "seat": seat}
    check_names(name, params, {*known, *(given if game.players > 1 else ()), "max_steps"})
    if game.players == 1 and any(value is not None for value in given.values()):
        raise ValueError(f"{name} has one player: leave out {', '.join(given)}.")
    floats = {key: x.default for key, x in known.items() if isinstance(x.default, float)}
    leaves = {key: params.pop(key, value) for key, value in floats.items()}
    source = (name, frozen(name, dict(game.settings) | params))
    moves = game.moves * dict(source[1])["size"] ** 2 + 1 if game.in_cells else game.moves
    if num_agents is not None:
        if num_agents != game.players or opponent is not None or seat is not None:
            raise ValueError(
                f"num_agents={num_agents!r} of {name} controls all of its {game.players} seats: "
                f"write num_agents={game.players} without opponent= and seat=, or leave it out for "
                "one seat against a policy."
            )
        return FromPgxTeam(leaves, source, num_agents, moves if max_steps is None else max_steps)
    if seat is not None and seat not in range(game.players):
        raise ValueError(
            f"{name} has no seat {seat!r}: write a number from 0 to {game.players - 1}, or None."
        )
    limit = math.ceil(moves / game.players) if max_steps is None else max_steps
    return FromPgx(as_opponent(name, opponent), leaves, source, limit, seat)


def _view(game: Any, state: Any, player: jax.Array) -> Any:
    """The observation of a player; without a mask where all actions are always legal."""
    obs = _numbers(game._observe(state, player))
    return obs if game.id.startswith("minatar") else Masked(obs, state.legal_action_mask)


def _numbers(obs: jax.Array) -> jax.Array:
    """bool and float32 as they are, counts as float32."""
    return obs if obs.dtype == bool else obs.astype(jnp.float32)
