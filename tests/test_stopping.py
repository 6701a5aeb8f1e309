"""Signals and what a stopped sweep says. Nothing is compiled."""

import os
import signal
import threading

import numpy as np
import pytest
import xarray as xr

from jaxrl.sweep import stopping
from jaxrl.sweep.partial import attach_partial, note_partial

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
