"""Catch: move a paddle to where a falling ball lands."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.tree import pytree, static

from . import draw


@pytree
class Board:
    """Positions, int32 []. `paddle` is its column in the last row."""

    ball_row: jax.Array
    ball_column: jax.Array
    paddle: jax.Array


@pytree
class Catch(Env):
    """Catch of bsuite (Osband et al., 2020), after Mnih et al. (2014).

    Observation [rows, columns]: 1.0 at the ball and at the paddle, else 0.0. Actions: left, stay,
    right. The ball starts in a random column and falls one row per step, so that an episode has
    `rows` - 1 steps and one reward at its end: `win` if the ball is caught, else `lose`.
    """

    win: jax.Array | float = 1.0
    lose: jax.Array | float = -1.0
    rows: int = static(default=10)
    columns: int = static(default=5)

    @property
    def max_steps(self) -> int:
        return self.rows - 1  # the ball has landed by then: Catch is never truncated

    @property
    def action_space(self) -> Discrete:
        return Discrete(3)

    def reset(self, key: jax.Array) -> tuple[Board, jax.Array]:
        column = jax.random.randint(key, (), 0, self.columns, jnp.int32)
        board = Board(jnp.int32(0), column, jnp.int32(self.columns // 2))
        return board, self.observe(board)

    def step(self, key: jax.Array, state: Board, action: jax.Array) -> tuple[Board, Step]:
        paddle = jnp.clip(state.paddle + action - 1, 0, self.columns - 1)
        board = Board(state.ball_row + 1, state.ball_column, paddle)
        landed = board.ball_row == self.rows - 1
        outcome = jnp.where(board.paddle == board.ball_column, self.win, self.lose)
        return board, Step(self.observe(board), jnp.where(landed, outcome, 0.0), landed, {})

    def observe(self, board: Board) -> jax.Array:
        empty = jnp.zeros((self.rows, self.columns))
        return empty.at[board.ball_row, board.ball_column].set(1.0).at[-1, board.paddle].set(1.0)

    def draw(self, ax: Any, state: Board) -> None:
        """Draw a state on matplotlib Axes, for `plot.gif`."""
        draw.catch(self, ax, state)
