"""Environments by name."""

import importlib
from types import ModuleType
from typing import Any

from jaxrl.env import Env
from jaxrl.errors import nearest
from jaxrl.tree import replace

from . import lpg_levels, matrix_game, tabular
from .arguments import check_names
from .arm import Arm
from .catch import Catch
from .crafting import Crafting
from .delayed_chain import DelayedChain
from .foraging import Foraging
from .gridworld import GridWorld
from .hypergrid import HyperGrid
from .key_door import KeyDoor
from .memory_chain import MemoryChain
from .navigation import Navigation
from .point_maze import PointMaze
from .riverswim import RiverSwim
from .spread import Spread
from .two_colors import TwoColors
from .two_step import TwoStep
from .wrappers import Observe

OWN = {
    "Arm": Arm,
    "Catch": Catch,
    "Crafting": Crafting,
    "DelayedChain": DelayedChain,
    "Foraging": Foraging,
    "GridWorld": GridWorld,
    "HyperGrid": HyperGrid,
    "KeyDoor": KeyDoor,
    "MemoryChain": MemoryChain,
    "Navigation": Navigation,
    "PointMaze": PointMaze,
    "RiverSwim": RiverSwim,
    "Spread": Spread,
    "TwoColors": TwoColors,
    "TwoStep": TwoStep,
}
# name: function that makes it, its arguments
LEVELS = (
    {name: (lpg_levels.drawn, level) for name, level in lpg_levels.FIXED.items()}
    | tabular.MDPS
    | matrix_game.GAMES
)
# positions without velocities, as in Ni et al. (2022): partially observable, so that a recurrent
# policy is needed
POSITIONS = {"CartPole-P": ("CartPole-v1", (0, 2)), "Pendulum-P": ("Pendulum-v1", (0, 1))}

# the part of a name before ":", and the module with NAMES and `make`
SUITES = {
    "brax": "from_brax",
    "jaxmarl": "from_jaxmarl",
    "pgx": "from_pgx",
    "playground": "from_playground",
    "xminigrid": "from_xminigrid",
    "navix": "from_navix",
    "craftax": "from_craftax",
    "jumanji": "from_jumanji",
    "gymnasium": "from_gymnasium",
    "envpool": "from_envpool",
}
REFUSED = {
    "kinetix": "kinetix-env 3.0 needs jax 0.9 or older, and jax2d 1.0.1, which calls "
    "jnp.clip(a_max=...), an argument that jax 0.10 no longer has"
}


def make(name: str, **params: Any) -> Env:
    """Return the environment called `name` (see `names`), with some of its parameters changed.

    Raises:
      ValueError: no environment, or no parameter of it, has this name.
      TypeError: a static parameter (a count such as `max_steps`) is an array.
    """
    if not isinstance(name, str):
        raise TypeError(f"An environment's name is a text, and got {name!r}: write make('Catch').")
    if name in OWN:
        check_names(name, params, OWN[name].__dataclass_fields__)
        return OWN[name](**params)
    if name in LEVELS:
        function, args = LEVELS[name]
        level = function(*args)
        check_names(name, params, type(level).__dataclass_fields__)
        return replace(level, **params)
    if name in POSITIONS:
        full, keep = POSITIONS[name]
        return Observe(make(full, **params), keep)
    if ":" in name:
        return _suite(name).make(name, **params)
    from . import from_gymnax  # here, as gymnax takes seconds to import

    if name in from_gymnax.names():
        return from_gymnax.make(name, **params)
    raise ValueError(
        f"There is no environment {name!r}; {nearest(name, names())}. rl.envs.names() lists all "
        "of them."
    )


def names() -> list[str]:
    """All names that `make` accepts."""
    from . import from_gymnax

    of_suites = [name for suite in SUITES for name in _module(suite).NAMES]
    return [*OWN, *LEVELS, *POSITIONS, *from_gymnax.names(), *of_suites]


def _suite(name: str) -> ModuleType:
    """The module that makes the environment `name`, "suite:id"."""
    suite = name.partition(":")[0]
    if suite in REFUSED:
        raise ValueError(f"{name} can't be made: {REFUSED[suite]}. Suites are {', '.join(SUITES)}.")
    if suite not in SUITES:
        raise ValueError(
            f"There is no suite {suite!r} for {name!r}; {nearest(suite, SUITES)}. "
            "rl.envs.names() lists all environments."
        )
    return _module(suite)


def _module(suite: str) -> ModuleType:
    """The adapter of a suite, which imports the suite's package only when it is used."""
    return importlib.import_module(f".{SUITES[suite]}", __package__)
