"""Q-learning from a replay: every head with every option, errors, recurrence, and SQIRL."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import pytest
from members import quick, start_at
from probes import Aim, Choice

import envs
import jaxrl as rl
from jaxrl import noise
from jaxrl.algorithms.backups import Max, Munchausen, SignedRoot
from jaxrl.algorithms.learner import Batch
from jaxrl.algorithms.value_heads import Categorical, Expected, Implicit, Quantile
from jaxrl.capabilities import Probe
from jaxrl.clock import Clock

# ------------------------------------------------------------------------- every head, every option

HEADS = [
    Expected(),
    Categorical(-2.0, 2.0, atoms=5),
    Quantile(quantiles=3),
    Implicit(size=4, cosines=3, samples=2, fractions=3),
]
TINY = dict(
    num_envs=2, batch_size=4, capacity=64, warmup=32, burn_in=1, sequence=3, network=rl.MLP((4,))
)


def options():
    """Each head with each backup, and every other option on and off with both."""
    switches = [
        (False, True, False, True, True),
        (True, False, True, False, True),
        (True, True, True, True, False),
    ]
    pairs = itertools.product(HEADS, (Max(), Munchausen()))
    return [
        (head, backup, switches[(i + j) % 3])
        for i, (head, backup) in enumerate(pairs)
        for j in range(2)
    ]


@pytest.mark.parametrize(("head", "backup", "switches"), options())
def test_every_head_combines_with_every_option(head, backup, switches):
    dueling, noisy, prioritized, recurrent, several = switches
    memory = rl.GRU(3) if recurrent else None
    fields = dict(
        dueling=dueling,
        noisy=noisy,
        prioritized=prioritized,
        memory=memory,
        n_step=3 if several else 1,
    )
    algo, env = rl.dqn(head=head, backup=backup, transform=SignedRoot(), **TINY | fields), Choice()
    state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    after, metrics = jax.eval_shape(
        lambda key, state: algo.update(key, env, state), jax.random.key(0), state
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert isinstance(state.params, noise.Noisy) == noisy
    assert {"loss", "value", "error", "grad_norm"} <= set(metrics)


@pytest.mark.parametrize("backup", [Max(), Munchausen()], ids=["max", "munchausen"])
@pytest.mark.parametrize("head", HEADS, ids=[type(head).__name__ for head in HEADS])
def test_a_forbidden_action_is_neither_followed_nor_a_nan(head, backup):
    """The action forbidden at the next observation has the largest value: no target uses it."""
    env = Probe(rl.Discrete(3), shape=(1,), masked=True)
    algo = rl.dqn(head=head, backup=backup, **TINY)
    learner, allowed = algo.learner, jnp.ones(3, bool)

    @quick
    def learn(mask):
        """The values of the actions that `mask` allows, and one step on a batch with that mask at
        its next observations.
        """
        obs = env.reset(jax.random.key(0))[1]
        state = learner.init(jax.random.key(0), env.action_space, obs)
        masked_obs = lambda mask: rl.Masked(jnp.ones((4, 1, 1)), jnp.broadcast_to(mask, (4, 1, 3)))
        zeros, row = jnp.zeros((4, 1)), jnp.zeros((4, 1), bool)
        action = row.astype(jnp.int32)
        batch = Batch(
            obs=masked_obs(allowed),
            action=action,
            reward=zeros,
            discount=zeros + 0.9,
            next_obs=masked_obs(mask),
            bootstrap_index=action,
            weight=zeros + 1.0,
            is_first=row,
            done=row,
            burn_in=(),
            rnn_state=(),
            extras=(),
        )
        episode = start_at(rl.Masked(jnp.ones(1), mask), ())
        values = learner.policy(env.action_space, state.params, episode)[1].values
        return values, learner.learn_batch(jax.random.key(1), env, state, batch, Clock(1, 10.0))

    values, free = learn(allowed)
    best = int(jnp.argmax(values))
    masked, forbidden = learn(allowed.at[best].set(False))
    assert masked[best] == -jnp.inf
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((free, forbidden)))
    assert free[2]["loss"] != forbidden[2]["loss"]


# ------------------------------------------------------------------------------------------- memory


def test_a_recurrent_learner_recalls_the_cue():
    """MemoryChain, where the expected return without a memory is 0."""
    small = dict(
        network=rl.MLP((16,)),
        memory=rl.GRU(16),
        num_envs=8,
        num_steps=4,
        batch_size=16,
        capacity=2048,
        warmup=256,
    )
    algo = rl.r2d2(lr=3e-3, burn_in=4, sequence=8, target_period=20.0, **small)
    training = rl.Training(
        algo, envs.make("MemoryChain", length=3), steps=9_600, evals=1, episodes=32
    )
    assert (
        quick(jax.vmap(lambda seed: training(seed)[1]["evaluation"][-1]))(jnp.arange(8)) > 0.95
    ).all()


# -------------------------------------------------------------------------- what it refuses, and is


@pytest.mark.parametrize("name", ["dqn", "sqirl"])
def test_continuous_actions_are_refused(name):
    algo = rl.PRESETS[name]()
    with pytest.raises(TypeError, match=r"takes actions of Discrete.*Box action space"):
        algo.init(jax.random.key(0), Aim())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.c51(atoms=1), r"atoms=1.*atoms=51"),
        (lambda: rl.sqirl(depth=0), r"depth=1 or more"),
    ],
)
def test_what_makes_no_sense_is_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sqirl_has_no_memory():
    with pytest.raises(TypeError, match="sqirl has no field 'memory'"):
        rl.sqirl(memory=rl.GRU(4))


def test_sqirl_is_random_from_its_first_random_step_and_greedy_before():
    algo = rl.sqirl(network=rl.MLP((16,)), fraction=0.5)
    env = envs.make("Catch")
    obs = env.reset(jax.random.key(0))[1]
    params = algo.learner.init(jax.random.key(1), env.action_space, obs).params

    @quick
    def explore(t, clock):
        act = lambda key: algo.learner.explore(key, env, params, start_at(obs, t), clock)[1]
        return jax.vmap(act)(jax.random.split(jax.random.key(2), 64))

    half = Clock(1, 4.0)  # a quarter of the run is half of the way
    unbounded = Clock(1, float("inf"))
    assert len(set(explore(env.max_steps // 2 - 1, half).tolist())) == 1
    assert len(set(explore(env.max_steps // 2 + 1, half).tolist())) == env.action_space.n
    assert len(set(explore(0, unbounded).tolist())) == env.action_space.n


def test_a_preset_names_all_that_it_takes():
    for name in ("dqn", "c51", "qr_dqn", "iqn", "munchausen_dqn", "rainbow", "r2d2", "sqirl"):
        names = inspect.signature(rl.PRESETS[name]).parameters
        assert {"lr", "gamma", "max_grad_norm", "network", "n_step"} <= set(names), name
    assert inspect.signature(rl.rainbow).parameters["epsilon_start"].default == 0.0
    assert [rl.rainbow().learner.n_step, rl.rainbow(n_step=1).learner.n_step] == [3, 1]
