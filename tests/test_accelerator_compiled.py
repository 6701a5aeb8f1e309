"""Programs compiled for an H100 that is not here: plans, errors, every algorithm and memory, and a
limit of the launches. Skipped where the compiler is not installed.
"""

import dataclasses
import importlib.metadata
import math
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import MEMBERS, TINY, make
from pages import blocks
from probes import Choice
from test_around import AROUND
from test_memories import MEMORIES

import jaxrl as rl
from experiments import _kits
from experiments._settings import SHAPE, TASKS, Job
from jaxrl import accelerator
from jaxrl.accelerator.tables import format_bytes
from jaxrl.cli import main

H100 = accelerator.target("h100")
MISSING = accelerator.missing_compiler(H100)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
HERE = pathlib.Path(__file__).name
absent = pytest.mark.skipif(bool(H100.local_devices), reason="an H100 is here")


def small(memory):
    """An H100 with so many bytes."""
    return dataclasses.replace(H100, name="small", memory=memory)


# -------------------------------------------------------------------------------------- a function


def test_a_function():
    def power(x):
        return jax.lax.scan(lambda x, _: (x @ x, x.mean()), x, length=50)

    shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    found = accelerator.compile_for(power, (shape,), "h100")
    assert found.compile_seconds > 0
    assert {(), (50,)} >= {each.path for each in found.launches.loops}
    (loop,) = (each for each in found.launches.loops if each.path)
    products = [each for each in loop.kernels if each.flops > 64**3]
    assert [each.flops for each in products] == [2 * 64**3]
    assert products[0].source.startswith(f"{HERE}:")
    assert found.launches.flops >= 50 * 2 * 64**3
    assert found.bytes >= 2 * 64 * 64 * 4
    biggest = found.buffers.arrays[0]
    assert (biggest.shape, biggest.bytes) == ("f32[64,64]", 64 * 64 * 4)
    assert {each.use for each in found.buffers.arrays} >= {"argument", "result"}


@pytest.mark.parametrize("place", [1, -1, (1,)])
def test_a_static_argument(place):
    shape = jax.ShapeDtypeStruct((4,), jnp.float32)
    repeat = lambda x, n: jnp.tile(x, n)
    found = accelerator.compile_for(repeat, (shape, 3), "h100", static_argnums=place)
    assert found.compiled.out_info.shape == (12,)


@absent
def test_a_program_for_an_absent_device_does_not_run():
    found = accelerator.compile_for(jnp.sin, (1.0,), "h100")
    with pytest.raises(accelerator.TargetError, match="h100, which is absent here"):
        found(1.0)


def test_what_is_compiled_for_an_absent_device_is_not_kept(tmp_path):
    """JAX could not read it again."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        accelerator.compile_for(lambda x: x + 1.23, (1.0,), "h100")
        assert list(tmp_path.iterdir()) == []
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# ----------------------------------------------------------------------------------------- errors


@absent
def test_a_call_of_the_host_is_refused_with_its_line():
    def spoken(x):
        jax.debug.print("{}", x)
        return jnp.sin(x)

    line = spoken.__code__.co_firstlineno + 1
    with pytest.raises(accelerator.TargetError, match=rf"debug_print at {HERE}:{line}\)"):
        accelerator.compile_for(spoken, (1.0,), "h100")


def test_an_operation_that_the_target_lacks():
    with pytest.raises(accelerator.TargetError, match=r"h100 lacks .*hessenberg.*on the host"):
        accelerator.compile_for(jax.lax.linalg.hessenberg, (np.eye(3, dtype="f"),), "h100")


@pytest.mark.skipif(
    any(each.name == "nvidia-cusolver" for each in importlib.metadata.distributions()),
    reason="cuSOLVER is installed",
)
def test_a_library_that_the_compiler_lacks():
    """Without cuSOLVER, jaxlib fails while it lowers `eig`; with it, the program compiles."""
    with pytest.raises(accelerator.TargetError, match=r"calls a library .*on the host before"):
        accelerator.compile_for(jnp.linalg.eig, (np.eye(3, dtype="f"),), "h100")


def test_a_program_that_is_too_large_names_its_arrays():
    shape = jax.ShapeDtypeStruct((2**18,), jnp.float32)
    with pytest.raises(accelerator.TargetError, match=r"and h100 has 84\.9 GB") as error:
        accelerator.compile_for(lambda x: jnp.sort(x[:, None] * x[None], 1), (shape,), "h100")
    assert "f32[262144,262144] of 275 GB" in str(error.value)


# ------------------------------------------------------------------------------------------ plans


@pytest.fixture(scope="module")
def plan():
    return rl.plan(TINY, {"seed": jnp.arange(6)}, chunk=4, target="h100")


def test_a_plan_of_a_training(plan):
    found = plan.estimate
    assert (plan.members, plan.chunk, plan.chunks, plan.programs) == (6, 4, 2, 2)
    assert (plan.device, plan.devices, plan.seconds) == (H100.kind, 1, None)
    assert plan.limit_bytes == H100.memory
    init, row = (found.programs[name] for name in ("init", "row"))
    assert found.launches == init.total + TINY.evals * row.total
    assert found.bytes == init.bytes + TINY.evals * row.bytes
    updates = TINY.steps // TINY.algo.steps_per_update
    assert found.per_update == found.launches / updates
    assert found.per_step == found.launches / TINY.steps
    assert found.fits == int(H100.memory / (plan.peak_bytes / 4))
    bounds = [accelerator.roofline(each, H100) for each in (init, row, row)]
    assert found.fastest == pytest.approx(sum(each.fastest for each in bounds))
    assert found.slowest == pytest.approx(sum(each.slowest for each in bounds))
    assert 0 < found.fastest < found.slowest


@absent
def test_the_table_of_a_plan(plan):
    rows = dict(plan.rows())
    found = plan.estimate
    assert rows["target"] == "h100 (NVIDIA H100 80GB HBM3), not present: compiled for it anyway"
    assert rows["fits"] == f"about {found.fits:,} runs at once"
    assert rows["launches"].startswith(f"{found.launches:,} per chunk: ")
    assert rows["bytes moved"] == f"{format_bytes(found.bytes)} per chunk"
    assert re.fullmatch(
        r"at least [\d.]+ [mu]s \(1.5 us a launch, in CUDA graphs\) to [\d.]+ [mu]s "
        r"\(4 us, without them\); compilation comes on top",
        rows["time"],
    )
    assert "in CUDA graphs" in plan._repr_html_()
    kernels = [each for loop in found.programs["row"].loops for each in loop.kernels]
    lines = {each.source for each in kernels if each.source}
    assert {line.partition("/")[0] for line in lines} <= {"jaxrl", "envs"}
    assert len(lines) > 10


@pytest.mark.rotate
def test_a_plan_reads_the_folder_of_a_sweep_of_this_machine(tmp_path):
    rl.sweep(TINY, {"seed": jnp.arange(2)}, folder=tmp_path / "x", progress=False)
    plan = rl.plan(TINY, {"seed": jnp.arange(2)}, folder=tmp_path / "x", target="h100")
    assert (plan.done, plan.left, plan.device) == (2, 0, H100.kind)


def square(x):
    return {"y": jnp.sort(jnp.outer(x * jnp.arange(512.0), jnp.arange(512.0)), 1).sum()}


def test_a_plan_of_a_function():
    plan = rl.plan(square, {"x": jnp.arange(8.0)}, target="h100")
    found = plan.estimate
    assert (plan.chunk, plan.programs, plan.steps) == (8, 1, None)
    assert (found.per_update, found.per_step) == (None, None)
    assert found.launches == found.programs["run"].total > 0
    assert "an update" not in str(plan)


def test_a_plan_with_static_axes():
    def run(x, rows):
        return {"y": (x * jnp.arange(rows)).sum()}

    plans = rl.plan(run, {"x": jnp.arange(8.0)}, static={"rows": (64, 128)}, target="h100")
    assert list(plans.groups) == ["rows=64", "rows=128"]
    assert all(each.estimate.target == H100 for each in plans.groups.values())
    assert str(plans).count("h100 (NVIDIA") == 2


@pytest.mark.parametrize("chunk", [None, 8])
def test_a_chunk_is_as_large_as_the_memory(chunk, capsys):
    """Whether it is given or not."""
    whole = rl.plan(square, {"x": jnp.arange(8.0)}, target="h100").peak_bytes
    plan = rl.plan(square, {"x": jnp.arange(8.0)}, chunk=chunk, target=small(whole // 2))
    assert plan.peak_bytes <= whole // 2
    assert plan.chunks == math.ceil(8 / plan.chunk) > 1
    assert ("did not fit" in capsys.readouterr().out) == (chunk is not None)


def test_one_run_that_does_not_fit():
    with pytest.raises(accelerator.TargetError, match=r"One run takes .*, and small has") as error:
        rl.plan(square, {"x": jnp.arange(8.0)}, target=small(100_000))
    assert "small has 100 kB: use smaller arrays (replay buffer" in str(error.value)
    assert "f32[512,512]" in str(error.value)


SMALL = "--num-envs 2 --num-steps 8 --minibatches 1 --epochs 1 --hidden 4 --steps 64 --evals 1"


@pytest.mark.rotate
def test_the_command_line(in_process, capsys):
    words = f"train ppo CartPole-v1 {SMALL} --seeds 3 --episodes 0 --plan --target h100"
    main(words.split())
    shown = capsys.readouterr().out
    for row in ("target", "fits", "launches", "bytes moved", "time"):
        assert re.search(rf"^{row} ", shown, re.MULTILINE), shown
    assert "devices         1 of kind NVIDIA H100 80GB HBM3" in shown


@pytest.mark.rotate
def test_the_programs_of_the_page(in_process, capsys):
    """As they are printed there; they are one program."""
    page = blocks.blocks(blocks.ROOT / "docs" / "accelerators.md")
    exec("".join(block.text for block in page), {})
    shown = capsys.readouterr().out
    for title in ("\nlaunches ", "\nby kind\n", "arrays\nsize ", "\nh100: at least "):
        assert title in shown


@pytest.mark.rotate
@pytest.mark.parametrize("name", sorted(set(accelerator.target_names()) - {"h100"}))
def test_every_target_compiles(name):
    target = accelerator.target(name)
    if reason := accelerator.missing_compiler(target):
        pytest.skip(reason)
    # a process of its own: libtpu ends one with a flag that it does not know, as conftest.py sets
    code = (
        "import jax.numpy as jnp; from jaxrl.accelerator import compile_for; "
        f"print(compile_for(jnp.square, (jnp.ones(3),), {name!r}).launches.total)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


# -------------------------------------------------------------- every algorithm and every memory


def trained(algo, env, updates=2):
    """A program of two members: initialisation and updates."""
    training = rl.Training(algo, env, updates * algo.steps_per_update, evals=1, episodes=0)
    return jax.vmap(lambda key: training.run_row(key, training.init(key), 0)[1])


MOST_KERNELS, MOST_BYTES = 1_000, 16e6  # of one trip of a loop; of a tiny member


def check_compiled(function):
    """Nothing calls the host or waits for it: libraries of CUDA are all that is called, loops have
    as many trips as was known before; no trip launches thousands of kernels, no member is large.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    found = accelerator.compile_for(function, (keys,), "h100")
    loops = found.launches.loops
    called = [each for each in found.launches.by_kind if each.startswith("custom-call")]
    assert all(each.startswith("custom-call __cu") for each in called), called
    assert {(each.label, each.source) for each in loops if None in each.path} == set()
    most = max(loops, key=lambda each: len(each.kernels) if each.path else 0)
    assert 0 < len(most.kernels) <= MOST_KERNELS, (most.label, most.source)
    assert 0 < found.bytes <= 2 * MOST_BYTES, str(found.buffers)


@pytest.mark.rotate(16)
@pytest.mark.parametrize("name", MEMBERS)
def test_every_preset_compiles(name):
    algo = make(name)
    boxes = isinstance(algo, rl.OffPolicy) and algo.learner.action_spaces == (rl.Box,)
    env = rl.envs.make("Pendulum-v1") if boxes else Choice()
    check_compiled(trained(algo, env))


def test_every_preset_is_a_member():
    assert set(MEMBERS) == set(rl.PRESETS)


@pytest.mark.rotate(16)
@pytest.mark.parametrize("name", MEMORIES)
def test_every_memory_compiles(name):
    algo = dataclasses.replace(TINY.algo, memory=MEMORIES[name])
    check_compiled(trained(algo, TINY.env))


@pytest.mark.rotate(16)
@pytest.mark.parametrize("name", AROUND)
def test_every_algorithm_around_others_compiles(name):
    algo, env, _ = AROUND[name]
    check_compiled(trained(algo, env))


# ------------------------------------------------------------------------------- the launches held

MEMBERS_HELD, UPDATES = 1024, 100


@dataclasses.dataclass(frozen=True)
class Held:
    """The most that a training may launch.

    step: per environment step of a run, all together. loops: kernels of one trip of a loop, named
    by its numbers of trips; of several with the same numbers the largest counts.
    """

    step: float
    loops: dict[tuple[int, ...], int]


# updates, then steps of a rollout or minibatches of all epochs; or gradient steps
LAUNCHES = {
    "ppo": Held(3.82, {(100,): 44, (100, 128): 9, (100, 16): 39}),
    "dqn": Held(16.1, {(100,): 35, (100, 5): 25}),
    "sac": Held(89.4, {(100,): 89}),
    "pqn": Held(5.43, {(100,): 35, (100, 128): 15, (100, 16): 44}),
}


def training_of(name):
    """The training of experiments.speed, without evaluation; PQN at the sizes of PPO."""
    if name == "pqn":
        sizes = {"epochs": SHAPE["num_epochs"], "minibatches": SHAPE["num_minibatches"]}
        algo = rl.pqn(num_envs=SHAPE["num_envs"], num_steps=SHAPE["num_steps"], **sizes)
        env = TASKS["ppo"].env
    else:
        algo, env = _kits.algorithm(Job("jaxrl", 1, 1, name)), TASKS[name].env
    return rl.Training(algo, rl.envs.make(env), UPDATES * algo.steps_per_update, 1, 0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.rotate] * (name != "ppo")) for name in LAUNCHES]
)
def test_launches_do_not_creep_up(name):
    """Of the program of one row, with the states of the members as its arguments."""
    held, training = LAUNCHES[name], training_of(name)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), MEMBERS_HELD))
    states = jax.eval_shape(jax.vmap(training.init), keys)
    row = jax.vmap(lambda key, state: training.run_row(key, state, 0))
    found = accelerator.compile_for(row, (keys, states), "h100", donate_argnums=1).launches
    loops = {}
    for each in found.loops:
        loops[each.path] = max(loops.get(each.path, 0), len(each.kernels))
    now = Held(found.total / training.steps, {path: loops.get(path, 0) for path in held.loops})
    print(f'\n    "{name}": {now},')
    assert now.step <= held.step, (now, str(found))
    assert all(0 < now.loops[path] <= most for path, most in held.loops.items()), (now, str(found))
