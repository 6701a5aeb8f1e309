"""The replay against a slow one: a list of rows, and a dictionary of priorities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl import replay, sum_tree
from jaxrl.replay import Buffer, Prioritized, Uniform
from jaxrl.tree import replace

ROWS, ENVS, ALPHA = 12, 3, 0.7
BUFFERS = {
    "uniform": Buffer(ROWS * ENVS),
    "uniform, sequences": Buffer(ROWS * ENVS, 4),
    "prioritized": Buffer(ROWS * ENVS, 1, Prioritized(ALPHA)),
    "prioritized, sequences": Buffer(ROWS * ENVS, 4, Prioritized(ALPHA)),
}
every = pytest.mark.parametrize("name", BUFFERS)
prioritized = pytest.mark.parametrize("name", [name for name in BUFFERS if name.startswith("prio")])
adds = st.lists(st.sampled_from([1, 5, ROWS]), min_size=1, max_size=8)
sizes = settings(max_examples=12, deadline=None)


class Slow:
    """A buffer as a list of rows, oldest first; each is a dictionary with its place in the ring."""

    def __init__(self, buffer):
        self.length, self.alpha = buffer.length, getattr(buffer.priority, "alpha", 0.0)
        self.rows, self.written, self.largest = [], 0, 1.0

    def add(self, items):
        for t in range(len(items["reward"])):
            row = {name: x[t] for name, x in items.items()}
            self.rows.append(
                row | {"place": self.written % ROWS, "fresh": self.largest, "rated": {}}
            )
            self.written += 1
        self.rows = self.rows[-ROWS:]

    def starts(self):
        """index -> its rows, for every start that there is."""
        whole = [self.rows[i : i + self.length] for i in range(len(self.rows) - self.length + 1)]
        return {
            piece[0]["place"] * ENVS + env: (env, piece) for piece in whole for env in range(ENVS)
        }

    def rate(self, index, priority):
        """The largest counts where an index comes twice."""
        for i in set(index):
            env, piece = self.starts()[i]
            piece[0]["rated"][env] = max(p for j, p in zip(index, priority, strict=True) if i == j)
        self.largest = max(self.largest, *priority)

    def masses(self):
        """index -> priority to the power of alpha.

        A start has the largest priority of when its last row came.
        """
        priority = {
            i: piece[0]["rated"].get(env, piece[-1]["fresh"])
            for i, (env, piece) in self.starts().items()
        }
        return {i: (p + 1e-6) ** self.alpha for i, p in priority.items()}


def items_of(steps, first=0):
    """Content that tells where it belongs."""
    time = np.arange(first, first + steps)[:, None] * ENVS + np.arange(ENVS)
    obs = ((time[..., None] * 7 + np.arange(2)) % 256).astype(np.uint8)
    return {"obs": obs, "reward": np.sin(time).astype(np.float32), "time": time.astype(np.int32)}


ITEM = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), items_of(1))


@functools.cache
def jitted(name):
    buffer = BUFFERS[name]
    many = lambda key, now: buffer.sample(key, now, 4096)
    return jax.jit(buffer.add), jax.jit(many), jax.jit(buffer.reprioritize)


def filled(name, steps):
    """A buffer and a slow one after the same additions."""
    add, *_ = jitted(name)
    fast, slow = BUFFERS[name].init(ITEM, ENVS), Slow(BUFFERS[name])
    for n in steps:
        items = items_of(n, slow.written)
        fast, _ = add(fast, items), slow.add(items)
    return fast, slow


def check_draws(name, fast, slow, seed):
    """All starts and no other are drawn, with the rows that they should have, as often as they
    should be.
    """
    starts, sample = slow.starts(), jitted(name)[1](jax.random.key(seed), fast)
    for key in ITEM:
        pieces = {i: [row[key][env] for row in piece] for i, (env, piece) in starts.items()}
        expected = np.array([pieces[i] for i in sample.index.tolist()])
        assert sample.items[key].dtype == ITEM[key].dtype
        np.testing.assert_array_equal(sample.items[key], expected)
    masses = slow.masses()
    chance = np.array([masses[i] for i in sorted(starts)]) / sum(masses.values())
    found = np.array([(np.asarray(sample.index) == i).sum() for i in sorted(starts)])
    assert found.sum() == 4096  # a start of priority 0 may well not come
    assert (np.abs(found - 4096 * chance) < 6 * np.sqrt(4096 * chance) + 1).all()


@every
@sizes
@given(steps=adds, seed=st.integers(0, 10_000))
def test_samples_are_those_of_a_slow_buffer(name, steps, seed):
    fast, slow = filled(name, steps)
    assert (int(fast.filled), int(fast.position)) == (len(slow.rows), slow.written % ROWS)
    for row in slow.rows:
        for key in ITEM:
            np.testing.assert_array_equal(fast.data[key][row["place"]], row[key])
    if slow.starts():
        check_draws(name, fast, slow, seed)


rating = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 1.0, 5.0])), min_size=6, max_size=6
)


@prioritized
@sizes
@given(
    doings=st.lists(st.one_of(st.sampled_from([1, 5, ROWS]), rating), min_size=3, max_size=10),
    seed=st.integers(0, 10_000),
)
def test_priorities_are_those_of_a_slow_buffer(name, doings, seed):
    fast, slow = filled(name, [5])
    for doing in doings:
        if isinstance(doing, int):
            items = items_of(doing, slow.written)
            fast, _ = jitted(name)[0](fast, items), slow.add(items)
        else:  # any of the starts there are, some of them twice
            starts = sorted(slow.starts())
            index, priority = [starts[i % len(starts)] for i, _ in doing], [p for _, p in doing]
            fast = jitted(name)[2](fast, jnp.array(index, jnp.int32), jnp.array(priority))
            slow.rate(index, priority)
        masses = np.zeros(ROWS * ENVS)
        for i, mass in slow.masses().items():
            masses[i] = mass
        np.testing.assert_allclose(leaves_of(fast.tree.sums)[: ROWS * ENVS], masses, rtol=1e-5)
        np.testing.assert_allclose(fast.tree.sums.total, masses.sum(), rtol=1e-5)
    check_draws(name, fast, slow, seed)


# ----------------------------------------------------------------------------------------- sum tree

SIZE = 300  # three levels


def leaves_of(tree):
    return np.asarray(tree.nodes[tree.starts[-1] :]).ravel()


@functools.cache
def tree_jitted():
    return jax.jit(lambda tree, index, value: tree.put(index, value)), jax.jit(
        lambda tree, place: tree.find(place)
    )


puts = st.lists(
    st.lists(
        st.tuples(st.integers(0, SIZE - 1), st.sampled_from([0.0, 1e-20, 1e-4, 1.0, 3.0, 1e6])),
        min_size=20,
        max_size=20,
    ),
    min_size=1,
    max_size=5,
)


@sizes
@given(puts=puts, seed=st.integers(0, 10_000))
def test_a_sum_tree_finds_by_share(puts, seed):
    put, find = tree_jitted()
    tree, slow = sum_tree.zeros(SIZE), np.zeros(SIZE, np.float32)
    for pairs in puts:
        for i in {i for i, _ in pairs}:
            slow[i] = max(value for j, value in pairs if i == j)
        tree = put(
            tree,
            *(
                jnp.array(x, dtype)
                for x, dtype in zip(zip(*pairs, strict=True), (int, float), strict=True)
            ),
        )
    np.testing.assert_array_equal(leaves_of(tree)[:SIZE], slow)
    np.testing.assert_allclose(tree.total, slow.sum(dtype=float), rtol=1e-6)
    for row in range(tree.starts[-1]):  # every node is the sum of the row below that it stands for
        level = max(i for i, start in enumerate(tree.starts) if start <= row)
        below = np.asarray(tree.nodes[tree.starts[level + 1] :])
        for column in range(sum_tree.WIDTH):
            child = (row - tree.starts[level]) * sum_tree.WIDTH + column
            if tree.starts[level + 1] + child < (*tree.starts, len(tree.nodes))[level + 2]:
                np.testing.assert_allclose(
                    tree.nodes[row, column], below[child].sum(dtype=float), rtol=1e-6
                )
    if slow.any():
        place = np.random.default_rng(seed).random(64, np.float32)
        place[:2] = 0.0, 1.0  # the ends, where rounding could fall off
        index, number = find(tree, place * tree.total)
        assert (np.asarray(number) > 0).all()
        np.testing.assert_array_equal(number, slow[index])
        end = np.cumsum(slow, dtype=float)[index]
        far = 1e-6 * slow.sum()  # what float32 can tell apart
        where = place.astype(float) * slow.sum(dtype=float)
        assert ((where <= end + far) & (where >= end - slow[index] - far)).all()


@pytest.mark.parametrize("size", [1, 16, 17, 256, 257])
def test_a_sum_tree_of_any_size(size):
    tree = sum_tree.zeros(size).put(jnp.arange(size), jnp.ones(size))
    assert tree.total == size
    np.testing.assert_array_equal(tree.find(jnp.arange(size) + 0.5)[0], np.arange(size))


# --------------------------------------------------------------------------------------- priorities


PRIORITY = np.random.default_rng(0).random(ROWS * ENVS).astype(np.float32) * 4


@functools.partial(jax.jit, static_argnums=3)
def rate_and_draw(alpha, beta, fraction, batch_size=ROWS * ENVS):
    """From 36 starts, every priority known."""
    buffer = Buffer(ROWS * ENVS, 1, Prioritized(alpha, beta))
    now = buffer.prepare(replay.load(items_of(ROWS), ENVS))
    now = buffer.reprioritize(now, jnp.arange(ROWS * ENVS), jnp.asarray(PRIORITY))
    return buffer.sample(jax.random.key(0), now, batch_size, fraction)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_weights_are_the_papers(fraction):
    """(N P(i)) ** -beta, over the largest (Schaul et al., 2016, section 3.4); beta ends at 1."""
    sample, priority = rate_and_draw(0.6, 0.4, fraction), PRIORITY.astype(float)
    chance = (priority + 1e-6) ** 0.6 / ((priority + 1e-6) ** 0.6).sum()
    weight = (len(priority) * chance[sample.index]) ** -(0.4 + 0.6 * fraction)
    np.testing.assert_allclose(sample.weight, weight / weight.max(), rtol=1e-4)
    assert sample.weight.dtype == jnp.float32


def test_a_batch_has_one_start_of_each_stratum():
    sample = rate_and_draw(0.0, 0.4, 0.0)  # all are alike
    np.testing.assert_array_equal(sample.index, np.arange(ROWS * ENVS))
    np.testing.assert_array_equal(sample.weight, 1.0)


def test_alpha_and_beta_may_be_swept():
    grid = jnp.array([0.0, 0.6]), jnp.array([0.4, 1.0])
    found = jax.vmap(lambda alpha, beta: rate_and_draw(alpha, beta, 0.0).weight)(*grid)
    expected = [rate_and_draw(float(a), float(b), 0.0).weight for a, b in zip(*grid, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_priority_that_is_not_finite_is_the_largest_so_far():
    rate, (now, _) = jitted("prioritized")[2], filled("prioritized", [5])
    now = rate(now, jnp.arange(6), jnp.array([jnp.nan, jnp.inf, 9.0, -jnp.inf, 1.0, 1.0]))
    assert now.tree.largest == 9.0
    now = rate(now, jnp.arange(6), jnp.array([jnp.nan, 1.0, 9.0, jnp.nan, 1.0, 1.0]))
    np.testing.assert_allclose(
        leaves_of(now.tree.sums)[:5], np.array([9.0, 1.0, 9.0, 9.0, 1.0]) ** ALPHA, rtol=1e-5
    )
    assert np.isfinite(now.tree.sums.total)


@prioritized
def test_invalid_starts_are_never_sampled(name):
    """Neither before there is data, nor where a piece would run past the newest row."""
    _, sample, rate = jitted(name)
    empty = BUFFERS[name].init(ITEM, ENVS)
    drawn = sample(jax.random.key(0), empty)
    assert np.isfinite(drawn.weight).all()
    assert rate(empty, drawn.index[:6], jnp.ones(6)).tree.sums.total == 0
    now, slow = filled(name, [5])
    for first in range(0, ROWS * ENVS, 6):
        now = rate(now, first + jnp.arange(6), jnp.full(6, 3.0))
    assert set(np.flatnonzero(leaves_of(now.tree.sums)).tolist()) == set(slow.starts())


# ---------------------------------------------------------------------------------------------- jax


@every
def test_vmap_is_a_loop(name):
    """Members that stand at different rows of their rings."""
    buffer = BUFFERS[name]
    members = [filled(name, steps)[0] for steps in ([5], [5, ROWS], [1, 5, 5, 5])]
    items = [items_of(5, 100 * i) for i in range(3)]

    def run(words, now, items):
        now = buffer.add(now, items)
        sample = buffer.sample(jax.random.wrap_key_data(words), now, 16, 0.5)
        now = buffer.reprioritize(now, sample.index, jnp.abs(sample.items["reward"][:, 0]))
        return now, sample

    words = jax.random.key_data(jax.random.split(jax.random.key(1), 3))
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    together = jax.jit(jax.vmap(run))(words, stack(members), stack(items))
    apart = stack([jax.jit(run)(*now) for now in zip(words, members, items, strict=True)])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), together, apart)


@pytest.mark.parametrize("priority", [Uniform(), Prioritized()], ids=["uniform", "prioritized"])
def test_a_step_copies_no_ring(priority):
    """A compiled scan of adds, samples and priorities over four members needs no room for a second
    ring or tree.
    """
    buffer = Buffer(100_000, 3, priority)

    def step(now, words):
        now = buffer.add(now, jax.tree.map(lambda x: x[:1] + jnp.ones_like(x[:1]), now.data))
        sample = buffer.sample(jax.random.wrap_key_data(words), now, 32)
        return buffer.reprioritize(
            now, sample.index, sample.items["reward"].sum(1)
        ), sample.weight.sum()

    start = jax.eval_shape(
        lambda: jax.tree.map(
            lambda x: jnp.stack([x] * 4), buffer.init({"reward": jnp.float32(0)}, 1)
        )
    )
    words = jax.eval_shape(
        lambda: jax.random.key_data(jax.random.split(jax.random.key(0), (4, 10)))
    )
    run = jax.jit(jax.vmap(lambda now, words: jax.lax.scan(step, now, words)), donate_argnums=0)
    needed = run.lower(start, words).compile().memory_analysis()
    assert needed.temp_size_in_bytes < 100_000 * 4  # of one member's ring


# ---------------------------------------------------------------------------------------- data sets


@every
def test_a_loaded_data_set_equals_an_added_one(name):
    buffer, items = BUFFERS[name], items_of(ROWS)
    loaded, added = buffer.prepare(replay.load(items, ENVS)), filled(name, [ROWS])[0]
    jax.tree.map(np.testing.assert_array_equal, loaded, added)
    more = items_of(5, ROWS)
    jax.tree.map(
        np.testing.assert_array_equal, buffer.add(loaded, more), jitted(name)[0](added, more)
    )


def test_a_data_set_of_one_stream():
    stream = jax.tree.map(lambda x: x[:, 0], items_of(40))
    now = replay.load(stream)
    sample = Buffer(length=3).sample(jax.random.key(0), now, 16)
    assert sample.items["obs"].dtype == jnp.uint8
    np.testing.assert_array_equal(
        sample.items["obs"], [stream["obs"][i : i + 3] for i in sample.index]
    )


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "asked", "words"),
    [
        (dict(capacity=64), dict(batch_size=128), "Write capacity=128 or more, or batch_size=64"),
        (
            dict(capacity=100),
            dict(num_envs=8, batch_size=97, warmup=200),
            "Write capacity=104 or more, or batch_size=96",
        ),
        (
            dict(capacity=32, length=9),
            dict(num_envs=8, batch_size=16),
            "sample is 9 rows long .* Write capacity=72",
        ),
        (dict(capacity=4), dict(num_envs=8, batch_size=1), "holds 0 rows"),
        (dict(), dict(batch_size=128, warmup=100), "warmup=100 .* Write warmup=128"),
        (
            dict(length=20),
            dict(num_envs=8, batch_size=16, warmup=100),
            "warmup=100 .* Write warmup=160",
        ),
    ],
)
def test_impossible_samples_are_refused(fields, asked, words):
    with pytest.raises(ValueError, match=words):
        Buffer(**fields).check(**dict(num_envs=1, batch_size=32, warmup=10_000) | asked)
    with pytest.raises(ValueError, match="holds 0 rows"):
        Buffer(4).init(ITEM, 8)


def test_the_smallest_valid_buffer_is_accepted():
    Buffer(128).check(num_envs=8, batch_size=128, warmup=128)
    Buffer(160, 20).check(
        num_envs=8, batch_size=16, warmup=153
    )  # twenty rows, the last of them not whole


def test_usage_errors_say_what_to_write():
    buffer = BUFFERS["prioritized, sequences"]
    now = replay.load(items_of(ROWS), ENVS)
    with pytest.raises(ValueError, match=r"13 steps .* Write capacity=39"):
        buffer.add(buffer.prepare(now), items_of(13))
    with pytest.raises(ValueError, match=r"no priorities: .* buffer.prepare"):
        buffer.sample(jax.random.key(0), now, 4)
    with pytest.raises(ValueError, match=r"no priorities: .* buffer.prepare"):
        buffer.add(now, items_of(1))
    with pytest.raises(ValueError, match="3 rows, but a sample is 4 rows long"):
        buffer.prepare(replay.load(items_of(3), ENVS))
    with pytest.raises(AssertionError, match="dtypes"):
        buffer.add(buffer.prepare(now), items_of(1) | {"obs": np.zeros((1, ENVS, 2), np.float32)})


@pytest.mark.parametrize(
    ("change", "num_envs", "words"),
    [
        (
            lambda items: items | {"obs": np.zeros((13, ENVS, 2))},
            ENVS,
            r"'obs'\]: \[13, 3\].* obs\[:-1\]",
        ),
        (lambda items: items | {"obs": np.float32(0)}, None, r"have leading axes \[N\]"),
        (lambda items: items, 4, "num_envs=4, but .* write num_envs=3"),
    ],
)
def test_a_data_set_of_uneven_arrays_is_refused(change, num_envs, words):
    with pytest.raises(ValueError, match=words):
        replay.load(change(items_of(ROWS)), num_envs)


def test_a_replay_is_a_value():
    """What was added to one is not in the other."""
    before, slow = filled("uniform", [5])
    after = BUFFERS["uniform"].add(before, items_of(1, 50))
    assert (int(before.filled), int(after.filled)) == (5, 6)
    check_draws("uniform", replace(after, filled=before.filled, position=before.position), slow, 0)
