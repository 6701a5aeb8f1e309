"""SUITES x contract: environments of other packages through their adapters.

A new suite is a row of `SUITES`: cases (name, parameters of `envs.make`, a time limit that random
play reaches), one of which PPO trains on. Suites that are not installed are skipped.
"""

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import kinds

import envs
import jaxrl as rl
from envs import from_jumanji, registry, states
from jaxrl import rollout
from jaxrl.env_check import check_contract
from jaxrl.masks import mask_of
from jaxrl.rollout import Policy
from jaxrl.tree import replace

pytestmark = [
    pytest.mark.rotate,
    # of the packages
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
    ),
]
NUM_STEPS = 200  # of `play`
NUM_ENVS = 2


class Suite(NamedTuple):
    """A package, and what is tested of its adapter.

    cases: {case: (name, parameters, time limit)}; PPO is tried on the first.
    listed: ids of the package, or None if it has no list of them.
    """

    package: str
    cases: dict[str, tuple[str, dict[str, Any], int]]
    listed: Callable[[], set[str]] | None = None
    network: Any = rl.MLP((4,))


def of_pgx():
    import pgx

    return {*pgx.available_envs(), "bridge_bidding"}


def of_jaxmarl():
    import jaxmarl

    return {name.replace(" ", "") for name in jaxmarl.registered_envs}


def of_playground():
    from mujoco_playground import dm_control_suite

    return set(dm_control_suite.ALL_ENVS)


def of_xminigrid():
    import xminigrid

    return set(xminigrid.registered_environments())


def of_navix():
    import navix

    return set(navix.registry())


def of_jumanji():
    import jumanji

    return jumanji.registered_environments()


SUITES = {
    "pgx": Suite(
        "pgx",
        {
            "one seat": ("pgx:tic_tac_toe", {}, 3),
            "team": ("pgx:kuhn_poker", {"num_agents": 2}, 2),
            "one player": ("pgx:minatar-breakout", {}, 5),
        },
        of_pgx,
    ),
    "jaxmarl": Suite(
        "jaxmarl",
        {
            "roles": ("jaxmarl:MPE_simple_speaker_listener_v4", {}, 25),
            "one game of many": ("jaxmarl:coin_game", {}, 10),
            "ends": ("jaxmarl:switch_riddle", {}, 4),
        },
        of_jaxmarl,
    ),
    "playground": Suite(
        "mujoco_playground",
        {"robot": ("playground:CartpoleBalance", {}, 20)},
        of_playground,
    ),
    "xminigrid": Suite(
        "xminigrid",
        {
            "xland": ("xminigrid:XLand-MiniGrid-R1-9x9", {}, 20),
            "minigrid": ("xminigrid:MiniGrid-DoorKey-5x5", {"view_size": 5}, 20),
        },
        of_xminigrid,
    ),
    "navix": Suite(
        "navix",
        {
            "balls": ("navix:Navix-Dynamic-Obstacles-5x5-v0", {}, 20),
            "keys": ("navix:Navix-DoorKey-Random-5x5-v0", {}, 20),
        },
        of_navix,
    ),
    "craftax": Suite(
        "craftax",
        {"classic": ("craftax:Craftax-Classic-Symbolic-v1", {"map_size": (16, 16)}, 20)},
    ),
    "jumanji": Suite(
        "jumanji",
        {
            "board": ("jumanji:Snake-v1", {"num_rows": 5, "num_cols": 5}, 4),
            "vector": ("jumanji:Maze-v0", {}, 8),
            "combined": ("jumanji:Tetris-v0", {}, 4),
            "entries": ("jumanji:Cleaner-v0", {}, 8),
            "team": ("jumanji:LevelBasedForaging-v0", {}, 8),
            "shared reward": ("jumanji:RobotWarehouse-v0", {}, 8),
            "box": ("jumanji:SearchAndRescue-v0", {}, 8),
        },
        of_jumanji,
    ),
}
CASES = [
    pytest.param(suite, case, id=f"{suite}-{case}")
    for suite, row in SUITES.items()
    for case in row.cases
]
ADAPTERS = {suite: importlib.import_module(f"envs.{registry.SUITES[suite]}") for suite in SUITES}
NAMES = [pytest.param(suite, name, id=name) for suite in SUITES for name in ADAPTERS[suite].NAMES]


@functools.cache
def made(suite, case):
    """The environment of a case, with its time limit."""
    pytest.importorskip(SUITES[suite].package)
    name, params, limit = SUITES[suite].cases[case]
    return envs.make(name, max_steps=limit, **params)


@pytest.fixture(autouse=True)
def promotes_ranks():
    """The packages rely on it."""
    with jax.numpy_rank_promotion("allow"):
        yield


@jax.jit
def play(env, key):
    """Transitions of random legal actions, with resets. [T, B]."""
    key_reset, key_play = jax.random.split(key)
    policy = Policy(
        lambda key, episode: ((), env.action_space.sample(key, mask_of(episode.obs)), ())
    )
    episodes = jax.vmap(lambda key: rollout.reset(key, env))(jax.random.split(key_reset, NUM_ENVS))
    return rollout.rollout(key_play, env, policy, episodes, NUM_STEPS)[1]


def differs(a, b):
    """True where any entry of two pytrees [N, ...] differs. [N]."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return np.any([(np.asarray(x) != y).reshape(len(x), -1).any(1) for x, y in pairs], 0)


@pytest.mark.parametrize(("suite", "case"), CASES)
def test_contract(suite, case):
    """Shapes, types, finite numbers; equal keys give equal episodes; vmap is a loop."""
    env = made(suite, case)
    rl.check_env(env, num_steps=30)


@pytest.mark.parametrize(("suite", "name"), NAMES)
def test_every_environment_keeps_its_types(suite, name):
    """It compiles nothing but what a package computes when it builds an environment."""
    pytest.importorskip(SUITES[suite].package)
    env = envs.make(name)
    check_contract(env)
    key = jax.random.key(0)
    state, _ = jax.eval_shape(env.reset, key)
    action = jax.eval_shape(env.action_space.sample, key)
    shape = () if env.num_agents is None else (env.num_agents,)
    action = jax.ShapeDtypeStruct(shape + action.shape, action.dtype)
    after, step = jax.eval_shape(env.step, key, state, action)
    assert kinds(state) == kinds(after)
    assert all(x.dtype == jnp.float32 for x in step.info.values())


@pytest.mark.parametrize(("suite", "case"), CASES)
def test_the_limit_truncates_and_successors_are_true(suite, case):
    env = made(suite, case)
    batch = jax.device_get(play(env, jax.random.key(1)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((batch.obs, batch.next_obs)))
    assert np.isfinite(batch.reward).all()
    assert batch.truncated.any()
    assert not (batch.truncated & batch.terminated).any()
    assert (batch.length[batch.truncated] == env.max_steps).all()
    over = batch.done[:-1].ravel()
    flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
    before = flat(jax.tree.map(lambda x: x[:-1], batch.next_obs))
    after = flat(jax.tree.map(lambda x: x[1:], batch.obs))
    assert not differs(before, after)[~over].any()
    assert differs(before, after)[over].any()  # of a reset


@pytest.mark.parametrize("suite", SUITES)
def test_ppo_trains(suite):
    env = made(suite, next(iter(SUITES[suite].cases)))
    sizes = dict(num_envs=2, num_steps=4, epochs=1, minibatches=1)
    algo = rl.ppo(network=SUITES[suite].network, **sizes)

    @jax.jit
    def train(key):
        key_init, key_update = jax.random.split(key)
        return algo.update(key_update, env, algo.init(key_init, env))

    state, metrics = train(jax.random.key(0))
    numbers = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert not any(np.isnan(x).any() for x in numbers)
    assert np.isfinite(metrics["loss"])


@pytest.mark.parametrize("suite", SUITES)
def test_names(suite):
    row = SUITES[suite]
    pytest.importorskip(row.package)
    adapter = ADAPTERS[suite]
    if row.listed is not None:
        assert {*adapter.NAMES, *adapter.LEFT_OUT} == {f"{suite}:{x}" for x in row.listed()}
    assert not set(adapter.NAMES) & set(adapter.LEFT_OUT)
    assert {name for name, _, _ in row.cases.values()} <= set(adapter.NAMES)


@pytest.mark.parametrize("suite", ["xminigrid", "navix"])
def test_draws(suite):
    env = made(suite, next(iter(SUITES[suite].cases)))
    shown, hidden = [], []
    axes = SimpleNamespace(imshow=lambda x: shown.append(np.asarray(x)), axis=hidden.append)
    env.draw(axes, jax.jit(env.reset)(jax.random.key(0))[0])
    (image,) = shown
    assert image.ndim == 3
    assert image.dtype == np.uint8
    assert image.std() > 0
    assert hidden == ["off"]


# -------------------------------------------------------------------------------- parts of adapters


def test_states_have_types_that_steps_keep():
    state = {"count": jnp.asarray(0), "key": jax.random.key(0), "flag": True}
    first = states.strong(state)
    assert first is not state  # some packages write into it
    assert not first["count"].weak_type
    assert first["flag"].dtype == bool
    after = states.like({**first, "count": first["count"] + 0.5}, first)
    assert kinds(after) == kinds(first)


def test_an_agent_of_connector_is_the_first_in_its_view():
    grid = jnp.array([[1, 2, 3], [4, 5, 6], [0, 7, 0]])
    view = from_jumanji._perspectives(grid, 3)
    np.testing.assert_array_equal(view[0], grid)
    np.testing.assert_array_equal(view[1], [[7, 8, 9], [1, 2, 3], [0, 4, 0]])
    np.testing.assert_array_equal(view[2], [[4, 5, 6], [7, 8, 9], [0, 1, 0]])


def test_rulesets_are_leaves():
    """A vmap over rulesets is a family of tasks, with the goal of each in its states."""
    env = made("xminigrid", "xland")
    ruleset = env.shipped_ruleset
    goals = jnp.stack([ruleset.goal, ruleset.goal.at[2].set(1)])
    many = jax.vmap(lambda goal: replace(env, ruleset=ruleset.replace(goal=goal)))(goals)
    states, _ = jax.jit(jax.vmap(lambda env: env.reset(jax.random.key(0))))(many)
    np.testing.assert_array_equal(states.goal_encoding, goals)
    with pytest.raises(ValueError, match="has a fixed task: leave out ruleset="):
        envs.make("xminigrid:MiniGrid-Unlock", ruleset=ruleset)


def test_parameters_of_craftax_are_leaves_or_sizes():
    env = made("craftax", "classic")
    changed = envs.make("craftax:Craftax-Classic-Symbolic-v1", zombie_health=9, map_size=(16, 16))
    assert changed.params.zombie_health == 9
    assert changed.settings == env.settings == (("map_size", (16, 16)),)
    with pytest.raises(ValueError, match="no parameter 'max_timesteps'"):
        envs.make("craftax:Craftax-Classic-Symbolic-v1", max_timesteps=9)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("suite", SUITES)
def test_errors(suite):
    adapter = ADAPTERS[suite]
    name, params, _ = next(iter(SUITES[suite].cases.values()))
    with pytest.raises(ValueError, match=name):
        envs.make(name[:-1] + "~")
    for left_out in adapter.LEFT_OUT:
        with pytest.raises(ValueError, match=re.escape(f"{left_out} can't be made: ")):
            envs.make(left_out)
    package = SUITES[suite].package
    if importlib.util.find_spec(package) is None:
        with pytest.raises(ImportError, match=rf"pip install 'jaxrl\[{suite}\]'"):
            envs.make(name, **params)
        return
    with pytest.raises(ValueError, match="no parameter 'no_such'"):
        envs.make(name, no_such=1, **params)
    with pytest.raises(TypeError, match="static"):
        envs.make(name, max_steps=jnp.array(3), **params)
