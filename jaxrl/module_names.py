"""The two names of the environments' modules.

The folder `envs` beside this package is the package `jaxrl.envs`, whatever else is called `envs` on
the path. Where that name is free, `envs` is the same package. Records name the environments
`envs.catch.Catch` in both cases, so that records of all versions are equal.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

SHORT = "envs"
FULL = "jaxrl.envs"


class _Alias(MetaPathFinder, Loader):
    """Import `envs.catch` as `jaxrl.envs.catch`: the same module, so no class is defined twice."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{SHORT}.") or sys.modules.get(SHORT) is not _package():
            return None  # another package, which may have taken the name since
        return ModuleSpec(fullname, self) if find_spec(full_name(fullname)) else None

    def exec_module(self, module: ModuleType) -> None:
        # what an import returns is the entry of sys.modules after this call
        sys.modules[module.__name__] = importlib.import_module(full_name(module.__name__))


def _package() -> ModuleType:
    return importlib.import_module(FULL)


def alias_envs() -> None:
    """Make `envs` the package `jaxrl.envs`. `envs/__init__.py` calls it if imported as `envs`."""
    sys.modules[SHORT] = _package()
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())


def is_named(thing: Any) -> bool:
    """True for a class or a function, which records store by name."""
    return hasattr(thing, "__qualname__")


def recorded_name(thing: Any) -> str:
    """The name of a class or function in records: its module's, and its own."""
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    return short_name(f"{module}.{name}")


def short_name(name: str) -> str:
    """The name with `envs.` in place of `jaxrl.envs.`."""
    return name.removeprefix("jaxrl.") if name.startswith(f"{FULL}.") else name


def full_name(name: str) -> str:
    """The name with `jaxrl.envs.` in place of `envs.`: a record names the kit's environments."""
    return f"jaxrl.{name}" if name.startswith(f"{SHORT}.") else name
