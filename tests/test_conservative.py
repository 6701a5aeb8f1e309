"""Conservative Q-learning: its loss against a slow definition, and cloning without rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from envs.two_step import TwoStep
from jaxrl import tree
from jaxrl.algorithms.conservative import Conservative
from jaxrl.algorithms.value_heads import Implicit
from jaxrl.clock import Clock
from jaxrl.mixers import by_team

KEY = jax.random.key(0)
SIZES = {"num_envs": 4, "num_steps": 2, "batch_size": 8, "capacity": 64, "warmup": 8}
ENV = TwoStep()


def algorithm(updates=1, **fields):
    learner = Conservative(network=rl.MLP((16,)), gamma=0.9, **fields)
    return rl.OffPolicy(learner=learner, updates=updates, **SIZES)


def played(algo):
    """The state before learning, and pieces of teams [N, 1, A]."""
    state = algo.init(KEY, ENV)
    batch = algo.collect(jax.random.key(1), ENV, state)[1].transitions
    teams = by_team(tree.replace(batch, rnn_state=(), extras=()), 2)
    return state, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, 1, *x.shape[2:]), teams)


@pytest.mark.parametrize("mixes", [False, True])
def test_the_loss_is_that_of_the_definition(mixes):
    """Of a batch of teams, or of their agents alone, against a loop."""
    algo = algorithm(mixer=rl.Additive() if mixes else None, penalty=0.3, td_weight=2.0)
    learner, (state, items) = algo.learner, jax.jit(lambda: played(algo))()
    example = state.episodes.obs[0] if mixes else state.episodes.obs[0, 0]
    other = learner.init(jax.random.key(7), ENV.action_space, example)
    own = tree.replace(state.learner, target_params=other.params)
    rows = items
    if not mixes:
        rows = jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[3:]), items)
    weight = jnp.arange(1.0, len(rows.reward) + 1.0)
    learn = lambda rows: learner.learn(KEY, ENV, own, rows, weight, Clock(0, 10.0))
    metrics = jax.jit(learn)(rows)[2]
    network = learner._network(ENV.action_space)
    alone = lambda params, obs: network.apply(params, (), obs, jnp.zeros(len(obs), bool))[1]
    apply = jax.jit(alone)

    def q(params, obs):
        return np.asarray(apply(params["network"], obs.reshape(-1, 5))["q"]).reshape(-1, 2, 2)

    now, later = q(own.params, items.obs), q(own.params, items.next_obs)
    target = q(other.params, items.next_obs)
    td, gaps = [], []
    for i in range(len(items.reward)):
        taken = [now[i, a, int(items.action[i, 0, a])] for a in range(2)]
        following = [target[i, a, later[i, a].argmax()] for a in range(2)]
        alive = 0.9 * (1.0 - float(items.terminated[i, 0, 0]))
        goals = [float(items.reward[i, 0, a]) + alive * following[a] for a in range(2)]
        errors = [goals[a] - taken[a] for a in range(2)]
        if mixes:
            errors = [float(items.reward[i, 0, 0]) + alive * sum(following) - sum(taken)]
        td += [0.5 * e * e if abs(e) <= 1 else abs(e) - 0.5 for e in errors]
        gaps += [np.log(np.exp(now[i, a]).sum()) - taken[a] for a in range(2)]
    weight = np.asarray(weight)
    expected = 2.0 * np.mean(weight * np.array(td))
    expected += 0.3 * np.mean(np.repeat(weight, 2 if mixes else 1) * np.array(gaps))
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)


def test_the_penalty_alone_clones_the_data():
    """The mode of a policy is learned from its actions, where it has the lower reward."""
    algo = algorithm(updates=200, td_weight=0.0, lr=0.01)
    obs = jnp.tile(jnp.eye(5)[:1], (64, 1))
    rare = jnp.arange(64) % 4 == 0
    zeros, end = jnp.zeros(64), jnp.ones(64, bool)
    items = rl.Transition(
        obs=obs,
        action=rare.astype(jnp.int32),
        reward=rare.astype(jnp.float32),
        next_obs=obs,
        terminated=end,
        truncated=~end,
        episode_return=zeros,
        length=zeros,
        rnn_state=(),
        extras=(),
        info={},
        episode_info={},
        active=end,
    )

    def learned():
        state = algo.init(KEY, ENV)
        state = tree.replace(state, replay=algo.load(items), clock=Clock(10**6, float("inf")))
        state, _ = algo.learn(KEY, ENV, state, None)
        network = algo.learner._network(ENV.action_space)
        return network.apply(state.params["network"], (), obs[:1], jnp.zeros(1, bool))[1]["q"]

    probability = jax.nn.softmax(jax.jit(learned)())[0]
    np.testing.assert_allclose(probability, [0.75, 0.25], atol=0.1)


def test_what_has_no_penalty_is_refused():
    with pytest.raises(TypeError, match="head is Implicit: leave head= out"):
        Conservative(head=Implicit())
    with pytest.raises(ValueError, match="noisy=False"):
        Conservative(noisy=True)
