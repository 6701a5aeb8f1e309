"""The commits in a record: of the kit, and of the project that uses it."""

import json
import os
import subprocess

import numpy as np
import pytest
from members import TINY

import jaxrl as rl
from jaxrl.sweep import provenance
from jaxrl.sweep.grid import Grid
from jaxrl.sweep.record import make_record

SEEDS = {"seed": np.arange(4)}


def git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *author, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one commit, which is the working directory."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_record_has_the_commit_of_the_kit_and_of_the_project(project, monkeypatch):
    head = git(project, "rev-parse", "HEAD")
    (project / "results.csv").write_text("an output, which is not a change")
    assert provenance.sources() == {"commit": provenance.commit(), "project_commit": head}
    (project / "train.py").write_text("2")
    assert provenance.project_commit() == f"{head} with changes"
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of git
    assert provenance.project_commit() == f"{head} with changes"
    assert make_record(TINY, Grid(SEEDS), with_program=False)["versions"]["jaxrl"] == rl.__version__


def test_outside_a_repository_no_commit_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert provenance.project_commit() == "unknown"


def test_a_kit_in_the_environment_of_a_project_is_not_of_its_commit(project):
    package = project / ".venv" / "jaxrl"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert provenance._kit_commit(package) in ("unknown", _installed_commit())
    assert provenance._kit_commit(package) != git(project, "rev-parse", "HEAD")


def _installed_commit():
    """The commit that pip installed the kit from, if it did."""
    found = provenance.importlib.metadata.distribution("jaxrl").read_text("direct_url.json")
    return json.loads(found or "{}").get("vcs_info", {}).get("commit_id", "unknown")


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"commit": "a1", "project_commit": "b2"}, "b2"),
        ({"commit": "a1", "project_commit": "unknown"}, "a1"),
        ({"commit": "a1"}, "a1"),
        ({}, "unknown"),
    ],
)
def test_a_table_of_runs_has_the_commit_of_the_project(record, shown):
    from jaxrl.runs import catalogue

    assert catalogue._commit(record) == shown
