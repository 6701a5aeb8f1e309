"""Densities against sums and integrals taken slowly, samples against densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributions import Categorical, MultiDiscrete, Normal, TanhNormal
from jaxrl.spaces import Box, Discrete
from jaxrl.spaces import MultiDiscrete as MultiDiscreteSpace

BATCH = 40_000


def many(distribution, n=BATCH):
    return jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), n))


def test_categorical_is_its_softmax():
    logits = jnp.array([0.3, -1.0, 2.0, -jnp.inf])
    p = np.exp(logits) / np.exp(logits).sum()
    d = Categorical(logits)
    shares = np.bincount(np.asarray(many(d)), minlength=4) / BATCH
    np.testing.assert_allclose(shares, p, atol=4 * 0.5 / np.sqrt(BATCH))
    assert shares[3] == 0.0
    np.testing.assert_allclose(
        d.log_prob(jnp.arange(4)[:3, None].squeeze(-1)[0]), np.log(p[0]), rtol=1e-5
    )
    np.testing.assert_allclose(d.entropy(), -(p[:3] * np.log(p[:3])).sum(), rtol=1e-5)
    assert d.mode() == 2


@pytest.mark.parametrize("masked", [0, 1, 2])
def test_categorical_never_draws_what_is_masked(masked):
    logits = jnp.zeros(3).at[masked].set(-jnp.inf)
    assert not (many(Categorical(logits)) == masked).any()


def test_categorical_entropy_has_a_finite_gradient_under_a_mask():
    grad = jax.grad(
        lambda x: Categorical(jnp.where(jnp.array([True, True, False]), x, -jnp.inf)).entropy()
    )(jnp.zeros(3))
    assert np.isfinite(grad).all()


def test_multi_discrete_is_independent_categoricals():
    logits = jnp.array([0.5, -0.5, 1.0, 0.0, -1.0])
    d, a, b = MultiDiscrete(logits, (2, 3)), Categorical(logits[:2]), Categorical(logits[2:])
    value = jnp.array([1, 2])
    np.testing.assert_allclose(
        d.log_prob(value), a.log_prob(value[0]) + b.log_prob(value[1]), rtol=1e-6
    )
    np.testing.assert_allclose(d.entropy(), a.entropy() + b.entropy(), rtol=1e-6)
    table = np.exp([[d.log_prob(jnp.array([i, j])) for j in range(3)] for i in range(2)])
    np.testing.assert_allclose(table.sum(), 1.0, rtol=1e-5)
    draws = np.asarray(many(d))
    shares = np.array([[np.mean((draws == [i, j]).all(-1)) for j in range(3)] for i in range(2)])
    np.testing.assert_allclose(shares, table, atol=0.01)


def test_normal_is_the_textbook():
    d = Normal(jnp.array([0.5, -1.0]), jnp.array([0.2, -0.7]))
    x, std = np.array([0.0, 0.3]), np.exp([0.2, -0.7])
    expected = (-0.5 * ((x - [0.5, -1.0]) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))).sum()
    np.testing.assert_allclose(d.log_prob(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)
    np.testing.assert_allclose(
        d.entropy(), np.log(std * np.sqrt(2 * np.pi * np.e)).sum(), rtol=1e-5
    )
    draws = many(d)
    np.testing.assert_allclose(draws.std(0), std, rtol=0.03)
    np.testing.assert_allclose(-np.mean(jax.vmap(d.log_prob)(draws)), d.entropy(), rtol=0.02)


@pytest.mark.parametrize(("loc", "log_std"), [(0.0, -0.5), (1.5, 0.0), (-0.4, 0.5)])
def test_tanh_normal_integrates_to_one(loc, log_std):
    low, high = -2.0, 3.0
    d = TanhNormal(jnp.array([loc]), jnp.array([log_std]), low, high)
    x = np.linspace(
        -8, 8, 20_001
    )  # substitute a = squash(x): evenly spaced in x, dense at the bounds
    a = 0.5 + 2.5 * np.tanh(x)
    inside = np.abs(np.tanh(x)) < 1 - 1e-5
    density = np.exp(jax.vmap(d.log_prob)(jnp.asarray(a[inside, None], jnp.float32)))
    np.testing.assert_allclose(np.trapezoid(density, a[inside]), 1.0, atol=2e-3)
    draws, log_prob = jax.vmap(d.sample_with_log_prob)(jax.random.split(jax.random.key(0), BATCH))
    assert ((draws >= low) & (draws <= high)).all()
    np.testing.assert_allclose(-log_prob.mean(), d.entropy(), atol=0.03)


def test_tanh_normal_is_exact_where_tanh_saturates():
    d = TanhNormal(jnp.array([20.0]), jnp.array([0.0]))
    _, log_prob = d.sample_with_log_prob(jax.random.key(0))
    x = np.float64(20.0 + jax.random.normal(jax.random.key(0), (1,))[0])
    slope = np.log(4) - 2 * x  # log of 1 - tanh^2, far out
    expected = -0.5 * (x - 20.0) ** 2 - 0.5 * np.log(2 * np.pi) - slope
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)


def test_a_box_policy_speaks_in_the_box_s_units():
    box = Box(jnp.array([0.0, -4.0]), jnp.array([2.0, 4.0]), (2,))
    policy = box.policy({"loc": jnp.array([-1.0, 1.0]), "log_std": jnp.zeros(2)})
    np.testing.assert_allclose(policy.mode(), [0.0, 4.0])
    np.testing.assert_allclose(jnp.exp(policy.log_std), [1.0, 4.0], rtol=1e-6)
    free = Box(-jnp.inf, jnp.inf, (1,)).policy({"loc": jnp.array([3.0]), "log_std": jnp.zeros(1)})
    np.testing.assert_allclose(free.mode(), [3.0])


@pytest.mark.parametrize(
    "space",
    [Discrete(3), MultiDiscreteSpace((2, 3)), Box(-1.0, 1.0, (2,)), Box(-jnp.inf, jnp.inf, (2,))],
)
def test_every_space_has_a_policy_for_its_samples(space):
    out = {head: jnp.zeros(size) for head, size in space.heads.items()}
    policy, action = space.policy(out), space.sample(jax.random.key(0))
    assert policy.sample(jax.random.key(0)).shape == action.shape == policy.mode().shape
    assert np.isfinite(policy.log_prob(action))
    assert policy.log_prob(action).shape == policy.entropy().shape == ()
    np.testing.assert_array_equal(space.clip(action), action)


def test_kl_is_its_sum_over_what_may_happen():
    p, q = (
        Categorical(jnp.array([0.3, -1.0, 2.0, -jnp.inf])),
        Categorical(jnp.array([1.0, 0.0, 0.5, -jnp.inf])),
    )
    chance = [np.exp(x.logits) / np.exp(x.logits).sum() for x in (p, q)]
    expected = sum(a * np.log(a / b) for a, b in zip(*chance, strict=True) if a > 0)
    np.testing.assert_allclose(p.kl(q), expected, rtol=1e-5)
    assert p.kl(p) == 0.0
    both, other = jnp.array([0.5, -0.5, 1.0, 0.0, -1.0]), jnp.zeros(5)
    parts = Categorical(both[:2]).kl(Categorical(other[:2])) + Categorical(both[2:]).kl(
        Categorical(other[2:])
    )
    np.testing.assert_allclose(
        MultiDiscrete(both, (2, 3)).kl(MultiDiscrete(other, (2, 3))), parts, rtol=1e-6
    )


@pytest.mark.parametrize("kind", [Normal, TanhNormal])
def test_kl_is_its_integral(kind):
    """Of the density over a fine grid: of x for a Gaussian, and of tanh(x) for a squashed one."""
    p, q = kind(jnp.array([0.4]), jnp.array([-0.5])), kind(jnp.array([-0.3]), jnp.array([0.1]))
    x = np.linspace(-5.0, 5.0, 20_001)
    value = x if kind is Normal else np.tanh(x)
    log_p, log_q = (
        np.float64(jax.vmap(d.log_prob)(jnp.asarray(value[:, None], jnp.float32))) for d in (p, q)
    )
    inside = np.abs(value) < 1 - 1e-5 if kind is TanhNormal else np.ones_like(x, bool)
    integral = np.trapezoid((np.exp(log_p) * (log_p - log_q))[inside], value[inside])
    np.testing.assert_allclose(p.kl(q), integral, rtol=2e-3)
    two = Normal(jnp.array([0.4, 1.0]), jnp.array([-0.5, 0.0])).kl(
        Normal(jnp.array([-0.3, 1.0]), jnp.array([0.1, 0.0]))
    )
    np.testing.assert_allclose(
        two, Normal(p.loc, p.log_std).kl(Normal(q.loc, q.log_std)), rtol=1e-6
    )


def test_kl_has_a_finite_gradient_under_a_mask():
    masked = lambda x: Categorical(jnp.where(jnp.array([True, True, False]), x, -jnp.inf))
    for kl in (
        lambda x: masked(x).kl(masked(jnp.ones(3))),
        lambda x: masked(jnp.arange(3.0)).kl(masked(x)),
    ):
        assert np.isfinite(jax.grad(kl)(jnp.array([0.5, 0.0, 0.2]))).all()
