"""`sweep`: names, order, chunks, folders, devices, the compilation cache, and errors."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from members import TINY
from probes import Choice

import envs
import jaxrl as rl
from jaxrl import rollout
from jaxrl.sweep import executor, provenance

SMALL = dict(network=rl.MLP((4,)), num_envs=2, num_steps=4, minibatches=1, epochs=1)
AXES = {"lr": jnp.array([1e-3, 1e-2]), "gamma": jnp.array([0.5, 0.9, 0.99]), "seed": jnp.arange(3)}


def product(a, b, c):
    return {"value": a * 100 + b * 10 + c, "nested": {"vector": jnp.array([a, b])}}


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.sampled_from([(1, 1, 1), (2, 1, 3), (4, 3, 2), (3, 4, 4)]),
    chunk=st.sampled_from([1, 3, 20]),
)
def test_every_config_is_at_its_labels(sizes, chunk):
    axes = {name: jnp.arange(n) for name, n in zip("abc", sizes, strict=True)}
    results = quiet(product, axes, chunk=chunk)
    assert results["value"].dims == ("a", "b", "c")
    for a in range(sizes[0]):
        for b in range(sizes[1]):
            for c in range(sizes[2]):
                assert results["value"].sel(a=a, b=b, c=c) == a * 100 + b * 10 + c
    assert results["nested.vector"].shape == (*sizes, 2)


def test_a_training_is_swept_by_the_names_of_its_fields():
    results = quiet(TINY, AXES | {"objective.clip": jnp.array([0.1, 0.3])})
    assert results["return"].dims == ("lr", "gamma", "seed", "objective.clip", "step")
    alone = quiet(
        rl.tree.put(TINY, {"lr": 1e-2, "gamma": 0.9, "clip": 0.3}),
        {"seed": jnp.array([2])},
    )
    at = {"lr": 1e-2, "gamma": 0.9, "seed": 2, "objective.clip": 0.3}
    np.testing.assert_allclose(results["loss"].sel(at), alone["loss"].sel(seed=2), rtol=1e-4)


def test_a_stepped_training_equals_the_whole():
    stepped = quiet(TINY, {"seed": jnp.arange(2)})
    whole = quiet(lambda seed: TINY(seed)[1], {"seed": jax.vmap(jax.random.key)(jnp.arange(2))})
    for name in ("return", "loss", "entropy", "grad_norm", "step", "episodes"):
        np.testing.assert_allclose(stepped[name], whole[name], rtol=1e-4, err_msg=name)


def test_a_report_has_the_mean_return_of_the_running_members():
    reports = []
    results = rl.sweep(TINY, {"seed": jnp.arange(8)}, progress=reports.append)
    expected = []
    for row in range(TINY.evals):
        values = np.sort(results["return"].isel(step=row).values)
        values = values[np.isfinite(values)]
        quarter = len(values) // 4
        expected.append(values[quarter : len(values) - quarter].mean())
    assert [report.score for report in reports[:2]] == pytest.approx(expected)
    assert np.isfinite(expected).all()


def test_the_program_of_the_readme(tmp_path):
    def run(lr, gamma, seed):
        return rl.train(
            seed, rl.ppo(lr=lr, gamma=gamma, **SMALL), envs.make("CartPole-v1"), steps=640
        )[1]

    axes = {
        "lr": jnp.geomspace(1e-4, 1e-2, 2),
        "gamma": jnp.array([0.9, 0.99]),
        "seed": jax.random.split(jax.random.key(0), 3),
    }
    reports = []
    results = rl.sweep(run, axes, folder=tmp_path / "x", progress=reports.append)
    assert results["return"].sel(gamma=0.99).dims == ("lr", "seed", "step")
    assert results["step"].values.tolist() == [64 * i for i in range(1, 11)]
    xr.testing.assert_identical(results, rl.load(tmp_path / "x"))
    assert len(reports) > 3  # also inside the chunk
    assert reports[-1].done == reports[-1].members == 12
    assert all(0 <= r.fraction <= 1 for r in reports)


def test_a_stopped_sweep_resumes_bit_for_bit(tmp_path):
    whole = quiet(TINY, AXES, chunk=4, folder=tmp_path / "whole")

    def stop(report):
        if report.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        rl.sweep(TINY, AXES, chunk=4, folder=tmp_path / "cut", progress=stop)
    assert "8 of 18 runs have finished" in stopped.value.__notes__[0]
    partial = rl.load(tmp_path / "cut")
    assert np.isfinite(partial["loss"]).all("step").sum() == 8
    fresh = []
    resumed = rl.sweep(TINY, AXES, folder=tmp_path / "cut", progress=fresh.append)
    assert min(report.done for report in fresh) >= 8
    assert resumed.attrs["chunk"] == 4
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


def test_without_a_folder_the_exception_holds_the_results_so_far():
    def stop(report):
        if report.done >= 8:
            raise RuntimeError("out of patience")

    with pytest.raises(RuntimeError) as stopped:
        rl.sweep(TINY, AXES, chunk=4, progress=stop)
    assert np.isfinite(stopped.value.results["loss"]).all("step").sum() == 8


def test_a_damaged_chunk_is_run_again(tmp_path, capsys):
    whole = quiet(TINY, AXES, chunk=6, folder=tmp_path / "x")
    chunk = sorted((tmp_path / "x" / "members").iterdir())[1]
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    (tmp_path / "x" / "results.nc").unlink()
    again = quiet(TINY, AXES, folder=tmp_path / "x")
    assert "damaged" in capsys.readouterr().out
    np.testing.assert_array_equal(whole["loss"], again["loss"])


def test_another_sweep_in_the_folder_is_refused_and_left_alone(tmp_path):
    quiet(TINY, AXES, folder=tmp_path / "x")
    before = (tmp_path / "x" / "results.nc").read_bytes()
    other = rl.tree.put(TINY, {"lam": 0.5})
    with pytest.raises(
        ValueError, match=r"another sweep.*\n  run\.algo\.rule\.lam: 0\.95 there, 0\.5 here"
    ):
        quiet(other, AXES, folder=tmp_path / "x")
    with pytest.raises(ValueError, match=r"axes\.lr"):
        quiet(TINY, AXES | {"lr": jnp.array([1.0])}, folder=tmp_path / "x")
    assert (tmp_path / "x" / "results.nc").read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("my life's work")
    with pytest.raises(FileExistsError, match="Nothing was changed"):
        quiet(TINY, AXES, folder=tmp_path / "full")


def test_a_function_is_identified_by_its_program(tmp_path):
    axes = {"a": jnp.arange(2)}
    quiet(lambda a: {"y": a + 1.0}, axes, folder=tmp_path / "x")
    quiet(lambda a: {"y": a + 1.0}, axes, folder=tmp_path / "x")  # the same again
    with pytest.raises(ValueError, match=r"run\.program"):
        quiet(lambda a: {"y": a + 2.0}, axes, folder=tmp_path / "x")


def test_the_policy_of_a_member_is_the_one_that_was_trained(tmp_path):
    training = rl.Training(
        rl.ppo(**SMALL | dict(lr=1e-2, normalize_obs=True)), Choice(), 640, evals=2
    )
    results = quiet(
        training,
        {"lr": jnp.array([1e-9, 3e-2]), "seed": jnp.array([5, 7])},
        folder=tmp_path / "x",
        chunk=2,
    )
    assert rl.best(results)["lr"] == 3e-2
    policy = rl.policy(tmp_path / "x", training, lr=3e-2, seed=7)
    assert rl.evaluate(jax.random.key(0), Choice(), policy, 2).tolist() == [1.0, 1.0]
    episode = rollout.reset(jax.random.key(0), Choice(), policy.rnn_state)
    assert policy(jax.random.key(0), episode)[1] == 1
    state, _ = jax.jit(rl.tree.put(training, {"lr": 3e-2}))(jax.random.key(7))
    np.testing.assert_allclose(
        jax.tree.leaves(policy.agent.params)[1], jax.tree.leaves(state.params)[1], atol=1e-4
    )
    with pytest.raises(ValueError, match="seed=8 was not swept"):
        rl.policy(tmp_path / "x", training, lr=3e-2, seed=8)


def test_a_diverged_member_is_marked_and_changes_no_other():
    alone = quiet(TINY, {"lr": jnp.array([1e-3]), "seed": jnp.arange(3)})
    results = quiet(TINY, {"lr": jnp.array([1e-3, 3e38]), "seed": jnp.arange(3)})
    np.testing.assert_array_equal(results["diverged"].any("step"), [[False] * 3, [True] * 3])
    np.testing.assert_allclose(results["loss"].isel(lr=0), alone["loss"].isel(lr=0), rtol=1e-4)


def test_a_chunk_that_does_not_fit_is_halved(monkeypatch, capsys):
    run_chunk, widths = executor.Executor._run_chunk, []

    def tight(self, work, store, program, width, first, last):
        widths.append(width)
        if width > 4:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."
            )
        return run_chunk(self, work, store, program, width, first, last)

    monkeypatch.setattr(executor.Executor, "_run_chunk", tight)
    results = quiet(TINY, AXES, chunk=16)
    assert np.isfinite(results["loss"]).all()
    assert widths[:3] == [16, 8, 4]
    assert results.attrs["chunk"] == 4
    assert "continuing with 8" in capsys.readouterr().out


def test_the_chunk_is_chosen_from_the_free_memory(monkeypatch):
    monkeypatch.setattr(executor, "free_bytes", lambda: 60_000)
    results = quiet(TINY, AXES | {"seed": jnp.arange(30)})
    assert results.attrs["chunk"] < 100
    assert np.isfinite(results["loss"]).all()


@pytest.mark.parametrize(
    ("run", "over", "message"),
    [
        (product, {"a": jnp.arange(2), "b": jnp.arange(2), "c": jnp.array([])}, "length 0"),
        (product, {"a": jnp.arange(2), "b": jnp.arange(2), "c": 3.0}, "single value"),
        (
            product,
            {"a": jnp.arange(2), "b": jnp.arange(2), "cc": jnp.arange(2)},
            "takes no 'cc'.*nearest are c",
        ),
        (product, {"a": jnp.arange(2)}, "needs b, c"),
        (product, {}, "sweeps nothing"),
        (TINY, {"seed": jnp.arange(2), "gama": jnp.arange(2.0)}, "no field 'gama'.*gamma"),
        (TINY, {"gamma": jnp.arange(2.0)}, "at least 'seed'"),
        (lambda a: {"a": a}, {"a": jnp.arange(2)}, "also a swept name"),
    ],
)
def test_wrong_arguments_are_explained(run, over, message):
    with pytest.raises(ValueError, match=message):
        quiet(run, over)


def test_static_names_wrong_outputs_and_old_keywords_are_explained():
    with pytest.raises(TypeError, match="'num_envs' is static"):
        quiet(TINY, {"seed": jnp.arange(2), "num_envs": jnp.array([2, 4])})
    with pytest.raises(TypeError, match="needs a dictionary of arrays"):
        quiet(lambda a: a, {"a": jnp.arange(2)})
    with pytest.raises(ValueError, match="not a positive whole number of runs"):
        quiet(product, AXES, chunk=0)
    with pytest.raises(
        TypeError, match=r"memory_limit= instead of memory=: write memory_limit='4GB'"
    ):
        quiet(TINY, AXES, memory="4GB")
    with pytest.raises(TypeError, match="takes no 'chunks'"):
        quiet(TINY, AXES, chunks=4)


def test_a_folder_without_a_sweep_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        rl.load(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        rl.load(tmp_path)


def test_the_card_describes_the_run(tmp_path):
    results = quiet(TINY, AXES, folder=tmp_path / "x")
    run, versions = json.loads(results.attrs["run"]), json.loads(results.attrs["versions"])
    assert run["algo"]["rule"]["gamma"] == 0.99
    assert run["algo"]["network"] == provenance.describe(rl.MLP((4,)))
    assert versions["jax"] == jax.__version__
    assert json.loads(results.attrs["machine"])["devices"] == jax.local_device_count()
    assert results.attrs["compile_seconds"] > 0
    assert "0x" not in results.attrs["run"]


TWO_DEVICES = """
    import jax, jax.numpy as jnp, numpy as np, sys
    import jaxrl as rl, envs
    if sys.argv[1] == "2":
        assert rl.use_all_cores(2) == 2
    training = rl.Training(rl.ppo(num_steps=16), envs.make("CartPole-v1"), 640, evals=2)
    results = rl.sweep(training, {"seed": jnp.arange(64)}, progress=False, chunk=64)
    np.savez(sys.argv[2], **{name: results[name].values for name in ("return", "loss", "entropy")})
"""


@pytest.mark.rotate
def test_64_seeds_on_two_host_devices_with_the_default_initialiser(tmp_path):
    """An initialiser that runs a QR hangs there. The same members as on one device, up to the order
    of float sums.
    """
    found = []
    for devices in ("1", "2"):
        out = tmp_path / f"{devices}.npz"
        words = [sys.executable, "-c", textwrap.dedent(TWO_DEVICES), devices, str(out)]
        subprocess.run(words, check=True, timeout=300)
        found.append(np.load(out))
    for name in found[0].files:
        np.testing.assert_allclose(
            found[0][name][:, 0], found[1][name][:, 0], rtol=1e-2, atol=1e-3, err_msg=name
        )


def test_an_option_of_the_optimiser_is_swept_by_its_name():
    results = quiet(TINY, {"eps": jnp.array([1e-5, 1.0]), "seed": jnp.arange(2)})
    other = rl.tree.replace(TINY, algo=rl.tree.put(TINY.algo, {"optimizer.options.eps": 1.0}))
    np.testing.assert_allclose(
        results["loss"].sel(eps=1.0), quiet(other, {"seed": jnp.arange(2)})["loss"], rtol=1e-4
    )
    assert not np.allclose(results["loss"].sel(eps=1.0), results["loss"].sel(eps=1e-5))


CACHE = """
    import jax, jax.numpy as jnp, os, pathlib, sys
    before = dict(jax.config.values)
    import jaxrl as rl
    changed = [name for name, value in jax.config.values.items() if value != before[name]]
    assert not changed, changed
    jnp.arange(3) + 1  # jax has compiled, and decided on a cache
    rl.sweep(lambda a: {"y": jnp.sin(a)}, {"a": jnp.arange(2.0)}, progress=False)
    print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("own", [True, False])
def test_the_compilation_cache_is_set_by_a_sweep_and_not_by_the_import(own, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "home")}
    env |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")} if own else {}
    words = [sys.executable, "-c", textwrap.dedent(CACHE)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "own" if own else tmp_path / "home" / "jaxrl" / "xla"
    assert done.stdout.split() == [str(folder)]
    assert any(folder.iterdir())
