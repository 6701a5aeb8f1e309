"""Every notebook runs from top to bottom with its parameters cell shrunk, in this process; the
first one also in a kernel. None is excluded, none is stored with outputs.
"""

import ast
import pathlib
import sys
import types

import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
KERNEL = "1_first_agent"  # runs in a kernel; the others in this process
SMOKE = {
    "1_first_agent": "steps = 5_120",
    "2_thousand_seeds": "seeds, steps, draws, folder = 6, 5_120, 100, 'sweep'",
    "3_new_env": "steps, seeds = 10_240, 4",
    "4_sweeps_that_survive": "steps, seeds = 10_240, 2",
    "5_new_algorithm": "steps, seeds = 10_240, 4",
    "6_statistics": "seeds, steps, studies, few = 30, 5_120, 20, (3, 5)",
    "7_tuning": "updates, num_runs, seeds, test_seeds, repetitions = 9, 4, 2, 2, 2",
    "8_discover_an_objective": "generations, rows, population = 2, 1, 4; "
    "test_levels, seeds, steps = 8, 2, 5_120",
    "9_a_paper_in_an_hour": "steps, seeds, rates = 10_240, 4, (1e-3, 3e-3)",
    "11_curricula": "steps, seeds, num_tests = 51_200, 2, 32",
    "13_many_agents": "steps, seeds, updates = 25_600, 2, 24",
    "12_explore_and_illuminate": "size, steps, seeds, iterations = 8, 10_240, 2, 40",
}
ALWAYS = {"3_new_env"}  # and the first, in a kernel; the others rotate


def test_every_notebook_is_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMOKE)


def shrunk(name):
    """The notebook with the small sizes added to its parameters cell."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    parameters = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    parameters[0].source += "\n" + SMOKE[name]
    return book


def run_cell(source, names):
    """Run a cell; return the value of its last expression, which a notebook displays."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def is_picture(value):
    return (
        isinstance(value, Figure) or hasattr(value, "_repr_png_") or type(value).__name__ == "Image"
    )


@pytest.mark.parametrize(
    "name",
    [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.rotate)
        for name in SMOKE
        if name != KERNEL
    ],
)
def test_a_notebook_runs(name, in_process, monkeypatch):
    book = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", book)
    cells = [cell.source for cell in shrunk(name).cells if cell.cell_type == "code"]
    shown = [run_cell(source, vars(book)) for source in cells]
    assert any(map(is_picture, shown))


def test_the_first_notebook_runs_in_a_kernel(tmp_path):
    book = shrunk(KERNEL)
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
