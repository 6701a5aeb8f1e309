"""LPO satisfies the drift conditions of mirror learning for any weights, and may depend on time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import Choice

import jaxrl as rl

KINDS = {
    "no base": rl.LPO.random(jax.random.key(0), 8),
    "base Clip": rl.LPO.random(jax.random.key(1), 8, base=rl.Clip()),
    "time": rl.LPO.random(jax.random.key(2), 8, knows_time=True),
}
every = pytest.mark.parametrize("lpo", KINDS.values(), ids=KINDS)
RATIO, ADVANTAGE = (
    x.ravel()
    for x in jnp.meshgrid(
        jnp.geomspace(0.05, 20.0, 41).at[20].set(1.0), jnp.linspace(-5.0, 5.0, 11)
    )
)


@jax.jit
def drift_and_slope(lpo, ratio, advantage, fraction):
    one = lambda ratio, advantage: lpo.drift(ratio, advantage, fraction)
    return jax.vmap(jax.value_and_grad(one))(ratio, advantage)


@every
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-3, 1e3),
    fraction=st.floats(0.0, 1.0, width=32),
)
def test_the_drift_conditions_hold_for_any_weights(lpo, seed, scale, fraction):
    """D >= 0 everywhere; D = 0 and dD/dr = 0 at r = 1."""
    keys = iter(jax.random.split(jax.random.key(seed), 2))
    weights = jax.tree.map(lambda x: scale * jax.random.normal(next(keys), x.shape), lpo.weights)
    drift, slope = drift_and_slope(
        rl.tree.replace(lpo, weights=weights), RATIO, ADVANTAGE, fraction
    )
    assert np.all(np.isfinite(drift))
    assert np.all(np.isfinite(slope))
    assert np.all(drift >= 0.0)
    at_one = RATIO == 1.0
    assert at_one.sum() == 11
    np.testing.assert_array_equal(drift[at_one], 0.0)
    np.testing.assert_array_equal(slope[at_one], 0.0)
    assert np.any(drift > 0.0) or scale < 1.0


def test_the_drift_is_the_paper_s_formula():
    for name, lpo in KINDS.items():
        hidden, output = (
            np.asarray(lpo.weights[name], np.float64) for name in ("hidden", "output")
        )
        for r, a, fraction in [(0.7, 1.5, 0.3), (1.4, -0.5, 0.9), (1.9, 3.0, 0.0)]:
            z = np.array([np.log(r), np.log(r) ** 2, 1 - r, (1 - r) ** 2])
            x = np.clip(np.concatenate([z, a * z]), -2, 2)
            x = np.concatenate([x, fraction * x]) if lpo.knows_time else x
            base = r * a - min(r * a, np.clip(r, 0.8, 1.2) * a) if name == "base Clip" else 0.0
            expected = max(base + np.tanh(x @ hidden) @ output - 1e-4, 0.0)
            np.testing.assert_allclose(
                lpo.drift(jnp.float32(r), jnp.float32(a), fraction), expected, atol=1e-6
            )


def test_with_an_output_of_zeros_it_is_its_base():
    for base in (rl.PolicyGradient(), rl.Clip(), rl.SPO()):
        lpo = rl.LPO.random(jax.random.key(0), 8, base=base, zero=True)
        np.testing.assert_allclose(
            lpo(RATIO, ADVANTAGE), base(RATIO, ADVANTAGE), atol=2e-4, rtol=1e-4
        )


def test_with_time_inputs_it_changes_over_the_training_run():
    ratio, advantage = jnp.array([1.5]), jnp.array([1.0])
    values = lambda lpo: [float(lpo.at(rl.Clock(n, 10.0))(ratio, advantage)[0]) for n in (0, 5, 10)]
    assert len(set(values(rl.LPO.random(jax.random.key(4), 64, knows_time=True)))) == 3
    assert len(set(values(rl.LPO.random(jax.random.key(4), 64)))) == 1


def test_an_objective_of_your_own_may_depend_on_the_clock():
    @rl.pytree
    class Reversing(rl.Objective):
        """The policy gradient in the first half of the training run; then its opposite."""

        sign: float = 1.0

        def at(self, clock):
            return Reversing(jnp.where(clock.fraction < 0.5, 1.0, -1.0))

        def __call__(self, ratio, advantage):
            return self.sign * ratio * advantage

    rule = rl.Surrogate(Reversing(), entropy_weight=0.0, normalize_advantage=False)
    algo = rl.OnPolicy(
        rule=rule, lr=3e-3, schedule=rl.Constant(), network=rl.MLP((8,)), num_steps=16
    )
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, Choice(), steps=7680, evals=2, episodes=0)
    )(jax.random.key(0))
    assert metrics["return"][0] > 0.2 > -0.2 > metrics["return"][1] - metrics["return"][0]


def test_it_learns_and_many_drifts_are_one_program():
    """Eight drifts with different weights, vmapped."""

    def run(key):
        rule = rl.Surrogate(
            rl.LPO.random(key, 8, base=rl.Clip(), knows_time=True), entropy_weight=0.0
        )
        algo = rl.OnPolicy(rule=rule, lr=3e-3, network=rl.MLP((8,)), num_steps=16)
        return rl.train(
            jax.random.fold_in(key, 1), algo, Choice(), steps=3840, evals=2, episodes=0
        )[1]["return"][-1]

    returns = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 8))
    assert np.median(returns) > 0.5
