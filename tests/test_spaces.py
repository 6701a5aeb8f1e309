"""Action spaces as other libraries write them, and boxes at the edge of what a number can be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl.algorithms.actors import check_bounded
from jaxrl.spaces import check_bounds

MOST = np.finfo(np.float32).max


def test_whole_numbers_of_numpy_and_lists_are_taken():
    for sizes in ((2, 3), [2, 3], np.array([2, 3]), jnp.array([2, 3])):
        space = rl.MultiDiscrete(sizes)
        assert space.sizes == (2, 3)
        assert all(type(n) is int for n in space.sizes)
    for n in (3, np.int64(3), np.array(3), jnp.int32(3)):
        assert rl.Discrete(n) == rl.Discrete(3)
        assert hash(rl.Discrete(n)) == hash(rl.Discrete(3))
    assert rl.Discrete(3, start=0) == rl.Discrete(3)
    assert dataclasses.replace(rl.Discrete(3), n=4).n == 4
    assert jax.tree.map(lambda x: x, rl.MultiDiscrete((2, 3))) == rl.MultiDiscrete((2, 3))


def test_bounds_in_lists_are_taken():
    box = rl.Box([-1, -2], [1, 2], [2])
    assert box.shape == (2,)
    assert rl.Box(-1.0, 1.0, 2).shape == (2,)
    for other in (box, rl.Box((-1.0, -2.0), (1.0, 2.0), (2,))):
        action = other.clip(jnp.array([-5.0, 5.0]))
        np.testing.assert_array_equal(action, [-1.0, 2.0])
        mode = other.policy({"loc": jnp.ones(2), "log_std": jnp.zeros(2)}).mode()
        np.testing.assert_array_equal(mode, [1.0, 2.0])
    # jax puts any object in the place of a leaf
    assert jax.tree.map(np.shape, box) == rl.Box((2,), (2,), (2,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rl.Discrete(3, start=-1), r"write Discrete\(3\), and add -1 to the action"),
        (lambda: rl.Discrete(0), "n=0"),
        (lambda: rl.Discrete(3.0), r"n=3\.0"),
        (lambda: rl.MultiDiscrete((2, 0)), r"sizes=\(2, 0\)"),
        (lambda: rl.MultiDiscrete(()), r"write MultiDiscrete\(\(2, 3\)\)"),
        (lambda: rl.MultiDiscrete(np.array([2.5, 3.0])), "are not positive whole numbers"),
        (lambda: rl.Box(1.0, 1.0), "remove entries that can't vary"),
        (lambda: rl.Box(1.0, -1.0), "the other way round"),
        (lambda: rl.Box([0, 0], [1, 0], (2,)), "low is not below high"),
        (lambda: rl.Box(float("nan"), 1.0), "low=nan of Box is NaN"),
        (lambda: rl.Box(np.inf, np.inf), "low is not below high"),
        (lambda: rl.Box([-1, -2], [1, 2]), r"shape \[2\], .* write shape=\(2,\)"),
        (lambda: rl.Box(-1.0, 1.0, (2, 3)), r"shape=\(2, 3\) of Box is not that of a vector"),
        (
            lambda: check_bounds(rl.Box(-jnp.ones(1), jnp.full(1, MOST)), "Arm.action_space"),
            r"high of Arm\.action_space is .* write jnp\.inf for no bound",
        ),
        (lambda: check_bounds(rl.Box(jnp.ones(1), jnp.ones(1)), "Arm.action_space"), "Arm"),
    ],
)
def test_what_is_no_space_is_refused(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", [MOST, np.inf, 1e30])
def test_the_largest_float_is_no_bound(end):
    """As other libraries write a box without bounds: a standard normal, and nothing overflows."""
    box = rl.Box(-end, end, (64,))
    policy = box.policy({"loc": jnp.zeros(64), "log_std": jnp.zeros(64)})
    for x in (policy.sample(jax.random.key(0)), box.sample(jax.random.key(1))):
        assert 0.5 < float(x.std()) < 1.5
        np.testing.assert_array_equal(box.clip(x), x)
        expected = -0.5 * np.sum(np.square(x)) - 32 * np.log(2 * np.pi)
        np.testing.assert_allclose(policy.log_prob(x), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="has no end somewhere"):
        check_bounded(box, "Squashed")


@pytest.mark.parametrize("end", [1e-3, 1.0, 1e17])
def test_a_wide_box_is_scaled(end):
    box = rl.Box(0.0, end, (1,))
    policy = box.policy({"loc": jnp.array([1.0]), "log_std": jnp.array([0.0])})
    np.testing.assert_allclose(policy.mode(), [end], rtol=1e-6)
    assert np.isfinite(policy.log_prob(policy.mode()))
    assert 0.0 <= float(box.sample(jax.random.key(0))[0]) <= end
