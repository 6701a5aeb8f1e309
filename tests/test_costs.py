"""The suite's own machinery: costs add up, limits hold, and rotating tests take turns."""

import pathlib
import types

import costs
import jax
import numpy as np
import pytest
from conftest import PARTS, is_taken


class Config:
    def __init__(self, **options):
        self.options = options

    def getoption(self, name, default=False):
        return self.options.get(name.lstrip("-"), default)


def item(nodeid, *markers, args=()):
    mark = types.SimpleNamespace(args=args)
    return types.SimpleNamespace(
        nodeid=nodeid, get_closest_marker=lambda name: mark if name in markers else None
    )


def test_nested_intervals_count_once():
    assert costs.length_of_union([(0.0, 4.0), (1.0, 2.0), (3.0, 6.0), (8.0, 9.0)]) == 7.0
    assert costs.length_of_union([]) == 0.0


def test_programs_are_counted_and_operations_apart():
    heard = costs.Costs()
    jax.monitoring.register_event_duration_secs_listener(heard.on_duration)
    heard.file = "test_x.py"
    x = np.zeros(3, np.float32)
    for _ in range(2):
        jax.jit(lambda x: x + 2.5)(x)  # two functions: two programs, if equal ones
    jax.numpy.expm1(x)
    heard.file = None
    row = heard.totals["test_x.py"]
    assert row["programs"] == 2
    assert row["operations"] <= 1  # none where an earlier test has used it


def test_a_file_above_its_limit_is_an_offender(monkeypatch):
    limits = {"test_x.py": (93, 1.0), "test_y.py": (93, 1.0), "test_small.py": (3, 1.0)}
    monkeypatch.setattr(costs, "read", lambda: limits)
    numbers = {"test_x.py": 94, "test_y.py": 93, "test_small.py": 4, "test_new.py": 99}
    totals = {file: {"programs": number} for file, number in numbers.items()}
    assert costs.offenders(totals, Config(dist="loadgroup")) == [("test_x.py", 94, 93)]
    assert costs.offenders(totals, Config(dist="loadgroup", programs=True)) == []
    assert costs.offenders(totals, Config()) == []


@pytest.mark.parametrize("args", [(), (3,)])
def test_each_rotating_test_runs_in_one_session_of_so_many(args, monkeypatch):
    taken = []
    for run in range(100, 100 + (args[0] if args else PARTS)):
        monkeypatch.setenv("JAXRL_TEST_RUN", str(run))
        rotating = [item(f"t.py::test[{i}]", "rotate", args=args) for i in range(40)]
        taken.append([is_taken(each, Config(), False) for each in rotating])
    assert (np.sum(taken, 0) == 1).all()
    assert is_taken(item("a"), Config(), False)


@pytest.mark.parametrize(
    ("markers", "options", "by_name", "runs"),
    [
        (("rotate",), {"all": True}, False, True),
        (("rotate",), {}, True, True),
        (("nightly",), {"all": True}, True, False),
        (("nightly",), {"nightly": True}, False, True),
    ],
)
def test_options_choose(markers, options, by_name, runs):
    assert is_taken(item("a", *markers), Config(**options), by_name) == runs


def test_every_line_of_the_rotating_tests_is_a_test():
    """A name that is no test any more would rotate nothing, in silence."""
    folder = pathlib.Path(__file__).parent
    for line in (folder / "rotating.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        file, _, name = line.partition("::")
        assert (folder / file).is_file(), line
        function = name.partition("[")[0]
        assert function in ("", "*") or f"def {function}(" in (folder / file).read_text(), line
