"""Value-based learning: every head with every option, and every member on every lesson."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Aim, Choice, Discounted, Matching, Seen, TimedOut, Value

import envs
import jaxrl as rl
from jaxrl import noise
from jaxrl.abilities import Probe
from jaxrl.algorithms.backups import Max, Munchausen, SignedRoot
from jaxrl.algorithms.learner import Batch
from jaxrl.algorithms.value_heads import Categorical, Expected, Implicit, Quantile
from jaxrl.rules.base import Clock
from jaxrl.tree import pytree, static

# These programs are small and run once: to compile them well takes twice as long as to compile and run them.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# ------------------------------------------------------------------------------------------------- every head, every option

HEADS = [
    Expected(),
    Categorical(-2.0, 2.0, atoms=5),
    Quantile(quantiles=3),
    Implicit(size=4, cosines=3, samples=2, fractions=3),
]
TINY = dict(num_envs=2, batch_size=4, capacity=64, warmup=32, burn_in=1, sequence=3, network=rl.MLP((4,)))


def options():
    """Each head with each backup, and every other option on and off beside both."""
    switches = [(False, True, False, True, True), (True, False, True, False, True), (True, True, True, True, False)]
    pairs = itertools.product(HEADS, (Max(), Munchausen()))
    return [(head, backup, switches[(i + j) % 3]) for i, (head, backup) in enumerate(pairs) for j in range(2)]


@pytest.mark.parametrize(("head", "backup", "switches"), options())
def test_every_head_combines_with_every_option(head, backup, switches):
    dueling, noisy, prioritized, recurrent, several = switches
    memory = rl.GRU(3) if recurrent else None
    fields = dict(dueling=dueling, noisy=noisy, prioritized=prioritized, memory=memory, n_step=3 if several else 1)
    algo, env = rl.dqn(head=head, backup=backup, transform=SignedRoot(), **TINY | fields), Choice()
    state = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    after, metrics = jax.eval_shape(lambda key, state: algo.update(key, env, state), jax.random.key(0), state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert isinstance(state.params, noise.Noisy) == noisy
    assert {"loss", "value", "error", "grad_norm"} <= set(metrics)


@pytest.mark.parametrize("backup", [Max(), Munchausen()], ids=["max", "munchausen"])
@pytest.mark.parametrize("head", HEADS, ids=[type(head).__name__ for head in HEADS])
def test_a_forbidden_action_is_neither_followed_nor_a_nan(head, backup):
    """The action forbidden next is worth more than all else: no target may hear of it."""
    env = Probe(rl.Discrete(3), shape=(1,), masked=True)
    algo = rl.dqn(head=head, backup=backup, double=False, **TINY)
    learner, allowed = algo.learner, jnp.ones(3, bool)

    @quick
    def learn(mask):
        """What one step makes of a batch whose next actions `mask` allows, and the values of these."""
        learnt = learner.init(jax.random.key(0), env, env.reset(jax.random.key(0))[1])
        seen = lambda mask: rl.Masked(jnp.ones((4, 1, 1)), jnp.broadcast_to(mask, (4, 1, 3)))
        zeros, row = jnp.zeros((4, 1)), jnp.zeros((4, 1), bool)
        action = row.astype(jnp.int32)
        now = seen(allowed), action, zeros, zeros + 0.9, seen(mask), action, zeros + 1.0, row, row
        batch = Batch(*now, past=(), memory=(), note=())
        values = learner.values(env, learnt.params, (), rl.Masked(jnp.ones(1), mask))[1]
        return values, learner.learn(jax.random.key(1), env, learnt, batch, Clock(1, 10.0))

    values, free = learn(allowed)
    best = int(jnp.argmax(values))
    masked, held = learn(allowed.at[best].set(False))
    assert masked[best] == -jnp.inf
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((free, held)))
    assert free[2]["loss"] != held[2]["loss"]


# ----------------------------------------------------------------------------------------------- every member, every lesson

GAMMA = 0.7
LESSONS = [Value(4), Seen(4), Discounted(4), TimedOut(4), Choice(4), Matching(4)]
VALUE, SEEN, DISCOUNTED, TIMED_OUT, CHOICE, MATCHING = range(6)
SMALL = dict(network=rl.MLP((16,)), gamma=GAMMA, lr=1e-2, num_envs=8, batch_size=32, capacity=512, warmup=64)
FAST = SMALL | dict(target_period=10.0)
ALGORITHMS = {
    "dqn": (rl.dqn, FAST),
    "c51": (rl.c51, FAST | dict(v_min=-2.0, v_max=6.0, atoms=33)),
    "qr_dqn": (rl.qr_dqn, FAST | dict(quantiles=11)),
    "iqn": (rl.iqn, FAST),
    "munchausen_dqn": (rl.munchausen_dqn, FAST),
    "rainbow": (rl.rainbow, FAST | dict(v_min=-2.0, v_max=6.0, atoms=33)),
    "r2d2": (rl.r2d2, FAST | dict(memory=rl.GRU(8), burn_in=2, sequence=4, n_step=2, batch_size=8)),
    "sqirl": (rl.sqirl, SMALL | dict(num_steps=8, updates=8)),
}
MEMBERS = jnp.array([VALUE, SEEN, DISCOUNTED, TIMED_OUT, CHOICE, MATCHING, MATCHING, MATCHING])
SCALES = np.array([1.0] * 6 + [10.0, 0.1])  # of the learning rate
UPDATES, ROWS = 400, 10
every = pytest.mark.parametrize("name", ALGORITHMS)


@pytree
class Lesson:
    """Any one of the lessons, as a leaf says: one program learns them all."""

    which: int = 0
    max_steps: int = static(default=4)
    action_space = rl.Discrete(2)

    def reset(self, key):
        sign = jax.random.rademacher(key, (), jnp.float32)
        shown = (self.which == SEEN) | (self.which == MATCHING)
        return (sign, jnp.int32(0)), jnp.where(shown, sign, 0.0).reshape(1)

    def step(self, key, state, action):
        sign, age = state
        own = [(), sign, age, (), (), sign]
        steps = [env.step(key, state, action)[1] for env, state in zip(LESSONS, own, strict=True)]
        chosen = lambda *x: jnp.select([self.which == i for i in range(6)], [jnp.asarray(y) for y in x])
        return (sign, age + 1), jax.tree.map(chosen, *steps)


def floats_of(name):
    """Every float that the maker names, with what it is here."""
    maker, fields = ALGORITHMS[name]
    defaults = {k: p.default for k, p in inspect.signature(maker).parameters.items()}
    return {k: fields.get(k, v) for k, v in defaults.items() if isinstance(v, float)}


def training_of(name, floats, which):
    maker, fields = ALGORITHMS[name]
    algo = maker(**fields | floats)
    return rl.Training(algo, Lesson(which), steps=UPDATES * algo.steps_per_update, evals=ROWS, episodes=0)


@functools.cache
def lived(name):
    """All lessons at once, every float traced: floats, states begun, metrics, values at -1, 0 and 1, number of traces."""
    traced = []

    def life(floats, which, key):
        traced.append(name)
        training = training_of(name, floats, which)
        begun = training.begin(key)
        state, metrics = jax.lax.scan(lambda state, row: training.advance(key, state, row), begun, jnp.arange(ROWS))
        algo, env = training.algo, training.env
        look = lambda x: algo.learner.values(env, noise.mean(state.params), algo.start(env), x.reshape(1))[1]
        return begun, metrics, jax.vmap(look)(jnp.array([-1.0, 0.0, 1.0]))

    floats = {key: jnp.full(8, value) for key, value in floats_of(name).items()}
    floats["lr"] *= jnp.asarray(SCALES, jnp.float32)
    begun, metrics, values = quick(jax.vmap(life))(floats, MEMBERS, keys())
    return floats, begun, metrics, values, len(traced)


def keys():
    return jax.random.split(jax.random.key(0), 8)


@every
def test_every_lesson_is_learnt(name):
    _, _, _, values, _ = lived(name)
    scale = rl.r2d2().learner.transform if name == "r2d2" else lambda x: x
    for member, row, value in [(VALUE, 1, 1.0), (SEEN, 0, -1.0), (SEEN, 2, 1.0), (DISCOUNTED, 1, GAMMA)]:
        assert float(values[member, row].max()) == pytest.approx(float(scale(jnp.float32(value))), rel=0.12)
    endless = float(scale(jnp.float32(1 / (1 - GAMMA))))
    assert float(values[TIMED_OUT, 1].max()) == pytest.approx(endless, rel=0.12)
    assert int(values[CHOICE, 1].argmax()) == 1
    assert [int(values[MATCHING, row].argmax()) for row in (0, 2)] == [0, 1]


@every
def test_every_float_is_traced_in_one_trace(name):
    floats, _, metrics, _, traced = lived(name)
    assert traced == 1
    assert {"lr", "gamma", "max_grad_norm"} <= set(floats)
    rows = np.asarray(metrics["loss"][[5, 6, 7], 0])
    assert len(set(rows.tolist())) == 3  # the learning rate had its say


@every
def test_ten_times_and_a_tenth_of_the_learning_rate_stay_finite(name):
    _, _, metrics, _, _ = lived(name)
    for field in ("loss", "grad_norm", "value", "error"):
        assert jnp.isfinite(metrics[field]).all()
    assert not metrics["diverged"].any()


@every
def test_vmap_is_a_loop_and_a_state_is_all_there_is(name):
    floats, begun, metrics, _, _ = lived(name)
    i = MATCHING
    own = {key: value[i] for key, value in floats.items()}
    advance = quick(lambda key, state, row: training_of(name, own, MEMBERS[i]).advance(key, state, row))
    state, row = advance(keys()[i], jax.tree.map(lambda x: x[i], begun), 0)
    for field in ("loss", "value", "error", "grad_norm"):
        np.testing.assert_allclose(metrics[field][i, 0], row[field], rtol=1e-2, atol=1e-3, err_msg=field)
    leaves, structure = jax.tree.flatten(state)
    assert all(np.size(x) > 0 for x in leaves)
    kept = jax.tree.unflatten(structure, [np.asarray(x).copy() for x in leaves])
    for a, b in zip(*(jax.tree.leaves(advance(keys()[i], x, 1)) for x in (state, kept)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_recurrent_learner_recalls_the_cue():
    """MemoryChain without a memory is a coin flip, whatever is learnt."""


# --------------------------------------------------------------------------------------------------- what it refuses, and is


@pytest.mark.parametrize("name", ALGORITHMS)
def test_continuous_actions_are_refused(name):
    algo = ALGORITHMS[name][0]()
    with pytest.raises(TypeError, match=r"takes actions of Discrete.*Box action space"):
        algo.init(jax.random.key(0), Aim())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.c51(atoms=1), r"atoms=1.*atoms=51"),
        (lambda: rl.r2d2(memory=None), r"memory=rl.GRU\(64\)"),
        (lambda: rl.sqirl(depth=0), r"depth=1 or more"),
    ],
)
def test_what_makes_no_sense_is_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sqirl_has_no_memory():
    with pytest.raises(TypeError, match="r2d2"):
        rl.sqirl(memory=rl.GRU(4))


def test_sqirl_is_random_from_its_frontier_on_and_greedy_before():
    algo = rl.sqirl(**SMALL, fraction=0.5)
    env = envs.make("Catch")
    obs = env.reset(jax.random.key(0))[1]
    params = algo.learner.init(jax.random.key(1), env, obs).params

    @quick
    def explore(t, clock):
        act = lambda key: algo.learner.explore(key, env, params, t, obs, clock)[1]
        return jax.vmap(act)(jax.random.split(jax.random.key(2), 64))

    half = Clock(1, 4.0)  # a quarter of the life is half of the way
    endless = Clock(1, float("inf"))
    assert len(set(explore(env.max_steps // 2 - 1, half).tolist())) == 1
    assert len(set(explore(env.max_steps // 2 + 1, half).tolist())) == env.action_space.n
    assert len(set(explore(0, endless).tolist())) == env.action_space.n


def test_a_maker_names_all_that_it_takes():
    for name, (maker, _) in ALGORITHMS.items():
        names = inspect.signature(maker).parameters
        assert {"lr", "gamma", "max_grad_norm", "network", "memory"} <= set(names), name
    assert inspect.signature(rl.rainbow).parameters["epsilon_start"].default == 0.0
    assert [rl.rainbow().n_step, rl.rainbow(n_step=1).n_step] == [3, 1]
