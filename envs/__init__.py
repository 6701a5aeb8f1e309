"""Environments by name (built-in, all of gymnax, and brax with a prefix), and wrappers.

`make("Catch")`, `make("CartPole-v1", masscart=2.0)`, `make("brax:ant", backend="mjx")`. An
environment is a frozen pytree of its parameters: floats are leaves, so `jax.vmap` over them runs a
family of environments; counts are static.
"""

if __name__ == "envs":  # its short name, where that is free; the package itself is jaxrl.envs
    from jaxrl.module_names import alias_envs

    alias_envs()

import importlib
from types import ModuleType

from . import arm, bandits, markov_game, matrix_game, processes, solve, tabular, teams
from .arm import Arm
from .catch import Catch
from .crafting import Crafting
from .delayed_chain import DelayedChain
from .foraging import Foraging
from .gridworld import GridWorld
from .hypergrid import HyperGrid
from .key_door import KeyDoor
from .key_door_levels import KeyDoorLevels
from .level_set import LevelSet
from .levels import Family, distribution, distributions, family
from .markov_game import MarkovGame
from .matrix_game import MatrixGame
from .maze import Maze
from .maze_editor import MazeEditor
from .maze_levels import MazeLevels
from .memory_chain import MemoryChain
from .navigation import Navigation
from .point_maze import PointMaze
from .registry import LEVELS, OWN, POSITIONS, make, names
from .riverswim import RiverSwim
from .spread import Spread
from .statistics import Moments, Statistics, VisitCounts, WithStatistics
from .team_views import SharedReward, WithRoles, WithState
from .two_colors import TwoColors
from .two_step import TwoStep
from .wrappers import (
    ActionRepeat,
    AsTeam,
    FrameStack,
    Observe,
    RewardScale,
    StickyActions,
    TaskId,
    WithChannel,
    Wrapper,
)

__all__ = [
    "LEVELS",
    "OWN",
    "POSITIONS",
    "ActionRepeat",
    "Arm",
    "AsTeam",
    "Catch",
    "Crafting",
    "DelayedChain",
    "Family",
    "Foraging",
    "FrameStack",
    "GridWorld",
    "HyperGrid",
    "KeyDoor",
    "KeyDoorLevels",
    "LevelSet",
    "MarkovGame",
    "MatrixGame",
    "Maze",
    "MazeEditor",
    "MazeLevels",
    "MemoryChain",
    "Moments",
    "Navigation",
    "Observe",
    "PointMaze",
    "RewardScale",
    "RiverSwim",
    "SharedReward",
    "Spread",
    "Statistics",
    "StickyActions",
    "TaskId",
    "TwoColors",
    "TwoStep",
    "VisitCounts",
    "WithChannel",
    "WithRoles",
    "WithState",
    "WithStatistics",
    "Wrapper",
    "arm",
    "bandits",
    "distribution",
    "distributions",
    "family",
    "make",
    "markov_game",
    "matrix_game",
    "names",
    "processes",
    "solve",
    "tabular",
    "teams",
]

ADAPTERS = (
    "from_brax",
    "from_craftax",
    "from_envpool",
    "from_gymnasium",
    "from_gymnax",
    "from_jaxmarl",
    "from_jumanji",
    "from_navix",
    "from_pgx",
    "from_playground",
    "from_xminigrid",
    "host",
    "to_gymnax",
)


def __getattr__(name: str) -> ModuleType:
    if name in ADAPTERS:  # their packages take seconds to import
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'rl.envs' has no attribute {name!r}")
