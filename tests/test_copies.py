"""Copies of trainings: pickle, cloudpickle and deepcopy keep what identifies them."""

import copy
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl as rl
from jaxrl.sweep import provenance, serialize
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.record import make_record


def cloudpickled(value):
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(value))


COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "cloudpickle": cloudpickled,
}
PARTS = {
    "memory": rl.ppo(memory=rl.GRU(4), network=rl.MLP((8,), activation=jax.nn.gelu)),
    "transformer": rl.ppo(memory=rl.GTrXL(4)),
    "cnn": rl.dqn(network=rl.CNN((2,), activation=jax.nn.relu)),
    "views": rl.sac(network=rl.MLP((8,), activation=jax.nn.relu6, layer_norm=True)),
    "options": rl.ppo(optimizer=rl.Optimizer(options={"eps": 1e-5})),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", [*rl.PRESETS, *PARTS])
def test_a_copy_is_equal_and_has_the_record_of_the_original(name, way):
    algo = PARTS[name] if name in PARTS else rl.PRESETS[name]()
    training = rl.Training(algo, envs.make("CartPole-v1"), 1000)
    found = COPIES[way](training)
    leaves = jax.tree.leaves(training)
    assert all(map(np.array_equal, jax.tree.leaves(found), leaves))
    assert any(map(np.ndim, leaves)) or found == training  # an equality of arrays is no bool
    assert jax.tree.structure(found) == jax.tree.structure(training)
    assert provenance.describe(found) == provenance.describe(training)
    assert serialize.encode(found) == serialize.encode(training)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_continues_the_sweep_of_its_original(way):
    training = rl.Training(rl.reinforce(num_envs=2, num_steps=4), envs.make("Catch"), 8, evals=1)
    programs = [
        make_record(each, Grid({"seed": [0]}))["run"]["program"]
        for each in (training, COPIES[way](training))
    ]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("world", ["Acrobot-v1", "Catch", "LPGGrid-rand_small"])
@pytest.mark.parametrize("way", COPIES)
def test_arrays_and_wrappers_are_copied_too(world, way):
    env = envs.RewardScale(envs.make(world), jnp.float32(0.5))
    found = COPIES[way](rl.Training(rl.ppo(lr=jnp.array([1e-3, 2e-3])), env, 1000))
    assert serialize.encode(found.env) == serialize.encode(env)
    assert serialize.encode(found.algo) == serialize.encode(rl.ppo(lr=jnp.array([1e-3, 2e-3])))


def test_a_pickle_is_read_by_another_process(tmp_path):
    path = tmp_path / "training.pickle"
    path.write_bytes(pickle.dumps(rl.ppo(network=rl.MLP((8,), activation=jax.nn.elu))))
    code = (
        "import pickle, pathlib, sys, jax, jaxrl as rl\n"
        "found = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "assert found == rl.ppo(network=rl.MLP((8,), activation=jax.nn.elu))"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)


def test_functions_without_a_name_are_copied_as_jax_copies_them():
    double = jax.jit(lambda x: 2 * x)
    assert cloudpickled(double)(3.0) == 6.0
    assert copy.deepcopy(double)(3.0) == 6.0
