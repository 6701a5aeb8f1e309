"""Teams of JaxMARL: roles, masks, time limits and arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.spread import Particles

pytest.importorskip("jaxmarl")
pytestmark = [
    pytest.mark.rotate,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def promotes_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def shapes(env):
    return jax.tree.map(lambda x: x.shape, jax.eval_shape(env.reset, KEY)[1])


def test_agents_that_differ_are_padded_and_have_roles():
    """A speaker with 3 observations and 3 actions, and a listener with 11 and 5."""
    env = envs.make("jaxmarl:MPE_simple_speaker_listener_v4")
    _, obs = jax.jit(env.reset)(KEY)
    assert env.num_agents == 2
    np.testing.assert_array_equal(obs.obs[0, 3:11], np.zeros(8))
    assert obs.obs[1, 2:8].all()  # places of landmarks; velocity and message are 0
    np.testing.assert_array_equal(obs.obs[:, 11:], np.eye(2))
    assert obs.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]


def test_a_true_end_terminates_and_the_limit_does_not():
    """The riddle ends when the prisoner in the room tells, and not after 4 n - 6 days."""
    env = envs.make("jaxmarl:switch_riddle", num_agents=3)
    assert env.max_steps == 6

    def days(action):
        state, _ = env.reset(KEY)
        keys = jax.random.split(KEY, 8)
        return jax.lax.scan(lambda state, key: env.step(key, state, action), state, keys)[1]

    steps = jax.jit(jax.vmap(days))(jnp.array([[0, 0, 0], [2, 2, 2]]))
    assert not steps.terminated[0].any()
    assert steps.terminated[1, 0]
    np.testing.assert_array_equal(steps.reward[1, 0], -np.ones(3))  # the others have not been there


def test_names_of_scenarios_and_layouts():
    assert shapes(envs.make("jaxmarl:SMAX", scenario="3m")).mask == (6, 8)
    assert shapes(envs.make("jaxmarl:HeuristicEnemySMAX", scenario="3m")).mask == (3, 8)
    assert shapes(envs.make("jaxmarl:overcooked", layout="coord_ring")) == (2, 5, 5, 26)
    with pytest.raises(ValueError, match=r"no layout 'coord'.*coord_ring"):
        envs.make("jaxmarl:overcooked", layout="coord")
    with pytest.raises(ValueError, match=r"no scenario '3n'.*3m"):
        envs.make("jaxmarl:SMAX", scenario="3n")


def test_the_time_that_is_left_is_observed_where_jaxmarl_shows_it():
    env = envs.make("jaxmarl:overcooked", max_steps=7)
    assert env._game().max_steps == 7
    with pytest.raises(TypeError, match=r"max_steps.*static"):
        envs.make("jaxmarl:overcooked", max_steps=jnp.array(7))


def test_spread_is_simple_spread():
    """From the same states, of which some are crowded. The messages, the last 4 of JaxMARL's
    numbers, are 0.
    """
    theirs, ours = envs.make("jaxmarl:MPE_simple_spread_v3"), envs.make("Spread")

    def play(key, scale):
        state, _ = theirs.reset(key)
        state = state.replace(p_pos=scale * state.p_pos)
        first = Particles(state.p_pos[:3], state.p_vel[:3], state.p_pos[3:])
        actions = jax.random.randint(key, (25, 3), 0, 5)
        played = lambda env, state: jax.lax.scan(
            lambda state, action: env.step(key, state, action), state, actions
        )[1]
        return played(theirs, state), played(ours, first)

    expected, steps = jax.jit(jax.vmap(play))(jax.random.split(KEY, 32), jnp.linspace(0.1, 1, 32))
    assert steps.info["collisions"].sum() > 50
    np.testing.assert_allclose(steps.reward, expected.reward, atol=1e-5)
    np.testing.assert_allclose(steps.obs, expected.obs[..., :14], atol=1e-5)
    assert not expected.obs[..., 14:].any()


def test_the_battle_of_an_experiment_has_a_channel_of_its_agents():
    from experiments import smax

    training = smax.training(smax.Config())
    state, _ = jax.eval_shape(training.env.reset, KEY)
    step = jax.eval_shape(training.env.step, KEY, state, jnp.zeros(3, jnp.int32))[1]
    assert step.info["won"].shape == (3,)
    assert training.env.channels == ("won",)
    assert training.eval_rows[0].all()
