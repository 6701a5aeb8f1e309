"""`rl.envs`: the package in the folder `envs` beside this one, whatever else is called `envs`.

This file puts that package in its own place among the modules. Type checkers find the same names
in the top-level package.
"""

import pathlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs import *  # noqa: F403
else:
    folder = pathlib.Path(__file__).resolve().parent.parent / "envs"
    spec = spec_from_file_location(
        __name__, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[__name__] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[__name__])
