"""Off-policy actor-critics: each learns every lesson in one program, is its paper's equation, and some are others."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Aim, Choice, Discounted, Matching, Seen, TimedOut, Value

import jaxrl as rl
from jaxrl import tree
from jaxrl.algorithms import critics
from jaxrl.algorithms.actors import Softmax
from jaxrl.algorithms.learner import Batch
from jaxrl.env import Step
from jaxrl.rules.base import Clock

GAMMA = 0.9


def lecun(scale):
    """An initialiser that compiles faster than the default."""
    return lambda key, shape, dtype=jnp.float32: scale * jax.random.normal(key, shape, dtype) * shape[0] ** -0.5


NET = rl.MLP((16,), activation=jax.nn.relu, shared=True, init=lecun)
SMALL = dict(
    network=NET, gamma=GAMMA, lr=1e-2, target_rate=0.05, num_envs=8, batch_size=32, capacity=1024, warmup=160, burn_in=1,
    sequence=4,
)  # fmt: skip
SOFT = dict(temperature=0.01, temperature_lr=0.0)  # so little that a value is a return
ALGORITHMS = {
    "ddpg": lambda **kw: rl.ddpg(**SMALL | kw),
    "td3": lambda **kw: rl.td3(**SMALL | kw),
    "sac": lambda **kw: rl.sac(**SMALL | SOFT | kw),
    "sac_discrete": lambda **kw: rl.sac_discrete(**SMALL | SOFT | kw),
    "sac_gru": lambda **kw: rl.sac(**SMALL | SOFT | {"memory": rl.GRU(8), "batch_size": 8} | kw),
    "redq": lambda **kw: rl.redq(**SMALL | SOFT | {"num_critics": 3, "updates": 2} | kw),
    "dsac_t": lambda **kw: rl.dsac_t(**SMALL | SOFT | {"epsilon": 0.01} | kw),
    "mdpo_off_policy": lambda **kw: rl.mdpo_off_policy(**SMALL | SOFT | {"actor_target_period": 10.0} | kw),
}
every = pytest.mark.parametrize("name", ALGORITHMS)


@rl.pytree
class Lessons:
    """Probes side by side, of which one counts: so that one program learns each of them."""

    probes: Any
    which: Any = 0
    max_steps: int = rl.static(default=4)

    @property
    def action_space(self):
        return self.probes[0].action_space

    def reset(self, key):
        states, obs = zip(*[p.reset(k) for p, k in zip(self.probes, self._keys(key), strict=True)], strict=True)
        return states, self._choose(obs)

    def step(self, key, state, action):
        now = zip(self.probes, self._keys(key), state, strict=True)
        states, steps = zip(*[p.step(k, s, action) for p, k, s in now], strict=True)
        return states, Step(
            *(self._choose([getattr(s, part) for s in steps]) for part in ("obs", "reward", "terminated")), {}
        )

    def _keys(self, key):
        return jax.random.split(key, len(self.probes))

    def _choose(self, options):
        return jnp.stack(options)[self.which]


VALUES = Value(), Seen(), Discounted(), TimedOut()


def env_of(algo):
    return Lessons((Matching(), Choice(), *VALUES) if isinstance(algo.learner.actor, Softmax) else (Aim(), *VALUES))


def pick(tree_, i):
    return jax.tree.map(lambda x: x[i], tree_)


@functools.cache
def lives(name):
    """One program for every lesson, then for the first at ten times and a tenth of lr, every float of the learner traced."""
    algo = ALGORITHMS[name]()
    env = env_of(algo)
    which = [*range(len(env.probes)), 0, 0]
    rates = [1e-2] * len(env.probes) + [1e-1, 1e-3]
    learners = [tree.replace(algo.learner, lr=lr) for lr in rates]
    learners = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *learners)

    def live(learner, which, key):
        world = tree.replace(env, which=which)
        return rl.train(key, tree.replace(algo, learner=learner), world, steps=8 * 1000, evals=2, episodes=0)

    chex.clear_trace_counter()
    run = jax.jit(jax.vmap(chex.assert_max_traces(live, n=1)))
    return algo, env, *run(learners, jnp.array(which), jax.random.split(jax.random.key(0), len(which)))


def action_of(algo, env, params, obs):
    return algo.learner.act(jax.random.key(0), env, params, algo.start(env), jnp.full(1, obs, jnp.float32))[1]


def rows(algo, env, obs, seed=0):
    """A batch that holds `obs` [N, T, 1] and, for the rest, noise."""
    keys = jax.random.split(jax.random.key(seed), 5)
    shape = obs.shape[:2]
    action = jax.vmap(jax.vmap(env.action_space.sample))(jax.random.split(keys[0], shape))
    normal = lambda key, shape: jax.random.normal(key, shape)
    memory, past = (), ()
    if algo.recurrent:
        memory = jax.tree.map(lambda x: normal(keys[1], (shape[0], *x.shape)), algo.start(env))
        past = normal(keys[2], (shape[0], 2, 1)), jnp.zeros((shape[0], 2), bool)
    reward, discount = normal(keys[3], shape), jnp.full(shape, GAMMA).at[0].set(0.0)
    ahead = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    off, weight = jnp.zeros(shape, bool), jnp.linspace(0.5, 1.0, shape[0])[:, None] * jnp.ones(shape)
    next_obs = normal(keys[4], (*shape, 1))
    return Batch(obs, action, reward, discount, next_obs, ahead, weight, off, off, past, memory, ())


def value_of(algo, env, params, obs):
    """What the critics' mean says of the policy's action."""
    learner, batch = algo.learner, rows(algo, env, jnp.full((1, 1, 1), obs, jnp.float32))
    if algo.recurrent:
        batch = tree.replace(batch, past=jax.tree.map(lambda x: x[:, :0], batch.past))
    out = jax.tree.map(lambda x: x[None, None], learner._look(env, params, algo.start(env), batch.obs[0, 0])[1])
    proposal = learner.actor.propose(jax.random.key(0), out)
    value = critics.look(learner._critic(env), params["critic"], batch, proposal.action)["q"]
    return float(proposal.mean(value.mean(0))[0, 0])


# -------------------------------------------------------------------------------------------------------------- it learns


@every
def test_every_lesson_is_learnt(name):
    algo, env, state, _ = lives(name)
    lesson = {type(probe).__name__: pick(state.params, i) for i, probe in enumerate(env.probes)}
    if "Aim" in lesson:
        for obs in (-1, 1):
            assert float(action_of(algo, env, lesson["Aim"], obs)[0]) == pytest.approx(0.5 * obs, abs=0.12)
    else:
        assert [int(action_of(algo, env, lesson["Matching"], obs)) for obs in (-1, 1)] == [0, 1]
        assert action_of(algo, env, lesson["Choice"], 0) == 1
    known = [("Value", 0, 1.0), ("Seen", 1, 1.0), ("Seen", -1, -1.0), ("Discounted", 0, GAMMA), ("TimedOut", 0, 10.0)]
    for probe, obs, value in known:
        assert value_of(algo, env, lesson[probe], obs) == pytest.approx(value, rel=0.12), (probe, obs)


@every
def test_ten_times_and_a_tenth_of_the_learning_rate_stay_finite(name):
    _, _, _, metrics = lives(name)
    assert not metrics["diverged"].any()
    assert jnp.isfinite(metrics["loss"]).all()
    assert len({float(x) for x in metrics["loss"][-2:, -1]}) == 2


# ------------------------------------------------------------------------------------------- what every algorithm promises


@every
def test_vmap_is_a_loop_and_a_state_is_a_checkpoint(name):
    algo = ALGORITHMS[name]()
    env = env_of(algo)
    learnt = algo.learner.init(jax.random.key(0), env, jnp.zeros(1))
    batch = rows(algo, env, jax.random.normal(jax.random.key(1), (4, 4 if algo.recurrent else 1, 1)))
    keys = lambda: jax.random.split(jax.random.key(2), 2)

    def learn(lr, key, learnt):
        learner = tree.replace(algo.learner, lr=lr, policy_period=1.0)
        return learner.learn(key, env, learnt, batch, Clock(0, 10.0))

    rates = jnp.array([1e-2, 1e-3])
    many = jax.jit(jax.vmap(learn, in_axes=(0, 0, None)))
    together = many(rates, keys(), learnt)
    for i in range(2):
        chex.assert_trees_all_close(pick(together, i), learn(rates[i], keys()[i], learnt), rtol=2e-3, atol=2e-5)
    chex.assert_trees_all_equal(many(rates, keys(), loaded(learnt)), together)


def loaded(state):
    """As a checkpoint brings it back."""
    return jax.tree.map(lambda x: jnp.asarray(np.array(x)), state)
