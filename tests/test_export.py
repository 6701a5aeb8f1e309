"""Results as other tools read them: the table, and one run for each member."""

import contextlib
import json
import sys
import types

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import jaxrl as rl
from jaxrl.cli import main
from jaxrl.runs.export import PACKAGES
from jaxrl.sweep import store


def made():
    """A sweep of 2 x 2 members as `sweep` returns it; the last is not done."""
    curve = np.arange(12.0).reshape(2, 2, 3)
    curve[1, 1] = np.nan
    curve[0, 0, 0] = np.nan  # no episode had ended
    final = np.array([[1.0, 2.0], [3.0, np.nan]])
    axes = ("lr", "seed")
    variables = {
        "return": ((*axes, "step"), curve),
        "diverged": ((*axes, "step"), curve > 8),
        "final": (axes, final),
        "weights": ((*axes, "weights_0"), np.zeros((2, 2, 5))),
    }
    labels = {
        "lr": np.array([1e-3, 1e-2]),
        "seed": np.array([5, 6]),
        "step": np.array([64, 128, 192]),
    }
    attributes = {"run": json.dumps({"type": "Training"}), "chunk": np.int64(4), "commit": "abc"}
    return xr.Dataset(variables, labels, attributes)


def kept(folder):
    """The same in a folder."""
    folder.mkdir(parents=True)
    parts = ("run", "axes", "labels", "versions", "machine")
    (folder / "sweep.json").write_text(json.dumps({part: {} for part in parts}))
    store.write_results(folder / store.RESULTS, made())
    return folder


def test_a_frame_has_a_row_for_each_member_and_step(capsys):
    table = rl.frame(made())
    assert list(table.columns) == ["lr", "seed", "step", "return", "diverged", "final"]
    assert len(table) == 2 * 2 * 3
    row = table[(table["lr"] == 1e-2) & (table["seed"] == 5)]
    assert row["step"].tolist() == [64, 128, 192]
    assert row["return"].tolist() == [6.0, 7.0, 8.0]
    assert row["final"].tolist() == [3.0] * 3  # repeated
    assert table.attrs["left_out"] == ["weights"]
    assert "left out" in capsys.readouterr().out


def test_a_frame_of_what_was_selected_keeps_its_labels():
    table = rl.frame(made().drop_vars("weights").sel(lr=1e-2).mean("seed"))
    assert list(table.columns) == ["step", "lr", "return", "diverged", "final"]
    assert table["lr"].tolist() == [1e-2] * 3
    assert len(rl.frame(made()[["final"]])) == 4
    assert rl.frame(made()[["final"]].isel(lr=0, seed=0))["final"].tolist() == [1.0]


def test_csv_of_a_folder_and_of_a_dataset(tmp_path, capsys):
    folder = kept(tmp_path / "x")
    assert rl.export(folder) == folder / "results.csv"
    expected = rl.frame(made()).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results.csv"), expected, check_names=False)
    assert (
        rl.export(made(), tmp_path / "deep" / "y.csv").read_bytes()
        == (folder / "results.csv").read_bytes()
    )
    with pytest.raises(ValueError, match="no folder to write into"):
        rl.export(made())
    with pytest.raises(ValueError, match="to='excel' is not known"):
        rl.export(folder, to="excel")


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    rl.export(made(), tmp_path / "x.parquet", "parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), rl.frame(made()))


def events(file):
    """What TensorBoard reads in a file: records of a length (8 bytes), a checksum (4), the event, a
    checksum (4).
    """
    from tensorboardX.proto.event_pb2 import Event

    data, at = file.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += size + 16


def test_tensorboard_has_a_run_for_each_finished_member(tmp_path):
    pytest.importorskip("tensorboardX")
    rl.export(made(), tmp_path / "runs", "tensorboard")
    runs = sorted(
        str(path.parent.relative_to(tmp_path / "runs"))
        for path in (tmp_path / "runs").glob("**/events*")
    )
    assert runs == ["lr=0.001/seed=5", "lr=0.001/seed=6", "lr=0.01/seed=5"]
    (file,) = (tmp_path / "runs" / "lr=0.01" / "seed=5").glob("events*")
    points = [
        (event.step, v.tag, v.simple_value) for event in events(file) for v in event.summary.value
    ]
    assert [(step, value) for step, tag, value in points if tag == "return"] == [
        (64, 6.0),
        (128, 7.0),
        (192, 8.0),
    ]


class Recorder:
    """A fake library that records its calls."""

    def __init__(self):
        self.runs = []

    def init(self, **words):
        run = {"words": words, "logs": [], "finished": 0}
        self.runs.append(run)
        finish = lambda: run.update(finished=run["finished"] + 1)
        return types.SimpleNamespace(
            log=lambda row, step: run["logs"].append((step, row)), finish=finish
        )

    def writer(self, logdir):
        run = {"logdir": logdir, "scalars": [], "closed": 0}
        self.runs.append(run)
        close = lambda: run.update(closed=run["closed"] + 1)
        return types.SimpleNamespace(
            add_scalar=lambda *shown: run["scalars"].append(shown), close=close
        )


def test_tensorboard_gets_every_finite_metric(tmp_path, monkeypatch):
    library = Recorder()
    monkeypatch.setitem(
        sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=library.writer)
    )
    rl.export(made().isel(lr=[1]), tmp_path, "tensorboard")
    (run,) = library.runs
    assert run["logdir"] == str(tmp_path / "lr=0.01" / "seed=5")
    assert run["closed"] == 1
    assert ("return", 7.0, 128) in run["scalars"]
    assert [shown for shown in run["scalars"] if shown[0] == "final"] == [("final", 3.0, 192)]


def test_settings_with_labels_that_are_cleaned_alike_have_their_own_directories(
    tmp_path, monkeypatch
):
    library = Recorder()
    monkeypatch.setitem(
        sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=library.writer)
    )
    labels = np.array(["(64,)", "[64,]", "a/b", "a_b", "A_b", "x" * 300, "x" * 300 + "y"], object)
    curves = np.arange(42.0).reshape(7, 2, 3)
    data = xr.Dataset(
        {"return": (("network", "seed", "step"), curves)},
        {"network": labels, "seed": [0, 1], "step": [1, 2, 3], "seed_key": ("seed", [7, 8])},
    )
    rl.export(data, tmp_path, "tensorboard")
    directories = {run["logdir"] for run in library.runs}
    assert len({each.casefold() for each in directories}) == 14
    assert sum(len(run["scalars"]) for run in library.runs) == 42
    assert all(max(map(len, each.split("/"))) <= 210 for each in directories)
    assert str(tmp_path / "network=a_b" / "seed=0") in directories
    assert str(tmp_path / "network=a_b-2" / "seed=1") in directories


def test_wandb_gets_metrics_labels_and_card(tmp_path, monkeypatch):
    library = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=library.init))
    folder = kept(tmp_path / "my_sweep")
    rl.export(folder, to="wandb")
    assert [run["words"]["name"] for run in library.runs] == ["seed=5", "seed=6", "seed=5"]
    assert [run["words"]["group"] for run in library.runs] == ["lr=0.001", "lr=0.001", "lr=0.01"]
    assert {run["words"]["project"] for run in library.runs} == {"my_sweep"}
    assert [run["finished"] for run in library.runs] == [1, 1, 1]
    assert [len(run["logs"]) for run in library.runs] == [3, 3, 3]
    first = library.runs[0]
    assert first["words"]["config"] == {
        "lr": 0.001,
        "seed": 5,
        "card": {"run": {"type": "Training"}, "chunk": 4, "commit": "abc"},
    }
    assert first["words"]["dir"] == str(folder)
    assert first["logs"][0] == (64, {"diverged": 0.0})  # a NaN is no point of a curve
    assert first["logs"][2] == (192, {"return": 2.0, "diverged": 0.0, "final": 1.0})


def test_a_run_is_finished_also_when_logging_fails(tmp_path, monkeypatch):
    finished = []

    def broken(row, step):
        raise RuntimeError("full")

    run = types.SimpleNamespace(log=broken, finish=lambda: finished.append(1))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **words: run))
    with contextlib.suppress(RuntimeError):
        rl.export(made(), tmp_path, "wandb")
    assert finished == [1]


@pytest.mark.parametrize("to", sorted(PACKAGES))
def test_a_missing_package_is_named_with_its_extra(to, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[to], None)  # as when it is not installed
    with pytest.raises(ImportError, match=rf'pip install "jaxrl\[{to}\]"'):
        rl.export(made(), tmp_path / "x", to)
    assert not (tmp_path / "x").exists()


def test_the_command_line(tmp_path, capsys):
    folder = kept(tmp_path / "x")
    main(["export", str(folder), "--to", "csv", "--out", str(tmp_path / "y.csv")])
    assert str(tmp_path / "y.csv") in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "y.csv")) == 12
