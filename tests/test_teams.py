"""Teams, channels, reward models and views: what the contract carries beside one agent's reward."""

import hashlib
import re

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from members import value_of
from probes import Choice, Matching, Value

import jaxrl as rl
from envs.wrappers import AsTeam, WithChannel
from jaxrl import rollout, tree
from jaxrl.algorithms.learner import bootstrap
from jaxrl.algorithms.rewarded import Rewarded, RewardModel
from jaxrl.env import Env, Step
from jaxrl.networks import Views
from jaxrl.rollout import Policy
from jaxrl.tree import pytree, static

SMALL = dict(network=rl.MLP((4,)), num_envs=2, num_steps=4)
ON = SMALL | dict(epochs=1, minibatches=1)
OFF = SMALL | dict(updates=1, batch_size=4, capacity=32, warmup=8)


@pytree
class Priced(Env):
    """Every step costs its number, action 1 twice as much; the episode lasts three steps."""

    channels: tuple[str, ...] = static(default=("cost", "objectives"))
    max_steps: int = static(default=3)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.float32(0.0), jnp.zeros(1)

    def step(self, key, state, action):
        cost = (state + 1.0) * (1.0 + action)
        info = {"cost": cost, "objectives": jnp.stack([cost, -cost]), "unused": cost}
        return state + 1.0, Step(jnp.zeros(1), jnp.float32(1.0), jnp.bool_(False), info)


@pytree
class Sides(Env):
    """A team of two: agent i is paid i + its action; agent 1 terminates at the first step."""

    num_agents: int = static(default=2)
    max_steps: int = static(default=3)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return (), jnp.arange(2.0)[:, None]

    def step(self, key, state, action):
        reward = jnp.arange(2.0) + action
        return (), Step(jnp.arange(2.0)[:, None], reward, jnp.array([False, True]), {})


@pytree
class Early(Env):
    """A team of two, paid `pay` for action 1 in an episode of three steps; agent 1 terminates at
    the first, and observes `ghost` afterwards.
    """

    pay: float = 1.0
    ghost: float = 0.0
    num_agents: int = static(default=2)
    max_steps: int = static(default=3)
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.float32(0.0), jnp.ones((2, 1))

    def step(self, key, state, action):
        over = jnp.array([False, True])
        obs = jnp.where(over, self.ghost, 2.0 + state)[:, None]
        reward = jnp.where(over & (state > 0.0), 0.0, self.pay * action)
        return state + 1.0, Step(obs, reward, over, {})


@pytree
class One(Env):
    """A single-agent environment as a team of one: the same with an axis."""

    env: Env
    num_agents: int = static(default=1)

    @property
    def max_steps(self):
        return self.env.max_steps

    @property
    def action_space(self):
        return self.env.action_space

    def reset(self, key):
        state, obs = self.env.reset(key)
        return state, obs[None]

    def step(self, key, state, action):
        state, step = self.env.step(key, state, action[0])
        return state, tree.replace(step, obs=step.obs[None], reward=step.reward[None])


def digest(algo, env):
    """The optimised program of a training; instructions are named in their order, places in the
    source are left out.
    """
    training = rl.Training(algo, env, 2 * algo.steps_per_update, evals=2, episodes=2, eval_share=1)
    text = jax.jit(training).lower(jax.random.key(0)).compile().as_text()
    text = re.sub(r", metadata=\{[^}]*\}", "", text)
    lines = [line for line in text.splitlines() if re.match(r"\s*(%|ENTRY|ROOT|\})", line)]
    names = {}
    number = lambda found: names.setdefault(found[0], f"%{len(names)}")
    program = re.sub(r"%[\w.-]+", number, "\n".join(lines))
    assert len(lines) > 1000
    return hashlib.sha256(program.encode()).hexdigest()


# ----------------------------------------------------------------------------------------- channels


@pytree
class Silent(Priced):
    """The same without an info."""

    def step(self, key, state, action):
        state, step = Priced.step(self, key, state, action)
        return state, tree.replace(step, info={})


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_without_channels_an_info_is_no_part_of_the_program(name):
    algo = rl.ppo(**ON) if name == "ppo" else rl.dqn(**OFF)
    assert digest(algo, Priced(channels=())) == digest(algo, Silent(channels=()))
    assert digest(algo, Priced(channels=())) != digest(algo, Priced(channels=("cost",)))


def test_channels_are_carried_by_transitions_and_summed_over_each_episode():
    policy = Policy(lambda key, episode: ((), jnp.int32(episode.state > 0), ()))
    episodes = jax.vmap(lambda key: rollout.reset(key, Priced()))(
        jax.random.split(jax.random.key(0), 2)
    )
    _, batch = rollout.rollout(jax.random.key(1), Priced(), policy, episodes, 6)
    assert set(batch.info) == {"cost", "objectives"}
    np.testing.assert_array_equal(batch.info["cost"][:, 0], [1, 4, 6, 1, 4, 6])
    np.testing.assert_array_equal(batch.episode_info["cost"][:, 0], [1, 5, 11, 1, 5, 11])
    metrics = rollout.episode_metrics(Priced(), batch)
    assert float(metrics["cost"]) == 11.0
    np.testing.assert_array_equal(metrics["objectives"], [11.0, -11.0])
    assert float(metrics["return"]) == 3.0


def test_a_training_reports_channels_in_training_and_in_evaluation():
    training = rl.Training(rl.ppo(**ON), Priced(), 48, evals=2, episodes=2, eval_share=1.0)
    _, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["cost"].shape == (2,)
    assert ((metrics["cost"] >= 6.0) & (metrics["cost"] <= 12.0)).all()
    assert ((metrics["evaluation_cost"] >= 6.0) & (metrics["evaluation_cost"] <= 12.0)).all()
    np.testing.assert_allclose(metrics["evaluation"], 3.0)


def test_a_channel_that_no_step_has_or_that_has_no_name_of_its_own_is_explained():
    with pytest.raises(
        ValueError, match=r"Priced\.channels names 'fuel', which is not in the info"
    ):
        rollout.reset(jax.random.key(0), Priced(channels=("fuel",)))
    with pytest.raises(ValueError, match=r"'return', which is a variable of every result"):
        rollout.reset(jax.random.key(0), Priced(channels=("return",)))
    env = WithChannel(Matching(), "loss", lambda action, step: jnp.float32(0.0))
    with pytest.raises(ValueError, match=r"channels names 'loss', which is a metric of OnPolicy"):
        jax.eval_shape(rl.Training(rl.ppo(**ON), env, 16, evals=1), jax.random.key(0))


@pytest.mark.parametrize("size", [1, 2])
def test_channels_of_a_team_are_per_agent_and_means_of_them_in_results(size):
    team = AsTeam(Priced(), size=size)
    training = rl.Training(rl.ppo(**ON), team, 24, evals=1, episodes=2, eval_share=1.0)
    metrics = jax.eval_shape(training, jax.random.key(0))[1]
    assert metrics["evaluation_cost"].shape == metrics["cost"].shape == (1,)
    assert metrics["evaluation_objectives"].shape == metrics["objectives"].shape == (1, 2)


# -------------------------------------------------------------------------------------------- teams


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_one_agent_through_the_team_code_is_the_single_agent_program(name):
    """The digests of the two compiled programs are equal."""
    algo = rl.ppo(**ON) if name == "ppo" else rl.dqn(**OFF)
    assert digest(algo, One(Matching())) == digest(algo, Matching())


def test_a_team_of_one_copy_trains_as_the_environment_itself():
    single = rl.Training(rl.ppo(**ON), Matching(), 64, evals=2, episodes=2, eval_share=1.0)
    team = tree.replace(single, env=AsTeam(Matching()))
    one, other = (jax.jit(training)(jax.random.key(3))[1] for training in (single, team))
    for measure in one:
        np.testing.assert_array_equal(one[measure], other[measure], err_msg=measure)


def test_agents_are_columns_of_the_batch():
    policy = Policy(lambda key, episode: ((), jnp.int32(1), jnp.float32(7.0)))
    start = jax.vmap(lambda key: rollout.reset(key, Sides()))(
        jax.random.split(jax.random.key(0), 3)
    )
    _, batch = rollout.rollout(jax.random.key(1), Sides(), policy, start, 6)
    assert batch.reward.shape == (6, 3 * 2)
    np.testing.assert_array_equal(batch.reward[0], [1, 2, 1, 2, 1, 2])
    np.testing.assert_array_equal(batch.terminated[:, 1], [True] * 6)
    np.testing.assert_array_equal(batch.truncated[:, 0], [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(batch.extras, 7.0)


def test_an_agent_that_terminated_counts_once_at_the_end_of_the_team():
    policy = Policy(lambda key, episode: ((), jnp.int32(0), ()))
    start = jax.vmap(lambda key: rollout.reset(key, Sides()))(
        jax.random.split(jax.random.key(0), 1)
    )
    _, batch = rollout.rollout(jax.random.key(1), Sides(), policy, start, 6)
    np.testing.assert_array_equal(batch.length[:, 1], [0, 0, 3, 0, 0, 3])
    metrics = rollout.episode_metrics(Sides(), batch)
    assert int(metrics["episodes"]) == 2 * 2  # two episodes of two agents
    assert float(metrics["return"]) == 1.5  # agent 0: nothing, agent 1: one a step
    assert float(metrics["length"]) == 3.0


@pytest.mark.parametrize("name", ["ppo", "ppo_gru", "dqn"])
def test_an_agent_that_terminated_early_is_not_learned_from(name):
    """Parameters after three updates do not depend on its observations, which change the actions
    that it draws. The second rollout begins within an episode.
    """
    algo = {
        "ppo": rl.ppo(**ON, lr=0.1, entropy_weight=0.1),
        "ppo_gru": rl.ppo(**ON, lr=0.1, memory=rl.GRU(4)),
        "dqn": rl.dqn(**OFF, lr=0.1),
    }[name]

    @jax.jit
    def learned(env):
        state = algo.init(jax.random.key(0), env)
        for i in range(3):
            state, _ = algo.update(jax.random.key(i), env, state)
        return jax.flatten_util.ravel_pytree(state.params)[0]

    params = learned(Early())
    np.testing.assert_array_equal(learned(Early(ghost=30.0)), params)
    assert (learned(Early(pay=2.0)) != params).any()


def test_the_steps_after_a_termination_have_value_target_zero():
    env, algo = Early(ghost=30.0), rl.ppo(**ON | dict(num_steps=3))

    @jax.jit
    def targets(key):
        state, experience = algo.collect(key, env, algo.init(key, env))
        batch = experience.transitions
        pieces = jax.tree.map(lambda x: x.swapaxes(0, 1), batch)
        rows = bootstrap(pieces, jnp.ones(4), 0.9, n_step=1, burn_in=0, recurrent=True)
        data = algo._prepare(env, state, (), batch)[1]
        return batch, data.targets, rows

    batch, found, rows = targets(jax.random.key(0))
    active = np.asarray(batch.active)
    np.testing.assert_array_equal(active, [[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 1, 0]])
    for x in (found.value_target, found.advantage):
        x = np.reshape(x, active.shape)
        assert x[active].any()
        assert not x[~active].any()
    after = active.T[:, 1:]  # the first row of a recurrent piece is the one before
    np.testing.assert_array_equal(np.asarray(rows.weight), after)
    assert not np.asarray(rows.reward)[~after].any()
    assert not np.asarray(rows.discount)[~after].any()


def test_a_reward_that_is_shared_by_a_team_is_explained():
    @pytree
    class Shared(Sides):
        def step(self, key, state, action):
            state, step = Sides.step(self, key, state, action)
            return state, tree.replace(step, reward=step.reward.sum())

    with pytest.raises(
        ValueError, match=r"team of 2 with rewards of shape \(\): each agent has one"
    ):
        rollout.step(
            jax.random.key(0), Shared(), rollout.reset(jax.random.key(1), Shared()), jnp.zeros(2)
        )


def test_evaluation_is_per_agent():
    policy = Policy(lambda key, episode: ((), jnp.int32(0), ()))
    returns = rl.evaluate(jax.random.key(0), Sides(), policy, 4)
    np.testing.assert_array_equal(returns, [[0.0, 3.0]] * 4)


@pytest.mark.parametrize("memory", [None, rl.GRU(4)], ids=["plain", "gru"])
def test_a_team_trains(memory):
    team = AsTeam(Matching(), size=3)
    training = rl.Training(
        rl.ppo(**ON, memory=memory), team, 64, evals=2, episodes=2, eval_share=1.0
    )
    _, metrics = jax.jit(training)(jax.random.key(0))
    assert metrics["evaluation"].shape == (2,)
    assert not metrics["diverged"].any()


def test_a_rule_that_plays_groups_refuses_a_team():
    with pytest.raises(TypeError, match=r"Group plays rollouts of single agents.*team of 3"):
        rl.rloo(**ON).init(jax.random.key(0), AsTeam(Matching(), size=3))


# ------------------------------------------------------------------------------------ reward models


@pytree
class Constant(RewardModel):
    """Rewards of `value`; its state counts the batches."""

    value: float = 1.0

    def init(self, key, env, width=1):
        return jnp.int32(0)

    def __call__(self, key, carry, batch):
        return carry + 1, jnp.full(batch.reward.shape, self.value), {"batches": carry + 1.0}


@pytree
class Own(RewardModel):
    """The environment's own rewards."""

    def __call__(self, key, carry, batch):
        return carry, batch.reward, {}


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_reward_model_stands_between_collecting_and_learning(name):
    """Learned is the value of the model's rewards, in an environment that terminates at once."""
    algo = rl.PRESETS[name](
        **(ON if name == "ppo" else OFF) | dict(lr=1e-2, schedule=rl.Constant())
    )
    values = []
    for reward in (-2.0, 2.0):
        training = rl.Training(Rewarded(algo, Constant(reward)), Value(), 1600, evals=1, episodes=0)
        state, metrics = jax.jit(training)(jax.random.key(0))
        np.testing.assert_allclose(metrics["model_reward"], reward)
        np.testing.assert_allclose(metrics["return"], 1.0)
        assert int(state.carry) == 1600 // algo.steps_per_update
        values.append(value_of(algo, Value(), state.algo, jnp.zeros(1)))
    assert values[0] < -1.0
    assert values[1] > 1.0


def test_rewards_off_policy_are_recomputed_when_sampled():
    """Where the model's rewards are learnt from, it does not matter which rewards were stored."""
    algo, env = rl.dqn(**OFF), Matching()
    state = algo.init(jax.random.key(0), env, 100)
    update = jax.jit(lambda key, state: algo.update(key, env, state)[0])
    for i in range(4):
        state = update(jax.random.key(i), state)
    state, experience = algo.collect(jax.random.key(9), env, state)
    data = state.replay.data
    other = tree.replace(
        state, replay=tree.replace(state.replay, data=tree.replace(data, reward=5.0 + data.reward))
    )

    def learnt(state, factor):
        relabel = None if factor is None else lambda key, batch: jnp.full_like(batch.reward, factor)
        learn = jax.jit(
            lambda state: algo.learn(jax.random.key(5), env, state, experience, relabel)
        )
        return jax.flatten_util.ravel_pytree(learn(state)[0].params)[0]

    assert (learnt(state, None) != learnt(other, None)).any()
    np.testing.assert_array_equal(learnt(state, 1.0), learnt(other, 1.0))
    assert (learnt(state, 1.0) != learnt(state, 2.0)).any()


def test_what_can_take_no_reward_model_says_so():
    with pytest.raises(TypeError, match="does not learn apart from collecting"):
        Rewarded(rl.stream_q(), Own())
    with pytest.raises(TypeError, match="Group drops the rewards"):
        Rewarded(rl.remax(), Own())
    with pytest.raises(TypeError, match="SQIRL stores returns"):
        Rewarded(rl.sqirl(), Own()).update(
            jax.random.key(0),
            Choice(),
            Rewarded(rl.sqirl(), Own()).init(jax.random.key(1), Choice()),
        )
    with pytest.raises(TypeError, match=r"Rewarded\.model takes an instance of RewardModel"):
        Rewarded(rl.ppo(), lambda key, carry, batch: batch.reward)


# -------------------------------------------------------------------------------------------- views


def test_a_critic_may_see_more_than_its_actor():
    obs = {"obs": jnp.ones(2), "state": jnp.arange(3.0)}
    network = Views(rl.MLP((4,)), reads={"value": "state"})({"logits": 2, "value": 1})
    params = network.init(jax.random.key(0), obs)
    out = lambda obs: network.apply(params, obs)
    moved = out(obs | {"state": -obs["state"]})
    np.testing.assert_array_equal(out(obs)["logits"], moved["logits"])
    assert out(obs)["value"] != moved["value"]
    with pytest.raises(ValueError, match=r"Views reads the part 'state' of the observation"):
        network.apply(params, {"obs": jnp.ones(2)})
    with pytest.raises(ValueError, match="names 'valeu', which is not a head of this network"):
        Views(reads={"valeu": "state"})({"logits": 2, "value": 1})
    with pytest.raises(ValueError, match="batch_norm=True is for actor-critics"):
        rl.ppo(network=Views(rl.MLP((4,), batch_norm=True))).init(jax.random.key(0), Matching())
    with pytest.raises(ValueError, match="A memory has one input for all heads"):
        rl.ppo(network=Views(), memory=rl.GRU(4)).init(jax.random.key(0), Matching())


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_the_critics_of_an_actor_critic_read_the_view_of_their_head(name):
    learner = rl.PRESETS[name](network=Views(rl.MLP((4,)), reads={"q": "state"})).learner
    space = rl.Box(-1.0, 1.0, (1,))
    obs = {"obs": jnp.ones(3), "state": jnp.ones(5)}
    params = jax.eval_shape(lambda key: learner.init(key, space, obs), jax.random.key(0)).params
    inputs = lambda part: {x.shape[-2] for x in jax.tree.leaves(params[part]) if x.ndim >= 2}
    assert 3 in inputs("actor")
    assert 5 not in inputs("actor")
    assert 5 in inputs("critic")
    assert 3 not in inputs("critic")
    with pytest.raises(ValueError, match="names 'p', which is not a head"):
        rl.sac(network=Views(reads={"p": "state"})).learner.init(jax.random.key(0), space, obs)
