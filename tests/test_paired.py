"""PAIRED: what designers build, the regrets that they are rewarded by, and students on one set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choices, Prize, Prizes

import envs
import jaxrl as rl
from jaxrl.teachers import PAIRED
from jaxrl.teachers.paired import at_end, regrets

STUDENT = rl.ppo(network=rl.MLP((4,)), num_envs=8, num_steps=5, epochs=1, minibatches=1)
DESIGNER = rl.ppo(network=rl.MLP((4,)), num_envs=4, num_steps=2, epochs=1, minibatches=1)
ALGO = PAIRED(STUDENT, DESIGNER)


@jax.jit
def played(key, state):
    """What is built and played in an update, up to learning."""
    key_build, key_play = jax.random.split(key)
    built, designed = ALGO._build(key_build, Prizes().editor(), state.designer)
    pool = rl.teachers.LevelPool(jax.tree.map(lambda x: jnp.tile(x, 2), built))
    play = lambda key, student: ALGO._play(key, pool, student)
    students = jax.tree.map(lambda *x: jnp.stack(x), state.protagonist, state.antagonist)
    _, experience = jax.vmap(play)(jax.random.split(key_play), students)
    return built, designed, experience, regrets(experience.transitions, 4)


def test_a_designer_is_rewarded_by_the_regret_of_its_level():
    state = jax.jit(ALGO.init)(jax.random.key(0), Prizes())
    built, designed, experience, (regret, returns) = jax.device_get(
        played(jax.random.key(1), state)
    )
    np.testing.assert_allclose(built.value, designed.transitions.action.sum(0) / 2.0)
    batch = experience.transitions
    # environment i begins on level i modulo 4, for both students
    first = batch.info["level"][:, :2] % 4
    np.testing.assert_array_equal(first, np.broadcast_to(np.arange(8) % 4, first.shape))
    found = {}
    for student, b in np.ndindex(2, 8):
        total = 0.0
        for t in range(5):
            level = int(batch.info["level"][student, t, b]) % 4
            np.testing.assert_allclose(batch.obs[student, t, b, 0], built.value[level])
            total += built.value[level] * batch.action[student, t, b]
            if batch.terminated[student, t, b]:
                found.setdefault((student, level), []).append(total)
                total = 0.0
    for level in range(4):
        best, mean = max(found[1, level]), np.mean(found[0, level])
        np.testing.assert_allclose(regret[level], max(best - mean, 0.0), rtol=1e-5, atol=1e-6)
        for student in range(2):
            mean = np.mean(found[student, level])
            np.testing.assert_allclose(returns[student, level], mean, rtol=1e-5, atol=1e-6)
    assert regret.max() > 0.0
    reward = at_end(designed.transitions, regret)
    np.testing.assert_allclose(reward, [np.zeros(4), regret])
    np.testing.assert_array_equal(designed.transitions.terminated, [[False] * 4, [True] * 4])


def test_the_designer_learns_to_build_levels_of_high_regret():
    """Of two students that do not learn, regret is in proportion to the value of a prize."""
    still = rl.tree.put(STUDENT, {"lr": 0.0})
    quick = rl.tree.put(DESIGNER, {"lr": 0.03, "num_envs": 8, "schedule": rl.Constant()})
    training = rl.Training(PAIRED(still, quick), Prizes(), steps=80 * 60, evals=2, episodes=4)
    values = jax.jit(jax.vmap(training))(jax.random.split(jax.random.key(0), 4))[1]
    assert values["taught_value"].shape == (4, 2)
    assert (values["taught_value"][:, 1] > 1.5).all()  # 1 of random actions, 2 at most
    assert (values["regret"][:, 1] > values["regret"][:, 0]).all()
    assert not values["diverged"].any()


@pytest.mark.parametrize(
    ("words", "algo", "tasks"),
    [
        (r"write PAIRED\(..., rl.ppo\(num_steps=2\)\)", PAIRED(STUDENT, STUDENT), Prizes()),
        (
            r"num_steps=3 is shorter.*write rl.ppo\(num_steps=4\)",
            PAIRED(rl.tree.put(STUDENT, {"num_steps": 3}), DESIGNER),
            Prizes(),
        ),
        (
            "8 environments of a student do not share 3 levels",
            PAIRED(STUDENT, rl.tree.put(DESIGNER, {"num_envs": 3})),
            Prizes(),
        ),
        (r"Choices has no editor\(\)", ALGO, Choices()),
        ("trains on a distribution", ALGO, Prize()),
    ],
)
def test_what_paired_needs_is_checked(words, algo, tasks):
    with pytest.raises((TypeError, ValueError), match=words):
        algo.init(jax.random.key(0), tasks)


def test_students_without_a_rule_of_groups():
    with pytest.raises(TypeError, match="Group chooses the episodes"):
        PAIRED(rl.grpo(num_envs=8), DESIGNER)


@rl.pytree
class Named(rl.OnPolicy):
    """It reports a metric with the name of a channel of `Prize`."""

    def learn(self, *args):
        state, losses = rl.OnPolicy.learn(self, *args)
        return state, losses | {"success": losses["loss"]}


@pytest.mark.parametrize("around", [rl.Taught, lambda algo: PAIRED(algo, DESIGNER)])
def test_a_channel_with_the_name_of_a_metric_is_an_error(around):
    algo = around(Named(**vars(STUDENT)))

    def update(key):
        return algo.update(key, Prizes(), algo.init(key, Prizes()))

    with pytest.raises(ValueError, match=r"Prize\.channels names 'success', which is a metric of"):
        jax.eval_shape(update, jax.random.key(0))


# --------------------------------------------------------------------------------- editor of mazes


@jax.jit
def edited(key, actions):
    """The draft, its observation and termination after each action, and the level at the end."""
    editor = envs.distribution("Maze-7", num_walls=(0, 6)).editor()
    state, obs = editor.reset(key)

    def step(state, action):
        state, step = editor.step(jax.random.key(3), state, action)
        return state, (step.obs, step.terminated, step.reward)

    state, steps = jax.lax.scan(step, state, actions)
    return editor.level(state), obs, steps


@pytest.mark.parametrize(
    ("actions", "walls"),
    [
        ([0, 48, 10, 11, 0, 48, 10, 12], {10, 11, 12}),  # not on the goal or the start
        ([5, 5, 1, 2, 3, 4, 5, 6], {1, 2, 3, 4, 6}),  # the start can't be on the goal
    ],
)
def test_an_episode_of_the_editor_builds_a_maze(actions, walls):
    level, first, (obs, terminated, reward) = jax.device_get(
        edited(jax.random.key(0), jnp.array(actions))
    )
    number = lambda cell: int(cell[0]) * 7 + int(cell[1])
    goal, start = number(level.goal), number(level.start)
    assert goal == actions[0]
    assert start == actions[1] or actions[1] == actions[0] != start
    assert set(np.flatnonzero(level.walls)) == walls - {start}
    np.testing.assert_array_equal(terminated, [False] * 7 + [True])
    assert not reward.any()
    np.testing.assert_array_equal(obs[-1, ..., 0], level.walls)
    assert obs[-1, ..., 1].ravel().argmax() == goal
    assert obs[-1, ..., 2].ravel().argmax() == start
    np.testing.assert_allclose(obs[:, 0, 0, 3], np.arange(1, 9) / 8)
    np.testing.assert_array_equal(obs[-1, 0, 0, 4:], first[3, 3, 4:])  # the noise
    assert first[..., :4].sum() == 0.0
    assert level.max_steps == 100
