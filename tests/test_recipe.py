"""A training as JSON and back: equal bit for bit, and a file can run nothing."""

import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import Choice

import envs
import jaxrl as rl
from jaxrl.sweep import arrays, serialize

WORLDS = {
    "CartPole-v1": dict(gravity=5.0, max_steps=20),
    "Acrobot-v1": {},  # its parameters hold arrays
    "GridWorld": dict(goal=jnp.array([1, 2])),
    "MemoryChain": dict(length=3, noise=jnp.float32(0.1)),
    "Catch": dict(rows=4),
    "LPGGrid-rand_small": {},
}


def again(value):
    return serialize.decode(json.loads(json.dumps(serialize.encode(value))))


def assert_equal(a, b):
    assert type(a) is type(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        assert serialize.kind(np.asarray(x)) == serialize.kind(np.asarray(y))
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
        assert getattr(x, "weak_type", None) == getattr(y, "weak_type", None)


PAIRS = [("ppo", world) for world in WORLDS] + [
    (name, "CartPole-v1") for name in rl.PRESETS if name != "ppo"
]


@pytest.mark.parametrize(("name", "world"), PAIRS)
def test_every_algorithm_and_every_environment_come_back(name, world):
    training = rl.Training(
        rl.PRESETS[name](), envs.make(world, **WORLDS[world]), 1000, evals=np.int64(5)
    )
    found = again(training)
    assert_equal(training, found)
    assert found.env.max_steps == training.env.max_steps


@pytest.mark.parametrize(
    "fields",
    [
        dict(network=rl.MLP((8, 4), activation=nn.relu, layer_norm=True), memory=rl.GRU(4)),
        dict(network=rl.CNN((2,), activation=nn.gelu), schedule=rl.Constant()),
        dict(optimizer=optax.rmsprop),
        dict(network=rl.Table(5)),
        dict(
            optimizer=rl.Optimizer(optax.adamw, {"weight_decay": jnp.array([0.1, 0.2]), "b1": 0.8}),
            lr=jnp.asarray(0.1),
        ),
        dict(rule=rl.Surrogate(rl.Clip(float("inf")), lam=-0.0)),
        dict(optimizer=rl.Optimizer(optax.adam, {"eps": float("nan")})),
    ],
)
def test_every_part_comes_back(fields):
    assert_equal(rl.ppo(**fields), again(rl.ppo(**fields)))


def test_spaces_and_robots_come_back():
    assert_equal(
        rl.Box(-jnp.ones(2), jnp.inf, shape=(2,)), again(rl.Box(-jnp.ones(2), jnp.inf, shape=(2,)))
    )
    assert again(rl.MultiDiscrete((2, 3))) == rl.MultiDiscrete((2, 3))
    from envs.from_brax import FromBrax

    assert_equal(envs.distribution("LPGGrid-all"), again(envs.distribution("LPGGrid-all")))
    robot = FromBrax(None, "ant", "mjx", (("use_contact_forces", True),), 50)
    assert again(robot) == robot


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32), max_size=5), st.sampled_from(list(serialize.KINDS)))
def test_arrays_come_back_bit_for_bit(numbers, kind):
    dtype = serialize.KINDS[kind]
    with np.errstate(all="ignore"):
        array = np.asarray(
            np.nan_to_num(numbers) if dtype.kind in "biu" else numbers, np.float32
        ).astype(dtype)
    found = again(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(np.isnan(found.astype(float)), np.isnan(array.astype(float)))
    real = ~np.isnan(array.astype(float))
    assert found[real].tobytes() == array[real].tobytes()


def test_keys_and_empty_arrays_come_back():
    key = jax.random.key(3, impl="rbg")
    assert jax.random.key_impl(again(key)) == jax.random.key_impl(key)
    assert np.array_equal(jax.random.key_data(again(key)), jax.random.key_data(key))
    assert again(jnp.zeros((0, 3))).shape == (0, 3)
    assert again({"a": [1, (2, None)], 3: True}) == {"a": [1, (2, None)], 3: True}


def test_a_dtype_that_jax_has_off_is_explained():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        serialize.decode({"array": [1.0], "dtype": "float64"})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: rl.Training(rl.ppo(), Choice(), 100), "env is probes.Choice"),
        (
            lambda: rl.Training(rl.ppo(network=rl.MLP(activation=lambda x: x)), Choice(), 100),
            r"network.activation is test_recipe\.",
        ),
        (lambda: rl.Optimizer(optax.chain), "build is optax"),
        (lambda: rl.Box(low={1, 2}), "low is builtins.set"),
    ],
)
def test_parts_outside_the_kit_are_named(make, name):
    with pytest.raises(ValueError, match=rf"{name}.*pass training="):
        again(make())


def test_an_environment_wrapped_by_hand_is_outside_the_kit():
    import gymnax

    from envs import from_gymnax

    with pytest.raises(ValueError, match=r"source is gymnax.*CartPole.*pass training="):
        again(from_gymnax.wrap(gymnax.make("CartPole-v1")[0]))


HOSTILE = [
    {"function": "os.system"},
    {"function": "jax.nn.os"},
    {"function": "optax.__builtins__"},
    {"function": ["optax.adam"]},
    {"type": "subprocess.Popen", "fields": {"args": ["true"]}},
    {"type": "os.system", "fields": {}},
    {"type": "jaxrl.sweep.provenance.subprocess.Popen", "fields": {}},  # a chain of attributes
    {"type": "jaxrl.sweep.store.Store", "fields": {}},  # of the kit, but no record
    {"type": "jaxrl.sweep.executor.Progress", "fields": {"members": 1}},
    {"type": "jaxrl.Training", "fields": {}},  # not where it is defined
    {"type": "jaxrl.train.Env", "fields": {}},  # imported there, defined elsewhere
    {"type": "jaxrl.train.np", "fields": {}},
    {"type": "jaxrl.networks._Heads", "fields": {}},
    {"type": "jaxrl.train.__class__", "fields": {}},
    {"type": "jaxrl.__main__.Training", "fields": {}},
    {"type": "jaxrl..train.Training", "fields": {}},
    {"type": "envs../evil.Evil", "fields": {}},
    {"type": "envsevil.Evil", "fields": {}},
    {"type": "evil.Evil", "fields": {}},
    {"type": "gymnax.visualize.visualizer.Visualizer", "fields": {}},
    {"type": "jaxrl.rules.surrogate.Clip", "fields": {"clip": 0.1, "__class__": 1}},
    {"type": "jaxrl.rules.surrogate.Clip", "fields": {"clap": 0.1}},
    {"type": "jaxrl.rules.surrogate.Clip", "fields": [["clip", 0.1]]},
    {"type": "jaxrl.rules.surrogate.Clip", "fields": {}, "call": "run"},
    {"type": "jaxrl.spaces.Discrete", "fields": {}},  # a field is missing
    {"type": "jaxrl.algorithms.on_policy.OnPolicy", "fields": {"num_envs": "many"}},
    {"array": ["a"], "dtype": "float32"},
    {"array": [[1], [1, 2]], "dtype": "int32"},
    {"array": [300], "dtype": "uint8"},
    {"array": [1], "dtype": "object"},
    {"array": [1], "dtype": "O"},
    {"array": [1], "dtype": "float32", "like": 1},
    {"array": [1], "dtype": "key:own"},
    {"array": [1], "dtype": "key:threefry2x32"},
    {"tuple": 5},
    {"dict": [[["a"], 1]]},
    {"dict": [["a"]]},
    {"__reduce__": ["os.system", ["true"]]},
    {},
    {"unknown": "my.Walk"},
]


@pytest.mark.parametrize("found", HOSTILE, ids=str)
def test_other_json_is_refused(found, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(
        "import os, dataclasses\nos.environ['EVIL'] = "
        "'1'\n@dataclasses.dataclass(frozen=True)\nclass Evil: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"\w+"):
        serialize.decode(found)
    with pytest.raises(ValueError, match=r"\w+"):
        serialize.decode({"tuple": [found]})
    assert "EVIL" not in os.environ


def test_reading_imports_nothing_but_the_kit_and_gymnax():
    code = (
        "import sys, json, jaxrl as rl\n"
        "from jaxrl.sweep import serialize\n"
        "before = set(sys.modules)\n"
        "for found in json.loads(sys.argv[1]):\n"
        "    try: serialize.decode(found)\n"
        "    except ValueError: pass\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new & {'evil', 'gymnax', 'brax', 'matplotlib', 'tyro', 'antigravity', "
        "'this'}))"
    )
    found = [
        *HOSTILE,
        {"type": "this.This", "fields": {}},
        {"type": "antigravity.Comic", "fields": {}},
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(found)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_a_large_array_is_known_by_its_digest(dtype, tmp_path):
    data = jnp.arange(2**18).reshape(512, 512).astype(dtype)
    found = serialize.encode({"data": data})
    assert len(json.dumps(found)) < 500
    with pytest.raises(ValueError, match=r"'data'.* known by its digest alone: pass training="):
        serialize.decode(found)
    load = lambda reference: arrays.load(tmp_path, reference)
    with pytest.raises(ValueError, match=r"'data'.* can't be loaded .*: pass training="):
        serialize.decode(found, load=load)
    arrays.save(tmp_path, {"data": data})
    assert_equal(serialize.decode(found, load=load), {"data": data})
    (file,) = (tmp_path / "arrays").iterdir()
    written = file.stat().st_mtime_ns
    arrays.save(tmp_path, {"data": data})  # once
    assert file.stat().st_mtime_ns == written
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="digest does not match"):
        serialize.decode(found, load=load)


@pytest.mark.parametrize("path", ["../x.npy", "arrays/../x.npy", "/etc/passwd", 3])
def test_a_large_array_lies_in_the_folder(path, tmp_path):
    reference = arrays.reference(np.zeros(2**17)) | {"path": path}
    with pytest.raises(ValueError, match="not a file of a sweep's arrays"):
        arrays.load(tmp_path, reference)


def test_a_large_array_executes_nothing(tmp_path):
    reference = arrays.reference(np.zeros(2**17))
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / reference["path"], np.array([print], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"not a \.npy file of a plain array"):
        arrays.load(tmp_path, reference)
