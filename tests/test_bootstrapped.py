"""A learner that tunes itself while it lives."""

import jax
import jax.numpy as jnp
import pytest
from probes import Choice, obs_of
from test_evolution import LEARNER

import jaxrl as rl
from jaxrl.meta import Bootstrap, PolicyGradientObjective, SelfTuning
from jaxrl.tree import replace

TRUTH = replace(LEARNER, lr=0.05)


def test_no_gradient_flows_through_the_target():
    """The state is given, so the learning rates reach the value through the target alone: it
    follows them, at slope 0.
    """
    state = LEARNER.init(jax.random.key(0), Choice())

    @jax.jit
    @jax.value_and_grad
    def value(lrs):
        aim = Bootstrap(replace(LEARNER, lr=lrs[0]), num_updates=2)
        return aim(jax.random.key(1), replace(LEARNER, lr=lrs[1]), Choice(), state)[0]

    near, slope = value(jnp.array([0.05, 0.05]))
    assert near < 0.0
    assert value(jnp.array([0.1, 0.05]))[0] != near
    assert value(jnp.array([0.05, 0.1]))[0] != near
    assert (slope == 0.0).all()


@pytest.mark.parametrize(
    ("aim", "lived"),
    [(Bootstrap(TRUTH, num_updates=2), 3), (PolicyGradientObjective(), 2)],
    ids=["Bootstrap", "PolicyGradientObjective"],
)
def test_a_learner_that_stands_still_gives_itself_a_learning_rate(aim, lived):
    algo = SelfTuning(LEARNER, aim, lr=0.01, meta_params=("lr",), num_updates=2)
    steps = 20 * algo.steps_per_update
    state, metrics = jax.jit(rl.Training(algo, Choice(), steps=steps, evals=2, episodes=0))(
        jax.random.key(0)
    )
    assert state.params["lr"] > 0.02  # from 0
    assert metrics["return"][-1] > metrics["return"][0]
    assert not metrics["diverged"].any()
    assert int(state.learner.clock.n) == 20 * lived  # the true step of a target is not lived


def test_the_outer_objective_may_have_an_entropy_bonus():
    state = LEARNER.init(jax.random.key(0), Choice())
    gain = jax.jit(
        lambda weight: PolicyGradientObjective(entropy_weight=weight)(
            jax.random.key(1), LEARNER, Choice(), state
        )[0]
    )
    entropy = float(LEARNER.look(Choice(), state, (), obs_of(0))[1]["policy"].entropy())
    assert entropy > 0.1
    assert float(gain(2.0) - gain(0.0)) == pytest.approx(2.0 * entropy, rel=1e-4)


def test_a_truth_of_another_shape_is_refused():
    algo = SelfTuning(LEARNER, Bootstrap(rl.OnPolicy(), num_updates=2), meta_params=("lr",))
    with pytest.raises(ValueError, match=r"make it of the learner, truth=rl\.tree\.replace"):
        rl.train(0, algo, Choice(), steps=10_000)


def test_a_memory_is_refused():
    with pytest.raises(ValueError, match="without a memory"):
        SelfTuning(replace(LEARNER, memory=rl.GRU(4)), meta_params=("lr",)).init(
            jax.random.key(0), Choice()
        )
