"""Persistent evolution: the gradient of whole runs from their pieces, where that of one piece is
biased.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_evolution import INNER, Choices

import jaxrl as rl
from jaxrl.meta import PES, PersistentEvolution
from jaxrl.tree import replace

LENGTH, START = 4, 0.5  # pieces of a run, and the parameter


def start(key):
    return jnp.float32(0.0), LENGTH


def unroll(key, params, x):
    """x follows the parameter; fitness is its distance from 1, so early pieces matter for late
    fitness.
    """
    x = 0.9 * x + params
    return x, -((x - 1.0) ** 2)


def whole_run(theta):
    x, total = jnp.float32(0.0), 0.0
    for _ in range(LENGTH):
        x, fitness = unroll(None, theta, x)
        total += fitness
    return total / LENGTH  # the mean over the phases that staggered particles are in


def piece(theta):
    """The truncated objective: the same runs, of which only the last piece has a gradient."""
    x, total = jnp.float32(0.0), 0.0
    for _ in range(LENGTH):
        x, fitness = unroll(None, theta, jax.lax.stop_gradient(x))
        total += fitness
    return total / LENGTH


@pytest.mark.parametrize("keeps_noise", [False, True], ids=["PES", "NRES"])
def test_unbiased_where_a_truncated_gradient_is_not(keeps_noise):
    """The parameter stays constant from piece to piece: the mean step is the gradient of a whole
    run.
    """
    strategy = PES(
        lr=0.0, sigma=0.3, optimizer=Accumulate(), population=2000, keeps_noise=keeps_noise
    )
    warm, steps = 3 * LENGTH, 10 * LENGTH

    def one(state, n):
        before = state.opt_state
        state, _ = strategy.update(jax.random.fold_in(jax.random.key(1), n), state, start, unroll)
        return state, -(state.opt_state - before)

    run = jax.jit(
        lambda: jax.lax.scan(
            one, strategy.init(jax.random.key(0), jnp.float32(START), start), jnp.arange(steps)
        )
    )
    state, gradients = run()
    assert state.params == START
    found = (
        np.asarray(gradients[warm:]).reshape(-1, LENGTH).mean(1)
    )  # of whole runs, so nearly independent
    error = found.std() / len(found) ** 0.5
    exact, truncated = jax.grad(whole_run)(START), jax.grad(piece)(START)
    assert abs(found.mean() - exact) < 5 * error
    assert abs(truncated - exact) > 20 * error  # so the test could tell them apart
    ages = np.bincount(state.pairs[0].age, minlength=LENGTH) / len(state.pairs[0].age)
    np.testing.assert_allclose(ages, 1 / LENGTH, atol=0.05)  # every phase is there at once


class Accumulate(rl.Optimizer):
    """An optimiser that sums gradients and changes nothing."""

    def __call__(self, lr):
        return optax.GradientTransformation(
            lambda params: jnp.zeros_like(params),
            lambda grads, total, params: (jnp.zeros_like(grads), total + grads),
        )


def test_a_run_that_went_non_finite_starts_anew_and_affects_no_other():
    def fragile(key, params, x):
        x, fitness = unroll(key, params, x)
        return x, jnp.where(params > START + 0.2, jnp.nan, fitness)

    strategy = PES(sigma=0.2, population=32)
    state = strategy.init(jax.random.key(0), jnp.float32(START), start)
    state, metrics = jax.jit(lambda key, state: strategy.update(key, state, start, fragile))(
        jax.random.key(1), state
    )
    assert 0 < metrics["non_finite"] < 32
    assert jnp.isfinite(state.params)
    assert jnp.isfinite(metrics["fitness"])


def test_runs_of_two_kinds_are_as_those_of_one():
    """The same kind twice: each half of the pairs is a block of its own, with the same keys."""
    strategy, params = PES(sigma=0.2, population=8), jnp.float32(START)
    one = strategy.init(jax.random.key(0), params, start)
    halves = (
        jax.tree.map(lambda x: x[:2], one.pairs[0]),
        jax.tree.map(lambda x: x[2:], one.pairs[0]),
    )
    two = strategy.init(jax.random.key(0), params, (start, start))
    assert jax.tree.map(jnp.shape, two.pairs) == jax.tree.map(jnp.shape, halves)
    two = replace(two, pairs=halves)  # with the same random first ends
    key = jax.random.key(1)
    one, _ = strategy.update(key, one, start, unroll)
    two, _ = strategy.update(key, two, (start, start), (unroll, unroll))
    np.testing.assert_allclose(two.params, one.params, rtol=1e-6)
    for name in ("runs", "age", "end", "direction"):
        joined = jnp.concatenate([getattr(pairs, name) for pairs in two.pairs])
        np.testing.assert_allclose(joined, getattr(one.pairs[0], name), rtol=1e-6)
    with pytest.raises(ValueError, match="write population=12"):
        strategy.init(key, params, (start, start, start))


def test_a_learning_rate_evolves_within_training_runs():
    evolution = PersistentEvolution(INNER, PES(lr=0.03, sigma=0.02, population=8), unroll=4)
    training = rl.Training(evolution, Choices(), steps=12, evals=1, episodes=4)
    state, metrics = jax.jit(training)(jax.random.key(0))
    assert state.params["lr"] > 0.02
    assert metrics["evaluation"][0] > 0.6
    assert metrics["non_finite"] == 0


def test_a_piece_longer_than_a_training_run_is_refused():
    with pytest.raises(ValueError, match="a smaller unroll"):
        PersistentEvolution(INNER, unroll=INNER.lifetime[0] + 1).init(jax.random.key(0), Choices())
    area = replace(INNER, by_area=True)
    with pytest.raises(ValueError, match="write by_area=False"):
        PersistentEvolution(area, unroll=1).init(jax.random.key(0), Choices())
