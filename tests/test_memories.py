"""What every memory promises: it is its definition, at once or in parts, and nothing of an episode
outlives its end.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
import jaxrl as rl
from jaxrl import tree
from jaxrl.cli import arguments
from jaxrl.memories.linear_time import parallel_scan, sequential_scan
from jaxrl.sweep import serialize

SIZE, LENGTH = 6, 11
MEMORIES = {
    "gru": rl.GRU(SIZE),
    "lstm": rl.LSTM(SIZE),
    "ffm": rl.FFM(SIZE, traces=3, contexts=2, period=5.0),
    "lru": rl.LRU(SIZE, states=5, max_angle=3.0),
    "gtrxl": rl.GTrXL(SIZE, window=3, layers=2),
}
ALWAYS = {"gru", "ffm", "lru"}  # the others rotate
every = pytest.mark.parametrize(
    "name",
    [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.rotate) for name in MEMORIES],
)
APPLY = {name: jax.jit(memory.apply) for name, memory in MEMORIES.items()}


@functools.cache
def params_of(name, seed=0):
    """Parameters moved away from the zeros that some begin with."""
    params = MEMORIES[name].init(jax.random.key(seed))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return jax.tree.unflatten(
        structure,
        [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)],
    )


def features(seed=0, length=LENGTH):
    return jax.random.normal(jax.random.key(seed + 2), (length, SIZE))


def firsts(*places):
    return jnp.isin(jnp.arange(LENGTH), jnp.array(places, int))


def close(a, b, rtol=1e-5):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# -------------------------------------------------------------- the definitions, one step at a time


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)


def layer(p, x):
    return x @ p["kernel"] + p["bias"]


def gru(p, past, x):
    h = past[-1] if past else np.zeros(SIZE)
    (a, b, c), (d, e, f) = np.split(layer(p["input"], x), 3), np.split(h @ p["hidden"]["kernel"], 3)
    z = sigmoid(b + e)
    h = (1 - z) * np.tanh(c + sigmoid(a + d) * (f + p["new"]["bias"])) + z * h
    return [*past, h], h


def lstm(p, past, x):
    c, h = past[-1] if past else (np.zeros(SIZE), np.zeros(SIZE))
    i, f, g, o = np.split(layer(p["input"], x) + h @ p["hidden"]["kernel"], 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return [*past, (c, h)], h


def ffm(p, past, x):
    """The sum over all that was written, each faded and turned by its own age (Morad et al.,
    2023).
    """
    write, gate, show = np.split(layer(p["input"], x), [3, 6])
    past = [*past, write * sigmoid(gate)]
    total = np.zeros((3, 2), complex)
    for age, written in enumerate(reversed(past)):
        total += (
            np.exp(-age * np.abs(p["alpha"]))[:, None]
            * np.exp(1j * age * p["omega"])[None]
            * written[:, None]
        )
    seen = norm(layer(p["mix"], np.concatenate([total.real.ravel(), total.imag.ravel()])))
    return past, sigmoid(show) * seen + (1 - sigmoid(show)) * x


def lru(p, past, x):
    u = norm(x)
    real, imaginary = np.split(u @ p["input"]["kernel"], 2)
    past = [*past, np.exp(p["gamma"]) * (real + 1j * imaginary)]
    h = sum(
        np.exp(age * (-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))) * b
        for age, b in enumerate(reversed(past))
    )
    y = np.concatenate([h.real, h.imag]) @ p["output"]["kernel"] + p["skip"]["scale"] * u
    value, gate = np.split(layer(p["glu"], np.array(jax.nn.gelu(y.astype(np.float32)))), 2)
    return past, x + value * sigmoid(gate)


def gtrxl(p, past, x, window=3, heads=2):
    past = past or [[] for _ in p]
    for i in range(len(p)):
        q = p[f"layer_{i}"]
        past[i] = [*past[i], x]
        seen = []
        for head in range(heads):
            share = slice(head * SIZE // heads, (head + 1) * SIZE // heads)
            query, _, _ = np.split(layer(q["attend"], norm(x)), 3)
            scores, values = [], []
            for age, old in enumerate(past[i][: -window - 2 : -1]):
                _, key, value = np.split(layer(q["attend"], norm(old)), 3)
                scores.append(
                    query[share] @ key[share] / np.sqrt(SIZE / heads)
                    + q["distance"]["bias"][head, age]
                )
                values.append(value[share])
            weight = np.exp(scores) / np.exp(scores).sum()
            seen.append(weight @ np.array(values))
        x = gate(q["attend_gate"], x, np.maximum(layer(q["join"], np.concatenate(seen)), 0))
        hidden = np.maximum(layer(q["hidden"], norm(x)), 0)
        x = gate(q["out_gate"], x, np.maximum(layer(q["out"], hidden), 0))
    return past, x


def gate(p, x, y):
    """g(x, y) of Parisotto et al. (2020)."""
    (a, b, c), (d, e) = np.split(y @ p["new"]["kernel"], 3), np.split(x @ p["old"]["kernel"], 2)
    z = sigmoid(b + e - p["shut"]["bias"])
    return (1 - z) * x + z * np.tanh(c + (sigmoid(a + d) * x) @ p["reset"]["kernel"])


DEFINITIONS = {"gru": gru, "lstm": lstm, "ffm": ffm, "lru": lru, "gtrxl": gtrxl}


@every
def test_a_trajectory_is_read_as_the_definition_says(name):
    params, x, first = params_of(name), features(), firsts(2, 7, 8)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    _, y = APPLY[name](params, MEMORIES[name].start(), x, first)
    past, expected = [], []
    for t in range(LENGTH):
        past, now = DEFINITIONS[name](exact, [] if first[t] else past, np.asarray(x[t], np.float64))
        expected.append(now)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)


# ------------------------------------------------------------------------- at once, or in any parts


def step_by_step(name):
    """The memory of a trajectory, and what it shows, of single steps and resets in between."""

    def move(params, memory, now):
        x, first = now
        memory = jax.tree.map(lambda x: jnp.where(first, jnp.zeros_like(x), x), memory)
        memory, y = MEMORIES[name].apply(params, memory, x[None], jnp.zeros(1, bool))
        return memory, y[0]

    return jax.jit(
        lambda params, memory, x, first: jax.lax.scan(
            lambda m, now: move(params, m, now), memory, (x, first)
        )
    )


STEP_BY_STEP = {name: step_by_step(name) for name in MEMORIES}


@every
@settings(max_examples=10, deadline=None)
@given(st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH), st.integers(0, 1000))
def test_at_once_is_step_by_step(name, first, seed):
    case = params_of(name), rest(name), features(seed), jnp.array(first)
    jax.tree.map(close, APPLY[name](*case), STEP_BY_STEP[name](*case))


@functools.cache
def rest(name):
    """What is left of another trajectory."""
    return APPLY[name](params_of(name), MEMORIES[name].start(), features(1), firsts())[0]


@every
def test_a_memory_goes_on_in_the_next_call(name):
    params, x, first = params_of(name), features(), firsts(6)
    whole, y = APPLY[name](params, rest(name), x, first)
    middle, before = APPLY[name](params, rest(name), x[:4], first[:4])
    last, after = APPLY[name](params, middle, x[4:], first[4:])
    close(jnp.concatenate([before, after]), y)
    jax.tree.map(close, last, whole)


@every
def test_an_episode_does_not_affect_the_next(name):
    """Exactly: the gradient of what follows, with respect to all that came before, is 0."""
    params, end = params_of(name), 5
    old = rest(name)
    floats = lambda memory: {
        str(i): x for i, x in enumerate(jax.tree.leaves(memory)) if x.dtype == jnp.float32
    }

    def later(before, x, row):
        leaves, structure = jax.tree.flatten(old)
        leaves = [before.get(str(i), x) for i, x in enumerate(leaves)]
        last, y = APPLY[name](params, jax.tree.unflatten(structure, leaves), x, firsts(end))
        return (y[row] ** 2).sum() + (row == LENGTH - 1) * sum(
            (x**2).sum() for x in floats(last).values()
        )

    look = jax.jit(jax.grad(later, (0, 1)))
    of_memory, of_x = look(floats(old), features(), LENGTH - 1)
    assert all((g == 0.0).all() for g in jax.tree.leaves(of_memory))
    assert (of_x[:end] == 0.0).all()
    assert (np.abs(of_x[LENGTH - 3 :]).sum(-1) > 0.0).all()
    of_memory, of_x = look(floats(old), features(), 1)
    assert all((g != 0.0).any() for g in jax.tree.leaves(of_memory))


@every
def test_vmap_is_a_loop(name):
    memory = MEMORIES[name]
    params = [params_of(name, seed) for seed in range(3)]
    x = jnp.stack([features(seed) for seed in range(3)])
    first = jnp.stack([firsts(), firsts(0, 4), firsts(9)])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    many = jax.jit(
        jax.vmap(lambda params, x, first: memory.apply(params, memory.start(), x, first))
    )(stacked, x, first)
    for i in range(3):
        alone = APPLY[name](params[i], memory.start(), x[i], first[i])
        jax.tree.map(lambda a, b, i=i: close(a[i], b), many, alone)


@every
def test_a_memory_starts_at_zero_and_can_be_resumed(name):
    """Real leaves of some size: what a reset, a checkpoint and a check for numbers that are not
    finite can read.
    """
    memory = MEMORIES[name]
    start, (last, _) = (
        memory.start(),
        APPLY[name](params_of(name), memory.start(), features(), firsts()),
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(start, last)
    assert all(
        x.size > 0 and x.dtype in (jnp.float32, bool) and not x.any()
        for x in jax.tree.leaves(start)
    )
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params_of(name)))
    assert tree.is_finite(last)
    chex.assert_trees_all_equal(tree.where(jnp.bool_(True), start, last), start)
    assert serialize.decode(serialize.encode(memory)) == memory
    assert hash(memory) == hash(tree.replace(memory))


@every
def test_a_thousand_steps_have_a_finite_gradient(name):
    memory, x = MEMORIES[name], features(length=1024)
    first = jnp.arange(1024) == 700

    @jax.jit
    @jax.grad
    def grad(params):
        return (memory.apply(params, memory.start(), x, first)[1] ** 2).mean()

    steep = (
        {"alpha": jnp.array([0.0, 1e-6, 30.0])} if name == "ffm" else {}
    )  # nothing fades, or everything at once
    grads = grad(memory.init(jax.random.key(0)) | steep)
    assert tree.is_finite(grads)
    assert sum(float(jnp.abs(g).sum()) for g in jax.tree.leaves(grads)) > 0.0


# ---------------------------------------------------------------------------------- the linear scan


DECAY = tuple(
    jnp.array([[0.9, 0.0, 0.9999, -0.8], [0.1, 0.0, 0.001, 0.6]])
)  # the last neither grows nor fades


def recurrence(decay, memory, x, first):
    """h[t] = x[t] + decay h[t-1], of nothing where an episode begins, in float64."""
    decay, h, x = (
        np.asarray(real, float) + 1j * np.asarray(imaginary, float)
        for real, imaginary in (decay, memory, x)
    )
    states = []
    for t in range(len(x)):
        h = x[t] + (0.0 if first[t] else decay * h)
        states.append(h)
    return np.real(states), np.imag(states)


def case(length, seed=0):
    key_memory, key_x, key_first = jax.random.split(jax.random.key(seed), 3)
    pair = lambda key, *shape: tuple(jax.random.normal(key, (2, *shape)))
    return (
        pair(key_memory, 4),
        pair(key_x, length, 4),
        jax.random.bernoulli(key_first, 0.1, (length,)),
    )


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("scan", [sequential_scan, parallel_scan])
def test_either_scan_is_the_recurrence(scan, length):
    for a, b in zip(
        jax.jit(scan)(DECAY, *case(length)), recurrence(DECAY, *case(length)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_both_scans_have_one_gradient_and_none_across_a_reset():
    memory, x, _ = case(7)
    first = jnp.isin(jnp.arange(7), jnp.array([2, 4]))
    seen = {}
    for scan in (sequential_scan, parallel_scan):
        loss = lambda decay, memory, x, scan=scan: sum(
            (h[5:] ** 3).sum() for h in scan(decay, memory, x, first)
        )
        seen[scan] = jax.jit(jax.grad(loss, (0, 1, 2)))(DECAY, memory, x)
        _, of_memory, of_x = seen[scan]
        assert all((g == 0.0).all() for g in of_memory)
        assert all(
            (g[:4] == 0.0).all() and (np.delete(g[4:], 1, axis=1) != 0.0).all() for g in of_x
        )
    jax.tree.map(lambda a, b: close(a, b, 1e-4), *seen.values())


@pytest.mark.parametrize("name", ["ffm", "lru"])
def test_the_parallel_scan_of_other_backends_is_equal(name, monkeypatch):
    found = APPLY[name](params_of(name), rest(name), features(), firsts(3, 4, 9))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    other = jax.jit(lambda *case: MEMORIES[name].apply(*case))(
        params_of(name), rest(name), features(), firsts(3, 4, 9)
    )
    jax.tree.map(close, other, found)


# ------------------------------------------------------------------------------------------- in use


@every
def test_the_command_line_makes_each_kind(name):
    assert set(arguments.MEMORIES) == set(MEMORIES)
    asked = arguments.options("ppo", rl.ppo)(env="MemoryChain", memory=8, memory_kind=name)
    made = arguments.training_of(asked, rl.ppo)[0].algo.memory
    assert type(made) is type(MEMORIES[name])
    assert made.size == 8


@pytest.mark.parametrize("make", [rl.pqn, rl.dqn, rl.td3])
def test_a_learner_s_state_keeps_its_shape(make):
    """With the memory that is most of a tree; nothing is compiled."""
    algo, env = (
        make(memory=MEMORIES["gtrxl"]),
        envs.make("Pendulum-P" if make is rl.td3 else "MemoryChain"),
    )
    start = jax.eval_shape(lambda key: algo.init(key, env), jax.random.key(0))
    after, _ = jax.eval_shape(
        lambda key, state: algo.update(key, env, state), jax.random.key(0), start
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(start, after)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.GTrXL(64, heads=3), "heads=3 does not divide size=64"),
        (lambda: rl.GTrXL(64, window=0), "window=0"),
        (lambda: rl.LRU(r_max=1.0), "r_max=1.0.*unit circle"),
    ],
)
def test_counts_that_do_not_fit_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.rotate
@every
def test_each_memory_recalls_the_cue(name):
    """MemoryChain without a memory is a coin flip."""
    sizes = dict(
        network=rl.MLP((16,)),
        memory=type(MEMORIES[name])(8),
        num_envs=8,
        num_steps=16,
        minibatches=2,
    )
    algo, env = rl.ppo(**sizes, lr=3e-3, entropy_weight=0.0), envs.make("MemoryChain", length=3)
    run = lambda seed: rl.train(seed, algo, env, steps=128 * 100, evals=10, episodes=0)[1][
        "return"
    ][-1]
    assert jnp.median(jax.jit(jax.vmap(run))(jnp.arange(8))) > 0.9
