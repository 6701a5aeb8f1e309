"""`plan`, and the memory that a sweep may take: predictions are what happens."""

import dataclasses
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl.cli import main
from jaxrl.sweep import memory

SMALL = dict(network=rl.MLP((8,)), num_envs=2, num_steps=8, minibatches=2, epochs=1)
TRAINING = rl.Training(rl.ppo(**SMALL), Choice(), 320, evals=2, episodes=4)
AXES = {"lr": jnp.array([1e-3, 1e-2]), "seed": jnp.arange(5)}
MINUTES = 5 * 60
# both read /proc/self/statm and set RLIMIT_AS, which other systems lack or do not heed; on Linux
# they are never skipped
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc/self/statm and sets RLIMIT_AS, which are Linux's"
)


def square(a, b):
    return {"value": a * b, "table": jnp.zeros((3, 4))}


def quiet(*args, **kwargs):
    return rl.sweep(*args, progress=False, **kwargs)


def test_several_processes_share_the_chunks(monkeypatch):
    """Of three chunks one process has two, and the time is theirs."""
    monkeypatch.setattr(
        sys.modules["jaxrl.sweep.plan"], "time_chunk", lambda *_: (5.0, "as they say")
    )
    alone, shared = (rl.plan(TRAINING, AXES, chunk=4, processes=count) for count in (1, 2))
    assert (alone.processes, alone.busiest, shared.processes, shared.busiest) == (1, 3, 2, 2)
    assert (alone.seconds, shared.seconds) == (15.0, 10.0)
    assert shared.open_bytes == 2 * alone.open_bytes
    assert "2: the busiest has 2 of these chunks" in str(shared)
    assert "processes" not in str(alone)
    with pytest.raises(ValueError, match="processes=0 is not a positive whole number"):
        rl.plan(TRAINING, AXES, processes=0)


def test_a_plan_of_a_training(tmp_path):
    plan = rl.plan(TRAINING, AXES, chunk=4, folder=tmp_path / "x")
    assert (plan.members, plan.axes, plan.left) == (10, {"lr": 2, "seed": 5}, 10)
    assert (plan.chunk, plan.chunks, plan.devices, plan.programs) == (4, 3, 1, 2)
    assert (plan.steps, plan.eval_steps, plan.eval_share) == (320, 16, 0.05)
    assert plan.total_steps == 10 * 336
    assert plan.seconds > 0
    assert plan.compile_seconds > 0
    assert plan.member_bytes == plan.peak_bytes // 4
    assert 0 < plan.peak_bytes < plan.limit_bytes
    assert not (tmp_path / "x").exists()  # nothing is written
    best = rl.plan(TRAINING, AXES, chunk=4, folder=tmp_path / "x", keep_best=True, probe=False)
    agent = (best.folder_bytes - plan.folder_bytes) // 10  # the bytes of one
    assert agent > 0
    assert best.open_bytes - plan.open_bytes == 2 * 4 * agent
    assert best.peak_bytes - plan.peak_bytes == pytest.approx(
        4 * 3 * agent, abs=4
    )  # old, new, and a checkpoint's
    assert "while a chunk runs" in str(plan)
    for said in ("10 = lr 2 x seed 5", "as given", "5.0%", "3,360", "steps/s"):
        assert said in str(plan)
    results = quiet(TRAINING, AXES, chunk=4, folder=tmp_path / "x")
    assert plan.result_bytes == pytest.approx(results.nbytes, rel=0.2)
    kept = sum(path.stat().st_size for path in (tmp_path / "x").glob("**/*.n*"))
    assert plan.folder_bytes < kept < plan.folder_bytes + 100_000  # the headers of small files

    (tmp_path / "x" / "results.nc").unlink()
    sorted((tmp_path / "x" / "members").iterdir())[1].unlink()
    rest = rl.plan(TRAINING, AXES, folder=tmp_path / "x", probe=False)
    assert (rest.done, rest.left, rest.chunk, rest.chunks) == (6, 4, 4, 1)
    assert rest.total_steps == 4 * 336
    assert "4; 6 are done" in str(rest)
    assert rest.seconds is None
    with pytest.raises(ValueError, match="another sweep"):
        rl.plan(rl.tree.put(TRAINING, {"lam": 0.5}), AXES, folder=tmp_path / "x")
    quiet(TRAINING, AXES, folder=tmp_path / "x")
    done = rl.plan(TRAINING, AXES, folder=tmp_path / "x")
    assert (done.left, done.chunks, done.programs) == (0, 0, 0)
    assert "all runs have finished" in str(done)


def test_a_plan_of_static_axes_is_that_of_each_combination_and_of_all(tmp_path):
    static = {"num_envs": (2, 4), "epochs": (1,)}
    plans = rl.plan(TRAINING, AXES, static=static, folder=tmp_path / "x", probe=False)
    assert list(plans.groups) == ["num_envs=2, epochs=1", "num_envs=4, epochs=1"]
    assert (plans.members, plans.programs, plans.seconds) == (20, 4, None)
    small, large = plans.groups.values()
    assert plans.peak_bytes == large.peak_bytes > small.peak_bytes
    assert "20 in 2 groups" in str(plans)
    assert str(large).splitlines()[1].strip() in str(plans)
    assert "<td>20 in 2 groups" in plans._repr_html_()
    quiet(TRAINING, AXES, static=static, folder=tmp_path / "x")
    done = rl.plan(TRAINING, AXES, static=static, folder=tmp_path / "x", probe=False)
    assert [plan.left for plan in done.groups.values()] == [0, 0]
    assert done.seconds == 0.0


def test_the_time_of_a_function_is_unknown():
    plan = rl.plan(square, {"a": jnp.arange(40.0), "b": jnp.arange(3.0)})
    assert (plan.steps, plan.total_steps, plan.eval_share, plan.seconds) == (None, None, None, None)
    assert "sweep a rl.Training" in str(plan)
    assert plan.chunk_reason.startswith("on a CPU speed gains from no more")
    assert plan.programs == 1
    assert plan.result_bytes == 120 * (1 + 12) * 4
    assert plan.chunk == quiet(square, {"a": jnp.arange(40.0), "b": jnp.arange(3.0)}).attrs["chunk"]
    assert (
        rl.plan(square, {"a": jnp.arange(2.0), "b": jnp.arange(3.0)}).chunk_reason == "all runs fit"
    )
    with pytest.raises(ValueError, match="takes no 'c'"):
        rl.plan(square, {"a": jnp.arange(2.0), "c": jnp.arange(3.0)})


def test_the_table_of_a_notebook_escapes_text():
    plan = dataclasses.replace(
        rl.plan(square, {"a": jnp.arange(2.0), "b": jnp.arange(3.0)}), chunk_reason="<script> & co"
    )
    assert "<td>6 runs: &lt;script&gt; &amp; co</td>" in plan._repr_html_()
    assert plan._repr_html_().count("<tr>") == len(str(plan).splitlines())


def test_the_command_line_plans_without_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rl, "use_all_cores", lambda **words: 1)
    words = (
        "train ppo CartPole-v1 --seeds 3 --num-envs 2 --num-steps 8 --minibatches 2 "
        "--epochs 1 --hidden 8 --steps 320"
    )
    folder = tmp_path / "x"
    main(
        [*words.split(), "--evals", "2", "--plan", "--memory-limit", "2GB", "--folder", str(folder)]
    )
    shown = capsys.readouterr().out
    assert "3 = seed 3" in shown
    assert "limit 2 GB" in shown
    assert not folder.exists()


# ------------------------------------------------------------------------------------------- memory


def test_a_limit_makes_chunks_smaller_and_the_results_stay_equal():
    free = quiet(TRAINING, AXES)
    assert free.attrs["chunk"] == 10
    assert "halved" not in free.attrs
    each = rl.plan(TRAINING, AXES, probe=False).member_bytes
    limit = 4.5 * each
    tight = quiet(TRAINING, AXES, memory_limit=limit)
    plan = rl.plan(TRAINING, AXES, memory_limit=limit, probe=False)
    assert tight.attrs["chunk"] == plan.chunk
    assert plan.chunk < 5
    assert plan.peak_bytes <= limit
    for name in free:
        np.testing.assert_allclose(free[name], tight[name], rtol=1e-4, atol=1e-4, err_msg=str(name))


def test_a_plan_and_a_sweep_choose_the_same_chunk():
    wide = lambda seed: {"y": jnp.sort(jnp.sin(jnp.arange(10_000) + seed)).sum()}
    axes = {"seed": jnp.arange(12)}
    plan = rl.plan(wide, axes, memory_limit="300kB")
    assert plan.chunk_reason == "as many as fit 300 kB"
    assert plan.limit_bytes == 300e3
    assert plan.peak_bytes <= plan.limit_bytes
    assert plan.chunk in range(2, 12)  # neither one member nor all: it was chosen
    assert plan.chunk == quiet(wide, axes, memory_limit="300kB").attrs["chunk"]


def test_a_chosen_chunk_beyond_the_limit_is_halved_before_it_runs(capsys):
    big = lambda seed: {"y": jnp.sort(jnp.sin(jnp.arange(100_000) + seed)).sum()}
    axes = {"seed": jnp.arange(8)}
    tight = quiet(big, axes, chunk=8, memory_limit="2.5MB")
    assert tight.attrs["chunk"] < 8
    assert tight.attrs["halved"].startswith(f"8 to {tight.attrs['chunk']}: ")
    assert tight.attrs["halved"].endswith("do not fit 2.5 MB")
    assert "continuing with" in capsys.readouterr().out
    np.testing.assert_allclose(tight["y"], quiet(big, axes)["y"], rtol=1e-4, atol=1e-4)
    alone = rl.plan(big, axes, memory_limit=1000)
    assert alone.chunk == 1
    assert "one run per device needs" in alone.chunk_reason


@pytest.mark.parametrize(
    ("written", "size"),
    [("4GB", 4e9), ("4 GiB", 2**32), ("500m", 5e8), ("1.5kB", 1500), (1e6, 1e6), (None, None)],
)
def test_amounts_of_memory(written, size):
    assert memory.as_bytes(written) == size


@pytest.mark.parametrize("written", ["lots", "4XB", "-1GB", "", 0, -5, True, "1__0GB", [4]])
def test_wrong_amounts_of_memory_are_explained(written):
    with pytest.raises(ValueError, match=r"not an amount of memory.*4GB"):
        quiet(square, {"a": jnp.arange(2.0), "b": jnp.arange(3.0)}, memory_limit=written)


def machine(root, **files):
    for path, text in files.items():
        place = root / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


def test_a_container_s_limit_counts_and_its_file_cache_is_free(tmp_path):
    free = {"proc__meminfo": "MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n"}
    assert memory.host_free(machine(tmp_path / "none", **free)) == 32_000_000 * 1024
    second = machine(tmp_path / "v2", **free, proc__self__cgroup="0::/job/inner\n")
    group = second / "sys/fs/cgroup/job"
    (group / "inner").mkdir(parents=True)
    texts = {
        "memory.max": "4000000\n",
        "memory.current": "3000000\n",
        "memory.stat": "anon 9\ninactive_file 500000\n",
    }
    for name, text in texts.items():
        (group / name).write_text(text)
        (group / "inner" / name).write_text("max\n" if name == "memory.max" else text)
    assert memory.host_free(second) == 1_500_000
    first = machine(tmp_path / "v1", **free, proc__self__cgroup="9:cpu:/x\n8:memory:/docker/abc\n")
    group = first / "sys/fs/cgroup/memory"  # inside, its own group is the top
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("2000000\n")
    (group / "memory.usage_in_bytes").write_text("2500000\n")
    (group / "memory.stat").write_text("total_inactive_file 100000\n")
    assert memory.host_free(first) == 0


LIMITED = """
    import resource, sys
    import jax, jax.numpy as jnp, numpy as np
    import jaxrl as rl

    def big(seed):  # 16 MB a member and more
        x = jnp.arange(4 * 2**20) * 1e-6 + seed
        return {"y": jax.lax.fori_loop(0, 2, lambda i, x: 0.5 * x + x.mean(), x).mean()}

    axes = {"seed": jnp.arange(64)}
    quiet = lambda **words: rl.sweep(big, axes, progress=False, **words)
    expected = quiet(chunk=8)  # allocates what the process needs in any case
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 320 * 2**20,) * 2)
    careful = quiet(chunk=64)  # reads the limit, and stays below it
    refused = quiet(chunk=64, memory_limit="1TB")  # is given a limit above it
    for results in (careful, refused):
        np.testing.assert_allclose(results["y"], expected["y"], rtol=1e-4)
        print(results.attrs["chunk"], results.attrs["halved"], sep="|")
"""


@LINUX
@pytest.mark.rotate
def test_an_allocation_that_the_system_refuses_halves_the_chunk():
    words = [sys.executable, "-c", textwrap.dedent(LIMITED)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode == 0, done.stderr[-2000:]
    careful, refused = (line.split("|") for line in done.stdout.splitlines() if "|" in line)
    assert careful[1].startswith("64 to ")
    assert refused[1] == f"64 to {refused[0]}: out of memory"
    assert int(refused[0]) < 64
    assert int(careful[0]) < 64


MEASURED = """
    import sys, threading, time
    import jax, jax.numpy as jnp
    import jaxrl as rl
    from jaxrl import tree
    from jaxrl.algorithms.base import Algorithm
    from jaxrl.clock import Clock
    from jaxrl.sweep import executor

    @rl.pytree
    class Wide(rl.Env):  # an observation of 16 kB
        size: int = rl.static(default=4096)
        max_steps: int = rl.static(default=8)
        action_space = rl.Discrete(2)

        def reset(self, key):
            return jnp.float32(0), jnp.zeros(self.size)

        def step(self, key, state, action):
            return state + 1, rl.Step(jnp.full(self.size, state), jnp.float32(1), state > 5, {})

    @rl.pytree
    class Ring:
        params: jax.Array
        clock: Clock
        buffer: jax.Array
        at: jax.Array

    @rl.pytree
    class Replay(Algorithm):  # a buffer of 64 MB, of which updates read and write some
        size: int = rl.static(default=4096)
        steps_per_update = 256

        def agent(self, state):
            return state.params

        def init(self, key, env, num_updates=float("inf")):
            buffer = jnp.zeros((self.size, env.size))
            clock = Clock(jnp.int32(0), jnp.float32(num_updates))
            return Ring(jnp.zeros(4), clock, buffer, jnp.int32(0))

        def update(self, key, env, state):
            key_play, key_learn = jax.random.split(key)
            obs = jax.random.normal(key_play, (256, env.size))
            buffer = jax.lax.dynamic_update_slice(state.buffer, obs, (state.at, 0))
            loss = buffer[jax.random.randint(key_learn, (32,), 0, self.size)].mean()
            at = (state.at + 256) % self.size
            state = tree.replace(state, params=state.params + loss, buffer=buffer, at=at)
            return state, {"return": loss, "length": loss, "episodes": jnp.int32(1), "loss": loss}

    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    def watch():
        while going:
            seen.append(resident())
            time.sleep(0.002)

    def measured(*arguments):
        seen.append(resident())
        thread = threading.Thread(target=watch)
        thread.start()
        try:
            return run_chunk(*arguments)
        finally:
            going.clear()
            thread.join()

    seen, going, run_chunk = [], [True], executor.Executor._run_chunk
    executor.Executor._run_chunk = measured
    small = dict(network=rl.MLP((4,)), epochs=1, minibatches=1)
    algo, steps = {
        "ppo": (rl.ppo(**small, num_envs=32, num_steps=32), 1024),
        "replay": (Replay(), 256 * 16),
        "kept": (Replay(), 256 * 32),
    }[sys.argv[1]]
    training = rl.Training(algo, Wide(), steps, evals=2 if sys.argv[1] == "kept" else 1, episodes=0)
    is_kept = sys.argv[1] == "kept"
    words = {"chunk": 4 if is_kept else 16 if sys.argv[1] == "ppo" else 8}
    words |= {"folder": sys.argv[2]} if is_kept else {}
    over = {"seed": jnp.arange(words["chunk"])}
    plan = rl.plan(training, over, probe=False, **words)
    saving = {"save_seconds": 0.0} if is_kept else {}
    rl.sweep(training, over, progress=False, **words, **saving)
    print(plan.peak_bytes, max(seen) - seen[0], sep="|")
"""


@LINUX
@pytest.mark.rotate
@pytest.mark.parametrize("kind", ["ppo", "replay", "kept"])
def test_the_predicted_peak_is_the_measured_one_within_a_quarter(kind, tmp_path):
    """`kept`: with a folder, a checkpoint makes copies of the states."""
    words = [sys.executable, "-c", textwrap.dedent(MEASURED), kind, str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode == 0, done.stderr[-2000:]
    predicted, measured = map(int, done.stdout.splitlines()[-1].split("|"))
    assert predicted > 200e6
    assert measured == pytest.approx(predicted, rel=0.25)
