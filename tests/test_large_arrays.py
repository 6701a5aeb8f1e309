"""Large arrays of a training: arguments of its program, and files beside its record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import TINY
from probes import Choice

import jaxrl as rl
from jaxrl import tree
from jaxrl.sweep.arrays import LARGE, is_large
from jaxrl.sweep.grid import Grid, bind
from jaxrl.sweep.program import Stepped

DATA = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)  # 1 MB


@rl.pytree
class Recorded(Choice):
    """Observations read from a data set."""

    data: jax.Array | None = None

    def reset(self, key):
        state, _ = super().reset(key)
        return state, self.data[jax.random.randint(key, (), 0, len(self.data)), :1]

    def step(self, key, state, action):
        state, result = super().step(key, state, action)
        return state, tree.replace(result, obs=self.data[0, :1])


def training(data):
    return tree.replace(TINY, env=Recorded(data=data))


SEEDS = {"seed": jnp.arange(2)}


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


def test_partition_is_undone_by_combine():
    nested = {"a": DATA, "b": (1.0, jnp.zeros(3)), "c": None}
    large, combine = tree.partition(nested, is_large)
    assert [x.shape for x in large] == [DATA.shape]
    jax.tree.map(np.testing.assert_array_equal, combine(large), nested)
    assert combine([5.0])["a"] == 5.0


def test_a_large_array_is_an_argument_of_the_program():
    grid = Grid(SEEDS)
    run = training(DATA)
    program = Stepped(bind(run, grid), run, grid.configs(np.arange(2)), 1, keep=False)
    for traced in program.traced:
        sizes = [np.size(x) * 4 for x in traced.jaxpr.consts if not hasattr(x, "aval")]
        assert max(sizes, default=0) <= LARGE
        assert DATA.shape in [x.shape for x in traced.jaxpr.in_avals]
        assert len(traced.lower().as_text()) < DATA.nbytes


def test_a_record_is_small_and_the_folder_enough(tmp_path):
    results = quiet(training(jnp.asarray(DATA)), SEEDS, folder=tmp_path / "x")
    assert (tmp_path / "x" / "sweep.json").stat().st_size < 20_000
    (file,) = (tmp_path / "x" / "arrays").iterdir()
    assert file.stat().st_size < DATA.nbytes + 1000
    assert len(results.attrs["run"]) < 5_000
    np.testing.assert_array_equal(results["loss"], quiet(training(DATA), SEEDS)["loss"])


def test_a_changed_array_is_refused(tmp_path):
    quiet(training(DATA), SEEDS, folder=tmp_path / "x")
    quiet(training(DATA.copy()), SEEDS, folder=tmp_path / "x")
    changed = DATA.copy()
    changed[7, 7] += 1
    with pytest.raises(ValueError, match=r"another sweep(.|\n)*run\.env\.data\.sha256"):
        quiet(training(changed), SEEDS, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"another training(.|\n)*training\.env\.data\.sha256"):
        rl.policy(tmp_path / "x", training(changed), seed=0)
    rl.policy(tmp_path / "x", training(DATA), seed=0)


def test_a_large_axis_is_known_by_its_digest():
    grid = Grid({"data": jnp.asarray(DATA.reshape(2, 512, 256)), **SEEDS})
    assert grid.record()["data"]["shape"] == [2, 512, 256]
    assert [x.shape for x in grid.large_arrays] == [(2, 512, 256)]
    assert Grid({"seed": jnp.arange(2 * LARGE)}).large_arrays == []  # its values are its labels
