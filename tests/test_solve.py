"""Exact solutions against slow ones: recursions over outcomes, NumPy's linear algebra, and policies
that are played.
"""

import itertools
from functools import cache, partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_levels import cell_after, member, tiny

import envs
from envs import solve, tabular
from jaxrl.tree import replace

STEPS = 6


def slow_return(level, gamma, choose):
    """The value of a level's start by recursion over every outcome of every step.

    `choose`: action values -> value.
    """
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
        return choose(
            [arrive(steps, cell_after(level, cell, action), exists) for action in range(5)]
        )

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

    return value(
        min(int(level.time_limit), level.max_steps),
        int(level.start),
        tuple(k >= 0 for k in level.types),
    )


@jax.jit
def exact(levels, gamma):
    of = lambda function: jax.vmap(partial(function, gamma=gamma))(levels)
    return of(solve.optimal_return), of(solve.random_return)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_returns_are_those_of_every_outcome(gamma):
    levels = tiny(jax.random.split(jax.random.key(0), 8))
    respawn = 10 * levels.respawn  # so that it counts within a few steps
    levels = replace(
        levels,
        time_limit=jnp.arange(8) % STEPS + 1,
        respawn=respawn,
        types=levels.types.at[0, 0].set(-1),
    )
    best, random = exact(levels, gamma)
    for i in range(8):
        level = member(levels, i)
        np.testing.assert_allclose(best[i], slow_return(level, gamma, max), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            random[i], slow_return(level, gamma, np.mean), rtol=1e-5, atol=1e-6
        )


def test_the_clock_ends_what_the_level_does_not():
    level = replace(envs.make("LPGGrid-rand_tiny", max_steps=4), roaming=False)
    assert float(solve.optimal_return(level)) == slow_return(level, 1.0, max) > 0


@jax.jit
def played(levels, key):
    """Returns of the best policy, which knows how many steps are left, and of a random one, played
    often. [levels, 2].
    """

    def best(level):
        nothing = jnp.zeros((4, level.num_cells))
        back = lambda value, _: (
            solve.backup(level, value).max(0),
            solve.backup(level, value).argmax(0),
        )
        return jax.lax.scan(back, nothing, None, 50)[1]  # actions by steps to go, less one

    def episode(level, actions, key):
        key_reset, key_act, key_step = jax.random.split(key, 3)
        state, _ = level.reset(key_reset)

        def go(now, t):
            state, total, over = now
            mask = (state.exists * jnp.array([1, 2])).sum()
            random = jax.random.randint(jax.random.fold_in(key_act, t), (), 0, 5)
            action = (
                random
                if actions is None
                else actions[jnp.maximum(level.time_limit - t - 1, 0), mask, state.position]
            )
            state, step = level.step(jax.random.fold_in(key_step, t), state, action)
            return (state, total + jnp.where(over, 0.0, step.reward), over | step.terminated), None

        return jax.lax.scan(go, (state, jnp.float32(0.0), jnp.bool_(False)), jnp.arange(50))[0][1]

    def both(level, key):
        keys = jax.random.split(key, (2, 3000))
        means = [
            jax.vmap(episode, (None, None, 0))(level, how, k)
            for how, k in zip((best(level), None), keys, strict=True)
        ]
        return jnp.stack([jnp.stack([x.mean(), x.std() / jnp.sqrt(3000)]) for x in means])

    return jax.vmap(both)(levels, jax.random.split(key, levels.start.shape[0]))


def test_returns_are_what_is_earned_by_playing():
    levels = tiny(jax.random.split(jax.random.key(3), 6))
    best, random = exact(levels, 1.0)
    earned = np.asarray(played(levels, jax.random.key(4)))
    for exactly, (mean, error) in zip(
        np.stack([best, random], 1).reshape(-1), earned.reshape(-1, 2), strict=True
    ):
        assert abs(mean - exactly) < 4 * error + 1e-5


def test_a_score_is_0_for_random_and_1_for_the_best():
    level = member(tiny(jax.random.split(jax.random.key(0), 1)), 0)
    best, random = (x[0] for x in exact(jax.tree.map(lambda x: x[None], level), 1.0))
    score = jax.jit(solve.score)
    np.testing.assert_allclose(
        score(level, jnp.stack([random, best, (random + best) / 2])), [0, 1, 0.5], atol=1e-5
    )
    assert (
        score(replace(level, reward=jnp.zeros(2)), jnp.array([0.0, 0.0, -1.0]))
        == jnp.array([1.0, 1.0, 0.0])
    ).all()


def test_roaming_objects_have_no_exact_return():
    with pytest.raises(ValueError, match="roam"):
        solve.optimal_return(envs.make("LPGGrid-rand_tiny"))


# ---------------------------------------------------------------------------------------- TwoColors


def test_the_best_rate_of_two_colors_is_that_of_its_process():
    """All 24 states of a 2 x 2 grid, listed, as a process that is solved with a long view."""
    env = envs.make("TwoColors", side=2)
    states = list(itertools.permutations(range(4), 3))
    transition, reward = np.zeros((24, 4, 24)), np.zeros((24, 4, 1))
    for (s, (agent, good, bad)), a in itertools.product(enumerate(states), range(4)):
        new = int(env.move(jnp.int32(agent), a))
        reward[s, a] = {good: 1.0, bad: -1.0}.get(new, -0.04)
        goods = [c for c in range(4) if c not in (new, bad)] if new == good else [good]
        bads = [c for c in range(4) if c not in (new, good)] if new == bad else [bad]
        for after in itertools.product([new], goods, bads):
            transition[s, a, states.index(after)] = 1 / (len(goods) * len(bads))
    transition, reward = (jnp.array(x, jnp.float32) for x in (transition, reward))
    mdp = tabular.TabularMDP(transition, reward, jnp.zeros(24, bool), jnp.ones(24) / 24)
    best, *_ = solved(mdp, jnp.full((24, 4), 0.25), jnp.float32(0.999))
    rate = float(jax.jit(solve.best_rate)(env))
    assert rate == pytest.approx(0.001 * float(best.max(1).mean()), abs=2e-3)
    assert 0.3 < rate < 1.0


def test_the_best_lifetime_on_the_full_grid_leaves_the_bad_colour_in_a_corner():
    """It is not in the way there: the shortest walk to the good colour pays 1, less 0.04 for each
    step before the last.
    """
    row, column = np.divmod(np.arange(1, 25), 5)
    walk = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    rate = 1.04 / walk[walk > 0].mean() - 0.04
    assert float(jax.jit(solve.best_rate)(envs.make("TwoColors"))) == pytest.approx(rate, abs=1e-5)


# --------------------------------------------------------------------------------------- TabularMDP


MDPS = {name: envs.make(name) for name in tabular.MDPS} | {
    "Garnet": tabular.garnet(jax.random.key(0), 8, 3, 2)
}


@jax.jit
def solved(mdp, policy, gamma):
    return (
        solve.optimal_q(mdp, gamma),
        solve.policy_q(mdp, policy, gamma),
        solve.occupancy(mdp, policy, gamma),
    )


def expected(mdp):
    """Transitions between states where one acts, and expected rewards, in double precision."""
    on = ~np.asarray(mdp.terminal)
    move = np.asarray(mdp.transition, float)
    reward = np.einsum("sat,sat->sa", move, np.broadcast_to(mdp.reward, move.shape)) * on[:, None]
    return move * on[:, None, None] * on, reward


@pytest.mark.parametrize("gamma", [0.5, 0.99])
@pytest.mark.parametrize("name", MDPS)
def test_values_and_occupancies_are_those_of_numpy(name, gamma):
    mdp = MDPS[name]
    move, reward = expected(mdp)
    policy = np.random.default_rng(0).dirichlet(np.ones(reward.shape[1]), len(reward))
    best, q, time = solved(mdp, jnp.array(policy, jnp.float32), jnp.float32(gamma))
    under = np.einsum("sa,sat->st", policy, move)
    visits = np.linalg.inv(np.eye(len(under)) - gamma * under)
    size = np.abs(reward).max() / (1 - gamma)
    np.testing.assert_allclose(
        q, reward + gamma * move @ visits @ (policy * reward).sum(1), atol=1e-5 * size
    )
    start = np.asarray(mdp.start) * ~np.asarray(mdp.terminal)
    np.testing.assert_allclose(time, (1 - gamma) * (start @ visits)[:, None] * policy, atol=1e-5)
    slow = np.zeros_like(reward)
    for _ in range(3000):
        slow = reward + gamma * move @ slow.max(1)
    np.testing.assert_allclose(best, slow, atol=1e-5 * size)
    assert (np.asarray(best) >= np.asarray(q) - 1e-5 * size).all()


def test_families_of_processes_are_solved_at_once():
    keys = jax.random.split(jax.random.key(0), 20)
    family = jax.vmap(lambda key: tabular.garnet(key, 6, 2, 2))(keys)
    together = jax.jit(jax.vmap(partial(solve.optimal_q, gamma=0.9)))(family)
    alone = jax.jit(partial(solve.optimal_q, gamma=0.9))
    for i in range(3):
        np.testing.assert_allclose(together[i], alone(member(family, i)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("MDP-FrozenLake", "4x4"), ("MDP-FrozenLake8x8", "8x8")]
)
def test_frozen_lake_is_gymnasiums(name, size):
    mdp, table = envs.make(name), gymnasium.make("FrozenLake-v1", map_name=size).unwrapped.P
    for s, a in itertools.product(table, range(4)):
        if mdp.terminal[s]:
            continue
        chances, reward = np.zeros(len(table)), np.zeros(len(table))
        for chance, new, pay, ends in table[s][a]:
            chances[new] += chance
            reward[new] = pay
            assert ends == mdp.terminal[new]
        np.testing.assert_allclose(mdp.transition[s, a], chances, atol=1e-6)
        np.testing.assert_allclose((mdp.transition * mdp.reward)[s, a], chances * reward, atol=1e-6)
    assert mdp.start[0] == 1.0
    if size == "4x4":  # the best chance of reaching its goal is known
        assert float(solve.optimal_q(mdp, 0.99999)[0].max()) == pytest.approx(14 / 17, abs=1e-3)


def test_river_swim_is_the_environment():
    mdp, env = envs.make("MDP-RiverSwim"), envs.make("RiverSwim")
    play = jax.jit(
        lambda key, *now: jax.vmap(env.step, (0, None, None))(jax.random.split(key, 4000), *now)
    )
    for s, a in itertools.product(range(6), range(2)):
        new, step = jax.device_get(play(jax.random.key(10 * s + a), jnp.int32(s), jnp.int32(a)))
        np.testing.assert_allclose(
            np.bincount(new, minlength=6) / 4000, mdp.transition[s, a], atol=0.03
        )
        np.testing.assert_allclose(step.reward, mdp.reward[s, a][new], atol=1e-6)
    assert mdp.start.tolist() == [0, 0.5, 0.5, 0, 0, 0]


def test_a_chain_pays_for_going_on():
    """Dearden et al.

    (1998): from the start, forward is worth it with a long view, the small reward with a short one.
    """
    mdp = envs.make("MDP-Chain")
    np.testing.assert_allclose(
        mdp.transition[2], [[0.2, 0, 0, 0.8, 0], [0.8, 0, 0, 0.2, 0]], atol=1e-6
    )
    np.testing.assert_allclose(mdp.reward[4], [[2, 0, 0, 0, 10]] * 2)
    assert solve.optimal_q(mdp, 0.99)[0].argmax() == 0
    assert solve.optimal_q(mdp, 0.5)[0].argmax() == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_garnet_branches(seed):
    mdp = jax.jit(lambda key: tabular.garnet(key, 7, 3, 4))(jax.random.key(seed))
    np.testing.assert_allclose(mdp.transition.sum(-1), 1.0, rtol=1e-5)
    assert ((mdp.transition > 0).sum(-1) == 4).all()
    assert (mdp.reward != 0).all()


def test_a_share_of_a_garnet_rewards():
    rewards = jax.vmap(lambda key: tabular.garnet(key, 10, 4, density=0.1).reward)(
        jax.random.split(jax.random.key(0), 50)
    )
    np.testing.assert_allclose((rewards != 0).mean(), 0.1, atol=0.02)  # of 2,000 pairs


def test_a_process_is_played_by_its_arrays():
    """What is earned by playing is what the occupancy says: (1 - gamma) times the discounted
    return.
    """
    mdp, gamma = MDPS["Garnet"], 0.8

    def episode(key):
        key_reset, key_act, key_step = jax.random.split(key, 3)
        state, _ = mdp.reset(key_reset)
        actions = jax.random.randint(key_act, (40,), 0, 3)
        go = lambda state, x: mdp.step(jax.random.fold_in(key_step, x[0]), state, x[1])
        return (
            gamma ** jnp.arange(40) * jax.lax.scan(go, state, (jnp.arange(40), actions))[1].reward
        ).sum()

    earned = np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(1), 4000)))
    time = solved(mdp, jnp.full((8, 3), 1 / 3), jnp.float32(gamma))[2]
    exactly = float((time * (mdp.transition * mdp.reward).sum(-1)).sum() / (1 - gamma))
    assert abs(earned.mean() - exactly) < 4 * earned.std() / np.sqrt(4000)
    assert float(time.sum()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (
            "do not form a process",
            lambda: solve.optimal_q(replace(MDPS["Garnet"], start=jnp.ones(3)), 0.9),
        ),
        (
            "do not form a process",
            lambda: replace(MDPS["Garnet"], reward=jnp.ones((8, 3))).reset(jax.random.key(0)),
        ),
        (
            "vmap",
            lambda: jax.vmap(tabular.garnet)(jax.random.split(jax.random.key(0), 2)).reset(
                jax.random.key(0)
            ),
        ),
        ("branching=11", lambda: tabular.garnet(jax.random.key(0), branching=11)),
        ("rectangle", lambda: tabular.frozen_lake("SF G")),
        ("rectangle", lambda: tabular.frozen_lake("FF FG")),
    ],
)
def test_errors(words, call):
    with pytest.raises(ValueError, match=words):
        call()
