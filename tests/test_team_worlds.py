"""Spread, Foraging, TwoStep, matrix and Markov games against slow definitions and known values."""

import itertools

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import envs
from envs import foraging, markov_game, matrix_game, teams
from envs.matrix_game import MatrixGame


@jax.jit
def played(env, keys, actions):
    """First observations [N], states before [N, T], states after, and steps of joint actions
    [N, T, A]; without resets.
    """

    def episode(key, actions):
        state, obs = env.reset(key)

        def go(state, x):
            new, step = env.step(x[0], state, x[1])
            return new, (state, new, step)

        keys = jax.random.split(jax.random.fold_in(key, 1), len(actions))
        return obs, *jax.lax.scan(go, state, (keys, actions))[1]

    return jax.vmap(episode)(keys, actions)


def play(env, actions):
    """`played` with NumPy's arrays."""
    keys = jax.random.split(jax.random.key(0), len(actions))
    return jax.device_get(played(env, keys, np.asarray(actions, np.int32)))


def joint_actions(*sizes):
    return list(itertools.product(*map(range, sizes)))


# ----------------------------------------------------------------------------------------- Spread

SPREAD_ACTIONS = np.random.default_rng(0).integers(0, 5, (2048, 25, 3))


def slow_spread(env, position, velocity, landmarks, actions):
    """Position, velocity, rewards and collisions after a step of the definition."""
    directions = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    num, new, speed = len(position), [], []
    for i in range(num):
        force = env.sensitivity * np.array(directions[actions[i]], float)
        for j in range(num):
            if j != i:
                off = position[i] - position[j]
                distance = np.hypot(*off)
                depth = np.logaddexp(0.0, (2 * env.radius - distance) / env.contact_margin)
                force += env.contact_force * env.contact_margin * depth * off / distance
        new.append(position[i] + env.dt * velocity[i])
        speed.append((1 - env.damping) * velocity[i] + env.dt * force)
    shared = -sum(min(np.hypot(*(place - mark)) for place in new) for mark in landmarks)
    hits = [
        sum(j != i and np.hypot(*(new[i] - new[j])) < 2 * env.radius for j in range(num))
        for i in range(num)
    ]
    rewards = [(1 - env.local_ratio) * shared - env.local_ratio * hit for hit in hits]
    return np.array(new), np.array(speed), rewards, hits


@pytest.mark.parametrize("leaves", [{}, {"dt": 0.2, "damping": 0.5, "local_ratio": 0.8}])
def test_spread_moves_and_pays_by_its_definition(leaves):
    env = envs.make("Spread", **leaves)
    obs, before, after, steps = play(env, SPREAD_ACTIONS)
    crowded = np.argwhere(steps.info["collisions"].any(-1))
    rows = [*crowded[:: len(crowded) // 150], *itertools.product(range(10), range(25))]
    for n, t in rows:
        state = [x[n, t].astype(float) for x in (before.position, before.velocity)]
        marks = before.landmarks[n, t].astype(float)
        position, velocity, rewards, hits = slow_spread(env, *state, marks, SPREAD_ACTIONS[n, t])
        np.testing.assert_allclose(after.position[n, t], position, atol=1e-5)
        np.testing.assert_allclose(after.velocity[n, t], velocity, atol=1e-3)
        np.testing.assert_allclose(steps.reward[n, t], rewards, atol=1e-4)
        np.testing.assert_array_equal(steps.info["collisions"][n, t], hits)
        for i in range(3):
            others = [position[j] - position[i] for j in range(3) if j != i]
            seen = [velocity[i], position[i], *(marks - position[i]), *others]
            np.testing.assert_allclose(steps.obs[n, t, i], np.concatenate(seen), atol=1e-3)
    assert steps.info["collisions"].max() == 2.0
    assert not steps.terminated.any()
    np.testing.assert_array_equal(after.landmarks, before.landmarks)
    first = np.stack([before.position[:, 0], before.landmarks[:, 0]])
    assert (np.abs(first) <= 1).all()
    np.testing.assert_allclose(first.mean((1, 2)), 0.0, atol=0.05)
    np.testing.assert_array_equal(obs[..., :2], 0.0)
    np.testing.assert_array_equal(obs[..., 2:4], before.position[:, 0])


def test_random_agents_get_the_return_of_simple_spread():
    """-26.3 +- 0.2 per agent in MPE_simple_spread_v3 of JaxMARL 0.2.0, and +- 0.17 here."""
    steps = play(envs.make("Spread"), SPREAD_ACTIONS)[3]
    assert steps.reward.sum(1).mean() == pytest.approx(-26.3, abs=0.6)


def test_agents_at_one_point_have_finite_forces_and_gradients():
    env = envs.make("Spread")
    total = lambda position: (env.contact(position) * position).sum()
    assert np.isfinite(jax.jit(jax.grad(total))(np.zeros((3, 2), np.float32))).all()


# --------------------------------------------------------------------------------------- Foraging

FORAGING = {
    "crowded": envs.Foraging(size=4, num_agents=4, num_food=1),
    "together": envs.Foraging(size=6, max_level=3, cooperative=True, sight=2),
}


def foraging_actions(env, num, length):
    """Random, half of them loads."""
    rng = np.random.default_rng(1)
    shape = (num, length, env.num_agents)
    return np.where(rng.random(shape) < 0.5, foraging.LOAD, rng.integers(0, 5, shape))


def slow_moves(size, cells, food, actions):
    """(cells after a step, True if an agent that was turned back blocked another one).

    food: the cells of what is left, a set.
    """
    wants = []
    for (row, column), action in zip(cells, actions, strict=True):
        down, right = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)][action]
        ahead = row + down, column + right
        inside = all(0 <= x < size for x in ahead)
        wants.append(ahead if inside and ahead not in food else (row, column))
    turned, blocks = set(), False
    while len(set(wants)) < len(wants):
        cell = next(cell for cell in wants if wants.count(cell) > 1)
        claims = [i for i, want in enumerate(wants) if want == cell]
        blocks |= not turned.isdisjoint(claims)
        turned |= {i for i in claims if cells[i] != cell}
        wants = [cells[i] if i in turned else want for i, want in enumerate(wants)]
    return wants, blocks


def slow_loads(cells, levels, food, actions):
    """(rewards in levels, places of collected food). food: {cell: level} of what is left."""
    rewards, gone = [0.0] * len(cells), []
    for (row, column), level in food.items():
        loaders = [
            i
            for i, (i_row, i_column) in enumerate(cells)
            if actions[i] == foraging.LOAD and abs(i_row - row) + abs(i_column - column) == 1
        ]
        power = sum(levels[i] for i in loaders)
        if loaders and power >= level:
            gone.append((row, column))
            for i in loaders:
                rewards[i] += level * levels[i] / power
    return rewards, gone


def slow_view(env, i, cells, levels, food):
    """The observation of agent i. food: [(cell, level)], level 0 of what is gone."""
    last, (row, column) = env.size - 1, cells[i]
    numbers = [row / last, column / last, levels[i]]
    things = [(cells[j], levels[j]) for j in range(len(cells)) if j != i] + food
    for (other_row, other_column), level in things:
        down, right = other_row - row, other_column - column
        hidden = env.sight > 0 and max(abs(down), abs(right)) > env.sight
        numbers += [0, 0, 0] if hidden or level == 0 else [down / last, right / last, level]
    return numbers


@pytest.mark.parametrize("name", FORAGING)
def test_foraging_moves_and_pays_by_its_definition(name):
    env = FORAGING[name]
    actions = foraging_actions(env, 300, 8)
    _, before, after, steps = play(env, actions)
    as_cells = lambda rows: [tuple(row) for row in rows.tolist()]
    blocked, helpers, exchanges = 0, [], 0
    for n, t in np.ndindex(actions.shape[:2]):
        cells, levels = as_cells(before.position[n, t]), before.level[n, t].tolist()
        places, food_levels = as_cells(before.food[n, t]), before.food_level[n, t].tolist()
        gone = before.collected[n, t].tolist()
        left = {p: x for p, x, g in zip(places, food_levels, gone, strict=True) if not g}
        joint = actions[n, t].tolist()

        new, blocks = slow_moves(env.size, cells, set(left), joint)
        blocked += blocks
        exchanges += any(
            new[i] == cells[j] and new[j] == cells[i]
            for i, j in itertools.combinations(range(len(cells)), 2)
        )
        assert as_cells(after.position[n, t]) == new
        assert len(set(new)) == env.num_agents

        rewards, taken = slow_loads(cells, levels, left, joint)
        helpers.append(sum(x > 0 for x in rewards))
        now_gone = [g or p in taken for p, g in zip(places, gone, strict=True)]
        np.testing.assert_allclose(
            steps.reward[n, t], np.array(rewards) / sum(food_levels), atol=1e-6
        )
        assert after.collected[n, t].tolist() == now_gone
        assert steps.terminated[n, t] == all(now_gone)
        assert steps.info["success"][n, t].tolist() == [float(all(now_gone))] * env.num_agents
        food = [(p, 0 if g else x) for p, x, g in zip(places, food_levels, now_gone, strict=True)]
        views = [slow_view(env, i, new, levels, food) for i in range(env.num_agents)]
        np.testing.assert_allclose(steps.obs[n, t], views, atol=1e-6)
    assert max(helpers) >= (3 if name == "crowded" else 2)
    assert exchanges > 0
    assert blocked > 0 or name == "together"  # it takes three agents

    collected = np.where(after.collected[:, -1], after.food_level[:, -1], 0).sum(1)
    share = collected / after.food_level[:, -1].sum(1)
    np.testing.assert_allclose(steps.reward.sum((1, 2)), share, atol=1e-5)
    assert (share > 0).any()


@pytest.mark.parametrize("name", FORAGING)
def test_a_foraging_world_can_be_cleared(name):
    env = FORAGING[name]
    _, state, _, _ = play(env, foraging_actions(env, 300, 8))
    position, food = state.position[:, 0], state.food[:, 0]
    off = np.abs(position[:, :, None] - food[:, None]).sum(-1)
    assert (off > 0).all()
    assert all(len({tuple(cell) for cell in cells}) == env.num_agents for cells in position)
    assert ((food > 0) & (food < env.size - 1)).all()
    between = np.abs(food[:, :, None] - food[:, None]).sum(-1)[:, ~np.eye(env.num_food, dtype=bool)]
    assert (between >= 3).all()
    level, food_level = state.level[:, 0], state.food_level[:, 0]
    assert set(level.ravel()) == set(range(1, env.max_level + 1))
    most = np.sort(level, 1)[:, :3].sum(1, keepdims=True)
    assert (food_level == most).all() if env.cooperative else (food_level <= most).all()
    assert food_level.min() >= 1
    # all free cells and all inner ones occur
    assert len({tuple(cell) for cell in position.reshape(-1, 2)}) == env.size**2
    assert len({tuple(cell) for cell in food.reshape(-1, 2)}) == (env.size - 2) ** 2


# ---------------------------------------------------------------------------------------- TwoStep


def test_the_two_step_game_is_that_of_the_paper_and_a_markov_game():
    """All pairs of joint actions; Rashid et al. (2018, table 1)."""
    pairs = [*itertools.product(joint_actions(2, 2), repeat=2)]
    actions = np.array([[*pair, (1, 1)] for pair in pairs])  # and one after the end
    obs, _, after, steps = play(envs.make("TwoStep"), actions)
    np.testing.assert_array_equal(obs, [[[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]]] * len(pairs))
    for n, ((first, _), (i, j)) in enumerate(pairs):
        pays = [[0, 1], [1, 8]][i][j] if first else 7
        assert steps.reward[n].tolist() == [[0, 0], [pays, pays], [0, 0]]
        np.testing.assert_array_equal(steps.obs[n, 0, :, :3], [[0, 1 - first, first]] * 2)
        np.testing.assert_array_equal(steps.obs[n, 1], [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(steps.terminated, [[False, True, True]] * len(pairs))

    transition, reward = np.zeros((4, 2, 2, 4)), np.zeros((2, 4, 2, 2))
    transition[0, 0, :, 1] = transition[0, 1, :, 2] = transition[1:, :, :, 3] = 1.0
    reward[:, 1:3] = envs.make("TwoStep").payoff
    game = envs.MarkovGame(transition, reward, np.arange(4) == 3, np.arange(4) == 0, one_hot=False)
    obs, _, states, same = play(game, actions)
    np.testing.assert_array_equal(obs, [[0, 4]] * len(pairs))
    np.testing.assert_array_equal(states, after)
    np.testing.assert_array_equal(same.reward, steps.reward)
    np.testing.assert_array_equal(same.terminated, steps.terminated)
    np.testing.assert_array_equal(same.obs, states[..., None] + np.array([0, 4]))


def test_a_sum_of_values_prefers_the_safe_state():
    """The least-squares fit of u(i) + v(j) to the payoffs of 2B, as the docstring has it."""
    design = [[i == 0, i == 1, j == 0, j == 1] for i, j in joint_actions(2, 2)]
    payoff = envs.make("TwoStep").payoff[1].ravel()
    fit = np.array(design, float) @ np.linalg.lstsq(np.array(design, float), payoff)[0]
    np.testing.assert_allclose(fit, [-1.5, 2.5, 2.5, 6.5], atol=1e-6)


# ----------------------------------------------------------------------------------- matrix games

EQUILIBRIA = {  # probabilities of both agents and their payoffs
    "Matrix-Chicken": ([0.9, 0.1], [0.9, 0.1], (-0.1, -0.1)),
    "Matrix-Climbing": ([1, 0, 0], [1, 0, 0], (11, 11)),
    "Matrix-MatchingPennies": ([0.5, 0.5], [0.5, 0.5], (0, 0)),
    "Matrix-Penalty": ([0, 0, 1], [0, 0, 1], (10, 10)),
    "Matrix-PrisonersDilemma": ([0, 1], [0, 1], (-2, -2)),
    "Matrix-SkewedRPS": ([0.25, 0.5, 0.25], [0.25, 0.5, 0.25], (0, 0)),
    "Matrix-StagHunt": ([0, 1], [0, 1], (5, 5)),
}


@pytest.mark.parametrize("name", matrix_game.GAMES)
def test_a_matrix_game_has_its_equilibrium(name):
    game, (first, second, expected) = envs.make(name), EQUILIBRIA[name]
    of_first, of_second = np.asarray(game.payoff)
    against = of_first @ second, first @ of_second  # payoffs of each pure action
    assert (against[0].max(), against[1].max()) == pytest.approx(expected)
    assert (first @ against[0], against[1] @ second) == pytest.approx(expected)


def test_a_repeated_game_shows_the_last_joint_action_with_the_own_one_first():
    payoff = np.random.default_rng(0).normal(size=(3, 2, 3, 2)).astype(np.float32)
    game = MatrixGame(payoff, num_agents=3, max_steps=9)
    joint = joint_actions(2, 3, 2)
    obs, _, states, steps = play(game, [joint])
    assert not obs.obs[0, :, :9].any()
    for t, actions in enumerate(joint):
        assert steps.reward[0, t].tolist() == payoff[:, *actions].tolist()
        assert states[0, t].tolist() == list(actions)
        for i in range(3):
            seen = [actions[(i + k) % 3] for k in range(3)]
            one_hot = [float(a == action) for action in seen for a in range(3)]
            assert steps.obs.obs[0, t, i].tolist() == one_hot + np.eye(3)[i].tolist()
    np.testing.assert_array_equal(steps.obs.mask[0, 0], [[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    assert not steps.terminated.any()
    assert jax.eval_shape(
        MatrixGame(payoff, False, num_agents=3, max_steps=9).reset, jax.random.key(0)
    )[1].obs.shape == (3, 3)


def test_a_one_shot_game_ends():
    obs, _, _, steps = play(envs.make("Matrix-Climbing"), [[(0, 1)], [(2, 2)]])
    np.testing.assert_array_equal(obs, [np.eye(2)] * 2)
    np.testing.assert_array_equal(steps.reward[:, 0], [[-30, -30], [5, 5]])
    assert steps.terminated.all()


# ----------------------------------------------------------------------------------- Markov games

GARNET = jax.jit(markov_game.garnet, static_argnames=("num_states", "num_actions", "branching"))


def test_a_markov_game_moves_and_pays_as_its_arrays_say():
    game = GARNET(0, num_states=3, num_actions=(2, 3))
    rng = np.random.default_rng(0)
    actions = np.stack([rng.integers(0, 2, (400, 40)), rng.integers(0, 3, (400, 40))], -1)
    obs, before, after, steps = play(game, actions)
    i, j = np.moveaxis(actions, -1, 0)
    np.testing.assert_array_equal(steps.reward, np.moveaxis(game.reward[:, before, i, j], 0, -1))
    counts = np.zeros((3, 2, 3, 3))
    np.add.at(counts, (before, i, j, after), 1)
    frequency = counts / counts.sum(-1, keepdims=True)
    np.testing.assert_allclose(frequency, game.transition, atol=0.08)
    assert ((frequency > 0) == (game.transition > 0)).all()
    np.testing.assert_allclose(np.bincount(before[:, 0]) / 400, [1 / 3] * 3, atol=0.12)
    np.testing.assert_array_equal(obs.obs[..., :3].argmax(-1), np.tile(before[:, :1], 2))
    np.testing.assert_array_equal(steps.obs.obs[0, 0, :, 3:], np.eye(2))
    np.testing.assert_array_equal(obs.mask[0], [[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize("num_actions", [(2, 2), (2, 3, 2)])
def test_rewards_of_random_games_have_their_correlation(num_actions):
    num = len(num_actions)
    lowest = -1 / (num - 1)
    for correlation in (lowest, 0.5, 1.0):
        game = GARNET(
            1, num_states=150, num_actions=num_actions, correlation=np.float32(correlation)
        )
        assert game.reward.shape == (num, 150, *num_actions)
        rewards = np.reshape(game.reward, (num, -1))
        found = np.corrcoef(rewards)[~np.eye(num, dtype=bool)]
        np.testing.assert_allclose(found, correlation, atol=0.12)
        np.testing.assert_allclose(rewards.std(1), 1.0, atol=0.12)
        if correlation == lowest:
            np.testing.assert_allclose(rewards.sum(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.sum(game.transition, -1), 1.0, atol=1e-5)
    assert ((np.asarray(game.transition) > 0).sum(-1) == 2).all()


# ------------------------------------------------------------------- agents that differ, and errors


def test_agents_that_differ_are_padded_to_one_shape():
    speaker, listener = np.arange(1.0, 4.0), {"place": np.ones((2, 2)), "word": np.full(1, 5.0)}
    obs = jax.jit(lambda *obs: teams.pad(obs, (0, 1)))(speaker, listener)
    assert obs.tolist() == [[1, 2, 3, 0, 0, 1, 0], [1, 1, 1, 1, 5, 0, 1]]
    masks = teams.pad_masks([np.array([True, False]), np.ones(3, bool)])
    assert masks.tolist() == [[True, False, False], [True, True, True]]


def test_games_of_other_sizes_are_drawn():
    """Those of two agents are filmed in test_plot.py."""
    three = MatrixGame(np.zeros((3, 2, 2, 2)), num_agents=3)
    for game, state, word in (
        (three, np.array([-1, -1, -1]), "payoffs"),
        (three, np.array([0, 1, 1]), "actions 0  1  1"),
        (GARNET(0, num_states=3, num_actions=(2, 3)), 2, "2"),
    ):
        ax = Figure().add_axes((0, 0, 1, 1))
        game.draw(ax, state)
        assert any(word in text.get_text() for text in ax.texts)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("num_agents=0", lambda: envs.Spread(num_agents=0)),
        ("num_food=0", lambda: envs.Foraging(num_food=0)),
        ("size=8 has no room.*write size=9", lambda: envs.Foraging(num_food=4)),
        ("size=2 has no room", lambda: envs.Foraging(size=2, num_food=1)),
        ("jax.vmap", lambda: envs.TwoStep(np.zeros((3, 2, 2, 2))).reset(KEY)),
        ("write num_agents=3", lambda: MatrixGame(np.zeros((3, 2, 2, 2))).reset(KEY)),
        (r"payoff \[A, n1", lambda: MatrixGame(np.zeros((4, 2, 2, 2))).reset(KEY)),
        (
            "do not form a game of num_agents=3",
            lambda: envs.MarkovGame(
                np.ones((1, 2, 2, 1)), np.ones((2, 1, 2, 2)), np.ones(1), np.ones(1), num_agents=3
            ).reset(KEY),
        ),
        ("not in .-0.5, 1.*write -0.5", lambda: markov_game.garnet(0, 2, (2, 2, 2), 1, -1.0)),
        ("2 observations have 1 roles", lambda: teams.pad([np.ones(1)] * 2, [0])),
    ],
)
def test_errors(words, call):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
