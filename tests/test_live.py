"""Results of a sweep while it runs: the folder, reports to a function, live logs, the commands."""

import contextlib
import importlib.util
import sys
import time
import types

import numpy as np
import pytest
import xarray as xr
from members import TINY

import jaxrl as rl
from jaxrl.cli import main
from jaxrl.progress import shown
from jaxrl.sweep import live_rows

AXES = {"lr": np.array([1e-3, 1e-2], np.float32), "seed": np.arange(3)}  # chunks of 2, 2 and 2
STEPS = [16, 32]
CATCH = rl.envs.make("Catch")


def loaded(folder, cells):
    """The results in a folder once so many values of the loss are there, within seconds."""
    for _ in range(200):
        results = rl.load(folder)
        if "loss" in results and int(results["loss"].notnull().sum()) >= cells:
            return results
        time.sleep(0.05)
    raise AssertionError(f"fewer than {cells} values of the loss in {folder}")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A finished sweep, its folder as it was at each report, and the reports."""
    folder, seen, reports = tmp_path_factory.mktemp("watched") / "x", [], []

    def watch(report):
        reports.append(report)
        if report.metrics:
            chunk, row = divmod(len([each for each in reports if each.metrics]) - 1, len(STEPS))
            seen.append(loaded(folder, chunk * 4 + row * 2 + 2).load())

    before = []

    def look_before(report):
        if not before:
            before.append(rl.load(folder, running=False))

    results = rl.sweep(TINY, AXES, chunk=2, folder=folder, progress=(watch, False, look_before))
    return folder, seen, reports, before[0], results


def test_every_metric_is_in_the_folder_within_a_row(watched):
    folder, seen, _, before, results = watched
    assert before.sizes == {"lr": 2, "seed": 3}
    assert not before.data_vars  # without running members
    for i, found in enumerate(seen):
        chunk, row = divmod(i, len(STEPS))
        assert found.attrs["unfinished"] == f"{2 * chunk} of 6 runs have finished"
        assert set(found.data_vars) == set(results.data_vars)
        members, known = np.arange(6).reshape(2, 3), np.zeros((2, 3, 2), bool)
        known[members < 2 * chunk] = True
        known[(members >= 2 * chunk) & (members < 2 * chunk + 2), : row + 1] = True
        assert found["step"].values.tolist() == STEPS
        for name, values in found.data_vars.items():
            whole = results[name].values
            blank = np.nan if whole.dtype.kind == "f" else 0
            np.testing.assert_array_equal(values, np.where(known, whole, blank), err_msg=str(name))
    assert "unfinished" not in results.attrs
    assert "unfinished" not in rl.load(folder).attrs
    assert not (folder / "live").exists()


def test_reports_have_the_last_row_of_the_running_members(watched):
    _, _, reports, _, results = watched
    rows = [report for report in reports if report.metrics]
    assert [report.step for report in rows] == STEPS * 3
    assert [report.done for report in rows] == [0, 0, 2, 2, 4, 4]
    for i, report in enumerate(rows):
        assert report.labels["seed"].tolist() == [[0, 1], [2, 0], [1, 2]][i // 2]
        for lr, seed, loss in zip(*report.labels.values(), report.metrics["loss"], strict=True):
            assert results["loss"].sel(lr=lr, seed=seed, step=report.step) == loss
    last = reports[-1]
    assert last == rl.Report(6, 6, 1.0, last.steps, last.seconds, 1.0, last.score)
    assert last.step == 0
    assert not last.metrics


def test_rows_of_a_stopped_sweep_are_kept_and_written_again(tmp_path, watched, capsys):
    folder, rows = tmp_path / "x", 0

    def stop(report):
        nonlocal rows
        rows += bool(report.metrics)
        if rows == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rl.sweep(TINY, AXES, chunk=2, folder=folder, progress=stop)
    found, whole = rl.load(folder), watched[-1]
    assert int(found["loss"].notnull().sum()) == 6
    assert found["loss"][0, 2, 0] == whole["loss"][0, 2, 0]
    assert int(rl.load(folder, running=False)["loss"].notnull().sum()) == 4
    (part,) = (folder / "live").glob("*/00*-00*.npz")
    part.write_bytes(b"damaged")  # left out, as are files that the run removes meanwhile
    assert int(rl.load(folder)["loss"].notnull().sum()) == 4
    with pytest.raises(SystemExit):
        main(["plot", str(folder), "--every", "0"])
    main(["plot", str(folder)])
    assert "last return so far (2 of 6 runs have finished)" in capsys.readouterr().out
    xr.testing.assert_equal(rl.sweep(TINY, AXES, chunk=2, folder=folder, progress=False), whole)
    assert not (folder / "live").exists()


def test_a_failure_of_watching_is_a_warning(tmp_path):
    rows = [{"loss": np.zeros(2)}, {"return": np.zeros(2)}]  # KeyError
    message = r"can't be written to .*\(KeyError: 'loss'\): they will be in the results"

    def train():
        with live_rows.writing(tmp_path, np.arange(2), {"step": np.array(STEPS)}) as write:
            write(rows)
            write(rows)

    with pytest.warns(UserWarning, match=message) as warned:
        train()
    assert len(warned) == 1


def test_before_the_first_row_the_commands_say_so(watched, tmp_path, capsys):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "sweep.json").write_bytes((watched[0] / "sweep.json").read_bytes())
    for command, message in (("plot", "has no row yet"), ("play", "no run of .* has finished")):
        with pytest.raises(SystemExit, match=message) as stop:
            main([command, str(folder)])
        assert "--follow" in str(stop.value)
    with pytest.raises(ValueError, match="no other: those of a running sweep appear at its first"):
        rl.plot.curve(rl.load(folder), "return")
    with pytest.raises(ValueError, match="no chunk of the sweep has finished yet"):
        rl.best(rl.load(folder))
    with pytest.raises(ValueError, match=r"the results have no 'retrun'; the nearest are return"):
        rl.best(watched[-1], "retrun")
    with pytest.raises(FileNotFoundError, match="its chunk has not finished"):
        rl.policy(folder, lr=1e-3, seed=0)


def test_a_plot_follows_a_sweep_to_its_end(watched, tmp_path, monkeypatch, capsys):
    """The folder fills up while the command sleeps: first a row, then all."""
    whole, folder = watched[0], tmp_path / "x"
    folder.mkdir()
    (folder / "sweep.json").write_bytes((whole / "sweep.json").read_bytes())
    row = {
        name: values.values.reshape(6, 2)[:2, 0]
        for name, values in watched[-1].data_vars.items()
        if name != "eval_step"
    }
    clocks = {name: np.asarray(x) for name, x in TINY.clocks.items()}
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        if len(sleeps) == 1:
            with live_rows.writing(folder, np.array([0, 1]), clocks) as write:
                write([row])
        elif len(sleeps) == 3:
            assert (folder / "curve.png").exists() == bool(np.isfinite(row["return"]).any())
            (folder / "results.nc").write_bytes((whole / "results.nc").read_bytes())

    clock = types.SimpleNamespace(sleep=sleep)
    monkeypatch.setattr("jaxrl.cli.studies.time", clock)
    main(["plot", str(folder), "--follow", "--name", "loss", "--every", "0.25"])
    out = capsys.readouterr().out
    assert sleeps == [0.25] * 3
    assert "0 of 6 runs have finished; no row yet" in out
    assert "loss: 2 of 12 values, at step 16" in out
    assert out.count("have finished") == 2  # nothing is printed without a new row
    assert f"drew {folder / 'curve.png'}" in out


# ------------------------------------------------------------------------------------ live logs


def a_report(step, lr, seed, value, done=0, members=8):
    labels = {"lr": np.array(lr), "seed": np.array(seed)}
    value = np.array(value, np.float32)
    metrics = {"return": value, "diverged": value > 90, "weights": np.zeros((len(lr), 2))}
    return rl.Report(done, members, 0.5, 0.0, 1.0, 0.5, step=step, labels=labels, metrics=metrics)


FIRST = [
    a_report(10, [0.1] * 4, range(4), [1.0, 2.0, 3.0, 94.0]),
    a_report(20, [0.1] * 4, range(4), [np.nan] * 4),
]
SECOND = a_report(10, [0.1, 0.2], [4, 0], [5.0, 7.0])  # the setting 0.1 goes on in another chunk
LAST = rl.Report(8, 8, 1.0, 0.0, 1.0, 1.0)


def test_tensorboard_has_one_log_for_each_setting(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    log = rl.live.TensorBoard(tmp_path, ("return", "diverged"))
    for report in (*FIRST, SECOND, LAST):
        log(report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr=0.1", "lr=0.2"]
    events = []
    for path in sorted((tmp_path / "lr=0.1").iterdir()):
        content = path.read_bytes()
        while content:  # length, its checksum, the event, its checksum
            size = int.from_bytes(content[:8], "little")
            events.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    values = [
        {value.tag: value.simple_value for value in event.summary.value} | {"step": event.step}
        for event in events
        if event.summary.value
    ]
    assert {"return/iqm": 2.5, "step": 10} in values
    assert {"return/mean": 25.0, "step": 10} in values
    assert {"diverged/mean": 0.25, "step": 10} in values
    assert {"members": 4.0, "step": 20} in values
    assert not [row for row in values if row["step"] == 20 and "return/iqm" in row]  # no value
    # the second chunk starts the steps again, with all members so far
    restarts = [i for i, event in enumerate(events) if event.session_log.status == 1]
    later = [event.summary.value for event in events[restarts[-1] :]]
    shown = {value.tag: value.simple_value for values in later for value in values}
    assert shown["members"] == 5.0
    assert shown["return/mean"] == 21.0
    assert not any("weights" in row for row in values)


def test_wandb_has_one_run(monkeypatch):
    logged, calls = [], []
    run = types.SimpleNamespace(
        summary={},
        log=logged.append,
        define_metric=lambda *args, **kwargs: calls.append((args, kwargs)),
        finish=lambda: calls.append("finished"),
    )
    library = types.ModuleType("wandb")
    library.init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", library)
    log = rl.live.Wandb("study", ["return"], group="g")
    for report in (*FIRST, SECOND, LAST):
        log(report)
    assert calls[0] == {"project": "study", "group": "g"}
    assert calls[1] == (("*",), {"step_metric": "environment_steps"})
    assert calls[2:] == ["finished"]
    assert [row["environment_steps"] for row in logged] == [10, 20, 10]
    assert logged[0]["lr=0.1/return/iqm"] == 2.5
    assert logged[0]["lr=0.1/return/q90"] == pytest.approx(np.quantile([1, 2, 3, 94], 0.9))
    assert set(logged[2]) == {
        "environment_steps",
        "lr=0.2/members",
        *(f"lr=0.2/return/{name}" for name in ("iqm", "mean", "q10", "q90")),
    }
    assert run.summary["lr=0.1/return/mean"] == 21.0


def test_live_logs_are_bounded_and_name_their_extras(tmp_path, monkeypatch, capsys):
    from jaxrl.runs.live import Summaries

    many = a_report(10, np.arange(9.0), [0] * 9, np.arange(9.0))
    bounded = Summaries(max_settings=3)
    assert [setting for setting, *_ in bounded.add(many)] == ["lr=0", "lr=1", "lr=2"]
    assert [setting for setting, *_ in bounded.add(many)] == ["lr=0", "lr=1", "lr=2"]
    assert capsys.readouterr().out.count("the first 3 settings only") == 1
    for name, package, extra in (
        ("TensorBoard", "tensorboardX", "tensorboard"),
        ("Wandb", "wandb", "wandb"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        message = rf'rl\.live\.{name} needs {package}: pip install "jaxrl\[{extra}\]"'
        with pytest.raises(ImportError, match=message):
            vars(rl.live)[name](str(tmp_path))


@pytest.mark.parametrize(
    ("training", "error", "message"),
    [
        (rl.Training(rl.ppo(), CATCH, steps=100), ValueError, "fewer than evals=10"),
        (rl.Training(rl.sac(), CATCH), TypeError, "Box"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_printed(training, error, message, capfd):
    with pytest.raises(error, match=message):
        rl.sweep(training, {"seed": np.arange(2)})
    assert capfd.readouterr() == ("", "")


def test_progress_is_a_function_or_several():
    shows, reports = [], []
    with shown((False, shows.append, reports.append)) as show:
        show(LAST)
    assert shows == reports == [LAST]
    with shown(False) as show:
        assert show is None
    with pytest.raises(TypeError, match=r"progress='bar' is neither True, False nor a function"):
        contextlib.ExitStack().enter_context(shown("bar"))


def test_a_notebook_without_widgets_has_a_line_of_text(monkeypatch, capsys):
    """rich shows nothing there but a warning, at each sweep."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    find = importlib.util.find_spec
    absent = lambda name: None if name == "ipywidgets" else find(name)
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with shown(True) as show:
        show(rl.Report(3, 4, 0.75, 2_000, 2.0, 0.75, 7.5))
        show(rl.Report(4, 4, 1.0, 3_000, 3.0, 1.0, 8.5))
    lines = [line.strip() for line in capsys.readouterr().out.split("\r")]
    assert lines[1].startswith("training  75%  3/4 runs  return 7.5  1k steps/s")
    assert lines[2].startswith("training 100%  4/4 runs  return 8.5  1k steps/s  took 0:03")
