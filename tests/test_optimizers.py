"""Learned optimisers: their features against slow sums, optimisers that they can express, and that
any algorithm takes them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl.clock import Clock
from jaxrl.env import Tasks
from jaxrl.meta import ES, Evolution, InnerLoop
from jaxrl.optimizers import OPEN, SmallFC, open, small_fc
from jaxrl.tree import pytree, replace

LEARNED = {
    "OPEN": OPEN.random(jax.random.key(0), 4, 8),
    "SmallFC": SmallFC.random(jax.random.key(1)),
}
PARAMS = {
    "logits_0": {
        "bias": jnp.array([0.3, -0.2]),
        "kernel": jnp.array([[1.0, -2.0], [0.5, 0.1], [3.0, 0.0]]),
    }
}
PARAMS |= {"value": jnp.array(0.7)}
CLOCK = Clock(jnp.int32(3), jnp.float32(12.0))
KEY = jax.random.key(7)


def gradients(t):
    draw = lambda i, x: jax.random.normal(
        jax.random.fold_in(jax.random.key(5), 10 * t + i), x.shape
    )
    leaves, structure = jax.tree.flatten(PARAMS)
    return jax.tree.unflatten(structure, [draw(i, x) for i, x in enumerate(leaves)])


def steps(learned, num=3, lr=0.01, key=None, **extra_args):
    """Parameters and the optimiser's state after some steps."""
    optimizer = learned(lr)

    def step(now, t):
        params, state = now
        noise = {} if key is None else {"key": jax.random.fold_in(key, t)}
        changes, state = optimizer.update(gradients(t), state, params, **noise, **extra_args)
        return (optax.apply_updates(params, changes), state), None

    return jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), jnp.arange(num))[0]


def zeros(learned):
    return replace(learned, weights=jax.tree.map(jnp.zeros_like, learned.weights))


@pytest.mark.parametrize("name", LEARNED)
def test_weights_of_zero_change_nothing_and_others_do(name):
    run = jax.jit(lambda learned: steps(learned, clock=CLOCK, key=KEY)[0])
    for a, b, c in zip(
        *map(jax.tree.leaves, (PARAMS, run(zeros(LEARNED[name])), run(LEARNED[name]))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()


@pytest.mark.parametrize("name", LEARNED)
def test_random_weights_with_a_zero_output_change_nothing(name):
    learned = type(LEARNED[name]).random(jax.random.key(2), zero=True)
    for a, b in zip(
        *map(jax.tree.leaves, (PARAMS, steps(learned, num=2, key=KEY)[0])), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LEARNED)
def test_vmap_equals_a_loop(name):
    scale = lambda factor: replace(
        LEARNED[name], weights=jax.tree.map(lambda x: factor * x, LEARNED[name].weights)
    )
    run = jax.jit(lambda factor: steps(scale(factor), clock=CLOCK, key=KEY)[0])
    both = jax.jit(jax.vmap(lambda factor: steps(scale(factor), clock=CLOCK, key=KEY)[0]))(
        jnp.array([0.5, 1.5])
    )
    for i, factor in enumerate((0.5, 1.5)):
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(run(factor)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7)


def test_small_fc_has_as_many_weights_as_the_paper_says():
    assert sum(x.size for x in jax.tree.leaves(SmallFC.random(jax.random.key(3)).weights)) == 197


# -------------------------------------------------------------------------------- against slow sums


def slow_average(values, decay):
    total = np.zeros_like(values[0])
    for value in values:
        total = decay * total + (1 - decay) * value
    return total


def unit(x):
    return x / np.sqrt(1e-5 + np.mean(x**2))


def history(num):
    """Each tensor's name, and its gradients."""
    grads = [jax.tree_util.tree_leaves_with_path(jax.device_get(gradients(t))) for t in range(num)]
    return [[np.asarray(now[i][1], np.float64) for now in grads] for i in range(len(grads[0]))]


def test_features_of_small_fc_are_the_statistics_of_adam_and_adafactor():
    state = steps(SmallFC.random(jax.random.key(3), zero=True))[1]
    found = np.asarray(small_fc.features(PARAMS, gradients(2), state.averages))
    assert state.count == 3
    assert found.shape == (28, 9)
    first = 0
    for p, grads in zip(map(np.asarray, jax.tree.leaves(PARAMS)), history(3), strict=True):
        squares = [g**2 for g in grads]
        momenta = [slow_average(grads, d) for d in (0.9, 0.99, 0.999)]
        root = 1 / np.sqrt(slow_average(squares, 0.999) + 1e-6)
        rows, columns, factor = [], [], []
        for d in (0.9, 0.99, 0.999):
            v = slow_average(squares, d)
            row, column = (
                (v, v) if v.ndim < 2 else (np.array([v[:, j].mean() for j in range(2)]), v.mean(1))
            )
            outer = v if v.ndim < 2 else np.outer(column, row) / row.mean()
            rows.append(np.broadcast_to(row, p.shape))
            columns.append(np.broadcast_to(column if v.ndim < 2 else column[:, None], p.shape))
            factor.append(1 / np.sqrt(outer))
        kept = [slow_average(squares, 0.999), *(m * root for m in momenta), root]
        kept += [
            *(grads[-1] * f for f in factor),
            *rows,
            *columns,
            *(1 / np.sqrt(x + 1e-8) for x in rows + columns),
        ]
        expected = [
            grads[-1],
            p,
            *momenta,
            *kept,
            *(m * f for m, f in zip(momenta, factor, strict=True)),
        ]
        for row, want in zip(found[:, first : first + p.size], expected, strict=True):
            np.testing.assert_allclose(row, unit(want).ravel(), rtol=2e-3)
        first += p.size


def test_features_of_open():
    learned = OPEN.random(jax.random.key(3), 4, 8, zero=True)
    state = steps(learned)[1]
    found = np.asarray(open.features(PARAMS, gradients(2), state.momenta, CLOCK.fraction, 0.5))
    first = 0
    for p, grads in zip(map(np.asarray, jax.tree.leaves(PARAMS)), history(3), strict=True):
        momenta = [slow_average(grads, d) for d in (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)]
        log = lambda x: np.log(np.abs(x) + 1e-13)
        own = [p, *map(np.sign, momenta), *map(log, momenta), np.sign(grads[-1]), log(grads[-1])]
        for row, want in zip(found[:15, first : first + p.size], own, strict=True):
            np.testing.assert_allclose(row, unit(want).ravel(), rtol=1e-4)
        first += p.size
    np.testing.assert_array_equal(found[15:], np.repeat([[0.25], [0.0], [0.5], [1.0]], 9, 1))


def test_depths_of_layers():
    net = rl.MLP((4, 4, 4))({"logits": 2, "value": 1}).init(jax.random.key(0), jnp.zeros(3))
    thirds = [0, 1 / 3, 2 / 3, 1]
    np.testing.assert_allclose(
        open.depths(net), np.repeat(thirds * 2, 2)
    )  # each has a bias and a kernel


# --------------------------------------------------------------------------- rules that they can be


def chosen(feature, sign=1.0):
    """A SmallFC with one of its features as direction: relu(x) - relu(-x)."""
    weights = jax.tree.map(jnp.zeros_like, SmallFC.random(jax.random.key(0)).weights)
    first = weights["first"]["kernel"].at[feature, :2].set(jnp.array([sign, -sign]))
    second = weights["second"]["kernel"].at[:2, :2].set(jnp.eye(2))
    output = weights["output"]["kernel"].at[:2, 0].set(jnp.array([1.0, -1.0]))
    kernels = {"first": first, "second": second, "output": output}
    return SmallFC(
        weights | {name: weights[name] | {"kernel": kernel} for name, kernel in kernels.items()}
    )


def test_small_fc_can_be_normalised_gradient_descent():
    after = steps(chosen(0), num=1, lr=0.1)[0]
    for p, g, now in zip(*map(jax.tree.leaves, (PARAMS, gradients(0), after)), strict=True):
        np.testing.assert_allclose(now, np.asarray(p) - 0.1 * unit(np.asarray(g)), rtol=1e-5)


def test_small_fc_can_be_adam_but_for_its_scale():
    """In a tensor of equal gradients, where the scale is 1, whole steps of RMSProp with
    momentum.
    """
    grads = {"w": jnp.full((2, 2), 3.0)}
    params = {"w": jnp.zeros((2, 2))}
    optimizer = chosen(6)(0.1)  # momentum of 0.9 / root of squares
    changes, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(changes["w"], -0.1, rtol=1e-5)


def test_the_decays_are_weights_too():
    learned = chosen(2)  # the direction is the first momentum
    slower = replace(learned, weights=learned.weights | {"decays": jnp.zeros(7).at[0].set(-0.2)})
    slow, decay = steps(slower)[1].averages[1].momenta, 1 - 0.1 * np.exp(-2)
    np.testing.assert_allclose(slow[0], slow_average(history(3)[1], decay), rtol=1e-5)


def test_opens_step_has_no_mean_and_its_noise_moves_the_policy_alone():
    learned = OPEN.random(jax.random.key(3), 4, 8)
    flat = lambda tree: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])
    start = flat(PARAMS)
    calm, noisy = (
        flat(steps(learned, num=1, **extra_args)[0]) - start for extra_args in ({}, {"key": KEY})
    )
    np.testing.assert_allclose([calm.mean(), noisy.mean()], 0.0, atol=1e-8)
    moved = noisy - calm
    assert np.ptp(moved[-1:]) == 0.0  # the value's parameter shares in the mean alone
    assert np.ptp(moved[:-1]) > 1e-5
    np.testing.assert_allclose(moved.sum(), 0.0, atol=1e-7)
    late = flat(steps(learned, num=1, clock=CLOCK)[0]) - start
    assert (late != calm).any()  # it sees the time


# --------------------------------------------------------------------------------------- in the kit


@pytree
class Choices(Tasks):
    """`Choice`, in which action 1 pays."""

    def sample(self, key):
        return Choice()

    def score(self, env, episode_return):
        return 0.5 + episode_return / 2.0


SMALL = dict(
    schedule=rl.Constant(), num_envs=2, num_steps=8, epochs=2, minibatches=1, network=rl.MLP((4,))
)


def test_evolution_tunes_the_optimizers_weights():
    """One that changes nothing becomes one with which a learner finds the action that pays."""
    learner = rl.OnPolicy(
        lr=0.1, optimizer=OPEN.random(jax.random.key(2), 4, 8, zero=True), **SMALL
    )
    inner = InnerLoop(learner, meta_params=("optimizer.weights",), lifetime=(4, 4), episodes=8)
    evolution = Evolution(inner, ES(lr=0.03, sigma=0.1, population=16))
    training = rl.Training(evolution, Choices(), steps=12, evals=2, episodes=8)
    _, curve = jax.jit(training)(jax.random.key(0))
    assert curve["non_finite"].sum() == 0
    assert curve["evaluation"][-1] > 0.75  # 0.5 at first


class Stop(Exception):
    pass


def test_a_stopped_training_with_it_goes_on_bit_for_bit(tmp_path):
    training = rl.Training(
        rl.OnPolicy(lr=0.01, optimizer=LEARNED["OPEN"], **SMALL), Choice(), steps=64, evals=4
    )
    over = {"seed": jax.random.split(jax.random.key(0), 2)}
    whole = rl.sweep(training, over, folder=tmp_path / "whole", progress=False, save_seconds=0)

    def stop(report):
        if report.fraction > 0.5:
            raise Stop

    again = {"folder": tmp_path / "again", "save_seconds": 0}
    with pytest.raises(Stop):
        rl.sweep(training, over, progress=stop, **again)
    resumed = rl.sweep(training, over, progress=False, **again)
    for metric in ("return", "grad_norm", "loss"):
        np.testing.assert_array_equal(whole[metric], resumed[metric])


@pytest.mark.parametrize("name", LEARNED)
def test_it_is_saved_in_the_file_of_its_agent(name, tmp_path):
    learner = rl.OnPolicy(optimizer=LEARNED[name], **SMALL)
    kept = rl.load_agent(rl.save_rule(tmp_path, learner.rule, agent=learner)).optimizer
    assert type(kept) is type(LEARNED[name])
    for a, b in zip(
        jax.tree.leaves(kept.weights), jax.tree.leaves(LEARNED[name].weights), strict=True
    ):
        np.testing.assert_array_equal(a, b)
