"""Controllers: their formulas beside slow definitions, and what they do to a training run."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl.algorithms.trust_region import TrustRegion
from jaxrl.clock import Clock
from jaxrl.tree import replace

CONTROLLED = ("lr", "clip", "entropy_weight", "lam", "epoch_limit")
PPO = rl.tree.put(
    rl.ppo(num_envs=2, num_steps=4, epochs=4, minibatches=2),
    {"epoch_limit": 2.0, "network": rl.MLP((4,))},
)
MEASURED = {"kl": 0.04, "explained_variance": 0.5, "clip_fraction": 0.2}


CLOCK = Clock(30, 120.0)


def settings(weights, clock=CLOCK, measured=MEASURED, algo=PPO):
    controller = rl.LogLinear(jnp.asarray(weights, jnp.float32), controlled=CONTROLLED)
    state = {name: jnp.float32(value) for name, value in measured.items()}
    return controller.settings(algo, clock, state)


def test_hyperparameters_are_log_linear_in_the_features():
    """Beside the formula, one hyperparameter after another."""
    weights = np.random.default_rng(0).normal(size=(5, 6)) * 0.5
    features = [
        1.0,
        30 / 120,
        math.log10(120 / 100),
        math.log10(0.04 / 0.01) / 2,
        0.5,
        (0.2 - 0.1) / 0.2,
    ]
    found = settings(weights)
    own = {
        "lr": PPO.lr,
        "rule.objective.clip": 0.2,
        "rule.entropy_weight": 0.01,
        "rule.lam": 0.95,
        "epoch_limit": 2.0,
    }
    assert list(found) == list(own)
    for (name, value), row in zip(own.items(), weights, strict=True):
        exponent = sum(w * x for w, x in zip(row, features, strict=True))
        factor = math.exp(3.0 * math.tanh(exponent / 3.0))
        expected = 1.0 - 0.05 * factor if name == "rule.lam" else value * factor
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_measurements_are_clipped_and_an_unbounded_run_has_no_length():
    weights = np.zeros((5, 6))
    weights[0, 2:] = 1.0
    wild = {"kl": 1e9, "explained_variance": -50.0, "clip_fraction": 1.0}
    found = settings(weights, Clock(0, float("inf")), wild)
    np.testing.assert_allclose(found["lr"], PPO.lr * math.exp(3 * math.tanh(1 / 3)), rtol=1e-5)
    restarted = Clock(110, 120.0, jnp.int32(100))  # update 10 of 20
    controller = rl.LogLinear.zero("lr")
    np.testing.assert_allclose(
        controller.features(restarted, controller.init())[:3],
        [1.0, 0.5, math.log10(0.2)],
        rtol=1e-5,
    )
    weights[3, 0] = 9.0
    far = settings(weights, algo=rl.tree.put(PPO, {"lam": 0.5}))
    assert far["rule.lam"] == 0.0  # 1 - 0.5 e^3 is below the range


def test_the_rate_follows_the_kl():
    controller = rl.AdaptiveRate(target_kl=0.01, rate_step=2.0, rate_limit=4.0)
    state, factors = controller.init(), []
    for kl in (0.03, 0.01, 0.004, 0.001, 0.001, 0.001, 0.019):
        state = controller.post_update(state, {"kl": jnp.float32(kl)})
        factors.append(float(controller.settings(PPO, Clock(0, 1.0), state)["lr"] / PPO.lr))
    np.testing.assert_allclose(factors, [0.5, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0], rtol=1e-6)


@functools.cache
def trained(name):
    """Parameters and metrics after a few updates with a controller of this name."""
    constant = jnp.zeros((5, 6)).at[0, 0].set(3.0 * math.atanh(math.log(2.0) / 3.0))
    algo = {
        "none": PPO,
        "zero": replace(PPO, controller=rl.LogLinear.zero(*CONTROLLED)),
        "double rate": replace(PPO, controller=rl.LogLinear(constant, controlled=CONTROLLED)),
        "rate x 2": replace(PPO, lr=2.0 * PPO.lr),
        "half of the epochs": replace(
            PPO,
            controller=rl.LogLinear(
                jnp.zeros((1, 6)).at[0, 0].set(3.0 * math.atanh(math.log(0.48) / 3.0)),
                controlled=("epoch_limit",),
            ),
        ),
        "one epoch": replace(PPO, epoch_limit=1.0),
    }[name]

    def run(key):
        state = algo.init(key, TINY.env, 3)
        step = lambda state, key: algo.update(key, TINY.env, state)
        state, metrics = jax.lax.scan(step, state, jax.random.split(key, 3))
        return state.params, {x: metrics[x] for x in ("loss", "kl", "grad_norm")}

    return jax.jit(run)(jax.random.key(0))


def test_weights_of_zero_change_nothing():
    np.testing.assert_equal(*map(jax.device_get, (trained("zero"), trained("none"))))


@pytest.mark.parametrize(
    ("controlled", "by_hand"), [("double rate", "rate x 2"), ("half of the epochs", "one epoch")]
)
def test_an_update_learns_with_the_controlled_value(controlled, by_hand):
    each = lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-5)
    jax.tree.map(each, trained(controlled), trained(by_hand))
    same = jax.tree.map(np.allclose, trained(controlled)[0], trained("none")[0])
    assert not all(jax.tree.leaves(same))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rl.LogLinear(jnp.zeros((2, 6))), r"\[2, 6\].*\[4, 6\]"),
        (lambda: rl.LogLinear.zero(), "controls nothing"),
        (lambda: replace(PPO, controller=rl.Linear()), "takes an instance of Controller"),
        (lambda: init(rl.LogLinear.zero("learning")), "no field 'learning'"),
        (lambda: init(rl.LogLinear.zero("num_envs")), "num_envs.* is static"),
        (lambda: init(rl.LogLinear.zero("epoch_limit"), epoch_limit=math.inf), "epoch_limit=inf"),
        (lambda: init(rl.LogLinear.zero("value_clip")), "value_clip=inf"),
        (lambda: init(rl.LogLinear.zero("lam"), lam=1.0), r"lam=1\.0 stays so.*lam=0\.95"),
        (lambda: init(rl.LogLinear.zero("lr"), lr=0.0), r"lr=0\.0 stays so"),
        (lambda: init(rl.AdaptiveRate(), epochs=1, minibatches=1), "has only one"),
        (lambda: init(rl.AdaptiveRate(), policy_step=TrustRegion()), "policy_step=None"),
        (lambda: init(rl.LogLinear.zero("schedule")), "not a number"),
        (lambda: init(rl.AdaptiveRate(), rule=rl.LPG.random(jax.random.key(0), 4)), "reads kl"),
    ],
)
def test_what_can_not_be_controlled(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def init(controller, **changes):
    algo = rl.tree.put(PPO, {"controller": controller} | changes)

    def update(key):
        return algo.update(key, TINY.env, algo.init(key, TINY.env, 3))

    return jax.eval_shape(update, jax.random.key(0))
