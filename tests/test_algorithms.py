"""What every algorithm promises: it learns each lesson, traces once, takes floats as tracers, and vmap is a loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import Aim, Choice, Discounted, Matching, Seen, TimedOut, Value

import envs
import jaxrl as rl
from jaxrl import rollout
from jaxrl.rules.base import Clock

GAMMA = 0.9
SMALL = dict(network=rl.MLP((16,)), gamma=GAMMA, lr=3e-3, schedule=rl.Constant())
ALGORITHMS = {
    "ppo": lambda **kw: rl.ppo(**SMALL | dict(num_envs=8, num_steps=16, entropy_weight=0.0) | kw),
    "ppo_gru": lambda **kw: rl.ppo(
        **SMALL | dict(num_envs=8, num_steps=16, memory=rl.GRU(8), minibatches=2, entropy_weight=0.0) | kw
    ),
    "a2c": lambda **kw: rl.a2c(**SMALL | dict(lr=1e-2, num_envs=16, num_steps=8, entropy_weight=0.0) | kw),
}
FLOATS = {"lr": 1e-3, "gamma": 0.8, "lam": 0.5, "entropy_weight": 0.1, "max_grad_norm": 0.1}
every = pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
STEPS = 128 * 60


def live(algo, env, steps=STEPS, seed=0):
    train = jax.jit(lambda key: rl.train(key, algo, env, steps=steps, evals=2, episodes=0))
    return train(jax.random.key(seed))


def value_of(algo, env, state, obs):
    _, out = algo._look(env, state, algo.start(env), jnp.asarray(obs, jnp.float32).reshape(1))
    return float(out["value"][0])


def action_of(algo, env, state, obs):
    return algo.act(jax.random.key(0), env, state, algo.start(env), jnp.asarray(obs, jnp.float32).reshape(1))[1]


@every
@pytest.mark.parametrize(
    ("env", "obs", "value"),
    [(Value(), 0, 1.0), (Seen(), 1, 1.0), (Seen(), -1, -1.0), (Discounted(), 0, GAMMA), (TimedOut(), 0, 1 / (1 - GAMMA))],
    ids=["value", "seen+", "seen-", "discounted", "timed_out"],
)
def test_the_value_is_learnt(make, env, obs, value):
    algo = make(lr=1e-2)
    state, _ = live(algo, env, steps=128 * 400 if algo.epochs == 1 or isinstance(env, TimedOut) else STEPS)
    assert value_of(algo, env, state, obs) == pytest.approx(value, rel=0.12)


@every
def test_the_best_action_is_chosen(make):
    algo = make()
    state, metrics = live(algo, Choice())
    assert action_of(algo, Choice(), state, 0) == 1
    assert metrics["return"][-1] > 0.8


@every
def test_the_action_follows_the_observation(make):
    algo = make()
    state, _ = live(algo, Matching(), steps=2 * STEPS)
    assert [int(action_of(algo, Matching(), state, obs)) for obs in (-1, 1)] == [0, 1]


@every
def test_a_real_action_is_aimed(make):
    algo = make()
    state, _ = live(algo, Aim(), steps=4 * STEPS)
    for obs in (-1, 1):
        assert float(action_of(algo, Aim(), state, obs)[0]) == pytest.approx(0.5 * obs, abs=0.15)


def test_only_a_memory_recalls_the_cue():
    """MemoryChain without a memory is a coin flip, whatever is learnt; with one it is solved."""
    env = envs.make("MemoryChain", length=3)
    returns = {}
    for name in ("ppo", "ppo_gru"):
        algo = ALGORITHMS[name](lr=1e-2, gamma=0.99)
        train = lambda seed, algo=algo: rl.train(seed, algo, env, steps=128 * 250, evals=10, episodes=0)[1]["return"][-1]
        returns[name] = jax.jit(jax.vmap(train))(jnp.arange(8))
    assert (returns["ppo"] < 0.4).all()
    assert jnp.median(returns["ppo_gru"]) > 0.8


@every
def test_vmap_is_a_loop(make):
    algo, env = make(), envs.make("Catch")
    one = jax.jit(lambda key: rl.train(key, algo, env, steps=3 * 128, evals=3, episodes=2)[1])
    keys = jax.random.split(jax.random.key(1), 3)
    many = jax.jit(jax.vmap(lambda key: rl.train(key, algo, env, steps=3 * 128, evals=3, episodes=2)[1]))(keys)
    for i in range(3):
        alone = one(jax.random.split(jax.random.key(1), 3)[i])
        for name in ("return", "loss", "entropy", "grad_norm"):
            np.testing.assert_allclose(many[name][i], alone[name], rtol=2e-3, atol=2e-4, err_msg=name)


@every
def test_every_float_is_traced_at_once_and_only_once(make):
    names = FLOATS | ({"clip": 0.1} if hasattr(make().rule.objective, "clip") else {})
    chex.clear_trace_counter()
    traces = chex.assert_max_traces(
        lambda values, key: rl.train(key, make(**values), envs.make("Catch"), steps=256, evals=1, episodes=0)[1], n=1
    )
    run = jax.jit(traces)
    losses = []
    for scale in (1.0, 0.5):
        metrics = run({name: scale * value for name, value in names.items()}, jax.random.key(0))
        losses.append(float(metrics["loss"][-1]))
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]


@every
def test_ten_times_and_a_tenth_of_the_learning_rate_stay_finite(make):
    algo, env = make(), envs.make("Catch")
    run = jax.jit(lambda lr: rl.train(jax.random.key(0), make(lr=lr), env, steps=40 * 128, evals=1, episodes=0)[1])
    for factor in (10.0, 0.1):
        assert not run(algo.lr * factor)["diverged"].any()


@every
def test_a_state_is_a_checkpoint(make):
    """Two updates are one update, save, load, another update: bit for bit."""
    algo, env = make(), envs.make("Catch")
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    start = jax.jit(lambda key: algo.init(key, env, 4))(jax.random.key(0))
    keys = lambda: jax.random.split(jax.random.key(1))
    middle, _ = update(keys()[0], start)
    leaves, structure = jax.tree.flatten(middle)
    loaded = jax.tree.unflatten(structure, [jnp.asarray(np.array(x)) for x in leaves])
    chex.assert_trees_all_equal(update(keys()[1], middle), update(keys()[1], loaded))


def test_ppo_learns_from_a_time_out_as_the_oracle_does():
    """One rollout's value targets of an environment that only times out, against sums written out in NumPy."""
    algo, env = rl.ppo(gamma=GAMMA, lam=0.8, num_envs=1, num_steps=8, minibatches=1, network=rl.MLP((4,))), TimedOut()
    state = algo.init(jax.random.key(0), env)
    policy = lambda key, memory, obs: algo.explore(key, env, state, memory, obs)
    _, batch = rollout.rollout(jax.random.key(1), env, policy, state.episodes, 8)
    np.testing.assert_array_equal(batch.truncated[:, 0], [0, 0, 0, 1, 0, 0, 0, 1])
    assert not batch.terminated.any()
    _, (_, _, targets, _) = algo._prepare(env, state, batch)
    value = value_of(algo, env, state, 0)
    delta = 1 + GAMMA * value - value  # also at the time-out: the successor's value counts
    advantage = [sum((GAMMA * 0.8) ** k * delta for k in range(4 - t % 4)) for t in range(8)]
    np.testing.assert_allclose(targets.advantage.ravel(), advantage, rtol=1e-4)


def test_normalised_observations_are_what_the_stream_says_and_frozen_in_evaluation():
    algo, env = rl.ppo(normalize_obs=True, normalize_reward=True, num_steps=32), envs.make("CartPole-v1")
    state = algo.init(jax.random.key(0), env)
    seen = []
    for i in range(3):
        policy = lambda key, memory, obs, state=state: algo.explore(key, env, state, memory, obs)
        key_act = jax.random.split(jax.random.key(i + 1))[0]
        seen.append(rollout.rollout(key_act, env, policy, state.episodes, 32)[1].obs)
        state, _ = algo.update(jax.random.key(i + 1), env, state)
    stream = np.concatenate([np.asarray(x).reshape(-1, 4) for x in seen])
    np.testing.assert_allclose(state.obs_stats.mean, stream.mean(0), atol=1e-4)
    np.testing.assert_allclose(state.obs_stats.variance, stream.var(0), rtol=1e-3)
    scaled = jnp.asarray((stream[5] - stream.mean(0)) / stream.std(0), jnp.float32)
    plain = rl.ppo(num_steps=32)
    shown = algo._look(env, state, (), jnp.asarray(stream[5]))[1]["logits"]
    np.testing.assert_allclose(shown, plain._look(env, state, (), scaled)[1]["logits"], atol=1e-4)


def test_reward_is_scaled_by_the_spread_of_the_discounted_return():
    algo, env = rl.ppo(normalize_reward=True, gamma=GAMMA, num_steps=64, num_envs=2, network=rl.MLP((4,))), Discounted()
    state = algo.init(jax.random.key(0), env)
    policy = lambda key, memory, obs: algo.explore(key, env, state, memory, obs)
    _, batch = rollout.rollout(jax.random.key(1), env, policy, state.episodes, 64)
    scaled_state, scaled = algo._scale_rewards(state, batch)
    totals = np.zeros((64, 2))
    running = np.zeros(2)
    for t in range(64):
        running = GAMMA * running + np.asarray(batch.reward[t])
        totals[t] = running
        running = np.where(batch.done[t], 0, running)
    np.testing.assert_allclose(scaled_state.reward_stats.variance, totals.var(), rtol=1e-3)
    np.testing.assert_allclose(scaled.reward, batch.reward / totals.std(), rtol=1e-3)


def test_the_learning_rate_follows_the_clock_of_steps():
    schedule = rl.Linear(0.1)
    rates = [float(schedule(Clock(n, 10.0))) for n in (0, 5, 10, 15)]
    np.testing.assert_allclose(rates, [1.0, 0.55, 0.1, 0.1], rtol=1e-6)
    assert float(schedule(Clock(7, float("inf")))) == 1.0
    frozen = rl.ppo(lr=1e-2, schedule=rl.Linear(0.0), num_envs=2, num_steps=8)
    env = Choice()
    state = frozen.init(jax.random.key(0), env, num_updates=1)
    state, _ = frozen.update(jax.random.key(1), env, state)
    later, _ = frozen.update(jax.random.key(2), env, state)  # past its life: the rate is 0
    chex.assert_trees_all_equal(state.params, later.params)


def test_any_optax_function_is_an_optimizer():
    algo = rl.ppo(optimizer=optax.sgd, num_envs=2, num_steps=8)
    assert algo.optimizer == rl.Optimizer(optax.sgd)
    swept = rl.ppo(optimizer=rl.Optimizer(optax.adam, {"b1": 0.5}))
    assert 0.5 in jax.tree.leaves(swept)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_envs=64, num_steps=32, minibatches=3), r"minibatches=3 does not divide .* 64 \* 32 = 2048; .*4.* would"),
        (dict(num_envs=6, minibatches=4, memory=rl.GRU(4)), "whole trajectories"),
        (dict(num_envs=0), "positive whole number"),
    ],
)
def test_counts_that_do_not_fit_are_explained(fields, message):
    with pytest.raises(ValueError, match=message):
        rl.ppo(**fields)


def test_an_array_where_a_count_belongs_is_explained():
    with pytest.raises(TypeError, match=r"num_envs is static.*num_envs=4"):
        rl.ppo(num_envs=jnp.array([4, 8]))


def test_continuous_actions_are_refused_by_a_rule_for_discrete_ones():
    class DiscreteOnly(rl.Surrogate):
        action_spaces = (rl.Discrete,)

    algo = rl.OnPolicy(rule=rl.pytree(DiscreteOnly)())
    with pytest.raises(TypeError, match=r"DiscreteOnly takes actions of Discrete.*Box action space"):
        algo.init(jax.random.key(0), Aim())
