"""Off-policy actor-critics: each is its paper's equation, and some are others."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from actor_critics import CLOCK, Sum, env_of, initial
from members import GAMMA, LESSONS, SLOW, SOFT

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Softmax
from jaxrl.env import Env, Step

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


def test_a_memory_recalls_a_cue():
    algo = rl.sac(**SOFT | dict(memory=Sum(), burn_in=1, sequence=4, gamma=0.95))
    run = lambda key: rl.train(key, algo, Recall(), steps=8 * 1500, evals=5, episodes=0)[1][
        "return"
    ]
    returns = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 3))
    assert jnp.median(returns[:, -1]) > -0.1


# ---------------------------------------------------------------------------- the papers' equations


def pick(tree_, i):
    return jax.tree.map(lambda x: x[i], tree_)


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
    assert metrics["entropy_temperature"] == pytest.approx(0.3)


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
        rl.redq(
            **SOFT, num_critics=2, num_target_critics=2, policy_q="min", updates=1, policy_delay=1.0
        ),
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
    learn = jax.jit(lambda key, state: algo.learner.learn_batch(key, env, state, batch, CLOCK)[0])
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


# ------------------------------------------------------------------------------------------- errors


def test_more_critics_than_there_are_is_explained():
    with pytest.raises(
        ValueError,
        match=r"num_target_critics=3 of num_critics=2 .*such as num_target_critics=2, or more",
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
