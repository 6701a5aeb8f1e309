"""Games of pgx: seats, opponents and teams, against pgx itself played by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl as rl
from jaxrl import rollout
from jaxrl.opponents import RandomMoves
from jaxrl.tree import pytree, replace

pytest.importorskip("pgx")
pytestmark = [
    pytest.mark.rotate,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
reset = jax.jit(lambda env, key: env.reset(key))
step = jax.jit(lambda env, key, state, action: env.step(key, state, action))
KEY = jax.random.key(0)


def first_legal(key, obs):
    return jnp.argmax(obs.mask)


@pytree
class Shifted:
    """The legal action nearest after `start`."""

    start: int = 0

    def __call__(self, key, obs):
        return jnp.argmax(jnp.roll(obs.mask, -self.start)) + self.start


@pytest.fixture(autouse=True)
def promotes_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("seat", [0, 1])
def test_a_step_of_a_seat_is_a_round_of_the_game(seat):
    """Both players take the first legal square: by hand, with pgx alone."""
    import pgx

    game = pgx.make("tic_tac_toe")
    theirs, move = jax.jit(game.init)(KEY), jax.jit(game.step)
    player = int(theirs.current_player) if seat == 0 else 1 - int(theirs.current_player)
    total, boards = 0.0, []
    while not theirs.terminated:
        if int(theirs.current_player) == player:
            boards.append(np.asarray(game.observe(theirs)))
        theirs = move(theirs, jnp.argmax(theirs.legal_action_mask))
        total += float(theirs.rewards[player])

    env = envs.make("pgx:tic_tac_toe", seat=seat, opponent=first_legal)
    state, obs = reset(env, KEY)
    rewards, seen, terminated = [], [], False
    while not terminated:
        seen.append(np.asarray(obs.obs))
        state, result = step(env, KEY, state, jnp.argmax(obs.mask))
        obs, terminated = result.obs, bool(result.terminated)
        rewards.append(float(result.reward))
    np.testing.assert_array_equal(seen, boards)
    assert sum(rewards) == total != 0.0
    assert not any(rewards[:-1])
    _, after = step(env, KEY, state, jnp.int32(0))
    assert (float(after.reward), bool(after.terminated)) == (0.0, True)


def test_an_illegal_action_loses_at_once():
    env = envs.make("pgx:tic_tac_toe", seat=0, opponent=first_legal)
    state, _ = reset(env, KEY)
    state, _ = step(env, KEY, state, jnp.int32(4))
    _, result = step(env, KEY, state, jnp.int32(4))
    assert (float(result.reward), bool(result.terminated)) == (-1.0, True)


def test_seats_of_a_team_move_in_turn():
    """The mover has pgx's mask, the others one action, which is ignored; the sum is zero."""
    env = envs.make("pgx:tic_tac_toe", num_agents=2)
    state, obs = reset(env, KEY)
    for i in range(5):  # the first player wins with the squares 0, 1, 2
        mover = i % 2
        assert obs.mask[1 - mover].tolist() == [True] + [False] * 8
        np.testing.assert_array_equal(obs.mask[mover], state.game.legal_action_mask)
        np.testing.assert_array_equal(obs.obs[0], obs.obs[1][..., ::-1])  # of both sides
        square = i // 2 if mover == 0 else 5 + i // 2
        chosen = jnp.full(2, 8).at[mover].set(square)
        state, result = step(env, KEY, state, chosen)
        assert float(result.reward.sum()) == 0.0
        assert bool(result.terminated) == (i == 4)
        obs = result.obs
    assert result.reward.tolist() == [1.0, -1.0]


def test_seats_are_drawn_at_each_reset():
    env = envs.make("pgx:tic_tac_toe", opponent=first_legal)
    _, obs = jax.jit(jax.vmap(lambda key: env.reset(key)))(jax.random.split(KEY, 64))
    moved = obs.obs.sum((1, 2, 3))  # by the opponent, where it is first
    assert set(moved.tolist()) == {0, 1}


def test_leaves_of_an_opponent_are_leaves_of_the_environment():
    env = envs.make("pgx:tic_tac_toe", seat=1, opponent=Shifted(0))
    many = replace(env, opponent=Shifted(jnp.arange(9)))
    axes = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, many)
    _, obs = jax.jit(jax.vmap(lambda env: env.reset(KEY), (axes,)))(many)
    np.testing.assert_array_equal(obs.obs[..., 1].reshape(9, 9), np.eye(9, dtype=bool))


def test_komi_is_a_leaf():
    """Both players pass: without stones, Black wins if White is not compensated."""
    env = envs.make("pgx:go_9x9", size=3, num_agents=2)
    assert env.max_steps == 19
    passes = jnp.full(2, 9)

    def winner(komi):
        game = replace(env, params={"komi": komi})
        state, _ = game.reset(KEY)
        state, _ = game.step(KEY, state, passes)
        return game.step(KEY, state, passes)[1]

    result = jax.jit(jax.vmap(winner))(jnp.array([7.5, -1.0]))
    assert result.terminated.all()
    assert result.reward.tolist() == [[-1.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize(
    ("error", "words", "name", "params"),
    [
        (ValueError, "no seat 2.*0 to 1", "pgx:tic_tac_toe", {"seat": 2}),
        (ValueError, "num_agents=3", "pgx:sparrow_mahjong", {"num_agents": 2}),
        (ValueError, "without opponent=", "pgx:hex", {"num_agents": 2, "opponent": RandomMoves()}),
        (ValueError, "one player", "pgx:2048", {"num_agents": 1}),
        (TypeError, "is 3: write a function", "pgx:chess", {"opponent": 3}),
        (TypeError, "RandomMoves.*write a function", "pgx:chess", {"opponent": RandomMoves}),
        (ValueError, "no parameter 'komi'", "pgx:hex", {"komi": 1.0}),
    ],
)
def test_errors(error, words, name, params):
    with pytest.raises(error, match=words):
        envs.make(name, **params)


def test_returns_are_those_of_whole_games():
    env = envs.make("pgx:tic_tac_toe")
    policy = rollout.Policy(
        lambda key, episode: ((), env.action_space.sample(key, episode.obs.mask), ())
    )
    returns = jax.jit(lambda key: rl.evaluate(key, env, policy, 256))(KEY)
    assert set(np.unique(returns)) == {-1.0, 0.0, 1.0}
    assert abs(float(returns.mean())) < 0.25  # alike on both sides, as the seat is drawn
