"""One sweep by two processes that meet on the loopback and in a folder."""

import socket
import subprocess
import sys
import textwrap
import time

import pytest
import xarray as xr
from test_resume import run, same_members

CODE = textwrap.dedent("""
    import os, pathlib, sys, time
    sys.path.insert(0, "tests")
    import jaxrl as rl
    folder, port, me = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rl.distributed(f"localhost:{port}", 2, me)
    assert rl.use_all_cores(1) == 1
    from test_resume import run
    def show(report):
        print(report.done, flush=True)
        if me == 1 and "lost" in sys.argv and report.done == 0 and report.fraction > 0.05:
            time.sleep(0.3)
            os._exit(9)  # as a machine that is lost
    try:
        width = {"chunk": None} if "together" in sys.argv else {}
        results = run(pathlib.Path(folder), progress=show, **width)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))
    print("members", int(results["loss"].isel(step=-1).notnull().sum()))
""")


def start(folder, *how):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = [[str(folder), str(port), str(me), *how] for me in range(2)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([sys.executable, "-c", CODE, *each], **options) for each in words]


def ended(processes):
    shown = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        shown.append(out)
        assert process.returncode == 0, err[-3000:]
    return shown


def test_two_processes_make_the_dataset_of_one(tmp_path):
    alone = run(tmp_path / "alone")
    shown = ended(start(tmp_path / "x"))
    assert [text.splitlines()[-1] for text in shown] == ["members 6", "members 6"]
    assert same_members(tmp_path / "x", tmp_path / "alone") == 3
    xr.testing.assert_equal(
        xr.load_dataset(tmp_path / "x" / "results.nc", engine="h5netcdf"), alone
    )


@pytest.mark.rotate
def test_the_next_call_runs_the_chunks_of_a_lost_process(tmp_path):
    run(tmp_path / "alone")
    processes = start(tmp_path / "x", "lost")
    processes[1].communicate(timeout=240)
    assert processes[1].returncode == 9
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("x/members/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # the other goes on with its own chunks
    processes[0].kill()  # it waits for the lost one, as it would for minutes
    processes[0].communicate()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("x/members/*.npz")}
    assert len(kept) == 2
    ended(start(tmp_path / "x"))
    assert same_members(tmp_path / "x", tmp_path / "alone") == 3
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


@pytest.mark.rotate
def test_processes_agree_on_a_width(tmp_path):
    shown = ended(start(tmp_path / "x", "together"))
    assert [text.splitlines()[-1] for text in shown] == ["members 6", "members 6"]
    assert len(list(tmp_path.glob("x/members/*.npz"))) == 1


@pytest.mark.rotate
def test_a_folder_that_one_refuses_stops_both(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("not a sweep")
    processes = start(tmp_path / "x")
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert "holds no sweep" in errors[0]
    assert "failed in process 0" in errors[1]


def test_outside_a_cluster_the_error_says_what_to_write():
    code = "import jaxrl as rl; rl.distributed()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "srun or mpirun" in done.stderr.splitlines()[-1]
    assert "num_processes=2" in done.stderr.splitlines()[-1]


def test_several_processes_without_a_folder_are_refused(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="write folder="):
        run(None)
