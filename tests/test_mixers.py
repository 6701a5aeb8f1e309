"""Values of teams: mixers in Q-learning, networks per role, and what agents see of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import envs
import jaxrl as rl
from jaxrl import tree
from jaxrl.clock import start_clock
from jaxrl.mixers import by_agent, by_team, of_teams, whole_of
from jaxrl.spaces import Masked
from jaxrl.teachers.pool import LevelPool

RNG = np.random.default_rng(0)
SMALL = dict(network=rl.MLP((16,)), num_envs=4, num_steps=2, updates=1, batch_size=8, capacity=64)
MIXERS = {"VDN": rl.Additive(), "QMIX": rl.Monotonic(embed=8, hypernetwork=rl.MLP((16,)))}


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_never_decreases_in_a_value(name):
    mixer = MIXERS[name]
    values, whole = RNG.normal(size=(64, 3)), RNG.normal(size=(64, 5))
    params = mixer.init(jax.random.key(0), 3, jnp.zeros(5))
    each = jax.jit(jax.vmap(jax.grad(lambda v, w: mixer(params, v, w)), in_axes=(0, 0)))
    slope = np.asarray(each(jnp.asarray(values), jnp.asarray(whole)))
    assert (slope >= 0.0).all()
    assert (slope > 0.0).mean() > 0.9


def test_the_loss_is_that_of_the_sum_of_values():
    """VDN's loss and errors of a batch, against loops over teams and agents."""
    env = envs.make("TwoStep")
    algo = rl.dqn(**SMALL, mixer=rl.Additive(), warmup=8, gamma=0.9)
    learner = algo.learner
    state = jax.jit(lambda key: algo.init(key, env))(jax.random.key(0))
    played = jax.jit(lambda key: algo.collect(key, env, state)[1])(jax.random.key(1))
    teams = by_team(tree.replace(played.transitions, rnn_state=(), extras=()), 2)
    items = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, 1, *x.shape[2:]), teams)
    other = learner.init(jax.random.key(7), env.action_space, state.episodes.obs[0])
    own = tree.replace(state.learner, target_params=other.params)
    clock = start_clock(10.0)
    weight = jnp.arange(1.0, len(items.reward) + 1.0)
    _, priority, metrics = jax.jit(
        lambda items: learner.learn(jax.random.key(0), env, own, items, weight, clock)
    )(items)

    def q(params, obs):
        first = jnp.zeros(1, bool)
        out = learner._network(env.action_space).apply(params["network"], (), obs[None], first)[1]
        return np.asarray(out["q"])[0]

    losses, errors = [], []
    for i in range(len(items.reward)):
        row = jax.tree.map(lambda x, i=i: x[i, 0], items)
        value = sum(q(own.params, row.obs[a])[row.action[a]] for a in range(2))
        following = sum(
            q(other.params, row.next_obs[a])[q(own.params, row.next_obs[a]).argmax()]
            for a in range(2)
        )
        ended = bool(row.terminated.all())
        error = float(row.reward[0]) + 0.9 * (not ended) * following - value
        errors.append(abs(error))
        huber = 0.5 * error**2 if abs(error) < 1.0 else abs(error) - 0.5
        losses.append(float(weight[i]) * huber)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(priority, errors, rtol=1e-3, atol=1e-5)
    assert max(errors) > 1.0


def test_a_team_ends_where_all_agents_have_ended_and_shares_their_mean_reward():
    terminated = jnp.array([[[False, True], [True, True]]])
    items = rl.rollout.Transition(
        obs=jnp.arange(4.0).reshape(1, 2, 2, 1),
        action=jnp.zeros((1, 2, 2), int),
        reward=jnp.array([[[1.0, 3.0], [5.0, 0.0]]]),
        next_obs=jnp.zeros((1, 2, 2, 1)),
        terminated=terminated,
        truncated=jnp.zeros((1, 2, 2), bool),
        episode_return=(),
        length=(),
        rnn_state=(),
        extras=(),
        info={},
        episode_info={},
        active=jnp.array([[[True, True], [True, False]]]),
    )
    folded, num_agents = by_agent(items)
    assert num_agents == 2
    np.testing.assert_array_equal(folded.reward, [[2.0, 5.0]] * 2)
    np.testing.assert_array_equal(folded.terminated, [[False, True]] * 2)
    np.testing.assert_array_equal(folded.obs[..., 0], [[0.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(of_teams(folded.obs, 2), items.obs)


@pytest.mark.parametrize(("name", "best"), [("VDN", 7.0), ("QMIX", 8.0)])
def test_the_two_step_game_separates_sums_from_mixtures(name, best):
    """Rashid et al. (2018): over uniform actions, sums prefer the safe 7, mixtures find 8."""
    algo = rl.dqn(
        mixer=MIXERS[name],
        network=rl.MLP((64,)),
        num_envs=8,
        num_steps=2,
        updates=2,
        batch_size=32,
        capacity=4096,
        warmup=64,
        lr=5e-4,
        exploration=rl.EpsilonGreedy(1.0, 1.0),
        target_period=200,
    )
    training = rl.Training(algo, envs.make("TwoStep"), steps=40_000, evals=1, episodes=1)
    found = rl.sweep(training, {"seed": jnp.arange(8)})
    assert (found["evaluation"].values[:, -1] == best).sum() >= 7
    assert dict(found["evaluation_by_agent"].sizes) == {"seed": 8, "step": 1, "agent": 2}
    np.testing.assert_allclose(found["evaluation_by_agent"].mean("agent"), found["evaluation"])


def test_lambda_returns_of_a_team_are_those_of_its_sums():
    """Targets and loss of PQN with VDN, against loops over environments, steps and agents."""
    num_steps, num_envs, num_agents, gamma, lam = 4, 3, 2, 0.9, 0.6
    shape = num_steps, num_envs * num_agents
    rule = rl.pqn(mixer=rl.Additive(), gamma=gamma, lam=lam, reward_scale=2.0).rule
    rule, clock, space = rule.for_team(num_agents), start_clock(10.0), rl.Discrete(3)
    heads = lambda q: {"q": jnp.asarray(q), "policy": rule.policy(space, {"q": q}, clock)}
    q, next_q = RNG.normal(size=(2, *shape, 3)).astype(np.float32)
    terminated = np.zeros((num_steps, num_envs, num_agents), bool)
    terminated[1:3, 0, 1] = terminated[2, 0, 0] = True  # one agent before the other
    terminated[1, 1] = True
    active = np.ones_like(terminated)
    active[2, 0, 1] = False
    truncated = np.zeros_like(terminated)
    truncated[2, 2] = True
    fold = lambda x: jnp.asarray(x.reshape(shape))
    batch = rl.rollout.Transition(
        obs=None,
        action=jnp.asarray(RNG.integers(0, 3, shape)),
        reward=jnp.asarray(RNG.normal(size=shape).astype(np.float32)) * fold(active),
        next_obs=None,
        terminated=fold(terminated),
        truncated=fold(truncated),
        episode_return=None,
        length=None,
        rnn_state=(),
        extras=(),
        info={},
        episode_info={},
        active=fold(active),
    )
    q = q * np.asarray(batch.active)[..., None]  # as OnPolicy passes them
    out, next_out = heads(q), heads(next_q)
    _, targets = rule.targets((), out, next_out, batch, clock)
    expected, errors = np.zeros((num_steps, num_envs)), []
    for env in range(num_envs):
        own = slice(2 * env, 2 * env + 2)
        for t in reversed(range(num_steps)):
            alive, over = active[t, env], terminated[t, env]
            reward = 2.0 * np.asarray(batch.reward)[t, own].sum() / alive.sum()
            bootstrap = sum(next_q[t, own][a].max() for a in range(2) if not over[a])
            ends = (over | truncated[t, env]).all() or t == num_steps - 1
            later = bootstrap if ends else expected[t + 1, env]
            mixed = bootstrap if ends else (1 - lam) * bootstrap + lam * later
            expected[t, env] = reward + gamma * (0.0 if over.all() else mixed)
            value = sum(q[t, own][a][batch.action[t, 2 * env + a]] for a in range(2))
            errors.append(0.5 * (value - expected[t, env]) ** 2)
    np.testing.assert_allclose(targets, np.repeat(expected, 2, 1), rtol=1e-4, atol=1e-5)
    rows = lambda x: jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), x)
    loss, _ = rule.loss(rows(heads(q)), rows(batch), targets.ravel(), clock)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)
    whole = lambda x: jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), x)  # trajectories
    loss, _ = rule.loss(heads(q.swapaxes(0, 1)), whole(batch), whole(targets), clock)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)


@tree.pytree
class Balance(rl.rules.QLambda):
    """Reports how far the neighbouring columns of a minibatch are from opposite rewards."""

    columns_together = 2

    def loss(self, out, batch, targets, clock):
        loss, metrics = super().loss(out, batch, targets, clock)
        pairs = batch.reward.reshape(-1, 2, *batch.reward.shape[1:])
        return loss, metrics | {"balance": jnp.abs(pairs.sum(1)).mean()}


@pytest.mark.parametrize("memory", [None, rl.GRU(3)])
def test_a_minibatch_holds_whole_teams(memory):
    """Their rewards are opposite, and differ between environments and steps."""
    game = envs.MatrixGame(jnp.stack([x := jnp.arange(1.0, 10.0).reshape(3, 3), -x]), max_steps=4)
    sizes = dict(num_envs=8, num_steps=4, minibatches=4, epochs=1, normalize_reward=False)
    algo = rl.OnPolicy(Balance(), network=rl.MLP((4,)), memory=memory, **sizes)
    alone = tree.replace(algo, rule=rl.rules.QLambda())
    assert alone.rule.columns_together == 1

    def update(key):
        return algo.update(key, game, algo.init(key, game))[1]

    assert float(jax.jit(update)(jax.random.key(0))["balance"]) == 0.0


def test_networks_per_role_share_nothing():
    """The gradient of one role's outputs reaches its own parameters alone."""
    network = rl.PerRole(2, rl.MLP((4,)))({"q": 3})
    obs = jnp.array([0.3, -0.2, 0.0, 1.0])  # of role 1
    params = network.init(jax.random.key(0), obs)
    out, grads = jax.value_and_grad(lambda p: network.apply(p, obs)["q"].sum())(params)
    alone = rl.MLP((4,))({"q": 3})
    own = jax.tree.map(lambda x: x[1], params)
    assert float(out) == pytest.approx(float(alone.apply(own, obs)["q"].sum()), rel=1e-5)
    sizes = [[float(jnp.abs(x[role]).sum()) for x in jax.tree.leaves(grads)] for role in (0, 1)]
    assert not any(sizes[0])
    assert any(sizes[1])
    with pytest.raises(ValueError, match="append the one-hot role, as rl"):
        rl.PerRole(4)({"q": 3}).init(jax.random.key(0), obs)


def test_roles_and_the_state_are_part_of_what_agents_observe():
    team = envs.make("TwoStep")
    state, obs = team.reset(jax.random.key(0))
    roles = envs.WithRoles(team, roles=(1, 1)).reset(jax.random.key(0))[1]
    np.testing.assert_array_equal(roles, np.hstack([obs, [[0.0, 1.0]] * 2]))
    with_state = envs.WithState(team)
    seen = with_state.reset(jax.random.key(0))[1]
    np.testing.assert_array_equal(seen["obs"], obs)
    both = np.concatenate([obs[0], obs[1]])
    np.testing.assert_array_equal(seen["state"], np.hstack([[both] * 2, np.eye(2)]))
    np.testing.assert_array_equal(whole_of(seen), np.append(both, [1.0, 0.0]))
    np.testing.assert_array_equal(whole_of(obs), both)
    masked = Masked(obs, jnp.ones((2, 2), bool))
    np.testing.assert_array_equal(whole_of(masked), both)
    after = with_state.step(jax.random.key(0), state, jnp.array([1, 0]))[1]
    np.testing.assert_array_equal(after.obs["state"][0, :5], after.obs["obs"][0])
    with pytest.raises(
        ValueError, match=r"write one number from 0 up for each, such as roles=\(0, 1\)"
    ):
        envs.WithRoles(team, roles=(0,)).reset(jax.random.key(0))
    with pytest.raises(TypeError, match="WithState wraps a team, and Choice is a single agent"):
        envs.WithState(Choice()).reset(jax.random.key(0))


REWARDS = r"A mixer needs the same reward.*SharedReward\(env\).*shared_reward = True; or mixer=None"
CENTRAL = rl.Views(rl.MLP((4,)), reads={"value": "state"})


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("several agents, and Choice has one: write mixer=None", lambda: _init(Choice())),
        ("head is Categorical: write head=rl.Expected", lambda: rl.c51(mixer=rl.Additive())),
        ("A mixer has no noisy network", lambda: rl.dqn(mixer=rl.Additive(), noisy=True)),
        ("a reward model reads single agents", lambda: _rewarded()),
        (
            "mixes the values of a team, and",
            lambda: _updated(rl.pqn(mixer=rl.Additive()), Choice()),
        ),
        (REWARDS, lambda: _init(envs.Spread(), rl.Additive())),
        (REWARDS, lambda: _init(envs.Spread(), rl.Monotonic())),
        (REWARDS, lambda: _init(envs.make("Matrix-StagHunt"))),
        (REWARDS, lambda: _updated(rl.pqn(mixer=rl.Additive()), envs.WithState(envs.Foraging()))),
        (
            r"Views reads the part 'obs'.*for a team write rl\.envs\.WithState\(env\)",
            lambda: _updated(rl.ppo(network=CENTRAL), envs.make("TwoStep")),
        ),
        (
            r"Views reads the part 'obs'.*for a team write rl\.envs\.WithState\(env\)",
            lambda: _updated(rl.ppo(network=CENTRAL), envs.WithRoles(envs.Spread())),
        ),
        ("takes an instance of Additive", lambda: rl.pqn(mixer=rl.Monotonic())),
        ("mixer takes an instance of Mixer", lambda: rl.dqn(mixer="vdn")),
    ],
)
def test_what_a_mixer_needs_is_checked(words, call):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


def test_teams_with_equal_rewards_have_mixers():
    """Declared by the environment, by a wrapper, or below other wrappers."""
    garnet = envs.markov_game.garnet
    equal = [envs.make("Matrix-Climbing"), garnet(0, correlation=1.0), garnet(0)]
    assert [env.shared_reward for env in equal] == [True, True, False]
    reward = np.asarray(equal[1].reward)
    np.testing.assert_array_equal(reward[0], reward[1])
    for env in (*equal[:2], envs.WithState(envs.SharedReward(envs.Spread()))):
        assert env.shared_reward
        _init(env, MIXERS["QMIX"])
        _updated(rl.pqn(mixer=rl.Additive()), env)
    assert not envs.AsTeam(Choice(), size=2).shared_reward
    levels = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), envs.make("TwoStep"))
    assert LevelPool(levels).shared_reward


def test_a_shared_reward_is_the_mean_of_agents_that_had_not_terminated():
    team = envs.SharedReward(Leaving())
    rl.check_env(team, num_steps=4)
    state, _ = team.reset(jax.random.key(0))
    rewards = []
    for _ in range(3):
        state, step = team.step(jax.random.key(0), state, jnp.array([3, 6, 0]))
        rewards.append(step.reward.tolist())
    # agent 1 terminates at the first step, agent 2 at the second
    assert rewards == [[3.0, 3.0, 3.0], [1.5, 0.0, 1.5], [3.0, 0.0, 0.0]]
    with pytest.raises(TypeError, match="SharedReward wraps a team, and Choice is a single agent"):
        envs.SharedReward(Choice()).reset(jax.random.key(0))


@tree.pytree
class Leaving(rl.Env):
    """Rewards are actions; agent i > 0 terminates at step i."""

    num_agents = 3
    max_steps = 4
    action_space = rl.Discrete(7)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros((3, 1))

    def step(self, key, state, action):
        number = jnp.arange(3)
        reward = jnp.where((number > 0) & (state >= number), 0.0, action)
        over = (number > 0) & (state + 1 >= number)
        return state + 1, rl.Step(jnp.zeros((3, 1)), reward, over, {})


def _init(env, mixer=MIXERS["VDN"]):
    algo = rl.dqn(**SMALL, mixer=mixer, warmup=8)
    return jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))


def _rewarded():
    algo = rl.Rewarded(rl.dqn(**SMALL, mixer=rl.Additive(), warmup=8), rl.exploration.RND())
    return _updated(algo, envs.make("TwoStep"))


def _updated(algo, env):
    def update(key):
        return algo.update(key, env, algo.init(key, env))

    return jax.eval_shape(update, jax.random.key(0))
