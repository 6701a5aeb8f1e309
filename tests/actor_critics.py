"""Learners, batches and a memory for the tests of actor-critics."""

import jax
import jax.numpy as jnp
from members import GAMMA, LESSONS, lecun, start_at

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms.actors import Softmax
from jaxrl.algorithms.learner import Batch
from jaxrl.clock import Clock

CLOCK = Clock(0, 10.0)


def env_of(algo, env=LESSONS["aim"]):
    return (
        tree.replace(env, action_space=rl.Discrete(2))
        if isinstance(algo.learner.actor, Softmax)
        else env
    )


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
