"""Claims of papers: what is refused, how a verdict comes about, and records that match the code.

The claims here are of functions that take no compilation of note.
"""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxrl as rl
from experiments.claims import Arm, Check, Claim, beats, page, ratio, share
from experiments.claims.claim import check as check_claim
from experiments.claims.claim import ledger
from experiments.claims.running import (
    VERDICTS,
    Place,
    at_edge,
    describe,
    run,
    run_claim,
    verdict,
)
from experiments.papers import __main__
from jaxrl.cli import main as cli

EXACT = Check("one", lambda results: 1.0, "> 0")
NAMES = __main__.names()


def drawn(seed, offset=0.0):
    """A score: a normal number around an offset."""
    return {"score": offset + jax.random.normal(jax.random.key(seed))}


def shifted(seed):
    return {"score": drawn(seed)["score"] + 3.0}


def claim(**changes):
    arms = {"high": Arm(shifted, budget=5), "low": Arm(drawn, budget=5)}
    fields = {"row": 176, "statement": "Three is more than none.", "arms": arms}
    return Claim(**fields | {"accept": [beats("high", "low", "score")]} | changes)


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"row": 3}, "no such row"),
        ({"accept": []}, "can't be false"),
        ({"arms": {}}, "either arms to run or records"),
        ({"records": ("tuners.json",)}, "either arms to run or records"),
        ({"arms": {"a": Arm(drawn, 5), "b": Arm(drawn, 6)}}, "different budgets"),
        ({"arms": {"a": Arm(drawn)}}, "needs its budget"),
        (
            {"arms": {"a": Arm(drawn, 5, {"offset": [0.0, 1.0]}), "b": Arm(drawn, 5)}},
            "different numbers of settings",
        ),
        ({"seeds": (1, 1, *range(2, 99))}, "a test seed twice"),
        ({"seeds": 5}, "at least 64"),
    ],
)
def test_what_is_not_fair_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        check_claim(claim(**changes))


def test_test_seeds_are_not_tuning_seeds():
    arms = {"a": Arm(drawn, 5, {"offset": [0.0, 1.0]}), "b": Arm(drawn, 5, {"offset": [0.0, 2.0]})}
    check_claim(claim(arms=arms))
    with pytest.raises(ValueError, match=r"tuned on, \[0, 1, 2, 3, 4\]"):
        check_claim(claim(arms=arms, seeds=range(64)))


def test_steps_of_a_training_are_its_budget():
    training = rl.Training(rl.ppo(num_envs=2, num_steps=8), rl.envs.make("Catch"), 64)
    assert Arm(training).samples == 64


@pytest.mark.parametrize("accept", ["", "0", "= 0", "> x", "> 0; < 1"])
def test_a_comparison_that_cannot_be_read(accept):
    with pytest.raises(ValueError, match="not a comparison"):
        Check("x", lambda results: 0.0, accept)


def test_a_paper_that_is_not_there():
    with pytest.raises(ValueError, match=r"no file nonsense\.py"):
        __main__.claims_of("nonsense")


def test_a_trial_does_not_replace_a_record():
    with pytest.raises(ValueError, match="trial"):
        __main__.main(__main__.Config(names=("anything",), scale=0.1))


# ----------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("accept", "values", "holds"),
    [
        ("> 0", (1.0, 0.1, 2.0), True),
        ("> 0", (1.0, 0.0, 2.0), False),
        (">= 0", (1.0, 0.0, 2.0), True),
        ("<= 2", (1.0, 0.0, 2.1), False),
        (">= 0.9, <= 1", (0.95, 0.91, 1.0), True),
        (">= 0.9, <= 1", (0.95, 0.89, 1.0), False),
        ("> 0", (float("nan"),) * 3, False),
    ],
)
def test_the_whole_interval_has_to_satisfy_a_check(accept, values, holds):
    each = Check("x", lambda results: rl.stats.Interval(*map(jnp.asarray, values)), accept)
    assert each.holds(each.effect({})) is holds


def test_a_verdict(tmp_path):
    """Of the difference of two normal samples; the checks that hold decide."""
    fails = Check("the lower arm", lambda results: results["low"]["score"].values, ">= 2")
    place = Place(tmp_path, progress=False)
    record = run(
        [claim(), claim(accept=[EXACT, fails]), claim(accept=[fails])], "x", place, tmp_path
    )
    assert [each["verdict"] for each in record["claims"]] == list(VERDICTS)
    first = record["claims"][0]["checks"][0]
    assert 2.0 < first["low"] < first["estimate"] < first["high"] < 4.0
    seeds = 50_000 + np.arange(64)
    x, y = (np.array([f(seed)["score"] for seed in seeds]) for f in (shifted, drawn))
    assert first["estimate"] == pytest.approx(float(rl.stats.iqm(x) - rl.stats.iqm(y)), abs=1e-3)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ((True, True, True), "reproduced"),
        ((True, True, False), "partly reproduced"),
        ((False, True, False), "partly reproduced"),
        ((False, False, True), "not reproduced"),
    ],
)
def test_a_control_is_required_and_is_no_part_of_the_claim(holds, expected):
    checks = [EXACT, EXACT, dataclasses.replace(EXACT, control=True)]
    assert verdict(checks, holds) == expected


def test_a_ratio_has_the_error_of_both_with_common_seeds():
    rng = np.random.default_rng(0)
    y = rng.uniform(1, 9, 200)
    same = ratio(3 * y, y)
    np.testing.assert_allclose(same, 3.0, rtol=1e-4)  # all variance is common
    x = rng.uniform(1, 9, 200)
    made = ratio(x, y, rl.stats.mean, rl.stats.mean)
    slow = []
    for _ in range(2000):
        drawn = rng.integers(0, 200, 200)
        slow.append(x[drawn].mean() / y[drawn].mean())
    assert float(made.estimate) == pytest.approx(x.mean() / y.mean(), rel=1e-4)
    np.testing.assert_allclose(made[1:], np.quantile(slow, [0.025, 0.975]), atol=0.02)


@pytest.mark.parametrize("ones", [0, 1, 17, 20])
def test_the_interval_of_a_share_is_the_exact_one(ones):
    hits = np.stack([np.arange(20) < ones, np.ones(20)], 1)
    made = share(hits)
    exact = scipy.stats.binomtest(ones, 20).proportion_ci()
    expected = ones / 20, exact.low, exact.high
    np.testing.assert_allclose([x[0] for x in made], expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(made.low[1], 0.025 ** (1 / 20), rtol=1e-5)


def test_a_setting_at_an_end_of_its_grid_is_noted():
    arm = Arm(drawn, 5, {"offset": (0.0, 1.0, 2.0), "scale": (1.0,)})
    assert not at_edge(arm, {"offset": 1.0, "scale": 1.0})
    assert at_edge(arm, {"offset": 2.0, "scale": 1.0})
    assert at_edge(Arm(drawn, 5, {"offset": (0.0, 1.0)}), {"offset": 1.0})


def test_a_setting_that_is_chosen_has_a_finite_metric(tmp_path):
    arm = Arm(lambda seed, offset: {"score": float("nan")}, 5, {"offset": [0.0, 1.0]}, True)
    with pytest.raises(ValueError, match="No setting of an arm of row 176 has a finite 'score'"):
        run_claim(claim(arms={"a": arm}, metric="score"), Place(tmp_path), tmp_path / "x.png")


def test_settings_are_chosen_on_the_tuning_seeds_and_nothing_runs_twice(tmp_path):
    calls = []

    def noted(seed, offset):
        calls.append((seed, offset))
        return {"score": [offset + seed]}

    arm = Arm(noted, 5, {"offset": [0.0, 3.0, 1.0]}, on_host=True)
    of_arm = Check("score", lambda results: results["a"]["score"].values[:, 0], "> 0")
    noting = claim(arms={"a": arm}, metric="score", tuning_seeds=(0, 1), accept=[of_arm])
    record = run_claim(noting, Place(tmp_path), tmp_path / "x.png")
    assert record["settings"] == {"a": {"offset": 3.0}}
    assert {seed for seed, _ in calls[:6]} == {0, 1}
    assert calls[6:] == [(50_000 + i, 3.0) for i in range(64)]
    assert run_claim(noting, Place(tmp_path), tmp_path / "x.png") == record
    assert len(calls) == 6 + 64
    lowest = dataclasses.replace(noting, minimize=True)
    assert run_claim(lowest, Place(tmp_path), tmp_path / "x.png")["settings"]["a"]["offset"] == 0.0


# ---------------------------------------------------------------------- the records and their table


def test_the_ledger_has_every_paper():
    assert len(ledger()) == 223
    assert all(paper["title"] and paper["topic"] for paper in ledger().values())


def test_the_page_is_made_of_the_records():
    assert (page.FOLDER / "README.md").read_text() == page.page(page.records())


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_of_the_claims_as_they_are_written(name):
    """Of the statement, the requirements, the seeds and the budgets."""
    record = page.records()[name]
    claims = __main__.claims_of(name)
    assert [each["row"] for each in record["claims"]] == [each.row for each in claims]
    for each, kept in zip(claims, record["claims"], strict=True):
        check_claim(each)
        as_read = json.loads(json.dumps(describe(each)))
        assert {key: kept[key] for key in as_read} == as_read
        checks = [(check.statement, check.accept, check.control) for check in each.accept]
        assert checks == [
            (check["statement"], check["accept"], check.get("control", False))
            for check in kept["checks"]
        ]
        assert each.statement.endswith(".")


def test_verdicts_follow_from_the_numbers_of_the_record():
    for record in page.records().values():
        for each in record["claims"]:
            holds, checks = [], []
            for kept in each["checks"]:
                ends = (np.nan if kept[end] is None else kept[end] for end in ("low", "high"))
                low, high = ends
                effect = rl.stats.Interval(np.nan, low, high)
                is_control = kept.get("control", False)
                checks.append(Check("x", float, kept["accept"], control=is_control))
                holds.append(checks[-1].holds(effect))
                assert holds[-1] == kept["holds"], kept
            assert each["verdict"] == verdict(checks, holds)


def test_no_record_is_left_of_a_paper_that_is_gone():
    assert set(page.records()) <= set(NAMES)


def test_files_of_papers_are_short():
    for path in page.FOLDER.glob("*.py"):
        if path.stem in NAMES:
            assert len(path.read_text().splitlines()) <= 150, path.name


@pytest.mark.rotate(16)
@pytest.mark.parametrize("name", NAMES)
def test_a_paper_runs(name, in_process):
    words = __main__.Config(
        (name,), scale=0.01, seeds=2, runs=in_process, folder=in_process, progress=False
    )
    __main__.main(words)
    record = json.loads((in_process / f"{name}.json").read_text())
    assert all(each["verdict"] in VERDICTS for each in record["claims"])


# --------------------------------------------------------------------------------- the command line


def test_the_command_prints_a_topic(capsys):
    cli(["papers", "--topic", "evidence"])
    shown = capsys.readouterr().out
    assert re.search(r"^\d+ of 223 papers", shown)
    assert "Evidence and tuning" in shown
    assert "Tabular" not in shown


def test_an_unknown_topic_names_them():
    with pytest.raises(SystemExit, match="No topic contains 'cooking': the topics are"):
        cli(["papers", "--topic", "cooking"])


def test_without_a_checkout_the_command_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.claims.page", None)
    with pytest.raises(SystemExit, match="folder experiments/ of a checkout"):
        cli(["papers"])


@pytest.mark.rotate
def test_the_runner_in_a_process_of_its_own(tmp_path):
    words = [sys.executable, "-m", "experiments.papers", "nonsense"]
    done = subprocess.run(words, cwd=page.FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode
    assert "no file nonsense.py" in done.stderr
