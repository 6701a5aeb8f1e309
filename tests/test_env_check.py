"""`rl.check_env`: each slip of an environment is one sentence, before anything compiles."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl as rl
from jaxrl import tree
from jaxrl.env_check import check_contract
from jaxrl.tree import pytree, static


@pytree
class Sound(rl.Env):
    """An environment that keeps the contract; each test below breaks one part of it."""

    goal: float = 1.0
    size: int = static(default=2)
    max_steps = 5
    action_space = rl.Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(2)

    def step(self, key, state, action):
        return state + 1, self.result(action)

    def result(self, action):
        return rl.Step(jnp.zeros(2), self.goal * action, jnp.bool_(False), {})


@pytree
class Team(Sound):
    num_agents = 3

    def reset(self, key):
        return jnp.int32(0), jnp.zeros((3, 2))

    def result(self, action):
        return rl.Step(jnp.zeros((3, 2)), self.goal * action, jnp.bool_(False), {})


def broken(base=Sound, **parts):
    """A subclass with some attributes or methods replaced, as an environment."""
    return pytree(type("Broken", (base,), parts))()


def ends(**fields):
    """A `result` with some fields of the step replaced, by functions of the action."""

    def result(self, action):
        step = Sound.result(self, action)
        return tree.replace(step, **{name: made(action) for name, made in fields.items()})

    return result


def apart(observations):
    """A team with one observation for each agent in place of an array of all."""
    return broken(Team, reset=lambda self, key: (jnp.int32(0), observations))


SLIPS = {
    "max_steps 0": (broken(max_steps=0), "max_steps=0 .* write max_steps=1"),
    "max_steps float": (broken(max_steps=1.5), r"max_steps=1\.5 of Broken is not a positive whole"),
    "max_steps array": (broken(max_steps=np.array(3)), "static"),
    "no max_steps": (
        pytree(type("Broken", (rl.Env,), {}))(),
        "Broken has no max_steps.*: max_steps: int",
    ),
    "no space": (
        pytree(type("Broken", (rl.Env,), {"max_steps": 3}))(),
        r"Broken has no action_space: write rl\.Discrete",
    ),
    "num_agents": (broken(num_agents=0), "num_agents=0"),
    "channels": (broken(channels="cost"), r"write channels = \('cost',\)"),
    "space": (broken(action_space=2), r"action_space is int.*rl\.Discrete\(n\)"),
    "space class": (broken(action_space=rl.Discrete), r"rl\.Discrete\(n\)"),
    "reset": (broken(reset=lambda self, key: jnp.zeros(2)), "reset returned a .*return state, obs"),
    "reset text": (broken(reset=lambda self, key: ("a", jnp.zeros(2))), "state that .* type str"),
    "swapped": (
        broken(
            reset=lambda self, key: (jnp.zeros(2), {"time": 0}),
            step=lambda self, key, state, action: (
                {"time": state["time"] + 1},
                self.result(action),
            ),
        ),
        r"returns \(obs, state\)",
    ),
    "step of gymnax": (
        broken(step=lambda self, key, state, action: (jnp.zeros(2), state, 0.0, False, {})),
        r"step returned a tuple of 5.*rl\.Step\(obs, reward, terminated, info\)",
    ),
    "step first": (
        broken(step=lambda self, key, state, action: (self.result(action), state)),
        r"returned \(Step, state\)",
    ),
    "state to float": (
        broken(step=lambda self, key, state, action: (state * 0.5, self.result(action))),
        "state is int32 after a reset and float32 after a step",
    ),
    "state's shape": (
        broken(step=lambda self, key, state, action: (jnp.zeros(3, int), self.result(action))),
        r"state has the shape \[\] after a reset and \[3\]",
    ),
    "obs' structure": (broken(result=ends(obs=lambda a: {"x": a})), "observation is PyTreeDef"),
    "obs' type": (
        broken(result=ends(obs=lambda a: jnp.zeros(2, int))),
        "observation is float32 after a reset and int32",
    ),
    "reward [1]": (
        broken(result=ends(reward=lambda a: a[None])),
        r"reward of Broken's step has the shape \[1\].*reward\.squeeze\(\)",
    ),
    "reward none": (broken(result=ends(reward=lambda a: None)), "reward of .* NoneType"),
    "terminated": (
        broken(result=ends(terminated=lambda a: 1.0)),
        "`terminated` of Broken's step is float32 in place of bool",
    ),
    "terminated [1]": (
        broken(result=ends(terminated=lambda a: jnp.zeros(1, bool))),
        r"`terminated` of Broken's step has the shape \[1\]",
    ),
    "info": (broken(result=ends(info=lambda a: ())), "info of Broken's step is a tuple"),
    "channel missing": (broken(channels=("cost",)), "channels names 'cost', which is not in"),
    "channel [2, 2]": (
        broken(channels=("cost",), result=ends(info=lambda a: {"cost": jnp.zeros((2, 2))})),
        r"channel 'cost' of Broken has the shape \[2, 2\]",
    ),
    "mask": (
        broken(
            reset=lambda self, key: (jnp.int32(0), rl.Masked(jnp.zeros(2), jnp.ones(3, bool))),
        ),
        r"mask is bool \[3\], and its actions need bool \[2\]",
    ),
    "mask of a box": (
        broken(
            action_space=rl.Box(),
            reset=lambda self, key: (jnp.int32(0), rl.Masked(jnp.zeros(2), jnp.ones(2, bool))),
        ),
        "actions are a Box",
    ),
    "team's obs": (
        broken(Team, reset=lambda self, key: (jnp.int32(0), jnp.zeros(2))),
        r"team of 3, and its observation has the shape \[2\]",
    ),
    "team's reward": (
        broken(Team, result=lambda self, action: rl.Step(jnp.zeros((3, 2)), 1.0, False, {})),
        r"one number for each agent, \[3\]",
    ),
    "team's different obs": (
        apart([jnp.zeros(2), jnp.zeros(2), jnp.zeros((4, 4))]),
        r"agent 0: \[2\], agent 1: \[2\], agent 2: \[4, 4\].*teams\.pad\(observations, roles\)",
    ),
    "team's named obs": (
        apart({"a": jnp.zeros(2), "b": jnp.zeros(2), "c": {"x": jnp.zeros(5)}}),
        r"shapes a: \[2\], b: \[2\], c: \{'x': \[5\]\}.*teams\.pad\(observations, roles\)",
    ),
    "team's separate obs": (
        apart([jnp.zeros(2)] * 3),
        r"one part for each agent.*\[3, \.\.\.\], such as jnp\.stack",
    ),
    "team's numbers of actions": (
        broken(Team, action_space=(rl.Discrete(2), rl.Discrete(2), rl.Discrete(5))),
        r"agent 2: Discrete\(n=5\).*write the largest.*teams\.pad_masks",
    ),
    "team's boxes": (
        broken(Team, action_space={"a": rl.Box(), "b": rl.Box(-1.0, 1.0, (3,))}),
        "b: Box.*room for the actions of each agent",
    ),
    "team's spaces": (
        broken(Team, action_space=[rl.Discrete(2)] * 3),
        "one space for each agent.*write action_space = that of one agent",
    ),
    "team's rewards": (
        broken(
            Team, result=lambda self, action: rl.Step(jnp.zeros((3, 2)), [1.0] * 3, np.True_, {})
        ),
        r"reward of Broken's step is a list.*one array \[3\]",
    ),
    "team's roles": (broken(Team, roles=(0, 1)), r"roles=\(0, 1\) of Broken.*roles=\(0, 1, 2\)"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_sentence_before_a_training(slip):
    env, words = SLIPS[slip]
    for check in (rl.check_env, lambda env: rl.Training(rl.ppo(), env, 8192)(0)):
        with pytest.raises((TypeError, ValueError), match=words) as caught:
            check(env)
        assert "\n" not in str(caught.value)


def test_what_keeps_the_contract_passes():
    for env in (Sound(), Team(), envs.make("Catch"), envs.make("Pendulum-v1")):
        check_contract(env)
        check_contract(jax.tree.map(jnp.asarray, env))
    for name in envs.distributions():
        check_contract(envs.distribution(name))
    # plain numbers take the type of what they meet
    plain = broken(result=lambda self, action: rl.Step(jnp.zeros(2), 0, False, {"x": 1}))
    check_contract(plain)


def test_a_class_without_the_decorator_is_named():
    undecorated = type("Undecorated", (rl.Env,), {"max_steps": 3, "action_space": rl.Discrete(2)})
    with pytest.raises(TypeError, match=r"Undecorated is not a pytree: write @rl\.pytree"):
        rl.check_env(undecorated())


@pytree
class Goals(rl.Tasks):
    team: bool = static(default=False)

    def sample(self, key):
        env = Team() if self.team else Sound()
        return tree.replace(env, goal=jax.random.uniform(key))


def test_distributions_are_checked_by_a_sample():
    check_contract(Goals())
    with pytest.raises(ValueError, match=r"Goals\.num_agents is None, and that of its samples 3"):
        check_contract(Goals(team=True))
    no_env = pytree(type("NoEnv", (rl.Tasks,), {"sample": lambda self, key: key}))()
    with pytest.raises(TypeError, match=r"NoEnv\.sample returned \w+, which is not an Env"):
        check_contract(no_env)


def counter():
    counter.calls += 1.0
    return counter.calls


counter.calls = 0.0
VALUES = {
    "another episode": (broken(result=ends(reward=lambda a: a + counter())), "with the same key"),
    "NaN": (broken(result=ends(reward=lambda a: a * jnp.nan)), "reward of Broken holds NaN"),
    "no action": (
        broken(
            reset=lambda self, key: (jnp.int32(0), rl.Masked(jnp.zeros(2), jnp.zeros(2, bool))),
            result=ends(obs=lambda a: rl.Masked(jnp.zeros(2), jnp.zeros(2, bool))),
        ),
        "allows no action",
    ),
    "different rewards": (
        broken(Team, shared_reward=True),
        r"shared_reward = True, and its agents received \[.*SharedReward\(env\)",
    ),
}


@pytest.mark.parametrize("slip", VALUES)
def test_the_public_check_plays(slip):
    env, words = VALUES[slip]
    check_contract(env)
    with pytest.raises(ValueError, match=words):
        rl.check_env(env, num_steps=2)


def test_the_public_check_of_what_is_sound():
    equal = lambda self, action: rl.Step(jnp.zeros((3, 2)), jnp.ones(3), jnp.bool_(False), {})
    for env in (Team(), Goals(), broken(Team, shared_reward=True, result=equal)):
        rl.check_env(env, num_steps=2)
    with pytest.raises(ValueError, match="num_steps=0"):
        rl.check_env(Sound(), num_steps=0)


def test_parts_in_the_wrong_order_are_refused():
    with pytest.raises(TypeError, match=r"comes first.*rl\.Training\(algo, env"):
        rl.Training(Sound(), rl.ppo(), 1000)
    with pytest.raises(TypeError, match=r"envs\.make\('Catch'\)"):
        rl.Training(rl.ppo(), "Catch", 1000)
    with pytest.raises(ValueError, match="max_steps=0"):
        rl.Training(rl.ppo(), broken(max_steps=0), 1000)


# ------------------------------------------------------------------------------ families and fields


def test_a_family_has_intervals_for_leaves():
    cartpole = envs.make("CartPole-v1")
    family = envs.Family(cartpole, length=(0.25, 2.0), gravity=(9.0, 10.0))
    sampled = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 100)).params
    for x, (low, high) in ((sampled.length, (0.25, 2.0)), (sampled.gravity, (9.0, 10.0))):
        assert low <= x.min() <= x.max() <= high
        assert x.std() > (high - low) / 5
    assert abs(np.corrcoef(sampled.length, sampled.gravity)[0, 1]) < 0.5
    assert (sampled.masscart == cartpole.params.masscart).all()
    assert jax.tree.map(lambda x: x, family) == family
    assert family.score(cartpole, 3.0) == 3.0
    check_contract(family)
    with pytest.raises(TypeError, match=r"envs\.Family\(env, gravity=\(low, high\)\)"):
        rl.Training(rl.Evolution(), cartpole, 10).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ({}, "varies nothing"),
        ({"goal": (2.0, 1.0)}, "is an empty or infinite interval"),
        ({"goal": 3.0}, r"write goal=\(low, high\)"),
        ({"gaol": (0.0, 1.0)}, "nearest are goal"),
        ({"size": (1, 5)}, "'size' is static"),
    ],
)
def test_intervals_that_can_not_be_are_refused(intervals, words):
    with pytest.raises((TypeError, ValueError), match=words):
        envs.Family(Sound(), **intervals)


def test_a_field_that_flax_keeps_out_of_the_leaves_is_static():
    @flax.struct.dataclass
    class Params:
        force: float = 1.0
        width: float = flax.struct.field(pytree_node=False, default=2.0)

    @pytree
    class Game(Sound):
        params: Params = Params()

    training = rl.Training(rl.ppo(), Game(), 1024)
    assert tree.is_static(tree.paths(training)["env.params.width"])
    with pytest.raises(TypeError, match="'width' is static in Training"):
        rl.sweep(training, {"seed": [0], "width": [1.0, 2.0]}, progress=False)


def test_the_checks_add_nothing_to_a_program():
    """The first trace, in which an environment is checked, is that of a later one."""
    env = Sound(size=3)  # a structure of its own, which has not passed yet

    def trace():
        algo = rl.ppo(network=rl.MLP((2,)), num_envs=2, num_steps=2, minibatches=1, epochs=1)
        return str(jax.make_jaxpr(lambda key: algo.init(key, env))(jax.random.key(0)).jaxpr)

    assert trace() == trace()
