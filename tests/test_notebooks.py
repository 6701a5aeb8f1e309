"""Every notebook runs from top to bottom with its parameters cell shrunk; none is excluded, none is
stored with outputs.
"""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
SMOKE = {
    "1_first_agent": "steps = 5_120",
    "2_thousand_seeds": "seeds, steps, draws, folder = 6, 5_120, 100, 'sweep'",
    "3_new_env": "steps, seeds = 10_240, 4",
    "4_sweeps_that_survive": "steps, seeds = 10_240, 2",
    "5_new_algorithm": "steps, seeds = 10_240, 4",
    "6_statistics": "seeds, steps, studies, few = 30, 5_120, 20, (3, 5)",
    "7_tuning": "updates, lives, seeds, test_seeds, repetitions = 9, 4, 2, 2, 2",
    "8_discover_an_objective": "generations, rows, population, test_levels, seeds, steps = 2, 1, 4, 8, 2, 5_120",
}


def test_every_notebook_is_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMOKE)


@pytest.mark.parametrize("name", SMOKE)
def test_a_notebook_runs(name, tmp_path):
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    parameters = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    parameters[0].source += "\n" + SMOKE[name]
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    pictures = [
        out
        for cell in book.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert pictures
