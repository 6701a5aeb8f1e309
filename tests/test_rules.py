"""The contract of every update rule."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import transitions
from probes import Choice

import jaxrl as rl
from jaxrl import rules
from jaxrl.clock import Clock
from jaxrl.rules.disco_network import weight_shapes


def disco_weights():
    random = np.random.default_rng(0)
    scale = lambda shape: shape[-2] ** -0.5 if len(shape) > 1 else 0.1
    return {
        name: jnp.asarray(random.normal(0.0, scale(shape), shape), jnp.float32)
        for name, shape in weight_shapes().items()
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
    "signals": rl.RewardSignals(signals={"cost": rl.Signal(0.9, 0.8, -0.5, episodic=False)}),
    "impala": rules.VTrace(),
    "rloo": rules.Group(entropy_weight=0.1),
    "remax": rules.Group(advantage=rules.GreedyBaseline(), group_size=2, entropy_weight=0.1),
    "grpo": rules.Group(
        rl.Clip(), rules.Standardized(), 0.9, 0.1, per_episode=True, penalty=rules.FixedPenalty(0.1)
    ),
}
OTHERS = {  # without a policy gradient: the policy follows action values, or a network's targets
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
# advantages that are computed once a rollout
FIXED_ADVANTAGE = {name: rule for name, rule in POLICIES.items() if name != "impala"}
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


def with_policy(rule, heads):
    return heads | {"policy": rule.policy(SPACE, heads, CLOCK)}


def has_target_network(rule):
    return rule.target_params(rule.init(jax.random.key(0), {})) is not None


def experience(rule, seed=0, scale=1.0):
    """The learner's heads, its outputs at each step of a rollout and at the next, and the rollout.

    `scale` multiplies rewards and all heads but the policy's. Drawn by NumPy, which compiles
    nothing.
    """
    random = np.random.default_rng(seed)
    real = lambda *more, by=scale: jnp.asarray(
        by * random.normal(size=(*SHAPE, *more)), jnp.float32
    )
    sizes = rule.policy_heads(SPACE) | rule.heads
    draw = lambda: {
        head: real(size, by=1.0 if head == "logits" else scale) for head, size in sizes.items()
    }
    heads, next_heads = draw(), draw()
    out, next_out = with_policy(rule, heads), with_policy(rule, next_heads)
    if has_target_network(rule):
        out = out | {"target": with_policy(rule, draw())}
        next_out = next_out | {"target": with_policy(rule, draw())}
    terminated = jnp.asarray(random.random(SHAPE) < 0.2)
    action = jnp.asarray(random.integers(0, 3, SHAPE))
    batch = transitions(action, real(), terminated)
    info = {name: real() for name in rule.channels}
    return heads, out, next_out, rl.tree.replace(batch, info=info)


def prepared(rule, out, next_out, batch):
    """Targets of a rollout, and the loss as a function of heads; of a rule with a target network in
    its second update.
    """
    rule_state = rule.init(jax.random.key(0), {})
    for _ in range(2 if has_target_network(rule) else 1):
        rule_state, targets = rule.targets(rule_state, out, next_out, batch, CLOCK)

    def loss(heads):
        data = with_policy(rule, heads), batch, targets
        if rule.whole_trajectories:
            data = jax.tree.map(lambda x: x.swapaxes(0, 1), data)
        return rule.loss(*data, CLOCK)

    return targets, loss


@jax.jit
def update(rule, heads, data):
    """Targets of a rollout, the gradient at the heads that acted, and the loss and metrics of other
    heads.
    """
    targets, loss = prepared(rule, *data)
    moved = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), heads)
    return targets, jax.grad(lambda heads: loss(heads)[0])(heads), loss(moved)


@jax.jit
@functools.partial(jax.grad, allow_int=True)
def meta_gradient(rule, heads, data):
    """The gradient of a function of the heads after two gradient steps on a rollout.

    Two, as the first is at ratio 1, where every drift is 0.
    """
    loss = prepared(rule, *data)[1]
    slope = jax.grad(lambda heads: loss(heads)[0])
    step = lambda heads, _: (jax.tree.map(lambda x, g: x - 10.0 * g, heads, slope(heads)), None)
    heads, _ = jax.lax.scan(step, heads, None, length=2)
    return sum(
        jnp.sum(x * jnp.cos(jnp.arange(x.size).reshape(x.shape))) for x in jax.tree.leaves(heads)
    )


def split(rule, scale=1.0):
    heads, *data = experience(rule, scale=scale)
    return rule, heads, data


def without_bonus(rule):
    """The rule without terms beside the policy gradient."""
    off = {"entropy_weight": 0.0, "normalize_advantage": False}
    return rl.tree.replace(
        rule, **{name: value for name, value in off.items() if name in rl.tree.paths(rule)}
    )


@every
def test_the_loss_is_finite_and_has_the_common_metrics(name):
    _, grads, (loss, metrics) = update(*split(RULES[name]))
    assert np.isfinite(loss)
    ratios = {"kl", "clip_fraction"} | ({"explained_variance"} if RULES[name].heads else set())
    assert set(metrics) >= {"loss", "entropy"} | (ratios if name in POLICIES else set())
    assert all(np.isfinite(x) and x.shape == () for x in metrics.values())
    assert all(np.all(np.isfinite(x)) and np.any(x != 0.0) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", POLICIES)
def test_the_policy_gradient_is_zero_without_advantages(name):
    grads = update(*split(without_bonus(RULES[name]), scale=0.0))[1]
    np.testing.assert_allclose(grads["logits"], 0.0, atol=1e-7)


@pytest.mark.parametrize("name", FIXED_ADVANTAGE)
def test_at_ratio_one_the_gradient_is_the_policy_gradient(name):
    rule, heads, data = split(without_bonus(RULES[name]))
    targets, grads, _ = update(rule, heads, data)
    score = jax.nn.one_hot(data[-1].action, 3) - jax.nn.softmax(heads["logits"])
    weighted = targets.advantage * (1.0 if targets.weight is None else targets.weight)
    np.testing.assert_allclose(
        grads["logits"], -weighted[..., None] * score / np.prod(SHAPE), atol=1e-5
    )


# Disco's is in test_disco.py
@pytest.mark.parametrize("name", [name for name in RULES if name != "disco"])
def test_the_meta_gradient_is_finite_and_not_zero(name):
    """With respect to each float of the rule that two gradient steps on a rollout depend on."""
    grads = meta_gradient(*split(RULES[name]))
    unused = {"gamma"} if "lpg" in name else set()  # it has no returns
    for field in sorted(set(TUNED) & set(rl.tree.paths(RULES[name])) - unused):
        for leaf, value in jax.tree_util.tree_leaves_with_path(operator.attrgetter(field)(grads)):
            assert np.all(np.isfinite(value)), (field, leaf)
            assert np.any(value != 0.0), (field, leaf)


@every
def test_a_rule_is_a_rule_and_a_pytree(name):
    rule = RULES[name]
    assert isinstance(rule, rules.Rule)
    again = jax.tree.map(lambda x: x, rule)
    assert jax.tree.structure(again) == jax.tree.structure(rule)
    jax.tree.map(lambda x: object(), rule)  # as jax's transformations rebuild it


def test_clip_is_the_paper_s_equation():
    for ratio in (0.5, 0.9, 1.0, 1.1, 1.5):
        for advantage in (-2.0, 0.0, 1.0):
            expected = min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
            assert float(rl.Clip(0.2)(jnp.array(ratio), jnp.array(advantage))) == pytest.approx(
                expected
            )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.Surrogate(lambda r, a: r * a), r"objective takes an instance of Objective"),
        (lambda: rl.Surrogate(rl.Clip), r"can't be the class Clip: write Clip\(\.\.\.\)"),
        (lambda: rl.Surrogate(rl.Surrogate()), r"objective takes an instance of Objective"),
        (lambda: rl.Surrogate(penalty=rl.Clip()), r"rl\.rules\.FixedPenalty\(0\.1\)"),
        (lambda: rl.TD(jnp.square), r"criterion takes an instance of ValueLoss"),
        (lambda: rl.TD(exploration=rl.Linear(0.1)), r"rl\.EpsilonGreedy\(1\.0, 0\.05, 0\.5\)"),
        (lambda: rules.Group(advantage="rloo"), r"rl\.rules\.LeaveOneOut\(\)"),
        (lambda: rl.LPO({}, base=max), r"base takes an instance of Objective"),
    ],
)
def test_a_part_of_another_kind_is_an_error(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_method_that_is_not_defined_is_an_error():
    @rl.pytree
    class Empty(rules.Rule):
        gamma: float = 0.9

    with pytest.raises(
        NotImplementedError,
        match=r"Empty does not define loss: write `def loss\(self, out, batch, targets, clock\)`",
    ):
        Empty().loss({}, None, None, CLOCK)
    with pytest.raises(NotImplementedError, match="Objective does not define __call__"):
        rules.Objective()(1.0, 1.0)
    with pytest.raises(NotImplementedError, match="Penalty does not define weight"):
        rules.Penalty().weight((), CLOCK)
    with pytest.raises(NotImplementedError, match=r"write `@property def kappa\(self\)` in it"):
        rules.StreamRule().kappa  # noqa: B018


def test_an_objective_of_your_own_subclasses_objective():
    @rl.pytree
    class Quadratic(rl.Objective):
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
