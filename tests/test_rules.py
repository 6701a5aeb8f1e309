"""What every rule promises."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl import rules
from jaxrl.rollout import Transition
from jaxrl.rules.base import Clock, policy, policy_heads
from jaxrl.rules.disco_network import shapes


def disco_weights():
    random = np.random.default_rng(0)
    scale = lambda shape: shape[-2] ** -0.5 if len(shape) > 1 else 0.1
    return {
        name: jnp.asarray(random.normal(0.0, scale(shape), shape), jnp.float32)
        for name, shape in shapes().items()
    }


POLICIES = {
    "ppo": rl.Surrogate(),
    "ppo_value_clip": rl.Surrogate(value_clip=0.2),
    "a2c": rl.Surrogate(rl.PolicyGradient(), normalize_advantage=False),
    "reinforce": rl.Surrogate(
        rl.PolicyGradient(), lam=1.0, normalize_advantage=False, baseline=False
    ),
    "spo": rl.Surrogate(rl.SPO()),
    "dpo": rl.Surrogate(rl.DPO()),
    "lpo": rl.Surrogate(rl.LPO.random(jax.random.key(1), 8)),
    "ta_lpo": rl.Surrogate(rl.LPO.random(jax.random.key(2), 8, base=rl.Clip(), knows_time=True)),
    "ppo_penalty": rl.Surrogate(rl.PolicyGradient(), penalty=rules.AdaptivePenalty()),
    "mdpo": rl.Surrogate(rl.PolicyGradient(), penalty=rules.MirrorDescent()),
    "impala": rules.VTrace(),
    "rloo": rules.Group(entropy_weight=0.1),
    "remax": rules.Group(advantage=rules.GreedyBaseline(), group_size=2, entropy_weight=0.1),
    "grpo": rules.Group(
        rl.Clip(), rules.Standardized(), 0.9, 0.1, per_episode=True, penalty=rules.FixedPenalty(0.1)
    ),
}
OTHERS = {  # whose policy is not pushed by an advantage: it follows values, or what a network says
    "pqn": rules.QLambda(),
    "dqn": rl.TD(),
    "dqn_reg": rl.TD(rules.DQNReg()),
    "dqn_clipped": rl.TD(rules.DQNClipped()),
    "lpg": rl.LPG.random(jax.random.key(3), 8, categories=4),
    "ta_lpg": rl.LPG.random(jax.random.key(4), 8, categories=4, knows_time=True),
    "disco": rules.Disco(disco_weights()),
}
RULES = POLICIES | OTHERS
every = pytest.mark.parametrize("name", RULES)
once = {
    name: rule for name, rule in POLICIES.items() if name != "impala"
}  # whose advantages are made once a rollout
SHAPE, SPACE, CLOCK = (6, 4), rl.Discrete(3), Clock(3, 10.0)
TUNED = (
    "gamma",
    "lam",
    "entropy_weight",
    "objective.weights",
    "criterion.weight",
    "prediction_weight",
    "weights",
)


def read(rule, heads):
    return heads | {"policy": policy(rule, SPACE, heads, CLOCK)}


def experience(rule, seed=0, scale=1.0):
    """The learner's heads, what it reads of a rollout, at each step and the next, and the rollout.

    `scale` multiplies rewards and all heads but the policy's. Drawn by NumPy, which compiles
    nothing.
    """
    random = np.random.default_rng(seed)
    real = lambda *more, by=scale: jnp.asarray(
        by * random.normal(size=(*SHAPE, *more)), jnp.float32
    )
    sizes = policy_heads(rule, SPACE) | rule.heads
    draw = lambda: {
        head: real(size, by=1.0 if head == "logits" else scale) for head, size in sizes.items()
    }
    heads, next_heads = draw(), draw()
    out, next_out = read(rule, heads), read(rule, next_heads)
    if hasattr(rule, "slow"):
        out, next_out = out | {"slow": read(rule, draw())}, next_out | {"slow": read(rule, draw())}
    terminated, action = (
        jnp.asarray(random.random(SHAPE) < 0.2),
        jnp.asarray(random.integers(0, 3, SHAPE)),
    )
    zeros = jnp.zeros(SHAPE)
    played = Transition(
        zeros, action, real(), zeros, terminated, jnp.zeros(SHAPE, bool), zeros, zeros, ()
    )
    return heads, out, next_out, played


def prepared(rule, out, next_out, batch):
    """Targets of a rollout, and the loss as a function of heads; for a rule that remembers, in its
    second update.
    """
    carry = rule.init(jax.random.key(0), {})
    for _ in range(2 if hasattr(rule, "slow") else 1):
        carry, targets = rule.targets(carry, out, next_out, batch, CLOCK)
    whole = getattr(rule, "whole_trajectories", False)
    turn = lambda x: x.swapaxes(0, 1) if whole else x
    return targets, lambda heads: rule.loss(
        *jax.tree.map(turn, (read(rule, heads), batch, targets)), CLOCK
    )


@jax.jit
def update(rule, heads, seen):
    """Targets of a rollout, the gradient at the heads that played it, and the loss and metrics of
    heads that moved on.
    """
    targets, loss = prepared(rule, *seen)
    moved = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), heads)
    return targets, jax.grad(lambda heads: loss(heads)[0])(heads), loss(moved)


@jax.jit
@functools.partial(jax.grad, allow_int=True)
def meta_gradient(rule, heads, seen):
    """Of what a learner is after two steps on a rollout."""
    loss = prepared(rule, *seen)[1]
    slope = jax.grad(lambda heads: loss(heads)[0])
    step = lambda heads, _: (jax.tree.map(lambda x, g: x - 10.0 * g, heads, slope(heads)), None)
    heads, _ = jax.lax.scan(
        step, heads, None, length=2
    )  # the first is at ratio 1, where no drift has a say
    return sum(
        jnp.sum(x * jnp.cos(jnp.arange(x.size).reshape(x.shape))) for x in jax.tree.leaves(heads)
    )


def split(rule, scale=1.0):
    heads, *seen = experience(rule, scale=scale)
    return rule, heads, seen


def plain(rule):
    """The rule without what is beside the policy gradient."""
    without = {"entropy_weight": 0.0, "normalize_advantage": False}
    return rl.tree.replace(
        rule, **{name: value for name, value in without.items() if hasattr(rule, name)}
    )


@every
def test_the_loss_is_finite_and_has_the_metrics_of_the_house(name):
    _, grads, (loss, metrics) = update(*split(RULES[name]))
    assert np.isfinite(loss)
    ratios = {"kl", "clip_fraction"} | ({"explained_variance"} if RULES[name].heads else set())
    assert set(metrics) >= {"loss", "entropy"} | (ratios if name in POLICIES else set())
    assert all(np.isfinite(x) and x.shape == () for x in metrics.values())
    assert all(np.all(np.isfinite(x)) and np.any(x != 0.0) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", POLICIES)
def test_no_advantage_no_policy_gradient(name):
    grads = update(*split(plain(RULES[name]), scale=0.0))[1]
    np.testing.assert_allclose(grads["logits"], 0.0, atol=1e-7)


@pytest.mark.parametrize("name", once)
def test_at_ratio_one_the_gradient_is_the_policy_gradient(name):
    rule, heads, seen = split(plain(RULES[name]))
    targets, grads, _ = update(rule, heads, seen)
    score = jax.nn.one_hot(seen[-1].action, 3) - jax.nn.softmax(heads["logits"])
    worth = targets.advantage * (1.0 if isinstance(targets.weight, tuple) else targets.weight)
    np.testing.assert_allclose(
        grads["logits"], -worth[..., None] * score / np.prod(SHAPE), atol=1e-5
    )


@pytest.mark.parametrize(
    "name", [name for name in RULES if name != "disco"]
)  # its own is in test_disco.py
def test_the_meta_gradient_is_finite_and_not_zero(name):
    """With respect to each float of the rule that two steps on a rollout read."""
    grads = meta_gradient(*split(RULES[name]))
    unread = {"gamma"} if "lpg" in name else set()  # it has no returns
    for field in sorted(set(TUNED) & set(rl.tree.paths(RULES[name])) - unread):
        for leaf, value in jax.tree_util.tree_leaves_with_path(operator.attrgetter(field)(grads)):
            assert np.all(np.isfinite(value)), (field, leaf)
            assert np.any(value != 0.0), (field, leaf)


def test_clip_is_the_paper_s_equation():
    for ratio in (0.5, 0.9, 1.0, 1.1, 1.5):
        for advantage in (-2.0, 0.0, 1.0):
            expected = min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
            assert float(rl.Clip(0.2)(jnp.array(ratio), jnp.array(advantage))) == pytest.approx(
                expected
            )


def test_an_objective_of_your_own_is_a_pytree_with_a_call():
    @rl.pytree
    class Quadratic:
        strength: float = 5.0

        def __call__(self, ratio, advantage):
            return ratio * advantage - self.strength * (ratio - 1.0) ** 2

    algo = rl.OnPolicy(
        rule=rl.Surrogate(Quadratic(), entropy_weight=0.0),
        lr=3e-3,
        network=rl.MLP((8,)),
        num_steps=16,
    )
    _, metrics = jax.jit(
        lambda key: rl.train(key, algo, Choice(), steps=3840, evals=2, episodes=0)
    )(jax.random.key(0))
    assert metrics["return"][-1] > 0.8
