"""Teachers of finite sets of tasks, sets of mazes, and what is reported of levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Prize, Prizes

import envs
import jaxrl as rl
from envs.maze import FAR
from envs.maze_drawings import DRAWINGS, drawn
from jaxrl import rollout, teachers
from jaxrl.teachers.base import report
from jaxrl.teachers.on_tasks import described as described_on
from jaxrl.teachers.on_tasks import taught
from jaxrl.teachers.pool import LEVEL
from jaxrl.teachers.taught import _renumbered

RNG = np.random.default_rng(0)
TASKS = rl.envs.LevelSet(rl.envs.family([Prize(float(x)) for x in range(4)]))


def report_of(episodes, episode_return, success=None):
    """The report of levels, with 0 for what learners estimate."""
    episodes, zeros = jnp.array(episodes), jnp.zeros(len(episodes))
    returns = jnp.where(episodes > 0, jnp.array(episode_return, jnp.float32), 0.0)
    best = jnp.where(episodes > 0, returns + 1.0, -jnp.inf)
    success = zeros if success is None else jnp.where(episodes > 0, jnp.array(success), 0.0)
    return teachers.Report(episodes, returns, best, success, zeros, zeros, zeros)


# ---------------------------------------------------------------------------------- finite sets


def test_running_means_are_of_the_episodes_of_each_task():
    teacher = teachers.TaskSoftmax(teachers.Deficit(1.0), temperature=2.0, uniform=0.2, rate=0.25)
    state = teacher.init(jax.random.key(0), TASKS)
    np.testing.assert_allclose(teacher.probabilities(state, TASKS), 0.25)
    tell = jax.jit(teacher.tell)
    expected = {}
    for i in range(5):
        notes = jnp.array(RNG.integers(0, 3, 6), jnp.int32)  # never the last task
        episodes, returns = RNG.integers(0, 3, 6), RNG.normal(size=6)
        state, same = tell(jax.random.key(i), state, TASKS, (), notes, report_of(episodes, returns))
        np.testing.assert_array_equal(same, notes)
        for task in range(3):
            here = np.asarray(notes) == task
            if episodes[here].sum():
                mean = np.average(returns[here], weights=episodes[here])
                old = expected.get(task, mean)
                expected[task] = old + 0.25 * (mean - old)
    for task, mean in expected.items():
        np.testing.assert_allclose(state.running.episode_return[task], mean, rtol=1e-4)
    assert set(expected) == {0, 1, 2}
    assert state.running.episodes[3] == 0
    # softmax of the deficits; the task without an episode has the highest of them
    deficit = np.array([1.0 - expected[task] for task in range(3)])
    logits = np.append(deficit, deficit.max()) / 2.0
    share = np.exp(logits) / np.exp(logits).sum()
    found = teacher.probabilities(state, TASKS)
    np.testing.assert_allclose(found, 0.2 / 4 + 0.8 * share, rtol=1e-4)
    levels, number = teacher.draw(jax.random.key(0), state, TASKS, 20_000)
    np.testing.assert_array_equal(levels.value, number)
    np.testing.assert_allclose(np.bincount(number) / 20_000, found, atol=0.015)


def test_tasks_in_proportion_to_the_variance_of_success():
    teacher = teachers.TaskProportion(uniform=0.0)
    state = teacher.init(jax.random.key(0), TASKS)
    success = [0.0, 0.5, 0.9, 1.0]
    notes = jnp.arange(4, dtype=jnp.int32)
    seen = report_of([1] * 4, np.zeros(4), success)
    state, _ = teacher.tell(jax.random.key(0), state, TASKS, (), notes, seen)
    expected = np.array([0.0, 0.25, 0.09, 0.0]) / 0.34
    np.testing.assert_allclose(teacher.probabilities(state, TASKS), expected, rtol=1e-5)
    seen = report_of([1] * 4, np.zeros(4), np.ones(4))
    teacher = rl.tree.put(teacher, {"rate": 1.0})
    state, _ = teacher.tell(jax.random.key(0), state, TASKS, (), notes, seen)
    np.testing.assert_allclose(teacher.probabilities(state, TASKS), 0.25)  # all are solved


def test_multipliers_rise_where_the_target_is_missed():
    teacher = teachers.TaskMultipliers(target=1.0, step=0.5, relaxation=0.1, uniform=0.0)
    state = teacher.init(jax.random.key(0), TASKS)
    multiplier, notes = np.ones(4), jnp.arange(4, dtype=jnp.int32)
    for i, returns in enumerate(([0.0, 1.0, 9.0, 0.5], [0.0, 2.0, 1.0, 0.0])):
        seen = report_of([2, 1, 1, i], returns)  # of the last task, in the second update alone
        state, _ = teacher.tell(jax.random.key(0), state, TASKS, (), notes, seen)
        following = np.maximum(multiplier + 0.5 * (1.0 - np.array(returns) - 0.1 * multiplier), 0)
        multiplier = np.where(np.array([1, 1, 1, i]), following, multiplier)
    np.testing.assert_allclose(state.carry, multiplier, rtol=1e-6)
    found = teacher.probabilities(state, TASKS)
    np.testing.assert_allclose(found, multiplier / multiplier.sum(), rtol=1e-5)
    assert found[0] == found.max()
    assert found[2] == 0.0


def test_a_teacher_of_tasks_needs_a_finite_set():
    with pytest.raises(TypeError, match=r"Prizes has no num_levels: use rl.envs.LevelSet"):
        teachers.TaskMultipliers().check(Prizes(), 0)
    with pytest.raises(TypeError, match=r"no optimum\(env\)"):
        teachers.TaskSoftmax(teachers.Regret()).check(TASKS, 0)


# ------------------------------------------------------------------------------- reports of levels


def test_environments_on_one_level_share_its_row():
    on = teachers.pool.OnLevel(jnp.array([7, 3, 7, 9, 3]), jnp.arange(5.0))
    found = _renumbered({"episodes": on})["episodes"]
    np.testing.assert_array_equal(found.number, [0, 1, 0, 3, 1])
    np.testing.assert_array_equal(found.state, on.state)


def test_more_levels_than_the_buffer_holds():
    replay = teachers.LevelReplay(capacity=3)
    levels = Prize(jnp.arange(5.0))
    tell = jax.jit(replay.tell)
    new = jnp.full(5, 3, jnp.int32)
    buffer, slots = tell(replay.init(Prizes()), levels, new, jnp.array([0.1, 0.5, 0.2, 0.9, 0.3]))
    assert sorted(buffer.levels.value.tolist()) == [1.0, 3.0, 4.0]
    np.testing.assert_array_equal(slots == 3, [True, False, True, False, False])
    np.testing.assert_allclose(buffer.regret[slots[3]], 0.9)


STUDENT = rl.ppo(
    network=rl.MLP((4,)), num_envs=64, num_steps=64, epochs=1, minibatches=1, lam=0.0, gamma=0.9
)
RAW, NORMALIZED = STUDENT, rl.tree.put(STUDENT, {"normalize_reward": True})


@jax.jit
def played(key):
    """A rollout on four prizes, its report, values with and without scaled rewards, and the exact
    probability of action 1 on each.
    """
    pool = teachers.LevelPool(TASKS.levels)
    state = NORMALIZED.init(jax.random.key(0), pool)
    running = rl.tree.replace(state.reward_stats.running, variance=jnp.float32(4.0))
    stats = rl.tree.replace(state.reward_stats, running=running)
    params = jax.tree.map(lambda x: 200.0 * x, state.params)  # a policy that is far from uniform
    state = rl.tree.replace(state, params=params, reward_stats=stats)
    _, experience = NORMALIZED.collect(key, pool, state)
    batch = experience.transitions
    level = batch.info[LEVEL].astype(jnp.int32)
    chance = lambda value: jnp.exp(
        RAW.forward(pool, state, (), value[None])[1]["policy"].log_prob(jnp.int32(1))
    )
    return {
        "batch": batch,
        "report": report(batch, level, 4),
        "taught": taught(described_on(Prizes(), pool.levels), pool, batch),
        "raw": RAW.values(pool, rl.tree.replace(state, reward_stats=None), experience),
        "scaled": NORMALIZED.values(pool, state, experience),
        "chance": jax.vmap(chance)(TASKS.levels.value),
    }


def test_learnability_is_the_variance_of_success():
    """Against the exact probability of success of the same policy, a few thousand episodes."""
    found = jax.device_get(played(jax.random.key(1)))
    p, num = found["chance"], found["report"].episodes
    assert (num > 300).all()
    exact = p * (1.0 - p)
    score = teachers.Learnability()(found["report"], jnp.zeros(4), ())
    error = 3.0 * np.abs(1.0 - 2.0 * p) * np.sqrt(exact / num) + 9.0 * exact / num
    assert (np.abs(score - exact) < error).all()
    assert np.ptp(exact) > 2.0 * error.max()  # the levels differ


def test_what_was_taught_is_a_mean_over_steps():
    found = jax.device_get(played(jax.random.key(1)))
    mean = found["batch"].info[LEVEL].mean()  # the level's number is its value
    np.testing.assert_allclose(found["taught"]["taught_value"], mean, rtol=1e-5)


def test_values_for_teachers_are_in_units_of_the_reward():
    found = jax.device_get(played(jax.random.key(1)))
    np.testing.assert_allclose(found["scaled"].value, 2.0 * found["raw"].value, rtol=1e-4)
    batch, value = found["batch"], found["scaled"].value
    goes_on = ~batch.done[:-1]
    expected = batch.reward[:-1] + 0.9 * value[1:] - value[:-1]
    np.testing.assert_allclose(
        found["scaled"].advantage[:-1][goes_on], expected[goes_on], rtol=1e-3, atol=1e-4
    )


def test_edited_levels_grow_walls_from_none():
    """ACCEL from empty mazes, where the score of a level is its number of walls."""
    tasks = envs.distribution("Maze-7", num_walls=(0, 0))
    teacher = teachers.ACCEL(teachers.Deficit(0.0), teachers.LevelReplay(capacity=16))

    def update(state, key):
        levels, notes = teacher.scout(key, state, tasks, 8)
        walls = levels.walls.sum((1, 2))
        seen = report_of([1] * 8, -walls)
        state, _ = teacher.tell(key, state, tasks, levels, notes, seen)
        kept = state.buffer.levels.walls.sum((1, 2))
        return state, (jnp.mean(kept, where=state.buffer.filled), walls)

    state = teacher.init(jax.random.key(0), tasks)
    keys = jax.random.split(jax.random.key(0), 40)
    mean, walls = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys)[1])(state, keys)
    assert not walls[0].any()
    assert mean[0] == 0.0
    assert (np.diff(mean) >= 0.0).all()
    assert mean[-1] > 15.0


def test_a_learner_with_a_replay_may_be_taught():
    """Shapes only: its state is the same after an update, with other levels in play."""
    dqn = rl.dqn(num_envs=2, num_steps=4, capacity=32, batch_size=4, warmup=8)
    algo = rl.Taught(dqn, teachers.SFL(), num_levels=2, scouts=2)
    state = jax.eval_shape(lambda key: algo.init(key, Prizes()), jax.random.key(0))
    after, metrics = jax.eval_shape(
        lambda key, state: algo.update(key, Prizes(), state), jax.random.key(0), state
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert {"return", "success", "taught_value", "levels_kept"} <= set(metrics)
    assert algo.steps_per_update == 16


# ------------------------------------------------------------------------------------ sets of mazes


@jax.jit
def described(tasks, levels):
    return jax.vmap(tasks.describe)(levels)


def test_drawings_are_different_mazes_with_a_path():
    tasks = envs.distribution("Maze-13-drawings")
    assert tasks.num_levels == len(DRAWINGS) == 11
    levels = jax.tree.map(jnp.asarray, tasks.levels)
    found = described(envs.distribution("Maze-13"), levels)
    assert found["solvable"].all()
    distance = dict(zip(DRAWINGS, np.asarray(found["distance"]), strict=True))
    assert distance["labyrinth"] == distance["labyrinth_flipped"] == 96.0
    assert distance["small_corridor"] == 11.0
    assert len({level.walls.tobytes() for level in map(drawn, DRAWINGS.values())}) == 11
    flipped = drawn(DRAWINGS["labyrinth_flipped"])
    np.testing.assert_array_equal(flipped.walls, drawn(DRAWINGS["labyrinth"]).walls[:, ::-1])
    assert (tuple(flipped.start), int(flipped.heading)) == ((0, 12), 3)
    one = tasks.numbered(jnp.int32(3))
    np.testing.assert_array_equal(one.walls, drawn(DRAWINGS["labyrinth"]).walls)


def test_graded_mazes_are_as_far_as_they_say():
    keys = jax.random.split(jax.random.key(0), 64)
    for distance, share in (((3, 5), 0.9), ((9, 49), 0.8)):
        tasks = envs.distribution("Maze-7", num_walls=(8, 20), distance=distance)
        levels = jax.jit(jax.vmap(tasks.sample))(keys)
        found = described(tasks, levels)
        cells = np.asarray(found["distance"])
        assert found["solvable"].all()
        assert (cells > 0).all()
        assert ((cells >= distance[0]) & (cells <= distance[1])).mean() > share
        np.testing.assert_array_equal(found["walls"], levels.walls.sum((1, 2)))
        at = lambda cell, levels=levels: levels.walls[np.arange(64), cell[:, 0], cell[:, 1]]
        assert not at(levels.start).any()
        assert not at(levels.goal).any()
    with pytest.raises(ValueError, match=r"distance=\(0, 3\) is not a range"):
        envs.distribution("Maze-7", distance=(0, 3))


def test_an_enclosed_start_is_opened():
    tasks = envs.distribution("Maze-7", num_walls=(47, 47), solvable=True)
    level = jax.jit(tasks.sample)(jax.random.key(0))
    assert (level.start != level.goal).any()
    assert level.distances()[level.start[0], level.start[1]] < FAR


# ---------------------------------------------------------------------------------- whole episodes


def test_levels_are_played_one_by_one():
    policy = rl.Policy(lambda key, episode: ((), jnp.int32(1), ()))
    found = jax.jit(lambda key: rollout.play_levels(key, TASKS.levels, policy, 3))(
        jax.random.key(0)
    )
    np.testing.assert_allclose(found.episode_return, 2.0 * np.arange(4.0)[:, None] * np.ones(3))
    np.testing.assert_allclose(found.info["success"], np.ones((4, 3)))
