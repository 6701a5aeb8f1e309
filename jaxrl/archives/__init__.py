"""Archives with one item for each cell, and the searches for quality and diversity on them."""

from jaxrl.archives.archive import Archive, Entered, empty
from jaxrl.archives.cells import Cells, Grid, Hashed, Nearest, OneHot
from jaxrl.archives.emitters import Emitter, IsoLine, Mixed
from jaxrl.archives.go_explore import GoExplore
from jaxrl.archives.map_elites import MapElites
from jaxrl.archives.ranked import Ranked
from jaxrl.archives.tasks import (
    Evaluated,
    Function,
    PolicyTask,
    Task,
    last_observation,
    mean_observation,
)

__all__ = [
    "Archive",
    "Cells",
    "Emitter",
    "Entered",
    "Evaluated",
    "Function",
    "GoExplore",
    "Grid",
    "Hashed",
    "IsoLine",
    "MapElites",
    "Mixed",
    "Nearest",
    "OneHot",
    "PolicyTask",
    "Ranked",
    "Task",
    "empty",
    "last_observation",
    "mean_observation",
]
