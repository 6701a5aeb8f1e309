"""A population as an algorithm: its agent is the leader's, and comes back from a folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice
from searches import SPACE, NoEnv, State, Walk
from test_evolution import LEARNER

import jaxrl as rl
from jaxrl import tuning

POPULATION = tuning.population(LEARNER, {"lr": tuning.log(1e-3, 0.1)}, size=4, interval=2)


def test_the_agent_is_all_that_acting_needs():
    """A policy made of the agent's leaves alone earns what the leader earns."""
    init = jax.jit(lambda key: POPULATION.init(key, Choice()))
    update = jax.jit(lambda key, state: POPULATION.update(key, Choice(), state))
    state, metrics = update(jax.random.key(1), init(jax.random.key(0)))
    leaves, structure = jax.tree.flatten(POPULATION.agent(state))
    agent = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
    np.testing.assert_allclose(
        POPULATION.setting(agent.point)["lr"], metrics["setting.lr"], rtol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, agent.agent.params, state.params)
    policy = POPULATION.policy(Choice(), agent, greedy=True)
    found = POPULATION.evaluate(jax.random.key(3), Choice(), state, 4).episode_return
    np.testing.assert_array_equal(rl.evaluate(jax.random.key(3), Choice(), policy, 4), found)


def test_its_policy_comes_back_from_a_folder(tmp_path):
    training = rl.Training(
        POPULATION, Choice(), steps=4 * POPULATION.steps_per_update, evals=2, eval_share=1.0
    )
    rl.sweep(training, {"seed": np.arange(2)}, folder=tmp_path, progress=False)
    policy = rl.policy(tmp_path, training, seed=1)
    state, _ = jax.jit(training)(1)
    own = POPULATION.policy(Choice(), POPULATION.agent(state), greedy=True)
    np.testing.assert_array_equal(
        rl.evaluate(jax.random.key(3), Choice(), policy, 4),
        rl.evaluate(jax.random.key(3), Choice(), own, 4),
    )


def test_a_population_is_an_algorithm_that_is_swept_and_finds_a_good_setting(tmp_path):
    pbt = tuning.population(Walk(noise=0.0), {"lr": tuning.log(1e-4, 0.5)}, size=8, interval=2)
    training = rl.Training(pbt, NoEnv(), steps=8 * 2 * 10 * 12, evals=3, episodes=0)
    results = rl.sweep(training, {"seed": np.arange(3)}, folder=tmp_path / "a", progress=False)
    alone = rl.Training(Walk(noise=0.0), NoEnv(), steps=2 * 10 * 12, evals=3, episodes=0)
    rates = rl.sweep(
        alone, {"lr": np.geomspace(1e-4, 0.5, 9), "seed": np.arange(3)}, progress=False
    )
    # most of the rates on a grid are worse
    assert (results["return"][:, -1].mean() > rates["return"].isel(step=-1).mean("seed")).sum() >= 7
    assert (results["setting.lr"][:, -1] > 0.01).all()


def test_the_exchange_copies_the_best_over_the_worst_and_moves_only_those():
    pbt = tuning.population(
        Walk(), {"lr": tuning.log(1e-3, 1.0), "noise": tuning.uniform(0.0, 0.3)}, size=8
    )
    state = jax.jit(pbt.init)(jax.random.key(0), NoEnv())
    ranked = jnp.array([3, 1, 2, 0, 4, 5, 7, 6])
    np.testing.assert_array_equal(
        pbt.policy(NoEnv(), pbt.agent(state), greedy=True)(jax.random.key(2), None)[1],
        state.members.params[0],
    )
    state = rl.tree.replace(state, scores=jnp.arange(8.0), leader=ranked[0])
    after = jax.jit(pbt._exchange)(jax.random.key(1), state, ranked)
    stay = np.array([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(after.points[stay], state.points[stay])
    np.testing.assert_array_equal(after.members.params[stay], state.members.params[stay])
    for loser in (6, 7):
        assert any(
            (after.members.params[loser] == state.members.params[best]).all() for best in (1, 3)
        )
        assert not any((after.points[loser] == state.points[other]).all() for other in range(8))
    assert ((after.points >= 0) & (after.points <= 1)).all()


def test_a_diverged_member_is_never_the_leader():
    @rl.pytree
    class Fragile(Walk):
        def update(self, key, env, state):
            state, metrics = Walk.update(self, key, env, state)
            lost = self.lr > 0.5
            is_late = lost & (state.clock.n > 1)
            score = jnp.where(is_late, jnp.nan, jnp.where(lost, 9.0, metrics["return"]))
            params = jnp.where(is_late, jnp.nan, state.params)
            return State(params, state.clock), metrics | {"return": score}

    pbt = tuning.population(Fragile(), {"lr": tuning.uniform(0.0, 1.0)}, size=8, interval=1)
    state = pbt.init(jax.random.key(0), NoEnv())
    for i in range(3):
        state, metrics = jax.jit(pbt.update)(jax.random.key(i), NoEnv(), state)
    assert metrics["setting.lr"] < 0.5
    assert np.isfinite(pbt.agent(state).agent).all()


@pytest.mark.parametrize(
    ("error", "make", "match"),
    [
        (
            TypeError,
            lambda: tuning.population(Walk(), {"size": tuning.integer(1, 3)}),
            "shapes the program",
        ),
        (
            TypeError,
            lambda: tuning.population(Walk(), {"unused": tuning.choice("a", "b")}),
            "shapes the program",
        ),
        (ValueError, lambda: tuning.population(Walk(), {"lr": 0.1}), "not a range"),
        (ValueError, lambda: tuning.population(Walk(), {"rate": tuning.uniform(0, 1)}), "no field"),
        (ValueError, lambda: tuning.population(Walk(), SPACE, size=1), "size=1"),
    ],
)
def test_an_invalid_population_is_refused(error, make, match):
    with pytest.raises(error, match=match):
        make()
