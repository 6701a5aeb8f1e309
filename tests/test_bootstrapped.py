"""A learner that tunes itself within its training run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice, obs_of
from test_evolution import LEARNER

import jaxrl as rl
from jaxrl import rollout
from jaxrl.meta import Bootstrap, PolicyGradientObjective, SelfTuning
from jaxrl.tree import replace

TARGET = replace(LEARNER, lr=0.05)


def test_no_gradient_flows_through_the_target():
    """The state is given, so the learning rates reach the value through the target alone: it
    follows them, at slope 0.
    """
    state = LEARNER.init(jax.random.key(0), Choice())

    @jax.jit
    @jax.value_and_grad
    def value(lrs):
        objective = Bootstrap(replace(LEARNER, lr=lrs[0]), num_updates=2)
        return objective(jax.random.key(1), replace(LEARNER, lr=lrs[1]), Choice(), state)[0]

    near, slope = value(jnp.array([0.05, 0.05]))
    assert near < 0.0
    assert value(jnp.array([0.1, 0.05]))[0] != near
    assert value(jnp.array([0.05, 0.1]))[0] != near
    assert (slope == 0.0).all()


@pytest.mark.parametrize(
    ("meta_objective", "updates"),
    [(Bootstrap(TARGET, num_updates=2), 3), (PolicyGradientObjective(), 2)],
    ids=["Bootstrap", "PolicyGradientObjective"],
)
def test_a_learner_without_a_learning_rate_finds_one(meta_objective, updates):
    algo = SelfTuning(LEARNER, meta_objective, lr=0.01, meta_params=("lr",), num_updates=2)
    steps = 20 * algo.steps_per_update
    state, metrics = jax.jit(rl.Training(algo, Choice(), steps=steps, evals=2, episodes=0))(
        jax.random.key(0)
    )
    assert state.params["lr"] > 0.02  # from 0
    assert metrics["return"][-1] > metrics["return"][0]
    assert not metrics["diverged"].any()
    assert int(state.learner.clock.n) == 20 * updates  # without the step of a target


def test_the_outer_objective_may_have_an_entropy_bonus():
    state = LEARNER.init(jax.random.key(0), Choice())
    gain = jax.jit(
        lambda weight: PolicyGradientObjective(entropy_weight=weight)(
            jax.random.key(1), LEARNER, Choice(), state
        )[0]
    )
    entropy = float(LEARNER.forward(Choice(), state, (), obs_of(0))[1]["policy"].entropy())
    assert entropy > 0.1
    assert float(gain(2.0) - gain(0.0)) == pytest.approx(2.0 * entropy, rel=1e-4)


def test_a_target_learner_of_another_shape_is_refused():
    algo = SelfTuning(LEARNER, Bootstrap(rl.OnPolicy(), num_updates=2), meta_params=("lr",))
    with pytest.raises(ValueError, match=r"make it of the learner, target_learner=rl\.tree"):
        rl.train(0, algo, Choice(), steps=10_000)


def test_a_recurrent_learner_is_refused():
    with pytest.raises(ValueError, match="without a memory"):
        SelfTuning(replace(LEARNER, memory=rl.GRU(4)), meta_params=("lr",)).init(
            jax.random.key(0), Choice()
        )


SELF_TUNING = SelfTuning(
    replace(LEARNER, lr=0.05),
    PolicyGradientObjective(),
    lr=0.01,
    meta_params=("lr",),
    num_updates=2,
)


def test_the_agent_is_all_that_acting_needs():
    """A policy made of the agent's leaves alone acts as the learner does."""
    state = SELF_TUNING.init(jax.random.key(0), Choice())
    leaves, structure = jax.tree.flatten(SELF_TUNING.agent(state))
    agent = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
    policy = SELF_TUNING.policy(Choice(), agent, greedy=True)
    own = LEARNER.policy(Choice(), LEARNER.agent(state.learner), greedy=True)
    episode = rollout.reset(jax.random.key(1), Choice())
    np.testing.assert_array_equal(
        policy(jax.random.key(2), episode)[1], own(jax.random.key(2), episode)[1]
    )
    found = SELF_TUNING.evaluate(jax.random.key(3), Choice(), state, 4).episode_return
    np.testing.assert_array_equal(rl.evaluate(jax.random.key(3), Choice(), policy, 4), found)


def test_its_policy_comes_back_from_a_folder(tmp_path):
    training = rl.Training(
        SELF_TUNING, Choice(), steps=4 * SELF_TUNING.steps_per_update, evals=2, eval_share=1.0
    )
    rl.sweep(training, {"seed": np.arange(2)}, folder=tmp_path, progress=False)
    policy = rl.policy(tmp_path, training, seed=1)
    state, _ = jax.jit(training)(1)
    own = SELF_TUNING.policy(Choice(), SELF_TUNING.agent(state), greedy=True)
    np.testing.assert_array_equal(
        rl.evaluate(jax.random.key(3), Choice(), policy, 4),
        rl.evaluate(jax.random.key(3), Choice(), own, 4),
    )
