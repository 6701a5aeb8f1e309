"""The shape of the code: imports point down, each library is imported in one place, files are
short, words are plain.

Each rule is one test that lists all offenders.
"""

import ast
import pathlib
import re
import subprocess
import sys

import jaxrl
from jaxrl import errors

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = {
    "errors": -2,
    "keys": -1,
    "module_names": -1,
    "ranges": -1,
    "version": -1,
    "lazy": -1,
    "tree": 0,
    "clock": 1,
    "bandits": 1,
    "schedules": 2,
    "optimizer": 2,
    "q_values": 2,
    "progress": 0,
    "devices": -1,
    "packing": 1,
    "scalars": 0,
    "gathers": 0,
    "dependence": 0,
    "accelerator": 1,
    "distributions": 1,
    "returns": 2,
    "losses": 2,
    "networks": 2,
    "per_role": 3,
    "normalize": 2,
    "spaces": 2,
    "stats": 2,
    "env": 3,
    "rollout": 4,
    "team_checks": 4,
    "env_check": 5,
    "mixers": 4.5,
    "opponents": 3,
    "rules": 5,
    "algorithms": 6,
    "self_play": 6.5,
    "train": 7,
    "sweep": 8,
    "plot": 10,
    "cli": 14,
    "__main__": 15,
    "runs": 11,
    "masks": 1,
    "capabilities": 9,
    "memories": 3,
    "table": 3,
    "tabular": 1,
    "games": 2,
    "importance": 3,
    "report": 12,
    "meta": 8,
    "rule_file": 9,
    "sum_tree": 1,
    "replay": 2,
    "noise": 2,
    "batch_norm": 1,
    "optimizers": 4,
    "symbolic": 6,
    "tuning": 9,
    "teachers": 7,
    "archives": 9,
    "exploration": 10,
    "envs": 13,
}
DOORS = {
    "flax": {"jaxrl/networks.py", "jaxrl/cli/arguments.py"},
    "matplotlib": {"jaxrl/plot/", "envs/draw.py"},
    "tyro": {"jaxrl/cli/"},
    "rich": {"jaxrl/cli/", "jaxrl/progress.py"},
    "gymnax": {"envs/from_gymnax.py", "envs/to_gymnax.py"},
    "brax": {"envs/from_brax.py"},
    "pgx": {"envs/from_pgx.py"},
    "jaxmarl": {"envs/from_jaxmarl.py"},
    "mujoco_playground": {"envs/from_playground.py"},
    "xminigrid": {"envs/from_xminigrid.py"},
    "navix": {"envs/from_navix.py"},
    "craftax": {"envs/from_craftax.py"},
    "jumanji": {"envs/from_jumanji.py"},
    "platformdirs": {"jaxrl/devices.py"},
    "tensorboardX": {"jaxrl/runs/export.py"},
    "evosax": {"jaxrl/meta/from_evosax.py"},
    "optuna": {"jaxrl/tuning/from_optuna.py"},
    "wandb": {"jaxrl/runs/export.py"},
}
FILES = sorted([*ROOT.glob("jaxrl/**/*.py"), *ROOT.glob("envs/**/*.py")])
MAX_LINES = 500
MAX_PROBES = 10

# Words that are not used, and what to write instead. Two words are a phrase. They are found in
# any case, and as parts of names_like_this.
WORDS = {
    "luck": "seed, key, rng, noise",
    "told": "metrics, reported, extra_args",
    "judge": "evaluate",
    "judged": "evaluated, in evaluation",
    "settle": "post_update",
    "settled": "updated, final",
    "look back": "window, history",
    "born": "created, start_row",
    "newborn": "new",
    "lives": "training runs, lifetimes, inner loop; (of a file) is in",
    "lived": "trained",
    "living": "running",
    "kin": "related, variants",
    "nobody": "no ..., none",
    "who": "which, that",
    "whose": "of which, with",
    "goes without saying": "(leave it out)",
    "honour": "insert, keep",
    "dear": "expensive, slow",
    "hurdle": "screening",
    "breed": "propose",
    "has a say": "matters, is used",
    "stands still": "is constant",
    "for ever": "without end, indefinitely",
    "a death": "termination",
    "heir": "successor",
    "write, say,": "write",
}
# Lines with one of the words that are right: keys of stored records, and former names.
ALLOWED = {
    ("experiments/learned_optimizer.py", '"lives": {"a_meta_seed": config.num_lifetimes'),
    ("experiments/tuners.py", '"lives": config.num_runs,'),
    ("tests/test_experiments.py", 'match=r"lives=16 '),
    # the names of former versions, which an error replaces by the present ones
    ("tests/test_preset.py", 'match=r"rl\\.Lives is called'),
    ("tests/test_preset.py", "rl.Lives  # noqa"),
    *(("jaxrl/errors.py", f'"{name}": "') for name in errors.RENAMED),
    *(("jaxrl/__init__.py", f'"{name}": "') for name in jaxrl.RENAMED),
}


def name_of(path):
    return str(path.relative_to(ROOT))


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


def test_imports_point_down():
    wrong = []
    for path in FILES:
        if not path.is_relative_to(ROOT / "jaxrl") or path == ROOT / "jaxrl" / "__init__.py":
            continue
        own = path.relative_to(ROOT / "jaxrl").parts[0].removesuffix(".py")
        if own == "cli":
            continue  # the roof sees everything
        for room in rooms(path):
            if room not in FLOORS or own not in FLOORS:
                wrong.append(f"{name_of(path)}: {room if own in FLOORS else own} has no floor")
            elif room != own and FLOORS[room] >= FLOORS[own]:
                wrong.append(
                    f"{name_of(path)} (floor {FLOORS[own]}) imports {room} (floor {FLOORS[room]})"
                )
    assert not wrong, "\n".join(wrong)


def test_each_library_has_one_door():
    wrong = [
        f"{name_of(path)} imports {library}; its door is {DOORS[library]}"
        for path in FILES
        for library in {module.split(".")[0] for module, _ in imports(path)}
        if not name_of(path).startswith(tuple(DOORS.get(library, {""})))
    ]
    assert not wrong, "\n".join(wrong)


def test_files_are_short():
    folders = ("experiments/**/*.py", "tests/*.py", "docs/*.py")
    files = [*FILES, *(path for folder in folders for path in ROOT.glob(folder))]
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files}
    assert not {name: n for name, n in lengths.items() if n > MAX_LINES}


def test_environments_know_no_algorithm():
    allowed = {"tree", "env", "spaces", "errors", "keys", "lazy", "module_names", "opponents"}
    for path in ROOT.glob("envs/**/*.py"):
        assert set(rooms(path)) <= allowed, path


def test_the_kit_imports_its_environments_by_their_full_name():
    # "envs" may be a package of the user; jaxrl/envs.py has it for type checkers only
    for path in FILES:
        modules = {module.split(".")[0] for module, _ in imports(path)}
        assert "envs" not in modules or path == ROOT / "jaxrl" / "envs.py", path


def probes(path):
    """Lines that ask an object for an attribute which it may lack, by its name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            enough = {"hasattr": 2, "getattr": 3}.get(node.func.id)
            if enough is None or len(node.args) != enough:
                continue
            name = getattr(node.args[1], "value", "")  # "" of a name that is computed
            if not str(name).startswith("__"):  # __name__ and the like are Python's
                yield f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"


def test_optional_attributes_are_defaults_of_base_classes():
    found = [line for path in ROOT.glob("jaxrl/**/*.py") for line in probes(path)]
    assert len(found) < MAX_PROBES, "\n".join([*found, f"{len(found)} probes"])


def test_a_method_that_a_subclass_has_to_define_raises_one_error():
    """`raise not_defined(self, Base.method)` in `Base.method`."""
    wrong, num_found = [], 0
    for path in ROOT.glob("jaxrl/**/*.py"):
        for base in ast.walk(ast.parse(path.read_text())):
            if not isinstance(base, ast.ClassDef):
                continue
            for method in base.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                raised = ast.unparse(method.body[-1])
                if raised.startswith("raise not_defined("):
                    num_found += 1
                    if raised != f"raise not_defined(self, {base.name}.{method.name})":
                        wrong.append(f"{name_of(path)}:{method.lineno} {raised}")
                elif "NotImplementedError" in raised or "does not define" in raised:
                    wrong.append(f"{name_of(path)}:{method.lineno} {raised}")
    assert num_found > 40
    assert not wrong, "\n".join(wrong)


def pages():
    """(name, text) of all that is read by people: code, tests, notebooks, pages."""
    patterns = ("jaxrl/**/*.py", "envs/**/*.py", "experiments/**/*.py", "tests/*.py", "docs/*")
    paths = [path for pattern in (*patterns, "notebooks/*.ipynb") for path in ROOT.glob(pattern)]
    paths = [path for path in paths if path.is_file()]
    paths += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md")]
    return {name_of(path): path.read_text() for path in paths if path != pathlib.Path(__file__)}


def test_words_are_plain():
    found = []
    for word, instead in WORDS.items():
        phrase = r"\s+".join(map(re.escape, word.split()))
        pattern = re.compile(rf"(?<![A-Za-z]){phrase}(?![A-Za-z])", re.IGNORECASE)
        for name, text in pages().items():
            for match in pattern.finditer(text):
                number = text.count("\n", 0, match.start())
                line = text.splitlines()[number].strip()
                if not any(name == file and start in line for file, start in ALLOWED):
                    found.append(f"{name}:{number + 1}: {word!r}; write: {instead}")
    assert not found, "\n".join([*found, f"{len(found)} words"])


def test_importing_the_kit_is_light():
    heavy = (
        *("gymnax", "brax", "matplotlib", "scipy.stats", "tyro"),
        *("xarray", "pandas", "h5py", "orbax"),
    )
    code = f"import sys, jaxrl, envs; print(*(m for m in {heavy} if m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert loaded == []
