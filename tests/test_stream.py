"""Streams: ten steps of each against a slow one in NumPy, the bound on a step, and sparse
weights.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Aim, Choice

import jaxrl as rl
from jaxrl import networks, rollout
from jaxrl.algorithms.stream import NETWORK, bounded_step
from jaxrl.clock import Clock
from jaxrl.env import Env, Step
from jaxrl.sweep import serialize

GAMMA, LAM, KAPPA, POLICY_KAPPA, ENTROPY = 0.9, 0.8, 2.0, 3.0, 0.3
MAKERS = {"q": rl.stream_q, "sarsa": rl.stream_sarsa, "ac": rl.stream_ac}
RAW = dict(normalize_obs=False, normalize_reward=False)
SMALL = dataclasses.replace(NETWORK, hidden=(16,))
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@rl.pytree
class Maze(Env):
    """Episodes that terminate and are truncated, rewards and observations of several sizes."""

    max_steps: int = rl.static(default=4)
    action_space = rl.Discrete(3)

    def reset(self, key):
        x = jax.random.normal(key, (2,))
        return x, x

    def step(self, key, x, action):
        x = 0.7 * x + 0.3 * action + jax.random.normal(key, (2,))
        return x, Step(x, 2.0 * x[0] - action, jnp.abs(x).sum() > 3.5, {})


def run(algo, env, steps, seed=0):
    return jax.jit(lambda key: rl.train(key, algo, env, steps=steps, evals=2, episodes=0))(
        jax.random.key(seed)
    )


# --------------------------------------------------------------------------------------- the oracle


class Spread:
    """The mean and variance of a list, a sample of weight 1e-4 with mean 0 and variance 1 before
    it.
    """

    def __init__(self):
        self.seen = []

    def add(self, x):
        self.seen.append(np.array(x, float))
        n, total, squares = len(self.seen), sum(self.seen), sum(x**2 for x in self.seen)
        self.mean = total / (n + 1e-4)
        self.var = (squares + 1e-4) / (n + 1e-4) - self.mean**2

    def scale(self, x):
        return (x - self.mean) / np.sqrt(self.var + 1e-8)

    def deviation(self):
        n = len(self.seen) + 1e-4
        return 1.0 if len(self.seen) < 2 else math.sqrt(self.var * n / (n - 1) + 1e-8)


def obgd(w, z, delta, kappa):
    """Algorithm 3, at a step size of 1."""
    z_sum = sum(abs(x) for x in z.ravel())
    m = kappa * max(abs(delta), 1.0) * z_sum
    return w + min(1.0 / m, 1.0) * delta * z


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def slow(kind, w, policy_w, experience):
    """The pseudocode on a linear network with a last input of 1: weights [3, outputs], after each
    step.
    """
    z, policy_z = np.zeros_like(w), np.zeros_like(policy_w)
    obs_spread, return_spread, running = Spread(), Spread(), 0.0
    obs_spread.add(experience[0]["obs"])
    x = np.append(obs_spread.scale(experience[0]["obs"]), 1.0)
    cuts = []
    for now in experience:
        a = now["action"]
        running = GAMMA * running + now["reward"]
        return_spread.add(running)
        reward = now["reward"] / return_spread.deviation()
        obs_spread.add(now["next_obs"])
        next_x = np.append(obs_spread.scale(now["next_obs"]), 1.0)
        values, next_values, column = x @ w, next_x @ w, 0 if kind == "ac" else a
        following = {
            "q": next_values.max(),
            "sarsa": next_values[now["next_action"] % len(next_values)],
            "ac": next_values[0],
        }
        delta = reward + GAMMA * (0.0 if now["terminated"] else following[kind]) - values[column]
        exploratory = kind == "q" and values[a] < values.max()
        cuts.append(exploratory)
        grad = np.zeros_like(w)
        grad[:, column] = x
        z = (0.0 if exploratory else GAMMA * LAM) * z + grad
        if kind == "ac":
            p = softmax(x @ policy_w)
            entropy = -np.sum(p * np.log(p))
            slope = np.eye(3)[a] - p + ENTROPY * np.sign(delta) * -p * (np.log(p) + entropy)
            policy_z = GAMMA * LAM * policy_z + np.outer(x, slope)
            policy_w = obgd(policy_w, policy_z, delta, POLICY_KAPPA)
        w = obgd(w, z, delta, KAPPA)
        x = next_x
        if now["terminated"] or now["truncated"]:
            z, policy_z, running = np.zeros_like(z), np.zeros_like(policy_z), 0.0
            obs_spread.add(now["reset_obs"])
            x = np.append(obs_spread.scale(now["reset_obs"]), 1.0)
    return w, policy_w, cuts


def matrix(params, head):
    layer = params["params"][f"{head}_out"]
    return np.concatenate([layer["kernel"], layer["bias"][None]]).astype(float)


@pytest.mark.parametrize("kind", MAKERS)
def test_ten_steps_are_those_of_the_pseudocode(kind):
    more = (
        dict(entropy_weight=ENTROPY) if kind == "ac" else dict(epsilon_start=0.5, epsilon_end=0.5)
    )
    algo = MAKERS[kind](gamma=GAMMA, lam=LAM, network=rl.MLP((), shared=True), **more)
    env, clock = Maze(), Clock(0, 1.0)
    step = jax.jit(lambda key, state: algo.step(key, env, state, clock))
    state = initial = jax.jit(lambda key: algo.init(key, env))(jax.random.key(3))
    experience = []
    for i in range(10):
        key = jax.random.key(i)
        state, (transition, _) = step(key, state)
        names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
        row = {name: np.asarray(getattr(transition, name)) for name in names}
        experience.append(row | {"reset_obs": np.asarray(state.episode.obs)})
        experience[-1]["next_action"] = int(state.action) if kind == "sarsa" else 0
        if (
            kind == "sarsa"
            and i
            and not (experience[-2]["terminated"] or experience[-2]["truncated"])
        ):
            assert row["action"] == experience[-2]["next_action"]
    assert any(now["terminated"] for now in experience)
    assert any(now["truncated"] for now in experience)
    weights = lambda params: (
        matrix(params["value"], "value" if kind == "ac" else "q"),
        matrix(params["policy"], "logits") if kind == "ac" else np.zeros((3, 3)),
    )
    w, policy_w, cuts = slow(kind, *weights(initial.params), experience)
    assert any(cuts) == (kind == "q")
    for fast, expected in zip(weights(state.params), (w, policy_w), strict=True):
        np.testing.assert_allclose(fast, expected, rtol=2e-3, atol=2e-4)


def test_the_step_is_bounded_as_in_the_paper():
    trace = {"a": jnp.array([[1.0, -2.0]]), "b": jnp.array([0.5])}
    for error, lr, kappa in ((0.3, 1.0, 2.0), (-4.0, 1.0, 2.0), (0.3, 0.01, 3.0)):
        m = lr * kappa * max(abs(error), 1.0) * 3.5
        assert float(bounded_step(trace, jnp.array(error), lr, kappa)) == pytest.approx(
            min(lr / m, lr)
        )
    assert float(bounded_step(jax.tree.map(jnp.zeros_like, trace), jnp.array(1.0), 0.5, 2.0)) == 0.5


@pytest.mark.parametrize(("shape", "kept"), [((40, 5), 4), ((4, 3), 1), ((3, 3, 8, 2), 7)])
def test_nine_tenths_of_the_weights_begin_at_zero(shape, kept):
    weights = np.asarray(networks.Sparse()(0.01)(jax.random.key(0), shape)).reshape(-1, shape[-1])
    inputs = len(weights)
    assert ((weights != 0).sum(0) == kept).all()
    assert np.abs(weights).max() <= 1 / math.sqrt(inputs)
    assert np.abs(weights).max() > 0.3 / math.sqrt(inputs)
    if inputs > 4:
        assert len({tuple(column) for column in (weights != 0).T}) > 1  # each unit's own


def test_the_norm_has_no_parameters():
    params = jax.eval_shape(lambda key: rl.stream_ac().init(key, Aim()), jax.random.key(0)).params
    layers = {name for group in params.values() for name in group["params"]}
    assert layers == {"shared_0", "shared_1", "loc_out", "log_std_out", "value_out"}


@every
def test_an_update_is_its_steps_one_by_one_and_a_state_is_a_checkpoint(make):
    algo, env = make(num_steps=4, network=SMALL), Maze()
    update = jax.jit(lambda key, state: algo.update(key, env, state))
    step = jax.jit(
        lambda i, state: algo.step(
            jax.random.fold_in(jax.random.key(7), i), env, state, Clock(i / 4, 10.0)
        )
    )
    state = jax.jit(lambda key: algo.init(key, env, 10))(jax.random.key(0))
    together, metrics = update(jax.random.key(7), state)
    errors = []
    for i in range(4):
        state, (_, row) = step(i, state)
        errors.append(float(row["td_error"]))
    chex.assert_trees_all_close(together.params, state.params, rtol=1e-4, atol=1e-6)
    assert float(metrics["td_error"]) == pytest.approx(np.mean(errors), rel=1e-3)
    assert int(together.clock.n) == 1
    assert all(np.size(x) for x in jax.tree.leaves(together))
    loaded = jax.tree.map(lambda x: jnp.asarray(np.array(x)), together)
    chex.assert_trees_all_equal(
        update(jax.random.key(2), together), update(jax.random.key(2), loaded)
    )


# -------------------------------------------------------------------- what every algorithm promises


def test_an_agent_acts_greedily_by_its_mask():
    @rl.pytree
    class Forbidding(Choice):
        def reset(self, key):
            return (), rl.Masked(jnp.ones(1), jnp.array([True, False]))

        def step(self, key, state, action):
            _, result = Choice().step(key, state, action)
            return (), rl.tree.replace(result, obs=rl.Masked(jnp.ones(1), jnp.array([True, False])))

    algo, env = rl.stream_q(network=SMALL), Forbidding()
    state, metrics = run(algo, env, 64)
    assert float(metrics["return"][-1]) == -1.0  # the better action is forbidden
    policy = algo.policy(env, algo.agent(state), greedy=True)
    episode = rollout.reset(jax.random.key(0), env, policy.rnn_state)
    assert int(policy(jax.random.key(1), episode)[1]) == 0


def test_normalisation_that_is_traced_and_off_is_none():
    td_error = lambda algo: rl.train(
        jax.random.key(0), algo, Maze(), steps=64, evals=2, episodes=0
    )[1]["td_error"]
    plain = jax.jit(lambda: td_error(rl.stream_q(network=SMALL, **RAW)))()
    traced = jax.jit(
        lambda on: td_error(rl.stream_q(network=SMALL, normalize_obs=on, normalize_reward=on))
    )(jnp.bool_(False))
    np.testing.assert_allclose(traced, plain, rtol=1e-4)


def test_the_meta_gradient_is_finite():
    def metric(algo):
        _, metrics = algo.update(jax.random.key(1), Maze(), algo.init(jax.random.key(0), Maze(), 4))
        return metrics["loss"] + metrics["entropy"]

    slopes = jax.jit(jax.grad(metric, allow_int=True))(rl.stream_ac(num_steps=4, network=SMALL))
    for name in ("gamma", "lam", "entropy_weight", "value_kappa", "policy_kappa"):
        assert np.isfinite(getattr(slopes.rule, name)), name
        assert getattr(slopes.rule, name) != 0.0, name


@every
def test_a_folder_alone_names_it(make):
    assert serialize.decode(serialize.encode(make(gamma=0.5))) == make(gamma=0.5)


def test_what_does_not_fit_is_explained():
    with pytest.raises(
        TypeError, match=r"ActionValues takes actions of Discrete.*Box action space"
    ):
        rl.stream_q().init(jax.random.key(0), Aim())
    with pytest.raises(ValueError, match="num_steps=0 of Stream is not a positive whole number"):
        rl.stream_q(num_steps=0)
