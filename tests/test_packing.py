"""Arrays packed for an accelerator, on a CPU: the same bits, gradients and learning."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import accelerator, gathers, losses, packing
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


@pytest.mark.parametrize("packs_carry", [True, False])
@pytest.mark.parametrize("length", [1, 5])
def test_a_packed_scan_is_a_scan_and_so_are_its_gradients(packs_carry, length):
    def run(scale, xs):
        def step(carry, x):
            count, value, key = carry
            key, now = jax.random.split(key)
            value = jnp.sin(scale * value + x) + 0.1 * jax.random.normal(now, (3,))
            return (count + 1, value, key), {"value": value.sum(), "odd": count % 2 == 1}

        start = jnp.int32(0), jnp.ones(3), jax.random.key(0)
        (count, value, _), rows = packing.scan(step, start, xs, packs_carry)
        return value.sum() + rows["value"].sum(), (count, rows)

    gradient = jax.value_and_grad(run, has_aux=True)
    arguments = jnp.float32(0.7), jnp.linspace(0.0, 1.0, length)
    expected = jax.jit(gradient)(*arguments)
    with compiling_for(GPU):
        assert packing.packs()
        found = jax.jit(gradient)(*arguments)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


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


def test_the_record_of_a_sweep_is_the_same_on_each_platform():
    """So that a folder of one goes on on another, and a plan for another can read it."""
    algo = rl.dqn(network=rl.MLP((4,)), num_envs=2, capacity=32, batch_size=4, warmup=8)
    training = rl.Training(algo, TINY.env, 64, evals=2, episodes=0)
    program = lambda: make_record(training, Grid({"seed": [0]}))["run"]["program"]
    here = program()
    with compiling_for(GPU):
        assert program() == here
