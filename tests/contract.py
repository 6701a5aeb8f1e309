"""Programs and comparisons of the environments' contract, for test_envs.py and test_brax.py."""

import contextlib
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl as rl
from envs import from_brax

NUM_STEPS = 12  # of `run`: past the end of an episode of Catch
WRAPPED = {  # environments around another, and others with names that `make` does not know
    "FrameStack": lambda: envs.FrameStack(envs.make("Catch"), 3),
    "ActionRepeat": lambda: envs.ActionRepeat(envs.make("RiverSwim"), 2),
    "StickyActions": lambda: envs.StickyActions(envs.make("Pendulum-v1")),
    "RewardScale": lambda: envs.RewardScale(envs.make("Catch"), 0.1),
    "Versus": lambda: rl.Versus(envs.make("Matrix-PrisonersDilemma")),
    "MarkovGame": lambda: envs.markov_game.garnet(0, num_actions=(2, 3)),
}
PROMOTES_RANKS = {"Swimmer-misc", *from_brax.NAMES}  # third-party code that relies on it


def allowances(name):
    return jax.numpy_rank_promotion("allow") if name in PROMOTES_RANKS else contextlib.nullcontext()


def team(env):
    """Leading axes of what each agent has: () for a single agent, else (A,)."""
    return () if env.num_agents is None else (env.num_agents,)


def actions_of(env, key, num):
    """Random actions, [num, ...]; of a team, [num, A, ...]."""
    sample = jax.vmap(env.action_space.sample)
    each = sample if env.num_agents is None else jax.vmap(sample)
    return each(jax.random.split(key, (num, *team(env))))


def draw(env, key):
    """Keys and random actions of the steps of `run`."""
    key_act, key_step = jax.random.split(key)
    return jax.random.split(key_step, NUM_STEPS), actions_of(env, key_act, NUM_STEPS)


@jax.jit
def run(env, key_reset, key_steps, old, resumes):
    """((first state, obs), states, steps): random steps from `old`, or from a reset, also past the
    end of the episode.

    One program for all that the contract compares: an environment is compiled once. The scan
    asserts that a step keeps the types of its state.
    """
    state, obs = env.reset(key_reset)
    begin = jax.tree.map(partial(jnp.where, resumes), old, state)

    def step(state, x):
        state, step = env.step(x[0], state, x[1])
        return state, (state, step)

    _, (states, steps) = jax.lax.scan(step, begin, draw(env, key_steps))
    return (state, obs), states, steps


def zeros(env):
    """A state of zeros, for a run that starts with a reset."""
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    blank = lambda x: (
        jax.random.key(0)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else np.zeros(x.shape, x.dtype)
    )
    return jax.tree.map(blank, state)


def fresh(env, key_steps):
    """A run from a reset with key 0."""
    return run(env, jax.random.key(0), key_steps, zeros(env), np.bool_(False))


def resumed(env, state, key_steps):
    """(states, steps) of a run from a state."""
    return run(env, jax.random.key(0), key_steps, state, np.bool_(True))[1:]


def made(name):
    return WRAPPED[name]() if name in WRAPPED else envs.make(name)


@functools.cache
def contract(name):
    """(env, (state, obs), states, steps): its run, which several tests read."""
    with allowances(name):
        env = made(name)
        return env, *fresh(env, jax.random.key(1))


def at(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def kinds(tree):
    """(path, shape, type, weak type) of each leaf."""
    leaves = jax.tree.leaves_with_path(jax.eval_shape(lambda: tree))
    return [(jax.tree_util.keystr(path), x.shape, x.dtype, x.weak_type) for path, x in leaves]


def assert_equal(a, b, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance or {"rtol": 0, "atol": 0}), a, b)
