"""Counts of steps beyond 2 ** 24 and 2 ** 31, learning rates that a state stores, and
standardisation over a single row.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from members import quick
from probes import Choice

import envs
import jaxrl as rl
from jaxrl import returns, tree
from jaxrl.clock import LAST_UPDATE, Clock
from jaxrl.meta import ES
from jaxrl.meta.program_search import _ring
from jaxrl.optimizer import Optimizer, at_rate, is_due, polyak_update
from jaxrl.rules.surrogate import Surrogate

CATCH = envs.make("Catch", rows=3, columns=3)

# -------------------------------------------------------------------------- steps beyond 2 ** 31


def test_more_updates_than_a_counter_holds_are_refused():
    for make, text in (
        (lambda: rl.Training(rl.dqn(), CATCH, 3_000_000_000, 1), "write steps=2147483647 or fewer"),
        (lambda: rl.Training(rl.dqn(updates=20), CATCH, 10**9, 100), "steps=107374182 or fewer"),
        (lambda: rl.Training(rl.dqn(), CATCH, 300_000_000, 1), "write evals=18 or more"),
        (lambda: rl.Training(rl.ppo(num_envs=64), CATCH, 3 * 10**10, 1), "write evals=14 or more"),
    ):
        with pytest.raises(ValueError, match=text):
            _ = make().updates
    assert rl.Training(rl.dqn(), CATCH, 300_000_000, 18).updates.sum() == 300_000_000


def test_the_step_axis_is_exact_beyond_int32():
    training = rl.Training(rl.dqn(num_envs=64, num_steps=7), CATCH, 30_000_000_000, 20)
    clocks = training.clocks
    assert clocks["step"][-1] == 30_000_000_000 // (64 * 7) * (64 * 7)
    assert clocks["step"].dtype == np.int64
    assert clocks["eval_step"][-1] == 20 * 16 * CATCH.max_steps
    assert rl.Training(rl.dqn(), CATCH, 1_000, 1).clocks["step"].dtype == np.int32


@pytest.mark.parametrize("stop_after", [3e9, 2.0**36, 2.0**40, float("inf")])
def test_a_member_may_stop_after_more_steps_than_int32(stop_after):
    training = rl.Training(rl.dqn(num_envs=64), CATCH, 1_000, 1, stop_after=stop_after)
    last = training._last_update
    assert last.dtype == jnp.int32
    assert last == min(stop_after / 64, LAST_UPDATE)


def test_the_clock_stops_at_the_last_update():
    clock = Clock(jnp.int32(LAST_UPDATE - 1), jnp.float32(LAST_UPDATE)).tick()
    assert clock.n == LAST_UPDATE
    assert clock.tick().n == LAST_UPDATE
    assert clock.tick().n.dtype == jnp.int32
    assert Clock(3, 10.0).tick().n == 4


def test_a_dqn_is_greedy_and_learns_after_2_to_the_31_steps():
    """It acted at random and learned nothing where clock.n * steps_per_update had a wrong sign."""
    algo = rl.dqn(
        network=rl.MLP((4,)), num_envs=8, batch_size=8, capacity=64, warmup=16,
        epsilon_start=0.0, epsilon_end=0.0,
    )  # fmt: skip
    env = Choice()

    @quick
    def run(n):
        state = algo.init(jax.random.key(0), env)
        state, _ = algo.update(jax.random.key(1), env, state)
        state = tree.replace(state, clock=Clock(n, jnp.float32(jnp.inf)))
        later, _ = algo.update(jax.random.key(2), env, state)
        policy = algo.policy(env, algo.agent(state), greedy=False)
        keys = jax.random.split(jax.random.key(3), 64)
        episode = jax.tree.map(lambda x: x[0], state.episodes)
        actions = jax.vmap(lambda key: policy(key, episode)[1])(keys)
        moved = jax.tree.map(lambda a, b: (a != b).any(), state.params, later.params)
        return jnp.stack(jax.tree.leaves(moved)).any(), actions

    moved, actions = jax.vmap(run)(jnp.array([2**28, 2**28 + 1, 2**30], jnp.int32))
    assert moved.all()
    assert (actions == actions[:, :1]).all()
    moved, actions = jax.vmap(run)(jnp.array([0, 1, 1], jnp.int32))
    np.testing.assert_array_equal(moved, [False, True, True])
    assert len(set(actions[0].tolist())) == 2


def test_the_slots_of_a_ring_are_consecutive_beyond_int32():
    for n in (0, 3, 2**27 + 5, 2**31 - 1):
        for count, size, offset in ((64, 1_000, 1), (16, 64, 0), (128, 4_096, 1)):
            expected = [(n * count + offset + i) % size for i in range(count)]
            assert _ring(jnp.int32(n), count, size, offset).tolist() == expected


# ------------------------------------------------------------------ gradient steps beyond 2 ** 24


@pytest.mark.parametrize("start", [1, 16_777_190, 16_778_217, 2**31 - 3_001])
@pytest.mark.parametrize("period", [1.0, 2.0, 3.0, 20.0, 500.0])
def test_a_period_is_exact_at_any_step(start, period):
    steps = np.arange(start, start + 3_000)
    due = is_due(jnp.asarray(steps, jnp.int32), jnp.float32(period))
    np.testing.assert_array_equal(due, steps % int(period) == 0)


def test_a_period_that_was_searched_is_rounded():
    steps = jnp.arange(1, 1_001)
    assert is_due(steps, 123.4).sum() == 8
    assert is_due(steps, 0.2).all()
    assert not is_due(steps, float("inf")).any()


def test_a_target_network_keeps_its_period():
    steps = jnp.asarray(np.arange(16_778_217, 16_778_217 + 6_000), jnp.int32)
    for period, moves in ((2.0, 3_000), (20.0, 300)):
        moved = polyak_update(jnp.zeros(6_000), jnp.ones(6_000), steps, 1.0, period)
        assert moved.sum() == moves


# --------------------------------------------------------------- learning rates that a state stores

PARAMS = {"w": jnp.arange(1.0, 4.0), "b": jnp.float32(0.5)}


def weights_after(build, num_steps=20, lr=0.01):
    """Weights after steps at lr * (1 - n / num_steps)."""

    def step(now, n):
        params, state = now
        optimizer = at_rate(build, lr, params, 1.0 - n / num_steps)
        grads = jax.tree.map(lambda x: jnp.sin((n + 1) * x), params)
        changes, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, changes), state), None

    start = PARAMS, build(lr).init(PARAMS)
    return jax.lax.scan(step, start, jnp.arange(num_steps))[0][0]


def chain(build):
    return lambda lr: optax.chain(optax.clip(0.5), build(lr))


STORED = {
    "adam": (optax.inject_hyperparams(optax.adam), optax.adam),
    "chain": (chain(optax.inject_hyperparams(optax.adamw)), chain(optax.adamw)),
    "momentum of steps": (optax.inject_hyperparams(optax.lars), optax.lars),
    "Optimizer": (Optimizer(optax.inject_hyperparams(optax.sgd), {"momentum": 0.9}),
                  Optimizer(optax.sgd, {"momentum": 0.9})),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_a_stored_learning_rate_follows_the_schedule(name):
    stored, plain = STORED[name]
    found, expected = jax.jit(lambda: (weights_after(stored), weights_after(plain)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, expected)


def test_steps_that_adapt_from_the_learning_rate_are_scaled():
    """Rprop's state is its step sizes, which begin at the learning rate."""

    def by_hand(num_steps=20, lr=0.01):
        params, state = PARAMS, optax.rprop(lr).init(PARAMS)
        for n in range(num_steps):
            grads = jax.tree.map(lambda x, n=n: jnp.sin((n + 1) * x), params)
            changes, state = optax.rprop(lr).update(grads, state, params)
            changes = jax.tree.map(lambda x, n=n: x * (1.0 - n / num_steps), changes)
            params = optax.apply_updates(params, changes)
        return params

    found, expected = jax.jit(lambda: (weights_after(optax.rprop), by_hand()))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, expected)


SMALL = {"network": rl.MLP((4,)), "num_envs": 2, "num_steps": 4}
REPLAY = SMALL | {"batch_size": 4, "capacity": 64, "warmup": 8}
LEARNERS = {
    "ppo": (rl.ppo, SMALL),
    "dqn": (rl.dqn, REPLAY | {"schedule": rl.Linear()}),
    "sac_discrete": (rl.sac_discrete, REPLAY | {"schedule": rl.Linear()}),
    "sqirl": (rl.sqirl, REPLAY | {"schedule": rl.Linear(), "depth": 1}),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_with_a_stored_learning_rate_learns_as_with_a_plain_one(name):
    preset, fields = LEARNERS[name]
    builds = optax.inject_hyperparams(optax.adam), optax.adam

    @quick
    def train():
        algos = [preset(lr=0.05, optimizer=build, **fields) for build in builds]
        runs = [rl.Training(algo, Choice(), 8 * 12, 1, episodes=0)(0) for algo in algos]
        return [state.params for state, _ in runs]

    found, expected = train()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_a_strategy_with_a_stored_learning_rate_decays_it():
    def climb(build):
        strategy = ES(lr=0.1, lr_decay=0.5, population=8, optimizer=build)

        def one(state, n):
            key = jax.random.fold_in(jax.random.key(0), n)
            return strategy.update(key, state, lambda key, params: -jnp.sum(params["w"] ** 2))

        start = strategy.init({"w": jnp.ones(2)}, 10)
        return jax.lax.scan(one, start, jnp.arange(10))[0].params["w"]

    found, expected = quick(
        lambda: (climb(optax.inject_hyperparams(optax.adam)), climb(optax.adam))
    )()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ------------------------------------------------------------------------------------ a single row


def test_a_single_row_is_not_standardized():
    assert returns.standardized(jnp.full((1, 1), 3.0), 1e-8) == 3.0
    np.testing.assert_allclose(returns.standardized(jnp.array([1.0, 3.0]), 0.0), [-1.0, 1.0])
    assert Surrogate()._normalized(jnp.array([3.0])) == 3.0


def test_minibatches_of_one_learn_as_without_normalisation():
    def train(normalize_advantage):
        algo = rl.ppo(
            network=rl.MLP((4,)), num_envs=1, num_steps=8, minibatches=8, epochs=1,
            normalize_advantage=normalize_advantage,
        )  # fmt: skip
        state, metrics = rl.Training(algo, Choice(), 8 * 8, 1, episodes=0)(0)
        return state.params, metrics["policy_loss"]

    (params, loss), (plain, _) = quick(lambda: (train(True), train(False)))()
    assert np.abs(loss).max() > 0.0
    jax.tree.map(np.testing.assert_array_equal, params, plain)


def test_groups_and_batches_of_one_are_refused():
    with pytest.raises(ValueError, match="group_size=1"):
        rl.grpo(group_size=1)
    network = rl.MLP((4,), activation=jax.nn.relu, shared=True, batch_norm=True)
    algo = rl.crossq(network=network, critic_network=network, batch_size=1, warmup=8)
    env = envs.make("Pendulum-v1")

    def update(key):
        return algo.update(key, env, algo.init(key, env))

    with pytest.raises(ValueError, match=r"a single row.*batch_size=128"):
        jax.eval_shape(update, jax.random.key(0))
