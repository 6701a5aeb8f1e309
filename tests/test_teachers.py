"""Teachers: reports, buffers, mixtures and the algorithm that learns on their levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choices, Prize, Prizes

import envs
import jaxrl as rl
from envs.maze import FAR
from envs.maze_drawings import drawn
from jaxrl import teachers
from jaxrl.rollout import Transition, Values
from jaxrl.teachers import mixture
from jaxrl.teachers.base import report
from jaxrl.tree import replace

RNG = np.random.default_rng(0)
MAZES = envs.distribution("Maze-7", max_steps=12, num_walls=(0, 8))


def batch_of(done, episode_return, success):
    return Transition(
        obs=None,
        action=None,
        reward=jnp.zeros(done.shape),
        next_obs=None,
        terminated=done,
        truncated=jnp.zeros(done.shape, bool),
        episode_return=episode_return,
        length=jnp.ones(done.shape, jnp.int32),
        rnn_state=(),
        extras=(),
        info={},
        episode_info={"success": success},
    )


def test_a_report_has_means_over_the_episodes_of_each_level():
    shape, num = (9, 4), 5
    done = RNG.random(shape) < 0.4
    level = RNG.integers(0, num - 1, shape)  # none is on the last one
    returns = RNG.normal(size=shape).astype(np.float32)
    success = (RNG.random(shape) < 0.5).astype(np.float32)
    value, advantage = RNG.normal(size=(2, *shape)).astype(np.float32)
    found = report(
        batch_of(jnp.array(done), jnp.array(returns), jnp.array(success)),
        jnp.array(level),
        num,
        Values(jnp.array(value), jnp.array(advantage)),
    )
    for i in range(num):
        ended, here = done & (level == i), level == i
        assert found.episodes[i] == ended.sum()
        if ended.any():
            np.testing.assert_allclose(found.episode_return[i], returns[ended].mean(), rtol=1e-5)
            np.testing.assert_allclose(found.success[i], success[ended].mean(), rtol=1e-5)
            np.testing.assert_allclose(found.best_return[i], returns[ended].max())
        if here.any():
            np.testing.assert_allclose(found.value[i], value[here].mean(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.value_error[i], np.abs(advantage[here]).mean(), 1e-5)
            positive = np.maximum(advantage[here], 0.0).mean()
            np.testing.assert_allclose(found.positive_value_error[i], positive, rtol=1e-5)
    assert not found.known[num - 1]
    assert found.best_return[num - 1] == -np.inf


def test_a_success_is_a_return_of_at_least_a_threshold_where_nothing_reports_it():
    returns = jnp.array([[0.2, 0.9], [0.6, 0.1], [0.7, 0.3]])
    batch = replace(batch_of(jnp.ones((3, 2), bool), returns, returns), episode_info={})
    level = jnp.array([[0, 1], [0, 1], [0, 1]])
    found = report(batch, level, 2, None, teachers.Learnability(threshold=0.6).success_return)
    np.testing.assert_allclose(found.success, [2 / 3, 1 / 3])
    score = teachers.Learnability(threshold=0.6)(found, found.best_return, ())
    np.testing.assert_allclose(score, 2 / 9, rtol=1e-6)
    assert np.isnan(report(batch, level, 2).success).all()


def test_levels_without_a_regret_do_not_enter_where_it_must_be_more():
    levels = {"x": jnp.arange(3.0)}
    for least, kept in ((-np.inf, 3), (0.0, 1)):
        replay = teachers.LevelReplay(min_regret=least, capacity=4)
        buffer = teachers.LevelBuffer(
            {"x": jnp.zeros(4)}, jnp.zeros(4), jnp.full(4, -1, jnp.int32), jnp.int32(0)
        )
        new = jnp.full(3, 4, jnp.int32)
        buffer, slots = replay.tell(buffer, levels, new, jnp.array([0.0, 0.25, 0.0]))
        assert buffer.filled.sum() == kept
        assert slots[1] < 4


# -------------------------------------------------------------------------------------------- mazes


MAP = """
..#....
>.#.##.
..#.#G.
..#.##.
....#..
"""


def slow_distance(level, with_turns):
    """Breadth-first search backwards from the goal."""
    walls = np.asarray(level.walls)
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    rows, columns = walls.shape
    free = lambda r, c: 0 <= r < rows and 0 <= c < columns and not walls[r, c]
    goal = tuple(int(x) for x in level.goal)
    distance = {(h, *goal): 0 for h in range(4)}
    frontier = list(distance)
    while frontier:
        following = []
        for h, r, c in frontier:
            before = [((h + 1) % 4, r, c), ((h - 1) % 4, r, c)] if with_turns else []
            before.append((h, r - moves[h][0], c - moves[h][1]))
            if not with_turns:
                before = [(g, r - moves[g][0], c - moves[g][1]) for g in range(4)]
            for state in before:
                if state not in distance and free(*state[1:]):
                    distance[state] = distance[h, r, c] + 1
                    following.append(state)
        frontier = following
    return distance


def test_distances_of_a_maze_are_those_of_a_search():
    level = drawn(MAP)
    exact = slow_distance(level, with_turns=True)
    found = np.asarray(jax.jit(lambda level: level.actions_to_goal())(level))
    for state in np.ndindex(*found.shape):
        assert found[state] == exact.get(state, FAR)
    cells = np.asarray(level.distances())
    for r, c in np.ndindex(*cells.shape):
        if not level.walls[r, c]:
            assert cells[r, c] == min(
                slow_distance(level, with_turns=False).get((h, r, c), FAR) for h in range(4)
            )
    needed = exact[(1, *(int(x) for x in level.start))]
    np.testing.assert_allclose(level.optimal_return(), 1.0 - 0.9 * needed / level.max_steps)


def test_the_view_is_what_lies_ahead():
    level = drawn(MAP, view=3)
    state, obs = level.reset(jax.random.key(0))
    # at row 1, column 0, facing right: the rows of the view are columns 2, 1 and 0 of the map
    np.testing.assert_array_equal(obs[..., 0], [[True, True, True], [False] * 3, [False] * 3])
    assert obs[..., 3].all()
    assert not obs[..., 1].any()
    # its left is the row above
    assert level.is_wall(jnp.array([-1, 0]))
    state, step = level.step(jax.random.key(0), state, 0)
    np.testing.assert_array_equal(
        step.obs[..., 0], [[True] * 3, [True, False, False], [True, False, False]]
    )


def test_levels_are_as_they_should_be():
    keys = jax.random.split(jax.random.key(0), 64)
    levels = jax.jit(jax.vmap(envs.distribution("Maze-7", solvable=True).sample))(keys)
    distance = jax.vmap(lambda x: x.distances()[x.start[0], x.start[1]])(levels)
    assert (distance < FAR).all()
    assert (levels.walls.sum((1, 2)) <= 16).all()
    at = lambda cell: np.asarray(levels.walls)[np.arange(64), cell[:, 0], cell[:, 1]]
    assert not at(levels.start).any()
    assert not at(levels.goal).any()
    assert (levels.start != levels.goal).any(1).all()
    tasks = envs.distribution("Maze-13-empty")
    level = tasks.sample(jax.random.key(0))
    edited = jax.jit(jax.vmap(tasks.mutate, in_axes=(0, None)))(keys, level)
    assert edited.walls.sum((1, 2)).min() > 5
    assert not np.asarray(edited.walls)[np.arange(64), edited.goal[:, 0], edited.goal[:, 1]].any()


# ------------------------------------------------------------------------------------------ buffers


def test_the_buffer_has_the_last_score_of_each_level():
    teacher = teachers.PLR(teachers.Deficit(1.0), teachers.LevelReplay(capacity=6))
    state = teacher.init(jax.random.key(0), MAZES)
    tell, find = jax.jit(teacher.tell), jax.jit(lambda buffer, levels: buffer.find(levels))
    levels, _ = teacher.draw(jax.random.key(1), state, MAZES, 4)

    def after(state, returns, known=(1, 1, 1, 1), levels=levels):
        seen = teachers.Report(
            *(jnp.array(known), jnp.array(returns), jnp.array(returns)),
            *(jnp.full(4, jnp.nan), *[jnp.zeros(4)] * 3),
        )
        state, _ = tell(jax.random.key(2), state, MAZES, levels, (), seen)
        return state, np.asarray(find(state.buffer, levels))

    state, slots = after(state, [0.1, 0.2, 0.3, 0.4], (1, 0, 1, 1))
    assert slots[1] == 6  # no episode ended there
    kept = slots[[0, 2, 3]]
    assert len(set(kept) - {6}) == 3
    np.testing.assert_allclose(state.buffer.regret[kept], [0.9, 0.7, 0.6], rtol=1e-6)
    for i, slot in zip([0, 2, 3], kept, strict=True):
        np.testing.assert_array_equal(state.buffer.levels.walls[slot], levels.walls[i])
    state, again = after(state, [0.8, 0.5, 0.3, 0.4])
    np.testing.assert_array_equal(again[[0, 2, 3]], kept)
    np.testing.assert_allclose(state.buffer.regret[kept[0]], 0.2, rtol=1e-5)
    np.testing.assert_allclose(state.best[kept[0]], 0.8)
    # several rows of one level: the last score counts, and the highest return
    first = jax.tree.map(lambda x: x[jnp.zeros(4, int)], levels)
    state, again = after(state, [0.1, 0.2, 0.9, 0.6], levels=first)
    assert (again == kept[0]).all()
    assert state.buffer.filled.sum() == 4
    np.testing.assert_allclose(state.buffer.regret[kept[0]], 0.4, rtol=1e-5)
    np.testing.assert_allclose(state.best[kept[0]], 0.9)
    # a new level that comes several times enters once
    for key in (5, 6, 7):
        new, _ = teacher.draw(jax.random.key(key), teacher.init(None, MAZES), MAZES, 1)
        new = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape[1:])), new)
        state, again = after(state, [0.0, 0.0, 0.0, 1.0 - key], levels=new)
        assert len(set(again)) == 1
        np.testing.assert_allclose(state.buffer.regret[again[0]], key, rtol=1e-5)
    assert state.buffer.filled.all()


def test_a_robust_teacher_draws_levels_of_the_buffer_alone():
    teacher = teachers.PLR(teachers.Regret(), teachers.LevelReplay(capacity=8), robust=True)
    with pytest.raises(ValueError, match="scouts=16"):
        teacher.check(MAZES, 0)
    buffer = teacher.init(jax.random.key(0), Prizes()).buffer
    kept = Prize(jnp.arange(8.0) + 2.0)
    full = rl.tree.replace(buffer, last=jnp.zeros(8, jnp.int32), levels=kept)
    state = teachers.plr.Replayed(full, jnp.zeros(8))
    levels, _ = teacher.draw(jax.random.key(0), state, Prizes(), 8)
    np.testing.assert_array_equal(np.sort(levels.value), kept.value)


def test_fingerprints_differ_where_levels_do():
    """Bits, signs and positions: 8,000 levels of two floats and five bits."""
    numbers = np.arange(8000)
    leaf = lambda k: jnp.array(((numbers // k % 20) - 9.5).astype(np.float32))
    bits = (numbers[:, None] // 400 // 2 ** np.arange(5) % 2).astype(bool)
    levels = {"x": leaf(1), "y": leaf(20), "walls": jnp.array(bits)}
    found = np.asarray(jax.jit(teachers.fingerprints.fingerprints)(levels))
    assert found.shape == (8000, 2)
    assert len(np.unique(found[:, 0])) > 7995
    assert len(np.unique(found, axis=0)) == 8000
    again = teachers.fingerprints.fingerprints(jax.tree.map(lambda x: x[100:200], levels))
    np.testing.assert_array_equal(again, found[100:200])


def test_what_a_score_needs_is_checked():
    catch = envs.Family(envs.make("Catch"), lose=(-2.0, -1.0))
    with pytest.raises(TypeError, match=r"no optimum\(env\)"):
        teachers.Regret().check(catch)
    with pytest.raises(TypeError, match=r"Learnability\(threshold=0.5\)"):
        teachers.Learnability().check(catch)
    teachers.Learnability(threshold=0.5).check(catch)
    with pytest.raises(TypeError, match=r"no mutate\(key, env\)"):
        teachers.ACCEL().check(catch, 4)
    with pytest.raises(TypeError, match=r"has no at\(place\)"):
        teachers.ALPGMM().check(MAZES, 0)
    with pytest.raises(ValueError, match="have no leaves, so they are all equal"):
        rl.Taught(rl.ppo()).init(jax.random.key(0), Choices())


# ----------------------------------------------------------------------------------------- mixtures


def test_the_likelihood_of_a_mixture_never_falls():
    points = np.concatenate([RNG.normal(0.2, 0.05, (60, 2)), RNG.normal(0.8, 0.05, (40, 2))])
    weight = np.ones(100)
    weight[::10] = 0.0
    points, weight = jnp.array(points), jnp.array(weight)
    fit = jax.jit(lambda key, num: mixture.fit(key, points, weight, num, 4))
    for num in (2, 3, 4):
        found, likelihood = fit(jax.random.key(num), jnp.int32(num))
        assert (np.diff(likelihood) >= -1e-2).all()
        assert np.isfinite(found.log_weights).sum() == num
    best = mixture.best(jax.random.key(0), points, weight, 4)
    weights = np.exp(best.log_weights)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-5)


def test_a_factor_without_lapack():
    factor = RNG.normal(size=(4, 4))
    matrix = factor @ factor.T + np.eye(4)
    found = np.asarray(mixture.cholesky(jnp.array(matrix)))
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), atol=1e-5)
    vector = RNG.normal(size=4)
    solved = mixture.solve_lower(jnp.array(found), jnp.array(vector))
    np.testing.assert_allclose(solved, np.linalg.solve(found, vector), rtol=1e-4)


@pytest.mark.parametrize(
    "teacher",
    [
        teachers.ALPGMM(window=64, history=256, max_components=4),
        teachers.CovarGMM(window=64, history=256, max_components=4),
        teachers.RIAC(window=64, history=256, largest=40, regions=8),
    ],
)
def test_levels_are_drawn_where_returns_change(teacher):
    """Of a learner that improves for parameters between 0.4 and 0.6 alone."""
    tasks = envs.Family(envs.make("Pendulum-v1"), g=(0.0, 1.0))
    state = teacher.init(jax.random.key(0), tasks)

    def update(now, key):
        state, skill = now
        _, place = teacher.draw(key, state, tasks, 16)
        inside = (place[:, 0] > 0.4) & (place[:, 0] < 0.6)
        value = jnp.where(inside, jnp.minimum(skill, 1.0), 0.0)
        zeros = jnp.zeros(16)
        seen = teachers.Report(jnp.ones(16, int), value, value, zeros, zeros, zeros, zeros)
        state, _ = teacher.tell(key, state, tasks, (), place, seen)
        return (state, skill + 0.02), inside.mean()

    keys = jax.random.split(jax.random.key(0), 40)
    _, share = jax.jit(lambda keys: jax.lax.scan(update, (state, 0.0), keys))(keys)
    assert share[:4].mean() < 0.35  # 0.2 of all
    assert share[-20:].mean() > 0.5


# ------------------------------------------------------------------------------------ algorithm


@rl.pytree
class Numbers(rl.Tasks):
    """Levels with a number, which is the reward of each step."""

    def sample(self, key):
        return Number(jax.random.uniform(key))

    def describe(self, env):
        return {"number": env.number}

    def optimum(self, env):  # not the true one, so that the regret is not 0
        return 10.0 * env.number


@rl.pytree
class Number(rl.Env):
    number: float = 0.0
    max_steps: int = rl.static(default=5)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return self.number * jnp.ones(()), jnp.ones(1) * self.number

    def step(self, key, state, action):
        return state, rl.Step(state[None], self.number, jnp.bool_(False), {})


def test_episodes_stay_on_their_level_from_update_to_update():
    """Episodes of 5 steps, updates of 3: the state of the environment has the level's number, and
    so has what was computed when the level was drawn.
    """
    algo = rl.Taught(
        rl.ppo(num_envs=4, num_steps=3, network=rl.MLP((4,)), minibatches=1, epochs=1),
        teachers.PLR(teachers.Regret(), teachers.LevelReplay(capacity=32)),
        num_levels=6,
        scouts=2,
    )
    state = algo.init(jax.random.key(0), Numbers())
    update = jax.jit(algo.update)
    for i in range(8):
        state, _ = update(jax.random.key(i), Numbers(), state)
        for episodes, at in [
            (state.algo.episodes, state.in_play),
            (state.scouts.episodes, state.scouts.in_play),
        ]:
            placed = episodes.state.state
            np.testing.assert_allclose(at.levels.number, placed, rtol=1e-6)
            np.testing.assert_allclose(at.notes, 10.0 * placed, rtol=1e-6)
        described = state.in_play.described["number"]
        np.testing.assert_array_equal(described, state.in_play.levels.number)
        # what the buffer says of a level is right: ten times its number, less five times
        filled = np.asarray(state.teacher.buffer.filled)
        number = np.asarray(state.teacher.buffer.levels.number)[filled]
        np.testing.assert_allclose(state.teacher.buffer.regret[filled], 5.0 * number, rtol=1e-4)
    assert filled.any()


def test_held_out_levels_are_evaluated_and_never_taught():
    held_out = rl.envs.LevelSet(envs.family([Number(100.0), Number(200.0)]))
    algo = rl.Taught(
        rl.ppo(num_envs=4, num_steps=8, network=rl.MLP((4,)), minibatches=1, epochs=1),
        teachers.PLR(teachers.Deficit(1.0), teachers.LevelReplay(capacity=64)),
        held_out=held_out,
        num_levels=8,
    )
    training = rl.Training(algo, Numbers(), steps=32 * 4, evals=2, episodes=8, eval_share=9.0)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["evaluation"].min() >= 500.0
    assert state.teacher.buffer.levels.number.max() <= 1.0
    assert metrics["return"].max() <= 5.0
