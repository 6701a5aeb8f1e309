"""Programs with `jax_enable_x64`, by shapes and types alone: nothing compiles."""

import importlib
import inspect

import gymnax  # noqa: F401  it makes its constants when it is imported: in 32 bits, as elsewhere
import jax
import jax.numpy as jnp
import pytest
from contract import allowances
from members import MEMBERS, floats_of, make

import envs
import jaxrl as rl
from jaxrl.env_check import check_contract
from jaxrl.teachers import mixture
from jaxrl.tree import pytree, static

WORLDS = ("Pendulum-v1", "CartPole-v1", "Catch", "own")


@pytree
class Own(rl.Env):
    """An environment as a user writes it, without a thought for types."""

    size: float = 1.0
    max_steps: int = static(default=10)
    action_space = rl.Discrete(2)

    def reset(self, key):
        state = {"place": jax.random.uniform(key), "time": jnp.array(0)}
        return state, jnp.array([state["place"], 1.0])

    def step(self, key, state, action):
        place = state["place"] + 0.1 * self.size * (2 * action - 1)
        new = {"place": place, "time": state["time"] + 1}
        return new, rl.Step(jnp.array([place, 1.0]), place, place > 3.0, {})


@pytree
class Own64(Own):
    """Its rewards are 64 bits wide."""

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, rl.tree.replace(step, reward=step.reward.astype(float))


def types(tree):
    return {
        jax.tree_util.keystr(path): (x.shape, x.dtype)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize("name", MEMBERS)
def test_an_update_keeps_the_types_of_its_state(name):
    """Two updates and an evaluation, in the environments with actions of a kind that it takes."""
    algo = make(name)
    with jax.enable_x64(True):
        worlds = [Own() if world == "own" else envs.make(world) for world in WORLDS]
        fitting = [env for env in worlds if isinstance(env.action_space, spaces_of(algo))]
        assert fitting
        for env in fitting:
            check_types(algo, env)


@pytest.mark.parametrize("memory", [rl.FFM, rl.GRU, rl.GTrXL, rl.LRU, rl.LSTM])
def test_a_memory_keeps_the_types_of_its_state(memory):
    algo = make("ppo", memory=memory(8), num_envs=2, num_steps=4, minibatches=1)
    with jax.enable_x64(True):
        check_types(algo, Own())


def test_saved_states_keep_their_types():
    """Of Go-Explore, and of levels along a demonstration."""
    algo = rl.GoExplore(rl.archives.Hashed.random(jax.random.key(0), 2, bits=2), num_steps=4)
    policy = rl.rollout.Policy(lambda key, episode: ((), jnp.int32(0), ()))

    def play(key):
        demonstration = rl.teachers.demonstrate(key, Own64(), policy)
        level = rl.teachers.Starts(Own64(), demonstration).at(jnp.zeros(1))
        return rl.rollout.play_episodes(key, level, policy, 2)

    with jax.enable_x64(True):
        state = jax.eval_shape(lambda key: algo.init(key, Own64()), jax.random.key(0))
        after, _ = jax.eval_shape(
            lambda key, state: algo.update(key, Own64(), state), jax.random.key(0), state
        )
        assert types(after) == types(state)
        assert jax.eval_shape(play, jax.random.key(0)).episode_return.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_mixture_keeps_the_types_of_its_points(dtype):
    with jax.enable_x64(True):
        points, weight = jnp.zeros((8, 2), dtype), jnp.ones(8, dtype)
        fit = lambda key: mixture.fit(key, points, weight, jnp.int32(2), 3)
        found, _ = jax.eval_shape(fit, jax.random.key(0))
    assert found.log_weights.dtype == found.means.dtype == dtype


def spaces_of(algo):
    """The action spaces that an algorithm takes."""
    if isinstance(algo, rl.OnPolicy | rl.Stream):
        return algo.rule.action_spaces
    return algo.learner.action_spaces


def check_types(algo, env):
    key = jax.random.key(0)
    update = lambda key, state: algo.update(key, env, state)
    state = jax.eval_shape(lambda key: algo.init(key, env, 5.0), key)
    after, _ = jax.eval_shape(update, key, state)
    again, _ = jax.eval_shape(update, key, after)
    assert types(after) == types(again) == types(state)
    jax.eval_shape(lambda key, state: algo.evaluate(key, env, state, 2), key, after)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))


@pytest.mark.parametrize("name", ["ppo", "sac", "dqn"])
def test_a_training_runs(name):
    with jax.enable_x64(True):
        env = envs.make("Pendulum-v1") if name == "sac" else Own()
        training = rl.Training(make(name), env, steps=1024, evals=3)
        _, metrics = jax.eval_shape(training, jax.random.key(0))
        assert metrics["return"].shape == (3,)


@pytest.mark.parametrize("name", ["ppo", "sac", "stream_ac"])
def test_swept_values_are_64_bits_wide(name):
    """As arrays they would make all that they meet so."""
    fields = [field for field in ("gamma", "lr", "lam", "tau") if field in floats_of(name)]
    with jax.enable_x64(True):
        env = envs.make("Pendulum-v1") if name == "sac" else Own()
        training = rl.Training(make(name, normalize_reward=True), env, steps=1024, evals=2)

        def run(values):
            return rl.tree.put(training, values)(jax.random.key(0))[1]

        metrics = jax.eval_shape(run, {field: jnp.array(0.5) for field in fields})
        assert metrics["return"].shape == (2,)


FAIL_IN_GYMNAX = {
    "DiscountingChain-bsuite",
    "Freeway-MinAtar",
    "GaussianBandit-misc",
    "MetaMaze-misc",
}


def refusal(name: str) -> str:
    """The error of an environment that changes its types, or nothing."""
    try:
        with allowances(name):
            check_contract(envs.make(name))
    except TypeError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore:scatter inputs:FutureWarning")  # of gymnax
def test_every_environment_keeps_its_types_or_says_so():
    # brax has its own test, MNIST is downloaded
    names = [name for name in envs.names() if ":" not in name and not name.startswith("MNIST")]
    with jax.enable_x64(True):
        refused = {name: text for name in names if (text := refusal(name))}
        for name in envs.distributions():
            check_contract(envs.distribution(name))
    assert set(refused) <= FAIL_IN_GYMNAX
    assert all("does not run with jax_enable_x64" in text for text in refused.values())


SUITES = ("brax", "craftax", "gymnax", "jumanji", "navix", "playground", "xminigrid")


@pytest.mark.parametrize("suite", SUITES)
def test_a_library_s_object_is_built_for_each_width_of_floats(suite, monkeypatch):
    """The arguments of what is cached are those of `_build` and the width. No library is needed."""
    adapter = importlib.import_module(f"envs.from_{suite}")
    assert callable(adapter._built.cache_info)
    monkeypatch.setattr(adapter, "_built", lambda *args: args)
    args = ("x",) * len(inspect.signature(adapter._build).parameters)
    assert adapter._build(*args) == (*args, jnp.float32)
    with jax.enable_x64(True):
        assert adapter._build(*args) == (*args, jnp.float64)


@pytest.mark.parametrize("name", ["Breakout-MinAtar", "Pendulum-v1"])
def test_what_was_made_with_64_bits_does_not_stay(name):
    """A library's object is built once, and its constants have a type."""
    with jax.enable_x64(True):
        envs.make(name).reset(jax.random.key(0))
    check_contract(envs.make(name))
