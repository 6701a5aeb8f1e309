"""Games against opponents: one seat against slow loops over the game, self-play, round robins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import quick

import envs
import jaxrl as rl
from envs import matrix_game
from jaxrl.env import Env, Step
from jaxrl.spaces import Discrete
from jaxrl.teachers.base import Report
from jaxrl.teachers.self_play import LATEST, Versions
from jaxrl.tree import pytree, static

RPS = matrix_game.zero_sum([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


@pytree
class Relay(Env):
    """Three agents that see their index, the time and their last action; the i-th terminates after
    i + 3 steps. Each reward is the own action plus ten times the sum of the others'.
    """

    num_agents: int = static(default=3)
    max_steps: int = static(default=8)
    action_space = Discrete(4)
    channels = ("own",)

    def reset(self, key):
        state = jnp.int32(0), jnp.full(3, -1, jnp.int32)
        return state, self.observe(state)

    def observe(self, state):
        time, last = state
        return jnp.stack([jnp.arange(3), jnp.full(3, time), last], 1).astype(jnp.float32)

    def step(self, key, state, action):
        time = state[0] + 1
        over = time >= jnp.arange(3) + 3
        reward = jnp.where(time > jnp.arange(3) + 3, 0.0, action + 10.0 * (action.sum() - action))
        info = {"own": action.astype(jnp.float32)}
        return (time, action), Step(self.observe((time, action)), reward, over, info)


def by_index(key, obs):
    """Moves that depend on the seat, the time and the last move."""
    return ((2 * obs[0] + obs[1] + obs[2]) % 4).astype(jnp.int32)


@quick
def played(env, key, actions):
    """Observations, rewards, ends and channels along a fixed sequence of actions, no resets."""
    state, obs = env.reset(key)

    def go(carry, action):
        state, key = carry
        key, now = jax.random.split(key)
        state, step = env.step(now, state, action)
        return (state, key), (step.obs, step.reward, step.terminated, step.info)

    return obs, jax.lax.scan(go, (state, key), actions)[1]


@pytest.mark.parametrize("seat", [0, 1, 2])
def test_a_seat_sees_what_the_whole_game_shows_it(seat):
    mine = np.array([3, 0, 2, 1, 1])
    env = rl.Versus(Relay(), by_index, jnp.int32(seat))
    first, (obs, reward, over, info) = played(env, jax.random.key(0), jnp.asarray(mine))
    assert first.tolist() == [seat, 0, -1]
    last = np.full(3, -1)
    for time, own in enumerate(mine):
        moves = np.array([(2 * i + time + last[i]) % 4 for i in range(3)])
        moves[seat] = own
        alone = time + 1 > seat + 3  # it had terminated
        expected = 0.0 if alone else own + 10.0 * (moves.sum() - own)
        assert reward[time] == expected
        assert bool(over[time]) == (time + 1 >= seat + 3)
        assert obs[time].tolist() == [seat, time + 1, own]
        assert info["own"][time] == own
        last = moves


def test_a_random_seat_is_any_of_them():
    env = rl.Versus(Relay(), by_index, None)
    states, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 60))
    assert (np.asarray(obs[:, 0]) == np.asarray(states.seat)).all()
    assert set(np.asarray(states.seat).tolist()) == {0, 1, 2}


def test_a_random_opponent_takes_legal_actions_alone():
    game = matrix_game.MatrixGame(jnp.arange(12.0).reshape(2, 3, 2))  # 3 and 2 actions: masked
    env = rl.Versus(game)
    _, (_, reward, _, _) = jax.vmap(played, (None, 0, None))(
        env, jax.random.split(jax.random.key(0), 40), jnp.array([2])
    )
    assert set(np.asarray(reward).ravel().tolist()) == {4.0, 5.0}


@pytest.fixture(scope="module")
def remembering():
    """An algorithm with a memory, and its agent."""
    algo = rl.ppo(num_envs=2, num_steps=4, minibatches=1, network=rl.MLP((4,)), memory=rl.GRU(3))
    game = matrix_game.symmetric([[-1, -3], [0, -2]], max_steps=3)
    agent = jax.jit(lambda key: algo.agent(algo.init(key, rl.Versus(game))))(jax.random.key(0))
    return game, rl.Player(algo, agent, greedy=True)


def test_an_opponent_has_a_memory_of_its_own(remembering):
    game, player = remembering
    actions = jnp.array([0, 1, 1])
    _, (obs, _, _, _) = played(rl.Versus(game, player), jax.random.key(3), actions)
    policy, episode = player.policy(game), None
    state, seen = game.reset(jax.random.key(0))
    memory = policy.rnn_state
    for time, own in enumerate(actions):
        episode = rl.Episode(state, seen[1], memory, jnp.int32(time), jnp.float32(0.0), {})
        memory, move, _ = policy(jax.random.key(0), episode)
        state, step = game.step(jax.random.key(0), state, jnp.stack([own, move]))
        seen = step.obs
        np.testing.assert_allclose(obs[time], seen[0])
    assert float(jnp.abs(jax.tree.leaves(memory)[0]).max()) > 0.0


def test_new_episodes_begin_with_an_empty_memory(remembering):
    game, player = remembering
    env = rl.Versus(game, player)
    state, _ = env.reset(jax.random.key(0))
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(state.game.rnn_state))


# -------------------------------------------------------------------------------------- round robin


@pytree
class Always(rl.Algorithm):
    """A policy that takes the action which is its agent."""

    def policy(self, env, agent, greedy):
        return rl.Policy(lambda key, episode: ((), agent, ()))


def test_a_round_robin_plays_each_against_each():
    found = rl.round_robin(0, RPS, Always(), jnp.arange(3), 2)
    assert found.shape == (3, 3, 2)
    np.testing.assert_array_equal(found[..., 0], RPS.payoff[0])


def test_ratings_of_a_round_robin_count_both_seats():
    """In seat 0 one player wins always against the other, which then wins 4 times in 5."""
    won = np.arange(100) < np.array([[50, 100], [80, 50]])[..., None]
    scores = (jnp.sign(jnp.where(won, 1.0, -1.0)) + 1) / 2
    wins = scores.sum(-1) + (1 - scores).sum(-1).T
    assert wins.tolist() == [[100.0, 120.0], [80.0, 100.0]]
    low, high = sorted(rl.stats.elo(wins, prior=1e-3).estimate.tolist())
    assert high - low == pytest.approx(400 * np.log10(1.5), abs=0.5)


# ---------------------------------------------------------------------------------------- self-play


@pytree
class Fixed(rl.Tasks):
    """Opponents that always take their action."""

    def against(self, agent):
        return rl.Versus(RPS, rl.Player(Always(), agent))


def versions(wins, games, saved, current=0):
    num = len(wins)
    arrays = jnp.arange(num), jnp.int32(saved), jnp.asarray(games, jnp.float32)
    return Versions(*arrays, jnp.asarray(wins, jnp.float32), jnp.int32(current), jnp.int32(0))


@pytest.mark.parametrize(("power", "variance"), [(0.0, False), (2.0, False), (1.0, True)])
def test_opponents_are_drawn_by_the_win_rate_against_them(power, variance):
    teacher = rl.teachers.SelfPlay(latest=0.25, power=power, variance=variance, capacity=4)
    state = versions([9.0, 1.0, 4.0, 0.0], [10.0, 10.0, 8.0, 0.0], saved=3, current=7)
    levels, notes = jax.jit(lambda key: teacher.draw(key, state, Fixed(), 20_000))(
        jax.random.key(0)
    )
    rates = [10 / 12, 2 / 12, 5 / 10]
    weights = np.array([((1 - p) * p if variance else 1 - p) ** power for p in rates])
    expected = np.array([*(0.75 * weights / weights.sum()), 0.0])
    counts = np.bincount(np.asarray(notes) - LATEST, minlength=5) / 20_000
    np.testing.assert_allclose(counts, [0.25, *expected], atol=0.012)
    agents = np.asarray(levels.opponent.agent)
    assert (agents == np.where(np.asarray(notes) == LATEST, 7, np.asarray(notes))).all()


def test_win_rates_fade_and_new_versions_replace_the_oldest():
    teacher = rl.teachers.SelfPlay(save_every=2.0, decay=0.5, capacity=2)
    state = versions([4.0, 2.0], [8.0, 2.0], saved=2)
    nan = jnp.full(3, jnp.nan)
    report = Report(
        episodes=jnp.array([3, 0, 5]),
        episode_return=nan,
        best_return=nan,
        success=jnp.array([1.0, jnp.nan, 1.0]),
        value=nan,
        value_error=nan,
        positive_value_error=nan,
    )
    notes = jnp.array([1, 0, LATEST])
    new, _ = teacher.tell(jax.random.key(0), state, Fixed(), None, notes, report)
    np.testing.assert_allclose(new.wins, [2.0, 1.0 + 3.0])
    np.testing.assert_allclose(new.games, [4.0, 1.0 + 3.0])
    once = teacher.post_learn(new, jnp.int32(40))
    assert once.agents.tolist() == [0, 1]
    assert int(once.current) == 40
    twice = teacher.post_learn(once, jnp.int32(41))
    assert twice.agents.tolist() == [41, 1]
    assert twice.games.tolist() == [0.0, 4.0]
    assert int(twice.saved) == 3
    assert twice.numbers.tolist() == [2, 1]
    late, _ = teacher.tell(jax.random.key(0), twice, Fixed(), None, jnp.array([0, 2, 1]), report)
    np.testing.assert_allclose(late.games, [0.0, 2.0 + 5.0])  # version 0 is gone


def test_versions_are_saved_at_fractions_and_weights_do_not_underflow():
    teacher = rl.teachers.SelfPlay(save_every=1.5, capacity=4)
    state, saved = versions([0.0] * 4, [0.0] * 4, saved=1), []
    for i in range(6):
        state = teacher.post_learn(state, jnp.int32(i))
        saved.append(int(state.saved))
    assert saved == [1, 2, 3, 3, 4, 5]
    steep = rl.teachers.SelfPlay(latest=0.0, power=200.0, capacity=2)
    state = versions([98.0, 97.0], [100.0, 100.0], saved=2)
    _, notes = steep.draw(jax.random.key(0), state, Fixed(), 64)
    assert (np.asarray(notes) == 1).all()


def test_a_learner_in_self_play_meets_its_versions():
    algo = rl.ppo(num_envs=8, num_steps=4, network=rl.MLP((4,)), epochs=1, minibatches=1)
    taught = rl.Taught(algo, rl.teachers.SelfPlay(save_every=1.0, capacity=3), num_levels=4)
    tasks = rl.Opponents(RPS, algo)
    state = quick(lambda key: taught.init(key, tasks, 10))(jax.random.key(0))
    update = quick(lambda key, state: taught.update(key, tasks, state))
    for i in range(2):
        before = taught.agent(state)
        state, metrics = update(jax.random.key(i), state)
        newest = jax.tree.map(lambda x, i=i: x[(1 + i) % 3], state.teacher.agents)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, newest, taught.agent(state)))
        assert not jax.tree.all(jax.tree.map(jnp.array_equal, before, taught.agent(state)))
    assert int(state.teacher.saved) == 3
    assert 0.0 < float(metrics["win_rate"]) < 1.0
    assert float(state.teacher.games.sum()) > 0.0


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: rl.Versus(envs.make("CartPole-v1")), TypeError, "has a single agent"),
        (lambda: rl.Versus(Relay(num_agents=1)), TypeError, "has a team of one"),
        (lambda: rl.Versus(None), TypeError, "which is not an Env"),
        (lambda: rl.Versus(RPS, seat=2), ValueError, "write a number from 0 to 1, or None"),
        (lambda: rl.Versus(RPS, 3), TypeError, "write a function .key, obs. -> action"),
        (lambda: rl.Opponents(RPS, "ppo"), TypeError, "write rl.ppo"),
        (lambda: rl.Opponents(envs.make("Catch"), rl.ppo()), TypeError, "has a single agent"),
        (
            lambda: rl.teachers.SelfPlay().check(envs.distribution("Maze-7"), 0),
            TypeError,
            "write tasks = rl.Opponents.game, algo",
        ),
        (
            lambda: rl.Taught(rl.ppo(), rl.teachers.SelfPlay()).init(
                jax.random.key(0), rl.Opponents(RPS, rl.ppo(network=rl.MLP((8,))))
            ),
            TypeError,
            "are different algorithms",
        ),
        (lambda: rl.teachers.SelfPlay(variance=True), ValueError, "write power=1.0"),
        (lambda: rl.Player("ppo", jnp.zeros(2)), TypeError, "write rl.ppo"),
        (lambda: rl.Versus(RPS, rl.ppo()), TypeError, "write rl.Player.algo, agent."),
        (lambda: rl.Versus(RPS, rl.Policy(by_index)), TypeError, "write rl.Player.algo, agent."),
        (lambda: rl.Versus(RPS, seat=jnp.int32(7)), ValueError, "write a number from 0 to 1"),
        (lambda: rl.Versus(RPS, seat=True), ValueError, "write a number from 0 to 1"),
        (
            lambda: played(rl.Versus(RPS, lambda key, obs: obs), jax.random.key(0), jnp.array([1])),
            TypeError,
            "returns actions of shape",
        ),
        (
            lambda: rl.round_robin(0, RPS, Always(), jnp.int32(1), 2),
            ValueError,
            "need a leading axis",
        ),
        (
            lambda: rl.teachers.SelfPlay().check(rl.Opponents(envs.make("TwoStep"), rl.ppo()), 0),
            ValueError,
            "no agent of TwoStep wins.*train all of them, rl.Training.*rl.Versus",
        ),
        (lambda: rl.teachers.SelfPlay(capacity=0), ValueError, "capacity"),
    ],
)
def test_errors_say_what_to_write(make, kind, words):
    with pytest.raises(kind, match=words):
        make()
