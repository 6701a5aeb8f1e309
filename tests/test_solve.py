"""Exact solutions against slow ones: a recursion over what can happen, and policies that are played."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_levels import cell_after, member, tiny

import envs
from envs import solve
from jaxrl.tree import replace

STEPS = 6


def slow_return(level, gamma, choose):
    """The value of a level's start by recursion over every outcome of every step. `choose`: action values -> value."""
    level = jax.device_get(level)
    rates = {
        name: [float(getattr(level, name)[k]) if k >= 0 else 0.0 for k in level.types]
        for name in ("reward", "termination", "respawn")
    }
    num = len(level.types)

    @cache
    def value(steps, cell, exists):
        if steps == 0:
            return 0.0
        return choose([arrive(steps, cell_after(level, cell, action), exists) for action in range(5)])

    @cache
    def arrive(steps, cell, exists):
        taken = [k for k in range(num) if exists[k] and level.objects[k] == cell]
        goes_on = np.prod([1 - rates["termination"][k] for k in taken])
        total = sum(rates["reward"][k] for k in taken)
        for back in itertools.product([False, True], repeat=num):
            chance = 1.0
            for k in range(num):
                respawn = 0.0 if exists[k] else rates["respawn"][k]
                chance *= respawn if back[k] else 1 - respawn
            after = tuple((exists[k] and k not in taken) or back[k] for k in range(num))
            if chance > 0:
                total += gamma * goes_on * chance * value(steps - 1, cell, after)
        return total

    return value(min(int(level.time_limit), level.max_steps), int(level.start), tuple(k >= 0 for k in level.types))


@jax.jit
def exact(levels, gamma):
    of = lambda function: jax.vmap(partial(function, gamma=gamma))(levels)
    return of(solve.optimal_return), of(solve.random_return)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_returns_are_those_of_every_outcome(gamma):
    levels = tiny(jax.random.split(jax.random.key(0), 8))
    respawn = 10 * levels.respawn  # so that it counts within a few steps
    levels = replace(levels, time_limit=jnp.arange(8) % STEPS + 1, respawn=respawn, types=levels.types.at[0, 0].set(-1))
    best, random = exact(levels, gamma)
    for i in range(8):
        level = member(levels, i)
        np.testing.assert_allclose(best[i], slow_return(level, gamma, max), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(random[i], slow_return(level, gamma, np.mean), rtol=1e-5, atol=1e-6)


def test_the_clock_ends_what_the_level_does_not():
    level = replace(envs.make("LPGGrid-rand_tiny", max_steps=4), roaming=False)
    assert float(solve.optimal_return(level)) == slow_return(level, 1.0, max) > 0


@jax.jit
def played(levels, key):
    """Returns of the best policy, which knows how many steps are left, and of a random one, played often. [levels, 2]."""

    def best(level):
        nothing = jnp.zeros((4, level.num_cells))
        back = lambda value, _: (solve.backup(level, value).max(0), solve.backup(level, value).argmax(0))
        return jax.lax.scan(back, nothing, None, 50)[1]  # actions by steps to go, less one

    def episode(level, actions, key):
        key_reset, key_act, key_step = jax.random.split(key, 3)
        state, _ = level.reset(key_reset)

        def go(now, t):
            state, total, over = now
            mask = (state.exists * jnp.array([1, 2])).sum()
            random = jax.random.randint(jax.random.fold_in(key_act, t), (), 0, 5)
            action = random if actions is None else actions[jnp.maximum(level.time_limit - t - 1, 0), mask, state.position]
            state, step = level.step(jax.random.fold_in(key_step, t), state, action)
            return (state, total + jnp.where(over, 0.0, step.reward), over | step.terminated), None

        return jax.lax.scan(go, (state, jnp.float32(0.0), jnp.bool_(False)), jnp.arange(50))[0][1]

    def both(level, key):
        keys = jax.random.split(key, (2, 3000))
        means = [jax.vmap(episode, (None, None, 0))(level, how, k) for how, k in zip((best(level), None), keys, strict=True)]
        return jnp.stack([jnp.stack([x.mean(), x.std() / jnp.sqrt(3000)]) for x in means])

    return jax.vmap(both)(levels, jax.random.split(key, levels.start.shape[0]))


def test_returns_are_what_is_earned_by_playing():
    levels = tiny(jax.random.split(jax.random.key(3), 6))
    best, random = exact(levels, 1.0)
    earned = np.asarray(played(levels, jax.random.key(4)))
    for exactly, (mean, error) in zip(np.stack([best, random], 1).reshape(-1), earned.reshape(-1, 2), strict=True):
        assert abs(mean - exactly) < 4 * error + 1e-5


def test_a_score_is_0_for_random_and_1_for_the_best():
    level = member(tiny(jax.random.split(jax.random.key(0), 1)), 0)
    best, random = solve.optimal_return(level), solve.random_return(level)
    np.testing.assert_allclose(solve.score(level, jnp.stack([random, best, (random + best) / 2])), [0, 1, 0.5], atol=1e-5)
    nothing = replace(level, reward=jnp.zeros(2))
    assert solve.score(nothing, jnp.array([0.0]))[0] == 1.0


def test_roaming_objects_have_no_exact_return():
    with pytest.raises(ValueError, match="roam"):
        solve.optimal_return(envs.make("LPGGrid-rand_tiny"))
