"""The documentation is complete: every public name has a docstring and a page, every page a link,
every result variable and capability a row. Trainings are traced, and nothing compiles.
"""

import ast
import functools
import importlib
import inspect
import re
import types

import jax
import pytest
from members import MEMBERS, make
from pages import ROOT, blocks, load, reference
from probes import Choice, Choices, Prize
from test_around import AROUND

import jaxrl as rl
from jaxrl.rules import Disco

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"")


# ------------------------------------------------------------------------------------ the reference


def modules():
    return {name: importlib.import_module(name) for name in reference.MODULES}


def test_every_public_name_is_in_one_topic():
    topics = [name for _, names in reference.TOPICS.values() for name in names]
    assert len(topics) == len(set(topics))
    namespaces = {name for name in rl.__all__ if isinstance(getattr(rl, name), types.ModuleType)}
    assert {getattr(rl, name).__name__ for name in namespaces} <= set(reference.MODULES)
    assert not set(rl.__all__) - namespaces - set(topics), "add them to docs/reference.py"
    assert not set(topics) - set(rl.__all__)


@pytest.mark.parametrize("name", ["jaxrl", *reference.MODULES])
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    public = module.__dict__.get("__all__") or [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and inspect.getmodule(value) is module
    ]
    assert public
    values = {key: getattr(module, key) for key in public}
    assert not [key for key, x in values.items() if callable(x) and not inspect.getdoc(x)]


def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("pdoc", reason="the extra docs is not installed")
    pages = load("build").build(tmp_path)
    assert len(pages) == 1 + len(reference.MODULES) + len(
        {path.stem for path in DOCS.glob("*.md")} - {"README"} | set(reference.TOPICS)
    )
    for page, (_, names) in reference.TOPICS.items():
        text = (tmp_path / f"{page}.html").read_text()
        assert not [name for name in names if f'id="{name}"' not in text]
    for name, module in modules().items():
        text = (tmp_path / f"{name.replace('.', '/')}.html").read_text()
        public = [
            key
            for key in module.__dict__.get("__all__", ())
            if not inspect.ismodule(getattr(module, key))  # a page of its own
        ]
        assert not [key for key in public if f'id="{key}"' not in text]
    links = set(re.findall(r'href="([\w/.]+\.html)', (tmp_path / "index.html").read_text()))
    assert {str(page.relative_to(tmp_path)) for page in pages} - {"index.html"} <= links


# ---------------------------------------------------------------------------------------- the pages


def links(page):
    """The files that a page refers to."""
    for match in LINK.finditer(page.read_text()):
        target = match[1] or match[2]
        if "://" not in target:
            yield (page.parent / target).resolve()


def test_links_lead_to_files():
    pages = [*blocks.PAGES, ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md"]
    missing = [
        (page.name, str(path)) for page in pages for path in links(page) if not path.exists()
    ]
    assert not missing


def test_every_page_is_in_the_contents_and_in_the_readme():
    pages = {path.resolve() for path in DOCS.glob("*.md")} - {(DOCS / "README.md").resolve()}
    assert pages <= set(links(DOCS / "README.md"))
    assert pages <= set(links(ROOT / "README.md"))


def text_of(node):
    """A string of the source; "..." stands for the values of an f-string."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in parts)


@pytest.mark.parametrize("page", ["troubleshooting", "accelerators"])
def test_the_errors_of_a_page_exist(page):
    text = (DOCS / f"{page}.md").read_text()
    quoted = re.findall(r"^\| `([^`]*)` \|", text, re.MULTILINE)
    assert len(quoted) > 5
    texts = [
        text_of(node)
        for path in ROOT.glob("jaxrl/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    ]
    for error in quoted:
        pattern = re.compile(".*".join(map(re.escape, error.split("..."))), re.DOTALL)
        assert any(pattern.search(text) for text in texts), error


# ----------------------------------------------------------------------------- the result variables

LPG = rl.LPG.random(jax.random.key(0))
SMALL = dict(network=rl.MLP((4,)), num_envs=2, num_steps=4, epochs=1, minibatches=1)
TASKS = rl.envs.LevelSet(rl.envs.family([Prize(1.0), Prize(2.0)]))
GAME = rl.envs.make("Matrix-SkewedRPS")
OTHERS = {  # name: (algorithm, environment or tasks)
    "lpg": (rl.OnPolicy(rule=LPG, **SMALL), Choice()),
    "disco": (rl.OnPolicy(rule=Disco.random(jax.random.key(0)), **SMALL), Choice()),
    "pes_of_snes": (
        rl.Evolution(AROUND["evolution"][0].inner, rl.SNES(population=4)),
        Choices(),
    ),
    "tasks": (rl.Taught(rl.OnPolicy(**SMALL), rl.teachers.TaskSoftmax()), TASKS),
    "team": (rl.OnPolicy(**SMALL), GAME),
    "self_play": (
        rl.Taught(rl.OnPolicy(**SMALL), rl.teachers.SelfPlay()),
        rl.Opponents(GAME, rl.OnPolicy(**SMALL)),
    ),
}
PREFIXES = ("setting.", "taught_", "designer_")
# variables that a training returns in some settings only, or that a sweep adds
ADDED = {
    *("step_taken", "best_evaluation", "best_step", "channels, such as `cost`"),
    *("evaluation_*", "evaluation_by_agent", "evaluation_by_role"),
}


@functools.cache
def glossary():
    """The names in the first column of the tables of docs/results.md."""
    rows = re.findall(r"^\| (`?[a-z].*?) \|", (DOCS / "results.md").read_text(), re.MULTILINE)
    names = [name for row in rows for name in (row.split(", ") if "such as" not in row else [row])]
    assert len(names) == len(set(names))
    return {name if "such as" in name else name.strip("`") for name in names}


def returned(algo, env):
    """The names of the variables that a training returns. It is traced only."""
    training = rl.Training(algo, env, 2 * algo.steps_per_update, evals=1, episodes=1)
    row = lambda key: training.run_row(key, training.init(key), 0)[1]
    return set(jax.eval_shape(row, jax.random.key(0))) | set(training.clocks)


@functools.cache
def all_returned():
    """{variable: the algorithms that return it}."""
    box, discrete = rl.envs.make("Pendulum-v1"), Choice()
    cases = {}
    for name in MEMBERS:
        algo = make(name)
        needs_box = isinstance(algo, rl.OffPolicy) and algo.learner.action_spaces == (rl.Box,)
        cases[name] = (algo, box if needs_box else discrete)
    cases |= {name: case[:2] for name, case in AROUND.items()}
    cases |= OTHERS
    found = {}
    for name, case in cases.items():
        for variable in returned(*case) - set(case[1].channels):
            family = [prefix for prefix in PREFIXES if variable.startswith(prefix)]
            variable = f"{family[0]}*" if family else variable
            found.setdefault(variable, []).append(name)
    return found


def test_every_variable_is_in_the_glossary():
    unknown = {name: by for name, by in all_returned().items() if name not in glossary()}
    assert not unknown, "add them to docs/results.md"


def test_every_variable_of_the_glossary_is_returned():
    assert glossary() - ADDED - set(all_returned()) == set()
