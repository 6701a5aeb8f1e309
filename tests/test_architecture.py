"""The house keeps its shape: imports point down, each library has one door, files stay short."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = {
    "tree": 0,
    "progress": 0,
    "devices": 0,
    "distributions": 1,
    "returns": 2,
    "losses": 2,
    "networks": 2,
    "normalize": 2,
    "spaces": 2,
    "stats": 2,
    "env": 3,
    "rollout": 4,
    "rules": 5,
    "algorithms": 6,
    "train": 7,
    "sweep": 8,
    "plot": 9,
    "cli": 14,
    "runs": 10,
    "masks": 1,
    "capabilities": 9,
    "memories": 3,
    "table": 3,
    "importance": 3,
    "report": 11,
    "meta": 8,
    "rule_file": 9,
    "sum_tree": 1,
    "replay": 2,
    "noise": 2,
    "batch_norm": 1,
    "optimizers": 4,
    "symbolic": 6,
    "tuning": 9,
}
DOORS = {
    "flax": {"jaxrl/networks.py", "jaxrl/cli/arguments.py"},
    "matplotlib": {"jaxrl/plot/", "envs/draw.py"},
    "tyro": {"jaxrl/cli/"},
    "rich": {"jaxrl/cli/", "jaxrl/progress.py"},
    "gymnax": {"envs/from_gymnax.py", "envs/to_gymnax.py"},
    "brax": {"envs/from_brax.py"},
    "platformdirs": {"jaxrl/devices.py"},
    "tensorboardX": {"jaxrl/runs/export.py"},
    "evosax": {"jaxrl/meta/from_evosax.py"},
    "optuna": {"jaxrl/tuning/from_optuna.py"},
    "wandb": {"jaxrl/runs/export.py"},
}
FILES = sorted([*ROOT.glob("jaxrl/**/*.py"), *ROOT.glob("envs/**/*.py")])


def imports(path):
    """(module, names) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names]


def rooms(path):
    """Which of jaxrl's own floors a file imports."""
    for module, names in imports(path):
        parts = module.split(".")
        if parts[0] == "jaxrl":
            yield from ([parts[1]] if len(parts) > 1 else names)


def floor_files():
    return [
        path
        for path in FILES
        if path.is_relative_to(ROOT / "jaxrl") and path != ROOT / "jaxrl" / "__init__.py"
    ]


@pytest.mark.parametrize("path", floor_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = path.relative_to(ROOT / "jaxrl").parts[0].removesuffix(".py")
    if own == "cli":
        return  # the roof sees everything
    for room in rooms(path):
        assert room in FLOORS, f"{room} has no floor"
        assert room == own or FLOORS[room] < FLOORS[own], (
            f"{own} (floor {FLOORS[own]}) imports {room} (floor {FLOORS[room]})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_library_has_one_door_and_each_file_one_page(path):
    name = str(path.relative_to(ROOT))
    for module, _ in imports(path):
        library = module.split(".")[0]
        assert name.startswith(tuple(DOORS.get(library, {name}))), (
            f"{name} imports {library}; its door is {DOORS[library]}"
        )
    assert len(path.read_text().splitlines()) <= 500


def test_jaxrl_knows_no_environment_and_environments_no_algorithm():
    for path in FILES:
        modules = {module.split(".")[0] for module, _ in imports(path)}
        if path.is_relative_to(ROOT / "jaxrl") and not path.is_relative_to(ROOT / "jaxrl" / "cli"):
            assert "envs" not in modules, path
        if path.is_relative_to(ROOT / "envs"):
            assert set(rooms(path)) <= {"tree", "env", "spaces"}, path


def test_importing_the_kit_is_light():
    heavy = ("gymnax", "brax", "matplotlib.pyplot", "scipy.stats", "tyro")
    code = f"import sys, jaxrl, envs; print(*(m for m in {heavy} if m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert loaded == []
