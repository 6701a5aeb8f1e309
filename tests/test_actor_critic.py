"""Off-policy actor-critics: each is its paper's equation, and some are others."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from members import CROSSED, GAMMA, LESSONS, RELU, SLOW, SOFT, lecun, start_at

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms import actors, critics
from jaxrl.algorithms.actors import Deterministic, Softmax, Squashed
from jaxrl.algorithms.learner import Batch
from jaxrl.clock import Clock
from jaxrl.env import Env, Step

CLOCK = Clock(0, 10.0)


def env_of(algo, env=LESSONS["aim"]):
    return (
        tree.replace(env, action_space=rl.Discrete(2))
        if isinstance(algo.learner.actor, Softmax)
        else env
    )


def pick(tree_, i):
    return jax.tree.map(lambda x: x[i], tree_)


def forward(learner, env, params, obs):
    """The actor's heads at one observation, as a batch of one."""
    episode = start_at(jnp.full(1, obs, jnp.float32), ())
    out = learner.forward(env.action_space, params, episode)[1]
    return jax.tree.map(lambda x: x[None, None], out)


def rows(env, num, seed=0):
    """A batch of noise."""
    keys = jax.random.split(jax.random.key(seed), 4)
    obs, next_obs = jax.random.normal(keys[0], (2, num, 1, 1))
    action = jax.vmap(env.action_space.sample)(jax.random.split(keys[1], num))[:, None]
    reward, discount = (
        jax.random.normal(keys[2], (num, 1)),
        jnp.full((num, 1), GAMMA).at[0].set(0.0),
    )
    false = jnp.zeros((num, 1), bool)
    return Batch(
        obs=obs,
        action=action,
        reward=reward,
        discount=discount,
        next_obs=next_obs,
        bootstrap_index=jnp.zeros((num, 1), int),
        weight=jnp.linspace(0.5, 1.0, num)[:, None],
        is_first=false,
        done=false,
        burn_in=(),
        rnn_state=(),
        extras=(),
    )


def initial(algo, seed=0):
    """An environment, a learner's state at its start, and a batch."""
    env = env_of(algo)
    return (
        env,
        algo.learner.init(jax.random.key(seed), env.action_space, jnp.zeros(1)),
        rows(env, 6),
    )


# ---------------------------------------------------------------------------------------- it learns


@rl.pytree
class Recall(Env):
    """A cue, then nothing, then a question: an action near the cue pays most.

    Without a memory, -0.64 is the best.
    """

    action_space = rl.Box(-1.0, 1.0, (1,))
    max_steps: int = rl.static(default=8)

    def reset(self, key):
        cue = jax.random.rademacher(key, (), jnp.float32)
        return (cue, jnp.int32(0)), jnp.array([cue, 0.0])

    def step(self, key, state, action):
        cue, time = state
        reward = jnp.where(time == 2, -((action[0] - 0.8 * cue) ** 2), 0.0)
        return (cue, time + 1), Step(
            jnp.array([0.0, time == 1], jnp.float32), reward, time == 2, {}
        )


@rl.pytree
class Sum:
    """A memory that holds the sum of what it saw."""

    size: int = rl.static(default=16)

    def init(self, key):
        return lecun(1.0)(key, (self.size, self.size))

    def start(self):
        return jnp.zeros(self.size)

    def apply(self, params, memory, x, first):
        def step(memory, now):
            memory = jnp.where(now[1], 0.0, memory) + jnp.tanh(now[0] @ params)
            return memory, memory

        return jax.lax.scan(step, memory, (x, first))


def test_a_memory_recalls_a_cue():
    algo = rl.sac(**SOFT | dict(memory=Sum(), burn_in=1, sequence=4, gamma=0.95))
    run = lambda key: rl.train(key, algo, Recall(), steps=8 * 1500, evals=5, episodes=0)[1][
        "return"
    ]
    returns = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 3))
    assert jnp.median(returns[:, -1]) > -0.1


# ---------------------------------------------------------------------------- the papers' equations


def values(learner, env, params, obs, action):
    """What each critic says, one observation and one member at a time. [N, B, K]."""
    top = learner._critic(env.action_space).top
    num = len(jax.tree.leaves(params)[0])
    one = lambda i, o, a: top.apply(pick(params, i)["top"], {"out": {"features": o}, "action": a})[
        "q"
    ]
    return np.array(
        [[one(i, o, a) for o, a in zip(obs[:, 0], action[:, 0], strict=True)] for i in range(num)]
    )


def test_the_ensemble_is_a_loop_over_its_members():
    algo = rl.redq(**SOFT, num_critics=3)
    env, state, batch = initial(algo)
    together = critics.q_values(
        algo.learner._critic(env.action_space), state.params["critic"], batch, batch.action
    )["q"]
    apart = values(algo.learner, env, state.params["critic"], batch.obs, batch.action)
    assert together.shape == (3, 6, 1, 1)
    np.testing.assert_allclose(together[:, :, 0], apart, rtol=1e-5)
    assert np.ptp(apart[:, 0]) > 0.1


def test_a_subset_is_drawn_without_repeats_and_all_are_drawn():
    params = jnp.arange(5)
    drawn = [
        sorted(np.asarray(critics.sample_critics(jax.random.key(i), params, 2)).tolist())
        for i in range(40)
    ]
    assert all(a < b for a, b in drawn)
    assert {x for pair in drawn for x in pair} == set(range(5))
    np.testing.assert_array_equal(critics.sample_critics(jax.random.key(0), params, 5), params)


def test_the_critics_loss_is_the_soft_bellman_error():
    """SAC's equations 5 and 6, row by row: the smallest of the target critics, less the temperature
    times the log-probability.
    """
    algo = rl.sac(**SOFT | dict(temperature=0.3, lr=1e-3))
    env, state, batch = initial(algo)
    learner = algo.learner
    state = tree.replace(
        state,
        target_params=state.target_params | {"critic": initial(algo, seed=1)[1].params["critic"]},
    )
    key = lambda: jax.random.key(3)
    _, size, metrics = learner.critic_step(key(), env.action_space, state, batch, CLOCK)
    out = learner._actor(env.action_space).apply(
        state.params["actor"], (), batch.next_obs[:, 0], jnp.zeros(6, bool)
    )[1]
    out = jax.tree.map(lambda x: x[:, None], out)
    proposal = learner.actor.propose_next(jax.random.split(key(), 3)[0], out)
    next_value = values(
        learner, env, state.target_params["critic"], batch.next_obs, proposal.action
    )[..., 0].min(0)
    target = batch.reward[:, 0] + batch.discount[:, 0] * (
        next_value - 0.3 * proposal.log_prob[:, 0, 0]
    )
    error = (
        np.asarray(target)[None]
        - values(learner, env, state.params["critic"], batch.obs, batch.action)[..., 0]
    )
    np.testing.assert_allclose(size[:, 0], np.abs(error).mean(0), rtol=1e-4)
    weight = np.asarray(batch.weight[:, 0])
    np.testing.assert_allclose(metrics["loss"], (0.5 * weight * error**2).mean(1).sum(), rtol=1e-4)
    assert metrics["learnt_temperature"] == pytest.approx(0.3)


def test_a_categorical_target_is_the_mean_over_all_actions():
    """Christodoulou's equation 10, and what a mask leaves of it."""
    logits, value = jnp.array([[0.1, 1.0, -0.5]]), np.array([[1.0, 2.0, 3.0]])

    def soft(logits, mask):
        proposal = Softmax().propose(
            jax.random.key(0), {"logits": logits, "mask": jnp.array([mask])}
        )
        return proposal.mean(value - 0.5 * proposal.log_prob).sum()

    for mask in ([True, True, True], [True, False, True]):
        p = np.exp(logits[0]) * np.array(mask) / (np.exp(logits[0]) * np.array(mask)).sum()
        expected = sum(q * (v - 0.5 * np.log(q)) for q, v in zip(p, value[0], strict=True) if q > 0)
        found, grad = jax.value_and_grad(soft)(logits, mask)
        assert float(found) == pytest.approx(expected, rel=1e-5)
        assert jnp.isfinite(grad).all()
    assert Softmax().select(jnp.arange(12.0).reshape(2, 2, 3), jnp.array([2, 0])).tolist() == [
        [2, 3],
        [8, 9],
    ]


def test_dsac_t_s_gradient_is_the_paper_s():
    """Every row of every critic, in NumPy: expected value substituting, twin distributions,
    variance-weighed and clipped.
    """
    rng = np.random.default_rng(0)
    N, B, epsilon, bound, rate = 2, 5, 0.1, 3.0, 0.25
    head = critics.Gaussian(bound, epsilon, rate)
    raw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    out, next_out = {"q": raw(N, B), "std": raw(N, B)}, {"q": raw(N, B, 1), "std": raw(N, B, 1)}
    reward, discount, cost = raw(B), np.full(B, GAMMA, np.float32), raw(B)
    old = {"std": np.array([0.4, 0.6], np.float32), "variance": np.array([0.3, 0.5], np.float32)}
    softplus = lambda x: np.log1p(np.exp(x))
    std, noise = (
        softplus(out["std"]),
        np.clip(np.asarray(jax.random.normal(jax.random.key(0), (B,))), -3, 3),
    )
    statistics = {
        "std": 0.75 * old["std"] + 0.25 * std.mean(1),
        "variance": 0.75 * old["variance"] + 0.25 * (std**2).mean(1),
    }
    chex.assert_trees_all_close(head.update(old, out, jnp.int32(7)), statistics, rtol=1e-5)
    chex.assert_trees_all_close(head.update(old, out, jnp.int32(0))["std"], std.mean(1), rtol=1e-5)

    def loss_of(mean, std):
        now = {"q": mean, "std": jnp.log(jnp.expm1(std))}
        soft = lambda value: value[..., 0] - cost
        return head.loss(jax.random.key(0), statistics, now, next_out, soft, reward, discount)[
            0
        ].sum()

    slope_mean, slope_std = jax.grad(loss_of, (0, 1))(jnp.asarray(out["q"]), jnp.asarray(std))
    for b in range(B):
        lower = int(np.argmin(next_out["q"][:, b, 0]))
        target = reward[b] + GAMMA * (next_out["q"][lower, b, 0] - cost[b])
        drawn = target + GAMMA * softplus(next_out["std"][lower, b, 0]) * noise[b]
        for i in range(N):
            q, s, weight = out["q"][i, b], std[i, b], statistics["variance"][i] + epsilon
            reach = np.clip(drawn - q, -bound * statistics["std"][i], bound * statistics["std"][i])
            np.testing.assert_allclose(
                slope_mean[i, b], -weight * (target - q) / (s**2 + epsilon), rtol=1e-4
            )
            np.testing.assert_allclose(
                slope_std[i, b],
                -weight * (reach**2 - s**2) / (s**3 + epsilon),
                rtol=1e-3,
                atol=1e-5,
            )


def test_the_policy_climbs_its_soft_value_and_the_temperature_its_entropy():
    """One step of plain gradient descent on loss and temperature, against slopes by finite
    differences and by hand.
    """
    algo = rl.sac(
        **SOFT
        | dict(
            optimizer=rl.Optimizer(optax.sgd),
            lr=1.0,
            temperature=0.5,
            temperature_lr=0.1,
            target_entropy=0.2,
        )
    )
    env, state, batch = initial(algo)
    learner, critic, key = (
        algo.learner,
        algo.learner._critic(env.action_space),
        lambda: jax.random.key(4),
    )

    def gain_and_entropy(own):
        out = learner._actor(env.action_space).apply(own, (), batch.obs[:, 0], jnp.zeros(6, bool))[
            1
        ]
        proposal = learner.actor.propose(key(), jax.tree.map(lambda x: x[:, None], out))
        value = critics.q_values(critic, state.params["critic"], batch, proposal.action)["q"].min(0)
        soft = (value - 0.5 * proposal.log_prob)[..., 0]
        return float((batch.weight * soft).mean()), float(-proposal.log_prob.mean())

    better = learner.policy_step(key(), env.action_space, state, batch, CLOCK)
    before, after = state.params["actor"], better.params["actor"]
    step = jax.tree.map(lambda a, b: a - b, after, before)  # the gradient of the gain
    far = sum(float((x**2).sum()) for x in jax.tree.leaves(step))
    moved = lambda t: gain_and_entropy(jax.tree.map(lambda p, s: p + t * s, before, step))[0]
    assert (moved(1e-2) - moved(-1e-2)) / 2e-2 == pytest.approx(far, rel=0.03)
    _, entropy = gain_and_entropy(before)
    slope = 0.5 * (entropy - 0.2)
    assert float(better.params["log_temperature"]) == pytest.approx(
        np.log(0.5) - 0.1 * slope, rel=1e-4
    )


# ------------------------------------------------------------------------------ some are the others


def test_redq_of_two_is_sac_step_by_step():
    """With two critics, one update, and a policy that follows the smaller value of both."""
    env = LESSONS["aim"]
    algos = [
        rl.sac(**SOFT),
        rl.redq(**SOFT, num_critics=2, num_target_critics=2, policy_q="min", updates=1),
    ]
    states = [algo.init(jax.random.key(0), env) for algo in algos]
    update = jax.jit(lambda algo, key, state: algo.update(key, env, state))
    for i in range(25):
        states = [
            update(algo, jax.random.key(i + 1), state)[0]
            for algo, state in zip(algos, states, strict=True)
        ]
    assert states[0].learner.step == 6  # after the warm-up
    chex.assert_trees_all_equal(
        *[(state.params, state.learner.target_params, state.learner.opt_state) for state in states]
    )
    mean = rl.redq(**SOFT, num_critics=3, num_target_critics=2).learner
    assert (mean.policy_q, mean.num_policy_critics, mean.policy_delay) == ("mean", None, 20.0)
    assert rl.redq(policy_delay=4.0).learner.policy_delay == 4.0


def test_mirror_descent_at_one_over_the_temperature_is_sac():
    plain, penalized = rl.sac(**SOFT), rl.mdpo_off_policy(**SOFT, step_size=100.0)
    env, state, batch = initial(plain)
    elsewhere = jax.tree.map(lambda x: x + 0.2, state.params["actor"])
    state = tree.replace(state, target_params=state.target_params | {"actor": elsewhere})
    improve = lambda algo: algo.learner.policy_step(
        jax.random.key(0), env.action_space, state, batch, CLOCK
    ).params["actor"]
    chex.assert_trees_all_close(improve(plain), improve(penalized), atol=1e-6)
    read = lambda own: plain.learner._actor(env.action_space).apply(
        own, (), batch.obs[:, 0], jnp.zeros(6, bool)
    )[1]
    policy = lambda own: plain.learner.actor.policy(read(own))
    far = lambda own: policy(own).kl(policy(state.target_params["actor"])).mean()
    tight = improve(rl.mdpo_off_policy(**SOFT, step_size=1e-3))
    assert far(tight) < far(state.params["actor"])
    assert far(tight) < far(improve(plain))


def test_target_networks_and_policy_are_delayed():
    algo = rl.td3(**SLOW, policy_delay=3.0)
    env, state, batch = initial(algo)
    learn = jax.jit(
        lambda key, state: algo.learner.learn_batch(key, env.action_space, state, batch, CLOCK)[0]
    )
    same = lambda a, b: all(
        bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    for step in range(1, 7):
        before, state = state, learn(jax.random.key(step), state)
        assert not same(before.params["critic"], state.params["critic"])
        moves = step % 3 == 0
        assert same(before.params["actor"], state.params["actor"]) != moves
        assert same(before.target_params, state.target_params) != moves
        if moves:
            slow = jax.tree.map(
                lambda s, f: 0.9 * s + 0.1 * f, before.target_params["actor"], state.params["actor"]
            )
            chex.assert_trees_all_close(state.target_params["actor"], slow, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------- CrossQ


def normalised(weights, x, stats=None):
    """A network of one layer that normalises what it reads and its features, in NumPy: heads, and a
    batch's moments.
    """
    moments = {}

    def normalise(name, x):
        moments[name] = {"mean": x.mean(0), "var": x.var(0)}
        now = moments[name] if stats is None else stats[name]
        return (x - now["mean"]) / np.sqrt(now["var"] + 1e-3) * weights[name]["scale"] + weights[
            name
        ]["bias"]

    linear = lambda name, x: x @ weights[name]["kernel"] + weights[name]["bias"]
    x = normalise("shared_batch_norm", np.asarray(x, np.float64))
    x = normalise("shared_batch_norm_0", np.maximum(linear("shared_0", x), 0.0))
    return {
        name: linear(f"{name}_out", x) for name in ("q", "loc") if f"{name}_out" in weights
    }, moments


def test_crossq_s_critics_read_both_halves_as_one_batch():
    """Loss, running statistics and the slope of the loss, targets constant: every critic in
    NumPy.
    """
    algo = rl.crossq(**CROSSED | dict(temperature=0.3, optimizer=rl.Optimizer(optax.sgd), lr=1.0))
    env, state, batch = initial(algo)
    better, _, metrics = algo.learner.critic_step(
        jax.random.key(3), env.action_space, state, batch, CLOCK
    )
    out = algo.learner._actor(env.action_space).apply(
        state.params["actor"], (), batch.next_obs[:, 0], jnp.zeros(6, bool)
    )[1]
    key = jax.random.split(jax.random.key(3), 3)[0]
    proposal = algo.learner.actor.propose_next(key, jax.tree.map(lambda x: x[:, None], out))
    now, after = (
        np.concatenate([x[:, 0] for x in half], -1)
        for half in ((batch.action, batch.obs), (proposal.action, batch.next_obs))
    )
    both = np.concatenate([now, after])
    part = lambda state: jax.tree.map(np.asarray, state.params["critic"]["top"])
    at = lambda tree_, i: jax.tree.map(lambda x: np.asarray(x[i], np.float64), tree_)
    outputs = [normalised(at(part(state).weights, i), both) for i in range(2)]
    next_value = np.minimum(*(out["q"][6:, 0] for out, _ in outputs)) - 0.3 * np.asarray(
        proposal.log_prob[:, 0, 0]
    )
    target = np.asarray(batch.reward[:, 0] + batch.discount[:, 0] * next_value)
    weight = np.asarray(batch.weight[:, 0])
    loss_of = lambda weights: (
        0.5 * weight * (target - normalised(weights, both)[0]["q"][:6, 0]) ** 2
    ).mean()
    starts = [at(part(state).weights, i) for i in range(2)]
    assert float(metrics["loss"]) == pytest.approx(sum(map(loss_of, starts)), rel=1e-4)
    for i, start in enumerate(starts):
        step = jax.tree.map(np.subtract, at(part(better).weights, i), start)
        moved = lambda t, start=start, step=step: loss_of(
            jax.tree.map(lambda p, s: p + t * s, start, step)
        )
        far = sum((x**2).sum() for x in jax.tree.leaves(step))
        assert (moved(-1e-4) - moved(1e-4)) / 2e-4 == pytest.approx(far, rel=1e-2)
        old, new = (at(part(x).stats, i) for x in (state, better))
        expected = jax.tree.map(lambda old, seen: 0.99 * old + 0.01 * seen, old, outputs[i][1])
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), new, expected
        )


def test_an_optimiser_skips_statistics_and_acting_uses_them():
    algo = rl.crossq(**CROSSED)
    env, state, batch = initial(algo)
    assert state.target_params == {}
    moments = jax.tree.leaves(state.opt_state["actor"])
    assert (
        len(moments) == 2 * len(jax.tree.leaves(state.params["actor"].weights)) + 1
    )  # Adam's two, and its count
    learn = jax.jit(
        lambda key, state: algo.learner.learn_batch(key, env.action_space, state, batch, CLOCK)[0]
    )
    same = lambda a, b: all(
        bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    for step in range(1, 4):
        before, state = state, learn(jax.random.key(step), state)
        assert same(before.params["actor"], state.params["actor"]) == (step != 3)
        assert not same(before.params["critic"]["top"].stats, state.params["critic"]["top"].stats)
    actor = jax.tree.map(np.asarray, state.params["actor"])
    assert not np.allclose(actor.stats["shared_batch_norm"]["var"], 1.0)
    obs = np.array([0.7], np.float32)
    loc = normalised(actor.weights, obs[None], actor.stats)[0]["loc"][0]
    action = algo.learner.act(jax.random.key(0), env, state.params, start_at(jnp.asarray(obs), ()))[
        1
    ]
    np.testing.assert_allclose(action, np.tanh(loc), rtol=1e-4)


def test_what_crossq_can_t_be_is_explained():
    begin = lambda algo: algo.init(jax.random.key(0), LESSONS["aim"])
    with pytest.raises(ValueError, match=r"chase its own values.*batch_norm=True"):
        begin(rl.crossq(network=RELU))
    with pytest.raises(TypeError, match=r"crossq has no field 'memory'"):
        rl.crossq(memory=Sum())
    with pytest.raises(TypeError, match=r"crossq has no field 'tau'"):
        rl.crossq(tau=0.1)
    algo = rl.ppo(network=rl.MLP((4,), batch_norm=True), num_envs=4, num_steps=4, minibatches=1)
    with pytest.raises(ValueError, match=r"batch_norm=True is for actor-critics"):
        rl.train(jax.random.key(0), algo, LESSONS["aim"], steps=16, evals=1)


# ------------------------------------------------------------------------------------------ actions


def test_actions_are_in_the_box_s_units():
    box = rl.Box(jnp.array([-2.0, 0.0]), jnp.array([2.0, 10.0]), (2,))
    np.testing.assert_allclose(actors.from_unit(box, jnp.array([-1.0, 0.5])), [-2.0, 7.5])
    np.testing.assert_allclose(
        actors.to_unit(box, jnp.array([[1.0, 5.0], [9.0, -1.0]])), [[0.5, 0.0], [1.0, -1.0]]
    )
    out = {"loc": jnp.array([0.3, -0.2]), "spread": jnp.zeros(2)}
    for actor in (Squashed(), Deterministic(noise=5.0)):
        assert actor.mode(box, out) == pytest.approx(actors.from_unit(box, jnp.tanh(out["loc"])))
        drawn = jax.vmap(
            lambda key, actor=actor: actor.explore(actor.sample_noise(key, out), box, out)
        )(jax.random.split(jax.random.key(0), 200))
        assert ((drawn >= box.low[None]) & (drawn <= box.high[None])).all()
        assert (drawn.std(0) > jnp.array([0.5, 1.0])).all()


def test_a_clipped_log_std_has_a_gradient_inwards_only():
    """The gradient of a plain clip is 0 outside its range: a policy too wide would stay so."""
    apply_gradients = lambda x, aim: (
        x - 0.5 * jax.grad(lambda x: (actors.clip_keep_inward_gradient(x, -2.0, 0.5) - aim) ** 2)(x)
    )
    for x, aim, expected in (
        (0.0, 9.0, 9.0),
        (3.0, 0.0, 2.5),
        (3.0, 9.0, 3.0),
        (-4.0, 0.5, -1.5),
        (-4.0, -9.0, -4.0),
    ):
        assert float(apply_gradients(x, aim)) == expected
    clipped = lambda low, high: actors.clip_keep_inward_gradient(
        jnp.array([-4.0, 0.0, 3.0, 5.0]), low, high
    )
    np.testing.assert_array_equal(clipped(-2.0, 0.5), [-2.0, 0.0, 0.5, 0.5])
    assert jax.grad(lambda ends: clipped(*ends).sum())((-2.0, 0.5)) == (1.0, 2.0)


def test_the_initial_standard_deviation_is_the_same_everywhere():
    learner, env = rl.sac(**SOFT).learner, LESSONS["aim"]
    params = learner.init(jax.random.key(0), env.action_space, jnp.zeros(1)).params
    for obs in (-3.0, 3.0):
        assert float(forward(learner, env, params, obs)["spread"][0, 0, 0]) == pytest.approx(
            0.0, abs=0.2
        )


def test_correlated_noise_has_variance_1():
    """An autoregressive process, which restarts with each episode; evaluation is without noise."""
    noise_correlation, num = 0.8, 4000
    algo = rl.td3(**SLOW, noise_correlation=noise_correlation, noise=0.05)
    env, state, _ = initial(algo)
    learner, obs = algo.learner, jnp.zeros(1)
    first = learner.initial_rnn_state(env.action_space)

    def run(key):
        def step(rnn_state, i):
            rnn_state, action, _ = learner.explore(
                jax.random.fold_in(key, i), env, state.params, start_at(obs, rnn_state), CLOCK
            )
            return rnn_state, action[0]

        return jax.lax.scan(step, first, jnp.arange(num))[1]

    noise = np.asarray(jax.jit(run)(jax.random.key(0)))[50:] / 0.05
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(noise_correlation, abs=0.03)
    far = {"rnn_state": (), "noise": jnp.full(1, 9.0)}
    np.testing.assert_array_equal(
        *(
            learner.act(jax.random.key(0), env, state.params, start_at(obs, x))[1]
            for x in (first, far)
        )
    )
    recurrent = rl.sac(
        **SOFT, memory=Sum(), burn_in=1, sequence=2, noise_correlation=noise_correlation
    )
    state = recurrent.init(jax.random.key(0), env)
    jax.eval_shape(lambda key: recurrent.update(key, env, state), jax.random.key(1))
    with pytest.raises(ValueError, match="noise_correlation is of the noise on real actions"):
        rl.sac_discrete(noise_correlation=0.5).init(jax.random.key(0), env_of(rl.sac_discrete()))


def test_target_noise_is_clipped_twice():
    out = {"loc": jnp.full((4000, 1), 1.0)}
    action = (
        Deterministic(target_noise=0.2, target_noise_clip=0.3)
        .propose_next(jax.random.key(0), out)
        .action
    )
    noise = np.asarray(action - jnp.tanh(1.0))
    assert noise.min() == pytest.approx(-0.3, abs=1e-6)
    assert action.max() == 1.0
    assert np.mean(noise < -0.2) == pytest.approx(0.159, abs=0.02)  # below one standard deviation
    np.testing.assert_array_equal(
        Deterministic().propose(jax.random.key(0), out).action, jnp.tanh(out["loc"])
    )


def test_images_and_masks_are_read():
    """A convolution reads the image alone and the action joins it; a mask is the policy's
    business.
    """
    critic = critics.build(rl.CNN(features=(2,), hidden=(4,)), None, {"q": 1}, reads_action=True)
    params = jax.jit(lambda key: critics.init(key, critic, 2, jnp.ones((6, 6, 1)), jnp.zeros(3)))(
        jax.random.key(0)
    )
    batch = tree.replace(
        rows(LESSONS["aim"], 2), obs=jax.random.normal(jax.random.key(1), (2, 1, 6, 6, 1))
    )
    near, far = (
        critics.q_values(critic, params, batch, x * jnp.ones((2, 1, 3)))["q"] for x in (0.0, 1.0)
    )
    assert near.shape == (2, 2, 1, 1)
    assert not jnp.allclose(near, far)
    masked = rl.Masked(jnp.ones(3), jnp.array([False, True]))
    learner, env = rl.sac_discrete(**SOFT).learner, env_of(rl.sac_discrete())
    params = learner.init(jax.random.key(0), env.action_space, masked).params
    draw = lambda key: learner.explore(key, env, params, start_at(masked, ()), CLOCK)[1]
    assert (jax.vmap(draw)(jax.random.split(jax.random.key(0), 50)) == 1).all()


# ------------------------------------------------------------------------------------------- errors


def test_more_critics_than_there_are_is_explained():
    with pytest.raises(
        ValueError,
        match=r"num_target_critics=3 of num_critics=2 .*say num_target_critics=2, or more critics",
    ):
        rl.redq(num_critics=2, num_target_critics=3)


def test_a_box_without_ends_is_explained():
    env = tree.replace(LESSONS["aim"], action_space=rl.Box(-jnp.inf, jnp.inf, (1,)))
    with pytest.raises(
        ValueError, match=r"Squashed squashes .* has no end .*Box\(-1.0, 1.0, shape\)"
    ):
        rl.sac().init(jax.random.key(0), env)


def test_actions_of_the_other_kind_are_refused():
    for algo, env in ((rl.sac(), env_of(rl.sac_discrete())), (rl.sac_discrete(), LESSONS["aim"])):
        with pytest.raises(TypeError, match="ActorCritic takes actions of"):
            algo.init(jax.random.key(0), env)
    with pytest.raises(ValueError, match="Expected"):
        rl.dsac_t(actor=Softmax()).init(jax.random.key(0), env_of(rl.sac_discrete()))
