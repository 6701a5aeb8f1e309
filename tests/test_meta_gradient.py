"""Gradients through a learner's updates: equal to finite differences, flat in memory, and errors
where there are none.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Value
from test_evolution import INNER, LEARNER, Choices

import jaxrl as rl
from jaxrl.algorithms.base import Algorithm
from jaxrl.clock import Clock, start_clock
from jaxrl.meta import MetaGradient, OuterCritic, meta_gradient
from jaxrl.tree import pytree, replace, static

CASE = replace(LEARNER, lr=0.01)


def value_after(learner, state, metrics):
    """The learner's value of the one state of `Value`."""
    return learner.forward(Value(), state, (), jnp.zeros(1))[1]["value"][0], ()


def test_equals_finite_differences():
    start = CASE.init(jax.random.key(0), Value())

    @jax.jit
    def value_and_slope(lr):
        (value, _), grads = meta_gradient(
            jax.random.key(1), CASE, {"lr": lr}, Value(), start, value_after, 3
        )
        return value, grads["lr"]

    _, slope = value_and_slope(0.01)
    numeric = (value_and_slope(0.0105)[0] - value_and_slope(0.0095)[0]) / 1e-3
    np.testing.assert_allclose(slope, numeric, rtol=5e-3)
    assert abs(slope) > 1.0


@pytree
class Fit(Algorithm):
    """A learner that costs little to compile: two layers fitted to noise, by gradient descent."""

    lr: float = 0.1
    steps: int = 1
    width: int = static(default=64)
    loops: bool = static(default=False)
    steps_per_update = 1

    def init(self, key, env, num_updates=float("inf")):
        first, second = jax.random.split(key)
        shape = (self.width, self.width)
        params = {
            "first": jax.random.normal(first, shape) / 8,
            "second": jax.random.normal(second, shape) / 8,
        }
        return Fitted(params, start_clock(num_updates))

    def update(self, key, env, state):
        x = jax.random.normal(key, (256, self.width))
        loss = lambda params: jnp.mean((jnp.tanh(x @ params["first"]) @ params["second"] - x) ** 2)
        value, grads = jax.value_and_grad(loss)(state.params)
        params = jax.tree.map(lambda p, g: p - self.lr * g, state.params, grads)
        if self.loops:
            params = jax.lax.fori_loop(
                0, self.steps, lambda _, p: jax.tree.map(lambda x: x * 0.9, p), params
            )
        return Fitted(params, state.clock.tick()), {"loss": value}


@pytree
class Fitted:
    params: dict
    clock: Clock


def size(state):
    return jnp.sum(state.params["first"] ** 2)


def test_memory_is_flat_in_the_number_of_updates():
    learner = Fit()
    start = jax.eval_shape(lambda: learner.init(jax.random.key(0), None))

    def scratch(num_updates, branch):
        run = lambda state, lr: meta_gradient(
            jax.random.key(1),
            learner,
            {"lr": lr},
            None,
            state,
            lambda *now: (size(now[1]), ()),
            num_updates,
            branch=branch,
        )[1]
        return jax.jit(run).lower(start, 0.1).compile().memory_analysis().temp_size_in_bytes

    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(start))
    short, long, kept = scratch(2, 64), scratch(32, 64), scratch(32, None)
    assert long - short < 30 * 1.2 * state  # what grows is one state for each update
    assert kept > 3 * long


def test_what_has_no_gradient_is_named():
    learner, key = Fit(), jax.random.key(0)
    start = learner.init(key, None)
    objective = lambda learner, state, metrics: (size(state), ())
    with pytest.raises(ValueError, match=r"No gradient reaches \['lr'\]"):
        meta_gradient(
            key,
            learner,
            {"lr": 0.1},
            None,
            start,
            lambda *now: (jnp.round(size(now[1])) * 0.0 + 1.0, ()),
            2,
        )
    with pytest.raises(TypeError, match=r"\['steps'\] = 1 is int"):
        meta_gradient(key, learner, {"steps": 1}, None, start, objective, 2)
    with pytest.raises(ValueError, match="Fit takes steps that can't be differentiated backward"):
        jax.jit(
            lambda steps: meta_gradient(
                key, Fit(steps=steps, loops=True), {"lr": 0.1}, None, start, objective, 2
            )
        )(3)
    recurrent = replace(INNER, learner=replace(LEARNER, memory=rl.GRU(4)))
    with pytest.raises(ValueError, match="without a memory"):
        MetaGradient(recurrent).init(key, Choices())
    unknown = MetaGradient(
        INNER,
        OuterCritic(network=rl.MLP((4,))),
        regularisers={"enthropy": 0.1},
        num_agents=1,
        num_updates=1,
    )
    state = jax.eval_shape(unknown.init, key, Choices())
    with pytest.raises(
        ValueError, match="no metric 'enthropy' to regularise; the nearest are entropy"
    ):
        jax.eval_shape(unknown.update, key, Choices(), state)


def test_a_sliding_window_learns_a_learning_rate_with_agents_of_all_ages():
    inner = replace(INNER, learner=replace(CASE, num_envs=4), lifetime=(12, 12), chunk=8)
    algo = MetaGradient(
        inner, OuterCritic(network=rl.MLP((4,))), lr=0.01, num_agents=16, num_updates=3
    )

    def one(state, n):
        return algo.update(jax.random.fold_in(jax.random.key(1), n), Choices(), state)

    run = jax.jit(lambda key: jax.lax.scan(one, algo.init(key, Choices()), jnp.arange(12)))
    state, metrics = run(jax.random.key(0))
    assert state.params["lr"] > 0.05  # from 0.01
    assert metrics["non_finite"].sum() == 0
    assert metrics["return"][-4:].mean() > metrics["return"][:4].mean()
    ages = np.asarray(state.agents.state.clock.n)
    assert len(np.unique(ages)) == 4  # 0, 3, 6 and 9 of 12: none after its end
    assert (state.agents.end == 12).all()
