"""SUITES x contract: environments of other packages through their adapters.

A new suite is a row of `SUITES`: cases (name, parameters of `envs.make`, a time limit that random
play reaches), one of which PPO trains on. Suites that are not installed are skipped.
"""

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import kinds

import envs
import jaxrl as rl
from envs import registry
from jaxrl import rollout
from jaxrl.env_check import check_contract
from jaxrl.masks import mask_of
from jaxrl.rollout import Policy

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
