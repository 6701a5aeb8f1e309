"""The off-policy loop: what it stores, the batches that learners make of it, and the warm-up."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import start_at
from probes import Discounted, Matching, TimedOut

import envs
import jaxrl as rl
from jaxrl import returns, rollout, tree
from jaxrl.algorithms.learner import (
    Learner,
    LearnerState,
    apply_network,
    apply_network_next,
    bootstrap,
)
from jaxrl.algorithms.off_policy import OffPolicy

GAMMA = 0.9
NET = rl.MLP((8,))
SMALL = dict(network=NET, gamma=GAMMA, num_envs=2, batch_size=4, capacity=64, warmup=8)


def fill(algo, env, updates=12):
    """A state after some updates, and the metrics of the last."""
    state = algo.init(jax.random.key(0), env, updates)
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    for i in range(updates):
        state, metrics = update(jax.random.key(i + 1), state)
    return state, metrics


def batch_of(algo, state, sample):
    """A sample as a batch of targets, as the learners make it."""
    learner, items = algo.learner, algo._normalized(state, sample.items)
    return bootstrap(
        items,
        sample.weight,
        learner.gamma,
        learner.n_step,
        learner.burn_in,
        learner.memory is not None,
    )


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
    batch = batch_of(algo, state, sample)
    assert batch.obs.shape == (64, 1, 1)
    begins = batch.obs[:, 0, 0] == 0
    assert begins.any()
    assert not begins.all()
    np.testing.assert_allclose(batch.reward[:, 0], jnp.where(begins, GAMMA, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(batch.discount, 0.0)


def test_a_truncation_is_no_termination_in_a_batch():
    algo, env = rl.dqn(**SMALL, n_step=3), TimedOut()
    state, _ = fill(algo, env)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 64)
    batch = batch_of(algo, state, sample)
    steps = {round(float(sum(GAMMA**k for k in range(m))), 4): GAMMA**m for m in (1, 2, 3)}
    assert {round(float(x), 4) for x in batch.reward.ravel()} == set(
        steps
    )  # shorter before the time-out, never across it
    for reward, discount in zip(batch.reward.ravel(), batch.discount.ravel(), strict=True):
        assert discount == pytest.approx(steps[round(float(reward), 4)], rel=1e-5)


def test_a_recurrent_network_reads_a_batch_as_it_read_the_episode():
    """From the stored recurrent state through burn-in and ends of episodes, against the network
    applied to one observation at a time.
    """
    fields = SMALL | {"capacity": 128, "warmup": 20, "burn_in": 2, "sequence": 5, "n_step": 2}
    algo, env = rl.dqn(**fields, memory=rl.GRU(4)), tree.replace(Matching(), max_steps=3)
    state, _ = fill(algo, env, 30)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 6)
    batch = batch_of(algo, state, sample)
    network = algo.learner._network(env.action_space)
    out = apply_network(network, state.params["network"], batch)["q"]
    next_out = apply_network_next(network, state.params["network"], batch)["q"]
    items = sample.items
    for i in range(6):
        rnn_state = items.rnn_state[i, 0]
        values, successors = [], []
        for t in range(1, 8):
            rnn_state = jnp.zeros_like(rnn_state) if items.done[i, t - 1] else rnn_state
            forward = lambda rnn_state, obs: network.apply(
                state.params["network"], rnn_state, obs[None], jnp.zeros(1, bool)
            )
            rnn_state, out_t = forward(rnn_state, items.obs[i, t])
            values.append(out_t["q"][0])
            successors.append(forward(rnn_state, items.next_obs[i, t])[1]["q"][0])
        np.testing.assert_allclose(out[i], jnp.stack(values)[2:], rtol=1e-4, atol=1e-5)
        successors = jnp.stack(successors)[2:][batch.bootstrap_index[i]]
        known = (batch.weight[i] > 0) & (batch.discount[i] > 0)
        np.testing.assert_allclose(next_out[i][known], successors[known], rtol=1e-4, atol=1e-5)


def test_rows_of_an_unknown_successor_have_no_weight():
    algo = rl.dqn(
        **SMALL | {"capacity": 128, "warmup": 20}, memory=rl.GRU(4), burn_in=0, sequence=8
    )
    env = TimedOut()
    state, _ = fill(algo, env, 30)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 16)
    batch = batch_of(algo, state, sample)
    truncated = sample.items.truncated[:, 1:]
    np.testing.assert_array_equal(batch.weight[:, :-1], 1.0 - truncated[:, :-1])
    np.testing.assert_array_equal(
        batch.weight[:, -1], 1.0
    )  # the last row's successor is its own next_obs


def test_nothing_changes_before_the_warm_up_is_over():
    algo, env = rl.dqn(**SMALL | {"warmup": 12}), envs.make("Catch")
    start = algo.init(jax.random.key(0), env, 10)
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    state = start
    for i in range(6):
        chex.assert_trees_all_equal(state.params, start.params)
        state, metrics = update(jax.random.key(i), state)
    assert float(metrics["loss"]) > 0
    assert not np.array_equal(*(jax.tree.leaves(x.params)[1] for x in (state, start)))


def test_fewer_updates_are_one_program_with_more():
    env = envs.make("Catch")
    run = lambda updates, limit: fill(rl.dqn(**SMALL, updates=updates, update_limit=limit), env)[0]
    shorter, limited = run(4, 2.0), run(4, 2.5)
    assert int(shorter.learner.step) == 2 * 9  # the warm-up ends with the fourth of twelve updates
    assert int(limited.learner.step) == 3 * 9
    assert int(run(4, float("inf")).learner.step) == 4 * 9


def test_updates_that_do_not_count_leave_priorities_as_they_were():
    """Keys differ by how many updates there are, so a tree is compared to itself: without a step
    nothing changes.
    """
    algo, env = (
        rl.dqn(**SMALL, updates=3, update_limit=0.0, priority=rl.Prioritized()),
        envs.make("Catch"),
    )
    state, _ = fill(algo, env)
    after, _ = algo.learn(jax.random.key(9), env, state, None)
    chex.assert_trees_all_equal(after.replay, state.replay)
    counted, _ = tree.replace(algo, update_limit=3.0).learn(jax.random.key(9), env, state, None)
    assert not np.array_equal(counted.replay.tree.sums.nodes, state.replay.tree.sums.nodes)


def test_a_dataset_suffices_without_collecting():
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
        obs=sign[:, None],
        action=action,
        reward=sign * (2 * action - 1),
        next_obs=sign[:, None],
        terminated=ended,
        truncated=~ended,
        episode_return=(),
        length=(),
        rnn_state=(),
        extras=(),
        info={},
        episode_info={},
    )
    state = tree.replace(state, replay=algo.load(item), clock=rl.Clock(10**6, float("inf")))
    state, metrics = jax.jit(lambda key, state: algo.learn(key, env, state, None))(
        jax.random.key(1), state
    )
    policy = algo.policy(env, algo.agent(state), greedy=True)
    act = lambda sign: int(policy(jax.random.key(0), start_at(jnp.array([sign]), ()))[1])
    assert (act(-1.0), act(1.0)) == (0, 1)
    assert float(metrics["loss"]) < 0.5


def test_what_is_stored_stays_raw_beside_the_statistics():
    algo, env = rl.dqn(**SMALL, normalize_obs=True, normalize_reward=True), envs.make("CartPole-v1")
    state, _ = fill(algo, env)
    seen = np.asarray(state.replay.data.obs)[:12].reshape(-1, 4)
    np.testing.assert_allclose(state.obs_stats.mean, seen.mean(0), atol=1e-3)
    np.testing.assert_array_equal(np.asarray(state.replay.data.reward)[:12], 1.0)
    sample = algo.buffer.sample(jax.random.key(0), state.replay, 4)
    batch = batch_of(algo, state, sample)
    std = np.sqrt(np.asarray(state.reward_stats.running.variance))
    np.testing.assert_allclose(batch.reward, 1.0 / std, rtol=1e-3)
    scaled = (np.asarray(sample.items.obs) - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(batch.obs, scaled, atol=2e-2)


def test_a_shorter_run_in_a_longer_program_ends_where_it_would_alone():
    env = envs.make("Catch")
    algo = rl.dqn(**SMALL)
    alone = rl.Training(algo, env, steps=40, evals=2, episodes=0)
    padded = rl.Training(algo, env, steps=80, evals=4, episodes=0, stop_after=jnp.float32(40.0))
    run = jax.jit(lambda training: training(0)[0].params)
    chex.assert_trees_all_close(run(alone), run(padded), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(batch_size=0), "batch_size=0 of OffPolicy is not a positive whole number"),
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
    """Equal fields make equal values: a jit of the second finds the program of the first."""
    assert isinstance(rl.dqn(), OffPolicy)
    assert rl.dqn() == rl.dqn()
    assert jax.tree.structure(rl.dqn()) == jax.tree.structure(rl.dqn(lr=0.5))
    assert hash(jax.tree.structure(rl.dqn())) == hash(jax.tree.structure(rl.dqn()))


# ---------------------------------------------------------------------- a learner of a user's own


@rl.pytree
class Reader(Learner):
    """Acts at random and reports what it reads; extras are the lengths of episodes so far."""

    gamma: float = GAMMA
    annotates: bool = rl.static(default=False)

    action_spaces = (rl.Discrete,)
    sequence_length = 2

    def init(self, key, space, obs):
        return LearnerState({"w": jnp.zeros(1)}, (), (), jnp.int32(0))

    def explore(self, key, env, params, episode, clock):
        return (), env.action_space.sample(key), {"length": episode.length}

    def act(self, key, env, params, episode):
        return (), jnp.int32(0)

    def annotate(self, env, params, batch, clock):
        if not self.annotates:
            return super().annotate(env, params, batch, clock)
        return batch.extras | {"reward": batch.reward}

    def learn(self, key, env, state, items, weight, clock):
        lengths = items.extras["length"]
        consecutive = jnp.where(items.done[:, 0], lengths[:, 1] == 0, jnp.diff(lengths)[:, 0] == 1)
        metrics = {"reward": items.reward.mean(), "consecutive": consecutive.mean()}
        if self.annotates:
            metrics["annotated"] = items.extras["reward"].mean()
        state = tree.replace(state, step=state.step + 1)
        return state, jnp.ones(len(weight)), metrics


READER = dict(num_envs=2, num_steps=4, batch_size=4, capacity=64, warmup=8)


def test_a_learner_reads_raw_pieces_with_the_extras_that_it_explored_with():
    algo, env = OffPolicy(Reader(), **READER), TimedOut()
    state, metrics = fill(algo, env)
    assert state.replay.data.extras["length"].shape == (32, 2)
    assert float(metrics["reward"]) == 1.0
    assert float(metrics["consecutive"]) == 1.0
    assert int(state.learner.step) == 12


def test_a_replay_stores_what_learners_read_and_no_more():
    state = jax.eval_shape(lambda key: rl.dqn(**SMALL).init(key, Discounted()), jax.random.key(0))
    stored = [field for field, x in vars(state.replay.data).items() if jax.tree.leaves(x)]
    assert stored == ["obs", "action", "reward", "next_obs", "terminated", "truncated"]


def test_relabelled_rewards_are_learned_from_and_never_stored():
    algo, env = OffPolicy(Reader(annotates=True), **READER), TimedOut()
    state, _ = fill(algo, env)
    shapes = []

    def relabel(key, batch):
        shapes.append(batch.reward.shape)
        return 3.0 * batch.reward

    @jax.jit
    def learn(key, state):
        key_collect, key_learn = jax.random.split(key)
        state, experience = algo.collect(key_collect, env, state)
        return algo.learn(key_learn, env, state, experience, relabel)

    state, metrics = learn(jax.random.key(0), state)
    assert float(metrics["reward"]) == 3.0
    assert 1.0 < float(metrics["annotated"]) < 3.0  # as it was when stored: some rows are older
    assert float(state.replay.data.reward.max()) == 1.0
    assert set(shapes) == {(4, 2)}  # a rollout [T, B], and pieces [N, L]
