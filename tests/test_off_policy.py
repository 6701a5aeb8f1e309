"""The off-policy loop: what it keeps, what its learners read of it, and when they begin."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Discounted, Matching, TimedOut

import envs
import jaxrl as rl
from jaxrl import returns, rollout, tree
from jaxrl.algorithms import off_policy
from jaxrl.algorithms.off_policy import OffPolicy

GAMMA = 0.9
NET = rl.MLP((8,))
SMALL = dict(network=NET, gamma=GAMMA, num_envs=2, batch_size=4, capacity=64, warmup=8)


def fill(algo, env, updates=12):
    """A learner after some updates."""
    state = algo.init(jax.random.key(0), env, updates)
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    for i in range(updates):
        state, metrics = update(jax.random.key(i + 1), state)
    return state, metrics


@pytest.mark.parametrize("n", [1, 3, 20])
def test_n_step_sums_are_the_sums_written_out(n):
    rng = np.random.default_rng(n)
    reward, value = rng.normal(size=(2, 12))
    terminated = rng.random(12) < 0.2
    done = terminated | (rng.random(12) < 0.2)
    total, discount, row = returns.n_step_sums(
        jnp.array(reward, jnp.float32),
        jnp.array(GAMMA * (1.0 - terminated), jnp.float32),
        jnp.array(done),
        n,
    )
    for t in range(12):
        expected, k = 0.0, t
        for k in range(t, min(t + n, 12)):
            expected += GAMMA ** (k - t) * reward[k]
            if done[k]:
                break
        assert row[t] == k
        np.testing.assert_allclose(total[t], expected, rtol=1e-5)
        np.testing.assert_allclose(
            discount[t], GAMMA ** (k - t + 1) * (1 - terminated[k]), rtol=1e-5
        )
    full = total + discount * jnp.array(value, jnp.float32)[row]
    arguments = [jnp.array(x, jnp.float32) for x in (reward, value)] + [
        jnp.array(x) for x in (terminated, done)
    ]
    np.testing.assert_allclose(full, returns.n_step(*arguments, GAMMA, n), rtol=1e-4, atol=1e-5)


def test_a_batch_holds_n_steps_of_one_episode_and_the_true_successor():
    """Two-step episodes that pay 1 at the end, read three steps ahead: the sum never sees the next
    episode.
    """
    algo, env = rl.dqn(**SMALL, n_step=3), Discounted()
    state, _ = fill(algo, env)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 64)
    batch = algo._batch(state, sample.items, sample.weight)
    assert batch.obs.shape == (64, 1, 1)
    begins = batch.obs[:, 0, 0] == 0
    assert begins.any()
    assert not begins.all()
    np.testing.assert_allclose(batch.reward[:, 0], jnp.where(begins, GAMMA, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(batch.discount, 0.0)


def test_a_time_out_is_not_a_death_in_a_batch():
    algo, env = rl.dqn(**SMALL, n_step=3), TimedOut()
    state, _ = fill(algo, env)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 64)
    batch = algo._batch(state, sample.items, sample.weight)
    steps = {round(float(sum(GAMMA**k for k in range(m))), 4): GAMMA**m for m in (1, 2, 3)}
    assert {round(float(x), 4) for x in batch.reward.ravel()} == set(
        steps
    )  # cut short before the time-out, never over it
    for reward, discount in zip(batch.reward.ravel(), batch.discount.ravel(), strict=True):
        assert discount == pytest.approx(steps[round(float(reward), 4)], rel=1e-5)


def test_what_a_memory_reads_of_a_batch_is_what_it_read_while_playing():
    """From the stored memory through burn-in and episode ends, against the network stepped one
    observation at a time.
    """
    fields = SMALL | {"capacity": 128, "warmup": 20, "burn_in": 2, "sequence": 5, "n_step": 2}
    algo, env = rl.dqn(**fields, memory=rl.GRU(4)), tree.replace(Matching(), max_steps=3)
    state, _ = fill(algo, env, 30)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 6)
    batch = algo._batch(state, sample.items, sample.weight)
    network = algo.learner._network(env)
    out = off_policy.read(network, state.params["network"], batch)["q"]
    next_out = off_policy.read_next(network, state.params["network"], batch)["q"]
    items = sample.items
    for i in range(6):
        memory = items.memory[i, 0]
        values, successors = [], []
        for t in range(1, 8):
            memory = jnp.zeros_like(memory) if items.done[i, t - 1] else memory
            look = lambda memory, obs: network.apply(
                state.params["network"], memory, obs[None], jnp.zeros(1, bool)
            )
            memory, now = look(memory, items.obs[i, t])
            values.append(now["q"][0])
            successors.append(look(memory, items.next_obs[i, t])[1]["q"][0])
        np.testing.assert_allclose(out[i], jnp.stack(values)[2:], rtol=1e-4, atol=1e-5)
        successors = jnp.stack(successors)[2:][batch.ahead[i]]
        known = (batch.weight[i] > 0) & (batch.discount[i] > 0)
        np.testing.assert_allclose(next_out[i][known], successors[known], rtol=1e-4, atol=1e-5)


def test_rows_whose_successor_a_memory_cannot_know_weigh_nothing():
    algo = rl.dqn(
        **SMALL | {"capacity": 128, "warmup": 20}, memory=rl.GRU(4), burn_in=0, sequence=8
    )
    env = TimedOut()
    state, _ = fill(algo, env, 30)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 16)
    batch = algo._batch(state, sample.items, sample.weight)
    truncated = sample.items.truncated[:, 1:]
    np.testing.assert_array_equal(batch.weight[:, :-1], 1.0 - truncated[:, :-1])
    np.testing.assert_array_equal(
        batch.weight[:, -1], 1.0
    )  # the last row's successor is its own next_obs


def test_nothing_is_learnt_before_the_warm_up_is_over():
    algo, env = rl.dqn(**SMALL | {"warmup": 12}), envs.make("Catch")
    start = algo.init(jax.random.key(0), env, 10)
    state = start
    for i in range(6):
        chex.assert_trees_all_equal(state.params, start.params)
        state, metrics = algo.update(jax.random.key(i), env, state)
    assert float(metrics["loss"]) > 0
    assert not np.array_equal(*(jax.tree.leaves(x.params)[1] for x in (state, start)))


def test_fewer_updates_are_one_program_with_more():
    env = envs.make("Catch")
    run = lambda updates, limit: fill(rl.dqn(**SMALL, updates=updates, update_limit=limit), env)[0]
    shorter, limited = run(4, 2.0), run(4, 2.5)
    assert int(shorter.step) == 2 * 9  # the warm-up ends with the fourth of twelve updates
    assert int(limited.step) == 3 * 9
    assert int(run(4, float("inf")).step) == 4 * 9


def test_updates_that_do_not_count_leave_priorities_as_they_were():
    """Keys differ by how many updates there are, so a tree is compared to itself: without a step
    nothing changes.
    """
    algo, env = (
        rl.dqn(**SMALL, updates=3, update_limit=0.0, priority=rl.Prioritized()),
        envs.make("Catch"),
    )
    state, _ = fill(algo, env)
    after, _ = algo.learn(jax.random.key(9), env, state)
    chex.assert_trees_all_equal(after.replay, state.replay)
    counted, _ = tree.replace(algo, update_limit=3.0).learn(jax.random.key(9), env, state)
    assert not np.array_equal(counted.replay.tree.sums.nodes, state.replay.tree.sums.nodes)


def test_a_dataset_is_learnt_from_without_playing():
    env = Matching()
    rng = np.random.default_rng(0)
    sign, action = (
        rng.choice([-1.0, 1.0], 200).astype(np.float32),
        rng.integers(0, 2, 200).astype(np.int32),
    )
    algo = rl.dqn(
        network=NET,
        lr=1e-2,
        num_envs=1,
        capacity=200,
        batch_size=32,
        warmup=32,
        updates=150,
        tau=0.05,
    )
    state = algo.init(jax.random.key(0), env)
    ended = np.ones(200, bool)
    item = rollout.Transition(
        sign[:, None],
        action,
        sign * (2 * action - 1),
        sign[:, None],
        ended,
        ~ended,
        ret=(),
        length=(),
        memory=(),
    )
    state = tree.replace(state, replay=algo.load(item), clock=rl.Clock(10**6, float("inf")))
    state, metrics = jax.jit(lambda key, state: algo.learn(key, env, state))(
        jax.random.key(1), state
    )
    act = lambda sign: int(algo.act(jax.random.key(0), env, state, (), jnp.array([sign]))[1])
    assert (act(-1.0), act(1.0)) == (0, 1)
    assert float(metrics["loss"]) < 0.5


def test_statistics_are_kept_and_what_is_kept_stays_raw():
    algo, env = rl.dqn(**SMALL, normalize_obs=True, normalize_reward=True), envs.make("CartPole-v1")
    state, _ = fill(algo, env)
    seen = np.asarray(state.replay.data.obs)[:12].reshape(-1, 4)
    np.testing.assert_allclose(state.obs_stats.mean, seen.mean(0), atol=1e-3)
    np.testing.assert_array_equal(np.asarray(state.replay.data.reward)[:12], 1.0)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 4)
    batch = algo._batch(state, sample.items, sample.weight)
    std = np.sqrt(np.asarray(state.reward_stats.variance))
    np.testing.assert_allclose(batch.reward, 1.0 / std, rtol=1e-3)
    scaled = (np.asarray(sample.items.obs) - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(batch.obs, scaled, atol=2e-2)


def test_a_shorter_life_in_a_longer_program_ends_where_it_would_alone():
    env = envs.make("Catch")
    algo = rl.dqn(**SMALL)
    alone = rl.Training(algo, env, steps=40, evals=2, episodes=0)
    padded = rl.Training(algo, env, steps=80, evals=4, episodes=0, stop_after=jnp.float32(40.0))
    live = jax.jit(lambda training: training(0)[0].params)
    chex.assert_trees_all_close(live(alone), live(padded), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(batch_size=0), "batch_size=0 is not a positive whole number"),
        (dict(capacity=16, batch_size=32), "capacity=16"),
        (dict(capacity=16, num_envs=8, n_step=5, batch_size=4), "the n of n-step.*capacity=40"),
        (dict(warmup=16, batch_size=32), "warmup=16"),
    ],
)
def test_counts_that_do_not_fit_are_explained(fields, message):
    with pytest.raises(ValueError, match=message):
        rl.dqn(**fields)  # before anything is compiled


def test_actions_without_a_finite_number_are_refused_with_what_can():
    with pytest.raises(
        TypeError, match=r"QLearning takes actions of Discrete, but .* has a Box action space"
    ):
        rl.dqn().init(jax.random.key(0), envs.make("Pendulum-v1"))


def test_an_off_policy_learner_is_one_value():
    """Two that are made alike are one: a jit of the second finds the program of the first."""
    assert isinstance(rl.dqn(), OffPolicy)
    assert rl.dqn() == rl.dqn()
    assert jax.tree.structure(rl.dqn()) == jax.tree.structure(rl.dqn(lr=0.5))
    assert hash(jax.tree.structure(rl.dqn())) == hash(jax.tree.structure(rl.dqn()))
