"""ENVS x contract: what an environment promises, and what each of ours says of itself."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import (
    NUM_STEPS,
    WRAPPED,
    actions_of,
    allowances,
    assert_equal,
    at,
    contract,
    draw,
    fresh,
    kinds,
    resumed,
    run,
    team,
    zeros,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import from_gymnax
from envs.gridworld import MOVES
from envs.to_gymnax import ToGymnax
from jaxrl.tree import replace

DOWNLOADS = {"MNISTBandit-bsuite"}  # needs a network
GYMNAX = sorted(set(from_gymnax.names()) - DOWNLOADS)
BRAX = ["brax:inverted_pendulum"]
LEVELS = [
    "LPGGrid-longer",
    "LPGGrid-rand_small",
    "MDP-FrozenLake",
    "Matrix-PrisonersDilemma",
]  # of those of one class, one of each kind
ENVS = [*envs.OWN, *LEVELS, *WRAPPED, *envs.POSITIONS, *GYMNAX, *BRAX]
# one of each family of another package; the others rotate
ALWAYS = {
    *(name for name in ENVS if name not in [*GYMNAX, *BRAX]),
    "Breakout-MinAtar",
    "CartPole-v1",
    "Catch-bsuite",
    "FrozenLake-misc",
    "Pendulum-v1",
}

KEEPS_TIME = {
    "MemoryChain-bsuite",
    "UmbrellaChain-bsuite",
    "DiscountingChain-bsuite",
}  # time is part of these games


def rotating(names):
    return [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.rotate) for name in names
    ]


@pytest.mark.parametrize("name", rotating(ENVS))
def test_contract(name):
    with allowances(name):
        env, (state, obs), states, step = contract(name)
        last, num = at(states, -1), NUM_STEPS

        assert kinds(state) == kinds(last)
        shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)
        assert jax.tree.map(lambda x: (num, *x.shape), obs) == shapes(step.obs)
        assert jax.tree.map(lambda x: x.dtype, obs) == jax.tree.map(lambda x: x.dtype, step.obs)
        assert (step.reward.shape, step.reward.dtype) == ((num, *team(env)), jnp.float32)
        assert step.terminated.shape in ((num,), (num, *team(env)))
        assert step.terminated.dtype == bool
        assert np.isfinite(step.reward).all()
        assert isinstance(env.max_steps, int)
        assert env.max_steps > 0

        saved = jax.tree.map(np.array, last)  # a save game: numbers only
        assert_equal(resumed(env, last, jax.random.key(2)), resumed(env, saved, jax.random.key(2)))
        if (
            hasattr(state, "time") and name not in KEEPS_TIME
        ):  # the clock of the library ends nothing
            late = state.replace(time=jnp.asarray(env.max_steps + 1, state.time.dtype))
            _, late_step = resumed(env, late, jax.random.key(1))
            assert_equal((step.reward, step.terminated), (late_step.reward, late_step.terminated))


@pytest.mark.parametrize(
    "name", [*envs.OWN, *LEVELS, "CartPole-v1", "Pendulum-v1", "FrozenLake-misc"]
)
def test_without_jit(name):
    env, first, states, steps = contract(name)
    state, obs = env.reset(jax.random.key(0))
    assert_equal((state, obs), first, rtol=1e-6)
    keys, actions = draw(env, jax.random.key(1))
    assert_equal(
        env.step(keys[0], state, actions[0]), (at(states, 0), at(steps, 0)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["Catch", "GridWorld", "RiverSwim", *LEVELS])
def test_obs_is_the_true_successor(name):
    env, _, states, steps = contract(name)  # over the end of an episode, too
    assert_equal(steps.obs, jax.jit(jax.vmap(env.observe))(states), rtol=1e-6)


LEAVES = [
    ("Catch", {"win": [1.0, 5.0]}),
    ("RiverSwim", {"forward": [0.3, 0.9]}),
    ("GridWorld", {"step_reward": [0.0, -1.0], "goal": [[1, 1], [5, 9]]}),
    ("MemoryChain", {"noise": [1.0, 2.0]}),
    ("Arm", {"speed": [0.1, 0.2], "dense": [0.0, 1.0]}),
    ("Crafting", {"num_trees": [2, 6]}),
    ("Foraging", {"max_level": [1, 3]}),
    ("HyperGrid", {"r0": [0.01, 0.1]}),
    ("KeyDoor", {"start": [[6, 6], [1, 2]], "key_reward": [0.0, 1.0]}),
    ("Navigation", {"gap": [0.15, 0.3], "speed": [0.5, 1.0]}),
    ("PointMaze", {"goal": [[6, 6], [1, 1]], "dense": [0.0, 1.0]}),
    ("Spread", {"damping": [0.25, 0.5], "local_ratio": [0.0, 0.5]}),
    ("TwoStep", {"payoff": np.arange(16.0).reshape(2, 2, 2, 2)}),
    ("LPGGrid-rand_very_dense", {"reward": [[1.0], [2.0]], "start": [0, 5]}),
    ("CartPole-v1", {"masscart": [1.0, 2.0]}),
    ("Pendulum-v1", {"g": [5.0, 10.0], "max_torque": [1.0, 2.0]}),
    ("PointRobot-misc", {"max_force": [0.1, 0.2]}),
]


@pytest.mark.parametrize(("name", "leaves"), LEAVES)
def test_vmap_over_leaves_is_a_loop(name, leaves):
    """A family of worlds is one environment with longer leaves; and the leaf does change the
    world.
    """
    settings = {"num_distractors": 2} if name == "MemoryChain" else {}
    family = envs.make(
        name, **settings, **{leaf: jnp.array(values) for leaf, values in leaves.items()}
    )
    lone = envs.make(
        name, **settings, **{leaf: jnp.array(values[0]) for leaf, values in leaves.items()}
    )
    axes = jax.tree.map(
        lambda many, one: 0 if jnp.ndim(many) > jnp.ndim(one) else None, family, lone
    )

    def episode(env):
        (_, obs), _, steps = run(env, jax.random.key(0), jax.random.key(1), blank, np.bool_(False))
        return obs, steps

    blank = zeros(lone)
    together = jax.jit(jax.vmap(episode, in_axes=(axes,)))(family)
    for i in range(2):
        member = jax.tree.map(
            lambda x, axis, i=i: x if axis is None else x[i],
            family,
            axes,
            is_leaf=lambda x: x is None,
        )
        assert_equal(
            jax.tree.map(lambda x, i=i: x[i], together), episode(member), rtol=1e-5, atol=1e-6
        )
    first, second = (jax.tree.leaves(jax.tree.map(lambda x, i=i: x[i], together)) for i in range(2))
    assert name == "Catch" or any(not np.allclose(a, b) for a, b in zip(first, second, strict=True))


def test_made_twice_is_traced_once():
    traces = []

    @jax.jit
    def reset(env, key):
        traces.append(env)
        return env.reset(key)[1]

    for name in ["Catch", "CartPole-v1", "DeepSea-bsuite", "brax:inverted_pendulum"]:
        with allowances(name):
            before = len(traces)
            for seed in range(3):
                reset(envs.make(name), jax.random.key(seed))
            assert len(traces) == before + 1, name


def test_made_inside_a_program():
    """No tracer leaks into the cached object of a library."""
    for name in ["Acrobot-v1", "DeepSea-bsuite", "MetaMaze-misc"]:
        from_gymnax._built.cache_clear()
        inside = jax.jit(lambda key, name=name: envs.make(name).reset(key)[1])(jax.random.key(0))
        assert_equal(inside, jax.jit(envs.make(name).reset)(jax.random.key(0))[1], rtol=1e-6)


def test_importing_is_cheap():
    code = """
import sys, envs
loaded = lambda *names: [name for name in names if name in sys.modules]
envs.make('Catch')
first = loaded('gymnax', 'brax', 'mujoco')
envs.make('CartPole-v1')
print(first + loaded('seaborn', 'scipy.stats', 'matplotlib.pyplot', 'brax'))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_gradient_reaches_the_leaves():
    def total(g):
        env = envs.make("Pendulum-v1", g=g)
        return fresh(env, jax.random.key(1))[2].reward.sum()

    slope = float(jax.grad(total)(10.0))
    assert slope == pytest.approx(float(total(10.1) - total(9.9)) / 0.2, rel=0.05)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "words", "name", "params"),
    [
        (ValueError, "CartPole-v1.*names()", "CartPole-v2", {}),
        (ValueError, "brax:ant", "brax:and", {}),
        (ValueError, "a_min.*brax:ant", "brax:swimmer", {}),
        (TypeError, "goal_fixed.*tuple", "FourRooms-misc", {"goal_fixed": [1, 1]}),
        (TypeError, "size.*static", "DeepSea-bsuite", {"size": jnp.array(10)}),
        (ValueError, "masscart", "CartPole-v1", {"mass_cart": 1.0}),
        (ValueError, "total_mass.*masscart", "CartPole-v1", {"total_mass": 1.0}),
        (ValueError, "columns", "Catch", {"column": 3}),
        (ValueError, "generalized, positional, spring, mjx", "brax:ant", {"backend": "warp"}),
        (ValueError, "ctrl_cost_weight", "brax:ant", {"control_cost": 1.0}),
        (TypeError, "max_steps is static", "CartPole-v1", {"max_steps": jnp.array(10)}),
        (TypeError, "max_steps is static", "CartPole-v1", {"max_steps_in_episode": jnp.array(10)}),
        (TypeError, "rows is static", "Catch", {"rows": jnp.array(10)}),
        (ValueError, "one goal", "GridWorld", {"map": "GG "}),
        (ValueError, "rectangle", "GridWorld", {"map": "G  \n "}),
    ],
)
def test_errors(error, words, name, params):
    with pytest.raises(error, match=f"(?s){words}"):
        envs.make(name, **params)


def test_clock_is_no_leaf():
    """Sweeping gymnax's clock would change nothing; so it is an error."""
    env = envs.make("CartPole-v1", max_steps=7)
    assert env.max_steps == envs.make("CartPole-v1", max_steps_in_episode=7).max_steps == 7
    assert env.params.max_steps_in_episode is None
    with pytest.raises(TypeError, match="max_steps"):
        replace(env, params=env.params.replace(max_steps_in_episode=jnp.array(3)))


def test_offline(monkeypatch):
    def no_network(*args):
        raise OSError("no network")

    monkeypatch.setattr("gymnax.utils.load_mnist.load_mnist", no_network)
    from_gymnax._built.cache_clear()
    with pytest.raises(OSError, match=r"downloads its data.*no network"):
        envs.make("MNISTBandit-bsuite")


def test_mnist_pixels_are_bright(monkeypatch):
    images = np.full((3, 28, 28), 255, np.uint8).astype(np.int8)  # as gymnax reads them: -1
    monkeypatch.setattr(
        "gymnax.utils.load_mnist.load_mnist", lambda: ((images, np.zeros(3, np.uint8)), None)
    )
    from_gymnax._built.cache_clear()
    _, obs = envs.make("MNISTBandit-bsuite").reset(jax.random.key(0))
    from_gymnax._built.cache_clear()
    assert_equal(obs, jnp.ones((28, 28)))


@pytest.mark.parametrize("name", rotating(name for name in GYMNAX if "MinAtar" in name))
def test_pixels_of_minatar_are_bits(name):
    """As gymnax's numbers, which are 0 and 1, in a quarter of the memory."""
    env = envs.make(name)
    game = from_gymnax._build(name, ())

    def both(state, x):
        key, action = x
        state, step = env.step(key, state, action)
        return state, (game.get_obs(state, env._params()), step.obs)

    state, obs = contract(name)[1]
    keys = jax.random.split(jax.random.key(1), 300)
    _, (theirs, ours) = jax.jit(
        lambda: jax.lax.scan(both, state, (keys, actions_of(env, jax.random.key(2), 300)))
    )()
    assert obs.dtype == ours.dtype == bool
    np.testing.assert_array_equal(ours, theirs)


# -------------------------------------------------------------------------------- gymnax, both ways


def test_any_gymnax_object_can_be_wrapped():
    """There and back again: Catch through gymnax is Catch."""
    env = envs.make("Catch", rows=5, win=3.0)
    back = from_gymnax.wrap(ToGymnax(env))
    assert back.max_steps == env.max_steps
    assert back.action_space == env.action_space
    for seed in range(4):
        seen = [
            run(e, jax.random.key(seed), jax.random.key(9), zeros(e), np.bool_(False))
            for e in (env, back)
        ]
        ((_, obs), _, steps), ((_, back_obs), _, back_steps) = seen
        assert_equal((obs, steps), (back_obs, back_steps))


def test_in_the_hands_of_gymnax():
    """gymnax's own loop: six values, its clock, its auto-reset, its spaces."""
    game = ToGymnax(envs.make("RiverSwim", max_steps=5))
    params = game.default_params.replace(max_steps_in_episode=3)
    obs, state = game.reset(jax.random.key(0), params)
    space = game.observation_space(params)
    assert (game.name, game.num_actions, space.shape) == ("RiverSwim", 2, obs.shape)
    clock = []
    for i in range(6):
        action = game.action_space(params).sample(jax.random.key(10 + i))
        obs, state, reward, terminated, truncated, info = game.step(
            jax.random.key(i), state, action, params
        )
        assert (reward.shape, bool(terminated), obs.shape) == ((), False, space.shape)
        clock.append((int(state.time), bool(truncated)))
    assert clock == [(1, False), (2, False), (0, True)] * 2
    assert info["final_observation"].shape == obs.shape


# ------------------------------------------------------------------------------------------ our own


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_catch_is_won_by_following_the_ball(seed):
    env = envs.make("Catch")
    state, _ = jax.jit(type(env).reset)(env, jax.random.key(seed))
    rewards = []
    for _ in range(env.max_steps):
        toward = jnp.sign(state.ball_column - state.paddle) + 1
        state, step = jax.jit(type(env).step)(env, jax.random.key(0), state, toward)
        rewards.append(float(step.reward))
    assert step.terminated
    assert rewards == [0.0] * (env.max_steps - 1) + [1.0]


def test_a_map_without_a_goal_says_so_and_one_with_a_goal_given_is_a_pytree_of_any_leaves():
    with pytest.raises(ValueError, match="one goal"):
        jax.eval_shape(envs.make("GridWorld", map="   ").reset, jax.random.key(0))
    given = envs.make("GridWorld", map="   ", goal=jnp.array([0, 1]))
    assert jax.tree.leaves(jax.tree.map(lambda _: None, given)) == []


def test_riverswim_is_the_table_of_the_paper():
    """Strehl & Littman (2008), figure 3: P(left, stay, right) and mean reward for each state and
    action.
    """
    env, num = envs.make("RiverSwim"), 4000
    states, actions = (x.ravel() for x in jnp.meshgrid(jnp.arange(6), jnp.arange(2), indexing="ij"))
    keys = jax.random.split(jax.random.key(0), num)
    one = lambda key, state, action: env.step(key, state, action)
    new, step = jax.jit(jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, 0)))(
        keys, states, actions
    )
    moves = np.stack([(new - states[:, None] == d).mean(1) for d in (-1, 0, 1)], -1).reshape(
        6, 2, 3
    )
    expected = np.zeros((6, 2, 3))
    expected[:, 0, 0], expected[0, 0] = 1, (0, 1, 0)
    expected[:, 1], expected[0, 1], expected[5, 1] = (0.1, 0.6, 0.3), (0, 0.7, 0.3), (0.7, 0.3, 0)
    np.testing.assert_allclose(moves, expected, atol=0.03)
    rewards = np.zeros((6, 2))
    rewards[0, 0], rewards[5, 1] = 5 / 10_000, 0.3
    np.testing.assert_allclose(step.reward.mean(1).reshape(6, 2), rewards, atol=0.03)
    assert not step.terminated.any()


def test_memory_chain_needs_memory():
    env = envs.make("MemoryChain", length=4, num_cues=3, num_distractors=2)

    def episode(key, remembers):
        key_reset, key_step, key_guess = jax.random.split(key, 3)
        state, obs = env.reset(key_reset)
        cue = jnp.argmax(obs[:3])
        action = jnp.where(remembers, cue, env.action_space.sample(key_guess))
        key_of = partial(jax.random.fold_in, key_step)
        return jax.lax.scan(
            lambda s, i: env.step(key_of(i), s, action), state, jnp.arange(env.max_steps)
        )[1]

    step = jax.jit(jax.vmap(episode, (0, None)))(jax.random.split(jax.random.key(0), 600), True)
    assert (step.reward.sum(1) == 1.0).all()
    assert (step.terminated == (jnp.arange(5) == 4)[None]).all()
    assert (step.obs[..., :3] == 0).all()  # the cue is gone
    assert (
        step.obs[..., 3] == (jnp.arange(5) == 3)[None]
    ).all()  # the question comes with the last observation
    step = jax.jit(jax.vmap(episode, (0, None)))(jax.random.split(jax.random.key(1), 600), False)
    assert abs(float(step.reward.sum(1).mean()) + 1 / 3) < 0.15


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_gridworld_walks_on_free_cells(seed, slip):
    env = envs.make("GridWorld", slip=slip)
    keys = jax.random.key(seed), jax.random.key(seed + 1)
    (state, _), _, step = run(env, *keys, zeros(env), np.bool_(False))
    assert (state != env.goal_position).any()
    cells = jnp.argmax(step.obs, -1)
    rows, columns = np.divmod(np.asarray(cells), env.walls.shape[1])
    assert not env.walls[rows, columns].any()
    path = np.concatenate([np.asarray(state)[None], np.stack([rows, columns], -1)])
    assert (abs(np.diff(path, axis=0)).sum(-1) <= 1).all()
    arrived = (path[1:] == np.asarray(env.goal_position)).all(-1)
    np.testing.assert_array_equal(arrived, step.terminated)
    np.testing.assert_array_equal(arrived, step.reward)


def test_gridworld_map():
    env = envs.make("GridWorld", map="S #\n  G", one_hot=False, max_steps=9)
    state, obs = env.reset(jax.random.key(0))
    assert_equal((state, obs), (jnp.zeros(2, int), jnp.zeros(2)))
    up, right, down, _left = range(len(MOVES))
    for action, place in [
        (up, (0, 0)),
        (right, (0, 1)),
        (right, (0, 1)),
        (down, (1, 1)),
        (right, (1, 2)),
    ]:
        state, step = env.step(jax.random.key(1), state, jnp.int32(action))
        assert tuple(state.tolist()) == place
    assert step.terminated
    assert_equal(step.obs, jnp.ones(2))
