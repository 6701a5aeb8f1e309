"""The script for the day an accelerator is at hand: its record, its time, and its stages at toy
size.
"""

import json

import jax.numpy as jnp
import pytest
from members import TINY

from experiments import _accelerator_pages
from experiments import accelerator as script
from experiments._accelerator_pages import correlations, page, picture
from experiments._accelerator_stages import (
    STAGES,
    Context,
    NotHereError,
    OutOfTimeError,
    Stage,
    missing,
    sweep,
)
from jaxrl.accelerator import target_of
from jaxrl.sweep import files

EVERY_RUN = ("bootstrap", "memories")  # seconds; the other stages rotate


class Clock:
    """A time that moves only as parts take it; parts that ran are in `ran`."""

    def __init__(self):
        self.seconds, self.ran = 0.0, []

    def __call__(self):
        return self.seconds

    def stage(self, title, sizes, fail=(), error=NotHereError, **fields):
        """A stage of which the part of size n takes n minutes, half a minute of them compiling."""

        def measure(context, *, n):
            if n in fail:
                raise error
            self.ran.append((title, n))
            self.seconds += 60.0 * n
            return {"compile_seconds": 30.0, "run_seconds": 60.0 * n - 30.0, "value": 1.5 * n}

        parts = tuple({"n": n} for n in sizes)
        fields = {"seconds": 60.0, "work": ("n",)} | fields
        return Stage(title, measure, parts, parts, {"value": "values"}, **fields)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(script.time, "monotonic", clock)
    return clock


@pytest.fixture
def call(monkeypatch, in_process, clock):
    """Run fake stages for some minutes, under the name of a device."""

    def call(stages, minutes=100.0, device="here", **fields):
        monkeypatch.setattr(script, "device", lambda: device)
        for module in (script, _accelerator_pages):
            monkeypatch.setattr(module, "STAGES", stages)
        config = script.Config(minutes, tuple(stages), toy=True, folder=in_process, **fields)
        script.run(config, clock)
        return script.read(config.record)

    return call


def test_a_second_call_runs_what_is_missing(call, clock, capsys):
    stages = {"a": clock.stage("A", (1, 2)), "b": clock.stage("B", (1, 3))}
    rows = call(stages, minutes=4.0)
    assert clock.ran == [("A", 1), ("A", 2), ("B", 1)]
    assert "1 parts are left" in capsys.readouterr().out
    rows = call(stages)
    assert clock.ran == [("A", 1), ("A", 2), ("B", 1), ("B", 3)]
    assert [(row["stage"], row["part"]["n"]) for row in rows] == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 3),
    ]  # fmt: skip
    assert "All is done" in capsys.readouterr().out
    call(stages)
    assert len(clock.ran) == 4
    call(stages, again=True)
    assert len(clock.ran) == 8


def test_a_part_starts_if_it_is_expected_to_end_in_time(call, clock):
    # of the last measured part: 30 s of compilation, and its run times the ratio of the work
    ascending = clock.stage("A", (2, 8, 3), ascending=True)
    rows = call({"a": ascending, "b": clock.stage("B", (9, 1))}, minutes=6.0)
    # 8 would take 6.5 minutes and 4 are left; the rest of an ascending stage is left out, and B's
    # first part has the guess of a toy's 10 s and takes 9 minutes
    assert clock.ran == [("A", 2), ("B", 9)]
    assert len(rows) == 2


def test_parts_of_a_stage_that_does_not_ascend_are_left_out_one_by_one(call, clock):
    call({"a": clock.stage("A", (2, 8, 1))}, minutes=6.0)
    assert clock.ran == [("A", 2), ("A", 1)]


def test_nothing_starts_without_time(call, clock):
    assert call({"a": clock.stage("A", (1, 2))}, minutes=0.1) == []


def test_a_kill_loses_one_part(call, clock):
    stages = {"a": clock.stage("A", (1, 2, 3), fail={3}, error=KeyboardInterrupt())}
    with pytest.raises(KeyboardInterrupt):
        call(stages)
    call({"a": clock.stage("A", (1, 2, 3))})
    assert clock.ran == [("A", 1), ("A", 2), ("A", 3)]


def test_a_kill_while_the_record_is_written_leaves_the_one_before(call, clock, monkeypatch):
    stages = {"a": clock.stage("A", (1, 2))}
    before = call(stages, minutes=1.1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            call(stages)
    assert call(stages, minutes=0.0) == before
    assert call(stages)[0] == before[0]


def test_a_stage_that_fails_says_why_and_the_next_one_runs(call, clock, in_process, capsys):
    error = RuntimeError("RESOURCE_EXHAUSTED: out | of memory\nallocator\n" * 9)
    stages = {
        "a": clock.stage("A", (1, 2, 3), fail={2}, error=error, ascending=True),
        "b": clock.stage("B", (1, 2, 3), fail={2}, error=error),
    }
    rows = call(stages)
    assert clock.ran == [("A", 1), ("B", 1), ("B", 3)]
    failed = "RuntimeError: RESOURCE_EXHAUSTED: out | of memory"
    assert [row.get("error") for row in rows] == [None, failed, None, failed, None]
    text = (in_process / "accelerator_runs.md").read_text()
    assert "| 2 | RuntimeError: RESOURCE_EXHAUSTED: out \\| of memory |  |  |" in text
    capsys.readouterr()
    call({"a": clock.stage("A", (1, 2, 3)), "b": clock.stage("B", (1, 2, 3))})
    # what failed is not repeated; what came after it is missing
    assert clock.ran[3:] == [("A", 3)]


def test_what_a_machine_lacks_is_tried_again_elsewhen(call, clock, in_process):
    error = NotHereError("no target describes this device")
    call({"a": clock.stage("A", (1, 2), fail={1, 2}, error=error)})
    text = (in_process / "accelerator_runs.md").read_text()
    assert "Left out: no target describes this device." in text
    rows = call({"a": clock.stage("A", (1, 2))})
    assert [row["value"] for row in rows] == [1.5, 3.0]
    assert all("skipped" not in row for row in rows)


def test_a_part_that_is_out_of_time_is_not_in_the_record(call, clock, capsys):
    stage = clock.stage("A", (1, 2), fail={1}, error=OutOfTimeError(), goes_on=True)
    assert len(call({"a": stage})) == 1
    assert "another call goes on from its checkpoint" in capsys.readouterr().out


def test_a_part_that_goes_on_starts_with_less_time_than_it_takes(call, clock):
    stages = {"a": clock.stage("A", (1, 9), goes_on=True)}
    call(stages, minutes=2.0)
    assert clock.ran == [("A", 1), ("A", 9)]


def test_records_of_two_devices_are_side_by_side(call, clock, in_process):
    stages = {"a": clock.stage("A", (1, 2))}
    call(stages, device="NVIDIA H200")
    rows = call(stages, device="TPU v5 lite")
    assert clock.ran == [("A", 1), ("A", 2)] * 2
    assert [row["device"] for row in rows] == ["NVIDIA H200"] * 2 + ["TPU v5 lite"] * 2
    text = (in_process / "accelerator_runs.md").read_text()
    assert "## NVIDIA H200, toy sizes" in text
    assert "## TPU v5 lite, toy sizes" in text
    assert text.count("| 2 | 30 | 90 | 3 |") == 2
    assert (in_process / "accelerator_runs.png").stat().st_size > 1_000


def test_the_list_shows_what_is_missing(call, clock, in_process):
    stages = {"a": clock.stage("A", (1, 2)), "b": clock.stage("B", (1,))}
    call(stages, minutes=1.0)
    config = script.Config(stages=("a", "b"), toy=True, folder=in_process)
    lines = script.listed(config).splitlines()
    assert lines[1].split()[:7] == ["a", "1", "of", "2", "parts", "1.5", "minutes"]
    assert lines[2].split()[:7] == ["b", "1", "of", "1", "parts", "0.2", "minutes"]
    assert lines[3].split() == ["all", "1.7", "minutes"]


def test_mistakes_in_the_settings_are_named():
    with pytest.raises(ValueError, match=r"no stage 'memory'.*memories"):
        script.Config(stages=("memory",))
    with pytest.raises(ValueError, match="--toy and --full exclude each other"):
        script.Config(toy=True, full=True)
    assert script.Config().size == "toy"
    assert script.Config(full=True).size == "full"


def test_a_device_has_the_target_of_its_kind():
    names = {
        "NVIDIA H200": "h200",
        "NVIDIA H200 141GB HBM3e": "h200",
        "NVIDIA H100 80GB HBM3": "h100",
        "cpu": None,
        "NVIDIA": None,
        "NVIDIA L40S": None,
        "NVIDIA H100 PCIe": None,
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
        "NVIDIA A100-SXM4-40GB": None,
        "NVIDIA GeForce RTX 4090 Laptop GPU": None,
        "TPU v5 lite": "tpu-v5e",
        "TPU v5": None,  # v5p
    }
    found = {kind: target_of(kind) for kind in names}
    assert {kind: each and each.name for kind, each in found.items()} == names


def test_environments_that_need_a_package_are_replaced_or_left_out(monkeypatch):
    assert missing({"env": "Catch"}) == missing({"seeds": 3}) == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing({"env": "CartPole-v1"}) == "gymnax, which has CartPole-v1, is not installed"
    assert missing({"env": "brax:ant"}) == "brax, which has brax:ant, is not installed"
    assert {part["env"] for part in STAGES["ppo"].parts("full")} == {"Catch"}
    assert {part["env"] for part in STAGES["sac"].parts("full")} == {"Pendulum-v1"}


def test_ranks_are_those_of_the_measured_programs():
    rows = [
        {"measured_ms": x, "fastest_ms": y, "slowest_ms": z}
        for x, y, z in ((1.0, 0.1, 0.3), (2.0, 0.2, 0.2), (9.0, 0.5, 0.9), (4.0, 0.4, 0.6))
    ]
    text = correlations([*rows, {"error": "RuntimeError: none"}])
    # ranks 1 2 4 3 against 1 2 4 3, and against 2 1 4 3: 1 - 6 * 2 / (4 * 15)
    assert "of 4 programs: 1.00 of the bound with CUDA graphs, 0.80 of that without" in text
    assert correlations(rows[:2]) == ""


def test_the_sizes_are_those_that_were_asked_for():
    sizes = lambda name, field: [part[field] for part in STAGES[name].full]
    assert (min(sizes("ppo", "seeds")), max(sizes("ppo", "seeds"))) == (1, 16_384)
    assert set(sizes("sac", "capacity")) == {100_000}
    assert {"GRU", "LRU", "FFM"} == set(sizes("memories", "cell"))
    assert set(sizes("memories", "length")) == {1_024}
    assert max(sizes("ta_lpg", "pairs")) == 512
    assert max(sizes("symbolic", "programs")) >= 20_000
    assert len(STAGES["roofline"].full) == len(STAGES["roofline"].toy) == 8
    assert {part["env"] for part in STAGES["zoo"].full} == {
        "Breakout-MinAtar",
        "brax:inverted_pendulum",
    }
    for stage in STAGES.values():  # each part is a row of its own, at either size
        for parts in (stage.full, stage.toy):
            assert len({json.dumps(part) for part in parts}) == len(parts)
    amounts = [list(map(s.amount, s.full)) for s in STAGES.values() if s.ascending]
    assert all(min(each) > 0 for each in amounts)


def test_an_interrupted_training_run_goes_on(in_process):
    """The time ends after the first row; another call computes the rest, and only the rest."""
    left = iter([-1.0])
    seeds, options = jnp.arange(2), {"folder": in_process / "x", "save_seconds": 0.0}
    with pytest.raises(OutOfTimeError):
        sweep(Context(lambda: next(left), in_process, None), TINY, seeds, **options)
    calls = []
    rest = Context(lambda: calls.append(1) or 1.0, in_process, None)
    results = sweep(rest, TINY, seeds, **options)
    assert results.sizes["step"] == 2
    assert len(calls) <= 2  # the second row, and the end of the chunk


@pytest.mark.parametrize(
    "name", [n if n in EVERY_RUN else pytest.param(n, marks=pytest.mark.rotate) for n in STAGES]
)
def test_a_stage_runs_at_toy_size(name, in_process, capsys):
    config = script.Config(
        toy=True, stages=(name,), target="h100", folder=in_process, runs=in_process / "runs"
    )
    script.main(config)
    rows = script.read(config.record)
    assert [row["part"] for row in rows] == STAGES[name].parts("toy")
    for row in rows:
        assert {"compile_seconds", "run_seconds", "seconds", *STAGES[name].columns} <= set(row)
        assert 0.0 < row["run_seconds"] <= row["seconds"]
    text = (in_process / "accelerator_runs.md").read_text()
    assert text == page(rows)
    assert f"toy sizes\n\njax {rows[0]['jax']}, {rows[0]['day']}" in text
    out = capsys.readouterr().out
    assert out.startswith("Toy sizes")
    assert out.count("minutes left]") == len(rows)
    assert picture(rows).axes
    if name == "roofline":
        assert "Spearman's rank correlation with the measured times of 8 programs" in text
    if name == "zoo":
        assert len(rows[0]["curve"]) == 10
        assert not list((in_process / "runs").glob("**/*.json"))  # its folder is deleted
