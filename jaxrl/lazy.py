"""Libraries of tables and files, imported where they are first used.

Together they take half a second, which a process that only trains, or prints its help, need not
wait for.
"""

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py as h5py
    import pandas as pandas
    import xarray as xarray
else:

    class Lazy(types.ModuleType):
        """A library by its name."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    h5py, pandas, xarray = (Lazy(name) for name in ("h5py", "pandas", "xarray"))
