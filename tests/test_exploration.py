"""Exploration bonuses and reward signals, each beside a slow definition or a known value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import transitions
from members import GAMMA, OFF, ON, quick
from probes import Value

import jaxrl as rl
from envs.wrappers import AsTeam
from jaxrl import archives, exploration, packing, tree
from jaxrl.algorithms.rewarded import RewardModel
from jaxrl.env import Env, Step
from jaxrl.exploration.e3b import elliptical
from jaxrl.exploration.state_entropy import mean_distance

RNG = np.random.default_rng(0)
STATES, T, B = 6, 8, 3


@rl.pytree
class Walk(Env):
    """A walk on a ring of `STATES` places, shown as a number or one-hot."""

    one_hot: bool = rl.static(default=True)
    max_steps: int = rl.static(default=5)
    action_space = rl.Discrete(2)
    num_states = STATES

    def _obs(self, place):
        return jax.nn.one_hot(place, STATES) if self.one_hot else place

    def reset(self, key):
        return jnp.int32(0), self._obs(0 * jnp.int32(0))

    def step(self, key, place, action):
        place = (place + 2 * action - 1) % STATES
        return place, Step(self._obs(place), jnp.float32(0.0), jnp.bool_(False), {})


def visits(state, done=None, active=None, one_hot=True):
    """A batch with these successors, int [T, B]; actions are random."""
    done = np.zeros(state.shape, bool) if done is None else done
    obs = np.eye(STATES, dtype=np.float32)[state] if one_hot else jnp.asarray(state, jnp.int32)
    action = jnp.asarray(RNG.integers(0, 2, state.shape))
    batch = transitions(action, jnp.ones(state.shape), jnp.asarray(done), obs=jnp.asarray(obs))
    return batch if active is None else tree.replace(batch, active=jnp.asarray(active))


observe = quick(lambda bonus, *args: bonus.observe(*args))
call = quick(lambda bonus, *args: bonus(*args))


# ------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("kind", ["number", "one_hot"])
def test_counts_are_of_the_training_run_with_this_visit(kind):
    bonus = {
        "number": exploration.Counts(num_cells=STATES),
        "one_hot": exploration.Counts(cells=archives.OneHot(STATES)),
    }[kind]
    model = bonus.start(jax.random.key(0), Walk(kind == "one_hot"), B)
    count = np.zeros(STATES)
    for _ in range(2):
        state, active = RNG.integers(0, STATES - 1, (T, B)), RNG.random((T, B)) < 0.8
        batch = visits(state, active=active, one_hot=kind == "one_hot")
        model, _, found, _ = observe(bonus, jax.random.key(0), model, (), batch)
        np.add.at(count, state[active], 1)
        np.testing.assert_allclose(found[active], count[state[active]] ** -0.5, rtol=1e-6)
    np.testing.assert_array_equal(model[:STATES], count)
    assert count[-1] == 0


def test_episodic_counts_begin_anew_with_an_episode_but_not_with_a_rollout():
    bonus = exploration.EpisodicCounts(num_cells=STATES)
    memory = bonus.start_memory(Walk(one_hot=False), B)
    count = np.zeros((B, STATES))
    for _ in range(2):
        state, done = RNG.integers(0, STATES, (T, B)), RNG.random((T, B)) < 0.15
        batch = visits(state, done, one_hot=False)
        _, memory, found, _ = observe(bonus, jax.random.key(0), (), memory, batch)
        for t in range(T):
            for b in range(B):
                count[b, state[t, b]] += 1
                assert float(found[t, b]) == pytest.approx(count[b, state[t, b]] ** -0.5)
                if done[t, b]:
                    count[b] = 0
    np.testing.assert_array_equal(memory, count)
    assert count.any()


@pytest.mark.parametrize("kind", [exploration.Counts, exploration.EpisodicCounts])
def test_a_descriptor_outside_a_grid_has_no_count_and_no_bonus(kind):
    cells = archives.Grid(jnp.zeros(STATES), jnp.ones(STATES) / 2, (1,) * STATES, clip=False)
    bonus = kind(cells=cells)
    state = bonus.init(jax.random.key(0), Walk(), B)
    batch = visits(np.zeros((T, B), int))
    found = observe(bonus, jax.random.key(0), state.model, state.memory, batch)
    counts = found[1] if bonus.episodic else found[0]
    assert float(counts.sum()) == 0.0
    np.testing.assert_array_equal(found[2], 0.0)


def test_coin_flips_estimate_the_inverse_of_the_number_of_visits():
    """Within 25 % up to n = 100 (Lobel et al., 2023); a new observation reads as n = 1 or less.

    The error of the coins alone has a standard deviation of sqrt(2 / 512) = 6 %.
    """
    bonus = exploration.CoinFlips(size=512, updates=120, batch_size=128, network=rl.MLP((64,)))
    model = bonus.start(jax.random.key(0), Walk(), B)
    count = np.array([100, 50, 26, 12, 4, 0])
    rollouts = np.random.default_rng(1).permutation(np.repeat(np.arange(STATES), count))
    learn = quick(bonus.learn)
    for i, state in enumerate(rollouts.reshape(-1, T, B)):
        model, _ = learn(jax.random.key(i), model, visits(state))
    found = quick(bonus.inverse_count)(model, jnp.eye(STATES)[None])[0]
    np.testing.assert_allclose(found[:5] * count[:5], 1.0, atol=0.25)
    assert float(found[5]) > 0.7


# ------------------------------------------------------------------------------ distances, ellipses


def test_the_ellipse_is_an_inverse_that_begins_anew_with_an_episode():
    features = RNG.normal(size=(2, T, B, 3)).astype(np.float32)
    done = RNG.random((2, T, B)) < 0.15
    start = np.eye(3, dtype=np.float32) / 0.1
    inverse, found = jnp.broadcast_to(start, (B, 3, 3)), []
    for i in range(2):
        inverse, bonus = quick(elliptical)(inverse, features[i], done[i], 0.1)
        found.append(bonus)
    features, done = features.reshape(-1, B, 3), done.reshape(-1, B)
    for b in range(B):
        matrix = 0.1 * np.eye(3)
        for t in range(2 * T):
            f = features[t, b]
            expected = f @ np.linalg.inv(matrix) @ f
            assert float(found[t // T][t % T, b]) == pytest.approx(expected, rel=1e-3)
            matrix = 0.1 * np.eye(3) if done[t, b] else matrix + np.outer(f, f)
        np.testing.assert_allclose(inverse[b], np.linalg.inv(matrix), rtol=1e-2, atol=1e-3)


def test_the_mean_distance_is_to_the_nearest_that_are_valid():
    here, others = RNG.normal(size=(4, 3)), RNG.normal(size=(10, 3))
    valid = RNG.random(10) < 0.6
    for neighbours in (3, 9, 11):
        one = lambda x, k=neighbours: mean_distance(x, others, valid, k)
        found = quick(jax.vmap(one))(here)
        distance = np.linalg.norm(here[..., None, :] - others[valid], axis=-1)
        nearest = np.sort(distance, -1)[..., :neighbours]
        np.testing.assert_allclose(found, nearest.mean(-1), rtol=1e-4)
    assert valid.sum() < 9


def test_neighbours_are_sought_among_the_last_observations_of_a_long_rollout():
    bonus = exploration.StateEntropy(encoder=BONUSES["icm"], num_neighbors=2, capacity=3 * B + 1)
    model = bonus.start(jax.random.key(0), Walk(), B)
    batch = visits(RNG.integers(0, STATES, (T, B)))
    model, _ = quick(bonus.learn)(jax.random.key(0), model, batch)
    np.testing.assert_array_equal(packing.unpacked(model.recent.data), batch.next_obs[-3:])
    assert int(model.recent.filled) == 3


# ------------------------------------------------------------------------------------- the contract

SMALL = dict(network=rl.MLP((8,)), size=4, lr=1e-2)
BONUSES = {
    "counts": exploration.Counts(cells=archives.OneHot(STATES)),
    "rnd": exploration.RND(**SMALL),
    "icm": exploration.ICM(**SMALL),
    "disagreement": exploration.Disagreement(**SMALL, members=2),
    "coin_flips": exploration.CoinFlips(**SMALL, updates=8, batch_size=32, capacity=240),
    "state_entropy": exploration.StateEntropy(
        encoder=exploration.ICM(**SMALL), num_neighbors=12, capacity=96
    ),
    "e3b": exploration.E3B(**SMALL),
    "episodic_counts": exploration.EpisodicCounts(cells=archives.OneHot(STATES)),
}
BONUSES["product"] = exploration.Product(first=BONUSES["rnd"], second=BONUSES["e3b"])
every = pytest.mark.parametrize("name", BONUSES)


@every
def test_a_bonus_falls_where_it_was_before_and_is_0_without_an_agent(name):
    """A loop through all states, again and again; the last agent has terminated."""
    bonus = tree.replace(BONUSES[name], normalize=False, weight=2.0, reward_weight=3.0)
    state = np.broadcast_to(np.arange(T)[:, None] % STATES, (T, B))
    batch = visits(state, active=np.arange(B) < B - 1 + np.zeros((T, 1)))
    start = bonus.init(jax.random.key(0), AsTeam(Walk(), size=B), B)

    @quick
    def run(bonus, carry):
        def step(carry, key):
            carry, reward, metrics = bonus(key, carry, batch)
            return carry, (reward, metrics["bonus"])

        return jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), 60))[1]

    reward, mean = run(bonus, start)
    assert reward.shape == (60, T, B)
    np.testing.assert_array_equal(reward[..., -1], 3.0)
    np.testing.assert_allclose((reward - 3.0).mean((1, 2)), 2.0 * mean, rtol=1e-4, atol=1e-6)
    assert float(mean[0]) > 0.0
    assert float(mean[-10:].mean()) < 0.8 * float(mean[:2].mean())


@every
def test_a_bonus_is_of_32_bits_whatever_the_width_of_floats(name):
    """Shapes and types only: a swept weight is 64 bits wide."""
    batch = visits(np.zeros((T, B), int))
    with jax.enable_x64(True):
        bonus = tree.put(BONUSES[name], {"weight": jnp.array(0.5)})

        def run(key):
            key_init, key_call, key_relabel = jax.random.split(key, 3)
            start = bonus.init(key_init, Walk(), B)
            after, reward, _ = bonus(key_call, start, batch)
            return start, after, reward, bonus.relabel(key_relabel, after, batch)

        start, after, *rewards = jax.eval_shape(run, jax.random.key(0))
    types = lambda tree: jax.tree.map(lambda x: x.dtype, tree)
    assert types(start) == types(after)
    assert jnp.float64 not in {x.dtype for x in jax.tree.leaves((after, rewards))}


def test_a_product_is_of_both():
    bonus = exploration.Product(first=BONUSES["counts"], second=BONUSES["episodic_counts"])
    assert bonus.episodic
    state = RNG.integers(0, 2, (T, B))
    start = bonus.init(jax.random.key(0), Walk(), B)
    _, _, found, _ = observe(bonus, jax.random.key(0), start.model, start.memory, visits(state))
    total = np.bincount(state.ravel(), minlength=STATES)
    within = np.array(
        [[(state[: t + 1, b] == state[t, b]).sum() for b in range(B)] for t in range(T)]
    )
    np.testing.assert_allclose(found, (total[state] * within) ** -0.5, rtol=1e-6)


def test_what_a_bonus_cannot_read_is_an_error_before_it_compiles():
    def start(bonus, env):
        return jax.eval_shape(lambda key: bonus.init(key, env, B), jax.random.key(0))

    with pytest.raises(TypeError, match=r"has 6 entries: write cells=rl\.archives\.OneHot\(6\)"):
        start(exploration.Counts(num_cells=4), Walk())
    with pytest.raises(ValueError, match=r"write num_cells=env\.num_states"):
        start(exploration.EpisodicCounts(), Walk(one_hot=False))
    with pytest.raises(ValueError, match=r"num_cells=4, and Walk has 6 states.*write num_cells=6"):
        start(exploration.Counts(num_cells=4), Walk(one_hot=False))
    with pytest.raises(
        TypeError, match=r"OneHot of Counts divides a space of 4 dim.*has 6 entries"
    ):
        start(exploration.Counts(cells=archives.OneHot(4)), Walk())
    for name in ("rnd", "coin_flips", "state_entropy", "e3b"):
        with pytest.raises(TypeError, match=r"is a state index: use .*Counts"):
            start(BONUSES[name], Walk(one_hot=False))
    with pytest.raises(TypeError, match=r"Product\.first takes an instance of Bonus"):
        exploration.Product(first=lambda x: x, second=exploration.E3B())
    with pytest.raises(ValueError, match=r"RND has weight=0\.1, which a product does not"):
        exploration.Product(first=exploration.RND(weight=0.1), second=exploration.E3B())
    with pytest.raises(ValueError, match="num_neighbors=12 can't be found among capacity=4"):
        exploration.StateEntropy(capacity=4)


# ----------------------------------------------------------------------------------------- a replay


def test_a_replay_recomputes_bonuses_and_stores_episodic_ones():
    """Of global counts the replay has the environment's rewards, of episodic ones the bonuses."""
    algo = rl.dqn(**OFF | dict(num_steps=8, warmup=1000, capacity=1024, network=rl.MLP((4,))))
    rewards = {}
    for name in ("counts", "episodic_counts"):
        bonus = tree.replace(BONUSES[name], normalize=False)
        around = rl.Rewarded(algo, bonus)
        state = around.init(jax.random.key(0), Walk())
        state, _ = quick(around.update, static_argnums=1)(jax.random.key(1), Walk(), state)
        replay = state.algo.replay
        rewards[name] = np.asarray(replay.data.reward[: int(replay.filled)])
    assert (rewards["counts"] == 0.0).all()
    assert rewards["episodic_counts"].shape == (8, 8)
    assert (rewards["episodic_counts"][:2] == 1.0).all()  # two places that are new in an episode
    count = (
        rewards["episodic_counts"] ** -2
    )  # an episode has 5 steps: no place has more visits than 3
    np.testing.assert_allclose(count, np.round(count), rtol=1e-5)
    assert 2.0 < count.max() < 3.1


# ------------------------------------------------------------------------------------------ signals


@rl.pytree
class Constant(RewardModel):
    """Rewards of 2, as a signal of their own."""

    channel = "extra"

    def __call__(self, key, carry, batch):
        return carry, jnp.full(batch.reward.shape, 2.0), {}


@pytest.mark.parametrize("episodic", [True, False])
def test_a_signal_has_a_value_of_its_own(episodic):
    """Rewards of 1 and a signal of 2, in episodes of one step."""
    signal = rl.Signal(gamma=0.5, episodic=episodic)
    rule = rl.RewardSignals(gamma=GAMMA, entropy_weight=0.0, signals={"extra": signal})
    settings = {name: x for name, x in ON.items() if name not in ("gamma", "entropy_weight")}
    algo = rl.Rewarded(rl.ppo(**settings, rule=rule), Constant())
    training = rl.Training(algo, Value(), 128 * 40, evals=1, episodes=0)
    state, metrics = quick(training)(jax.random.key(0))
    out = algo.algo.forward(Value(), state.algo, (), jnp.zeros(1))[1]
    assert float(out["value"][0]) == pytest.approx(1.0, abs=0.05)
    assert float(out["value_extra"][0]) == pytest.approx(2.0 if episodic else 4.0, rel=0.05)
    np.testing.assert_allclose(metrics["model_reward"], 2.0)


def slow_advantage(reward, value, next_value, terminated, done, gamma, lam):
    advantage, after = np.zeros_like(reward), 0.0
    for t in reversed(range(len(reward))):
        error = reward[t] + gamma * (1.0 - terminated[t]) * next_value[t] - value[t]
        after = advantage[t] = error + gamma * lam * (1.0 - done[t]) * after
    return advantage


@pytest.mark.parametrize("episodic", [True, False])
def test_an_advantage_is_the_weighted_sum_of_those_of_the_signals(episodic):
    """The return of a signal that is not episodic goes on with the first value of the next
    episode.
    """
    real = lambda *shape: RNG.normal(size=shape).astype(np.float32)
    reward, cost, done = real(T, B), real(T, B), RNG.random((T, B)) < 0.3
    done[-1, 0] = True
    signal = rl.Signal(gamma=0.9, lam=0.8, weight=-0.3, episodic=episodic)
    rule = rl.RewardSignals(signals={"cost": signal})
    heads = [{name: real(T, B, 1) for name in rule.heads} for _ in range(2)]
    policy = rl.Discrete(2).policy({"logits": jnp.zeros((T, B, 2))})
    out, next_out = ({**x, "policy": policy} for x in heads)
    batch = transitions(jnp.zeros((T, B), int), jnp.asarray(reward), done)
    batch = tree.replace(batch, info={"cost": jnp.asarray(cost)})
    _, targets = quick(rule.targets, static_argnums=4)((), out, next_out, batch, None)
    value, next_value = heads[0]["value_cost"][..., 0], heads[1]["value_cost"][..., 0]
    over = done if episodic else np.zeros_like(done)
    if not episodic:
        next_value = next_value.copy()
        for t, b in zip(*np.nonzero(done[:-1]), strict=True):
            next_value[t, b] = value[t + 1, b]
    for b in range(B):
        at = lambda x, b=b: np.asarray(x)[:, b]
        of_cost = slow_advantage(at(cost), at(value), at(next_value), at(over), at(over), 0.9, 0.8)
        of_reward = slow_advantage(
            at(reward),
            at(heads[0]["value"][..., 0]),
            at(heads[1]["value"][..., 0]),
            at(done),
            at(done),
            0.99,
            0.95,
        )
        np.testing.assert_allclose(
            at(targets.advantage), of_reward - 0.3 * of_cost, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            at(targets.signals["cost"]["value_target"]), of_cost + at(value), rtol=1e-4, atol=1e-5
        )


def test_a_signal_is_named_where_it_is_used():
    rule = rl.RewardSignals(signals={"bonus": rl.Signal(episodic=False)})
    algo = rl.ppo(rule=rule, num_envs=2, num_steps=4, epochs=1, minibatches=1)
    assert tree.put(algo, {"bonus.weight": 2.0}).rule.signals["bonus"].weight == 2.0
    assert rl.ranges(algo)["rule.signals.bonus.gamma"] == "[0, 1]"
    with pytest.raises(ValueError, match=r"gamma=3\.0"):
        tree.put(algo, {"bonus.gamma": 3.0})
    with pytest.raises(TypeError, match=r"signals is \{channel: rl\.Signal\(\)\}, and got"):
        rl.RewardSignals(signals={"bonus": 0.5})
    with pytest.raises(TypeError, match=r"RND has channel='bonus', and Surrogate learns from no"):
        rl.Rewarded(rl.ppo(), exploration.RND(channel="bonus"))
    with pytest.raises(TypeError, match=r"OffPolicy learns from no such signal"):
        rl.Rewarded(rl.dqn(), exploration.RND(channel="bonus"))

    def update(algo):
        state = jax.eval_shape(lambda key: algo.init(key, Walk()), jax.random.key(0))
        return jax.eval_shape(lambda *x: algo.update(x[0], Walk(), x[1]), jax.random.key(0), state)

    with pytest.raises(ValueError, match=r"the channel 'bonus', and transitions have none"):
        update(algo)
    assert "value_loss_bonus" in update(rl.Rewarded(algo, exploration.RND(channel="bonus")))[1]
