"""Value heads and backups, against the papers' sums written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import losses, noise
from jaxrl.algorithms.backups import Max, Munchausen, SignedRoot
from jaxrl.algorithms.learner import piece_priority
from jaxrl.algorithms.value_heads import Categorical, Implicit, Quantile, duel


def projected(probabilities, positions, support):
    """Equation 7 of Bellemare et al. (2017), one mass at a time, in float64."""
    out, width = np.zeros(len(support)), support[1] - support[0]
    for p, x in zip(probabilities, positions, strict=True):
        b = (np.clip(x, support[0], support[-1]) - support[0]) / width
        low, high = int(np.floor(b)), int(np.ceil(b))
        out[low] += p * ((high - b) if high > low else 1.0)
        out[high] += p * (b - low)
    return out


@pytest.mark.parametrize("discount", [0.0, 0.3, 0.99, 1.0])
def test_a_histogram_is_projected_mass_by_mass(discount):
    rng = np.random.default_rng(0)
    support = np.linspace(-2.0, 3.0, 11)
    for reward in (-5.0, -0.7, 0.0, 0.25, 9.0):
        p = rng.dirichlet(np.ones(11))
        place = reward + discount * support
        found = losses.project(*(jnp.asarray(x, jnp.float32) for x in (p, place, support)))
        np.testing.assert_allclose(found, projected(p, place, support), atol=2e-6)
        assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_histogram_on_its_own_support_stays_as_it_is():
    support, p = jnp.linspace(-1.0, 1.0, 5), jnp.array([0.1, 0.2, 0.3, 0.4, 0.0])
    np.testing.assert_allclose(losses.project(p, support, support), p, atol=1e-6)


def target_of(reward, discount):
    return lambda value: reward + discount * value


def test_the_loss_of_a_histogram_is_its_cross_entropy_with_the_mixed_projection():
    head, rng = Categorical(-1.0, 2.0, atoms=7), np.random.default_rng(1)
    now, following = rng.normal(size=(2, 3, 7))
    policy = np.array([0.5, 0.0, 0.5])
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    support = np.linspace(-1.0, 2.0, 7)
    goal = projected(policy @ softmax(following), 0.3 + 0.9 * support, support)
    expected = -(goal * np.log(softmax(now)[2])).sum()
    arrays = [jnp.asarray(x, jnp.float32) for x in (now, following, policy)]
    loss, error = head.loss(arrays[0], jnp.int32(2), target_of(0.3, 0.9), arrays[1], arrays[2])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(error) == pytest.approx(
        expected + (goal[goal > 0] * np.log(goal[goal > 0])).sum(), rel=1e-4
    )
    np.testing.assert_allclose(head.values(arrays[0]), softmax(now) @ support, rtol=1e-5)


@pytest.mark.parametrize("kappa", [0.3, 1.0])
def test_quantile_regression_pairs_each_quantile_with_each_of_the_target(kappa):
    """Equation 10 of Dabney et al. (2018a): summed over the quantiles, the mean over the
    target's.
    """
    rng = np.random.default_rng(2)
    now, following = rng.normal(size=(3, 5)), rng.normal(size=(3, 4))
    tau, policy = np.sort(rng.uniform(size=5)), np.array([0.25, 0.75, 0.0])
    goal = 0.3 + 0.9 * policy @ following
    expected = 0.0
    for i, j in itertools.product(range(5), range(4)):
        u = goal[j] - now[1, i]
        huber = 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
        expected += abs(tau[i] - (u < 0)) * huber / kappa / 4
    arrays = [jnp.asarray(x, jnp.float32) for x in (now, tau, following, policy)]
    given = (arrays[0], arrays[1]), jnp.int32(1), target_of(0.3, 0.9), (arrays[2], None), arrays[3]
    for head in (Quantile(kappa, quantiles=5), Implicit(kappa)):
        loss, error = head.loss(*given)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        assert float(error) == pytest.approx(abs(goal.mean() - now[1].mean()), rel=1e-4)


def test_the_fractions_of_quantiles_are_the_middles_of_equal_parts():
    _, tau = Quantile(quantiles=4).predict(None, (), {"q": jnp.zeros(8)})
    np.testing.assert_allclose(tau, [0.125, 0.375, 0.625, 0.875])


def test_an_implicit_quantile_is_features_times_cosines():
    """Equation 4 of Dabney et al. (2018b), and the value beside advantages, one fraction at a
    time.
    """
    head = Implicit(size=3, cosines=5, samples=4, fractions=2)
    params = head.init(jax.random.key(0), 2, dueling=True)
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
    features = rng.normal(size=3)
    theta, tau = head.predict(
        jax.random.key(1), params, {"features": jnp.asarray(features, jnp.float32)}
    )
    assert theta.shape == (2, 4)
    assert tau.shape == (4,)
    w = jax.tree.map(np.float64, params)
    for k in range(4):
        phi = w["embedding"]["bias"].copy()
        for i in range(5):
            phi += np.cos(np.pi * i * float(tau[k])) * w["embedding"]["kernel"][i]
        x = features * np.maximum(phi, 0.0)
        q, value = (
            x @ w["top"][name]["kernel"] + w["top"][name]["bias"] for name in ("q", "value")
        )
        np.testing.assert_allclose(theta[:, k], value + q - q.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        head.predict(None, params, {"features": jnp.ones(3)})[1], [0.25, 0.75]
    )


def test_dueling_is_a_value_and_advantages_without_their_mean():
    out = {"q": jnp.array([1.0, 2.0, 5.0, 0.0]), "value": jnp.array([10.0, 20.0])}
    np.testing.assert_allclose(duel(out, 2), [[8.0, 21.0], [12.0, 19.0]])  # the means are 3 and 1
    np.testing.assert_allclose(duel({"q": out["q"]}, 2), [[1.0, 2.0], [5.0, 0.0]])


def test_double_selects_by_online_values_and_evaluates_by_the_target_network():
    target, online = jnp.array([1.0, 3.0, 2.0]), jnp.array([5.0, -jnp.inf, 9.0])
    given = jnp.zeros(3), target, online, jnp.int32(0)
    np.testing.assert_array_equal(Max(True)(*given)[0], [0, 0, 1])
    np.testing.assert_array_equal(Max(False)(*given)[0], [0, 1, 0])


def test_munchausen_adds_the_log_probability_of_the_action():
    alpha, temperature, least = 0.9, 0.5, -1.0
    value, following = np.array([0.3, -0.2, 0.1]), np.array([1.0, 0.5, -3.0])
    log_softmax = lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum())
    policy = np.exp(log_softmax(following / temperature))
    arrays = [jnp.asarray(x, jnp.float32) for x in (value, following)]
    weights, bonus, next_bonus = Munchausen(alpha, temperature, least)(
        arrays[0], arrays[1], arrays[1], jnp.int32(1)
    )
    np.testing.assert_allclose(weights, policy, rtol=1e-5)
    assert float(bonus) == pytest.approx(
        alpha * max(temperature * log_softmax(value / temperature)[1], least), rel=1e-5
    )
    assert float(next_bonus) == pytest.approx(
        -temperature * (policy * np.log(policy)).sum(), rel=1e-5
    )
    assert Munchausen(min_log_prob=-0.01)(arrays[0], arrays[1], arrays[1], jnp.int32(1))[
        1
    ] == pytest.approx(-0.009)


def test_munchausen_is_finite_with_a_forbidden_action():
    value = jnp.array([-jnp.inf, 0.0, 1.0])
    policy, bonus, next_bonus = Munchausen()(value, value, value, jnp.int32(2))
    assert policy[0] == 0.0
    assert policy.sum() == pytest.approx(1.0)
    assert jnp.isfinite(jnp.array([bonus, next_bonus])).all()


@pytest.mark.parametrize("eps", [1e-3, 1e-2, 0.0])
def test_the_signed_root_and_its_inverse(eps):
    x = np.concatenate([-np.geomspace(1e-3, 1e4, 20), [0.0], np.geomspace(1e-3, 1e4, 20)])
    there = SignedRoot(eps)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(
        there, np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + eps * x, rtol=2e-4
    )
    np.testing.assert_allclose(SignedRoot(eps).inverse(there), x, rtol=1e-3, atol=1e-6)


def test_noise_is_factorised_and_as_wide_as_it_says():
    params = {"a": {"kernel": jnp.zeros((4, 3)), "bias": jnp.ones(3)}, "free": jnp.zeros(9)}
    wide = noise.add(params, 0.5)
    np.testing.assert_allclose(wide.sigma["a"]["kernel"], 0.5 / 2)
    np.testing.assert_allclose(
        wide.sigma["a"]["bias"], 0.5 / 2
    )  # as many inputs as the kernel beside it
    np.testing.assert_allclose(wide.sigma["free"], 0.5 / 3)
    drawn = jax.vmap(lambda key: noise.draw(key, wide))(jax.random.split(jax.random.key(0), 4000))
    for i in range(3):
        assert np.linalg.matrix_rank(np.asarray(drawn["a"]["kernel"][i]), tol=1e-5) == 1
    # E|x| = sqrt(2 / pi) is the variance of sign(x) sqrt|x|; a kernel's noise is the product of two
    # of these
    np.testing.assert_allclose(drawn["a"]["kernel"].mean(0), 0.0, atol=0.02)
    np.testing.assert_allclose(drawn["a"]["kernel"].var(0), 0.25**2 * 2 / np.pi, rtol=0.15)
    np.testing.assert_allclose(drawn["a"]["bias"].var(0), 0.25**2 * np.sqrt(2 / np.pi), rtol=0.15)
    assert noise.mean(wide) is params
    assert noise.draw(jax.random.key(1), params) is params


def test_a_priority_is_mostly_the_largest_error():
    np.testing.assert_allclose(
        piece_priority(jnp.array([[1.0, 3.0], [0.0, 0.0]])), [0.9 * 3 + 0.1 * 2, 0.0]
    )
