"""Doors: moves against a slow definition, and the two plates that a team has to hold in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from envs.doors import MOVES, STAY, Doors

UP, RIGHT, DOWN, LEFT = range(4)
ENV = Doors(rows=3, side=3)  # 3 rows of 7 cells; plates at (1, 1) and (1, 5), door at (1, 3)
step = jax.jit(lambda state, action: ENV.step(jax.random.key(0), state, action))


def moved(places, actions):
    """The slow definition: rows and columns after a step."""
    is_open = any(place in [(1, 1), (1, 5)] for place in places)
    after = []
    for place, action in zip(places, actions, strict=True):
        row, column = place[0] + MOVES[action][0], place[1] + MOVES[action][1]
        free = 0 <= row < 3 and 0 <= column < 7
        free &= column != 3 or (row == 1 and is_open)
        after.append((row, column) if free else place)
    return after


def test_moves_are_those_of_a_slow_definition():
    rng = np.random.default_rng(0)
    crossed = 0
    for _ in range(300):
        places = [(int(rng.integers(3)), int(rng.choice([0, 1, 2, 4, 5, 6]))) for _ in range(2)]
        actions = rng.integers(5, size=2)
        state, result = step(jnp.array([7 * row + column for row, column in places]), actions)
        expected = moved(places, actions)
        assert ENV.place(state).tolist() == [list(place) for place in expected]
        wins = all(column > 3 for _, column in expected)
        crossed += any(column == 3 for _, column in expected)
        assert bool(result.terminated) is wins
        np.testing.assert_array_equal(result.reward, np.full(2, wins))
    assert crossed


def test_a_team_wins_by_holding_one_plate_after_the_other():
    state = jnp.array([7, 9])  # (1, 0) and (1, 2)
    actions = [(STAY, RIGHT), (RIGHT, RIGHT)]  # the door is closed, then the plate is entered
    actions += [(STAY, RIGHT), (STAY, RIGHT), (STAY, RIGHT)]  # through the door, to the other plate
    actions += [(RIGHT, STAY), (RIGHT, STAY), (RIGHT, STAY)]
    seen = []
    for action in actions:
        state, result = step(state, jnp.array(action))
        seen.append((ENV.place(state)[:, 1].tolist(), bool(result.terminated)))
    assert [columns for columns, _ in seen[:3]] == [[0, 2], [1, 2], [1, 3]]
    assert [over for _, over in seen] == [False] * 7 + [True]


def test_an_observation():
    obs = np.asarray(ENV.observe(jnp.array([8, 20])))  # (1, 1), a plate, and (2, 6)
    first, second = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    np.testing.assert_array_equal(obs, [[*first, *second, 1], [*second, *first, 1]])


def test_it_keeps_the_contract_and_starts_in_the_left_room():
    rl.check_env(ENV)
    cells, _ = jax.vmap(ENV.reset)(jax.random.split(jax.random.key(0), 200))
    assert set(np.unique(cells)) == {7 * row + column for row in range(3) for column in range(3)}


def test_rooms_that_are_too_small():
    with pytest.raises(ValueError, match="write 3 or more"):
        Doors(rows=2)
