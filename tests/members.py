"""Every algorithm, at a size at which it learns a lesson in seconds; and the lessons of `probes.py`
as one family.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

import envs
import jaxrl as rl
from jaxrl import noise
from jaxrl.algorithms import critics
from jaxrl.algorithms.learner import Batch
from jaxrl.algorithms.policy_learner import PolicyLearner
from jaxrl.clock import Clock
from jaxrl.env import Env, Step
from jaxrl.rollout import Episode

# These programs are small and run once: to compile them well takes twice as long as to compile and
# run them.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

GAMMA = 0.7


@rl.pytree
class Lesson(Env):
    """A family of environments in which the leaves select the lesson, so that one program has all.

    The observation is a random sign times `sign`, and the time times `clock`. The reward is
    `always`; the sign times `seen`; times `aim`, nearness to half the sign (or, of two actions, the
    one that it names); times `best`, nearness to half (or the second of two actions); and `late` at
    the second step. With two actions the observation has a mask: where `forbid` is 1, only the
    action that the sign names is allowed.
    """

    sign: float = 0.0
    clock: float = 0.0
    always: float = 0.0
    seen: float = 0.0
    aim: float = 0.0
    best: float = 0.0
    late: float = 0.0
    forbid: float = 0.0
    length: float = 1.0
    action_space: Any = rl.Box(-1.0, 1.0, (1,))
    max_steps: int = rl.static(default=4)

    def reset(self, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        return (sign, jnp.float32(0.0)), self._obs(sign, 0.0)

    def step(self, key, state, action):
        sign, time = state
        reward = (
            self.always
            + self.seen * sign
            + self.aim * self._nearness(action, sign)
            + self.best * self._nearness(action, 1.0)
            + self.late * (time == 1.0)
        )
        obs = self._obs(sign, time + 1.0)
        return (sign, time + 1.0), Step(obs, reward, time + 1.0 >= self.length, {})

    def _nearness(self, action, sign):
        if isinstance(self.action_space, rl.Box):
            return -((action[0] - 0.5 * sign) ** 2)
        return sign * (2.0 * action - 1.0)

    def _obs(self, sign, time):
        obs = jnp.float32(self.sign * sign + self.clock * time)[None]
        named = jnp.arange(2.0) == (sign + 1.0) / 2.0
        return self.observe(obs, named | (self.forbid == 0.0))

    def observe(self, obs, allowed=None):
        """An observation [1] as the policy gets it; all actions are allowed unless given [2]."""
        if isinstance(self.action_space, rl.Box):
            return obs
        return rl.Masked(obs, jnp.ones(2, bool) if allowed is None else allowed)


LESSONS = {
    "value": Lesson(always=1.0),
    "seen": Lesson(sign=1.0, seen=1.0),
    "discounted": Lesson(clock=1.0, late=1.0, length=2.0),
    "timed_out": Lesson(always=1.0, length=float("inf")),
    "choice": Lesson(best=1.0),
    "aim": Lesson(sign=1.0, aim=1.0),
    "masked": Lesson(aim=1.0, forbid=1.0),
}
VALUES = [  # (lesson, observation, its value)
    ("value", 0, 1.0),
    ("seen", -1, -1.0),
    ("seen", 1, 1.0),
    ("discounted", 0, GAMMA),
    ("timed_out", 0, 1.0 / (1.0 - GAMMA)),
]
ACTIONS = [
    ("choice", 0, 1),
    ("aim", -1, -1),
    ("aim", 1, 1),
]  # (lesson, observation, the sign of the best action)

# -------------------------------------------------------------------------------------- the members


def lecun(scale):
    """An initialiser that compiles faster than the default."""
    return lambda key, shape, dtype=jnp.float32: (
        scale * jax.random.normal(key, shape, dtype) * shape[0] ** -0.5
    )


ROLLOUT = dict(
    network=rl.MLP((16,), init=lecun),
    gamma=GAMMA,
    lr=1e-2,
    schedule=rl.Constant(),
    num_envs=16,
    num_steps=8,
)
ON = ROLLOUT | dict(entropy_weight=0.0)
MANY = ON | dict(lr=3e-3)  # many gradient steps a rollout
# of a controller, which multiplies the weight of the entropy, and values in units of rewards
FACTORS = dict(entropy_weight=1e-6, normalize_obs=False, normalize_reward=False)
GROUP = ROLLOUT | dict(num_envs=64, num_steps=4)
OFF = dict(
    network=rl.MLP((16,)), gamma=GAMMA, lr=1e-2, num_envs=8, batch_size=32, capacity=512, warmup=64
)
VALUE = OFF | dict(target_period=10.0)
RELU = rl.MLP((16,), activation=jax.nn.relu, shared=True, init=lecun)
NORMED = rl.MLP((16,), activation=jax.nn.relu, shared=True, init=lecun, batch_norm=True)
OWN_NORM = rl.MLP((16,), activation=jax.nn.relu, shared=True, layer_norm=True)
ACTOR = OFF | dict(network=RELU, capacity=1024, warmup=160)
SLOW = ACTOR | dict(tau=0.1)
COLD = dict(temperature=0.01, temperature_lr=0.0)  # so little that a value is a return
SOFT, CROSSED = SLOW | COLD, ACTOR | COLD | dict(network=NORMED, critic_network=NORMED)
STREAM = dict(gamma=GAMMA, normalize_obs=False, normalize_reward=False, num_steps=8)

MEMBERS: dict[
    str, tuple[int, dict[str, Any]]
] = {  # updates of its training run, and changes to its fields
    "a2c": (400, ON),
    "c51": (400, VALUE | dict(v_min=-2.0, v_max=6.0, atoms=33)),
    "crossq": (1200, CROSSED),
    "ddpg": (1200, SLOW),
    "dpo": (150, MANY),
    "dqn": (400, VALUE),
    "dsac_t": (1200, SOFT | dict(epsilon=0.01, tau=0.05)),
    "grpo": (300, GROUP | dict(lr=3e-3)),
    "impala": (150, ON),
    "iqn": (400, VALUE),
    "mdpo": (150, MANY),
    "mdpo_off_policy": (1200, SOFT | dict(actor_target_period=10.0)),
    "munchausen_dqn": (400, VALUE),
    "ppo": (150, MANY),
    "ppo_penalty": (150, MANY),
    "ppo_scheduled": (150, MANY | FACTORS),
    "pqn": (150, ROLLOUT | dict(network=OWN_NORM, minibatches=4)),
    "qr_dqn": (400, VALUE | dict(quantiles=11)),
    "r2d2": (400, VALUE | dict(memory=rl.GRU(8), burn_in=2, sequence=4, n_step=2, batch_size=8)),
    "rainbow": (400, VALUE | dict(v_min=-2.0, v_max=6.0, atoms=33)),
    "redq": (1200, SOFT | dict(num_critics=3, updates=2, policy_delay=2.0)),
    "reinforce": (400, ON),
    "remax": (300, GROUP),
    "rloo": (300, GROUP),
    "sac": (1200, SOFT),
    "sac_discrete": (1200, SOFT),
    "spo": (150, MANY),
    "sqirl": (100, OFF | dict(num_steps=8, updates=8)),
    "stream_ac": (4000, STREAM),
    "stream_q": (500, STREAM),
    "stream_sarsa": (500, STREAM),
    "td3": (1200, SLOW),
    "trpo": (150, ON),
}


def make(name, **floats):
    """A member, with some of its fields changed."""
    return rl.PRESETS[name](**MEMBERS[name][1] | floats)


def floats_of(name):
    """Every float of a member by its keyword, and its value."""
    member = dataclasses.replace(rl.PRESETS[name], value=make(name))
    return {key: value for key, value in member.fields().items() if isinstance(value, float)}


def start_at(obs, rnn_state):
    """An episode as a policy reads it."""
    return Episode(None, obs, rnn_state, jnp.int32(0), jnp.float32(0.0), {})


def value_of(algo, env, state, obs):
    """The value of an observation in a state; NaN where no values are learned. []."""
    if isinstance(algo, rl.Stream):
        out = algo._forward(env, state.params, state.obs_stats, obs, Clock(1, 1.0))
    elif isinstance(algo, rl.OnPolicy):
        out = algo.forward(env, state, algo._network(env).start(), obs)[1]
    elif isinstance(algo.learner, PolicyLearner):
        return _worth(algo.learner, env.action_space, state.params, obs)
    elif isinstance(algo.learner, rl.SQIRL):
        return algo.learner.policy(env.action_space, state.params, start_at(obs, ())).values.max()
    else:
        learner, space = algo.learner, env.action_space
        episode = start_at(obs, learner.initial_rnn_state(space))
        policy = learner.policy(space, noise.mean(state.params), episode)[1]
        return learner.transform.inverse(policy.values).max()
    return (
        jnp.max(out["q"])
        if "q" in out
        else jnp.squeeze(out["value"])
        if "value" in out
        else jnp.nan
    )


def batch_of_one(obs):
    """A batch of one row, of which only the observation is read."""
    rows = jax.tree.map(lambda x: x[None, None], obs)
    false, zero = jnp.zeros((1, 1), bool), jnp.zeros((1, 1))
    return Batch(
        obs=rows,
        action=zero,
        reward=zero,
        discount=zero,
        next_obs=rows,
        bootstrap_index=zero.astype(int),
        weight=zero,
        is_first=false,
        done=false,
        burn_in=(),
        rnn_state=(),
        extras=(),
    )


def _worth(learner, space, params, obs):
    """The critics' mean value of what the actor proposes."""
    out = learner.forward(space, params, start_at(obs, ()))[1]
    proposal = learner.actor.propose(jax.random.key(0), jax.tree.map(lambda x: x[None, None], out))
    value = critics.q_values(
        learner._critic(space), params["critic"], batch_of_one(obs), proposal.action
    )["q"]
    return jnp.squeeze(proposal.mean(value.mean(0)))


# one training for all tests in which learning is not the point, so that they share its programs
TINY = rl.Training(
    rl.ppo(network=rl.MLP((4,)), num_envs=2, num_steps=4, epochs=1, minibatches=1),
    envs.make("Catch", rows=3, columns=3),
    steps=32,
    evals=2,
    episodes=0,
)
