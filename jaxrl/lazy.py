"""Libraries of tables and files, imported where they are first used.

Together they take half a second, which a process that only trains, or prints its help, need not
wait for.
"""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any


class Lazy(types.ModuleType):
    """A library by its name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imported_at_first_use(*names: str) -> Iterator[None]:
    """While it is open, other modules that import these libraries get them as `Lazy`."""
    added = {name: Lazy(name) for name in names if name not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


if TYPE_CHECKING:
    import h5py as h5py
    import pandas as pandas
    import xarray as xarray
else:
    h5py, pandas, xarray = (Lazy(name) for name in ("h5py", "pandas", "xarray"))
