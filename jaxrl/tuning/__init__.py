"""Tuning: a space of ranges, tuners that share one budget, a test of the best on fresh seeds."""

from jaxrl.errors import former_names
from jaxrl.tuning.bayes import BOHB, Bayes
from jaxrl.tuning.evolution import DE, DEHB
from jaxrl.tuning.from_optuna import Optuna, gp, tpe
from jaxrl.tuning.functions import maximize
from jaxrl.tuning.gaussian_process import GaussianProcess, fit_gaussian_process, matern, rbf
from jaxrl.tuning.history import Batch, History, Tuner
from jaxrl.tuning.population import Population, population
from jaxrl.tuning.result import TuningResult
from jaxrl.tuning.search import fresh_seeds, repeat, tune
from jaxrl.tuning.space import (
    Choice,
    Integer,
    Log,
    Range,
    Space,
    Uniform,
    When,
    choice,
    integer,
    log,
    uniform,
    when,
)
from jaxrl.tuning.stopping import CurveStopping
from jaxrl.tuning.study import final
from jaxrl.tuning.tuners import PBT, Hyperband, Random, Sobol, SuccessiveHalving

__all__ = [
    "BOHB",
    "DE",
    "DEHB",
    "PBT",
    "Batch",
    "Bayes",
    "Choice",
    "CurveStopping",
    "GaussianProcess",
    "History",
    "Hyperband",
    "Integer",
    "Log",
    "Optuna",
    "Population",
    "Random",
    "Range",
    "Sobol",
    "Space",
    "SuccessiveHalving",
    "Tuner",
    "TuningResult",
    "Uniform",
    "When",
    "choice",
    "final",
    "fit_gaussian_process",
    "fresh_seeds",
    "gp",
    "integer",
    "log",
    "matern",
    "maximize",
    "population",
    "rbf",
    "repeat",
    "tpe",
    "tune",
    "uniform",
    "when",
]

__getattr__ = former_names(
    "rl.tuning",
    {
        "Foresight": "rl.tuning.CurveStopping",
        "Found": "rl.tuning.TuningResult",
        "held_out": "rl.tuning.fresh_seeds",
    },
)
