"""What every rule promises."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl import rules
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock

RULES = {
    "ppo": rl.Surrogate(),
    "ppo_value_clip": rl.Surrogate(value_clip=0.2),
    "a2c": rl.Surrogate(rl.PolicyGradient(), normalize_advantage=False),
    "reinforce": rl.Surrogate(rl.PolicyGradient(), lam=1.0, normalize_advantage=False, baseline=False),
    "spo": rl.Surrogate(rl.SPO()),
    "dpo": rl.Surrogate(rl.DPO()),
    "lpo": rl.Surrogate(rl.LPO.random(jax.random.key(1), 8)),
    "ta_lpo": rl.Surrogate(rl.LPO.random(jax.random.key(2), 8, base=rl.Clip(), knows_time=True)),
    "ppo_penalty": rl.Surrogate(rl.PolicyGradient(), penalty=rules.AdaptivePenalty()),
    "mdpo": rl.Surrogate(rl.PolicyGradient(), penalty=rules.MirrorDescent()),
    "impala": rules.VTrace(),
    "rloo": rules.Group(entropy_weight=0.1),
    "remax": rules.Group(advantage=rules.OverGreedy(), group_size=2, entropy_weight=0.1),
    "grpo": rules.Group(rl.Clip(), rules.Standardized(), 0.9, 0.1, per_episode=True, penalty=rules.FixedPenalty(0.1)),
}
every = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
once = {name: rule for name, rule in RULES.items() if name != "impala"}  # whose advantages are made once a rollout
SHAPE = (6, 4)


def experience(seed=0, scale=1.0):
    """A rollout; `scale` multiplies its rewards and values."""
    keys = jax.random.split(jax.random.key(seed), 6)
    real = lambda i, *more: jax.random.normal(keys[i], (*SHAPE, *more)) * (1.0 if i == 1 else scale)
    terminated = jax.random.bernoulli(keys[4], 0.2, SHAPE)
    out = {"value": real(0, 1), "policy": rl.Discrete(3).policy({"logits": real(1, 3)})}
    next_out = out | {"value": real(2, 1)}
    action = jax.random.randint(keys[5], SHAPE, 0, 3)
    zeros = jnp.zeros(SHAPE)
    return out, next_out, Transition(zeros, action, real(3), zeros, terminated, jnp.zeros(SHAPE, bool), zeros, zeros, ())


def loss_of(rule, logits, seed=0, scale=1.0):
    out, next_out, batch = experience(seed, scale)
    clock = Clock(3, 10.0)
    _, targets = rule.targets(rule.init(jax.random.key(0), {}), out, next_out, batch, clock)
    moved = out | {"policy": rl.Discrete(3).policy({"logits": out["policy"].logits + logits})}
    whole = getattr(rule, "whole_trajectories", False)
    turn = lambda x: x.swapaxes(0, 1) if whole else x
    return rule.loss(*jax.tree.map(turn, (moved, batch, targets)), clock)


def plain(rule):
    """The rule without what is beside the policy gradient."""
    without = {"entropy_weight": 0.0, "normalize_advantage": False}
    return rl.tree.replace(rule, **{name: value for name, value in without.items() if hasattr(rule, name)})


@every
def test_the_loss_is_finite_and_has_the_metrics_of_the_house(rule):
    loss, metrics = loss_of(rule, 0.3)
    assert np.isfinite(loss)
    assert set(metrics) >= {"loss", "entropy", "kl", "clip_fraction"} | ({"explained_variance"} if rule.heads else set())
    assert all(np.isfinite(x) and x.shape == () for x in metrics.values())


@every
def test_no_advantage_no_policy_gradient(rule):
    grad = jax.grad(lambda logits: loss_of(plain(rule), logits, scale=0.0)[0])(jnp.zeros((*SHAPE, 3)))
    np.testing.assert_allclose(grad, 0.0, atol=1e-7)


@pytest.mark.parametrize("rule", once.values(), ids=once)
def test_at_ratio_one_the_gradient_is_the_policy_gradient(rule):
    rule = plain(rule)
    out, _, batch = experience()
    grad = jax.grad(lambda logits: loss_of(rule, logits)[0])(jnp.zeros((*SHAPE, 3)))
    _, targets = rule.targets(rule.init(jax.random.key(0), {}), *experience(), Clock(0, 1.0))
    p = jax.nn.softmax(out["policy"].logits)
    score = jax.nn.one_hot(batch.action, 3) - p
    worth = targets.advantage * (1.0 if isinstance(targets.weight, tuple) else targets.weight)
    np.testing.assert_allclose(grad, -worth[..., None] * score / np.prod(SHAPE), atol=1e-5)


@every
def test_the_meta_gradient_is_finite_and_not_zero(rule):
    """Of what a learner is worth after two updates, with respect to each float of the rule that they read."""

    def worth(rule):
        logits = jnp.zeros((*SHAPE, 3))
        for _ in range(2):  # the first is at ratio 1, where no drift has a say
            logits -= 10.0 * jax.grad(lambda logits: loss_of(rule, logits)[0])(logits)
        return loss_of(RULES["a2c"], logits, seed=1)[0]

    grads = jax.jit(jax.grad(worth, allow_int=True))(rule)
    read = {"gamma", "lam", "entropy_weight", "objective.weights", "weights"} & set(rl.tree.paths(rule))
    for name in read:
        for value in jax.tree.leaves(operator.attrgetter(name)(grads)):
            assert np.all(np.isfinite(value)), name
            assert np.any(value != 0.0), name


def test_clip_is_the_paper_s_equation():
    for ratio in (0.5, 0.9, 1.0, 1.1, 1.5):
        for advantage in (-2.0, 0.0, 1.0):
            expected = min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
            assert float(rl.Clip(0.2)(jnp.array(ratio), jnp.array(advantage))) == pytest.approx(expected)


def test_an_objective_of_your_own_is_a_pytree_with_a_call():
    @rl.pytree
    class Quadratic:
        strength: float = 5.0

        def __call__(self, ratio, advantage):
            return ratio * advantage - self.strength * (ratio - 1.0) ** 2

    algo = rl.OnPolicy(rule=rl.Surrogate(Quadratic(), entropy_weight=0.0), lr=3e-3, network=rl.MLP((8,)), num_steps=16)
    _, metrics = jax.jit(lambda key: rl.train(key, algo, Choice(), steps=3840, evals=2, episodes=0))(jax.random.key(0))
    assert metrics["return"][-1] > 0.8
