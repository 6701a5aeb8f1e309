"""Reverse mode through a tree of checkpoints: the same gradient in the memory of a few states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.meta import tree_scan

SIZE = 64


def step_of(theta):
    """A step of noisy learning, with intermediate values larger than its state."""

    def step(state, n):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), n), (128, SIZE))
        return state - theta * noise.T @ jnp.tanh(noise @ state) / 128

    return step


def plain(theta, state, length):
    for n in range(length):
        state = step_of(theta)(state, jnp.int32(n))
    return jnp.sum(state**2)


@pytest.mark.parametrize(("length", "branch"), [(1, 4), (4, 4), (7, 2), (13, 3)])
def test_equals_plain_reverse_mode_for_any_length(length, branch):
    state = jax.random.normal(jax.random.key(1), (SIZE, 16)) / 8
    ours = lambda theta, state: jnp.sum(tree_scan(step_of(theta), state, length, branch) ** 2)
    (value, grads), (expected, expected_grads) = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(0.1, state)
        for f in (ours, lambda *x: plain(*x, length))
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, expected_grads
    )


def test_memory_grows_with_the_logarithm_of_the_length():
    state = jax.ShapeDtypeStruct((SIZE, 16), jnp.float32)

    def states(length, branch):
        """Scratch of the compiled gradient, in states."""
        loss = lambda theta, state: jnp.sum(tree_scan(step_of(theta), state, length, branch) ** 2)
        memory = jax.jit(jax.grad(loss)).lower(0.1, state).compile().memory_analysis()
        return memory.temp_size_in_bytes / (4 * SIZE * 16)

    base, flat = states(4, 4), states(1024, 1024)
    assert flat > 1024  # a checkpoint at each step
    found = [states(length, 4) - base for length in (16, 256, 1024)]
    for length, more in zip((16, 256, 1024), found, strict=True):
        assert (
            more < 4 * 2 * (np.log(length) / np.log(4) - 1) + 4
        )  # at most 4 on each level, twice over while they are read
    assert found[-1] < flat / 20


def test_a_tree_needs_branches():
    with pytest.raises(ValueError, match="branch=2 or more"):
        tree_scan(lambda state, n: state, 0.0, 3, branch=1)
