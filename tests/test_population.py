"""A population as an algorithm: its agent is the leader's, and comes back from a folder."""

import jax
import numpy as np
from probes import Choice
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
