"""Update rules: what turns experience into a loss."""

from jaxrl.rules.base import Clock, UpdateRule
from jaxrl.rules.disco import Disco
from jaxrl.rules.exploration import EpsilonGreedy
from jaxrl.rules.group import GreedyBaseline, Group, LeaveOneOut, Standardized
from jaxrl.rules.lpg import LPG
from jaxrl.rules.lpo import LPO
from jaxrl.rules.objectives import (
    DPO,
    SPO,
    AdaptivePenalty,
    Clip,
    FixedPenalty,
    MirrorDescent,
    PolicyGradient,
)
from jaxrl.rules.q_lambda import QLambda
from jaxrl.rules.surrogate import Surrogate
from jaxrl.rules.td import TD, DQNClipped, DQNReg, SquaredError
from jaxrl.rules.vtrace import VTrace

__all__ = [
    "DPO",
    "LPG",
    "LPO",
    "SPO",
    "TD",
    "AdaptivePenalty",
    "Clip",
    "Clock",
    "DQNClipped",
    "DQNReg",
    "Disco",
    "EpsilonGreedy",
    "FixedPenalty",
    "GreedyBaseline",
    "Group",
    "LeaveOneOut",
    "MirrorDescent",
    "PolicyGradient",
    "QLambda",
    "SquaredError",
    "Standardized",
    "Surrogate",
    "UpdateRule",
    "VTrace",
]
