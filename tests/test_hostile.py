"""Folders, rule files, processes and machines as they should not be: each case has one sentence.

Most of it compiles nothing. What compiles is TINY, and one training of the command line.
"""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import filelock
import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl import rule_file
from jaxrl.cli import main
from jaxrl.sweep import checkpoint, npz, store
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.record import make_record

SEEDS = {"seed": np.arange(4)}
CHUNK = "members/00000000-00000002.npz"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of two chunks of two members, written as a sweep writes it."""
    folder = tmp_path_factory.mktemp("finished") / "x"
    kept = store.Store(folder, make_record(TINY, Grid(SEEDS), with_program=False))
    for first in (0, 2):
        kept.save(first, first + 2, 2, {"return": np.ones(2, np.float32)})
    kept.note_width(2)
    kept.close()
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "x")
    return tmp_path / "x"


# --------------------------------------------------------------------------- files, each made wrong


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def loop(path):
    path.unlink()
    path.symlink_to(path)


def directory(path):
    path.unlink()
    path.mkdir()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path):
    """One bit in the middle of the last array."""
    data = bytearray(path.read_bytes())
    data[data.rindex(b"\x93NUMPY") + 130] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_bytes(b"no archive")


def pickled(path):
    np.savez(path, digest=np.array([{}], object))


def compressed(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **arrays)


def huge(path):
    """An array of a few bytes that declares 8 TB."""
    header = io.BytesIO()
    declared = {"shape": (10**12,), "fortran_order": False, "descr": "<f8"}
    np.lib.format.write_array_header_1_0(header, declared)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("digest.npy", header.getvalue() + b"0" * 8)


def fewer(path):
    """A sound file of one member, where its name has two."""
    arrays = store.encode({"return": np.ones(1, np.float32)})
    np.savez(path, **arrays)


ARCHIVES = {
    pipe: "not a plain file",
    endless: "not a plain file",
    loop: "symbolic links",
    directory: "not a plain file",
    truncated: "not a .npz file",
    flipped: "Bad CRC-32|digest does not match",
    empty: "not a .npz file",
    text: "not a .npz file",
    pickled: "holds Python objects, which are not read",
    compressed: "it is compressed",
    huge: "declares 8,000,000,000,000 bytes but has 8",
    fewer: "it does not hold 2 runs",
}


@pytest.mark.parametrize("change", ARCHIVES, ids=lambda change: change.__name__)
def test_members_of_a_wrong_file_count_as_not_done(change, folder, capsys):
    change(folder / CHUNK)
    found = rl.load(folder)["return"]
    shown = capsys.readouterr().out
    assert found.isnull().values.tolist() == [True, True, False, False]
    assert shown.startswith(f"{folder / CHUNK} is damaged (")
    assert re.search(ARCHIVES[change], shown)
    assert shown.count("\n") == 1
    assert "pickle" not in shown


def test_a_chunk_of_a_range_that_no_sweep_has_is_left_out(folder):
    shutil.copy(folder / CHUNK, folder / "members/00000003-00000001.npz")
    shutil.copy(folder / CHUNK, folder / "members/00000002-00000002.npz")
    assert rl.load(folder)["return"].notnull().all()
    assert store.chunk_names(folder) == [(0, 2), (2, 4)]


def test_a_folder_without_a_finished_chunk_says_so(folder):
    shutil.rmtree(folder / "members")
    with pytest.raises(ValueError, match="no 'return'; no chunk of the sweep has finished yet"):
        rl.best(rl.load(folder))
    with pytest.raises(SystemExit, match="has no row yet: a row is written at each evaluation"):
        main(["plot", str(folder)])


def rewritten(change):
    """The record, changed as JSON."""

    def rewrite(path):
        record = json.loads(path.read_text())
        changed = change(record)
        path.write_text(json.dumps(record if changed is None else changed))

    return rewrite


RECORDS = {
    "pipe": (pipe, "not a plain file"),
    "endless": (endless, "not a plain file"),
    "loop": (loop, "holds no sweep|symbolic links"),
    "directory": (directory, "not a plain file"),
    "truncated": (truncated, "is damaged"),
    "empty": (empty, "is damaged"),
    "deep": (lambda path: path.write_text("[" * 100_000), "is damaged"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe{}"), "is damaged"),
    "list": (rewritten(lambda record: [1, 2]), "it is not a dictionary"),
    "text": (rewritten(lambda record: "sweep"), "it is not a dictionary"),
    "null": (lambda path: path.write_text("null"), "it is not a dictionary"),
    "no run": (rewritten(lambda record: record.pop("run") and None), "it has no 'run'"),
    "run": (rewritten(lambda record: record.update(run=3)), "its run is not a dictionary"),
    "labels": (rewritten(lambda record: record.update(labels=[])), "labels is not a dictionary"),
    "label": (rewritten(lambda record: record.update(labels={"seed": 3})), "are not a list"),
    "coordinates": (rewritten(lambda record: record.update(coordinates=[])), "is not a dictionary"),
    "kinds": (rewritten(lambda record: record.update(kinds="x")), "its kinds is not a dictionary"),
    "groups": (rewritten(lambda record: record.update(groups=5)), "its groups are not a list"),
    "elsewhere": (rewritten(lambda record: record.update(groups=["../.."])), "not below it"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_wrong_record_is_refused_in_one_sentence_and_listed_as_broken(case, folder):
    change, message = RECORDS[case]
    change(folder / "sweep.json")
    with pytest.raises((ValueError, OSError), match=message) as caught:
        rl.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    rows = rl.runs(folder.parent).to_dict("records")
    assert [row["note"][:8] for row in rows] == ["broken: "] * (case != "directory")


@pytest.mark.parametrize("change", [pipe, endless, loop, directory, text, empty])
def test_a_wrong_width_is_not_known_and_a_wrong_holder_is_another_process(change, folder):
    change(folder / store.WIDTH)
    assert store.read_width(folder) is None
    change(folder / store.HOLDER)
    assert "process" in store._holder(folder) or change is text
    assert rl.load(folder)["return"].notnull().all()


@pytest.mark.parametrize("width", ["-3", "0", "true", '"8"', "[8]", "1e3"])
def test_a_width_that_is_no_number_of_members_is_not_known(width, folder):
    (folder / store.WIDTH).write_text(f'{{"width": {width}}}')
    assert store.read_width(folder) is None


@pytest.mark.parametrize("change", [pipe, endless, loop, text, truncated])
def test_wrong_results_leave_the_chunks(change, folder, capsys):
    (folder / "results.nc").write_bytes(b"0" * 100)
    change(folder / "results.nc")
    assert rl.load(folder)["return"].notnull().all()


# ----------------------------------------------------------------------------------- a rule's files


@pytest.fixture(scope="module")
def rule(tmp_path_factory):
    return rl.save_rule(tmp_path_factory.mktemp("rule") / "x", rl.load_rule("lpo"))


RULES = {
    pipe: r"rule\.npz can't be read: it is not a plain file",
    endless: r"rule\.npz can't be read: it is not a plain file",
    directory: r"rule\.npz can't be read: it is not a plain file",
    truncated: r"rule\.npz is damaged",
    flipped: r"rule\.npz is damaged",
    empty: r"rule\.npz is damaged",
}


@pytest.mark.parametrize("change", RULES, ids=lambda change: change.__name__)
def test_a_wrong_rule_file_is_refused(change, rule, tmp_path):
    shutil.copytree(rule, tmp_path / "x")
    change(tmp_path / "x" / "rule.npz")
    with pytest.raises(ValueError, match=RULES[change]) as caught:
        rl.load_rule(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_a_rule_that_declares_terabytes_is_refused(rule, tmp_path):
    shutil.copytree(rule, tmp_path / "x")
    huge(tmp_path / "x" / "rule.npz")
    record = json.loads((tmp_path / "x" / "rule.json").read_text())
    raw = (tmp_path / "x" / "rule.npz").read_bytes()
    record["sha256"] = rule_file.hashlib.sha256(raw).hexdigest()
    (tmp_path / "x" / "rule.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="declares 8,000,000,000,000 bytes"):
        rl.load_rule(tmp_path / "x")


def test_an_agent_of_another_type_is_refused(rule, tmp_path):
    shutil.copytree(rule, tmp_path / "x")
    rewritten(lambda record: record.update(agent=3))(tmp_path / "x" / "rule.json")
    with pytest.raises(ValueError, match=r"its agent is a int, and an rl\.OnPolicy belongs there"):
        rl.load_agent(tmp_path / "x")


@pytest.mark.parametrize("change", [pipe, endless, loop])
def test_a_rule_without_a_plain_record_is_not_one(change, rule, tmp_path):
    shutil.copytree(rule, tmp_path / "x")
    change(tmp_path / "x" / "rule.json")
    with pytest.raises(FileNotFoundError, match=r"it has no rule\.json"):
        rl.load_rule(tmp_path / "x")


@pytest.mark.parametrize("change", [text, truncated, pickled])
def test_weights_of_disco_that_are_no_archive(change, tmp_path):
    path = tmp_path / "disco.npz"
    np.savez(path, x=np.zeros(100))
    change(path)
    with pytest.raises(ValueError, match="holds no plain arrays") as caught:
        rl.rules.Disco.load(path)
    assert "pickle" not in str(caught.value)


# -------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, "No locks available"),
        OSError(errno.EOPNOTSUPP, "Operation not supported"),
        NotImplementedError("FileSystem does not appear to support flock"),
    ],
    ids=["ENOLCK", "EOPNOTSUPP", "ENOSYS"],
)
def test_a_file_system_without_locks_says_what_to_do(error, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"\.lock can't be locked.*JAXRL_NO_LOCKS=1") as caught:
        store.lock(tmp_path)
    assert str(error) in str(caught.value)
    monkeypatch.setenv("JAXRL_NO_LOCKS", "1")
    store.lock(tmp_path).release()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_without_permission_is_named(code, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"can.t be written to.*write another folder="):
        store.lock(tmp_path)


def test_permission_denied(folder, monkeypatch, capsys):
    def read(path, read=npz.read):  # in place of chmod, which does not bind root
        if path.name in CHUNK:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    monkeypatch.setattr(npz, "read", read)
    assert rl.load(folder)["return"].isnull().values.tolist() == [True, True, False, False]
    assert "Permission denied" in capsys.readouterr().out


def test_the_open_chunk_with_most_rows_decides_the_width_whatever_the_clock_says(tmp_path):
    for width, rows, written in ((4, (2, 3), 0), (2, (1,), 2**31)):
        chunk = tmp_path / "open" / f"00000000-{width:08d}-{width:08d}"
        for row in rows:
            (chunk / f"{row:08d}").mkdir(parents=True)
        os.utime(chunk, (written, written))
    assert checkpoint.open_width(tmp_path) == 4


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    now = [2e9]

    def backwards():
        now[0] -= 3600.0
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    reports = []
    rl.sweep(TINY, SEEDS, folder=tmp_path / "x", progress=reports.append)
    assert all(report.seconds >= 0.0 and report.remaining >= 0.0 for report in reports)
    assert rl.load(tmp_path / "x")["loss"].notnull().all()


def test_a_folder_that_was_deleted_is_said_and_blocks_nothing(tmp_path):
    def delete(report):
        if report.fraction < 1.0:
            shutil.rmtree(tmp_path / "x", ignore_errors=True)

    options = {"chunk": 2, "save_seconds": 0.0}
    with pytest.raises(FileNotFoundError, match="was deleted or moved while") as caught:
        rl.sweep(TINY, SEEDS, folder=tmp_path / "x", progress=delete, **options)
    (note,) = caught.value.__notes__
    assert note.startswith("0 of 4 runs have finished and are kept as this exception's .results; ")
    assert "resumes from there" not in note
    (tmp_path / "x/open/00000000-00000002-00000002/00000001").mkdir(parents=True, exist_ok=True)
    rl.sweep(TINY, SEEDS, folder=tmp_path / "x", progress=False, **options)
    assert not list((tmp_path / "x").glob("open/*"))


def test_a_chunk_is_never_wider_than_the_members(tmp_path):
    results = rl.sweep(TINY, SEEDS, chunk=10**9, progress=False)
    assert results.attrs["chunk"] == 4


def test_a_full_disk_at_the_results_leaves_the_members(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("Unable to synchronously write data (No space left on device)")

    monkeypatch.setattr("xarray.Dataset.to_netcdf", full)
    with pytest.raises(
        OSError, match=r"results\.nc could not be written .*free some space"
    ) as caught:
        rl.sweep(TINY, SEEDS, folder=tmp_path / "x", progress=False)
    assert caught.value.__notes__[-1].startswith("4 of 4 runs have finished and are kept in")
    assert rl.load(tmp_path / "x")["loss"].notnull().all()


def test_a_tilde_is_the_home_folder_wherever_a_path_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rl.plot.Film(b"GIF").save("~/x.gif").path == tmp_path / "x.gif"
    rl.save_rule("~/rule", rl.load_rule("lpo"))
    rl.load_rule("~/rule")
    assert (tmp_path / "rule" / "rule.npz").is_file()


# ---------------------------------------------------------------------------- signals and processes

TRAIN = [
    *["train", "ppo", "Catch", "--env-params", "rows=3", "columns=3", "--seeds", "2"],
    *["--num-envs", "2", "--num-steps", "32", "--epochs", "1", "--minibatches", "1"],
    *["--hidden", "4", "--steps", "1e6", "--evals", "500", "--episodes", "0"],
]
LONG = ["--save-seconds", "1e6"]  # no checkpoint, unless a signal asks for it


def command(folder, *more, before=()):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "jaxrl", *TRAIN, "--folder", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process):
    end = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert path.exists(), process.communicate()
    time.sleep(0.5)


@pytest.mark.rotate
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_a_checkpoint_and_says_how_to_resume(number, status, tmp_path):
    folder = tmp_path / "x"
    process = command(folder, *LONG)
    wait_for(folder / "width.json", process)
    process.send_signal(number)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == status, shown
    assert "stopping at the next evaluation point" in shown
    assert f"of 2 runs have finished and are kept in {folder}; the same sweep, run again" in shown
    assert "Traceback" not in shown
    (state,) = folder.glob("open/*/*/state.npz")
    assert int(state.parent.name) >= 1


@pytest.mark.rotate
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(number, tmp_path):
    folder = tmp_path / "x"
    process = command(folder, *LONG, "--evals", "2", "--steps", "1e8")  # a row of minutes
    wait_for(folder / "width.json", process)
    process.send_signal(number)
    time.sleep(1.0)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number  # a shell says 128 + number


@pytest.mark.rotate
def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]  # a block: no file of a sweep fits
    process = command(tmp_path / "x", before=limited)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 1
    assert shown.splitlines()[-1].startswith("jaxrl: [Errno 27] File too large")
    assert "Traceback" not in shown


def test_signals_of_a_program_of_its_own_are_left_alone(tmp_path):
    mine = lambda number, frame: None
    before = signal.signal(signal.SIGTERM, mine)
    try:
        rl.sweep(TINY, SEEDS, progress=lambda report: os.kill(os.getpid(), signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
