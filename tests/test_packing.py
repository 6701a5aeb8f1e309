"""Arrays packed for an accelerator, on a CPU: the same bits, gradients and learning."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import accelerator, gathers, losses, packing, scalars
from jaxrl.algorithms.loop import run_updates
from jaxrl.devices import compiling_for
from jaxrl.replay import Buffer
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.record import make_record

# what is traced for it is packed, and runs on this CPU all the same
GPU = dataclasses.replace(accelerator.target("h100"), kind="none", description="")
TPU = dataclasses.replace(accelerator.target("tpu-v5e"), kind="none", description="")


def tree():
    words = np.arange(6, dtype=np.uint32)
    words[:3] = 0x7FA00001, 0xFFFFFFFF, 1  # a signalling NaN, a quiet one, a denormal
    return {
        "key": jax.random.split(jax.random.key(7), 2),
        "float": jnp.asarray(words.view(np.float32)).reshape(2, 3),
        "word": jnp.asarray(words),
        "int": jnp.asarray([-1, 2**31 - 1, -(2**31)], jnp.int32),
        "small": (jnp.asarray([-3, 127], jnp.int8), jnp.asarray([250], jnp.uint8)),
        "flag": jnp.asarray([True, False]),
        "image": jnp.arange(200, dtype=jnp.uint8).reshape(10, 20),
        "half": jnp.asarray([1.5, jnp.nan], jnp.bfloat16),
        "scalar": jnp.float32(2.5),
        "nothing": (),
    }


def bits(x):
    x = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return np.asarray(x).tobytes(), x.shape, x.dtype


@pytest.mark.parametrize("jitted", [False, True])
def test_packing_keeps_every_bit(jitted):
    there_and_back = lambda x: packing.pack(x).unpack()
    before = tree()
    after = (jax.jit(there_and_back) if jitted else there_and_back)(before)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert bits(x) == bits(y)


def test_small_leaves_share_a_vector_and_images_have_their_own():
    vectors = packing.pack(tree()).vectors
    assert {name: x.shape for name, x in vectors.items()} == {
        "float32": (4 + 6 + 6 + 3 + 2 + 1 + 2 + 1,),
        "uint8": (200,),
        "bfloat16": (2,),
    }


def test_leading_axes_are_kept():
    x = {"a": jnp.ones((5, 4, 3)), "b": jnp.arange(20).reshape(5, 4)}
    packed = packing.pack(x, axes=2)
    assert packed.vectors["float32"].shape == (5, 4, 4)
    row = jax.tree.map(lambda x: x[2], packed).unpack()
    chex.assert_trees_all_equal(row, jax.tree.map(lambda x: x[2], x))


def run_scan(scan, scale, xs):
    """A value, and what else a scan of a count, an array and a key gives."""

    def step(carry, x):
        count, value, key = carry
        key, now = jax.random.split(key)
        value = jnp.sin(scale * value + x) + 0.1 * jax.random.normal(now, (3,))
        return (count + 1, value / (1.0 + 0.5**count), key), {
            "value": value.sum(),
            "odd": count % 2 == 1,
        }

    start = jnp.int32(0), jnp.ones(3), jax.random.key(0)
    (count, value, _), rows = scan(step, start, xs)
    return value.sum() + rows["value"].sum(), (count, rows)


def means_of_even_steps(step, carry, xs):
    return packing.mean_scan(step, carry, xs, counted=jnp.arange(len(xs)) % 2 == 0)


@pytest.mark.parametrize("scan", [packing.scan, packing.mean_scan, means_of_even_steps])
@pytest.mark.parametrize("length", [1, 5])
def test_a_packed_scan_is_a_scan_and_so_are_its_gradients(scan, length):
    gradient = jax.value_and_grad(lambda *x: run_scan(scan, *x), has_aux=True)
    arguments = jnp.float32(0.7), jnp.linspace(0.0, 1.0, length)
    expected = jax.jit(gradient)(*arguments)
    with compiling_for(GPU):
        assert packing.packs()
        found = jax.jit(gradient)(*arguments)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


def test_the_means_of_a_scan():
    xs = jnp.arange(4.0)
    step = lambda carry, x: (carry + x, {"x": x, "twice": 2.0 * x})
    counted = jnp.array([True, False, False, True])
    for target in (None, GPU):
        with compiling_for(target):
            last, means = packing.mean_scan(step, jnp.float32(1.0), xs)
            few = packing.mean_scan(step, jnp.float32(1.0), xs, counted)[1]
            none = packing.mean_scan(step, jnp.float32(1.0), xs, jnp.zeros(4, bool))[1]
        assert (last, means, few, none) == (
            7.0,
            {"x": 1.5, "twice": 3.0},
            {"x": 1.5, "twice": 3.0},
            {"x": 0.0, "twice": 0.0},
        )
        assert last.dtype == jnp.float32


def split_step(carry, x):
    """A count and a scale that depend on scalars alone, a mean that does not, and an array."""
    count, scale, mean, array = carry
    scale = jnp.where(count > 1, 0.5 * scale, scale)
    array = array * scale + x
    return (count + 1, scale, array.mean() * mean, array), {"sum": array.sum(), "count": count}


def test_a_step_is_split_into_scalars_and_the_rest():
    carry = jnp.int32(0), jnp.float32(1.0), jnp.float32(2.0), jnp.ones(3)
    parts = scalars.split(split_step, carry, jnp.float32(0.1))
    assert (parts.carry, parts.x) == ((True, True, False, False), (True,))
    few, arrays = parts.divide(carry)
    after, shared = parts.first(*few, jnp.float32(0.1))
    chex.assert_trees_all_equal(after, [jnp.int32(1), jnp.float32(1.0)])
    assert len(shared) == 3  # the scale, the old count and x
    program = jax.make_jaxpr(parts.first)(*few, jnp.float32(0.1))
    assert all(v.aval.shape == () for each in program.eqns for v in each.outvars)
    found = parts.rest(*arrays, *shared)
    expected, row = split_step(carry, jnp.float32(0.1))
    chex.assert_trees_all_close(parts.join(after, found[:2]), expected, rtol=1e-6)
    chex.assert_trees_all_close(parts.row(found[2:]), row, rtol=1e-6)


def test_keys_and_effects_are_no_scalars():
    def step(carry, x):
        key, count = carry
        jax.debug.callback(lambda _: None, count)
        return (jax.random.fold_in(key, count), count + x), ()

    parts = scalars.split(step, (jax.random.key(0), jnp.int32(0)), jnp.int32(1))
    assert parts.carry == (False, True)
    program = jax.make_jaxpr(parts.first)(jnp.int32(0), jnp.int32(1))
    assert not program.effects


def test_a_loop_with_its_scalars_first_is_the_loop():
    carry = jnp.int32(0), jnp.float32(1.0), jnp.float32(2.0), jnp.ones(3)

    def run(carry):
        step, enter, leave = packing.scalars_first(split_step, carry, jnp.float32(0.0))
        last, rows = jax.lax.scan(step, enter(carry), jnp.linspace(0.0, 1.0, 5))
        return leave(last), rows

    expected = jax.jit(run)(carry)
    with compiling_for(GPU):
        found = jax.jit(run)(carry)
        text = jax.jit(run).lower(carry).as_text()
    assert "optimization_barrier" in text
    chex.assert_trees_all_close(found, expected, rtol=1e-6)
    chex.assert_trees_all_equal_dtypes(found, expected)


def test_a_packed_sum_is_a_sum():
    x = {
        "float": jnp.array([0.1, -2.0]),
        "int": jnp.int32(-5),
        "word": jnp.uint32(2**32 - 1),
        "small": jnp.int8(100),
        "flag": jnp.array([True, False]),
        "half": jnp.bfloat16(1.5),
    }
    expected = packing.plus(packing.plus(x, x), x)
    found = packing.plus(packing.plus(packing.pack(x), x), x).unpack()
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal_dtypes(found, expected)
    with pytest.raises(TypeError, match=r"A sum of .*'b'.* with .*'a'"):
        packing.plus(packing.pack({"a": 1.0}), {"b": 1.0})


def test_an_int_as_a_float_of_the_same_size_is_refused():
    """Its bits would be added as those of the other."""
    with pytest.raises(TypeError, match="A sum of"):
        packing.plus(packing.pack({"a": jnp.float32(1.0)}), {"a": jnp.int32(1)})


def test_the_carry_of_a_packed_scan_may_not_change():
    with compiling_for(GPU), pytest.raises(TypeError, match="carry"):
        packing.scan(lambda carry, x: (carry.astype(jnp.int32), x), jnp.ones(3), jnp.arange(4))


@pytest.mark.parametrize("check", [jax.debug_nans, jax.debug_infs])
def test_integers_are_not_packed_where_nan_is_searched_for(check):
    """The bits of -1 are those of a NaN."""
    x = {"a": jnp.array([-1, 0x7F800000])}
    with compiling_for(GPU), check(True):
        assert packing.packed(x) is x
        chex.assert_trees_all_equal(packing.rows(x)(jnp.array([0])), {"a": jnp.array([-1])})


def test_pieces_without_elements():
    with compiling_for(GPU):
        found = packing.in_pieces(lambda x: (x[0].sum(1), x[0]), (jnp.ones((6, 0)),), 3)
    assert [x.shape for x in found] == [(6,), (6, 0)]


def test_the_state_of_a_packed_loop_keeps_its_structure():
    """A state of another structure is refused there as on a CPU."""

    @dataclasses.dataclass(frozen=True)
    class Renames(rl.Algorithm):
        def update(self, key, env, state):
            return {"b": state["a"]}, {}

    for target in (None, GPU):
        with compiling_for(target), pytest.raises(TypeError, match="carry"):
            run_updates(jax.random.key(0), Renames(), None, {"a": jnp.ones(3)}, 2)


def test_an_update_is_called_on_arrays_without_jit():
    """So that it can be debugged."""
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Sees(rl.Algorithm):
        def update(self, key, env, state):
            seen.append(isinstance(state, jax.core.Tracer))
            return state + 1.0, {}

    with jax.disable_jit():
        state, _ = run_updates(jax.random.key(0), Sees(), None, jnp.ones(()), 2)
    assert (state, seen) == (3.0, [True, False, False])  # the first is for shapes


def test_what_is_packed_only_there():
    x = {"a": jnp.ones((6, 2)), "b": jnp.arange(6)}
    assert packing.packed(x) is x
    assert packing.vectors(x)[1] is x["b"]
    expected = packing.rows(x)(jnp.array([3, 1]))
    means = packing.means({"a": x["a"], "b": 1.0 * x["b"]})
    sums = lambda x: packing.in_pieces(lambda x: x["a"].sum(1) + x["b"], x, 3)
    whole = sums(x)
    with compiling_for(GPU):
        chex.assert_trees_all_equal(packing.rows(x)(jnp.array([3, 1])), expected)
        chex.assert_trees_all_close(packing.means({"a": x["a"], "b": 1.0 * x["b"]}), means)
        with jax.enable_x64(True):
            wide = {"a": jnp.arange(3.0), "b": jnp.arange(3), "c": jnp.arange(3.0, dtype="f")}
            assert [x.dtype.itemsize for x in packing.means(wide).values()] == [8, 8, 4]
        chex.assert_trees_all_equal(sums(x), whole)
        assert len(packing.vectors(x)) == 1


def test_a_packed_replay_is_sampled_as_one_that_is_not():
    buffer = Buffer(capacity=12, length=2, priority=rl.Prioritized())
    item = {"obs": jnp.zeros(3), "action": jnp.int32(0), "done": jnp.bool_(False)}

    def run(key):
        replay = buffer.init(item, num_envs=2)
        for i in range(4):
            obs = jnp.arange(12.0).reshape(2, 2, 3) + 100 * i
            action = jnp.arange(4).reshape(2, 2) + 10 * i
            replay = buffer.add(replay, {"obs": obs, "action": action, "done": action % 3 == 0})
        sample = buffer.sample(key, replay, 4)
        replay = buffer.reprioritize(replay, sample.index, jnp.arange(4.0))
        return sample, buffer.sample(key, replay, 4)

    expected = jax.jit(run)(jax.random.key(1))
    with compiling_for(GPU):
        found = jax.jit(run)(jax.random.key(1))
    chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize("name", ["ppo", "dqn", "prioritized", "sac", "gru"])
def test_a_packed_training_learns_the_same(name):
    """Sums over several arrays at once are rounded differently, and nothing else differs."""
    small = {"network": rl.MLP((4,)), "num_envs": 2, "num_steps": 4}
    replay = small | {"capacity": 32, "batch_size": 4, "warmup": 8, "updates": 2}
    algo, env = {
        "ppo": (TINY.algo, TINY.env),
        "gru": (rl.ppo(memory=rl.GRU(4), minibatches=2, epochs=1, **small), TINY.env),
        "dqn": (rl.dqn(**replay), TINY.env),
        "prioritized": (rl.dqn(priority=rl.Prioritized(), n_step=2, **replay), TINY.env),
        "sac": (rl.sac(**replay), rl.envs.make("Pendulum-v1")),
    }[name]
    training = rl.Training(algo, env, 64, evals=2, episodes=0)
    key = jax.random.key(3)
    expected = jax.jit(training)(key)
    with compiling_for(GPU):
        found = jax.jit(training)(key)
    found, expected = (
        found[1] | {"params": found[0].params},
        expected[1] | {"params": expected[0].params},
    )
    chex.assert_trees_all_close(found, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("target", [GPU, TPU], ids=["gpu", "tpu"])
def test_entries_by_index_have_the_same_values_and_gradients(target):
    x = jax.random.normal(jax.random.key(0), (3, 5, 4)).at[1, 2, 3].set(-jnp.inf)
    index = jnp.arange(15).reshape(3, 5) % 4
    support, p = jnp.linspace(-2.0, 2.0, 6), jnp.full(4, 0.25)
    cases = (
        (lambda x: gathers.last(x, index), x),
        (lambda x: gathers.last(x, index[:1]), x),
        (lambda x: gathers.row(x, jnp.int32(2)), x),
        (lambda x: gathers.row(x[0, 0], jnp.int32(1)), x),
        (lambda x: losses.project(p, x, support), jnp.array([-3.0, -0.3, 1.99, 1.5])),
    )
    for function, at in cases:
        total = lambda x, function=function: (jnp.cos(function(x)).sum(), function(x))
        (_, expected), slope = jax.value_and_grad(total, has_aux=True)(at)
        with compiling_for(target):
            (_, found), found_slope = jax.value_and_grad(total, has_aux=True)(at)
        chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-6)
        chex.assert_trees_all_close(found_slope, slope, rtol=1e-6, atol=1e-6)


SHORT_ROWS = ([2.0, 7.0, 7.0], [-1.0, -jnp.inf, -1.0], [1.0, jnp.nan, 3.0], [jnp.nan] * 3)


@pytest.mark.parametrize("reduce", [gathers.total, gathers.largest, gathers.index_of_largest])
@pytest.mark.parametrize("kind", [jnp.float32, jnp.int32, bool])
def test_reductions_of_a_short_axis_are_those_of_any(reduce, kind):
    """Also of ties, infinities and NaN."""
    x = jnp.array(SHORT_ROWS)
    x = x if kind == jnp.float32 else jnp.nan_to_num(x).astype(kind)
    expected = reduce(x)
    assert expected.shape == (4,)
    with compiling_for(GPU):
        assert (gathers.is_short(3), gathers.is_short(9)) == (True, False)
        text = str(jax.make_jaxpr(reduce)(x))
        found = reduce(x)
    assert "reduce" not in text
    assert "argmax" not in text
    chex.assert_trees_all_equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("priority", [rl.Uniform(), rl.Prioritized()])
def test_the_batches_of_all_gradient_steps_are_drawn_at_once_where_none_changes_them(priority):
    replay = {"capacity": 32, "batch_size": 4, "warmup": 8, "num_envs": 2}
    algo = rl.dqn(priority=priority, updates=3, network=rl.MLP((4,)), **replay)
    state = jax.eval_shape(lambda key: algo.init(key, TINY.env), jax.random.key(0))
    one = dataclasses.replace(algo, updates=1)
    many = dataclasses.replace(algo, updates=1000)
    assert not algo._draws_at_once(state.replay)
    with compiling_for(GPU):
        assert algo._draws_at_once(state.replay) == (priority == rl.Uniform())
        assert not one._draws_at_once(state.replay)
        assert not many._draws_at_once(state.replay)  # all batches would be in memory


def test_only_a_replay_is_packed_on_a_tpu():
    buffer = Buffer(capacity=12)
    with compiling_for(TPU):
        assert not packing.packs()
        assert isinstance(buffer.init({"a": jnp.zeros(3)}, 2).data, packing.Packed)
    assert isinstance(buffer.init({"a": jnp.zeros(3)}, 2).data, dict)


def test_the_record_of_a_sweep_is_the_same_on_each_platform():
    """So that a folder of one goes on on another, and a plan for another can read it."""
    algo = rl.dqn(network=rl.MLP((4,)), num_envs=2, capacity=32, batch_size=4, warmup=8)
    training = rl.Training(algo, TINY.env, 64, evals=2, episodes=0)
    program = lambda: make_record(training, Grid({"seed": [0]}))["run"]["program"]
    here = program()
    with compiling_for(GPU):
        assert program() == here
