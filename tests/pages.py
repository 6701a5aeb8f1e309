"""The modules of the folder docs, which is no package: `blocks` and `reference`."""

import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent


def load(name):
    """The module docs/`name`.py, which may import its neighbours."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return module


blocks = load("blocks")
reference = load("reference")
