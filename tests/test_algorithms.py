"""What every algorithm promises: it learns each lesson, traces once, takes floats as tracers, and
vmap is a loop.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from members import ACTIONS, GAMMA, LESSONS, MEMBERS, VALUES, floats_of, make, quick, value_of
from probes import Aim, Choice, Discounted, TimedOut

import envs
import jaxrl as rl
from jaxrl import rollout, tree
from jaxrl.rules.base import Clock

KINDS = {"discrete": rl.Discrete(2), "continuous": rl.Box(-1.0, 1.0, (1,))}
RUNS = [
    *LESSONS,
    "aim",
    "aim",
    "aim",
]  # as they are; the last with ten times and a tenth of lr, and half of every float
TEN, TENTH, HALF = 6, 7, 8
ROWS = 25  # short ones: what a member does is compared along one, before rounding has grown


def takes(name, kind):
    """Whether it has a policy for such actions."""
    algo = make(name)
    core = algo.learner if isinstance(algo, rl.OffPolicy) else algo.rule
    return type(KINDS[kind]) in getattr(core, "action_spaces", (rl.Discrete, rl.Box))


PAIRS = [(name, kind) for name in MEMBERS for kind in KINDS if takes(name, kind)]
every = pytest.mark.parametrize(
    ("name", "kind"), PAIRS, ids=[f"{name}-{kind}" for name, kind in PAIRS]
)


def training_of(name, floats, lesson):
    algo = make(name, **floats)
    return rl.Training(
        algo, lesson, steps=MEMBERS[name][0] * algo.steps_per_update, evals=ROWS, episodes=0
    )


def compiler(name):
    """At level 0 XLA makes NaNs of a traced policy_delay under vmap, which it does at no other,
    nor step by step.
    """
    return jax.jit if isinstance(getattr(make(name), "learner", None), rl.ActorCritic) else quick


def runs(name, kind):
    """What each run is given: every float of the maker, a lesson, a key. [9, ...]."""
    floats = {key: np.full(len(RUNS), value, np.float32) for key, value in floats_of(name).items()}
    for key, value in floats.items():
        value[HALF] /= 2.0
        if key == "lr":
            value[TEN], value[TENTH] = 10.0 * value[TEN], 0.1 * value[TENTH]
    lessons = [tree.replace(LESSONS[lesson], action_space=KINDS[kind]) for lesson in RUNS]
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y, jnp.float32) for y in x]), *lessons)
    return (
        jax.tree.map(jnp.asarray, floats),
        stacked,
        jax.random.split(jax.random.key(0), len(RUNS)),
    )


@functools.cache
def lived(name, kind):
    """All runs as one program: states begun, metrics, and what is done and thought at -1, 0 and 1;
    the number of traces.
    """
    traced = []

    def life(floats, lesson, key):
        traced.append(name)
        training = training_of(name, floats, lesson)
        algo, begun = training.algo, training.begin(key)
        state, metrics = jax.lax.scan(
            lambda state, row: training.advance(key, state, row), begun, jnp.arange(ROWS)
        )
        act = lambda obs: jnp.ravel(
            algo.act(jax.random.key(0), lesson, state, algo.start(lesson), obs)[1]
        )[0]
        at = jnp.array([[-1.0], [0.0], [1.0]])
        return (
            begun,
            metrics,
            jax.vmap(act)(at),
            jax.vmap(lambda obs: value_of(algo, lesson, state, obs))(at),
        )

    with jax.debug_key_reuse(False):  # a greedy action's key is not used
        return *compiler(name)(jax.vmap(life))(*runs(name, kind)), len(traced)


def test_every_algorithm_is_here():
    assert set(MEMBERS) == set(rl.PRESETS)


@every
def test_every_lesson_is_learnt(name, kind):
    """Values where it has any, and the best actions; an algorithm without values is known by its
    actions alone.
    """
    _, _, actions, values, _ = lived(name, kind)
    if not jnp.isnan(values).all():
        for lesson, obs, value in VALUES:
            assert float(values[RUNS.index(lesson), obs + 1]) == pytest.approx(value, rel=0.15), (
                lesson,
                obs,
            )
    for lesson, obs, sign in ACTIONS:
        wanted = 0.5 * sign if kind == "continuous" else (sign + 1) // 2
        assert float(actions[RUNS.index(lesson), obs + 1]) == pytest.approx(wanted, abs=0.15), (
            lesson,
            obs,
        )


@every
def test_every_float_is_traced_in_one_trace(name, kind):
    _, metrics, _, _, traced = lived(name, kind)
    assert traced == 1
    assert {"lr", "gamma"} <= set(floats_of(name))
    measures = {"loss", "grad_norm"} & set(metrics)
    seen = [np.asarray(metrics[measure][[5, TEN, TENTH, HALF], 0]).tolist() for measure in measures]
    assert any(len(set(x)) == 4 for x in seen)  # they had their say


@every
def test_ten_times_and_a_tenth_of_the_learning_rate_stay_finite(name, kind):
    _, metrics, actions, _, _ = lived(name, kind)
    assert MEMBERS[name][0] >= 40
    assert not metrics["diverged"].any()
    assert jnp.isfinite(actions).all()
    assert all(
        jnp.isfinite(metrics[measure]).all()
        for measure in ("loss", "grad_norm", "return")
        if measure in metrics
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_vmap_is_a_loop_and_a_state_is_a_checkpoint(name):
    """A run alone does what it did among nine; and two rows are one, save, load, another: bit for
    bit.
    """
    kind = next(kind for other, kind in PAIRS if other == name)
    begun, metrics, _, _, _ = lived(name, kind)
    floats, lesson, keys = jax.tree.map(lambda x: x[HALF], runs(name, kind))
    advance = compiler(name)(
        lambda state, row: training_of(name, floats, lesson).advance(keys, state, row)
    )
    state, row = advance(jax.tree.map(lambda x: x[HALF], begun), 0)
    for measure in {"return", "loss", "grad_norm", "entropy", "td_error"} & set(row):
        np.testing.assert_allclose(
            metrics[measure][HALF, 0], row[measure], rtol=2e-2, atol=2e-3, err_msg=measure
        )
    leaves, structure = jax.tree.flatten(state)
    assert all(np.size(x) > 0 for x in leaves)  # checkpoints can't hold nothing
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    kept = jax.tree.unflatten(structure, [x if is_key(x) else np.array(x) for x in leaves])
    chex.assert_trees_all_equal(advance(state, 1), advance(kept, 1))


# ---------------------------------------------------------------------------------- the loop of PPO

SMALL = dict(
    network=rl.MLP((16,)),
    gamma=GAMMA,
    num_envs=8,
    num_steps=16,
    entropy_weight=0.0,
    schedule=rl.Constant(),
)


def test_only_a_memory_recalls_the_cue():
    """MemoryChain without a memory is a coin flip, whatever is learnt; with one it is solved."""
    env = envs.make("MemoryChain", length=3)
    returns = {}
    for name, fields in {"plain": {}, "gru": dict(memory=rl.GRU(8), minibatches=2)}.items():
        algo = rl.ppo(**SMALL | fields | dict(lr=1e-2, gamma=0.99))
        train = lambda seed, algo=algo: rl.train(
            seed, algo, env, steps=128 * 250, evals=10, episodes=0
        )[1]["return"][-1]
        returns[name] = jax.jit(jax.vmap(train))(jnp.arange(8))
    assert (returns["plain"] < 0.4).all()
    assert jnp.median(returns["gru"]) > 0.8


def value_at(algo, env, state, obs):
    _, out = algo.look(env, state, algo.start(env), jnp.asarray(obs, jnp.float32).reshape(1))
    return float(out["value"][0])


def test_ppo_learns_from_a_time_out_as_the_oracle_does():
    """One rollout's value targets of an environment that only times out, against sums written out
    in NumPy.
    """
    algo, env = (
        rl.ppo(gamma=GAMMA, lam=0.8, num_envs=1, num_steps=8, minibatches=1, network=rl.MLP((4,))),
        TimedOut(),
    )
    state = algo.init(jax.random.key(0), env)
    policy = lambda key, memory, obs: algo.explore(key, env, state, memory, obs)
    _, batch = rollout.rollout(jax.random.key(1), env, policy, state.episodes, 8)
    np.testing.assert_array_equal(batch.truncated[:, 0], [0, 0, 0, 1, 0, 0, 0, 1])
    assert not batch.terminated.any()
    _, (_, _, targets, _) = algo._prepare(env, state, batch)
    value = value_at(algo, env, state, 0)
    delta = 1 + GAMMA * value - value  # also at the time-out: the successor's value counts
    advantage = [sum((GAMMA * 0.8) ** k * delta for k in range(4 - t % 4)) for t in range(8)]
    np.testing.assert_allclose(targets.advantage.ravel(), advantage, rtol=1e-4)


def test_normalised_observations_are_what_the_stream_says_and_frozen_in_evaluation():
    algo, env = (
        rl.ppo(normalize_obs=True, normalize_reward=True, num_steps=32),
        envs.make("CartPole-v1"),
    )
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
    shown = algo.look(env, state, (), jnp.asarray(stream[5]))[1]["logits"]
    np.testing.assert_allclose(shown, plain.look(env, state, (), scaled)[1]["logits"], atol=1e-4)


def test_reward_is_scaled_by_the_spread_of_the_discounted_return():
    algo, env = (
        rl.ppo(normalize_reward=True, gamma=GAMMA, num_steps=64, num_envs=2, network=rl.MLP((4,))),
        Discounted(),
    )
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
        (
            dict(num_envs=64, num_steps=32, minibatches=3),
            r"minibatches=3 does not divide .* 64 \* 32 = 2048; .*4.* would",
        ),
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
    with pytest.raises(
        TypeError, match=r"DiscreteOnly takes actions of Discrete.*Box action space"
    ):
        algo.init(jax.random.key(0), Aim())


def test_a_distribution_in_place_of_an_environment_is_refused():
    with pytest.raises(TypeError, match=r"it is a distribution of them.*tasks\.sample\(key\)"):
        rl.OnPolicy().init(jax.random.key(0), envs.distribution("LPGGrid-tiny"))
