"""Levels: the grids of LPG against a slow walk, their distributions, and what a family refuses."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.lpg_grid import MOVES, LPGGrid, Walk
from envs.lpg_levels import drawn, maze
from jaxrl.tree import replace

TINY = envs.distribution("LPGGrid-tiny", reward_scale=(0.1, 10.0))


@jax.jit
def tiny(keys):
    return jax.vmap(TINY.sample)(keys)


def member(levels, i):
    return jax.tree.map(lambda x: x[i], levels)


def cell_after(level, cell, action):
    """Where a move leads to, written slowly."""
    rows, columns = level.walls.shape
    row, column = cell // columns + MOVES[action][0], cell % columns + MOVES[action][1]
    inside = 0 <= row < rows and 0 <= column < columns
    return row * columns + column if inside and not level.walls[row, column] else cell


@jax.jit
def trail(level, key):
    """A random walk of 30 steps, not reset at its end: states before, actions, steps."""
    key_reset, key_step, key_act = jax.random.split(key, 3)
    state, _ = level.reset(key_reset)
    actions = jax.random.randint(key_act, (30,), 0, 5)

    def go(state, x):
        new, step = level.step(jax.random.fold_in(key_step, x[0]), state, x[1])
        return new, (state, new, step)

    return actions, jax.lax.scan(go, state, (jnp.arange(30), actions))[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_walk_follows_the_rules(seed):
    level = member(tiny(jax.random.split(jax.random.key(seed), 1)), 0)
    level = replace(level, termination=jnp.round(level.termination), respawn=jnp.array([0.0, 1.0]))
    actions, (before, after, step) = jax.device_get(trail(level, jax.random.key(seed + 1)))
    level = jax.device_get(level)
    assert before.position[0] == level.start
    assert not np.ravel(level.walls)[before.position].any()
    for t in range(30):
        cell = cell_after(level, before.position[t], actions[t])
        taken = before.exists[t] & (level.objects == cell)
        assert after.position[t] == cell
        assert (after.objects[t] == level.objects).all()
        back = ~before.exists[t] & (level.types == 1)  # type 1 comes back at once, type 0 never
        assert (after.exists[t] == (before.exists[t] & ~taken | back)).all()
        np.testing.assert_allclose(step.reward[t], (level.reward * taken).sum(), rtol=1e-6)
        assert step.terminated[t] == (
            (level.termination * taken).any() or t + 1 >= level.time_limit
        )
        number = cell + level.walls.size * (after.exists[t] * [1, 2]).sum()
        assert (step.obs[t] == np.eye(TINY.num_states)[number]).all()


def test_the_index_is_the_place_in_the_one_hot():
    level = envs.make("LPGGrid-dense")
    state, obs = level.reset(jax.random.key(0))
    _, index = replace(level, one_hot=False).reset(jax.random.key(0))
    assert (index.shape, index.dtype) == ((), jnp.int32)
    assert obs.shape == (level.num_states,) == (11 * 11 * 2**4,)
    assert obs[index] == 1.0
    assert state.exists.all()


def test_roaming_objects_are_on_free_cells_and_their_maps_show_them():
    level = envs.make("LPGGrid-rand_small")
    _, (before, after, step) = jax.device_get(trail(level, jax.random.key(0)))
    assert step.obs.shape == (30, 7, 7, 3)
    for t in range(30):
        assert not np.ravel(level.walls)[after.objects[t]].any()
        assert len(set(after.objects[t])) == 4
        new = after.exists[t] & ~before.exists[t]
        assert after.position[t] not in after.objects[t][new]
        assert (step.obs[t, ..., 0].ravel() == np.eye(49)[after.position[t]]).all()
        for kind in range(2):
            there = after.objects[t][after.exists[t] & (np.asarray(level.types) == kind)]
            assert (step.obs[t, ..., 1 + kind].ravel() == np.eye(49)[there].sum(0)).all()
    first, second = (level.reset(jax.random.key(i))[0].objects for i in (1, 2))
    assert (first != second).any()


# --------------------------------------------------------------------------- chains and two colours


@jax.jit
def rollouts(env, keys, actions):
    """States and steps of a row of actions from reset, each its own life. [num, length]."""

    def life(key, actions):
        state, _ = env.reset(key)
        go = lambda state, x: (lambda new, step: (new, (state, step)))(
            *env.step(jax.random.fold_in(key, x[0]), state, x[1])
        )
        return jax.lax.scan(go, state, (jnp.arange(len(actions)), actions))[1]

    return jax.vmap(life)(keys, actions)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.integers(0, 1))
def test_a_chain_pays_for_its_first_action_at_its_end(seed, length, right):
    env = envs.make(
        "DelayedChain",
        length=length,
        right=right,
        noise=0.5,
        reward=2.0,
        one_hot=False,
        max_steps=12,
    )
    actions = np.random.default_rng(seed).integers(2, size=(64, 12))
    _, step = jax.device_get(rollouts(env, jax.random.split(jax.random.key(seed), 64), actions))
    won = actions[:, 0] == right
    assert (step.terminated[:, :length] == (np.arange(length) == length - 1)).all()
    np.testing.assert_array_equal(step.reward[:, length - 1], np.where(won, 2.0, -2.0))
    assert set(np.unique(step.reward[:, : length - 1])) == {-0.5, 0.5}
    assert (step.obs == 2 * np.arange(1, 13) - 1 + won[:, None]).all()
    assert step.obs.max() < env.num_states


def test_a_distracted_chain_shows_two_bits_that_matter():
    env = envs.make("DelayedChain", num_bits=20)
    actions = np.arange(256).reshape(64, 4) % 3 % 2
    _, step = jax.device_get(rollouts(env, jax.random.split(jax.random.key(0), 64), actions))
    assert step.obs.shape == (64, 4, 22)
    assert (step.obs[..., 0] == 0).all()
    assert (step.obs[..., 1] == (actions[:, :1] == env.right)).all()
    assert abs(step.obs[..., 2:].mean() - 0.5) < 0.03
    assert (env.reset(jax.random.key(1))[1][:2] == jnp.array([1.0, 0.0])).all()


def test_two_colors_swap_and_move_when_reached():
    env = envs.make("TwoColors", side=3, period=40)
    actions = np.random.default_rng(0).integers(4, size=(8, 160))
    before, step = jax.device_get(rollouts(env, jax.random.split(jax.random.key(0), 8), actions))
    assert not step.terminated.any()
    reached = 0
    for b, t in itertools.product(range(8), range(159)):
        (agent, *colors), (new_agent, *new_colors) = before.cells[b, t], before.cells[b, t + 1]
        row, column = (
            np.clip(x + dx, 0, 2)
            for x, dx in zip(divmod(agent, 3), MOVES[actions[b, t]], strict=True)
        )
        assert new_agent == 3 * row + column
        assert len({new_agent, *new_colors}) == 3
        sign = 1 if t // 40 % 2 == 0 else -1
        pays = {colors[0]: sign, colors[1]: -sign}.get(new_agent, -0.04)
        assert step.reward[b, t] == np.float32(pays)
        for old, new in zip(colors, new_colors, strict=True):
            assert (new == old) != (old == new_agent)
            reached += old == new_agent
        seen = np.concatenate(
            [np.eye(3)[list(divmod(cell, 3))].ravel() for cell in (new_agent, *new_colors)]
        )
        assert (step.obs[b, t] == seen).all()
    assert reached > 50


# ------------------------------------------------------------------------------------ distributions


@jax.jit
def sampled(levels, key):
    return jax.vmap(levels.sample)(jax.random.split(key, 64))


@pytest.mark.parametrize("name", envs.distributions())
def test_a_distribution_samples_levels_of_one_shape(name):
    levels = envs.distribution(name)
    family = jax.device_get(sampled(levels, jax.random.key(0)))
    assert jax.tree.structure(family) == jax.tree.structure(
        jax.eval_shape(levels.sample, jax.random.key(2))
    )
    assert all(x.shape[0] == 64 and np.isfinite(x).all() for x in jax.tree.leaves(family))
    if isinstance(family, LPGGrid):
        places = np.concatenate([family.start[:, None], family.objects], 1)
        assert all(len(set(row)) == len(row) for row in places)
        assert not np.take_along_axis(np.asarray(family.walls).reshape(64, -1), places, 1).any()
        assert (family.time_limit <= family.max_steps).all()
        assert ((family.types >= 0).sum(1) >= 1).all()
        assert len(np.unique(family.start)) > 1


def test_a_distribution_touches_no_device():
    """So that a configuration may name one before the number of cores is set."""
    code = (
        "import envs, jax; envs.distribution('LPGGrid-tiny', num_walls=2); "
        "envs.distribution('DelayedChain-long'); "
        "assert not jax._src.xla_bridge.backends_are_initialized()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("name", "best"),
    [("LPGGrid-tiny", 1.0), ("DelayedChain-long", 1.0), ("LPGGrid-rand_tiny", 3.0)],
)
def test_a_distribution_scores_its_levels(name, best):
    """1 is the best; where that is not known, the return itself."""
    levels = envs.distribution(name)
    level = jax.jit(levels.sample)(jax.random.key(0))
    exactly = {
        "LPGGrid-tiny": jax.jit(envs.solve.optimal_return),
        "DelayedChain-long": lambda chain: chain.reward,
    }
    ret = jnp.float32(exactly.get(name, lambda level: 3.0)(level))
    assert float(jax.jit(levels.score)(level, ret)) == pytest.approx(best)


def test_what_is_sampled_has_the_ranges_of_the_paper():
    levels = envs.distribution("LPGGrid-all")
    family = jax.jit(jax.vmap(levels.sample))(jax.random.split(jax.random.key(0), 3000))
    # the mean of a log-uniform sample
    assert float(family.time_limit.mean()) == pytest.approx(730 / np.log(37.5), rel=0.05)
    assert np.bincount((family.types >= 0).sum(1))[1:] == pytest.approx(600, rel=0.15)
    np.testing.assert_allclose(family.reward.mean(0), [0.5, 0, 0, 0, 0], atol=0.05)
    np.testing.assert_allclose(np.log10(family.termination).mean(0), -1, atol=0.05)
    np.testing.assert_allclose(np.log10(family.respawn).mean(0), -2, atol=0.05)


def test_reward_scales_are_spread_over_two_decades():
    family = tiny(jax.random.split(jax.random.key(0), 2000))
    plain = jax.jit(jax.vmap(replace(TINY, reward_scale=(1.0, 1.0)).sample))(
        jax.random.split(jax.random.key(0), 2000)
    )
    scale = np.asarray(family.reward / plain.reward)
    np.testing.assert_allclose(scale[:, 0], scale[:, 1], rtol=1e-4)
    assert np.abs(np.log10(scale)).max() <= 1.001
    assert np.log10(scale).std() == pytest.approx(2 / np.sqrt(12), rel=0.05)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_maze_has_one_way_from_each_room_to_each_other(seed):
    free = ~np.asarray(jax.jit(maze, static_argnums=1)(jax.random.key(seed), 9))
    cells = {tuple(cell) for cell in np.argwhere(free)}
    ways = sum((r + 1, c) in cells for r, c in cells) + sum((r, c + 1) in cells for r, c in cells)
    assert {(2 * i, 2 * j) for i in range(5) for j in range(5)} <= cells
    assert ways == len(cells) - 1  # a tree, if it hangs together
    found, edge = set(), {(0, 0)}
    while edge:
        found |= edge
        edge = {(r + i, c + j) for r, c in edge for i, j in MOVES} & cells - found
    assert found == cells


# ------------------------------------------------------------------------------------------- errors


MAP = "S0\n#.", (1.0,), (0.0,), (0.0,), 5


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (
            r"shape of walls: \(11, 11\) and \(13, 13\)",
            lambda: envs.family([envs.make("LPGGrid-dense", max_steps=50), big()]),
        ),
        (
            "one_hot=True and one_hot=False",
            lambda: envs.family([envs.make("LPGGrid-dense", one_hot=x) for x in (True, False)]),
        ),
        (
            "LPGGrid and Catch",
            lambda: envs.family([envs.make("LPGGrid-dense"), envs.make("Catch")]),
        ),
        ("got none", lambda: envs.family([])),
        (r"sides=\(5, 4\)", lambda: envs.distribution("LPGGrid-tiny", sides=(5, 4))),
        ("no room", lambda: envs.distribution("LPGGrid-tiny", sides=(2, 4), num_objects=(1, 4))),
        ("num_walls=25", lambda: envs.distribution("LPGGrid-tiny", num_walls=25)),
        ("odd", lambda: envs.distribution("LPGGrid-mazes", sides=(12, 12))),
        (r"length=\(1, 5\)", lambda: envs.distribution("DelayedChain-short", length=(1, 5))),
        ("side=1", lambda: envs.make("TwoColors", side=1)),
        ("LPGGrid-tiny", lambda: envs.distribution("LPGGrid-tin")),
        (
            r"write distribution\('LPGGrid-all'\).*InnerLoop\(\.\.\., lifetime=\(50, 250\)",
            lambda: envs.distribution("LPGGrid-all_randlife"),
        ),
        ("num_walls", lambda: envs.distribution("LPGGrid-tiny", walls=3)),
        ("respawn", lambda: envs.make("LPGGrid-dense", respawns=0.1)),
        ("rectangle", lambda: drawn("S0\n.", *MAP[1:])),
        ("one 'S'", lambda: drawn("..\n..", *MAP[1:])),
        (r"types \[1\]", lambda: drawn("S1\n..", *MAP[1:])),
        (
            "one level has",
            lambda: trail(tiny(jax.random.split(jax.random.key(0), 2)), jax.random.key(0)),
        ),
        (
            r"types.*\(2,\)",
            lambda: trail(replace(drawn(*MAP), types=jnp.zeros(2, int)), jax.random.key(0)),
        ),
        ("no room", lambda: trail(drawn("S", *MAP[1:]).__class__(**crowded()), jax.random.key(0))),
    ],
)
def test_errors(words, call):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()


def big():
    level = envs.make("LPGGrid-dense", max_steps=50)
    return replace(level, walls=jnp.zeros((13, 13), bool))


def crowded():
    level = drawn("S", *MAP[1:])
    return vars(level) | {"types": jnp.zeros(1, int), "objects": jnp.zeros(1, int)}


def test_a_family_is_its_members():
    levels = [envs.make("LPGGrid-long", time_limit=jnp.int32(n)) for n in (3, 5)]
    levels[1] = replace(levels[1], start=jnp.int32(7))
    family = envs.family(levels)
    states, _ = jax.vmap(LPGGrid.reset)(family, jax.random.split(jax.random.key(0), 2))
    assert isinstance(states, Walk)
    assert states.position.tolist() == [0, 7]
