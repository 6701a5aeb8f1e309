"""Archives with one item per cell, and the search methods that use them: quality diversity and
Go-Explore.
"""

from jaxrl.archives.archive import Archive, Entered, empty
from jaxrl.archives.cells import Cells, Grid, Hashed, Nearest, Numbered, OneHot
from jaxrl.archives.emitters import Emitter, IsoLine, Mixed
from jaxrl.archives.encoders import Autoencoder, Encoder
from jaxrl.archives.go_explore import GoExplore
from jaxrl.archives.gradient import ActorTask, PolicyGradient
from jaxrl.archives.map_elites import MapElites
from jaxrl.archives.ranked import Ranked
from jaxrl.archives.rankings import ByFitness, ByNovelty, Improvement, RandomDirection, Ranking
from jaxrl.archives.selections import Above, Novel, Selection
from jaxrl.archives.tasks import (
    Elite,
    EpisodeTask,
    Evaluated,
    Function,
    PolicyTask,
    Task,
    last_observation,
    mean_observation,
)
from jaxrl.meta.cma import FullCMA

__all__ = [
    "Above",
    "ActorTask",
    "Archive",
    "Autoencoder",
    "ByFitness",
    "ByNovelty",
    "Cells",
    "Elite",
    "Emitter",
    "Encoder",
    "Entered",
    "EpisodeTask",
    "Evaluated",
    "FullCMA",
    "Function",
    "GoExplore",
    "Grid",
    "Hashed",
    "Improvement",
    "IsoLine",
    "MapElites",
    "Mixed",
    "Nearest",
    "Novel",
    "Numbered",
    "OneHot",
    "PolicyGradient",
    "PolicyTask",
    "RandomDirection",
    "Ranked",
    "Ranking",
    "Selection",
    "Task",
    "empty",
    "last_observation",
    "mean_observation",
]
