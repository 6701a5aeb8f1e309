"""The games of pgx: their classes, sizes, and the order of their players."""

import importlib
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .arguments import of_extra

Source = tuple[str, tuple[tuple[str, Any], ...]]


class Game(NamedTuple):
    """A class of pgx, and `moves`, the maximum number of moves of all players together, or a number
    that few games reach.

    settings: arguments of the class. in_cells: `moves` is per cell of the board plus one.
    """

    module: str
    type: str
    players: int
    moves: int
    settings: tuple[tuple[str, Any], ...] = ()
    in_cells: bool = False


GAMES = {
    "2048": Game("play2048", "Play2048", 1, 2000),
    "animal_shogi": Game("animal_shogi", "AnimalShogi", 2, 256),
    "backgammon": Game("backgammon", "Backgammon", 2, 1000),
    "chess": Game("chess", "Chess", 2, 512),
    "connect_four": Game("connect_four", "ConnectFour", 2, 42),
    "gardner_chess": Game("gardner_chess", "GardnerChess", 2, 256),
    "go_9x9": Game("go", "Go", 2, 2, (("size", 9),), in_cells=True),
    "go_19x19": Game("go", "Go", 2, 2, (("size", 19),), in_cells=True),
    "hex": Game("hex", "Hex", 2, 1, (("size", 11),), in_cells=True),
    "kuhn_poker": Game("kuhn_poker", "KuhnPoker", 2, 3),
    "leduc_holdem": Game("leduc_holdem", "LeducHoldem", 2, 8),
    "minatar-asterix": Game("minatar.asterix", "MinAtarAsterix", 1, 1000),
    "minatar-breakout": Game("minatar.breakout", "MinAtarBreakout", 1, 1000),
    "minatar-freeway": Game("minatar.freeway", "MinAtarFreeway", 1, 2500),
    "minatar-seaquest": Game("minatar.seaquest", "MinAtarSeaquest", 1, 1000),
    "minatar-space_invaders": Game("minatar.space_invaders", "MinAtarSpaceInvaders", 1, 1000),
    "othello": Game("othello", "Othello", 2, 128),
    "shogi": Game("shogi", "Shogi", 2, 512),
    "sparrow_mahjong": Game("sparrow_mahjong", "SparrowMahjong", 3, 60),
    "tic_tac_toe": Game("tic_tac_toe", "TicTacToe", 2, 9),
}


@lru_cache
def class_of(name: str) -> Any:
    """The class of a game. Its module creates arrays on import, which must not be tracers."""
    of_extra("pgx", "pgx", name)
    game = GAMES[name.removeprefix("pgx:")]
    with jax.ensure_compile_time_eval():
        return getattr(importlib.import_module(f"pgx.{game.module}"), game.type)


def game_of(source: Source, params: dict[str, Any]) -> Any:
    """The object of a game, built at each call, because parameters may be tracers."""
    name, settings = source
    return class_of(name)(**dict(settings), **params)


@lru_cache
def num_actions(*source: Any) -> int:
    """The number of actions of the game `num_actions(*source)`."""
    game = game_of(source, {})  # type: ignore[arg-type]
    return jax.eval_shape(game.init, jax.random.key(0)).legal_action_mask.shape[0]


def order_of(game: Any, state: Any) -> jax.Array:
    """Players of an initial state, in the order of their first turns. [P]."""
    if game.num_players == 2:
        return jnp.stack([state.current_player, 1 - state.current_player])
    return state._shuffled_players  # of Sparrow Mahjong
