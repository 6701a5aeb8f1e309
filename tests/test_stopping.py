"""Signals, and what a stopped sweep says. Only the last test compiles, and TINY alone."""

import os
import signal
import threading

import numpy as np
import pytest
import xarray as xr
from members import TINY

import jaxrl as rl
from jaxrl.sweep import stopping
from jaxrl.sweep.partial import attach_partial, note_partial

SEEDS = {"seed": np.arange(4)}
RESULTS = xr.Dataset({"return": ("seed", np.ones(8))})


def note(folder, done, error=KeyboardInterrupt):
    stop = error()
    attach_partial(stop, RESULTS, done)
    note_partial(stop, 8, folder)
    return stop.__notes__[0]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sweep.json").touch()
    return tmp_path


def test_a_process_that_ends_without_a_folder_says_that_results_are_lost():
    lost = "3 of 8 runs had finished, and are lost: a folder saves them."
    assert note(None, 3, SystemExit) == lost


@pytest.mark.parametrize("chunk", ["open", "static/001/open"])
def test_a_checkpoint_is_promised_only_if_there_is_one(chunk, folder):
    finished = f"3 of 8 runs have finished and are kept in {folder}; the same sweep, run again, "
    assert note(folder, 0) == (
        "0 of 8 runs have finished, and no checkpoint was saved: the same sweep, run again, starts "
        "from the beginning."
    )
    assert note(folder, 3) == f"{finished}resumes from there."
    saved = folder / chunk / "00000003-00000005-00000002" / "00000001"
    saved.parent.mkdir(parents=True)  # as orbax makes it before the first row is whole
    assert note(folder, 3) == f"{finished}resumes from there."
    saved.mkdir()
    assert note(folder, 3) == f"{finished}resumes from there, in a chunk at its last checkpoint."
    assert note(folder, 0).endswith("resumes from there, in a chunk at its last checkpoint.")


def test_a_signal_stops_no_sweep_of_another_thread():
    requested, signalled = [], threading.Event()

    def sweep():
        with stopping.handled(), stopping.deferred():
            signalled.wait(10)
            requested.append(stopping.requested())

    thread = threading.Thread(target=sweep)

    def stopped_sweep():
        with stopping.handled(), stopping.deferred():
            thread.start()
            os.kill(os.getpid(), signal.SIGTERM)
            requested.append(stopping.requested())
            signalled.set()
            thread.join()

    with pytest.raises(stopping.Terminated):
        stopped_sweep()
    assert requested == [True, False]


def test_a_chunk_of_another_thread_does_not_defer_a_signal():
    running, finish = threading.Event(), threading.Event()

    def sweep():
        with stopping.deferred():
            running.set()
            finish.wait(10)

    thread = threading.Thread(target=sweep)
    thread.start()
    running.wait(10)
    try:
        with pytest.raises(stopping.Terminated), stopping.handled():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        finish.set()
        thread.join()


@pytest.fixture
def interruptible():
    """SIGINT as a program in the foreground has it: one in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_in_a_script_resumes_from_the_row_that_it_came_in(number, kind, tmp_path, capfd):
    sent = []
    send = lambda report: sent or sent.append(os.kill(os.getpid(), number))
    training = rl.tree.replace(TINY, steps=64, evals=4)
    whole = rl.sweep(training, SEEDS, folder=tmp_path / "whole", chunk=2, progress=False)
    with pytest.raises(kind) as caught:
        rl.sweep(training, SEEDS, folder=tmp_path / "x", chunk=2, progress=send, save_seconds=1e6)
    shown = capfd.readouterr().err
    assert "second signal stops immediately" in shown
    if kind is SystemExit:
        assert caught.value.code == 143
        assert "stopped by SIGTERM.\n0 of 4 runs have finished and are kept in" in shown
    (row,) = tmp_path.glob("x/open/*/*")
    assert row.name == "00000002"  # of four: the signal came when the first had been reported
    resumed = rl.sweep(training, SEEDS, folder=tmp_path / "x", chunk=2, progress=False)
    assert all(resumed[name].equals(whole[name]) for name in whole.data_vars)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
