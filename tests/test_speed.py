"""The speed tables: their arithmetic, and tiny runs of this kit alone (the others come with the
extra `bench`).
"""

import dataclasses
import json

import pytest

from experiments import _kits, launches, speed
from experiments._settings import DQN, SAC, TASKS, Job
from experiments._speed_pages import table

ROWS = [
    {
        "kit": "jaxrl",
        "seeds": 1,
        "steps": 100,
        "round": r,
        "steps_per_second": ours,
        "compile_seconds": 1.0,
    }
    | {"wall_seconds": 2.0, "peak_mb": 3.0}
    for r, ours in enumerate((300.0, 100.0, 220.0))
]
PEERS = [
    row | {"kit": "other", "steps_per_second": theirs}
    for row, theirs in zip(ROWS, (100.0, 100.0, 200.0), strict=True)
]


def test_ratios_are_of_the_same_round():
    text = table(ROWS + PEERS)
    assert "| 1 | jaxrl | 220 (100 to 300) | 1.10x (1.00x to 3.00x) | 1.0" in text


def test_one_that_failed_says_so_and_is_no_peer():
    hung = {"kit": "hung", "seeds": 1, "steps": 100, "round": 0, "failed": "not done in 5 s"}
    text = table([*ROWS, *PEERS, hung])
    assert "| 1 | hung | not done in 5 s |" in text
    assert "1.10x (1.00x to 3.00x)" in text


def test_a_measurement_that_takes_too_long_is_ended():
    assert "not done in 1 s" in speed.measure(Job("jaxrl", 2, 5120), limit=1.0)["failed"]


def test_a_measurement_that_breaks_says_why():
    assert "KeyError" in speed.measure(Job("unknown", 1, 5120), limit=60.0)["failed"]


@pytest.mark.parametrize("name", TASKS)
def test_an_update_takes_the_steps_that_its_task_says(name):
    job = Job("jaxrl", 1, 1000, name, capacity=2_000)
    algo = _kits.algorithm(job)
    assert algo.steps_per_update == job.task.update
    assert name == "ppo" or algo.capacity == 2_000


@pytest.mark.parametrize(("name", "settings"), [("dqn", DQN), ("sac", SAC)])
def test_no_measurement_is_all_warm_up(name, settings):
    task = TASKS[name]
    assert min(task.steps, task.budget // max(task.seeds)) > 3 * settings.warmup


@pytest.mark.rotate
@pytest.mark.parametrize(
    ("name", "file", "steps"),
    [("ppo", "speed", 5120), ("dqn", "speed_dqn", 1200), ("sac", "speed_sac", 270)],
)
def test_it_runs(name, file, steps, tmp_path):
    speed.main(dataclasses.replace(speed.SMOKE, algorithms=(name,), steps=steps, folder=tmp_path))
    record = json.loads((tmp_path / f"{file}.json").read_text())
    assert record["rounds"][0]["steps"] == steps
    assert record["rounds"][0]["steps_per_second"] > 0
    assert record["rounds"][0]["kept_bytes"] / 2 < 50_000  # a thousand seeds: 50 MB
    page = (tmp_path / f"{file}.md").read_text()
    assert f"# {TASKS[name].title}" in page
    assert "| 2 | jaxrl |" in page


def test_the_page_of_launches_compares_kits_and_measures():
    shared = {"algorithm": "ppo", "target": "h100", "members": 10, "date": "2026-01-01"}
    shared |= {"jax": "0", "bytes_moved": 2e12, "work_space": 1e6, "compile_seconds": 3.0}
    shared |= {"fastest": 1.0, "slowest": 2.5, "loops": []}
    rows = [
        shared | {"kit": "jaxrl", "lever": "", "launches": 204_800, "memory": 1e8},
        shared | {"kit": "rejax", "lever": "", "launches": 512_000, "memory": 2e8},
        shared | {"kit": "jaxrl", "lever": "rows", "launches": 307_200, "memory": 1.5e8},
        {"kit": "jaxnasium", "algorithm": "ppo", "target": "h100", "lever": "", "failed": "no QR"}
        | {"members": 10, "jax": "0", "date": "2026-01-01"},
    ]
    page = launches.page(rows)
    own = (
        "| PPO on CartPole | jaxrl | 2.00 |  | 2.00 TB | 100 MB | 1 MB | 8,000 | 1.0 to 2.5 | 3 s |"
    )
    assert own in page
    assert "| PPO on CartPole | rejax | 5.00 | 2.50x |" in page
    assert "| PPO on CartPole | jaxnasium | no QR |" in page
    assert "| without: one gather for a minibatch | 1.50 (1.50) |" in page
