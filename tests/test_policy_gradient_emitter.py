"""The emitter of PGA-MAP-Elites."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import archives

BEST = 0.6


@rl.pytree
class Hit(rl.Env):
    """An action in [-1, 1] for each of three steps, of which the second may end the episode; the
    reward is minus its squared distance to `BEST`.
    """

    max_steps: int = rl.static(default=3)
    action_space = rl.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        state = jax.random.uniform(key, (2,))
        return state, state

    def step(self, key, state, action):
        ends = state[0] > 0.5
        reward = -((action[0] - BEST) ** 2)
        return state, rl.Step(state, reward, ends, {})


def describe(steps, active):
    return jnp.stack([jnp.mean(steps.action[0]), active.sum() / 3.0])


LEARNER = rl.td3(lr=3e-3, actor_lr=3e-4, network=rl.MLP((32,))).learner
TASK = archives.ActorTask(Hit(), LEARNER, describe)
EMITTER = archives.PolicyGradient(
    TASK,
    lr=3e-3,
    variation=archives.IsoLine(iso=0.0, line=0.0, batch=3),
    capacity=900,
    num_elites=4,
    critic_steps=100,
    policy_steps=40,
    batch_size=32,
)


def test_elites_climb_along_the_gradient_of_a_critic_of_all_transitions():
    """Variation is off, so that what improves does so by the gradient."""
    cells = archives.Grid(jnp.array([-1.0, 0.0]), jnp.array([1.0, 1.0]), (8, 1))
    training = rl.Training(rl.MapElites(cells, EMITTER), TASK, steps=32, evals=1, episodes=1)
    state, metrics = jax.jit(training)(jax.random.key(0))
    rows = state.emitter.replay
    assert rows.data.obs.shape[:2] == (900 // 8, 8)
    assert rows.filled == 96
    # rows after an episode's end are stored, and not learned from
    ended = np.asarray(rows.data.obs[:96, :, 0] > 0.5).reshape(32, 3, 8)
    active = np.asarray(rows.data.active[:96]).reshape(32, 3, 8)
    np.testing.assert_array_equal(active, np.where(ended, np.arange(3)[None, :, None] < 1, True))
    learner = state.emitter.learner
    assert learner.step == 32 * 100

    action = np.asarray(rows.data.action[0:96:3, :, 0])  # first ones of each iteration
    assert np.abs(action[0] - BEST).max() > 0.3
    np.testing.assert_allclose(action[-4:, 3:7].mean(), BEST, atol=0.15)  # elites after their steps
    np.testing.assert_allclose(action[-4:, 7].mean(), BEST, atol=0.15)  # the learner's actor
    assert np.abs(action[-4:, :3] - BEST).max() > 0.3  # elites, unchanged
    elites = state.archive.items.descriptor[state.archive.filled][:, 0]
    assert np.abs(elites - BEST).max() > 0.5
    assert metrics["best_fitness"][-1] > -0.05


def test_the_keys_of_a_climb_are_used_once():
    """Nothing compiles: the check of jax reads the program."""

    def climb(key):
        key_genotype, key_init, key_climb = jax.random.split(key, 3)
        genotype = TASK.init(key_genotype)
        state = EMITTER.init(key_init, archives.Elite(genotype, jnp.zeros(2), jnp.zeros(2)))
        return EMITTER._climb(key_climb, state, genotype)

    with jax.debug_key_reuse(True):
        found = jax.eval_shape(climb, jax.random.key(0))
    assert jax.tree.structure(found) == jax.tree.structure(TASK.init(jax.random.key(0)))


def test_an_actor_with_a_memory_is_refused():
    with pytest.raises(ValueError, match="write memory=None"):
        archives.ActorTask(Hit(), rl.td3(memory=rl.GRU(4)).learner)
