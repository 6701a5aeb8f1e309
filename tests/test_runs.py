"""The catalogue finds what was run, says what is broken, and compares what may be compared."""

import json
import os
import pathlib
import shutil

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import envs
import jaxrl as rl
from jaxrl.cli import commands, main, studies
from jaxrl.runs import catalogue
from jaxrl.runs.rerun import _drift, _own_rows
from jaxrl.sweep import netcdf, store
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.record import make_record

TRAINING = rl.Training(
    rl.reinforce(num_envs=2, num_steps=9, network=rl.MLP((8,))),
    envs.make("Catch"),
    180,
    evals=2,
    episodes=2,
    eval_share=1.0,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three studies: a grid on Catch, its record, and one that has not finished."""
    root = tmp_path_factory.mktemp("runs")
    rl.sweep(
        TRAINING,
        {"lr": jnp.array([1e-3, 1e-1]), "seed": np.arange(6)},
        folder=root / "2026" / "grid",
        progress=False,
    )
    rl.export(root / "2026" / "grid", root / "small.json", "record")
    shutil.copytree(root / "2026" / "grid", root / "stopped")
    (root / "stopped" / "results.nc").unlink()
    (root / "notes.json").write_text('{"no": "study"}')
    return root


def test_every_study_is_a_row(root):
    table = rl.runs(root)
    assert sorted(path.name for path in table.folder) == ["grid", "small.json", "stopped"]
    row = table.set_index(table.folder.map(lambda path: path.name)).loc["grid"]
    assert (row.env, row.steps, row.settings, row.seeds, row.members, row.done) == (
        "Catch",
        180,
        2,
        6,
        12,
        12,
    )
    assert row.algorithm == "reinforce"
    last = rl.load(row.folder)["return"].isel(step=-1)
    best = max(last.values, key=rl.stats.iqm)
    assert (row.score, row.low, row.high) == pytest.approx(
        tuple(map(float, rl.stats.interval(best))), abs=1e-6
    )
    assert row.best.startswith("lr=0.")
    assert row.finished
    stopped = table[table.folder == root / "stopped"].iloc[0]
    assert not stopped.finished
    assert stopped.note == "12 of 12 runs have finished"
    assert np.isnan(stopped.score)


def test_studies_are_found_by_what_was_run(root):
    assert len(rl.runs(root, env="Catch", lr=1e-3)) == 3
    assert len(rl.runs(root, algorithm="reinforce", num_steps=9)) == 3
    assert len(rl.runs(root, lr=1e-2)) == len(rl.runs(root, env="CartPole-v1")) == 0
    assert rl.runs(root, finished=True, name="evaluation").score.notna().all()
    with pytest.raises(ValueError, match=r"no study here has a field 'gama'; .*gamma"):
        rl.runs(root, gama=0.9)
    with pytest.raises(FileNotFoundError):
        rl.runs(root / "nowhere")


def test_a_wrapped_environment_is_distinguished_and_found_by_its_name():
    zoo = pathlib.Path(__file__).parent.parent / "experiments" / "results" / "zoo"
    found = [
        rl.runs(zoo / f"sac-Pendulum-{kind}.json", env="Pendulum-v1").env[0] for kind in ("P", "v1")
    ]
    assert found == ["Pendulum-v1 in Observe", "Pendulum-v1"]


@rl.pytree
class Mine(rl.Objective):
    """An objective of a user."""

    def __call__(self, ratio, advantage):
        return ratio * advantage


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        (rl.ppo(), "ppo"),
        (rl.a2c(), "a2c"),
        (rl.reinforce(), "reinforce"),
        (rl.OnPolicy(rule=rl.Surrogate(Mine())), "Mine"),
        (rl.ppo(objective=Mine()), "Mine"),
        (rl.OnPolicy(rule=rl.Surrogate(Mine()), name="mine, tuned"), "mine, tuned"),
        (rl.OffPolicy(learner=rl.QLearning()), "QLearning"),
        (rl.Stream(), "ActionValues"),
    ],
)
def test_an_algorithm_of_a_user_has_its_own_name(algo, name):
    record = make_record(
        rl.tree.replace(TRAINING, algo=algo), Grid({"seed": [1]}), with_program=False
    )
    assert catalogue.algorithm_name(record) == name


def test_commits_and_dates_are_found_by_their_beginnings(root, capsys):
    row = rl.runs(root).iloc[0]
    assert len(rl.runs(root, commit=row.commit[:5], date=row.date[:7])) == 3
    assert len(rl.runs(root, date=int(row.date[:4]))) == 3
    assert len(rl.runs(root, date=row.date[1:4])) == 0
    assert commands.labels_of(("commit=12e4567", "date=2026"), rl.runs) == {
        "commit": "12e4567",
        "date": "2026",
    }
    main(["runs", str(root), "--where", f"date={row.date[:4]}"])
    assert "small.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["runs"], ["compare", "small.json", "small.json"], ["play", "x"]]
)
def test_an_axis_with_the_name_of_an_argument_is_explained(root, words, monkeypatch):
    monkeypatch.chdir(root)
    name = {"runs": "root", "compare": "allow", "play": "folder"}[words[0]]
    with pytest.raises(SystemExit, match=f"{name}' is an argument of rl.* itself") as raised:
        main([*words, "--where", f"{name}=7"])
    by_path, by_axis = (
        f"for example env.{name}=",
        f".sel({name}=",
    )  # a path finds studies, but names no axis of one
    assert [expected in str(raised.value) for expected in (by_path, by_axis)] == [
        words[0] == "runs",
        words[0] != "runs",
    ]


def test_a_record_is_the_study_in_small(root):
    small, full = rl.load(root / "small.json"), rl.load(root / "2026" / "grid")
    assert (root / "small.json").stat().st_size < 10_000
    for name in ("return", "evaluation", "diverged"):
        np.testing.assert_array_equal(small[name], full[name])
        assert small[name].dtype == full[name].dtype
    again = rl.rerun(root / "small.json", 7, progress=False)
    assert again.equal, str(again)
    assert "3 curves are equal" in str(again)


def test_a_rounded_record_is_compared_rounded(root, tmp_path):
    record = json.loads((root / "small.json").read_text())
    curve = record["curves"]["return"]
    curve |= {"decimals": 1, "values": np.round(np.array(curve["values"], np.float32), 1).tolist()}
    (file := tmp_path / "rounded.json").write_text(json.dumps(record))
    again = rl.rerun(file, 7, progress=False)
    assert again.equal, str(again)
    assert "equal as far as the record rounds them" in str(again)
    curve["values"] = (np.array(curve["values"]) + 0.1).tolist()
    file.write_text(json.dumps(record))
    assert rl.rerun(file, 7, progress=False).drift.keys() == {"return"}


def test_a_record_of_static_axes_trains_any_member_again(tmp_path):
    training = rl.tree.put(TRAINING, {"episodes": 0})
    axes = {"evals": (2, 3)}  # rows of other steps, and more of them
    results = rl.sweep(
        training, {"seed": np.arange(2)}, static=axes, folder=tmp_path / "x", progress=False
    )
    assert results.sizes["step"] > 3
    file = rl.export(tmp_path / "x", tmp_path / "small.json", "record")
    assert (rl.runs(tmp_path).note == "too few seeds for an interval (2)").all()
    again = rl.rerun(file, 1, progress=False)
    assert again.equal, str(again)
    assert (again.where, again.curves["step"].values.tolist()) == (
        {"evals": 2, "seed": 1},
        [90, 180],
    )
    assert np.isfinite(again.curves["return"]).all()

    record = json.loads(file.read_text())
    assert [len(each["step"]) for each in record["each"].values()] == [2, 3]
    record["curves"]["return"]["values"][1][0][-1] = 7.0  # the last row of another
    file.write_text(json.dumps(record))
    assert rl.rerun(file, 2, progress=False).drift.keys() == {"return"}
    for each in record["each"].values():
        del each["recipe"]
    file.write_text(json.dumps(record))
    for group in (tmp_path / "x" / "static").glob("*/sweep.json"):
        group.write_text(
            json.dumps(
                {
                    key: part
                    for key, part in json.loads(group.read_text()).items()
                    if key != "recipe"
                }
            )
        )
    assert rl.runs(tmp_path).note.str.contains("no recipe: rerun needs its training").all()


def test_a_member_of_a_group_has_its_own_steps():
    """Those of a record are the largest of all groups where they are equally many."""
    found = xr.Dataset({"return": ("step", [3.0, 4.0])}, {"step": [90, 180]})
    again = found.assign_coords(step=[80, 160])
    assert _drift(again, _own_rows(found, np.array([80, 160]))) == {}
    assert _drift(again, _own_rows(found, np.array([90, 180]))) == {"step": 20.0}


def test_a_run_of_other_rows_has_drifted():
    found = xr.Dataset({"return": ("step", [1.0, 2.0])}, {"step": [90, 180]})
    again = xr.Dataset({"return": ("step", [1.0, 1.0, 2.0])}, {"step": [45, 90, 135]})
    for own in ([90, 180], [45, 90, 135]):
        assert _drift(again, _own_rows(found, np.array(own))) == {"step": np.inf, "return": np.inf}


def test_the_zoo_is_a_catalogue():
    table = rl.runs("experiments/results/zoo", name="evaluation")
    assert not table.note.str.startswith("broken").any()
    assert {"CartPole-v1", "Pendulum-v1"} <= set(table.env)
    row = table[table.folder.map(lambda path: path.name) == "dqn-Acrobot-v1.json"].iloc[0]
    published = json.loads(row.folder.read_text())["evaluation_score"]
    assert row.score == pytest.approx(published["iqm"], abs=1e-3)
    assert (row.low, row.high) == pytest.approx(
        (published["low"], published["high"]), abs=0.5
    )  # of other resamples


def test_the_page_shows_the_zoo_as_its_records_say():
    from experiments.zoo.__main__ import RESULTS, table

    assert table(RESULTS / "zoo") in pathlib.Path("experiments/README.md").read_text()


def test_a_row_of_the_zoo_is_a_complete_record(tmp_path, monkeypatch):
    from experiments.zoo.__main__ import Config, main

    monkeypatch.setattr(rl, "use_all_cores", lambda: 1)  # jax has started
    main(Config(rows=("reinforce CartPole-v1",), seeds=2, scale=0.01, folder=tmp_path))
    (row,) = rl.runs(tmp_path, algorithm="reinforce").itertuples()
    assert (row.env, row.seeds, row.note) == ("CartPole-v1", 2, "too few seeds for an interval (2)")
    assert np.isfinite(row.score)
    assert np.isnan(row.low)
    record = json.loads(row.folder.read_text())
    assert record["row"] == "reinforce CartPole-v1"
    assert record["evaluation_score"]["mean"] == pytest.approx(
        float(rl.load(row.folder)["evaluation"].isel(step=-1).mean()), abs=0.01
    )
    assert rl.rerun(row.folder, 1, progress=False).equal


def test_too_few_seeds_are_listed_without_an_interval(root, tmp_path, capsys):
    record = json.loads((root / "small.json").read_text())
    curves = {
        name: curve | {"values": [rows[:3] for rows in curve["values"]]}
        for name, curve in record.pop("curves").items()
    }
    labels = record["labels"] | {"seed": [0, 1, 2]}
    (tmp_path / "three.json").write_text(json.dumps(record | {"labels": labels, "curves": curves}))
    (row,) = rl.runs(tmp_path).itertuples()
    assert row.note == "too few seeds for an interval (3)"
    assert np.isnan(row.low)
    studies.runs(tmp_path)
    assert f"{row.score:.4g} " in (shown := capsys.readouterr().out)
    assert "[" not in shown
    studies.show(rl.load(tmp_path / "three.json"))
    assert capsys.readouterr().out.count("too few seeds") == 2


def test_the_command_line_lists_and_compares(root, capsys):
    main(["runs", str(root), "--where", "env=Catch", "lr=1e-3"])
    assert "small.json" in capsys.readouterr().out
    main(["compare", str(root / "small.json"), str(root / "2026" / "grid"), "--where", "lr=1e-3"])
    assert "no difference is shown" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="several settings"):
        main(["compare", str(root / "small.json"), str(root / "small.json")])
    main(["runs", str(root), "--where", "env=Pong"])
    assert capsys.readouterr().out.endswith(f"no study below {root} has env=Pong\n")


def test_incomplete_and_foreign_files_have_clear_errors(root, tmp_path, capsys):
    small = shutil.copy(root / "small.json", tmp_path / "small.json")
    main(["plot", str(small), "--by", "lr"])
    assert (tmp_path / "small.png").exists()
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "old.json").write_text(
        json.dumps({k: v for k, v in json.loads(small.read_text()).items() if k != "recipe"})
    )
    (tmp_path / "edited.json").write_text(
        json.dumps(json.loads(small.read_text()) | {"versions": [1]})
    )
    curves = {"return": {"dtype": "float32", "values": [10**400]}}
    (tmp_path / "huge.json").write_text(
        json.dumps(json.loads(small.read_text()) | {"curves": curves})
    )
    expected = {
        ("play", "small.json"): "is a record: curves, and no policies",
        ("plot", "other.json"): "is not a record of a sweep, or is damaged (it has no 'run')",
        ("plot", "nowhere.json"): "does not exist",
        ("report", "edited.json"): "its versions is not a dictionary",
        ("report", "small.json", "--out", "."): "is a directory: write a file",
        ("plot", "huge.json"): "is damaged",
        ("report", "."): "it has no sweep.json.*`jaxrl runs` lists",
        ("rerun", "old.json", "--member", "0"): "old.json has no recipe",
    }
    for (command, file, *words), match in expected.items():
        with pytest.raises(SystemExit, match=match.replace("(", r"\(").replace(")", r"\)")):
            main([command, str(tmp_path / file), *words])


BROKEN = {
    "cut": lambda text: text[:100],
    "deep": lambda text: "[" * 100_000,
    "list": lambda text: "[]",
    "strings": lambda text: json.dumps(json.loads(text) | {"labels": 3}),
    "huge": lambda text: json.dumps(
        json.loads(text) | {"labels": {"seed": [0], "lr": list(range(9))}}
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_stops_nothing(root, tmp_path, how, capsys):
    shutil.copytree(root / "2026" / "grid", tmp_path / "good")
    (tmp_path / how).mkdir()
    (tmp_path / how / "sweep.json").write_text(
        BROKEN[how]((root / "2026" / "grid" / "sweep.json").read_text())
    )
    table = rl.runs(tmp_path).set_index("note")
    assert len(table) == 2
    assert sum(note.startswith("broken") for note in table.index) == (how != "huge")
    studies.runs(tmp_path)
    assert "good" in capsys.readouterr().out


def test_special_files_and_outside_paths_are_broken(root, tmp_path):
    """A pipe would block, a device never end, and a group's folder may be outside."""
    for name in ("pipe", "device", "elsewhere"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "sweep.json")
    (tmp_path / "device" / "sweep.json").symlink_to("/dev/zero")
    record = json.loads((root / "2026" / "grid" / "sweep.json").read_text())
    (tmp_path / "elsewhere" / "sweep.json").write_text(
        json.dumps(record | {"groups": [str(root), "../x"], "static": {}})
    )
    table = rl.runs(tmp_path)
    assert len(table) == 3
    assert table.note.str.startswith("broken").all()


def test_a_compressed_chunk_is_not_unpacked(root, tmp_path):
    shutil.copytree(root / "2026" / "grid", tmp_path / "x")
    (tmp_path / "x" / "results.nc").unlink()
    path = next((tmp_path / "x" / "members").glob("*.npz"))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="compressed"):
        store.read(path)


def bytes_of(file, how):
    made = file.create_dataset("bomb", (10**7,), np.uint8, compression="gzip", chunks=(10**6,))
    if how != "unwritten":
        made[:] = 0


def texts_of(file, how):
    """A thousand texts of 60 kB, where there is one: what is not written, and what was written as
    one letter.
    """
    chunks = (100,) if how == "chunked" else None
    made = file.create_dataset(
        "bomb", (1000,), h5py.string_dtype(), fillvalue="x" * 60_000, chunks=chunks
    )
    if how == "shared":
        made[:] = ["x" * 60_000] + ["y"] * 999


BOMBS = {
    **{how: (bytes_of, "unpacks from") for how in ("zeros", "unwritten", "sparse")},
    **{how: (texts_of, "text as no sweep writes") for how in ("chunked", "contiguous")},
    "shared": (texts_of, "unpacks from"),
}


@pytest.mark.parametrize("how", ["honest", *BOMBS])
def test_results_of_any_size_are_read_and_bombs_are_not(root, tmp_path, how, monkeypatch, capsys):
    """A few thousand bytes can unpack to terabytes, or declare them and hold nothing."""
    monkeypatch.setattr(netcdf, "UNPACKED", 100)
    shutil.copytree(root / "2026" / "grid", tmp_path / "x")
    path = tmp_path / "x" / "results.nc"
    if how != "honest":
        with h5py.File(path, "a") as file:
            BOMBS[how][0](file, how)
            at = file["bomb"].id.get_offset()
        if how == "sparse":
            os.truncate(path, 10**7)
        elif how == "shared":  # all point where the first does
            stored = path.read_bytes()
            path.write_bytes(stored[:at] + stored[at : at + 16] * 1000 + stored[at + 16_000 :])
    results, said = rl.load(tmp_path / "x"), capsys.readouterr().out
    assert "bomb" not in results
    assert results.nbytes > 100
    assert ("damaged" in said) == (how != "honest")
    assert how == "honest" or BOMBS[how][1] in said


def test_axes_of_text_are_read(tmp_path):
    path = tmp_path / "results.nc"
    made = xr.Dataset(
        {"return": ("net", np.arange(3.0))},
        {"net": ["a", "", "ü" * 500], "kind": ("net", [*"xyz"])},
    )
    store.write_results(path, made.assign_coords(one="alone"))
    xr.testing.assert_equal(netcdf.read(path), made.assign_coords(one="alone"))


def test_a_setting_is_found_on_an_axis_in_any_order(root):
    results = rl.load(root / "2026" / "grid")
    other = results.isel(lr=[1, 0])
    mixed = xr.concat([other, other.isel(lr=0).assign_coords(lr=0.01)], "lr")  # 0.1, 0.001, 0.01
    alike = rl.compare(mixed, results, lr=1e-3)
    assert (float(alike.difference.estimate), alike.paired) == (0.0, True)
    with pytest.raises(ValueError, match="was not swept"):
        rl.compare(mixed, results, lr=5.0)


@pytest.mark.parametrize("how", ["external", "link"])
def test_results_that_point_elsewhere_are_not_read(root, tmp_path, how):
    """HDF5 can show another file's bytes as its own."""
    shutil.copytree(root / "2026" / "grid", tmp_path / "x")
    shutil.rmtree(tmp_path / "x" / "members")
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "x" / "results.nc", "a") as file:
        if how == "external":
            file.create_dataset("stolen", (8,), np.uint8, external=[(tmp_path / "secret", 0, 8)])
        else:
            file["stolen"] = h5py.ExternalLink("../secret", "/")
    assert "stolen" not in rl.load(tmp_path / "x")


def test_text_of_strangers_is_shown_plainly(root, tmp_path, capsys):
    shutil.copytree(root / "2026" / "grid", tmp_path / "x")
    record = json.loads((tmp_path / "x" / "sweep.json").read_text())
    record |= {"algorithm": "[red]evil\x1b[2J", "started": 7}
    (tmp_path / "x" / "sweep.json").write_text(json.dumps(record))
    studies.runs(tmp_path)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]" in shown.replace("\n", "")


# ------------------------------------------------------------------------------------- side by side


def test_a_comparison_has_intervals(root):
    grid = rl.load(root / "2026" / "grid")
    made = rl.compare(root / "2026" / "grid", root / "small.json", lr=1e-3)
    last = grid["return"].isel(step=-1).sel(lr=1e-3, method="nearest")
    assert float(made.first.estimate) == pytest.approx(float(rl.stats.iqm(last.values)))
    assert [*map(float, made.difference)] == [0, 0, 0]
    assert made.paired
    assert float(made.improvement.estimate) == pytest.approx(0.5)


def test_misleading_comparisons_are_refused(root):
    with pytest.raises(ValueError, match=r"several settings along lr.*lr=0\.001"):
        rl.compare(root / "small.json", root / "small.json")
    with pytest.raises(ValueError, match=r"lr=0\.5 was not swept"):
        rl.compare(root / "small.json", root / "small.json", lr=0.5)
    with pytest.raises(ValueError, match=r"swept over 'lrr'; the nearest are lr\."):
        rl.compare(root / "small.json", root / "small.json", lr=1e-3, lrr=0.5)
    zoo = "experiments/results/zoo/"
    with pytest.raises(ValueError, match=r"environment: .*Acrobot-v1"):
        rl.compare(zoo + "dqn-CartPole-v1.json", zoo + "dqn-Acrobot-v1.json", "evaluation")


def test_a_record_has_the_name_of_its_algorithm(root):
    row = rl.runs(root).iloc[0]
    assert row["algorithm"] == "reinforce"
    assert catalogue.algorithm_name({"run": {"algo": {"type": "Mine"}}}) == "Mine"
    assert catalogue.algorithm_name({"run": {"function": "study.run"}}) == "run"
