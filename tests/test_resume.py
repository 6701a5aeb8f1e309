"""A folder after kills, damage, a full disk or with a second process: a resumed sweep equals one
that never stopped.
"""

import errno
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Choice

import jaxrl as rl
from jaxrl.sweep import checkpoint, store
from jaxrl.sweep.grid import raw

TRAINING = rl.Training(
    rl.ppo(
        network=rl.MLP((8,)), normalize_obs=True, num_envs=2, num_steps=8, minibatches=2, epochs=1
    ),
    Choice(),
    steps=16 * 24,
    evals=12,
    episodes=0,
)
AXES = {"lr": np.array([1e-3, 1e-2], np.float32), "seed": np.arange(3)}


def run(folder, training=TRAINING, **options):
    asked = {"chunk": 2, "save_seconds": 0.0, "progress": False} | options
    return rl.sweep(training, AXES, folder=folder, **asked)


def stop_at(fraction):
    def stop(report):
        time.sleep(0.1)  # for the thread that writes
        if report.fraction >= fraction:
            raise KeyboardInterrupt

    return stop


def stopped(folder, fraction=0.25):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(folder, progress=stop_at(fraction))
    return caught.value


def same_members(one, other):
    """Every file of finished members, bit for bit: curves, parameters and normalisers."""
    paths = sorted(path.name for path in (one / "members").iterdir())
    assert paths == sorted(path.name for path in (other / "members").iterdir())
    for path in paths:
        with np.load(one / "members" / path) as a, np.load(other / "members" / path) as b:
            assert sorted(a.files) == sorted(b.files)
            assert all(a[name].tobytes() == b[name].tobytes() for name in a.files), path
    return len(paths)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "x"
    run(folder)
    return folder


def test_a_stop_inside_a_chunk_resumes_at_its_last_row(tmp_path, whole):
    error = stopped(tmp_path / "x")
    assert "last checkpoint" in error.__notes__[-1]
    reports = []
    run(tmp_path / "x", progress=reports.append)
    assert (
        len(reports) < 3 * 12
    )  # of three chunks of twelve rows, those of the first that were kept are not played again
    before = [
        report.fraction - report.done_now for report in reports
    ]  # what was kept is no speed of this call
    np.testing.assert_allclose(before, before[0], atol=1e-9)
    assert before[0] > 0
    assert same_members(tmp_path / "x", whole) == 3
    assert not list(tmp_path.glob("x/open/*"))


def test_a_replay_buffer_and_its_priorities_are_resumed_too(tmp_path):
    off_policy = rl.dqn(
        network=rl.MLP((8,)),
        num_envs=2,
        batch_size=4,
        capacity=64,
        warmup=8,
        n_step=2,
        priority=rl.Prioritized(),
    )
    training = rl.Training(off_policy, Choice(), steps=2 * 60, evals=12, episodes=0)
    run(tmp_path / "whole", training)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "x", training, progress=stop_at(0.25))
    reports = []
    run(tmp_path / "x", training, progress=reports.append)
    assert len(reports) < 3 * 12
    assert same_members(tmp_path / "x", tmp_path / "whole") == 3


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, whole, capsys):
    stopped(tmp_path / "x")
    *_, before, newest = sorted(tmp_path.glob("x/open/*/*"))
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-20])
    run(tmp_path / "x")
    shown = capsys.readouterr().out
    assert f"{newest} is damaged" in shown
    assert str(before) not in shown
    assert same_members(tmp_path / "x", whole)


def test_flipped_bits_are_detected(tmp_path, whole, capsys):
    stopped(tmp_path / "x")
    *_, newest = sorted(tmp_path.glob("x/open/*/*"))
    file, tree = newest / checkpoint.NAME, checkpoint.restore(newest)
    kept = file.read_bytes()
    turn = lambda place: file.write_bytes(
        kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]
    )
    found = 0
    for place in range(0, len(kept), 97):  # in arrays, in their headers, in the list of them
        turn(place)
        try:
            again = checkpoint.restore(newest)
        except Exception:
            found += 1
        else:  # a date, say
            jax.tree.map(np.testing.assert_array_equal, again, tree)
    assert found > 10
    turn(kept.index(max((x.tobytes() for x in tree.values()), key=len)))
    run(tmp_path / "x")
    assert f"{newest} is damaged (BadZipFile: Bad CRC-32" in capsys.readouterr().out
    assert same_members(tmp_path / "x", whole)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    checkpoint.save(tmp_path / "packed", {"x": np.zeros(1000)})
    np.savez_compressed(tmp_path / "packed" / checkpoint.NAME, x=np.zeros(1000))
    with pytest.raises(ValueError, match="compressed"):
        checkpoint.restore(tmp_path / "packed")
    checkpoint.save(tmp_path / "pipe", {"x": np.zeros(1000)})
    (tmp_path / "pipe" / checkpoint.NAME).unlink()
    os.mkfifo(tmp_path / "pipe" / checkpoint.NAME)
    with pytest.raises(ValueError, match="not a plain file"):
        checkpoint.restore(tmp_path / "pipe")


def test_every_dtype_is_kept(tmp_path):
    start = {
        "half": jnp.zeros(3, jnp.bfloat16),
        "key": jax.random.key(0),
        "byte": jnp.zeros(2, jnp.uint8),
    }
    state = {
        "half": jnp.full(3, 1.5, jnp.bfloat16),
        "key": jax.random.key(7),
        "byte": jnp.full(2, 9, jnp.uint8),
    }
    kept = lambda: checkpoint.Checkpoints(tmp_path, 0, 2, 2, 0.0)
    writer = kept()
    writer.offer(state, [{"loss": np.ones(2)}])
    writer.close(finished=False)
    found, rows = kept().newest(start)
    assert [row["loss"].tolist() for row in rows] == [[1.0, 1.0]]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(raw, found), jax.tree.map(raw, state))
    assert found["half"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("asked", "kept"), [(60.0, [60, 320, 580]), (0.0, list(range(1, 601, 14)))]
)
def test_a_state_that_takes_long_to_save_is_saved_seldom(tmp_path, monkeypatch, asked, kept):
    """A state that takes 13 s, a row a second: next after 13 / 0.05 = 260 s; at every row where
    that is asked for.
    """
    now, saved = [0.0], []

    def slow(path, tree):
        saved.append(int(path.name))
        now[0] += 13.0

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    writer = checkpoint.Checkpoints(tmp_path, 0, 1, 1, asked)
    row = {"loss": np.ones(1)}
    while now[0] < 600:
        now[0] += 1.0
        writer.offer(jnp.zeros(1), [row] * int(now[0]))
        writer._thread.submit(
            lambda: None
        ).result()  # the disk is waited for, so that the clock is one
    writer.close(finished=False)
    assert saved == kept


def test_a_full_disk_costs_checkpoints_and_not_the_run(tmp_path, whole, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    run(tmp_path / "x")
    assert "no checkpoint was kept" in capsys.readouterr().out
    assert same_members(tmp_path / "x", whole)


def test_a_full_disk_at_a_chunk_stops_with_what_is_done(tmp_path, whole, monkeypatch):
    write, calls = store.write, []

    def full(path, put):
        if path.suffix == ".npz" and len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(path) if path.suffix == ".npz" else None
        write(path, put)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        run(tmp_path / "x")
    assert "2 of 6 runs have finished" in caught.value.__notes__[-1]
    assert caught.value.results["loss"].notnull().sum() == 2 * 12
    monkeypatch.setattr(store, "write", write)
    run(tmp_path / "x")
    assert same_members(tmp_path / "x", whole)


def test_another_training_does_not_take_over_an_open_chunk(tmp_path):
    stopped(tmp_path / "x")
    with pytest.raises(ValueError, match=r"run\.algo\.rule\.gamma"):
        run(tmp_path / "x", rl.tree.put(TRAINING, {"gamma": 0.5}))
    assert list(tmp_path.glob("x/open/*/*"))


def test_an_open_chunk_of_another_width_is_cleared_when_its_members_are_done(tmp_path, whole):
    (stale,) = stale_chunk(tmp_path / "x", width=4)
    run(tmp_path / "x")
    assert not stale.exists()
    assert same_members(tmp_path / "x", whole) == 3


def test_the_width_of_the_program_is_kept_after_a_short_last_chunk(tmp_path):
    run(tmp_path / "x", chunk=4)
    (tmp_path / "x" / "results.nc").unlink()
    (tmp_path / "x" / "members" / "00000000-00000004.npz").unlink()
    again = rl.sweep(TRAINING, AXES, folder=tmp_path / "x", progress=False)
    assert again.attrs["chunk"] == 4


def test_keep_best_can_not_start_in_the_middle(tmp_path):
    training = rl.tree.replace(TRAINING, episodes=1, eval_share=1.0)
    run(tmp_path / "x", training)
    with pytest.raises(ValueError, match="keep_best: False there, True here"):
        run(tmp_path / "x", training, keep_best=True)


def test_checkpoints_after_damaged_ones_are_kept(tmp_path):
    stopped(tmp_path / "x")
    for file in tmp_path.glob("x/open/*/*/**/*"):
        if file.is_file():
            file.write_bytes(b"")
    stopped(tmp_path / "x", 0.05)
    rows = [int(path.name) for path in tmp_path.glob("x/open/*/*")]
    assert rows
    assert max(rows) <= 2


def stale_chunk(folder, width):
    with pytest.raises(KeyboardInterrupt):
        run(folder, chunk=width, progress=stop_at(0.3))
    return list(folder.glob("open/*"))


def test_partial_files_of_a_killed_process_are_removed(tmp_path, whole):
    stopped(tmp_path / "x")
    (chunk,) = tmp_path.glob("x/open/*")
    (chunk / "00000009.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "x" / "members" / "00000000-00000002.npz.77.part").write_bytes(b"half")
    run(tmp_path / "x")
    assert same_members(tmp_path / "x", whole) == 3


def test_an_open_chunk_decides_the_width(tmp_path, whole):
    stopped(tmp_path / "x")
    rl.sweep(TRAINING, AXES, folder=tmp_path / "x", progress=False)
    assert same_members(tmp_path / "x", whole) == 3


HOLD = """
import pathlib, sys, time
from jaxrl.sweep import store
lock = store.lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path, whole):
    folder = tmp_path / "x"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"in use by process {holder.pid}"):
            run(folder)
        holder.kill()
    run(folder)
    assert same_members(folder, whole)


def child(folder, log):
    """One attempt; it logs each row."""

    def log_row(report):
        with open(log, "a") as file:
            file.write(f"{report.fraction}\n")

    run(pathlib.Path(folder), progress=log_row)


def attempt(folder, log, rows, patience):
    """Go on in another process, and kill it `patience` seconds after so many rows; True if it was
    killed.
    """
    log.write_text("")
    process = multiprocessing.get_context("spawn").Process(target=child, args=(folder, log))
    process.start()
    while process.is_alive() and log.read_text().count("\n") < rows:
        time.sleep(0.001)
    time.sleep(patience)
    if was_alive := process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert was_alive or process.exitcode == 0
    return was_alive


@pytest.mark.parametrize(
    "kills",
    [
        2,
        pytest.param(6, marks=pytest.mark.rotate),
        pytest.param(50, marks=pytest.mark.nightly),
    ],
)
def test_kills_at_random_moments_lose_nothing(kills, tmp_path, whole):
    """Finished chunks are never written again, and a sweep that was resumed many times equals one
    that never stopped.
    """
    draw, killed, sweeps, written = random.Random(kills), 0, 0, {}
    while killed < kills:
        folder = tmp_path / f"x{sweeps}"
        was_killed = attempt(folder, tmp_path / "log", draw.randint(0, 8), draw.random() * 0.2)
        for path in folder.glob("members/*.npz"):
            assert written.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
        killed, sweeps = killed + was_killed, sweeps + (not was_killed)
    for folder in sorted(tmp_path.glob("x*")):
        run(folder)
        assert same_members(folder, whole) == 3
    assert all(path.stat().st_mtime_ns == time_written for path, time_written in written.items())
