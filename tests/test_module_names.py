"""`rl.envs` is the kit's environments, whatever else is called `envs`; `envs` is the same package
where the name is free. Nothing here compiles.
"""

import importlib
import json
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import envs
import jaxrl as rl
from jaxrl.module_names import full_name, recorded_name, short_name
from jaxrl.sweep import provenance, serialize

ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted(module.name for module in pkgutil.iter_modules([str(ROOT / "envs")]))


def test_both_names_are_one_package():
    assert envs is rl.envs is importlib.import_module("jaxrl.envs")
    assert envs.__name__ == "jaxrl.envs"
    assert "envs" in dir(rl)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_one_copy(name):
    module = importlib.import_module(f"envs.{name}")
    assert module is importlib.import_module(f"jaxrl.envs.{name}")
    assert module.__spec__.name == module.__name__ == f"jaxrl.envs.{name}"
    assert module.__package__ == "jaxrl.envs"


def test_an_unknown_module_is_named_as_it_was_written():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'envs\.mine'"):
        importlib.import_module("envs.mine")
    with pytest.raises(AttributeError, match=r"rl\.envs' has no attribute 'mine'"):
        envs.mine  # noqa: B018


def test_adapters_are_imported_when_they_are_used():
    for name in envs.ADAPTERS:
        assert getattr(rl.envs, name) is importlib.import_module(f"jaxrl.envs.{name}")


def test_a_record_has_the_short_name_and_both_are_read():
    env = rl.envs.make("MemoryChain", length=3)
    recipe = serialize.encode(env)
    assert recipe["type"] == "envs.memory_chain.MemoryChain"  # as in records of former versions
    assert serialize.decode(recipe) == env
    assert serialize.decode(recipe | {"type": "jaxrl.envs.memory_chain.MemoryChain"}) == env
    assert serialize.encode(serialize.decode(recipe)) == recipe
    assert provenance.describe(rl.envs.make) == "envs.registry.make"


def test_records_of_former_versions_are_unchanged():
    records = sorted((ROOT / "experiments" / "results" / "zoo").glob("*.json"))
    recipes = [json.loads(path.read_text()).get("recipe") for path in records]
    found = [recipe for recipe in recipes if recipe and '"envs.' in json.dumps(recipe)]
    assert len(found) > 50
    for recipe in found:
        assert serialize.encode(serialize.decode(recipe)) == recipe


def test_names_of_other_modules_are_unchanged():
    assert recorded_name(rl.Env) == "jaxrl.env.Env"
    for name in ("jaxrl.env.Env", "envsx.Catch", "jaxrl.envsx.Catch", "mine.envs.Catch"):
        assert short_name(name) == full_name(name) == name


def test_a_recorded_name_is_that_of_the_definition():
    # registry imports Catch, and catch defines it
    for name in ("envs.registry.Catch", "jaxrl.envs.registry.Catch", "jaxrl.envs.Catch"):
        with pytest.raises(ValueError, match="not part of the kit"):
            serialize.decode({"type": name, "fields": {}})


SHADOWED = """
import json, sys
import jaxrl as rl, envs
from jaxrl.cli.main import main
from jaxrl.sweep import serialize

assert envs.MINE == 1 and envs is not rl.envs
import envs.catch
import jaxrl.envs.catch
mine, theirs = envs.catch.Catch(), rl.envs.make("Catch")
assert type(theirs) is jaxrl.envs.catch.Catch and type(mine) is not type(theirs)
recipes = json.loads(sys.argv[1])
found = [serialize.decode(recipe) for recipe in recipes]
assert found[0] == found[1] and type(found[0]) is type(theirs)
assert serialize.encode(theirs) == recipes[0]
assert serialize.encode(mine) == {"unknown": "envs.catch.Catch"}
rl.envs.make("CartPole-v1")
main(["envs"])
"""


def test_a_users_package_called_envs_is_left_alone(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("MINE = 1\n")
    (tmp_path / "envs" / "catch.py").write_text(
        "import jaxrl as rl\n\n\n@rl.pytree\nclass Catch(rl.Env):\n    win: float = 1.0\n"
    )
    (tmp_path / "main.py").write_text(SHADOWED)
    recipe = serialize.encode(rl.envs.make("Catch"))
    recipes = [recipe, recipe | {"type": "jaxrl.envs.catch.Catch"}]
    done = subprocess.run(
        [sys.executable, "main.py", json.dumps(recipes)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CartPole-v1" in done.stdout.split()
