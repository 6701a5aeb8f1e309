"""Promises of every algorithm: lessons are learned, floats are traced once, masked actions are
never taken, and vmap is a loop.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from members import ACTIONS, GAMMA, LESSONS, MEMBERS, VALUES, floats_of, make, start_at, value_of
from probes import Aim, Choice, TimedOut

import envs
import jaxrl as rl
from jaxrl import normalize, tree
from jaxrl.clock import Clock
from jaxrl.sweep.checkpoint import Checkpoints
from jaxrl.sweep.grid import raw

KINDS = {"discrete": rl.Discrete(2), "continuous": rl.Box(-1.0, 1.0, (1,))}
# as they are; the last with ten times and a tenth of lr, and with half of every float
RUNS = [*LESSONS, "aim", "aim", "aim"]
TEN, TENTH, HALF = 7, 8, 9
ROWS = 25  # short ones: members are compared along the first, before rounding has grown
ALWAYS = ("ppo", "dqn", "sac")  # the others rotate, with their lessons (tests/rotating.txt)


def takes(name, kind):
    """Whether it has a policy for such actions."""
    algo = make(name)
    core = algo.learner if isinstance(algo, rl.OffPolicy) else algo.rule
    return type(KINDS[kind]) in core.action_spaces


PAIRS = [(name, kind) for name in MEMBERS for kind in KINDS if takes(name, kind)]
IDS = [f"{name}-{kind}" for name, kind in PAIRS]
every = pytest.mark.parametrize(("name", "kind"), PAIRS, ids=IDS)


def training_of(name, floats, lesson):
    algo = make(name, **floats)
    steps = MEMBERS[name][0] * algo.steps_per_update
    return rl.Training(algo, lesson, steps=steps, evals=ROWS, episodes=0)


def runs(name, kind):
    """Every float of each run, its lesson and its key. [10, ...]."""
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
def trained(name, kind):
    """All runs as one program: initial states; metrics; actions and values at -1, 0 and 1; the
    actions where only the first or only the second is allowed; the number of traces.
    """
    traced = []

    def run(floats, lesson, key):
        traced.append(name)
        training = training_of(name, floats, lesson)
        algo, initial = training.algo, training.init(key)
        state, metrics = jax.lax.scan(
            lambda state, row: training.run_row(key, state, row), initial, jnp.arange(ROWS)
        )
        policy = algo.policy(lesson, algo.agent(state), greedy=True)

        def act(obs):
            return jnp.ravel(policy(jax.random.key(0), start_at(obs, policy.rnn_state))[1])[0]

        at = [lesson.observe(jnp.array([x])) for x in (-1.0, 0.0, 1.0)]
        alone = [lesson.observe(jnp.zeros(1), allowed) for allowed in np.eye(2, dtype=bool)]
        return (
            initial,
            metrics,
            jnp.stack([act(obs) for obs in at]),
            jnp.stack([value_of(algo, lesson, state, obs) for obs in at]),
            jnp.stack([act(obs) for obs in alone]),
        )

    with jax.debug_key_reuse(False):  # a greedy action's key is not used
        return *jax.jit(jax.vmap(run))(*runs(name, kind)), len(traced)


def test_every_algorithm_is_here():
    assert set(MEMBERS) == set(rl.PRESETS)


@every
def test_every_lesson_is_learned(name, kind):
    """Values where it has any, and the best actions; without values, the actions alone."""
    _, _, actions, values, _, _ = trained(name, kind)
    if not jnp.isnan(values).all():
        for lesson, obs, value in VALUES:
            found = float(values[RUNS.index(lesson), obs + 1])
            assert found == pytest.approx(value, rel=0.15), (lesson, obs)
    for lesson, obs, sign in ACTIONS:
        expected = 0.5 * sign if kind == "continuous" else (sign + 1) // 2
        found = float(actions[RUNS.index(lesson), obs + 1])
        assert found == pytest.approx(expected, abs=0.15), (lesson, obs)


@every
def test_every_float_is_traced_in_one_trace(name, kind):
    _, metrics, _, _, _, traced = trained(name, kind)
    assert traced == 1
    assert {"lr", "gamma"} <= set(floats_of(name))
    measures = {"loss", "grad_norm"} & set(metrics)
    aim = RUNS.index("aim")
    seen = [np.asarray(metrics[measure][[aim, TEN, TENTH, HALF], 0]) for measure in measures]
    assert any(len(set(x.tolist())) == 4 for x in seen)  # each of them made a difference


@every
def test_ten_times_and_a_tenth_of_the_learning_rate_stay_finite(name, kind):
    _, metrics, actions, _, _, _ = trained(name, kind)
    assert MEMBERS[name][0] >= 40
    assert not metrics["diverged"].any()
    assert jnp.isfinite(actions).all()
    measures = {"loss", "grad_norm", "return"} & set(metrics)
    assert all(jnp.isfinite(metrics[measure]).all() for measure in measures)


def rotating(names):
    return [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.rotate) for name in names
    ]


@pytest.mark.parametrize("name", rotating(name for name, kind in PAIRS if kind == "discrete"))
def test_a_masked_action_is_never_taken(name):
    """Neither in training, warm-up included, where the allowed one of two is paid; nor greedily."""
    _, metrics, _, _, alone, _ = trained(name, "discrete")
    masked = RUNS.index("masked")
    np.testing.assert_array_equal(metrics["return"][masked], np.ones(ROWS))
    np.testing.assert_array_equal(alone, [[0, 1]] * len(RUNS))


@every
def test_a_state_is_a_checkpoint(name, kind, tmp_path):
    """Through a file and back, all leaves are the same; rows keep their types, as `scan` checks."""
    state = trained(name, kind)[0]
    leaves = jax.tree.leaves(state)
    assert all(np.size(x) > 0 for x in leaves)  # an empty array has no place in a checkpoint
    writer = Checkpoints(tmp_path, 0, len(RUNS), len(RUNS), 0.0)
    writer.offer(state, [{"loss": np.zeros(len(RUNS))}])
    writer.close(finished=False)
    kept, rows = Checkpoints(tmp_path, 0, len(RUNS), len(RUNS), 0.0).newest(state)
    assert len(rows) == 1  # of the file
    for before, after in zip(leaves, jax.tree.leaves(kept), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(raw(before), raw(after))


@pytest.mark.parametrize("name", rotating(MEMBERS))
def test_vmap_is_a_loop_and_a_state_is_a_checkpoint(name):
    """A run alone gives what it gave among ten; and two rows are one, save, load, another: bit for
    bit.
    """
    kind = next(kind for other, kind in PAIRS if other == name)
    initial, metrics, _, _, _, _ = trained(name, kind)
    floats, lesson, key = jax.tree.map(lambda x: x[HALF], runs(name, kind))
    run_row = jax.jit(lambda state, row: training_of(name, floats, lesson).run_row(key, state, row))
    state, row = run_row(jax.tree.map(lambda x: x[HALF], initial), 0)
    for measure in {"return", "loss", "grad_norm", "entropy", "td_error"} & set(row):
        np.testing.assert_allclose(
            metrics[measure][HALF, 0], row[measure], rtol=2e-2, atol=2e-3, err_msg=measure
        )
    leaves, structure = jax.tree.flatten(state)
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    kept = jax.tree.unflatten(structure, [x if is_key(x) else np.array(x) for x in leaves])
    chex.assert_trees_all_equal(run_row(state, 1), run_row(kept, 1))


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
    """MemoryChain without a memory is a coin flip, whatever is learned; with one it is solved."""
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


def test_ppo_learns_from_a_time_out_as_the_oracle_does():
    """One rollout's value targets of an environment that only times out, against sums written out
    in NumPy.
    """
    algo = rl.ppo(
        gamma=GAMMA, lam=0.8, num_envs=1, num_steps=8, minibatches=1, network=rl.MLP((4,))
    )
    env = TimedOut()

    @jax.jit
    def run(key):
        key_init, key_play = jax.random.split(key)
        state = algo.init(key_init, env)
        batch = algo.collect(key_play, env, state)[1].transitions
        targets = algo._prepare(env, state, (), batch)[1].targets
        return batch, targets.advantage, algo.forward(env, state, (), jnp.zeros(1))[1]["value"][0]

    batch, found, value = run(jax.random.key(0))
    np.testing.assert_array_equal(batch.truncated[:, 0], [0, 0, 0, 1, 0, 0, 0, 1])
    assert not batch.terminated.any()
    delta = 1 + GAMMA * value - value  # also at the time-out: the successor's value counts
    advantage = [sum((GAMMA * 0.8) ** k * delta for k in range(4 - t % 4)) for t in range(8)]
    np.testing.assert_allclose(found.ravel(), advantage, rtol=1e-4)


def test_observations_are_normalised_by_their_stream_and_frozen_in_evaluation():
    algo = rl.ppo(normalize_obs=True, normalize_reward=True, num_steps=32)
    env, plain = envs.make("CartPole-v1"), rl.ppo(num_steps=32)
    state = jax.jit(lambda key: algo.init(key, env))(jax.random.key(0))

    @jax.jit
    def update(key, state):
        key_collect = jax.random.split(jax.random.clone(key))[0]  # as `update` derives it
        obs = algo.collect(key_collect, env, state)[1].transitions.obs
        return obs, algo.update(key, env, state)[0]

    observed = []
    for i in range(3):
        obs, state = update(jax.random.key(i + 1), state)
        observed.append(np.asarray(obs).reshape(-1, 4))
    stream = np.concatenate(observed)
    np.testing.assert_allclose(state.obs_stats.mean, stream.mean(0), atol=1e-4)
    np.testing.assert_allclose(state.obs_stats.variance, stream.var(0), rtol=1e-3)
    scaled = jnp.asarray((stream[5] - stream.mean(0)) / stream.std(0), jnp.float32)
    found = algo.forward(env, state, (), jnp.asarray(stream[5]))[1]["logits"]
    raw = tree.replace(plain.agent(state), obs_stats=None)
    np.testing.assert_allclose(found, plain.forward(env, raw, (), scaled)[1]["logits"], atol=1e-4)


def test_reward_is_scaled_by_the_standard_deviation_of_the_discounted_return():
    """Against a loop over the steps."""
    reward = np.asarray(np.random.default_rng(0).normal(size=(64, 2)), np.float32)
    done = np.random.default_rng(1).uniform(size=(64, 2)) < 0.3
    stats = normalize.update_returns(normalize.init_returns(True, (2,)), reward, done, GAMMA)
    totals, running = np.zeros((64, 2)), np.zeros(2)
    for t in range(64):
        running = GAMMA * running + reward[t]
        totals[t] = running
        running = np.where(done[t], 0, running)
    np.testing.assert_allclose(stats.running.variance, totals.var(), rtol=1e-3)
    np.testing.assert_allclose(stats.total, running, rtol=1e-4)
    scaled = normalize.scale_rewards(stats, jnp.asarray(reward), True)
    np.testing.assert_allclose(scaled, reward / totals.std(), rtol=1e-3)
    assert normalize.init_returns(False, (2,)) is None
    assert normalize.scale_rewards(None, reward, False) is reward


def test_the_learning_rate_follows_the_clock_of_steps():
    schedule = rl.Linear(0.1)
    rates = [float(schedule(Clock(n, 10.0))) for n in (0, 5, 10, 15)]
    np.testing.assert_allclose(rates, [1.0, 0.55, 0.1, 0.1], rtol=1e-6)
    assert float(schedule(Clock(7, float("inf")))) == 1.0
    frozen = rl.ppo(lr=1e-2, schedule=rl.Linear(0.0), num_envs=2, num_steps=8)
    env = Choice()
    state = frozen.init(jax.random.key(0), env, num_updates=1)
    update = jax.jit(lambda key, state: frozen.update(key, env, state)[0])
    state = update(jax.random.key(1), state)
    later = update(jax.random.key(2), state)  # beyond its last update: the rate is 0
    chex.assert_trees_all_equal(state.params, later.params)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (rl.Constant(), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (rl.Linear(0.2), [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (rl.Cooldown(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
        (rl.Cooldown(0.5, 0.2), [1.0, 1.0, 1.0, 0.6, 0.2, 0.2]),
        (rl.Cooldown(0.0, 0.2), [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (rl.Cooldown(1.0), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
        (rl.Cosine(), [1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0.0, 0.0]),
        (rl.Cosine(0.5), [1.0, (6 + 2**0.5) / 8, 0.75, (6 - 2**0.5) / 8, 0.5, 0.5]),
    ],
)
def test_the_factor_of_a_schedule(schedule, factors):
    """After quarters of a training run and beyond its end."""
    found = [float(schedule(Clock(n, 12.0))) for n in (0, 3, 6, 9, 12, 15)]
    np.testing.assert_allclose(found, factors, rtol=1e-6, atol=1e-7)
    assert float(schedule(Clock(7, float("inf")))) == 1.0


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
    with pytest.raises(
        TypeError, match=r"a distribution of environments.*tasks\.sample\(jax\.random\.key\(0\)\)"
    ):
        rl.OnPolicy().init(jax.random.key(0), envs.distribution("LPGGrid-tiny"))
