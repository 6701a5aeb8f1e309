"""Tuning that does not fool itself: a space of ranges, tuners that share one budget, and a test on
seeds they never saw.
"""

from jaxrl.tuning.evolution import DE, DEHB
from jaxrl.tuning.found import TuningResult
from jaxrl.tuning.from_optuna import Optuna, gp, tpe
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.population import Population, population
from jaxrl.tuning.search import fresh_seeds, repeat, tune
from jaxrl.tuning.space import Choice, Integer, Log, Space, Uniform, choice, integer, log, uniform
from jaxrl.tuning.stopping import CurveStopping
from jaxrl.tuning.study import final
from jaxrl.tuning.tuners import PBT, Hyperband, Random, Sobol, SuccessiveHalving

__all__ = [
    "DE",
    "DEHB",
    "PBT",
    "Batch",
    "Choice",
    "CurveStopping",
    "History",
    "Hyperband",
    "Integer",
    "Log",
    "Optuna",
    "Population",
    "Random",
    "Sobol",
    "Space",
    "SuccessiveHalving",
    "Tuner",
    "TuningResult",
    "Uniform",
    "choice",
    "final",
    "fresh_seeds",
    "gp",
    "integer",
    "log",
    "population",
    "repeat",
    "tpe",
    "tune",
    "uniform",
]
